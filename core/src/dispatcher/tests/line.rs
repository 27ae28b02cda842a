//! Bursts, newer deliveries and stuck heads, from the rule to the plugin.

use super::*;

/// A route with one step at `a`, which is told what it sees, and these keys.
fn rules(keys: &str) -> String {
    format!(
        r#"
[[route]]
name = "r"
order_by = "{{{{ event.data.project.id }}}}"
{keys}
when.type = ["x"]
[[route.step]]
use = "a"
retry = {{ attempts = 3, backoff = "fixed", first = "1m" }}
with = {{ of = "{{{{ event.data.project.id }}}}", count = "{{{{ events | length }}}}" }}
[[route.on_failure]]
use = "b"
with.text = "{{{{ failure.reason }}}}"
"#
    )
}

fn reasons(stories: &[DeliveryStory]) -> Vec<Option<Reason>> {
    stories.iter().map(|story| story.record.reason).collect()
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_call_that_sees_all_of_it() {
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(
        &rules("coalesce = { window = \"30s\", keep = \"all\" }"),
        [("a", 1, Arc::clone(&a))],
    );
    for _ in 0..20 {
        stage.accept("p").await;
    }
    stage.accept("q").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded; 2]);
    let mut inputs = a.inputs();
    inputs.sort_by_key(|input| input["of"].to_string());
    assert_eq!(
        inputs,
        [
            json!({ "of": "p", "count": 20 }),
            json!({ "of": "q", "count": 1 })
        ]
    );
    let waited = stories[0].attempts[0]
        .started
        .saturating_since(stories[0].record.created);
    assert!(waited >= Duration::from_secs(30), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn coalesce_and_restart_a_burst_outlives_the_router() {
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(
        // Far longer than the clock leaps until the other router is there.
        &rules("coalesce = { window = \"1h\" }"),
        [("a", 1, Arc::clone(&a))],
    );
    stage.accept("p").await;
    // It has been seen by a dispatcher, and is not over.
    stage
        .until(|stories| reasons(stories) == [Some(Reason::Coalescing)])
        .await;
    let mut stage = stage.die_and_rise().await;
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!(stories[0].record.events.len(), 2);
    assert_eq!(
        a.inputs(),
        [json!({ "of": "p", "count": 1 })],
        "the newest alone is kept"
    );
}

#[tokio::test(start_paused = true)]
async fn coalesce_and_dedup_a_redelivery_prolongs_no_burst() {
    let a = Played::new(|_| report(Outcome::Done));
    let rules = rules("coalesce = { window = \"1h\", keep = \"all\" }");
    let mut stage = Stage::set(&rules, [("a", 1, Arc::clone(&a))]);
    let first = stage.deliver("p", Some("1")).await;
    let due = stage.stories().await[0].record.due;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let again = stage.deliver("p", Some("1")).await;
    assert!(again.is_duplicate() && again.event() == first.event());
    assert_eq!(stage.stories().await[0].record.due, due);
    stage.settle().await;
    assert_eq!(a.inputs(), [json!({ "of": "p", "count": 1 })]);
}

#[tokio::test(start_paused = true)]
async fn dedup_and_retry_a_redelivery_owes_nothing_while_the_first_is_tried_again() {
    let a = Played::new(|call| match call.attempt {
        1 | 2 => failed(Outcome::Retry, "not yet"),
        _ => report(Outcome::Done),
    });
    let mut stage = Stage::set(&rules(""), [("a", 1, Arc::clone(&a))]);
    stage.deliver("p", Some("1")).await;
    stage
        .until(|stories| stories[0].record.state == State::Waiting)
        .await;
    assert!(stage.deliver("p", Some("1")).await.is_duplicate());
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    let keys: Vec<_> = a
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(|call| call.idempotency_key.clone())
        .collect();
    assert!(
        keys.len() == 3 && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
    // Once it is done, it is still no news.
    assert!(stage.deliver("p", Some("1")).await.is_duplicate());
}

#[tokio::test(start_paused = true)]
async fn supersede_and_back_off_a_newer_one_replaces_what_rests() {
    let a = Played::new(|call| match call.attempt {
        1 if call.event.windows(9).any(|bytes| bytes == b"\"broken-1") => failed(Outcome::Retry, "not yet"),
        _ => report(Outcome::Done),
    });
    let text = rules("supersede = true").replace("{{ event.data.project.id }}\"\nsuper", "all\"\nsuper");
    let mut stage = Stage::set(
        &text,
        [
            ("a", 1, Arc::clone(&a)),
            ("b", 1, Played::new(|_| report(Outcome::Done))),
        ],
    );
    stage.accept("broken-1").await;
    stage
        .until(|stories| stories[0].record.state == State::Waiting)
        .await;
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Superseded, State::Succeeded]);
    assert_eq!(stories[0].record.successor, Some(stories[1].record.id));
    let asked: Vec<_> = a.inputs().iter().map(|input| input["of"].clone()).collect();
    assert_eq!(asked, ["broken-1", "p"]);
}

#[tokio::test(start_paused = true)]
async fn order_key_and_dead_letter_the_line_goes_on_or_is_held_up() {
    let fatal = || {
        Played::new(
            |call| match call.event.windows(4).any(|bytes| bytes == b"\"bad") {
                true => failed(Outcome::Fatal, "no"),
                false => report(Outcome::Done),
            },
        )
    };
    for (keys, expected) in [
        ("", [State::Dead, State::Succeeded]),
        ("on_stuck = \"go-on\"", [State::Dead, State::Succeeded]),
        ("on_stuck = \"hold\"", [State::Dead, State::Pending]),
    ] {
        let b = Played::new(|_| report(Outcome::Done));
        let text = rules(keys).replace("order_by = \"{{ event.data.project.id }}\"", "order_by = \"all\"");
        let mut stage = Stage::set(&text, [("a", 1, fatal()), ("b", 1, Arc::clone(&b))]);
        stage.accept("bad").await;
        stage.accept("good").await;
        let stories = stage.until(|stories| states(stories) == expected).await;
        // Somebody was told, in any case.
        assert_eq!(b.inputs(), [json!({ "text": "plugin-fatal" })], "{keys}");
        assert_eq!(stories[0].record.held, expected[1] == State::Pending, "{keys}");
        if stories[0].record.held {
            stage.journal.skip(stories[0].record.id).await.unwrap();
            assert_eq!(states(&stage.settle().await), [State::Dead, State::Succeeded]);
        }
    }
}
