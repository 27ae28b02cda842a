//! What people read: aligned columns, ages in place of times, colours on a terminal.

use std::{io::IsTerminal, time::Duration};

use jackfield_event::Timestamp;

use crate::{
    clock::{Clock, SystemClock},
    delivery::State,
};

/// Rows under headings, each column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).to_vec()],
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// The text; instead of a table without rows, `nothing`.
    pub(super) fn show(&self, nothing: &str) -> String {
        if self.rows.len() == 1 {
            return nothing.to_owned();
        }
        let columns = self.rows[0].len();
        let widths: Vec<_> = (0..columns)
            .map(|column| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
            .collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, column)| {
                let gap = " ".repeat(column - width(cell));
                format!("{cell}{gap}")
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// How long ago `time` was.
pub(super) fn age(time: Timestamp) -> String {
    format!("{} ago", span(SystemClock.now().saturating_since(time)))
}

/// How long it is until `time`.
pub(super) fn until(time: Timestamp) -> String {
    match time.saturating_since(SystemClock.now()) {
        Duration::ZERO => "now".to_owned(),
        left => format!("in {}", span(left)),
    }
}

/// A time in its largest unit.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A state, in the colour of how good it is.
pub(super) fn state(state: State) -> String {
    let colour = match state {
        State::Pending | State::Running => "36",
        State::Waiting => "33",
        State::Succeeded => "32",
        State::Dead => "31",
        State::Superseded | State::Canceled => "90",
    };
    paint(state.word(), colour)
}

/// `text` in a colour, where a terminal shows it.
pub(super) fn paint(text: &str, colour: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// `text` on one line of at most `most` characters, without what could steer a terminal.
pub(super) fn short(text: &str, most: usize) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if plain.chars().count() <= most {
        return plain;
    }
    let mut cut: String = plain.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// How many characters a terminal shows of it: colours take no room.
fn width(text: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for c in text.chars() {
        match c {
            '\x1b' => escaped = true,
            'm' if escaped => escaped = false,
            _ if escaped => {}
            _ => width += 1,
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_their_colours() {
        let mut table = Table::new(["ID", "STATE", "ROUTE"]);
        table.row(["a".into(), "\x1b[31mdead\x1b[0m".into(), "x".into()]);
        table.row(["long".into(), "succeeded".into(), "y".into()]);
        let shown = table.show("none");
        insta::assert_snapshot!(shown.replace('\x1b', "^"), @r"
        ID    STATE      ROUTE
        a     ^[31mdead^[0m       x
        long  succeeded  y
        ");
        assert_eq!(Table::new(["ID"]).show("none"), "none");
    }

    #[test]
    fn a_time_is_shown_in_its_largest_unit() {
        for (seconds, expected) in [
            (0, "0ms"),
            (59, "59s"),
            (60, "1m"),
            (3600, "1h"),
            (172_799, "47h"),
            (172_800, "2d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn text_of_strangers_cannot_steer_the_terminal() {
        assert_eq!(short("a\x1b[2Jb\nc", 80), "a [2Jb c");
        assert_eq!(short("abcdef", 4), "abc…");
    }
}
