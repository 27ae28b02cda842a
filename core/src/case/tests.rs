//! Cases as a person writes them: read, refused, and held against rules.

use std::fs;

use super::*;
use crate::router::{Generation, RuleFile};

const RULES: &str = r##"
[[route]]
name = "tokens"
order_by = "{{ event.data.project.id }}"
[route.when]
type = ["io.supernova.job.success"]
data.project.name = [{ prefix = "Example" }]
[[route.step]]
id = "fetch"
use = "artifact-fetch"
with = { url = "{{ event.data.artifacts[0].url }}", unpack = true }
[[route.step]]
id = "commit"
use = "git-commit"
with = { from = "{{ steps.fetch.dir }}" }
[[route.step]]
use = "slack"
if = "steps.commit.changed"
with = { channel = "#x", text = "{{ event.data.title }}" }
[[route.on_failure]]
id = "alarm"
use = "slack"
with = { text = "{{ failure.step }}: {{ failure.error }}" }

[[route]]
name = "screens"
when.type = [{ prefix = "io.zeplin." }]
[[route.step]]
use = "slack"
with.text = "{{ event.data.title }}, {{ event.verified }}, {{ event.providerdelivery | default('-') }}"
"##;

/// A case for an export, with what is said of the route behind it.
const EXPORT: &str = r#"
[[case]]
name = "an export"
event.type = "io.supernova.job.success"
event.data.title = "Done"
event.data.project = { kind = "design-system", id = "2", name = "Example" }
event.data.artifacts = [{ url = "https://a.example/1" }]
"#;

const FULL: &str = r##"
[[case.route]]
name = "tokens"
order_by = "2"
[[case.route.step]]
id = "fetch"
with = { url = "https://a.example/1", unpack = true }
output.dir = "/work"
[[case.route.step]]
id = "commit"
with.from = "/work"
output.changed = true
[[case.route.step]]
id = "slack"
with = { channel = "#x", text = "Done" }
"##;

fn rules() -> Generation {
    let file = RuleFile {
        name: "routes.toml".into(),
        text: RULES.into(),
    };
    Generation::compile(&[file], None).unwrap_or_else(|faults| panic!("{faults}"))
}

fn read(text: &str) -> Result<Vec<Case>, Faults> {
    let sources = [
        ("design-system", "supernova"),
        ("screens", "zeplin"),
        ("orders", "plugin:acme"),
    ];
    let sources = sources.map(|(source, provider)| (source.to_owned(), provider.to_owned()));
    read::read(
        "a.case.toml",
        text,
        Path::new("/nowhere"),
        &BTreeMap::from(sources),
    )
}

