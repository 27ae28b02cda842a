//! What is said of what became of a route, over a real journal.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    delivery::{Coalesce, Keep, Line, Outcome, State},
    journal::{
        Arrival, AttemptStart, Begun, Bound, EventFilter, Failure, Kept, Next, Retention, StepEnd,
        contract::{Bench, arrival, at, end, owed, start},
    },
    rate::Rate,
    router::Owed,
};

/// Rules of which each route matches what arrives in tests.
fn rules(routes: &[&str]) -> Generation {
    let route = |name: &&str| {
        format!(
            "[[route]]\nname = \"{name}\"\nwhen.provider = [\"zeplin\"]\n[[route.step]]\nuse = \"slack\"\n"
        )
    };
    compiled(&routes.iter().map(route).collect::<String>())
}

fn compiled(text: &str) -> Generation {
    let (name, text) = ("routes.toml".to_owned(), text.to_owned());
    Generation::compile(&[RuleFile { name, text }], None).unwrap()
}

/// What is owed to a route, at an instance of its own.
fn of(route: &str, line: Line) -> Owed {
    Owed {
        line,
        ..owed(route, route, Some("7"))
    }
}

fn burst(keep: Keep) -> Line {
    Line {
        coalesce: Some(Coalesce {
            window: Duration::from_secs(10),
            max_wait: Duration::from_secs(30),
            max_items: 3.try_into().unwrap(),
            keep,
        }),
        ..Line::default()
    }
}

fn superseding() -> Line {
    Line {
        supersede: true,
        ..Line::default()
    }
}

