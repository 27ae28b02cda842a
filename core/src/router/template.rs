//! Templates: texts of the rule file with places for values of the event and of earlier steps.
//!
//! The language is Jinja's, as minijinja speaks it, strictly: a value that is undefined or null is an error, not
//! an empty text, unless it goes through `default`, which sees through whatever is absent on the way to it. A
//! text that is exactly one `{{ … }}` keeps the value's JSON type. Which it is, is told by a scan of the
//! delimiters, never by trial compilation. Rendering is bounded in work and in output, whatever an event holds. There are no
//! macros, no includes, and no way around escaping.

mod check;
mod engine;
mod escape;
mod filters;
mod limits;
mod scan;

use minijinja::Value;

pub(super) use check::{Names, check, check_expression, check_input};
pub(super) use engine::Expression;
pub(super) use escape::Escape;

/// A text of the rule file, compiled.
#[derive(Debug)]
pub(super) struct Template {
    source: String,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// No places for values.
    Text,
    /// Exactly one `{{ … }}`.
    Typed(Expression),
    /// Text and `{{ … }}`.
    Parts(Vec<Part>),
    /// With `{% … %}`, comments or trimmed delimiters: minijinja's as a whole.
    Blocks,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Value(Expression),
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    ///
    /// In words, where it is no template.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let source = source.to_owned();
        let form = match scan::pieces(&source)? {
            scan::Pieces::Blocks => {
                engine::check_blocks(&source)?;
                Form::Blocks
            }
            scan::Pieces::Flat(pieces) => match pieces.as_slice() {
                [] | [scan::Piece::Text(_)] => Form::Text,
                [scan::Piece::Value(expression)] => Form::Typed(Expression::compile(expression)?),
                pieces => Form::Parts(pieces.iter().map(part).collect::<Result<_, _>>()?),
            },
        };
        Ok(Self { source, form })
    }

    /// The text as it was given.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether there is nothing to fill in.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.form, Form::Text)
    }

    /// Whether it is one `{{ … }}`, so that its value keeps its type.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self.form, Form::Typed(_))
    }

    /// The value, of any JSON type where the template is one `{{ … }}`; its strings are not escaped then.
    ///
    /// # Errors
    ///
    /// In words: which value is undefined or null, or what else went wrong.
    pub(super) fn value(&self, root: &Value, escape: Escape) -> Result<serde_json::Value, String> {
        match &self.form {
            Form::Typed(expression) => engine::json(&expression.evaluate(root)?),
            Form::Text | Form::Parts(_) | Form::Blocks => {
                self.text(root, escape).map(serde_json::Value::String)
            }
        }
    }

    /// The text, every value in it escaped.
    ///
    /// # Errors
    ///
    /// In words: which value is undefined or null, or what else went wrong.
    pub(super) fn text(&self, root: &Value, escape: Escape) -> Result<String, String> {
        let text = match &self.form {
            Form::Text => return Ok(self.source.clone()),
            Form::Typed(expression) => expression.part(root, escape)?,
            Form::Blocks => engine::render_blocks(&self.source, root, escape)?,
            Form::Parts(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(fixed) => text.push_str(fixed),
                        Part::Value(expression) => text.push_str(&expression.part(root, escape)?),
                    }
                    limits::check_size(text.len())?;
                }
                text
            }
        };
        Ok(escape.settle(text))
    }
}

