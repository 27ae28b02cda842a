//! What an event can do at most. Without the bounds, each of these takes gigabytes or minutes.

use serde_json::json;

use super::*;
use crate::router::template::{Escape, Template};

/// An event as large as it may be, and as unlike what the author of a rule thought of as it may be.
fn root() -> Value {
    serde_json::from_value(json!({ "event": {
        "number": 300_000_000, "time": "2026-01-02T03:04:05Z", "format": "%255Y".repeat(20_000),
        "text": "a".repeat(100_000), "long": "a".repeat(2_000_000), "umlauts": "ä".repeat(1_000_000),
        "rows": "a\n".repeat(100_000), "newlines": "\n".repeat(2_000_000),
        "digits": (0..100_000).collect::<Vec<_>>(), "texts": (0..100_000).map(|number| format!("{number:020}")).collect::<Vec<_>>(),
        "pair": [[vec![0; 500_000]], [vec![0; 500_000]]], "deep": [vec![0; 500_000]], "same": [vec![0; 500_000]], "commits": commits(),
    } }))
    .unwrap()
}

/// As many as GitHub puts into one event.
fn commits() -> Vec<serde_json::Value> {
    let commit = |number: usize| {
        json!({ "id": format!("{number:040}"), "message": "Say why\n".repeat(100),
                "author": { "name": format!("Author {}", number % 50) }, "number": number })
    };
    (0..2048).map(commit).collect()
}

fn render(root: &Value, source: &str) -> Result<String, String> {
    Template::compile(source)?.text(root, Escape::None)
}

#[track_caller]
fn fail(errors: &str, templates: &[&str]) {
    let root = root();
    for source in templates {
        let rendered = render(&root, source).map(|text| text.len());
        assert_eq!(rendered, Err(errors.to_owned()), "{source}");
    }
}

#[test]
fn arguments_from_an_event_make_no_more_than_is_paid_for() {
    fail(
        TOO_MUCH,
        &[
            "{{ event.text | replace('a', event.text) }}",
            "{{ event.text | replace('', event.text) }}",
            "{{ event.digits | join(event.text) }}",
            "{{ event.texts | join(event.text) }}",
            "{{ event.rows | indent(event.number) }}",
            "{{ event.digits | batch(event.number, 'x') }}",
            "{{ event.digits | slice(event.number) }}",
            "{{ event.text | trim(event.text) }}",
            "{{ event.long | split('a') }}",
            "{{ event.long | split('') }}",
            "{{ event.newlines | lines }}",
            "{{ event.long | list }}",
            "{{ event.digits | map('replace', 1, event.text) | list }}",
            "{{ event.long ~ event.long ~ event.long ~ event.long ~ event.long ~ event.long ~ event.long }}",
            "{{ [event.long, event.long, event.long] | string }}",
        ],
    );
}

#[test]
fn no_loop_does_more_than_is_paid_for() {
    let expressions = [
        "event.long ~ event.long",
        "event.long + event.long",
        "event.long[1:]",
        "event.long | upper",
        "event.long | sha256",
        "event.long | truncate(9)",
        "event.long is lower",
        "event.long == event.long ~ 'a'",
        "event.deep == event.same",
        "event.deep <= event.same",
        "event.same in [event.deep]",
        "event.deep not in event.same",
        "event.deep is eq(event.same)",
        "event.deep is le(event.same)",
        "[event.deep] | select('==', event.same) | list",
        "[event.deep, event.same] | sort",
        "[event.deep, event.same] | max",
        "[event.deep, event.same] | unique | list",
        "event.pair.0 == event.pair.1",
        "'b' in event.long",
        "event.digits | sort",
        "event.texts | unique",
        "event.commits | groupby('message')",
        "'a' | regex_replace('a{' ~ number % 9 ~ '}', '')",
        "event.text | regex_replace('.*;|.', '-')",
        "[event.digits, event.digits] | string",
    ];
    let templates = expressions.map(|expression| {
        format!("{{% for number in range(2000) %}}{{% set kept = {expression} %}}{{% endfor %}}")
    });
    fail(TOO_MUCH, &templates.each_ref().map(String::as_str));
    fail(
        TOO_MUCH,
        &[
            "{% for a in event.digits %}{% for b in event.digits %}{% endfor %}{% endfor %}",
            "{% for a in range(2000) %}{% set kept %}{{ event.text }}{% endset %}{% endfor %}",
            "{% for a in range(2000) %}{% filter upper %}{{ event.text }}{% endfilter %}{% endfor %}",
        ],
    );
}

