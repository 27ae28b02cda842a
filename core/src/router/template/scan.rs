//! A template's outer form and the paths in its expressions, found without compiling anything.

/// What a template is made of.
#[derive(Debug, PartialEq)]
pub(super) enum Pieces<'t> {
    /// Text and `{{ … }}`, in turn; no text is empty.
    Flat(Vec<Piece<'t>>),
    /// It has `{% … %}`, a comment, or delimiters that trim.
    Blocks,
}

#[derive(Debug, PartialEq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    /// What stands between `{{` and `}}`, trimmed; never empty.
    Value(&'t str),
}

/// A path of names as it stands in an expression: `event.data.artifacts[0].url`.
#[derive(Debug, PartialEq)]
pub(super) struct Path<'t> {
    pub(super) text: &'t str,
    pub(super) start: usize,
    pub(super) steps: Vec<Step<'t>>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Step<'t> {
    Name(&'t str),
    Index(usize),
}

impl<'t> Path<'t> {
    /// The name that it begins with.
    pub(super) fn root(&self) -> &'t str {
        name(self.text)
    }
}

/// Takes a template apart.
pub(super) fn pieces(source: &str) -> Result<Pieces<'_>, String> {
    let mut pieces = Vec::new();
    let mut rest = source;
    while let Some(open) = find_open(rest) {
        let (text, tag) = rest.split_at(open);
        if !tag.starts_with("{{") || tag[2..].starts_with(['-', '+']) {
            return Ok(Pieces::Blocks);
        }
        let close = find_close(&tag[2..]).ok_or("`{{` has no `}}`")?;
        let inner = &tag[2..2 + close];
        if inner.ends_with(['-', '+']) {
            return Ok(Pieces::Blocks);
        }
        let inner = inner.trim();
        if inner.is_empty() {
            return Err("nothing stands in `{{ }}`".to_owned());
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        pieces.push(Piece::Value(inner));
        rest = &tag[close + 4..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(Pieces::Flat(pieces))
}

/// What stands in the `{{ … }}` and `{% … %}` of a template, with where it starts; of a `{% raw %}` nothing, since it is text.
pub(super) fn tags(source: &str) -> Vec<(usize, &str)> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(open) = find_open(&source[at..]) {
        let inner = at + open + 2;
        let tag = &source[inner..];
        let kind = &source[inner - 1..inner];
        let length = match kind {
            "{" => find_close(tag),
            "%" => find_end(tag),
            _ => tag.find("#}"),
        };
        let Some(length) = length else { break };
        let code = &tag[..length];
        at = inner + length + 2;
        if kind == "%" && code.trim_matches(TRIMS).trim() == "raw" {
            let Some(end) = end_of_raw(&source[at..]) else {
                break;
            };
            at += end;
        } else if kind != "#" {
            tags.push((inner, code));
        }
    }
    tags
}

/// Where the `{% endraw %}` begins.
fn end_of_raw(text: &str) -> Option<usize> {
    let mut opens = text.match_indices("{%");
    let is_end = |at: usize| {
        let tag = text[at + 2..].trim_start_matches(TRIMS).trim_start();
        let after = tag.strip_prefix("endraw").unwrap_or_default().trim_start();
        after.trim_start_matches(TRIMS).starts_with("%}")
    };
    opens.find_map(|(at, _)| is_end(at).then_some(at))
}

/// What makes a tag trim the text beside it, or not.
const TRIMS: [char; 2] = ['-', '+'];

/// The names that an expression uses, from left to right.
#[derive(Debug, Default)]
pub(super) struct Uses<'t> {
    pub(super) paths: Vec<Path<'t>>,
    pub(super) filters: Vec<&'t str>,
    pub(super) tests: Vec<&'t str>,
}

/// Finds the names in an expression. Names of arguments are taken for paths; they lead nowhere.
pub(super) fn uses(expression: &str) -> Uses<'_> {
    let mut uses = Uses::default();
    let mut before = "";
    let mut at = 0;
    while let Some(c) = expression[at..].chars().next() {
        let rest = &expression[at..];
        let length = match c {
            '\'' | '"' => string_length(rest).unwrap_or(rest.len()),
            c if is_name_start(c) => uses.name(before, rest, at),
            c if c.is_ascii_digit() => rest
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let is_negation = before == "is" && &rest[..length] == "not";
        if !c.is_whitespace() && !is_negation {
            before = &rest[..length];
        }
        at += length;
    }
    uses
}

