//! What a benchmark is to reach, and whether it does: a figure that is only printed is read by nobody.

use std::{fmt, process::ExitCode};

/// The marks of a benchmark, with what was found.
#[derive(Debug, Default)]
pub struct Marks(Vec<Mark>);

#[derive(Debug)]
struct Mark {
    what: String,
    /// Nothing where only a part was asked for.
    found: Option<f64>,
    bound: Bound,
    mark: f64,
    unit: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtMost,
    AtLeast,
}

impl Marks {
    /// What was found of `what` is to be no more than the mark.
    pub fn at_most(
        &mut self,
        what: impl Into<String>,
        found: impl Into<Option<f64>>,
        mark: f64,
        unit: &'static str,
    ) {
        self.add(what.into(), found.into(), Bound::AtMost, mark, unit);
    }

    /// What was found of `what` is to be no less than the mark.
    pub fn at_least(
        &mut self,
        what: impl Into<String>,
        found: impl Into<Option<f64>>,
        mark: f64,
        unit: &'static str,
    ) {
        self.add(what.into(), found.into(), Bound::AtLeast, mark, unit);
    }

    fn add(&mut self, what: String, found: Option<f64>, bound: Bound, mark: f64, unit: &'static str) {
        self.0.push(Mark {
            what,
            found,
            bound,
            mark,
            unit,
        });
    }

    /// Whether no figure that was found misses its mark.
    pub fn are_reached(&self) -> bool {
        self.0.iter().all(|mark| mark.is_reached() != Some(false))
    }

    /// Tells all of them, also where the work was not brought to its end. A mark that is missed is a failure.
    pub fn end(&self, work: anyhow::Result<()>) -> ExitCode {
        print!("{self}");
        match work {
            Ok(()) if self.are_reached() => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

impl Mark {
    fn is_reached(&self) -> Option<bool> {
        // What is not a number reaches nothing.
        self.found.map(|found| match self.bound {
            Bound::AtMost => found <= self.mark,
            Bound::AtLeast => found >= self.mark,
        })
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|mark| mark.what.len()).max();
        if let Some(width) = width {
            writeln!(f, "\n{:<width$} {:>10}   {:<16} ", "marks", "found", "mark")?;
            for mark in &self.0 {
                writeln!(f, "{:<width$} {mark}", mark.what)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self
            .found
            .map_or_else(|| "-".to_owned(), |found| format!("{found:.2}"));
        let bound = match self.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        };
        let mark = format!("{bound} {} {}", self.mark, self.unit);
        let verdict = match self.is_reached() {
            None => "not measured",
            Some(true) => "reached",
            Some(false) => "MISSED",
        };
        write!(f, "{found:>10}   {mark:<16} {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(set: impl FnOnce(&mut Marks), are_reached: bool, verdict: &str) {
        let mut marks = Marks::default();
        marks.at_most("another that is", 1.0, 2.0, "s");
        set(&mut marks);
        assert_eq!(marks.are_reached(), are_reached);
        assert!(marks.to_string().trim_end().ends_with(verdict), "{marks}");
    }

    #[test]
    fn one_mark_that_is_missed_is_a_failure() {
        check(|marks| marks.at_most("time", 2.0, 2.0, "s"), true, "reached");
        check(|marks| marks.at_most("time", 2.1, 2.0, "s"), false, "MISSED");
        check(|marks| marks.at_least("share", 80.0, 80.0, "%"), true, "reached");
        check(|marks| marks.at_least("share", 79.9, 80.0, "%"), false, "MISSED");
    }

    #[test]
    fn what_is_not_a_number_misses_every_mark() {
        check(|marks| marks.at_most("time", f64::NAN, 2.0, "s"), false, "MISSED");
        check(
            |marks| marks.at_least("share", f64::NAN, 2.0, "%"),
            false,
            "MISSED",
        );
    }

    #[test]
    fn what_was_not_asked_for_is_told_and_no_failure() {
        check(
            |marks| marks.at_most("time", None, 2.0, "s"),
            true,
            "not measured",
        );
    }

    #[test]
    fn each_mark_is_told_with_what_was_found() {
        let mut marks = Marks::default();
        marks.at_most("time of a plan", 3.456, 10.0, "s");
        marks.at_least("share", None, 80.0, "%");
        let told = marks.to_string();
        let lines: Vec<_> = told.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "",
                "marks               found   mark",
                "time of a plan       3.46   at most 10 s     reached",
                "share                   -   at least 80 %    not measured",
            ]
        );
        assert_eq!(Marks::default().to_string(), "");
    }
}