#[test]
fn one_expression_does_no_more_than_is_paid_for() {
    fail(
        TOO_MUCH,
        &[
            "{{ event.texts | sort }}",
            "{{ event.texts | unique }}",
            "{{ event.text | regex_replace('.*;|.', '-') }}",
            "{{ event.umlauts | upper | lower | upper | lower | upper | lower | upper | lower | upper }}",
        ],
    );
}

#[test]
fn nothing_larger_than_the_largest_output_is_put_out() {
    fail(
        TOO_LARGE,
        &[
            "{{ event.long ~ event.long ~ event.long }}{{ event.long }}{{ event.long }}",
            "{% for a in range(5) %}{{ event.long }}{% endfor %}",
        ],
    );
    fail(
        "`regex_replace`: the result is larger than 8 MiB",
        &[
            "{{ event.text | regex_replace('a', event.text) }}",
            "{{ event.long | regex_replace('a+', '$0$0$0$0$0') }}",
        ],
    );
    let marks: Value =
        serde_json::from_value(json!({ "event": { "marks": "&".repeat(2_000_000) } })).unwrap();
    let escaped =
        Template::compile("{{ event.marks }}").and_then(|template| template.text(&marks, Escape::Mrkdwn));
    assert_eq!(escaped, Err(TOO_LARGE.to_owned()));
    fail(
        "`json`: the result is larger than 8 MiB",
        &["{{ [event.long, event.long, event.long, event.long, event.long] | json }}"],
    );
}

#[test]
fn what_cannot_be_bounded_is_refused() {
    let repeats = "`*` would repeat a text or a list as often as an event says, or give as many arguments; numbers are multiplied with `a | times(b)`";
    for (source, reason) in [
        ("{{ event.text * event.number }}", repeats),
        ("{{ [event.text] * 9 ~ '' }}", repeats),
        ("{{ dict(*event.texts) }}", repeats),
        ("{% if event.text*9 %}{% endif %}", repeats),
        (
            "{% for a in event.texts %}{{ loop.cycle( ) }}{% endfor %}",
            "`cycle()` has nothing to go through, write `cycle('a', 'b')`",
        ),
        (
            "{{ event.text | format(event.text) }}",
            "there is no filter `format`",
        ),
        ("{{ event | pprint }}", "there is no filter `pprint`"),
    ] {
        let error = Template::compile(source).map(drop).unwrap_err();
        assert_eq!(error.split_once(": ").unwrap().1, reason, "{source}");
    }
    fail("namespace is unknown", &["{{ namespace(a=event.text) }}"]);
    fail(
        "recursion limit exceeded",
        &["{% for a in event.digits recursive %}{{ loop([a, a]) }}{% endfor %}"],
    );
    fail(
        "`sum`: it starts with a number, not with a string; texts and lists go through `join`",
        &["{{ event.texts | sum(start='') }}"],
    );
    fail(
        "`date`: the format has 100000 bytes, more than 256",
        &["{{ event.time | date(event.format) }}"],
    );
    fail(
        "`regex_replace`: the pattern is too large",
        &["{{ event.text | regex_replace(event.text, '') }}"],
    );
}

#[test]
fn an_error_quotes_no_whole_event() {
    let error = render(&root(), "{{ event.umlauts | date }}").unwrap_err();
    assert_eq!(error, format!("`date`: `{}…", "ä".repeat(291)));
}

#[test]
fn the_largest_events_are_rendered() {
    let root = root();
    for (source, bytes) in [
        ("{{ event.long }}", 2_000_000),
        ("{{ event.long | truncate(80) }}", 82),
        (
            "{{ event.long | replace('b', 'c') | trim | truncate(9) | upper }}",
            11,
        ),
        ("{{ event.rows | replace('\n', '') }}", 100_000),
        (
            "{{ event.rows | truncate(20000) | regex_replace('\n', ' ') }}",
            20_002,
        ),
        ("{{ event.texts | json }}", 2_300_001),
        (
            "{{ event.commits | map(attribute='author.name') | unique | sort | join }}",
            440,
        ),
        (
            "{% for commit in event.commits %}{{ commit.id[:7] }} {{ commit.message | lines | first | truncate(80) }} by {{ commit.author.name }}{% if commit.number == event.number %}!{% endif %}\n{% endfor %}",
            58_982,
        ),
        (
            "{% for commit in event.commits %}{{ commit.author.name | regex_replace('(\\w+) (\\d+)', '$2 $1') }}{% endfor %}",
            18_022,
        ),
    ] {
        let length = render(&root, source).map(|text| text.len());
        assert_eq!(length, Ok(bytes), "{source}");
    }
}
