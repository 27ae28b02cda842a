//! What `PATTERNS.md` says to users, and its tables.

pub(crate) const PAGE: &str = include_str!("../../PATTERNS.md");

/// The rows of the first table below a heading, cell by cell.
pub(crate) fn table(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, below) = PAGE.split_once(heading).expect("there is such a heading");
    let lines = below.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(str::trim).collect()
    })
}
