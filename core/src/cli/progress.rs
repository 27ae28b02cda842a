//! How far something is that takes a while.

use std::io::{self, IsTerminal as _, Write as _};

/// How far it is, for whoever watches.
pub(super) struct Progress {
    of: u64,
    is_watched: bool,
}

impl Progress {
    /// Of so many; shown only where that takes a while, and somebody is there.
    pub(super) fn of(of: u64, takes_a_while: bool) -> Self {
        let is_watched = io::stderr().is_terminal() && takes_a_while;
        Self { of, is_watched }
    }

    pub(super) fn show(&mut self, done: u64) {
        if self.is_watched {
            let filled = usize::try_from(done.min(self.of) * BAR / self.of.max(1)).unwrap_or(0);
            let bar = format!(
                "{:<width$}",
                "#".repeat(filled),
                width = usize::try_from(BAR).unwrap_or(0)
            );
            let _ = write!(io::stderr(), "\r[{bar}] {done} of {}", self.of);
        }
    }

    /// Leaves no trace.
    pub(super) fn end(&mut self) {
        if self.is_watched {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// How wide it is shown.
const BAR: u64 = 40;