/// A route by the name of what its delivery comes to, and its line.
type Fate = (&'static str, fn() -> Line);

const FATES: [Fate; 11] = [
    ("done", Line::default),
    ("rated", Line::default),
    ("parked", Line::default),
    ("quarantined", Line::default),
    ("condition", Line::default),
    ("unneeded", Line::default),
    ("on-failure", Line::default),
    ("superseded", superseding),
    ("newest", || burst(Keep::Newest)),
    ("all", || burst(Keep::All)),
    ("gathering", || burst(Keep::Newest)),
];

/// An event whose deliveries met all of these, and the one that came after it.
async fn met(bench: &Bench<'_>) -> [EventId; 2] {
    let owed = |routes: &[Fate]| routes.iter().map(|(route, line)| of(route, line())).collect();
    let first = bench.append(arrival(0, Some("key"), owed(&FATES))).await;
    let [done, rated, parked, quarantined, condition, unneeded, failed, ..] = *first.deliveries() else {
        panic!("eleven are owed: {first:?}");
    };
    bench
        .claim_as("me", 0, 100, &["superseded", "newest", "all", "gathering"])
        .await;
    let journal = &*bench.journal;
    let settle = |state, failure| Next::Settle { state, failure };
    let succeeded = || settle(State::Succeeded, None);
    let ended = |delivery, phase, attempt, outcome, reason, message: &str, next| StepEnd {
        reason: Some(reason),
        message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        ..end(delivery, phase, 0, attempt, outcome, next)
    };
    let begun = |delivery| AttemptStart {
        bounds: vec![Bound {
            bucket: "slack".into(),
            rate: Rate::parse("1/10s"),
            full: false,
        }],
        ..start(delivery, Phase::Steps, 0, 1)
    };

    assert_eq!(journal.begin(begun(done)).await.unwrap(), Begun::Now);
    let end = end(done, Phase::Steps, 0, Some(1), Outcome::Done, succeeded());
    journal.end(end).await.unwrap();
    assert!(matches!(
        journal.begin(begun(rated)).await.unwrap(),
        Begun::Later { .. }
    ));
    let why = "the instance `parked` is parked: its plugin was removed".to_owned();
    let wait = Some((at(60), Reason::InstanceParked, why));
    journal.release(parked, "me", wait).await.unwrap();

    journal
        .begin(start(quarantined, Phase::Steps, 0, 1))
        .await
        .unwrap();
    let died = "the worker died of signal 11";
    let failure = Failure {
        step: Some("step-0".into()),
        reason: Reason::Quarantined,
        error: died.to_owned(),
    };
    let next = settle(State::Dead, Some(failure.clone()));
    let (fatal, steps) = (Outcome::Fatal, Phase::Steps);
    let end = ended(
        quarantined,
        steps,
        Some(1),
        fatal,
        Reason::Quarantined,
        died,
        next,
    );
    journal.end(end).await.unwrap();

    let is_false = Reason::ConditionFalse;
    let end = ended(
        condition,
        steps,
        None,
        Outcome::Skipped,
        is_false,
        "",
        succeeded(),
    );
    journal.end(end).await.unwrap();
    journal.begin(start(unneeded, Phase::Steps, 0, 1)).await.unwrap();
    let skipped = Reason::PluginSkipped;
    let end = ended(
        unneeded,
        steps,
        Some(1),
        Outcome::Skipped,
        skipped,
        "nothing changed",
        succeeded(),
    );
    journal.end(end).await.unwrap();

    journal.begin(start(failed, Phase::Steps, 0, 1)).await.unwrap();
    let next = Next::OnFailure {
        failure: Failure {
            reason: Reason::PluginFatal,
            error: "it broke".into(),
            ..failure
        },
        instance: "slack".into(),
    };
    let end = ended(
        failed,
        steps,
        Some(1),
        fatal,
        Reason::PluginFatal,
        "it broke",
        next,
    );
    journal.end(end).await.unwrap();
    let dead = settle(State::Dead, None);
    let end = ended(
        failed,
        Phase::OnFailure,
        None,
        Outcome::Skipped,
        is_false,
        "",
        dead,
    );
    journal.end(end).await.unwrap();

    // Two more of what is superseded or full then, and one of what goes on gathering.
    let second = bench.append(arrival(1, None, owed(&FATES[7..]))).await;
    bench.append(arrival(2, None, owed(&FATES[7..10]))).await;
    for _ in 0..2 {
        assert!(
            bench
                .append(arrival(3, Some("key"), owed(&FATES)))
                .await
                .is_duplicate()
        );
    }
    [first.event(), second.event()]
}

/// The words, with other names for what has another one each time.
async fn told(bench: &Bench<'_>, generation: &Generation, event: EventId) -> String {
    let explained = of_stored(event, &*bench.journal, generation).await.unwrap();
    let words: Vec<_> = words(&explained)
        .split_inclusive([' ', '\n', ','])
        .map(|word| match word.get(..4) {
            Some(kind @ ("dlv_" | "evt_")) => format!(
                "{kind}…{}",
                word.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
            ),
            _ => word.to_owned(),
        })
        .collect();
    words.concat()
}

#[tokio::test]
async fn it_is_said_why_a_route_that_matches_did_nothing() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(&place).await;
    let [first, second] = met(&bench).await;
    let names = FATES.iter().map(|(route, _)| *route).chain(["newer"]);
    let generation = rules(&names.collect::<Vec<_>>());
    insta::assert_snapshot!(told(&bench, &generation, first).await, @r"
    note: it came 2 more times, for which nothing more is owed (duplicate)
    matches     done
                  dlv_… succeeded
    matches     rated
                  dlv_… waiting: rate-limited (`slack` takes 1 call in 10s)
    matches     parked
                  dlv_… waiting: instance-parked (the instance `parked` is parked: its plugin was removed)
    matches     quarantined
                  dlv_… dead: quarantined (the worker died of signal 11)
    matches     condition
                  dlv_… succeeded
                    step `step-0` skipped: condition-false
    matches     unneeded
                  dlv_… succeeded
                    step `step-0` skipped: plugin-skipped (nothing changed)
    matches     on-failure
                  dlv_… dead: plugin-fatal (it broke)
                    on failure, step `step-0` skipped: condition-false
    matches     superseded
                  dlv_… superseded: superseded, by dlv_…
    matches     newest
                  dlv_… pending
                    3 events in one (coalesced); its steps see the newest alone, evt_…
    matches     all
                  dlv_… pending
                    3 events in one (coalesced); its steps see all
    matches     gathering
                  dlv_… waiting: coalescing
                    2 events in one (coalescing); its steps see the newest alone
    matches     newer
                  other-rules (owed nothing when it came: other rules were in force then; `jackfield replay evt_…` routes it again)
    ");
    // The older events of a burst are told which one took their place.
    insta::assert_snapshot!(told(&bench, &rules(&["newest"]), second).await, @r"
    matches     newest
                  dlv_… pending
                    3 events in one (coalesced); its steps see the newest alone, evt_…
    ");
    let newest = bench.journal.events(EventFilter::default()).await.unwrap()[0].id;
    let explained = of_stored(first, &*bench.journal, &generation).await.unwrap();
    let burst = explained[8].deliveries[0].record.id;
    let shown = show::delivery(&bench.journal.delivery(burst).await.unwrap().unwrap());
    let line = format!("gathered    3 events in one (coalesced); its steps see the newest alone, {newest}\n");
    assert!(shown.contains(&line), "{shown}");
    let json = serde_json::to_value(&explained).unwrap();
    for (pointer, expected) in [
        ("/0/duplicates", json!(2)),
        ("/0/deliveries/0/skipped", Value::Null),
        ("/1/deliveries/0/reason", json!("rate-limited")),
        ("/2/deliveries/0/reason", json!("instance-parked")),
        ("/3/deliveries/0/failure/reason", json!("quarantined")),
        (
            "/4/deliveries/0/skipped",
            json!([{ "phase": "steps", "step": "step-0", "reason": "condition-false" }]),
        ),
        ("/5/deliveries/0/skipped/0/message", json!("nothing changed")),
        ("/6/deliveries/0/skipped/0/phase", json!("on-failure")),
        ("/7/deliveries/0/reason", json!("superseded")),
        (
            "/8/deliveries/0/gathered",
            json!({ "reason": "coalesced", "events": 3, "keep": "newest", "seen": newest.to_string() }),
        ),
        (
            "/9/deliveries/0/gathered",
            json!({ "reason": "coalesced", "events": 3, "keep": "all" }),
        ),
        ("/10/deliveries/0/gathered/reason", json!("coalescing")),
        ("/11/idle/reason", json!("other-rules")),
        ("/11/duplicates", Value::Null),
    ] {
        let found = json.pointer(pointer).unwrap_or(&Value::Null);
        assert_eq!(*found, expected, "{pointer}");
    }
}

#[tokio::test]
async fn of_an_event_that_retention_was_at_it_is_said_what_cannot_be_known() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new(&place).await;
    let generation = compiled(PAYLOAD_RULES);
    bench
        .journal
        .store_rules(generation.id(), PAYLOAD_RULES)
        .await
        .unwrap();
    let plain = arrival(0, None, Vec::new());
    let event = plain.routed.into_parts().event;
    let routed = generation.route(event, "{\"kind\":\"y\"}".into(), None).unwrap();
    assert!(routed.owed().is_empty());
    let sent = Arrival {
        routed,
        ..arrival(0, None, Vec::new())
    };
    let event = bench.append(sent).await.event();
    // The numbers go on from it, so that it stays.
    bench.append(arrival(9_000_000, None, Vec::new())).await;
    let ages = Retention {
        payloads: Duration::ZERO,
        ..Retention::default()
    };
    bench.prune(10, &ages).await;
    insta::assert_snapshot!(told(&bench, &generation, event).await, @r#"
    note: its payload is no longer kept (`payloads` in `[retention]` says how long), so that no clause on `data.payload` can be held against it
    does not    asks
                  data.payload.kind: expected "x", found nothing
                  its payload is no longer kept (`payloads` in `[retention]` says how long)
    does not    title
                  data.title: expected "a screen", found "A screen"
                  only the case differs; `equals-ignore-case` ignores it
    matches     without
                  owed nothing when it came: it matches only without its payload
    "#);
    let explained = of_stored(event, &*bench.journal, &generation).await.unwrap();
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json[0]["missing"], Kept::WithoutPayload.missing().unwrap());

    let ages = Retention {
        events: Duration::ZERO,
        ..ages
    };
    bench.prune(10, &ages).await;
    let error = of_stored(event, &*bench.journal, &generation).await.unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "{event} cannot be explained: the event is no longer kept (`events` in `[retention]` says how long)"
        )
    );
}

/// A route that looks into the payload, one that looks elsewhere, and one that matches where there is no payload.
const PAYLOAD_RULES: &str = r#"
[[route]]
name = "asks"
when.data.payload.kind = ["x"]
[[route.step]]
use = "slack"

[[route]]
name = "title"
when.data.title = ["a screen"]
[[route.step]]
use = "slack"

[[route]]
name = "without"
when.data.payload.kind = [{ exists = false }]
[[route.step]]
use = "slack"
"#;
