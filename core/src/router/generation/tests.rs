use std::{collections::BTreeMap, sync::Arc};

use jackfield_event::{Artifact, DATA_SCHEMA, Data, EventId, Project, Verification};
use serde_json::json;

use super::*;
use crate::{
    delivery::{Line, RetryPolicy},
    router::RenderError,
    schema::Schema,
};

const RULES: &str = include_str!("../../../../config/routes.toml");

fn file(text: &str) -> RuleFile {
    RuleFile {
        name: "routes.toml".into(),
        text: text.into(),
    }
}

fn compile(text: &str) -> Generation {
    Generation::compile(&[file(text)], None).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(text: &str, catalog: Option<&Catalog>) -> String {
    match Generation::compile(&[file(text)], catalog) {
        Ok(_) => "nothing wrong".to_owned(),
        Err(faults) => faults.to_string(),
    }
}

fn catalog() -> Catalog {
    let slack = json!({
        "type": "object", "required": ["channel"], "additionalProperties": false,
        "properties": {
            "channel": { "type": "string" }, "text": { "type": "string" }, "count": { "type": "integer" },
            "fields": { "type": "array", "items": { "type": "object", "properties": { "title": { "type": "string" } } } }
        }
    });
    let schema = |json| Some(Arc::new(Schema::compile(json).unwrap()));
    BTreeMap::from([
        ("slack".to_owned(), schema(slack)),
        ("fetch".to_owned(), None),
        ("commit".to_owned(), schema(json!({ "type": "object" }))),
    ])
}

#[test]
fn rules_in_force_are_held_against_the_instances_that_are_given_and_know_the_others() {
    let text = "[[route]]\nname = \"r\"\nwhen.type = [\"a\"]\n[[route.step]]\nuse = \"slack\"\nwith = { chanel = \"c\" }\n\
                [[route.step]]\nuse = \"gone\"\n[[route.on_failure]]\nuse = \"away\"\n";
    let generation = compile(text);
    assert_eq!(Vec::from_iter(generation.instances()), ["away", "gone", "slack"]);
    assert_eq!(generation.check(&Catalog::new()), Ok(()));
    let faults = generation.check(&catalog()).unwrap_err().to_string();
    assert!(
        faults.contains("`chanel`") && !faults.contains("there is no instance"),
        "{faults}"
    );
    let known = generation.complete(&catalog());
    assert_eq!(
        known.keys().collect::<Vec<_>>(),
        ["away", "commit", "fetch", "gone", "slack"]
    );
    assert!(known["away"].is_none() && known["slack"].is_some());
}

fn event(kind: &str) -> Event {
    let time = "2026-01-01T00:00:00Z".parse().unwrap();
    Event {
        specversion: Default::default(),
        id: EventId::new(time, 0),
        source: "/in/design-system".into(),
        kind: kind.into(),
        subject: None,
        time,
        datacontenttype: "application/json".into(),
        dataschema: DATA_SCHEMA.into(),
        provider: "supernova".into(),
        sourcename: "design-system".into(),
        providerdelivery: None,
        providerattempt: None,
        verified: Verification::PathToken,
        data: Data {
            title: Some("Tokens".into()),
            outcome: Some("success".into()),
            project: Some(Project {
                kind: "design-system".into(),
                id: Some("2".into()),
                name: Some("Acme Tokens".into()),
            }),
            artifacts: vec![Artifact {
                url: "https://a.example/1".into(),
                ..Artifact::default()
            }],
            ..Data::default()
        },
    }
}

#[test]
fn five_mistakes_of_different_kinds_are_reported_with_their_places() {
    let text = r##"
[[route]]
name = "tokens"
oder_by = "{{ event.data.project.id }}"

[route.when]
type = "io.supernova.job.success"

[[route.step]]
id = "fetch"
use = "fetch"
with = { url = "{{ steps.commit.url }}" }
retry = { attempts = 0, first = "2 seconds" }

[[route.step]]
id = "commit"
use = "comit"

[[route]]
name = "second"
[route.when]
data.titel = ["x"]
$or = [{ type = ["a"] }, { type = ["b"] }]
[[route.step]]
use = "slack"
with = { channel = 5, txt = "a" }
if = "steps.fetch.dir"
"##;
    insta::assert_snapshot!(faults(text, Some(&catalog())), @r#"
    routes.toml:4:1: `route` has no key `oder_by`
      4 | oder_by = "{{ event.data.project.id }}"
        | ^^^^^^^
        = did you mean `order_by`?
    routes.toml:7:8: `type` is a string, expected a list of values
      7 | type = "io.supernova.job.success"
        |        ^^^^^^^^^^^^^^^^^^^^^^^^^^
        = write `type = ["io.supernova.job.success"]`
    routes.toml:12:16: `route.step.with.url`: step `commit` comes later, its output is not known here
     12 | with = { url = "{{ steps.commit.url }}" }
        |                ^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:13:22: `route.step.retry.attempts`: found 0, expected a whole number from 1 to 100
     13 | retry = { attempts = 0, first = "2 seconds" }
        |                      ^
    routes.toml:13:33: `route.step.retry.first`: found "2 seconds", expected a time such as "250ms", "2s", "10m", "24h" or "7d"
     13 | retry = { attempts = 0, first = "2 seconds" }
        |                                 ^^^^^^^^^^^
    routes.toml:17:7: `route.step.use`: there is no instance `comit`
     17 | use = "comit"
        |       ^^^^^^^
        = did you mean `commit`?
    routes.toml:22:6: no event has `data.titel`
     22 | data.titel = ["x"]
        |      ^^^^^
        = did you mean `title`?
    routes.toml:23:1: invalid unquoted key, expected letters, numbers, `-`, `_`
     23 | $or = [{ type = ["a"] }, { type = ["b"] }]
        | ^
        = quote it: `"$or" = [ … ]`
    routes.toml:26:20: the input does not fit: `channel`: found 5, expected a string
     26 | with = { channel = 5, txt = "a" }
        |                    ^
    routes.toml:26:23: the input does not fit: `txt`: unknown; did you mean `text`?
     26 | with = { channel = 5, txt = "a" }
        |                       ^^^
    routes.toml:27:6: `route.step.if`: there is no step `fetch` before this one
     27 | if = "steps.fetch.dir"
        |      ^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn slips_are_told_with_the_next_step() {
    let text = r##"
[[route]]
[route.when]
name = "tokens"
description = "below the pattern"
coalesce = { window = "30s" }
time = [2026-01-01]
[route.step]
use = "slack"

[[route]]
name = "tokens"
newest_by = "time"
when_json = '''
{ "type": ["a"],
  "data": { "title": [{ "prefx": "x" }, { "numeric": [">", 5, "<", 1] }] } }
'''
[[route.step]]
use = "slack"
if = "{{ event.data.yes }}"
with = { channel = { env = "CHANNEL" }, text = "{{ evnt.data.title }} {{ failure.error }}" }

[[route]]
name = "to kens"
when_json = "{ \"type\": [\"a\" \"b\"] }"
[[route.step]]
use = "slack-notify"
[[route.step]]
use = "slack"
with = { channel = "{{ steps.slack-notify.ts }}", text = "{{ event.data.nme }}", fields = [{ title = 2026-01-01 }] }
[[route.on_failure]]
use = "slack"
id = "slack"
with.text = "{{ failure.eror }} {{ route.title }} {{ steps['slack-notify'].ts }}"
[[route.on_failure]]
use = "slack"
id = "slack"
"##;
    insta::assert_snapshot!(faults(text, None), @r#"
    routes.toml:2:1: `route` has no `name`, which is required
      2 | [[route]]
        | ^^^^^^^^^
    routes.toml:2:1: the route has no steps, so that nothing would happen
      2 | [[route]]
        | ^^^^^^^^^
        = write `[[route.step]]` and `use = "…"` below it
    routes.toml:4:8: `name` is a string, expected a list of values
      4 | name = "tokens"
        |        ^^^^^^^^
        = `name` of the route itself stands above `[route.when]`; in the pattern it would be a list
    routes.toml:5:15: `description` is a string, expected a list of values
      5 | description = "below the pattern"
        |               ^^^^^^^^^^^^^^^^^^^
        = `description` of the route itself stands above `[route.when]`; in the pattern it would be a list
    routes.toml:6:23: `coalesce.window` is a string, expected a list of values
      6 | coalesce = { window = "30s" }
        |                       ^^^^^
        = `coalesce` of the route itself stands above `[route.when]`; in the pattern it would be a list
    routes.toml:7:9: found a bare date, expected a string
      7 | time = [2026-01-01]
        |         ^^^^^^^^^^
        = write the date in quotes
    routes.toml:8:1: `route.step`: found one table `[route.step]`, expected a list of tables
      8 | [route.step]
        | ^^^^^^^^^^^^
        = write `[[route.step]]`, with two brackets
    routes.toml:13:1: `route.newest_by`: says which delivery is the newest, and nothing asks for it
     13 | newest_by = "time"
        | ^^^^^^^^^
        = write `supersede = true` or `coalesce = { … }` beside it, or leave it out
    routes.toml:16:25: there is no operator `prefx`
     16 |   "data": { "title": [{ "prefx": "x" }, { "numeric": [">", 5, "<", 1] }] } }
        |                         ^^^^^^^
        = did you mean `prefix`?
    routes.toml:16:54: the range ends at 1 and begins at 5
     16 |   "data": { "title": [{ "prefx": "x" }, { "numeric": [">", 5, "<", 1] }] } }
        |                                                      ^^^^^^^^^^^^^^^^
    routes.toml:20:6: `route.step.if`: an `if` is an expression and needs no braces
     20 | if = "{{ event.data.yes }}"
        |      ^^^^^^^^^^^^^^^^^^^^^^
        = write `if = "event.data.yes"`
    routes.toml:21:20: `route.step.with.channel`: the environment cannot be read in a rule: a step's input is kept in the journal
     21 | with = { channel = { env = "CHANNEL" }, text = "{{ evnt.data.title }} {{ failure.error }}" }
        |                    ^^^^^^^^^^^^^^^^^^^
        = give the secret to the instance, under `[instance.config]`, and name it here
    routes.toml:21:48: `route.step.with.text`: there is no `evnt`; did you mean `event`?
     21 | with = { channel = { env = "CHANNEL" }, text = "{{ evnt.data.title }} {{ failure.error }}" }
        |                                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:21:48: `route.step.with.text`: there is no `failure` here, only in `on_failure`
     21 | with = { channel = { env = "CHANNEL" }, text = "{{ evnt.data.title }} {{ failure.error }}" }
        |                                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:24:8: `route.name`: found "to kens", expected a name of letters, digits, `-`, `_` and `.`
     24 | name = "to kens"
        |        ^^^^^^^^^
    routes.toml:25:13: not JSON: expected `,` or `]`
     25 | when_json = "{ \"type\": [\"a\" \"b\"] }"
        |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:30:20: `route.step.with.channel`: `slack-notify` is read as a subtraction; write `steps["slack-notify"]`, or give the step an `id`
     30 | with = { channel = "{{ steps.slack-notify.ts }}", text = "{{ event.data.nme }}", fields = [{ title = 2026-01-01 }] }
        |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:30:58: `route.step.with.text`: `event.data` has no `nme`; there is `action`, `actor`, `artifacts`, `commit`, `images`, `outcome`, `payload`, `project`, `resource`, `title`
     30 | with = { channel = "{{ steps.slack-notify.ts }}", text = "{{ event.data.nme }}", fields = [{ title = 2026-01-01 }] }
        |                                                          ^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:30:102: `route.step.with.fields.title`: found a bare date or time, expected a string
     30 | …{ steps.slack-notify.ts }}", text = "{{ event.data.nme }}", fields = [{ title = 2026-01-01 }] }
        |                                                                                  ^^^^^^^^^^
        = write the date in quotes
    routes.toml:34:13: `route.on_failure.with.text`: `failure` has only `step`, `reason`, `error`
     34 | with.text = "{{ failure.eror }} {{ route.title }} {{ steps['slack-notify'].ts }}"
        |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:34:13: `route.on_failure.with.text`: `route` has only `name`
     34 | with.text = "{{ failure.eror }} {{ route.title }} {{ steps['slack-notify'].ts }}"
        |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:34:13: `route.on_failure.with.text`: what step `slack-notify` put out is not known in `on_failure`; `failure` and `event` are
     34 | with.text = "{{ failure.eror }} {{ route.title }} {{ steps['slack-notify'].ts }}"
        |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:37:6: `route.on_failure.id`: the id of the step at routes.toml:33:6 as well; ids are unique in a route
     37 | id = "slack"
        |      ^^^^^^^
    "#);
}

#[test]
fn a_with_is_held_against_the_schema_of_its_instance() {
    let text = r##"
[[route]]
name = "a"
when.type = ["a"]
[[route.step]]
use = "slack"
[[route.step]]
use = "slack"
[route.step.with]
channel = "{{ event.data.title }}"
count = "{{ event.data.payload.count }}"
fields = [{ title = 5 }, { title = "x" }]
texts = "x"
[[route.step]]
use = "fetch"
with.anything = true
[[route.step]]
use = "slak"
"##;
    insta::assert_snapshot!(faults(text, Some(&catalog())), @r#"
    routes.toml:5:1: the input does not fit: `channel`: missing
      5 | [[route.step]]
        | ^^^^^^^^^^^^^^
    routes.toml:12:21: the input does not fit: `fields[0].title`: found 5, expected a string
     12 | fields = [{ title = 5 }, { title = "x" }]
        |                     ^
    routes.toml:13:1: the input does not fit: `texts`: unknown; did you mean `text`?
     13 | texts = "x"
        | ^^^^^
    routes.toml:18:7: `route.step.use`: there is no instance `slak`
     18 | use = "slak"
        |       ^^^^^^
        = did you mean `slack`?
    "#);
    assert_eq!(faults(text, None), "nothing wrong");
}

#[test]
fn what_would_be_as_large_as_an_event_says_is_refused_at_load() {
    let text = r##"
[[route]]
name = "a"
order_by = "{{ event.subject * 2 }}"
when.type = ["a"]
[[route.step]]
use = "slack"
if = "namespace(a=1)"
with.text = "{{ '%s' | format(event.subject) }}"
"##;
    insta::assert_snapshot!(faults(text, None), @r#"
    routes.toml:4:12: `route.order_by`: `event.subject * 2`: `*` would repeat a text or a list as often as an event says, or give as many arguments; numbers are multiplied with `a | times(b)`
      4 | order_by = "{{ event.subject * 2 }}"
        |            ^^^^^^^^^^^^^^^^^^^^^^^^^
    routes.toml:8:6: `route.step.if`: there is no `namespace`
      8 | if = "namespace(a=1)"
        |      ^^^^^^^^^^^^^^^^
    routes.toml:9:13: `route.step.with.text`: `'%s' | format(event.subject)`: there is no filter `format`
      9 | with.text = "{{ '%s' | format(event.subject) }}"
        |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn names_are_unique_over_all_files() {
    let route = "[[route]]\nname = \"a\"\nwhen.type = [\"t\"]\n[[route.step]]\nuse = \"s\"\n";
    let files = ["one.toml", "two.toml"].map(|name| RuleFile {
        name: name.into(),
        text: route.into(),
    });
    let faults = Generation::compile(&files, None).unwrap_err();
    insta::assert_snapshot!(faults, @r#"
    two.toml:2:8: `route.name`: the name of the route at one.toml:2:8 as well; names are unique
      2 | name = "a"
        |        ^^^
    "#);
}

#[test]
fn steps_without_an_id_are_called_by_their_instance() {
    let text = r##"
[[route]]
name = "a"
when.type = ["a"]
[[route.step]]
use = "slack"
[[route.step]]
use = "fetch"
id = "slack-2"
[[route.step]]
use = "slack"
with.text = "{{ steps.slack.ts }}"
[[route.on_failure]]
use = "slack"
with.text = "{{ failure.step | default('?') }}"
[[route.on_failure]]
use = "fetch"
if = "steps['slack-4'].ts is defined"
"##;
    let generation = compile(text);
    let route = generation.find("a").unwrap();
    let ids = |phase| {
        route
            .steps(phase)
            .iter()
            .map(|step| step.id())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(Phase::Steps), ["slack", "slack-2", "slack-3"]);
    assert_eq!(ids(Phase::OnFailure), ["slack-4", "fetch"]);
    assert_eq!(route.steps(Phase::Steps)[1].instance(), "fetch");
}

#[test]
fn retries_are_as_the_step_says() {
    let policy = |retry: &str| {
        let text =
            format!("[[route]]\nname = \"a\"\nwhen.type = [\"a\"]\n[[route.step]]\nuse = \"s\"\n{retry}");
        compile(&text).find("a").unwrap().steps(Phase::Steps)[0]
            .retry()
            .clone()
    };
    assert_eq!(policy(""), RetryPolicy::default());
    let given = policy("retry = { attempts = 3, backoff = \"fixed\", first = \"250ms\", max = \"1m\" }");
    assert_eq!(
        (given.attempts.get(), given.first.as_millis(), given.max.as_secs()),
        (3, 250, 60)
    );
    let long = policy("retry = { first = \"1h\" }");
    assert_eq!((long.first.as_secs(), long.max.as_secs()), (3600, 3600));
}

#[test]
fn an_event_owes_a_delivery_to_each_route_that_it_matches() {
    let text = r##"
[[route]]
name = "by-project"
order_by = "{{ event.data.project.id }}/{{ event.data.payload.n }}"
when.data.project.name = [{ prefix = "Acme" }]
[[route.step]]
use = "commit"

[[route]]
name = "other"
when.type = ["io.zeplin.project.deleted"]
[[route.step]]
use = "slack"

[[route]]
name = "by-payload"
when.data.payload.n = [{ numeric = [">", 5] }]
[[route.step]]
use = "fetch"

[[route]]
name = "without-key"
order_by = "{{ event.data.actor.id }}"
when.type = [{ suffix = ".success" }]
[[route.step]]
use = "slack"
[[route.on_failure]]
use = "mail"
"##;
    let generation = compile(text);
    let payload = Bytes::from_static(br#"{"n": 7}"#);
    let routed = generation
        .route(
            event("io.supernova.job.success"),
            payload.clone(),
            Some("6".into()),
        )
        .unwrap();
    let owed = |route: &str, instance: &str, order| Owed {
        route: route.into(),
        instance: instance.into(),
        on_failure: None,
        order,
        line: Line::default(),
        deadline: Ok(None),
    };
    let reason = "route `without-key`, `order_by`: `event.data` has no `actor`";
    assert_eq!(
        routed.owed(),
        [
            owed("by-project", "commit", Ok(Some("2/7".into()))),
            owed("by-payload", "fetch", Ok(None)),
            Owed {
                on_failure: Some("mail".into()),
                ..owed("without-key", "slack", Err(reason.into()))
            },
        ]
    );
    assert_eq!((routed.payload(), routed.dedup()), (&payload, Some("6")));
    assert_eq!(routed.generation(), generation.id());
    let none = generation
        .route(event("x"), Bytes::from_static(br#"{"n":1}"#), None)
        .unwrap();
    assert_eq!(none.owed().len(), 1);
    assert!(
        generation
            .route(event("x"), Bytes::from_static(b"{\"n\":"), None)
            .is_err()
    );
}

/// Who sends an event must not be able to make its templates endless: `order_by` and `deadline` are rendered before it is stored.
#[test]
fn what_an_event_makes_too_large_is_an_error_of_its_route() {
    let text = r##"
[[route]]
name = "long"
order_by = "{{ event.data.payload.text | replace('a', event.data.payload.text) }}"
deadline = "{{ event.data.payload.text | replace('', event.data.payload.text) }}"
when.type = ["a"]
[[route.step]]
use = "slack"
"##;
    let payload = serde_json::to_vec(&json!({ "text": "a".repeat(100_000) })).unwrap();
    let routed = compile(text).route(event("a"), payload.into(), None).unwrap();
    let [owed] = routed.owed() else {
        panic!("one route")
    };
    let too_much = "the template does too much work, more than 500000 steps, of which every 64 bytes of text that it makes are \
        one; cut long texts with `truncate`, or loop over less";
    assert_eq!(owed.order, Err(format!("route `long`, `order_by`: {too_much}")));
    assert_eq!(
        owed.deadline,
        Err(format!("route `long`, `deadline`: {too_much}"))
    );
}

/// TOML has no null.
#[test]
fn null_is_matched_through_when_json_alone() {
    let route = |pattern: &str| format!("[[route]]\nname = \"r\"\n{pattern}\n[[route.step]]\nuse = \"s\"\n");
    let generation = compile(&route(
        r#"when_json = '{ "data": { "payload": { "closed": [null] } } }'"#,
    ));
    let owed = |payload: &'static str| {
        let routed = generation.route(event("a"), Bytes::from_static(payload.as_bytes()), None);
        routed.unwrap().owed().len()
    };
    assert_eq!(owed(r#"{"closed": null}"#), 1);
    assert_eq!(owed(r#"{"closed": [7, null]}"#), 1);
    for other in [
        r#"{"closed": "null"}"#,
        r#"{"closed": false}"#,
        r#"{"closed": []}"#,
        "{}",
    ] {
        assert_eq!(owed(other), 0, "{other}");
    }
    // A text of that name is another value, and the bare word is no TOML.
    let text = compile(&route("when.data.payload.closed = [\"null\"]"));
    let routed = text.route(event("a"), Bytes::from_static(br#"{"closed": null}"#), None);
    assert_eq!(routed.unwrap().owed().len(), 0);
    let bare = faults(&route("when.data.payload.closed = [null]"), None);
    assert!(bare.contains("routes.toml:3:29"), "{bare}");
}

#[test]
fn a_payload_that_no_pattern_looks_into_is_not_read() {
    let generation = compile("[[route]]\nname = \"a\"\nwhen.type = [\"a\"]\n[[route.step]]\nuse = \"s\"\n");
    let routed = generation
        .route(event("a"), Bytes::from_static(b"not read"), None)
        .unwrap();
    assert_eq!(routed.owed().len(), 1);
}

#[test]
fn a_stored_generation_is_the_same() {
    let generation = compile(RULES);
    let again = Generation::from_stored(generation.text()).unwrap();
    assert_eq!(again.id(), generation.id());
    assert_eq!(again.text(), generation.text());
    assert_eq!(again.routes().len(), generation.routes().len());
    assert!(compile(&format!("{RULES}\n# edited")).id() != generation.id());
    assert!(Generation::from_stored("[]").is_err());
}

#[test]
fn a_step_is_found_and_rendered() {
    let text = r##"
[[route]]
name = "a"
when.type = ["a"]
[[route.step]]
use = "slack"
if = "event.data.outcome == 'success'"
with = { channel = "#{{ event.data.project.id }}", url = "{{ event.data.artifacts[0].url }}", n = "{{ event.data.payload.n }}" }
"##;
    let generation = compile(text);
    let step = &generation.find("a").unwrap().steps(Phase::Steps)[0];
    let event = event("a");
    let json = join_payload(event.to_json(), br#"{"n":[1,"\ud83d"]}"#).unwrap();
    let delivery = jackfield_event::DeliveryId::new(event.time, 0);
    let context = Context::new("a", delivery, &[json.into()], &BTreeMap::new(), None).unwrap();
    assert_eq!(step.enabled(&context), Ok(true));
    let expected = json!({ "channel": "#2", "url": "https://a.example/1", "n": [1, "\u{fffd}"] });
    assert_eq!(step.render(&context, None), Ok(expected));
    let Some(Ok(schema)) = Some(Schema::compile(
        json!({ "properties": { "n": { "type": "integer" } } }),
    )) else {
        unreachable!()
    };
    let error = step.render(&context, Some(&schema)).unwrap_err();
    assert!(matches!(error, RenderError::Input { .. }), "{error}");
}

#[test]
fn explanations_name_the_first_clause_that_failed() {
    let text = r##"
[[route]]
name = "matches"
when.type = ["io.supernova.job.success"]
[[route.step]]
use = "s"

[[route]]
name = "case"
when.data.outcome = ["Success"]
when.type = ["io.supernova.job.success"]
[[route.step]]
use = "s"

[[route]]
name = "nothing-there"
when.data.actor.id = [{ exists = true }]
[[route.step]]
use = "s"

[[route]]
name = "object"
when.data.project = ["Acme"]
[[route.step]]
use = "s"

[[route]]
name = "payload"
when.data.payload.labels.name = ["bug"]
when.data.payload.labels.color = ["blue"]
[[route.step]]
use = "s"

[[route]]
name = "kind"
when.data.payload.n = ["7"]
[[route.step]]
use = "s"

[[route]]
name = "or"
when.type = ["io.supernova.job.success"]
when."$or" = [{ data.title = ["x"] }, { verified = [{ anything-but = "path-token" }] }]
[[route.step]]
use = "s"
"##;
    let generation = compile(text);
    let payload =
        br#"{"n": 7, "labels": [{"name": "bug", "color": "red"}, {"name": "idea", "color": "blue"}]}"#;
    let event = join_payload(event("io.supernova.job.success").to_json(), payload).unwrap();
    let shown: Vec<_> = generation
        .explain(&event)
        .unwrap()
        .iter()
        .map(|explanation| match &explanation.failed {
            None => format!("{}: {}", explanation.route, explanation.matched),
            Some(failed) => format!(
                "{}: {} {:?}, not {:?}; {}",
                explanation.route,
                failed.path,
                failed.actual.join(" "),
                failed.expected.join(" "),
                failed.hint.as_deref().unwrap_or("no hint")
            ),
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    matches: true
    case: data.outcome "\"success\"", not "\"Success\""; only the case differs; `equals-ignore-case` ignores it
    nothing-there: data.actor.id "", not "{\"exists\":true}"; `data` has no `actor`
    object: data.project "", not "\"Acme\""; `data.project` is an object; a pattern looks at the values in it
    payload: data.payload.labels.name "\"bug\" \"idea\"", not "\"bug\""; a value fits, but in another element of a list than the clauses before it
    kind: data.payload.n "7", not "\"7\""; the event has a number, the pattern asks for a string
    or: verified "\"path-token\"", not "{\"anything-but\":[\"path-token\"]}"; the value is one of those that `anything-but` excludes
    "#);
}

#[test]
fn a_deadline_is_told_before_the_commit_or_why_not() {
    #[track_caller]
    fn check(deadline: &str, expected: Result<Option<&str>, &str>) {
        let text = format!(
            "[[route]]\nname = \"r\"\ndeadline = {deadline}\nwhen.type = [\"x\"]\n[[route.step]]\nuse = \"s\"\n"
        );
        let routed = compile(&text)
            .route(event("x"), Bytes::from_static(br#"{"n": 7}"#), None)
            .unwrap();
        let owed = routed.into_parts().owed.remove(0);
        let found = owed
            .deadline
            .map(|deadline| deadline.map(|deadline| deadline.to_string()));
        let found = found
            .as_ref()
            .map(|deadline| deadline.as_deref())
            .map_err(String::as_str);
        assert_eq!(found, expected);
    }
    check("\"24h\"", Ok(Some("86400s after the arrival")));
    check("\"{{ event.time }}\"", Ok(Some("2026-01-01T00:00:00Z")));
    check(
        "\"{{ event.data.payload.n }}m\"",
        Ok(Some("420s after the arrival")),
    );
    check(
        "\"{{ event.data.artifacts[7].expires | default('') }}\"",
        Ok(None),
    );
    check(
        "\"{{ event.data.artifacts[7].expires }}\"",
        Err("route `r`, `deadline`: `event.data.artifacts` has no element 7"),
    );
    check(
        "\"{{ event.data.title }}\"",
        Err(
            "route `r`, `deadline`: found \"Tokens\", expected an RFC 3339 time such as 2026-01-01T00:00:00Z, a time after the arrival such as 24h, or nothing",
        ),
    );
}

#[test]
fn a_deadline_that_is_no_time_is_an_error_at_load() {
    let text = "[[route]]\nname = \"r\"\ndeadline = \"2026-01-02T00:00:00Z\"\nwhen.type = [\"x\"]\n[[route.step]]\nuse = \"s\"\n";
    insta::assert_snapshot!(faults(text, None), @r#"
    routes.toml:3:12: `route.deadline`: found "2026-01-02T00:00:00Z", expected a template, or a time such as "24h"
      3 | deadline = "2026-01-02T00:00:00Z"
        |            ^^^^^^^^^^^^^^^^^^^^^^
        = for example "{{ event.data.artifacts[0].expires | default('24h') }}"
    "#);
}
