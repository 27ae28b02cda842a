//! Mistakes that point: what is wrong in a file that a person wrote, and where.
//!
//! Whoever reads a file collects [`Faults`] and goes on, so that all mistakes are reported together. A [`Fault`]
//! says what was found and what was expected, points at the place, and tells the next step where there is one.

mod nearest;

use std::{collections::BTreeSet, fmt, ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

pub use nearest::nearest;

/// A text with its file's name, in which places can be told.
#[derive(Clone, Debug)]
pub struct Source<'t> {
    file: &'t str,
    text: &'t str,
    lines: Arc<[usize]>,
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file's name as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters of the line are meant; at least 1.
    pub width: usize,
    /// The whole line; absent where it may hold a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// Where; absent where the mistake is in no line, as a file that cannot be read.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What was found, and what was expected.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// All the mistakes that were found, in the order of files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults {
    faults: BTreeSet<Fault>,
    #[serde(skip)]
    broken: BTreeSet<(String, usize)>,
}

impl<'t> Source<'t> {
    /// Makes the places of `text` known, which was read from `file`.
    pub fn new(file: &'t str, text: &'t str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(after_newlines.map(|(at, _)| at + 1))
            .collect();
        Self { file, text, lines }
    }

    /// The file's name.
    pub fn file(&self) -> &'t str {
        self.file
    }

    /// The text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Where the bytes `span` stand: the first line of them. Bytes beyond the text are at its end.
    pub fn place(&self, span: Range<usize>) -> Place {
        let start = floor_char_boundary(self.text, span.start);
        let end = floor_char_boundary(self.text, span.end).max(start);
        let line = self.lines.partition_point(|begin| *begin <= start);
        let begin = self.lines[line - 1];
        let text = self.text[begin..]
            .split('\n')
            .next()
            .unwrap_or_default()
            .trim_end_matches('\r');
        let end = end.clamp(start, (begin + text.len()).max(start));
        Place {
            file: self.file.to_owned(),
            line,
            column: self.text[begin..start].chars().count() + 1,
            width: self.text[start..end].chars().count().max(1),
            text: Some(text.to_owned()),
        }
    }

    /// A fault at the bytes `span`.
    pub fn fault(&self, span: Range<usize>, message: impl Into<String>) -> Fault {
        Fault {
            place: Some(self.place(span)),
            message: message.into(),
            help: None,
        }
    }
}

impl Fault {
    /// A mistake that stands in no line.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
            help: None,
        }
    }

    /// With the next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With the name among `known` that was perhaps meant by `name`, or else with all of them.
    #[must_use]
    pub fn suggest<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        match nearest(name, known.iter().copied()) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => self,
            None => {
                let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                self.help(format!("there is: {}", names.join(", ")))
            }
        }
    }

    /// Without the line's text, which may hold a secret.
    #[must_use]
    pub fn concealed(mut self) -> Self {
        if let Some(place) = &mut self.place {
            place.text = None;
        }
        self
    }
}

impl Faults {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; not where the same line has a syntax error, of which it is most likely an echo.
    pub fn push(&mut self, fault: Fault) {
        let echo = fault
            .place
            .as_ref()
            .is_some_and(|place| self.broken.contains(&(place.file.clone(), place.line)));
        if !echo {
            self.faults.insert(fault);
        }
    }

    /// Adds a syntax error, after which other faults of its line are not reported.
    pub fn push_syntax(&mut self, fault: Fault) {
        self.push(fault.clone());
        if let Some(place) = fault.place {
            self.broken.insert((place.file, place.line));
        }
    }

    /// Adds all of `other`, as if they had been pushed one by one.
    pub fn extend(&mut self, other: Self) {
        for fault in other.faults {
            self.push(fault);
        }
        self.broken.extend(other.broken);
    }

    /// The value of `found`, where it has one; its faults are added.
    pub fn take<T>(&mut self, found: Result<T, Self>) -> Option<T> {
        found.map_err(|others| self.extend(others)).ok()
    }

    /// What `read` makes, and its faults without the text of their lines, which may hold a secret.
    pub fn concealing<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut faults = Self::new();
        let made = read(&mut faults);
        faults.faults = faults.faults.into_iter().map(Fault::concealed).collect();
        self.extend(faults);
        made
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.faults.len()
    }

    /// Each of them, in the order of files and lines.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// `value` where there is none.
    ///
    /// # Errors
    ///
    /// The faults, where there are any, or where there is no value.
    pub fn give<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        let mut faults = Self::new();
        faults.push(fault);
        faults
    }
}

impl std::error::Error for Fault {}
impl std::error::Error for Faults {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            f.write_str(&self.message)?;
            return self.help.iter().try_for_each(|help| write!(f, "\n    = {help}"));
        };
        write!(f, "{place}: {}", self.message)?;
        let gutter = place.line.to_string().len().max(3);
        if let Some(text) = place.text.as_deref().filter(|text| !text.trim().is_empty()) {
            let excerpt = Excerpt::of(text, place.column - 1, place.width);
            write!(f, "\n{:>gutter$} | {}", place.line, excerpt.text)?;
            write!(
                f,
                "\n{:gutter$} | {}{}",
                "",
                excerpt.indent,
                "^".repeat(excerpt.width)
            )?;
        }
        self.help
            .iter()
            .try_for_each(|help| write!(f, "\n{:gutter$} = {help}", ""))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let gap = if number > 0 { "\n" } else { "" };
            write!(f, "{gap}{fault}")?;
        }
        Ok(())
    }
}

