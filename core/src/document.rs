//! TOML files, read with every mistake collected.
//!
//! A derived deserializer stops at the first mistake; these readers report each to [`Faults`] and go on. A
//! [`Table`] is asked for its keys, one after another; what [`Table::finish`] then finds that nobody asked for is
//! unknown. Every [`Item`] keeps its place, so that whoever checks more of it can point as well.
//!
//! ```
//! use jackfield::{document::Document, fault::Faults};
//!
//! let mut faults = Faults::new();
//! let document = Document::parse("j.toml", "[listen]\naddres = \"::1\"\nlimit = \"5MB\"", &mut faults);
//! let mut root = document.root();
//! if let Some(mut listen) = root.table("listen", &mut faults) {
//!     let address = listen.required("address", &mut faults).and_then(|item| item.string(&mut faults));
//!     let limit = listen.size("limit", &mut faults).unwrap_or(1 << 20);
//!     assert_eq!((address, limit), (None, 5_000_000));
//!     listen.finish(&mut faults);
//! }
//! root.finish(&mut faults);
//! assert_eq!(faults.len(), 2); // `address` is missing, `addres` unknown
//! ```

mod item;
mod part;
mod quantity;

use std::{ops::Range, vec};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use item::{Item, Kind};
pub use quantity::duration;

use crate::fault::{Fault, Faults, Place, Source};

/// One file, or one part of it, as far as it can be read.
#[derive(Debug)]
pub struct Document<'t> {
    source: Source<'t>,
    /// Where in the source it begins.
    start: usize,
    root: DeTable<'t>,
    broken: bool,
}

/// The parts of one file, each a document.
#[derive(Debug)]
pub struct Parts<'t> {
    source: Source<'t>,
    list: &'t str,
    /// What stands before the list, until it is read.
    before: Option<Range<usize>>,
    rest: vec::IntoIter<Range<usize>>,
}

/// A table of a document, and which of its keys were asked for.
#[derive(Clone, Debug)]
pub struct Table<'d> {
    document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    name: String,
    span: Range<usize>,
    known: Vec<&'static str>,
}

impl<'t> Document<'t> {
    /// Reads `text`, which came from `file`. Every syntax error is a fault, and what stands around it is kept.
    pub fn parse(file: &'t str, text: &'t str, faults: &mut Faults) -> Self {
        Self::part(Source::new(file, text), 0..text.len(), faults)
    }

    /// The parts of `text`: what stands before the first `[[list]]`, and each `[[list]]` with all that is below it. What is read
    /// takes fifty times the memory of its text, so that a long list is better read part by part.
    pub fn parts(file: &'t str, text: &'t str, list: &'t str) -> Parts<'t> {
        let mut parts = part::parts(text, list).into_iter();
        Parts {
            source: Source::new(file, text),
            list,
            before: parts.next(),
            rest: parts,
        }
    }

    fn part(source: Source<'t>, part: Range<usize>, faults: &mut Faults) -> Self {
        let (root, errors) = DeTable::parse_recoverable(&source.text()[part.clone()]);
        for error in &errors {
            faults.push_syntax(syntax_fault(&source, part.start, error));
        }
        Self {
            source,
            start: part.start,
            root: root.into_inner(),
            broken: !errors.is_empty(),
        }
    }

    /// The table that the whole file is.
    pub fn root(&self) -> Table<'_> {
        Table {
            document: self,
            table: &self.root,
            name: String::new(),
            span: 0..0,
            known: Vec::new(),
        }
    }

    /// The text with its places.
    pub fn source(&self) -> &Source<'t> {
        &self.source
    }

    /// Where in the source these bytes of the document stand.
    fn span(&self, within: Range<usize>) -> Range<usize> {
        self.start + within.start..self.start + within.end
    }
}

impl<'t> Parts<'t> {
    /// Reads the next one, best after the one before has been dropped.
    pub fn read_next(&mut self, faults: &mut Faults) -> Option<Document<'t>> {
        let Some(before) = self.before.take() else {
            let part = self.rest.next()?;
            return Some(Document::part(self.source.clone(), part, faults));
        };
        let document = Document::part(self.source.clone(), before, faults);
        if self.rest.len() == 0 || !document.root.contains_key(self.list) {
            return Some(document);
        }
        // A list that is begun in another way cannot go on with headers; read as a whole, the file says so.
        self.rest = Vec::new().into_iter();
        let whole = 0..self.source.text().len();
        Some(Document::part(self.source.clone(), whole, faults))
    }
}

