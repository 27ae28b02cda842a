//! Texts that ignore case, and texts with wildcards.

use std::iter;

use memchr::memmem;

/// A text that equals any text whose characters are each the same, its lower case or its upper case.
///
/// By character and not by folding, as event-ruler does it: `ß` equals `SS`, but `SS` does not equal `ß`.
#[derive(Clone, Debug)]
pub(in crate::router) struct Folded {
    text: Box<str>,
}

/// A text with `*` for any characters, none included; `\*` and `\\` for themselves.
#[derive(Clone, Debug)]
pub(in crate::router) struct Wildcard {
    /// What stands between the stars; at least one.
    pieces: Box<[Box<str>]>,
}

impl Folded {
    pub(in crate::router) fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// The text as it was given.
    pub(in crate::router) fn text(&self) -> &str {
        &self.text
    }

    pub(in crate::router) fn equals(&self, text: &str) -> bool {
        self.after(text) == Some("")
    }

    pub(in crate::router) fn begins(&self, text: &str) -> bool {
        self.after(text).is_some()
    }

    pub(in crate::router) fn ends(&self, text: &str) -> bool {
        let mut chars = self.text.chars().rev();
        let before = chars.try_fold(text, |rest, c| {
            forms(c).iter().find_map(|form| form.strip_end(rest))
        });
        before.is_some()
    }

    /// What is left of `text` after this at its start.
    fn after<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.text.chars().try_fold(text, |rest, c| {
            forms(c).iter().find_map(|form| form.strip_start(rest))
        })
    }
}

/// What may stand for a character: itself, its lower case and its upper case. None of them begins or ends with
/// another one.
fn forms(c: char) -> [Form; 3] {
    [
        Form::of(iter::once(c)),
        Form::of(c.to_lowercase()),
        Form::of(c.to_uppercase()),
    ]
}

/// Up to three characters.
struct Form {
    bytes: [u8; 12],
    length: usize,
}

impl Form {
    fn of(chars: impl Iterator<Item = char>) -> Self {
        let mut form = Self {
            bytes: [0; 12],
            length: 0,
        };
        for c in chars {
            form.length += c.encode_utf8(&mut form.bytes[form.length..]).len();
        }
        form
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn strip_start<'t>(&self, text: &'t str) -> Option<&'t str> {
        let is_there = text.as_bytes().starts_with(self.bytes());
        is_there.then(|| &text[self.length..])
    }

    fn strip_end<'t>(&self, text: &'t str) -> Option<&'t str> {
        let is_there = text.as_bytes().ends_with(self.bytes());
        is_there.then(|| &text[..text.len() - self.length])
    }
}

/// Puts into `into` a text that is the same for all texts that are equal but for case: whatever [`Folded`] equals,
/// begins or ends has the same one, or one that begins or ends with it.
pub(in crate::router) fn caseless(text: &str, into: &mut String) {
    into.clear();
    if text.is_ascii() {
        into.push_str(text);
        return into.make_ascii_lowercase();
    }
    for c in text.chars() {
        let lower = c.to_lowercase();
        let upper = lower.flat_map(char::to_uppercase);
        into.extend(upper.flat_map(char::to_lowercase));
    }
}