/// The part of a line that is shown, and what stands under it.
struct Excerpt {
    text: String,
    indent: String,
    width: usize,
}

impl Excerpt {
    /// Cuts `text` around the `width` characters at `start`, so that a line of any length stays readable.
    fn of(text: &str, start: usize, width: usize) -> Self {
        let first = start.saturating_sub(LONGEST_LEAD);
        let rest = text.chars().count() - first;
        let mut shown: String = text.chars().skip(first).take(LONGEST_EXCERPT).collect();
        let mut indent: String = shown
            .chars()
            .take(start - first)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        if first > 0 {
            shown.insert(0, '…');
            indent.insert(0, ' ');
        }
        if rest > LONGEST_EXCERPT {
            shown.push('…');
        }
        let width = width.min(LONGEST_EXCERPT - (start - first)).max(1);
        Self {
            text: shown,
            indent,
            width,
        }
    }
}

/// The last start of a character at or before the byte `at`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or_default()
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// How many characters of a line are shown before what is meant.
const LONGEST_LEAD: usize = 80;
/// How many characters of a line are shown in all.
const LONGEST_EXCERPT: usize = 160;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_points_at_its_place() {
        let source = Source::new("routes.toml", "[[route]]\n\tnamé = \"x\"\noder_by = 1\r\n");
        let at = |text: &str| {
            let start = source.text().find(text).unwrap();
            start..start + text.len()
        };
        let mut faults = Faults::new();
        faults.push(
            source
                .fault(at("oder_by"), "unknown key `oder_by` in `route`")
                .suggest("oder_by", ["name", "order_by"]),
        );
        faults.push(source.fault(at("\"x\""), "`namé`: found a string, expected a number"));
        faults.push(Fault::new("routes.d: no such directory"));
        insta::assert_snapshot!(faults, @r#"
        routes.d: no such directory
        routes.toml:2:9: `namé`: found a string, expected a number
          2 | 	namé = "x"
            | 	       ^^^
        routes.toml:3:1: unknown key `oder_by` in `route`
          3 | oder_by = 1
            | ^^^^^^^
            = did you mean `order_by`?
        "#);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(1000), "b".repeat(1000));
        let shown = Source::new("f", &text).fault(1000..1004, "m").to_string();
        assert!(shown.lines().all(|line| line.chars().count() < 180), "{shown}");
        let [line, carets]: [&str; 2] = shown.lines().skip(1).collect::<Vec<_>>().try_into().unwrap();
        let caret = carets.chars().position(|c| c == '^').unwrap();
        assert_eq!(line.chars().position(|c| c == 'H').unwrap(), caret);
        assert_eq!(carets.chars().filter(|c| *c == '^').count(), 4);
    }

    #[test]
    fn a_line_with_a_secret_is_not_shown() {
        let source = Source::new("f", "token = \"hunter2\"");
        let shown = source
            .fault(8..17, "`token`: write `{ env = … }`")
            .concealed()
            .to_string();
        assert_eq!(shown, "f:1:9: `token`: write `{ env = … }`");
    }

    #[test]
    fn an_echo_of_a_syntax_error_is_dropped() {
        let source = Source::new("f", "a = \nb = 1");
        let mut faults = Faults::new();
        faults.push_syntax(source.fault(4..4, "a value is missing"));
        faults.push(source.fault(0..1, "`a`: found an integer"));
        faults.push(source.fault(5..6, "unknown key `b`"));
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn the_faults_of_what_was_not_found_are_told_with_the_others() {
        let source = Source::new("f", "a = \nb = 1");
        let mut others = Faults::from(Fault::new("no file"));
        others.push_syntax(source.fault(4..4, "a value is missing"));
        let mut faults = Faults::new();
        assert_eq!(faults.take(Ok(7)), Some(7));
        assert!(faults.is_empty());
        assert_eq!(faults.take::<u8>(Err(others)), None);
        faults.push(source.fault(0..1, "`a`: found an integer"));
        assert_eq!(faults.len(), 2, "{faults}");
    }

    #[test]
    fn places_outside_the_text_are_at_its_end() {
        let place = Source::new("f", "ab\né").place(90..99);
        assert_eq!((place.line, place.column, place.width), (2, 2, 1));
    }

    proptest::proptest! {
        #[test]
        fn any_span_of_any_text_has_a_place(text in "(\\PC|[\n\r\t]){0,40}", start in 0usize..60, length in 0usize..60) {
            let source = Source::new("f", &text);
            let place = source.place(start..start + length);
            proptest::prop_assert!(place.line >= 1 && place.column >= 1 && place.width >= 1);
            proptest::prop_assert!(!source.fault(start..start + length, "m").to_string().is_empty());
        }
    }
}
