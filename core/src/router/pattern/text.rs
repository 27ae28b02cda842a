//! Texts that ignore case, and texts with wildcards.

use std::iter;

/// A text that equals any text whose characters are each the same, its lower case or its upper case.
///
/// By character and not by folding, as event-ruler does it: `ß` equals `SS`, but `SS` does not equal `ß`.
#[derive(Clone, Debug)]
pub(in crate::router) struct Folded {
    text: Box<str>,
    /// What may stand for each character. None of one character's forms begins or ends with another.
    forms: Box<[Vec<Box<str>>]>,
}

/// A text with `*` for any characters, none included; `\*` and `\\` for themselves.
#[derive(Clone, Debug)]
pub(in crate::router) struct Wildcard {
    text: Box<str>,
    /// What stands between the stars; at least one.
    pieces: Box<[Box<str>]>,
}

impl Folded {
    pub(in crate::router) fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            forms: text.chars().map(forms).collect(),
        }
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
        let before = |rest: &'_ str, forms: &Vec<Box<str>>| {
            forms
                .iter()
                .find(|form| rest.ends_with(&***form))
                .map(|form| rest.len() - form.len())
        };
        let mut end = text.len();
        self.forms
            .iter()
            .rev()
            .all(|forms| match before(&text[..end], forms) {
                Some(before) => {
                    end = before;
                    true
                }
                None => false,
            })
    }

    /// What is left of `text` after this at its start.
    fn after<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.forms.iter().try_fold(text, |rest, forms| {
            forms.iter().find_map(|form| rest.strip_prefix(&**form))
        })
    }
}

fn forms(c: char) -> Vec<Box<str>> {
    let same: Box<str> = c.to_string().into();
    let lower: Box<str> = c.to_lowercase().collect::<String>().into();
    let upper: Box<str> = c.to_uppercase().collect::<String>().into();
    let mut forms = vec![same];
    for form in [lower, upper] {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

impl Wildcard {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// In words: two stars in a row, or a backslash before anything else.
    pub(in crate::router) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = vec![String::new()];
        let mut star_before = false;
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let literal = match c {
                '*' if star_before => return Err("two `*` in a row mean no more than one; write one"),
                '*' => None,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '\\')) => Some(c),
                    _ => return Err("after a backslash, only `*` or another backslash may stand"),
                },
                c => Some(c),
            };
            star_before = literal.is_none();
            match literal {
                Some(c) => pieces.extend_last(c),
                None => pieces.push(String::new()),
            }
        }
        Ok(Self {
            text: text.into(),
            pieces: pieces.into_iter().map(String::into).collect(),
        })
    }

    /// The text as it was given.
    pub(in crate::router) fn text(&self) -> &str {
        &self.text
    }

    /// Whether `text` fits; in time linear in it for each star.
    pub(in crate::router) fn matches(&self, text: &str) -> bool {
        let [first, rest @ ..] = &*self.pieces else {
            return false;
        };
        let Some(mut left) = text.strip_prefix(&**first) else {
            return false;
        };
        let Some((last, between)) = rest.split_last() else {
            return left.is_empty();
        };
        for piece in between {
            match left.find(&**piece) {
                Some(at) => left = &left[at + piece.len()..],
                None => return false,
            }
        }
        left.ends_with(&**last)
    }
}

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
            for (a, b) in forms.iter().flat_map(|a| forms.iter().map(move |b| (a, b))) {
                let distinct = a == b || !(a.starts_with(&**b) || a.ends_with(&**b));
                assert!(distinct, "{a} {b}");
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