impl Wildcard {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// In words: two stars in a row, too many of them, or a backslash before anything else.
    pub(in crate::router) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = vec![String::new()];
        let mut star_before = false;
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let literal = match c {
                '*' if star_before => {
                    return Err("two `*` in a row mean no more than one; write one".to_owned());
                }
                '*' => None,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '\\')) => Some(c),
                    _ => return Err("after a backslash, only `*` or another backslash may stand".to_owned()),
                },
                c => Some(c),
            };
            star_before = literal.is_none();
            match literal {
                Some(c) => pieces.extend_last(c),
                None => pieces.push(String::new()),
            }
        }
        let stars = pieces.len() - 1;
        if stars > MOST_STARS {
            return Err(format!(
                "a wildcard with {stars} `*`, expected {MOST_STARS} at most"
            ));
        }
        Ok(Self {
            pieces: pieces.into_iter().map(String::into).collect(),
        })
    }

    /// The text as it was given.
    pub(in crate::router) fn text(&self) -> String {
        let escape = |piece: &str| piece.replace('\\', r"\\").replace('*', r"\*");
        let pieces: Vec<_> = self.pieces.iter().map(|piece| escape(piece)).collect();
        pieces.join("*")
    }

    /// What stands between the stars, and before and after them; at least one.
    pub(in crate::router) fn pieces(&self) -> &[Box<str>] {
        &self.pieces
    }

    /// Whether `text` fits. Each piece is looked for where the one before it was found, so that the text is gone through
    /// once, and a piece once, however many stars there are.
    pub(in crate::router) fn matches(&self, text: &str) -> bool {
        let [first, rest @ ..] = &*self.pieces else {
            return false;
        };
        // An empty text is nowhere in memory, and some processors take long to find out that it need not be read.
        let mut left = text;
        if !first.is_empty() {
            let Some(rest) = text.strip_prefix(&**first) else {
                return false;
            };
            left = rest;
        }
        let Some((last, between)) = rest.split_last() else {
            return left.is_empty();
        };
        for piece in between {
            match memmem::find(left.as_bytes(), piece.as_bytes()) {
                Some(at) => left = &left[at + piece.len()..],
                None => return false,
            }
        }
        last.is_empty() || left.ends_with(&**last)
    }
}

/// How many stars a wildcard may have. Whoever needs more has pasted something else; and what each of them is entered in the
/// index for stays bounded.
const MOST_STARS: usize = 32;

trait ExtendLast {
    fn extend_last(&mut self, c: char);
}

impl ExtendLast for Vec<String> {
    fn extend_last(&mut self, c: char) {
        if let Some(last) = self.last_mut() {
            last.extend(iter::once(c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_character_begins_or_ends_with_another() {
        for c in '\0'..=char::MAX {
            let forms = forms(c);
            let forms = forms.each_ref().map(Form::bytes);
            for (a, b) in forms.iter().flat_map(|a| forms.iter().map(move |b| (a, b))) {
                let distinct = a == b || !(a.starts_with(b) || a.ends_with(b));
                assert!(distinct, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn all_forms_of_a_character_are_one_without_case() {
        let without_case = |text: &str| {
            let mut into = String::new();
            caseless(text, &mut into);
            into
        };
        for c in '\0'..=char::MAX {
            let own = without_case(c.encode_utf8(&mut [0; 4]));
            for form in &forms(c) {
                let form = std::str::from_utf8(form.bytes()).unwrap();
                assert_eq!(without_case(form), own, "{c} {form}");
            }
        }
    }

    #[test]
    fn case_is_ignored_by_character() {
        for (pattern, text, equal) in [
            ("Jäger", "jÄGER", true),
            ("ΟΔΟΣ", "οδοσ", true),
            ("ß", "SS", true),
            ("SS", "ß", false),
            ("ⱥ", "Ⱥ", true),
            ("ab", "abc", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Folded::new(pattern).equals(text), equal, "{pattern} {text}");
        }
        assert!(Folded::new("straß").begins("STRASSE"));
        assert!(Folded::new("ße").ends("STRASSE"));
        assert!(!Folded::new("xße").ends("STRASSE"));
        assert!(!Folded::new("longer").ends("er"));
    }

    #[track_caller]
    fn check(pattern: &str, text: &str, matches: bool) {
        assert_eq!(
            Wildcard::parse(pattern).unwrap().matches(text),
            matches,
            "{pattern} {text}"
        );
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        check("*", "", true);
        check("a*", "a", true);
        check("a*c", "abc", true);
        check("a*c", "ac", true);
        check("a*c", "abcd", false);
        check("*ab*ab*", "xabab", true);
        check("*ab*ab*", "xabb", false);
        check("a*a", "a", false);
        check("", "", true);
        check("", "a", false);
        check("abc", "abc", true);
        check(r"a\*b\\", r"a*b\", true);
        check(r"a\*b", "axb", false);
        check("é*é", "éé", true);
    }

    #[test]
    fn what_is_no_wildcard_is_refused() {
        for wrong in ["a**b", r"a\b", r"a\"] {
            assert!(Wildcard::parse(wrong).is_err(), "{wrong}");
        }
    }
}
