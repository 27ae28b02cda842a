//! How far something is that takes a while.

use std::io::{self, IsTerminal as _, Stderr, Write};

/// How far it is, for whoever watches.
pub(super) struct Progress<W = Stderr> {
    of: u64,
    /// Where it is shown, if somebody is there.
    watched: Option<W>,
}

impl Progress {
    /// Of so many; shown only where that takes a while, and somebody is there.
    pub(super) fn of(of: u64, takes_a_while: bool) -> Self {
        let stderr = io::stderr();
        let is_watched = stderr.is_terminal() && takes_a_while;
        Self {
            of,
            watched: is_watched.then_some(stderr),
        }
    }
}

impl<W: Write> Progress<W> {
    pub(super) fn show(&mut self, done: u64) {
        if let Some(watched) = &mut self.watched {
            let _ = write!(watched, "\r{}", bar(done, self.of));
        }
    }

    /// Leaves no trace.
    pub(super) fn end(&mut self) {
        if let Some(watched) = &mut self.watched {
            let _ = write!(watched, "\r\x1b[K");
        }
    }
}

/// More than all may be done, where something came in meanwhile.
fn bar(done: u64, of: u64) -> String {
    let filled = usize::try_from(done.min(of) * BAR / of.max(1)).unwrap_or(0);
    let width = usize::try_from(BAR).unwrap_or(0);
    format!("[{:<width$}] {done} of {of}", "#".repeat(filled))
}

/// How wide it is shown.
const BAR: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_filled_by_the_share_that_is_done() {
        for (done, of, filled) in [
            (0, 200, 0),
            (4, 200, 0),
            (5, 200, 1),
            (100, 200, 20),
            (199, 200, 39),
            (200, 200, 40),
            (250, 200, 40),
            (0, 0, 0),
        ] {
            let (full, empty) = ("#".repeat(filled), " ".repeat(40 - filled));
            assert_eq!(bar(done, of), format!("[{full}{empty}] {done} of {of}"));
        }
    }

    #[test]
    fn each_bar_takes_the_place_of_the_one_before_and_the_last_is_wiped_out() {
        let mut progress = Progress {
            of: 2,
            watched: Some(Vec::new()),
        };
        progress.show(1);
        progress.show(2);
        progress.end();
        let shown = String::from_utf8(progress.watched.unwrap()).unwrap();
        assert_eq!(shown, format!("\r{}\r{}\r\x1b[K", bar(1, 2), bar(2, 2)));
    }

    #[test]
    fn what_is_over_at_once_is_not_shown() {
        assert!(Progress::of(9, false).watched.is_none());
    }
}