impl<'t> Uses<'t> {
    /// Notes the name at the start of `rest` for what it is after `before`, and tells how long it is.
    fn name(&mut self, before: &str, rest: &'t str, start: usize) -> usize {
        let word = name(rest);
        match before {
            _ if KEYWORDS.contains(&word) => {}
            "." => {}
            "|" => self.filters.push(word),
            "is" => self.tests.push(word),
            _ => {
                let path = path(rest, start);
                let length = path.text.len();
                self.paths.push(path);
                return length;
            }
        }
        word.len()
    }
}

/// The path at the start of `rest`.
fn path(rest: &str, start: usize) -> Path<'_> {
    let first = name(rest);
    let mut steps = vec![Step::Name(first)];
    let mut at = first.len();
    while let Some((step, length)) = step(&rest[at..]) {
        steps.push(step);
        at += length;
    }
    Path {
        text: &rest[..at],
        start,
        steps,
    }
}

/// The `.name`, `["name"]` or `[0]` at the start of `rest`, and how long it is.
fn step(rest: &str) -> Option<(Step<'_>, usize)> {
    if let Some(after) = rest.strip_prefix('.') {
        let name = name(after);
        let step = name.parse().map_or(Step::Name(name), Step::Index);
        return (!name.is_empty()).then_some((step, 1 + name.len()));
    }
    let inner = rest.strip_prefix('[')?;
    let close = match inner.chars().next()? {
        '\'' | '"' => string_length(inner)?,
        _ => inner.find(']')?,
    };
    let step = match &inner[..close] {
        text if text.starts_with(['\'', '"']) => {
            let text = &text[1..text.len() - 1];
            (!text.contains('\\')).then_some(Step::Name(text))?
        }
        digits => Step::Index(digits.parse().ok()?),
    };
    inner[close..].starts_with(']').then_some((step, close + 2))
}

fn name(rest: &str) -> &str {
    let end = rest
        .find(|c: char| !(is_name_start(c) || c.is_ascii_digit()))
        .unwrap_or(rest.len());
    &rest[..end]
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Where the first `{{`, `{%` or `{#` stands.
fn find_open(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes
        .windows(2)
        .position(|pair| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#'))
}

/// Where the `}}` stands that ends the expression at the start of `text`: outside of strings and brackets.
fn find_close(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '\'' | '"' => {
                at += string_length(&text[at..])?;
                continue;
            }
            '}' if depth == 0 && text[at..].starts_with("}}") => return Some(at),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += c.len_utf8();
    }
    None
}

/// Where the `%}` stands that ends the statement at the start of `text`: outside of strings.
fn find_end(text: &str) -> Option<usize> {
    let mut tokens = tokens(text);
    tokens.find_map(|(at, token)| (token == "%" && text[at + 1..].starts_with('}')).then_some(at))
}

/// Whether there is a `*` in an expression; `**` is another thing.
pub(super) fn has_star(expression: &str) -> bool {
    let stars = tokens(expression).filter(|(_, token)| *token == "*");
    let places: Vec<_> = stars.map(|(at, _)| at).collect();
    places
        .chunk_by(|before, after| before + 1 == *after)
        .any(|run| run.len() % 2 == 1)
}

/// Whether these tokens follow one another in an expression.
pub(super) fn has_tokens(expression: &str, wanted: &[&str]) -> bool {
    let tokens: Vec<_> = tokens(expression)
        .map(|(_, token)| token)
        .filter(|token| !token.trim().is_empty())
        .collect();
    tokens.windows(wanted.len()).any(|window| window == wanted)
}

/// Where the operators stand that compare what is not written there, neither before nor after.
pub(super) fn comparisons(expression: &str) -> Vec<usize> {
    let tokens: Vec<_> = tokens(expression)
        .filter(|(_, token)| !token.trim().is_empty())
        .collect();
    let mut found = Vec::new();
    let is_loop = tokens.iter().find(|(_, token)| *token != "-" && *token != "+");
    let mut is_loop = is_loop.is_some_and(|(_, token)| *token == "for");
    for (index, (at, token)) in tokens.iter().enumerate() {
        let nth = |index: usize| tokens.get(index).map_or("", |(_, token)| *token);
        let before = index.checked_sub(1).map_or("", nth);
        // Of `a.0` or `a.not`, it is not what it reads like.
        let is_attribute = index.checked_sub(2).map_or("", nth) == ".";
        let after = match (*token, nth(index + 1)) {
            ("<" | ">" | "=" | "!", "=") => index + 2,
            ("<" | ">", _) => index + 1,
            ("not", "in") if !is_a_name_after(before) => index + 2,
            ("in", _) if is_loop => {
                is_loop = false; // That of `for x in`, which compares nothing.
                continue;
            }
            ("in", _) if (is_attribute || before != "not") && !is_a_name_after(before) => index + 1,
            _ => continue,
        };
        let is_second = matches!(before, "<" | ">" | "=" | "!");
        if !is_second && (is_attribute || !is_literal(before)) && !is_literal(nth(after)) {
            found.push(*at);
        }
    }
    found
}

/// Whether what reads like an operator is the name of a test, an attribute or an argument there.
fn is_a_name_after(token: &str) -> bool {
    matches!(token, "is" | "." | "(" | "," | "")
}

fn is_literal(token: &str) -> bool {
    token.starts_with(|c: char| c == '\'' || c == '"' || c.is_ascii_digit())
}

/// The strings, names, numbers and other characters of an expression, each with where it starts.
fn tokens(expression: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &expression[at..];
        let length = match rest.chars().next()? {
            '\'' | '"' => string_length(rest).unwrap_or(rest.len()),
            c if is_name_start(c) => name(rest).len(),
            c if c.is_ascii_digit() => rest
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        at += length;
        Some((at - length, &rest[..length]))
    })
}