/// What comes out otherwise than the case says, in a line each.
fn judged(text: &str) -> String {
    let cases = read(text).unwrap_or_else(|faults| panic!("{faults}"));
    let rules = rules();
    let mismatches = cases.iter().flat_map(|case| case.judge(&rules));
    let lines = mismatches.map(|mismatch| {
        let Mismatch {
            place,
            route,
            step,
            field,
            message,
            expected,
            found,
            help,
        } = mismatch;
        let names: Vec<_> = [route, step, field].into_iter().flatten().collect();
        let mut line = format!("{}: {}: {message}", place.line, names.join("."));
        if let (Some(expected), Some(found)) = (expected, found) {
            line += &format!(" [{expected} → {found}]");
        }
        line + &help.map(|help| format!("\n    = {help}")).unwrap_or_default()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_case_passes_where_all_is_as_it_says() {
    assert_eq!(judged(&format!("{EXPORT}{FULL}")), "");
    assert_eq!(judged(&format!("{EXPORT}routes = [\"tokens\"]")), "");
    assert_eq!(
        judged("[[case]]\nname = \"x\"\nevent.type = \"y\"\nroutes = []"),
        ""
    );
    // A step of which nothing is said may be given anything.
    let skipped = FULL.replace("changed = true", "changed = false");
    let skipped = skipped.replace("with = { channel = \"#x\", text = \"Done\" }", "skipped = true");
    assert_eq!(judged(&format!("{EXPORT}{skipped}")), "");
    let bare = "[[case.route]]\nname = \"tokens\"\nstep = [{ id = \"fetch\" }, { id = \"commit\" }, { id = \"slack\" }]";
    assert_eq!(judged(&format!("{EXPORT}{bare}")), "");
    let failed = "[[case.route]]\nname = \"tokens\"\nfailure = { step = \"fetch\", reason = \"plugin-fatal\", error = \"gone\" }\n\
                  on_failure = [{ id = \"alarm\", with.text = \"fetch: gone\" }]";
    assert_eq!(judged(&format!("{EXPORT}{failed}")), "");
}

#[test]
fn whatever_comes_out_otherwise_is_told_with_its_place() {
    for (written, instead, told) in [
        (
            "Example\"",
            "Sample\"",
            "9: tokens: does not match: data.project.name: expected {\"prefix\":\"Example\"}, found \"Sample\"",
        ),
        (
            "unpack = true",
            "unpack = false",
            "14: tokens.fetch.with.unpack: comes out otherwise [false → true]",
        ),
        (
            "text = \"Done\" }",
            "txt = \"Done\" }",
            "22: tokens.slack.with.text: comes out otherwise [nothing → \"Done\"]\n\
             22: tokens.slack.with.txt: comes out otherwise [\"Done\" → nothing]",
        ),
        (
            "order_by = \"2\"",
            "order_by = \"3\"",
            "11: tokens.order_by: comes out otherwise [\"3\" → \"2\"]",
        ),
        (
            "output.dir = \"/work\"\n",
            "",
            "15: tokens.commit.with.from: cannot be rendered: step `fetch` put out nothing; perhaps it was skipped\n    \
             = the case has no output of `fetch`; where this step needs one, write `output = { … }` under it",
        ),
        (
            "output.changed = true",
            "output.changed = false",
            "20: tokens.slack: is skipped: its `if` is false",
        ),
        (
            "with = { channel = \"#x\", text = \"Done\" }",
            "skipped = true",
            "20: tokens.slack: is not skipped: its `if` is true, or it has none",
        ),
        (
            "id = \"slack\"",
            "id = \"slak\"",
            "9: tokens.slack: the route has this step, and the case does not name it\n    \
             = say what becomes of it; `id = \"slack\"` alone lets it be given anything\n\
             20: tokens.slak: the route has no such step\n    = did you mean `slack`?",
        ),
        (
            "name = \"tokens\"",
            "name = \"token\"",
            "2: tokens: matches, and the case does not name it\n9: token: there is no such route\n    = did you mean `tokens`?",
        ),
    ] {
        let text = format!("{EXPORT}{FULL}");
        assert!(text.contains(written), "{written}");
        let found = judged(&text.replacen(written, instead, 1));
        assert_eq!(found, told, "{instead}");
    }
    let ordered = EXPORT.replace("id = \"2\", ", "");
    let plain = judged(&format!("{ordered}routes = [\"tokens\"]"));
    let told =
        "8: tokens.order_by: `event.data.project` has no `id`\n    = what the event owes would be dead";
    assert!(plain.starts_with(told), "{plain}");
    let meant = "[[case.route]]\nname = \"tokens\"\nfailure.reason = \"order-key-failed\"";
    assert_eq!(judged(&format!("{ordered}{meant}")), "");
    let swapped = "[[case.route]]\nname = \"tokens\"\nstep = [{ id = \"commit\" }, { id = \"fetch\" }, { id = \"slack\" }]";
    assert_eq!(
        judged(&format!("{EXPORT}{swapped}")),
        "8: tokens: the steps come in another order [commit, fetch, slack → fetch, commit, slack]"
    );
}

#[test]
fn a_request_is_translated_by_the_adapter_of_its_provider() {
    let body = include_str!("../../tests/providers/zeplin/documented-screen-version.http");
    let body = body.split_once("\n\n").unwrap().1;
    let case = |rest: &str, text: &str| {
        format!(
            "[[case]]\nname = \"x\"\n[case.request]\nsource = \"screens\"\n{rest}\nheaders.zeplin-delivery-id = \"d1\"\nbody = '''\n{body}\n'''\n\
             [[case.route]]\nname = \"screens\"\n[[case.route.step]]\nid = \"slack\"\nwith.text = \"{text}\"\n"
        )
    };
    let title = judged(&case("", ""));
    let title = title.split(" → \"").nth(1).unwrap().split(", ").next().unwrap();
    assert!(title.contains("version"), "{title}");
    assert_eq!(judged(&case("", &format!("{title}, signature, d1"))), "");
    assert_eq!(
        judged(&case("verified = \"none\"", &format!("{title}, none, d1"))),
        ""
    );
    assert_eq!(
        judged(&case("provider = \"zeplin\"", &format!("{title}, signature, d1"))),
        ""
    );
}

#[test]
fn an_event_may_stand_in_json_and_in_a_file() {
    let home = tempfile::tempdir().unwrap();
    let event = "{ \"type\": \"io.supernova.job.success\", \"data\": { \"project\": { \"kind\": \"x\", \"name\": \"Example\", \"id\": \"2\" } } }";
    fs::write(
        home.path().join("event.json"),
        format!("{{ \"dedup\": \"k\", \"event\": {event} }}"),
    )
    .unwrap();
    let text = format!(
        "[[case]]\nname = \"json\"\nevent_json = '{event}'\nroutes = [\"tokens\"]\n\
         [[case]]\nname = \"file\"\nevent_file = \"event.json\"\nroutes = [\"tokens\"]\n"
    );
    let file = home.path().join("x.case.toml");
    fs::write(&file, text).unwrap();
    fs::write(home.path().join("routes.toml"), RULES).unwrap();
    fs::write(home.path().join(".y.case.toml"), "").unwrap();
    assert_eq!(
        files(&home.path().join("routes.toml")).unwrap(),
        std::slice::from_ref(&file)
    );
    assert_eq!(files(home.path()).unwrap(), std::slice::from_ref(&file));
    let cases = Case::load(&file, &BTreeMap::new()).unwrap_or_else(|faults| panic!("{faults}"));
    let rules = rules();
    assert_eq!(cases.len(), 2);
    for case in &cases {
        assert_eq!(case.judge(&rules), [], "{}", case.name);
    }
}

/// What stands in a file of cases once it is rewritten.
fn updated(text: &str) -> String {
    let cases = read(text).unwrap_or_else(|faults| panic!("{faults}"));
    let updated = update::rewritten(text, &cases, &rules(), |_| true);
    assert_eq!(judged(&updated), "", "{updated}");
    // What passes is left alone, to the byte.
    let again = read(&updated).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(update::rewritten(&updated, &again, &rules(), |_| true), updated);
    updated
}

#[test]
fn expectations_are_rewritten_and_nothing_else_is() {
    let others = "# before\n[[case]]\nname = \"other\"\nevent.type = \"y\"\nroutes = [] # none\n# between\n";
    let text = format!("{others}{EXPORT}{FULL}# behind\n");
    assert_eq!(updated(&text), text);
    let wrong = text
        .replace("order_by = \"2\"", "order_by = \"3\"")
        .replace("unpack = true", "unpack = false")
        .replace("with.from = \"/work\"", "with.form = \"/work\"")
        .replace("routes = [] # none", "routes = [\"tokens\"] # none");
    insta::assert_snapshot!(updated(&wrong), @r##"
    # before
    [[case]]
    name = "other"
    event.type = "y"
    routes = []
    # between

    [[case]]
    name = "an export"
    event.type = "io.supernova.job.success"
    event.data.title = "Done"
    event.data.project = { kind = "design-system", id = "2", name = "Example" }
    event.data.artifacts = [{ url = "https://a.example/1" }]

    [[case.route]]
    name = "tokens"
    order_by = "2"

    [[case.route.step]]
    id = "fetch"
    with = { unpack = true, url = "https://a.example/1" }
    output = { dir = "/work" }

    [[case.route.step]]
    id = "commit"
    with = { from = "/work" }
    output = { changed = true }

    [[case.route.step]]
    id = "slack"
    with = { channel = "#x", text = "Done" }
    # behind
    "##);

    // As much is said as was said.
    let plain = format!("{EXPORT}routes = [\"screens\"]\n");
    assert_eq!(updated(&plain), format!("{EXPORT}routes = [\"tokens\"]\n"));
    let some = "[[case.route]]\nname = \"tokens\"\nstep = [{ id = \"fetch\", output.dir = \"/w\" }, { id = \"commit\", with = {} }, { id = \"slack\" }]";
    insta::assert_snapshot!(updated(&format!("{EXPORT}{some}")).replace(EXPORT, ""), @r#"
    [[case.route]]
    name = "tokens"

    [[case.route.step]]
    id = "fetch"
    output = { dir = "/w" }

    [[case.route.step]]
    id = "commit"
    with = { from = "/w" }

    [[case.route.step]]
    id = "slack"
    "#);

    // What stands before the rest of a case is left alone.
    let before = "[[case]]\nname = \"x\"\nroutes = [\"tokens\"]\nevent.type = \"y\"\n";
    let cases = read(before).unwrap();
    assert_eq!(update::rewritten(before, &cases, &rules(), |_| true), before);
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let text = r#"
[[case]]
nam = "x"
event = { type = "a", data.titel = "b", data.payload.any = 1 }
[[case.route]]
name = "tokens"
ordr_by = "2"
[[case.route.step]]
id = "fetch"
wit = { url = "x" }
[[case.route.step]]
id = "fetch"
skipped = true
with = {}
[[case.route.on_failure]]
id = "alarm"

[[case]]
name = "y"
event.data.title = "b"

[[case]]
name = "y"
event.type = "a"
event_json = "{}"
routes = ["a", "a", 3]

[[case]]
name = "z"
event_json = "{"
routes = []

[[case]]
name = "zz"
event = { type = "a", data.title = 3 }
routes = []

[[case]]
name = "r1"
routes = []
[case.request]
source = "screen"
body = "{}"

[[case]]
name = "r2"
routes = []
[case.request]
source = "orders"
body_file = "nothing.json"

[[case]]
name = "r3"
routes = []
[case.request]
source = "screens"
provider = "zepplin"
received = "today"
body = "{"

[[case]]
name = "r4"
routes = []
[case.request]
source = "screens"
body = "{"

[[case]]
name = "r5"
routes = []
[case.request]
source = "orders"
body = "{}"
"#;
    insta::assert_snapshot!(read(text).unwrap_err().to_string(), @r#"
    a.case.toml:2:1: `case` has no `name`, which is required
      2 | [[case]]
        | ^^^^^^^^
    a.case.toml:3:1: `case` has no key `nam`
      3 | nam = "x"
        | ^^^
        = did you mean `name`?
    a.case.toml:4:28: `case.event.data.titel`: no event has `data.titel`
      4 | event = { type = "a", data.titel = "b", data.payload.any = 1 }
        |                            ^^^^^
        = did you mean `title`?
    a.case.toml:7:1: `case.route` has no key `ordr_by`
      7 | ordr_by = "2"
        | ^^^^^^^
        = did you mean `order_by`?
    a.case.toml:10:1: `case.route.step` has no key `wit`
     10 | wit = { url = "x" }
        | ^^^
        = did you mean `with`?
    a.case.toml:12:6: `case.route.step.id`: found "fetch" again, as at a.case.toml:9:6; ids are unique in a route
     12 | id = "fetch"
        |      ^^^^^^^
    a.case.toml:13:1: `case.route.step.skipped`: a step that is skipped is given nothing, and puts out nothing
     13 | skipped = true
        | ^^^^^^^
    a.case.toml:15:1: nothing failed that `on_failure` could be about
     15 | [[case.route.on_failure]]
        | ^^^^^^^^^^^^^^^^^^^^^^^^^
        = say what did, as in `failure = { step = "fetch", reason = "plugin-fatal", error = "gone" }`
    a.case.toml:18:1: the case does not say which routes are to match
     18 | [[case]]
        | ^^^^^^^^
        = name them, as in `routes = ["tokens"]`; where none is to match, `routes = []`
    a.case.toml:20:1: `case.event`: the event has no `type`
     20 | event.data.title = "b"
        | ^^^^^
        = say what happened, as in `type = "com.github.push"`
    a.case.toml:23:8: `case.name`: found "y" again, as at a.case.toml:19:8; names are unique in a file
     23 | name = "y"
        |        ^^^
    a.case.toml:25:1: `case.event_json`: found `event` and `event_json`, expected one of them
     25 | event_json = "{}"
        | ^^^^^^^^^^
    a.case.toml:26:16: `case.routes`: found "a" again, as at a.case.toml:26:11; a route is spoken of once
     26 | routes = ["a", "a", 3]
        |                ^^^
    a.case.toml:26:21: `case.routes`: found a whole number, expected a string
     26 | routes = ["a", "a", 3]
        |                     ^
    a.case.toml:30:14: `case.event_json`: not JSON: EOF while parsing an object at line 1 column 1
     30 | event_json = "{"
        |              ^^^
    a.case.toml:35:9: `case.event`: this is not an event: invalid type: integer `3`, expected a string
     35 | event = { type = "a", data.title = 3 }
        |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        = `jackfield schema event` says what an event has
    a.case.toml:42:10: `case.request.source`: the configuration has no source `screen`
     42 | source = "screen"
        |          ^^^^^^^^
        = say whose request it is, as in `provider = "zeplin"`
    a.case.toml:50:13: `case.request.body_file`: /nowhere/nothing.json cannot be read: No such file or directory (os error 2)
     50 | body_file = "nothing.json"
        |             ^^^^^^^^^^^^^^
    a.case.toml:57:12: `case.request.provider`: `zepplin` is not a provider, did you mean `zeplin`; known are appflow, supernova, zeplin, and `plugin:` with the name of an instance
     57 | provider = "zepplin"
        |            ^^^^^^^^^
    a.case.toml:58:12: `case.request.received`: found "today", expected a time such as "2026-01-01T00:00:00Z"
     58 | received = "today"
        |            ^^^^^^^
    a.case.toml:66:8: `case.request.body`: the body is not JSON: EOF while parsing an object at line 1 column 1
     66 | body = "{"
        |        ^^^
    a.case.toml:72:10: `case.request.source`: only the plugin knows what `plugin:acme` makes of a request
     72 | source = "orders"
        |          ^^^^^^^^
        = write the event that it becomes, as `events show -o json` prints it
    "#);
    insta::assert_snapshot!(read("# none").unwrap_err().to_string(), @r"
    a.case.toml: there is no `[[case]]` in it
        = `jackfield events capture evt_…` makes one of a stored event
    ");
}
