//! The parts of a file that can be read one after the other.

use std::ops::Range;

use toml_parser::{
    Source,
    lexer::{Token, TokenKind},
};

/// Where the parts of `text` are: what stands before the first `[[list]]`, if only nothing, and each `[[list]]` with all that is
/// below it. A header in another spelling, such as `[["list"]]`, begins none.
pub(super) fn parts(text: &str, list: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let mut line = Vec::with_capacity(HEADER.len());
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Newline => line.clear(),
            TokenKind::Whitespace => {}
            _ if line.len() < HEADER.len() => {
                line.push(token);
                starts.extend(header(&line, text, list));
            }
            _ => {}
        }
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let parts = starts.iter().copied().zip(ends);
    parts.map(|(start, end)| start..end).collect()
}

/// Where the header of the list begins, if the line does with one. No value goes on with such a line: a list in a list would
/// hold a word without quotes.
fn header(line: &[Token], text: &str, list: &str) -> Option<usize> {
    let [first, _, name, ..] = line else { return None };
    let is_header =
        line.iter().map(Token::kind).eq(HEADER) && text[name.span().start()..name.span().end()] == *list;
    is_header.then_some(first.span().start())
}

const HEADER: [TokenKind; 5] = [
    TokenKind::LeftSquareBracket,
    TokenKind::LeftSquareBracket,
    TokenKind::Atom,
    TokenKind::RightSquareBracket,
    TokenKind::RightSquareBracket,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let parts = parts(text, "route").into_iter();
        assert_eq!(parts.map(|part| &text[part]).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_header_of_the_list_begins_one() {
        check("", &[""]);
        check("a = 1\n[other]\n", &["a = 1\n[other]\n"]);
        check("[[route]]\na = 1\n", &["", "[[route]]\na = 1\n"]);
        check("[[route]]\r\n[[route]]", &["", "[[route]]\r\n", "[[route]]"]);
        check(
            "# two\n[[route]] # first\na = 1\n[[route.step]]\n[route.when]\n\t[[ route ]]\na = 2",
            &[
                "# two\n",
                "[[route]] # first\na = 1\n[[route.step]]\n[route.when]\n\t",
                "[[ route ]]\na = 2",
            ],
        );
    }

    #[test]
    fn what_only_looks_like_one_begins_none() {
        for text in [
            "a = '''\n[[route]]\n'''\n",
            "a = \"\"\"\n[[route]]\\\n[[route]]\n\"\"\"\n",
            "# [[route]]\na = [[route]]\n",
            "[[\"route\"]]\n[[routes]]\n[[route.step]]\n[route]\n[[route]\n",
        ] {
            check(text, &[text]);
        }
    }
}