/// How long the string literal at the start of `text` is, quotes and all.
fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Words of the language that are no names.
const KEYWORDS: [&str; 20] = [
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "endfor",
    "set",
    "endset",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
    "recursive",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: &[&str]) {
        let found: Vec<_> = uses(expression).paths.iter().map(|path| path.text).collect();
        assert_eq!(found, expected, "{expression}");
    }

    #[test]
    fn paths_are_found_outside_of_strings() {
        check("event.data.title", &["event.data.title"]);
        check(
            "steps.a.b and not steps['c-d'].e",
            &["steps.a.b", "steps['c-d'].e"],
        );
        check(
            "event.data.artifacts[0].url | default('event.x')",
            &["event.data.artifacts[0].url"],
        );
        check("a[b].c", &["a", "b"]);
        check("x is defined and y is not none", &["x", "y"]);
        check("steps.slack-notify.ts", &["steps.slack", "notify.ts"]);
        check("'a' ~ b ~ 1.5e3", &["b"]);
    }

    #[test]
    fn filters_and_tests_are_told_from_paths() {
        let uses = uses("a | first|d(b | json) ~ (c is not defined) and d is x");
        assert_eq!(uses.filters, ["first", "d", "json"]);
        assert_eq!(uses.tests, ["defined", "x"]);
    }

    #[test]
    fn what_is_compared_with_something_written_there_is_no_comparison() {
        let check = |expression: &str, expected: &str| {
            let mut marked = expression.to_owned();
            for at in comparisons(expression).into_iter().rev() {
                marked.insert(at, '!');
            }
            assert_eq!(marked, expected);
        };
        check("a == b and c[0]!=d", "a !== b and c[0]!!=d");
        check("a <= b or (c|d(1)) > e(f)", "a !<= b or (c|d(1)) !> e(f)");
        check("a == 'b' or 1 < c or c < 2", "a == 'b' or 1 < c or c < 2");
        check("a == '==' or d(e='<')", "a == '==' or d(e='<')");
        check("a in b and c not in d", "a !in b and c !not in d");
        check("a is in b and c is not in d", "a is in b and c is not in d");
        check("- for a in b if a in c", "- for a in b if a !in c");
        check("a.in < b", "a.in !< b");
        check("a.0 == b.0", "a.0 !== b.0");
        check("a.not in b and f(in=1, not=2)", "a.not !in b and f(in=1, not=2)");
    }

    #[test]
    fn one_star_repeats_and_two_raise_to_a_power() {
        for stars in ["a*b", "f(*a)", "2 ** 3 * a", "a***b"] {
            assert!(has_star(stars), "{stars}");
        }
        for none in ["a ** b", "'a * b'", "a"] {
            assert!(!has_star(none), "{none}");
        }
    }

    #[test]
    fn tags_are_found_and_comments_are_not() {
        let found: Vec<_> = tags("a{{ b }}{# {{ c }} #}{% if d %}")
            .into_iter()
            .map(|(_, tag)| tag)
            .collect();
        assert_eq!(found, [" b ", " if d "]);
        assert_eq!(tags("{% if a == '%}' %}")[0].1, " if a == '%}' ");
    }

    #[test]
    fn what_is_raw_is_text() {
        for raw in [
            "{% raw %}{{ it's }} {% if %}{% endraw %}",
            "{%- raw +%}{{ b }}{%+endraw-%}",
        ] {
            let text = format!("{{{{ a }}}}{raw}{{{{ c }}}}");
            let found = tags(&text)
                .into_iter()
                .map(|(_, tag)| tag.trim_matches(TRIMS).trim());
            assert_eq!(found.collect::<Vec<_>>(), ["a", "endraw", "c"], "{raw}");
        }
    }
}
