//! What a program tells, and whether it was true.

/// Statements that were made so far.
#[derive(Debug, Default)]
pub struct Told {
    untrue: usize,
    statements: usize,
}

impl Told {
    /// Begins a new part.
    pub fn chapter(&self, title: &str) {
        println!("\n{title}");
    }

    /// Makes a statement, after looking whether it holds.
    pub fn check(&mut self, statement: &str, holds: bool) {
        self.statements += 1;
        self.untrue += usize::from(!holds);
        println!("  {} {statement}", if holds { "✓" } else { "✗ NOT TRUE:" });
    }

    /// Shows what something else said.
    pub fn quote(&self, text: &str) {
        for line in text.lines() {
            println!("    {line}");
        }
    }

    /// Whether something was stated, and nothing of it was untrue.
    pub fn all_true(&self) -> bool {
        self.statements > 0 && self.untrue == 0
    }
}