impl<'d> Table<'d> {
    /// The value of `key`, where there is one.
    pub fn take(&mut self, key: &'static str) -> Option<Item<'d>> {
        self.known.push(key);
        let (at, value) = self.table.get_key_value(key)?;
        Some(self.item(at, value))
    }

    /// The value of `key`; its absence is a fault.
    pub fn required(&mut self, key: &'static str, faults: &mut Faults) -> Option<Item<'d>> {
        let item = self.take(key);
        // After a syntax error the key may well be there, in what could not be read.
        if item.is_none() && !self.document.broken {
            faults.push(self.fault(format!("{} has no `{key}`, which is required", self.title())));
        }
        item
    }

    /// The text of `key`, where there is one.
    pub fn string(&mut self, key: &'static str, faults: &mut Faults) -> Option<String> {
        self.take(key)?.string(faults)
    }

    /// The truth value of `key`, where there is one.
    pub fn bool(&mut self, key: &'static str, faults: &mut Faults) -> Option<bool> {
        self.take(key)?.bool(faults)
    }

    /// The whole number of `key`, where there is one; outside `range` it is a fault.
    pub fn integer<T>(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<T>,
        faults: &mut Faults,
    ) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        self.take(key)?.integer(range, faults)
    }

    /// The time of `key`, as in `"10m"`, where there is one.
    pub fn duration(&mut self, key: &'static str, faults: &mut Faults) -> Option<std::time::Duration> {
        self.take(key)?.duration(faults)
    }

    /// The number of bytes of `key`, as in `"5MiB"`, where there is one.
    pub fn size(&mut self, key: &'static str, faults: &mut Faults) -> Option<u64> {
        self.take(key)?.size(faults)
    }

    /// The word of `key`, where there is one; any other than those of `words` is a fault.
    pub fn one_of<T: Clone>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        self.take(key)?.one_of(words, faults)
    }

    /// The table of `key`, where there is one.
    pub fn table(&mut self, key: &'static str, faults: &mut Faults) -> Option<Table<'d>> {
        self.take(key)?.table(faults)
    }

    /// The values of the list of `key`; none where there is no such list.
    pub fn array(&mut self, key: &'static str, faults: &mut Faults) -> Vec<Item<'d>> {
        self.take(key)
            .and_then(|item| item.array(faults))
            .unwrap_or_default()
    }

    /// The tables of `[[key]]`; none where there is no such list.
    pub fn tables(&mut self, key: &'static str, faults: &mut Faults) -> Vec<Table<'d>> {
        let Some(item) = self.take(key) else {
            return Vec::new();
        };
        if item.kind() == Kind::Table {
            let header = item.path();
            faults.push(
                item.fault(format!("found one table `[{header}]`, expected a list of tables"))
                    .help(format!("write `[[{header}]]`, with two brackets")),
            );
            return Vec::new();
        }
        let items = item.array(faults).unwrap_or_default();
        items.iter().filter_map(|item| item.table(faults)).collect()
    }

    /// All keys with their values, in the order of the file, whether they were asked for or not.
    pub fn entries(&self) -> Vec<Item<'d>> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| self.item(key, value))
            .collect();
        entries.sort_by_key(|item| item.key_span().start);
        entries
    }

    /// The keys that nobody asked for.
    pub fn unknown(&self) -> Vec<Item<'d>> {
        let mut entries = self.entries();
        entries.retain(|item| !self.known.contains(&item.key()));
        entries
    }

    /// Reports the keys that nobody asked for, each with the known one that is most like it.
    pub fn finish(self, faults: &mut Faults) {
        for item in self.unknown() {
            faults.push(self.unknown_key(&item));
        }
    }

    /// The fault that `item` is unknown, with the known key that is most like it.
    pub fn unknown_key(&self, item: &Item<'_>) -> Fault {
        let message = format!("{} has no key `{}`", self.title(), item.key());
        self.document
            .source
            .fault(item.key_span(), message)
            .suggest(item.key(), self.known.iter().copied())
    }

    /// A fault of the table as a whole, at its header or its braces.
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        self.document.source.fault(self.span.clone(), message)
    }

    /// Where its header or its braces stand.
    pub fn place(&self) -> Place {
        self.document.source.place(self.span.clone())
    }

    /// Which bytes its header or its braces are.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The path of its keys from the top, as in `route.step`; empty for the whole file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the file has syntax errors, so that what seems to be missing may be there.
    pub fn is_broken(&self) -> bool {
        self.document.broken
    }