fn part(piece: &scan::Piece<'_>) -> Result<Part, String> {
    Ok(match piece {
        scan::Piece::Text(text) => Part::Text((*text).to_owned()),
        scan::Piece::Value(expression) => Part::Value(Expression::compile(expression)?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn root() -> Value {
        serde_json::from_value(json!({
            "event": {
                "type": "io.supernova.job.success", "time": "2026-01-02T03:04:05Z",
                "data": {
                    "title": "A <b> & c", "number": 7, "ratio": 0.5, "yes": true, "nothing": null,
                    "artifacts": [{ "url": "https://a/1" }], "labels": { "a-b": "x" },
                    "hostile": { "link": "https://evil|Acme", "md": "[a](b)" }
                }
            },
            "steps": { "fetch": { "dir": "d", "files": ["a", "b"] } }
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(source: &str, expected: serde_json::Value) {
        let template = Template::compile(source).unwrap();
        assert_eq!(template.value(&root(), Escape::None), Ok(expected), "{source}");
    }

    #[track_caller]
    fn fails(source: &str, expected: &str) {
        let result = Template::compile(source).and_then(|template| template.value(&root(), Escape::None));
        assert_eq!(result, Err(expected.to_owned()), "{source}");
    }

    #[test]
    fn a_template_that_is_one_value_keeps_its_type() {
        check("{{ event.data.number }}", json!(7));
        check("{{ event.data.ratio }}", json!(0.5));
        check("{{event.data.yes}}", json!(true));
        check("{{ steps.fetch.files }}", json!(["a", "b"]));
        check(
            "{{ {'a': {'b': event.data.number}} }}",
            json!({ "a": { "b": 7 } }),
        );
        check("{{ '}}' }}", json!("}}"));
        check("{{ event.data.artifacts[0] }}", json!({ "url": "https://a/1" }));
    }

    #[test]
    fn anything_else_is_text() {
        check("plain", json!("plain"));
        check("", json!(""));
        check("} }} %} #}", json!("} }} %} #}"));
        check(" {{ event.data.number }}", json!(" 7"));
        check("{{ event.data.number }}{{ event.data.yes }}", json!("7true"));
        check("{{ '{{' }} {{ \"}}\" }}", json!("{{ }}"));
        check("files: {{ steps.fetch.files }}", json!("files: [\"a\",\"b\"]"));
        check(
            "{% for f in steps.fetch.files %}{{ f }};{% endfor %}",
            json!("a;b;"),
        );
        check("a {{- ' b ' -}} c{# d #}", json!("a b c"));
        check("{% if event.data.yes %}y{% else %}n{% endif %}", json!("y"));
        check("{% raw %}{{ x }}{% endraw %}", json!("{{ x }}"));
    }

    #[test]
    fn what_is_undefined_or_null_is_an_error_that_names_it() {
        fails(
            "{{ event.data.titel }}",
            "`event.data` has no `titel`; did you mean `title`?",
        );
        fails(
            "a {{ event.datta.title }}",
            "`event` has no `datta`; did you mean `data`?",
        );
        fails(
            "{{ steps.commit.url }}",
            "step `commit` put out nothing; perhaps it was skipped",
        );
        fails(
            "{{ event.data.artifacts[3].url }}",
            "`event.data.artifacts` has no element 3",
        );
        fails("{{ event.data.nothing }}", "`event.data.nothing` is null");
        fails("x{{ event.data.nothing }}", "`event.data.nothing` is null");
        fails(
            "{{ event.data.labels.c | upper }}",
            "`event.data.labels.c` is undefined",
        );
        fails("{% if event.data.x %}{% endif %}", "`event.data.x` is undefined");
    }

    #[test]
    fn a_default_sees_through_what_is_absent() {
        check("{{ event.data.titel | default('x') }}", json!("x"));
        check(
            "{{ event.data.actor.name | default('somebody') }}",
            json!("somebody"),
        );
        check(
            "by {{ event.data.actor.name|d('somebody') }}",
            json!("by somebody"),
        );
        check(
            "{{ event.data.artifacts[3].url | default('none') }}",
            json!("none"),
        );
        check(
            "{{ event.data.artifacts.0.url | default('none') }}",
            json!("https://a/1"),
        );
        check("{{ event.data.nothing | default(7) }}", json!(7));
        check("{{ event.data.title | default('x') }}", json!("A <b> & c"));
        check("{{ event.data.labels['a-b'] | default('y') }}", json!("x"));
        check("{{ event.data.labels['❤\u{fe0f}'] | default('y') }}", json!("y"));
        check(r#"{{ event.data.labels['"\\'] | default('y') }}"#, json!("y"));
        check(
            "{{ steps.commit.changed is defined and steps.commit.changed }}",
            json!(false),
        );
        check("{{ steps.commit.changed is not defined }}", json!(true));
        check(
            "{% if steps.commit.url is defined %}a{% else %}b{% endif %}",
            json!("b"),
        );
        check("{{ steps.fetch.files | first | default('x') }}", json!("a"));
    }

    #[test]
    fn filters_do_what_they_say() {
        check("{{ event.data.labels | json }}", json!("{\"a-b\":\"x\"}"));
        check("{{ event.time | date }}", json!("2026-01-02"));
        check(
            "{{ event.time | date('%d.%m.%Y %H:%M') }}",
            json!("02.01.2026 03:04"),
        );
        check("{{ 'Ünïted: Icons  2.0!' | slug }}", json!("ünïted-icons-2-0"));
        check("{{ 'abcdef' | truncate(4) }}", json!("abc…"));
        check("{{ 'abcd' | truncate(4) }}", json!("abcd"));
        check("{{ 'a b/ü' | urlencode }}", json!("a%20b%2F%C3%BC"));
        check("{{ 'a.b' | replace('.', '/') }}", json!("a/b"));
        check("{{ 'abc' | sha256 | truncate(9) }}", json!("ba7816bf…"));
        check(
            "{{ 'v1.2.3 and v4.5.6' | regex_replace('v(\\d+)[.](?<minor>\\d+)[.]\\d+', '$1/${minor}') }}",
            json!("1/2 and 4/5"),
        );
        check("{{ 'abc' | regex_replace('', '-') }}", json!("-a-b-c-"));
        check("{{ 'abc' | regex_replace('x*$', '') }}", json!("abc"));
        check("{{ 'ab' | regex_replace('(a)(b)', '$2$1$$') }}", json!("ba$"));
        check("{{ event.data.number | times(6) }}", json!(42));
        check("{{ event.data.ratio | times(event.data.number) }}", json!(3.5));
        check("{{ [event.data.number, 2] | sum(start=3) }}", json!(12));
        check(
            "{{ 'a, b,c' | split(',') | map('trim') | join('-') }}",
            json!("a-b-c"),
        );
        check("{{ '--a-' | trim('-') }}", json!("a"));
        check("{{ 'a\nb' | lines }}", json!(["a", "b"]));
        check(
            "{{ event.data.number == steps.fetch.files | length }}",
            json!(false),
        );
        check("{{ steps.fetch.dir in steps.fetch.files }}", json!(false));
        check("{{ steps.fetch.dir not in [event.data.title] }}", json!(true));
        check(
            "{% for f in steps.fetch.files if f > steps.fetch.dir %}{% endfor %}",
            json!(""),
        );
        fails(
            "{{ event.data.title | date }}",
            "`date`: `A <b> & c` is not an RFC 3339 time such as 2026-01-01T00:00:00Z",
        );
        fails(
            "{{ event.time | date('%Q%!') }}",
            "`date`: `%Q%!` is not a format such as %Y-%m-%d",
        );
        fails(
            "{{ 'a' | regex_replace('a(', '') }}",
            "`regex_replace`: the pattern is wrong: unclosed group",
        );
        fails(
            "{{ 'a' | regex_replace('(a{1000}){1000}', '') }}",
            "`regex_replace`: the pattern is too large",
        );
        fails(
            "{{ event.data.title | times(2) }}",
            "`times`: a string is no number",
        );
        fails(
            "{{ event.data.number | times(9223372036854775807) }}",
            "`times`: 7 times 9223372036854775807 is too large",
        );
        fails("{{ event.data.titel | times(2) }}", "undefined value");
    }

    #[test]
    fn values_are_escaped_and_the_authors_text_is_not() {
        let escaped = |source| Template::compile(source).unwrap().text(&root(), Escape::Mrkdwn);
        let expected = Ok("*<https://x|A &lt;b&gt; &amp; c>*".to_owned());
        assert_eq!(escaped("*<https://x|{{ event.data.title }}>*"), expected);
        assert_eq!(
            escaped("*<https://x|{% if true %}{{ event.data.title }}{% endif %}>*"),
            expected
        );
        assert_eq!(
            escaped("{{ event.data.title }}"),
            Ok("A &lt;b&gt; &amp; c".to_owned())
        );
        assert!(Template::compile("{{ event.data.title | safe }}").is_err());
        for source in [
            "<{{ event.data.hostile.link }}|see> a | {{ event.data.hostile.link }}",
            "<{{ event.data.hostile.link }}|{% if true %}see{% endif %}> a | {{ event.data.hostile.link }}",
        ] {
            let expected = "<https://evil%7CAcme|see> a | https://evil|Acme";
            assert_eq!(escaped(source), Ok(expected.to_owned()), "{source}");
        }
        let markdown = |source| Template::compile(source).unwrap().text(&root(), Escape::Markdown);
        for source in [
            "**{{ event.data.hostile.md }}**",
            "**{% if true %}{{ event.data.hostile.md }}{% endif %}**",
        ] {
            assert_eq!(markdown(source), Ok(r"**\[a\](b)**".to_owned()), "{source}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        fails("{{ a", "`{{` has no `}}`");
        fails("{{ }}", "nothing stands in `{{ }}`");
        fails("{% if a %}", "unexpected end of input, expected end of block");
        fails("{{ 'a }}", "`{{` has no `}}`");
        fails("{{ a b }}", "`a b`: unexpected input after expression");
        fails("{{ a | __read }}", "`a | __read`: there is no filter `__read`");
        fails("{{ a and == b }}", "`a and == b`: unexpected `==`");
        fails(
            "{{ a | nofilter }}",
            "`a | nofilter`: there is no filter `nofilter`",
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_compiles_or_is_refused(source in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|-|'|\"|event|\\.|\\[|\\]|\\(|\\)|\\||default|is|[ a0%{}]|\\PC){0,14}") {
            if let Ok(template) = Template::compile(&source) {
                let _ = template.value(&root(), Escape::Mrkdwn);
            }
        }
    }
}