    fn title(&self) -> String {
        match self.name.as_str() {
            "" => "the file".to_owned(),
            name => format!("`{name}`"),
        }
    }

    fn item(&self, key: &'d Spanned<toml::de::DeString<'d>>, value: &'d Spanned<DeValue<'d>>) -> Item<'d> {
        let path = match self.name.as_str() {
            "" => key.get_ref().to_string(),
            name => format!("{name}.{}", key.get_ref()),
        };
        let key_span = self.document.span(key.span());
        Item::new(self.document, path, key.get_ref(), key_span, value)
    }
}

/// What the parser found wrong, with a hint where the slip is a known one.
fn syntax_fault(source: &Source<'_>, start: usize, error: &toml::de::Error) -> Fault {
    let span = error.span().unwrap_or(0..0);
    let fault = source.fault(start + span.start..start + span.end, error.message());
    let line = fault.place.as_ref().and_then(|place| place.text.as_deref());
    match line.map(str::trim_start) {
        Some(line) if line.starts_with("$or") || line.contains(".$or") || line.contains("{ $or") => {
            fault.help("quote it: `\"$or\" = [ … ]`")
        }
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str, read: impl FnOnce(Table<'_>, &mut Faults)) -> String {
        let mut faults = Faults::new();
        let document = Document::parse("t.toml", text, &mut faults);
        read(document.root(), &mut faults);
        faults.to_string()
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text = r#"
name = 3
attemps = 4
rest = "10 minutes"
limit = 5
mode = "fast"
tries = 0
flag = "yes"
day = 2026-01-01
[step]
use = "slack"
"#;
        let shown = faults_of(text, |mut root, faults| {
            assert_eq!(root.string("name", faults), None);
            assert_eq!(root.duration("rest", faults), None);
            assert_eq!(root.size("limit", faults), None);
            assert_eq!(
                root.one_of("mode", &[("fixed", 1), ("exponential", 2)], faults),
                None
            );
            assert_eq!(root.integer("tries", 1..=100u32, faults), None);
            assert_eq!(root.bool("flag", faults), None);
            assert_eq!(root.string("day", faults), None);
            assert!(root.tables("step", faults).is_empty());
            assert!(root.required("use", faults).is_none());
            assert!(root.integer("attempts", 1..=100u32, faults).is_none());
            root.finish(faults);
        });
        insta::assert_snapshot!(shown, @r#"
        t.toml:1:1: the file has no `use`, which is required
        t.toml:2:8: `name`: found a whole number, expected a string
          2 | name = 3
            |        ^
        t.toml:3:1: the file has no key `attemps`
          3 | attemps = 4
            | ^^^^^^^
            = did you mean `attempts`?
        t.toml:4:8: `rest`: found "10 minutes", expected a time such as "250ms", "2s", "10m", "24h" or "7d"
          4 | rest = "10 minutes"
            |        ^^^^^^^^^^^^
        t.toml:5:9: `limit`: found a whole number, expected a size such as "512B", "64KiB", "5MiB" or "1GB"
          5 | limit = 5
            |         ^
        t.toml:6:8: `mode`: found "fast", expected "fixed" or "exponential"
          6 | mode = "fast"
            |        ^^^^^^
        t.toml:7:9: `tries`: found 0, expected a whole number from 1 to 100
          7 | tries = 0
            |         ^
        t.toml:8:8: `flag`: found a string, expected `true` or `false`
          8 | flag = "yes"
            |        ^^^^^
        t.toml:9:7: `day`: found a bare date or time, expected a string
          9 | day = 2026-01-01
            |       ^^^^^^^^^^
            = write the date in quotes
        t.toml:10:1: `step`: found one table `[step]`, expected a list of tables
         10 | [step]
            | ^^^^^^
            = write `[[step]]`, with two brackets
        "#);
    }

    #[test]
    fn after_a_syntax_error_the_rest_is_read() {
        let text = "a = 2026-13-01\nb = tru\n$or = 3\nc. = 4\nd = 5\nd = 6\ne = 7\n";
        let shown = faults_of(text, |mut root, faults| {
            assert_eq!(root.integer("e", 0..=9, faults), Some(7));
            assert!(root.required("z", faults).is_none());
            root.finish(faults);
        });
        insta::assert_snapshot!(shown, @r#"
        t.toml:1:5: invalid date, expected month between 01 and 12
          1 | a = 2026-13-01
            |     ^^^^^^^^^^
        t.toml:2:5: invalid boolean, expected `true`
          2 | b = tru
            |     ^^^
        t.toml:3:1: invalid unquoted key, expected letters, numbers, `-`, `_`
          3 | $or = 3
            | ^
            = quote it: `"$or" = [ … ]`
        t.toml:4:4: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
          4 | c. = 4
            |    ^
        t.toml:5:1: the file has no key `d`
          5 | d = 5
            | ^
            = there is: `e`, `z`
        t.toml:6:1: duplicate key
          6 | d = 6
            | ^
        "#);
        let shown = faults_of("a = \"b\nc = [1\nd = 5\n", |_, _| ());
        insta::assert_snapshot!(shown, @r#"
        t.toml:1:7: invalid basic string, expected `"`
          1 | a = "b
            |       ^
        t.toml:3:1: missing comma between array elements, expected `,`
          3 | d = 5
            | ^
        "#);
    }

    #[test]
    fn tables_give_their_values() {
        let mut faults = Faults::new();
        let text = "[[s]]\nid = 'a'\nwith = { n = [1, 2.5, true, 'x'], t.u = 0xff }\n[[s]]\nid = \"b\"";
        let document = Document::parse("t.toml", text, &mut faults);
        let mut root = document.root();
        let mut tables = root.tables("s", &mut faults);
        assert_eq!(tables[1].string("id", &mut faults).as_deref(), Some("b"));
        let with = tables[0].take("with").unwrap().json(&mut faults);
        let expected = serde_json::json!({ "n": [1, 2.5, true, "x"], "t": { "u": 255 } });
        assert_eq!(with, Some(expected));
        assert_eq!(tables[0].place().line, 1);
        assert!(faults.is_empty(), "{faults}");
    }

    /// The names in `[[s]]` and what is wrong, read part by part, and how many parts there were.
    fn by_parts(text: &str) -> (Vec<String>, String, usize) {
        let (mut names, mut faults, mut count) = (Vec::new(), Faults::new(), 0);
        let mut parts = Document::parts("t.toml", text, "s");
        while let Some(document) = parts.read_next(&mut faults) {
            let mut root = document.root();
            for mut table in root.tables("s", &mut faults) {
                names.extend(table.string("name", &mut faults));
                table.finish(&mut faults);
            }
            root.finish(&mut faults);
            count += 1;
        }
        (names, faults.to_string(), count)
    }

    #[test]
    fn a_list_is_read_part_by_part_with_the_places_of_the_whole() {
        let (names, faults, parts) = by_parts(
            "# s\n[[s]]\nname = \"a\"\nnam = 1\n[[s]]\nname = [1, \"ä\"]\n[b]\n[[s]]\nname = \"c\"\n",
        );
        assert_eq!((names, parts), (vec!["a".to_owned(), "c".to_owned()], 4));
        insta::assert_snapshot!(faults, @r#"
        t.toml:4:1: `s` has no key `nam`
          4 | nam = 1
            | ^^^
            = did you mean `name`?
        t.toml:6:8: `s.name`: found a list, expected a string
          6 | name = [1, "ä"]
            |        ^^^^^^^^
        t.toml:7:2: the file has no key `b`
          7 | [b]
            |  ^
            = there is: `s`
        "#);
        let (names, faults, _) =
            by_parts("[[s]]\nname = \"a\"\n[[s]]\nname = \"b\n[[s]]\nx = [\n[[s]]\nname = \"d\"");
        assert_eq!(names, ["a", "b", "d"]);
        insta::assert_snapshot!(faults, @r#"
        t.toml:4:10: invalid basic string, expected `"`
          4 | name = "b
            |          ^
        t.toml:6:6: unclosed array, expected `]`
          6 | x = [
            |      ^
        "#);
    }

    #[test]
    fn a_list_that_is_begun_otherwise_is_read_as_a_whole() {
        for text in [
            "s = []\n[[s]]\nname = \"a\"",
            "s = [{ name = \"a\" }]\n[[s]]\nname = \"b\"",
        ] {
            let whole = faults_of(text, |_, _| ());
            assert!(whole.contains("duplicate key"), "{whole}");
            assert_eq!(by_parts(text).1, whole);
        }
        assert_eq!(
            by_parts("[[\"s\"]]\nname = \"a\"\n[[s]]\nname = \"b\"").0,
            ["a", "b"]
        );
        assert_eq!(
            by_parts("s = [{ name = \"a\" }]\n"),
            (vec!["a".to_owned()], String::new(), 1)
        );
    }
}
