use std::{cell::Cell, time::Duration};

use hyper::{Method, StatusCode, header::AUTHORIZATION};
use jackfield::schema::Schema;
use jackfield_sdk::testing::{Call, Code, Ended, Harness, HostCall, Report, TestHost, library};
use jackfield_stage::{
    again::again,
    http::{self, Server},
    slack::{BOT_TOKEN, Posted, Slack, Trouble, WEBHOOK_PATH},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const KEY: &str = "dlv_1/announce";
const CHANNEL: &str = "C0123ABCD";
const PERSON: &str = "U0123ABCD";

/// Slack and the router's memory; instances come and go.
struct World {
    slack: Slack,
    host: TestHost,
}

impl World {
    async fn new() -> Self {
        Self {
            slack: Slack::start().await.unwrap(),
            host: TestHost::new(),
        }
    }

    async fn bot(&self) -> Harness<SlackNotify> {
        self.bot_with(json!({})).await
    }

    async fn bot_with(&self, more: Value) -> Harness<SlackNotify> {
        let mut config = json!({ "bot_token": BOT_TOKEN, "api": self.slack.api() });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Harness::start_on(&self.host, config).await.unwrap()
    }

    async fn webhook(&self) -> Harness<SlackNotify> {
        Harness::start_on(&self.host, json!({ "webhook_url": self.slack.webhook() }))
            .await
            .unwrap()
    }

    fn intended(&self, intent: Value) {
        self.host.set_receipt(KEY, Receipt::Intended(intent));
    }

    fn posted(&self) -> usize {
        self.slack.posted().len()
    }

    /// Posts something that is not ours.
    async fn chatter(&self, messages: usize) {
        let address = self
            .slack
            .api()
            .strip_prefix("http://")
            .unwrap()
            .strip_suffix("/api")
            .unwrap()
            .parse()
            .unwrap();
        for number in 0..messages {
            let body = json!({ "channel": CHANNEL, "text": format!("chatter {number}") });
            let token = [(AUTHORIZATION, format!("Bearer {BOT_TOKEN}").parse().unwrap())]
                .into_iter()
                .collect();
            http::send(
                address,
                Method::POST,
                "/api/chat.postMessage",
                &token,
                body.to_string(),
            )
            .await
            .unwrap();
        }
    }
}

fn call(input: Value) -> Call {
    Call::new(input).key(KEY)
}

fn message() -> Call {
    call(json!({ "channel": CHANNEL, "text": "Tokens &amp; icons" }))
}

/// As an attempt leaves it that was killed after its intent.
fn bot_intent(in_flight: bool) -> Value {
    json!({ "by": "bot", "since": now(), "channel": CHANNEL, "in_flight": in_flight })
}

fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is compared with the stand-in's clock"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[track_caller]
fn ended(report: &Report, outcome: Ended, words: &str) {
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert!(
        report.message.contains(words),
        "{report:?} should contain {words}"
    );
    assert!(
        !report.message.contains(BOT_TOKEN) && !report.message.contains(WEBHOOK_PATH),
        "{report:?}"
    );
}

/// An address where nobody listens.
async fn nobody() -> String {
    format!(
        "http://{}",
        TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    )
}

#[tokio::test]
async fn a_bot_posts_with_the_steps_key_in_the_metadata() {
    let world = World::new().await;
    let output = world.bot().await.call(message()).await.done();
    let posted = &world.slack.posted()[0];
    assert_eq!(
        output,
        json!({ "channel": CHANNEL, "ts": posted.ts, "duplicate": false })
    );
    let metadata = json!({
        "event_type": "jackfield_delivery",
        "event_payload": { "idempotency_key": KEY, "delivery": "dlv_0000000000000000000000test" }
    });
    let body = json!({ "channel": CHANNEL, "text": "Tokens &amp; icons", "link_names": false, "metadata": metadata });
    assert_eq!(posted.body, body);
    assert_eq!(
        world.host.receipt(KEY),
        Receipt::Done(json!({ "channel": CHANNEL, "ts": posted.ts }))
    );
    assert_eq!(world.slack.reads(), 0, "there was nothing to look for");
}

#[tokio::test]
async fn all_that_a_step_says_reaches_slack() {
    let world = World::new().await;
    let input = json!({
        "channel": CHANNEL, "text": "t", "blocks": [{ "type": "divider" }], "thread_ts": "1.2", "reply_broadcast": true,
        "username": "Tokens", "icon_emoji": ":art:", "unfurl_links": false, "unfurl_media": false
    });
    world.bot().await.call(call(input.clone())).await.done();
    let body = world.slack.posted()[0].body.clone();
    for (key, value) in input.as_object().unwrap() {
        assert_eq!(&body[key], value, "{key}");
    }
}

#[tokio::test]
async fn a_bot_that_is_canceled_anywhere_has_posted_once_after_the_next_attempt() {
    if library().is_some() {
        return;
    }
    let world = World::new().await;
    let bot = world.bot().await;
    let posts_of = |key: &str| {
        let posted = world.slack.posted();
        let of_key = |post: &&Posted| post.body["metadata"]["event_payload"]["idempotency_key"] == key;
        posted.iter().filter(of_key).count()
    };
    let (times, undisturbed) = bot
        .cancel_at_each_await(message(), async |cut| {
            let before = posts_of(cut.key());
            let output = bot.call(cut.again()).await.done();
            assert_eq!(posts_of(cut.key()), 1);
            assert_eq!(output["duplicate"] == true, before == 1, "{output}");
        })
        .await;
    assert_eq!(undisturbed.done()["duplicate"], false);
    assert!(
        times > 4,
        "receipt, intent, a connection, an answer, receipt: {times}"
    );
}

#[tokio::test]
async fn a_webhook_that_is_canceled_anywhere_never_posts_twice() {
    if library().is_some() {
        return;
    }
    let world = World::new().await;
    let webhook = world.webhook().await;
    let before = Cell::new(0);
    let (times, undisturbed) = webhook
        .cancel_at_each_await(call(json!({ "text": "once" })), async |cut| {
            let again = webhook.call(cut.again()).await;
            let posted = world.posted() - before.replace(world.posted());
            match again.outcome {
                Ended::Done => assert_eq!(posted, 1),
                // It may have been posted before it was canceled, and a person decides.
                outcome => assert!(outcome == Ended::Ambiguous && posted <= 1, "{again:?}: {posted}"),
            }
        })
        .await;
    assert_eq!(
        (undisturbed.outcome, world.posted()),
        (Ended::Done, before.get() + 1)
    );
    assert!(times > 4, "{times}");
}

#[tokio::test]
async fn an_attempt_after_a_receipt_posts_nothing() {
    let world = World::new().await;
    let first = world.bot().await.call(message()).await.done();
    let mut second = world.bot().await.call(message().attempt(2)).await.done();
    assert_eq!(second["duplicate"].take(), json!(true));
    assert_eq!(second["ts"], first["ts"]);
    assert_eq!((world.posted(), world.slack.reads()), (1, 0));
}

#[tokio::test]
async fn a_bot_that_was_killed_before_the_answer_finds_its_message() {
    for input in [
        json!({ "channel": CHANNEL, "text": "by id" }),
        json!({ "channel": "#design-system", "text": "by name" }),
        json!({ "channel": "design-system", "text": "by a name without its mark" }),
        json!({ "channel": CHANNEL, "text": "in a thread", "thread_ts": "1700000000.000001" }),
        json!({ "channel": PERSON, "text": "to a person" }),
    ] {
        let world = World::new().await;
        let bot = world.bot().await;
        world.slack.withhold().close();
        let running = bot.begin(call(input.clone()));
        world.slack.withhold().arrival().await;
        bot.crash().await;
        drop(running);
        world.slack.withhold().open();

        let output = world
            .bot()
            .await
            .call(call(input.clone()).attempt(2))
            .await
            .done();
        assert_eq!(output["duplicate"], true, "{input}");
        assert_eq!(output["ts"], world.slack.posted()[0].ts, "{input}");
        assert_eq!(world.posted(), 1, "{input}");
        assert!(matches!(world.host.receipt(KEY), Receipt::Done(_)), "{input}");
    }
}

#[tokio::test]
async fn a_bot_that_was_killed_before_the_post_posts() {
    let world = World::new().await;
    world.chatter(3).await;
    world.intended(bot_intent(true));
    let output = world.bot().await.call(message().attempt(2)).await.done();
    assert_eq!(output["duplicate"], false);
    assert_eq!((world.posted(), world.slack.reads()), (4, 1));
}

#[tokio::test]
async fn a_bot_whose_receipt_was_not_kept_finds_its_message() {
    let world = World::new().await;
    let bot = world.bot().await;
    world.host.fail(HostCall::Record, 1);
    assert_eq!(bot.call(message()).await.outcome, Ended::Retry);
    assert_eq!(world.posted(), 1);
    assert_eq!(bot.call(message().attempt(2)).await.done()["duplicate"], true);
    assert_eq!(world.posted(), 1);
}

#[tokio::test]
async fn nothing_is_posted_before_the_intent_is_kept() {
    let world = World::new().await;
    for (harness, call) in [
        (world.bot().await, message()),
        (world.webhook().await, call(json!({ "text": "t" }))),
    ] {
        world.host.hold(HostCall::Intend);
        let running = harness.begin(call);
        world.host.held(HostCall::Intend, 1).await;
        harness.crash().await;
        drop(running);
        assert_eq!(world.posted(), 0);
    }
}

#[tokio::test]
async fn a_bots_time_out_is_looked_into_by_the_next_attempt() {
    let world = World::new().await;
    let bot = world.bot_with(json!({ "timeout": "200ms" })).await;
    world.slack.withhold().close();
    ended(
        &bot.call(message()).await,
        Ended::Retry,
        "chat.postMessage got no answer",
    );
    world.slack.withhold().open();
    assert_eq!(bot.call(message().attempt(2)).await.done()["duplicate"], true);
    assert_eq!(world.posted(), 1);
}

#[tokio::test]
async fn the_search_goes_through_all_pages() {
    let world = World::new().await;
    let bot = world.bot().await;
    bot.call(message()).await.done();
    world.chatter(201).await;
    world.intended(bot_intent(true));
    assert_eq!(bot.call(message().attempt(2)).await.done()["duplicate"], true);
    assert_eq!((world.posted(), world.slack.reads()), (202, 2));
}

#[tokio::test]
async fn messages_of_other_steps_are_not_ours() {
    let world = World::new().await;
    let bot = world.bot().await;
    bot.call(message().key("dlv_1/another")).await.done();
    bot.call(message().key("dlv_2/announce")).await.done();
    world.intended(bot_intent(true));
    assert_eq!(bot.call(message()).await.done()["duplicate"], false);
    assert_eq!(world.posted(), 3);
}

#[tokio::test]
async fn a_bot_that_cannot_look_does_not_post() {
    let table = [
        (
            Trouble::Error("missing_scope"),
            Ended::Ambiguous,
            "cannot be searched for it: conversations.history failed: missing_scope",
        ),
        (
            Trouble::Error("not_in_channel"),
            Ended::Ambiguous,
            "invite the app",
        ),
        (Trouble::Error("internal_error"), Ended::Retry, "internal_error"),
        (Trouble::Status(503), Ended::Retry, "503"),
        (Trouble::RateLimited(7), Ended::Retry, "rate limited"),
    ];
    for (trouble, outcome, words) in table {
        let world = World::new().await;
        let intent = bot_intent(true);
        world.intended(intent.clone());
        world.slack.trouble_reading(trouble.clone());
        let report = world.bot().await.call(message().attempt(2)).await;
        ended(&report, outcome, words);
        let after = matches!(trouble, Trouble::RateLimited(_)).then_some(Duration::from_secs(7));
        assert_eq!(report.retry_after, after);
        assert_eq!(world.posted(), 0);
        assert_eq!(
            world.host.receipt(KEY),
            Receipt::Intended(intent),
            "the doubt stays"
        );
    }
}

#[tokio::test]
async fn a_channel_that_cannot_be_seen_cannot_be_searched() {
    let world = World::new().await;
    let mut intent = bot_intent(true);
    intent["channel"] = json!("#secret");
    world.intended(intent);
    let report = world.bot().await.call(message().attempt(2)).await;
    ended(
        &report,
        Ended::Ambiguous,
        "`#secret`, which is to be searched for it, is not among the channels",
    );
    assert_eq!(world.posted(), 0);
}

#[tokio::test]
async fn the_id_of_a_name_is_kept_from_the_first_post() {
    let world = World::new().await;
    let bot = world.bot().await;
    let named = json!({ "channel": "#design-system", "text": "t" });
    let first = bot.call(call(named.clone()).key("dlv_1/first")).await.done();
    assert_eq!(
        world.host.kv()["channel-id/#design-system"],
        first["channel"].as_str().unwrap().as_bytes()
    );
    world.host.fail(HostCall::Record, 1);
    assert_eq!(bot.call(call(named.clone())).await.outcome, Ended::Retry);
    assert_eq!(bot.call(call(named)).await.done()["duplicate"], true);
    assert_eq!(
        world.slack.reads(),
        1,
        "the history is read, and no list of channels"
    );
}

#[tokio::test]
async fn a_message_is_found_on_either_side_of_a_name_that_was_given_away() {
    let named = json!({ "channel": "#alerts", "text": "t" });
    for given_away_before in [true, false] {
        let world = World::new().await;
        let bot = world.bot().await;
        bot.call(call(named.clone()).key("dlv_1/first")).await.done();
        if given_away_before {
            world.slack.give_away("#alerts");
        }
        world.slack.withhold().close();
        let running = bot.begin(call(named.clone()));
        world.slack.withhold().arrival().await;
        bot.crash().await;
        drop(running);
        world.slack.withhold().open();
        if !given_away_before {
            world.slack.give_away("#alerts");
        }

        let again = world
            .bot()
            .await
            .call(call(named.clone()).attempt(2))
            .await
            .done();
        let posted = world.slack.posted();
        assert_eq!(
            (posted.len(), posted[0].id != posted[1].id),
            (2, given_away_before)
        );
        assert_eq!(
            again,
            json!({ "channel": posted[1].id, "ts": posted[1].ts, "duplicate": true })
        );
    }
}

#[tokio::test]
async fn a_message_that_is_on_neither_side_is_posted() {
    let world = World::new().await;
    let bot = world.bot().await;
    let named = json!({ "channel": "#alerts", "text": "t" });
    bot.call(call(named.clone()).key("dlv_1/first")).await.done();
    world.slack.give_away("#alerts");
    let mut intent = bot_intent(true);
    intent["channel"] = json!("#alerts");
    world.intended(intent);
    assert_eq!(bot.call(call(named)).await.done()["duplicate"], false);
    assert_eq!(
        (world.posted(), world.slack.reads()),
        (2, 3),
        "the old channel, the list of channels, the new one"
    );
}

#[tokio::test]
async fn the_conversation_with_a_person_is_asked_for_until_its_id_is_known() {
    let world = World::new().await;
    let bot = world.bot().await;
    let to_person = call(json!({ "channel": PERSON, "text": "t" }));
    let mut intent = bot_intent(true);
    intent["channel"] = json!(PERSON);
    world.intended(intent.clone());
    world.slack.trouble_reading(Trouble::Error("missing_scope"));
    let report = bot.call(to_person.clone()).await;
    ended(
        &report,
        Ended::Ambiguous,
        "conversations.open failed: missing_scope",
    );
    assert_eq!(world.posted(), 0);

    let posted = bot.call(to_person.clone()).await.done();
    assert_eq!(posted["duplicate"], false);
    assert_eq!(world.slack.reads(), 3, "opened twice, and read");
    world.intended(intent);
    let found = bot.call(to_person).await.done();
    assert_eq!((&found["ts"], &found["duplicate"]), (&posted["ts"], &json!(true)));
    assert_eq!(
        (world.posted(), world.slack.reads()),
        (1, 4),
        "read, and not opened"
    );
}

#[tokio::test]
async fn a_limited_bot_comes_back_and_need_not_look() {
    let world = World::new().await;
    let bot = world.bot().await;
    world.slack.trouble(Trouble::RateLimited(30));
    let report = bot.call(message()).await;
    ended(&report, Ended::Retry, "rate limited");
    assert_eq!(report.retry_after, Some(Duration::from_secs(30)));
    assert_eq!(bot.call(message().attempt(2)).await.done()["duplicate"], false);
    assert_eq!((world.posted(), world.slack.reads()), (1, 0));
}

#[tokio::test]
async fn what_may_have_happened_is_looked_for_even_after_a_refusal() {
    let world = World::new().await;
    let bot = world.bot().await;
    world.slack.trouble(Trouble::Error("internal_error"));
    world.slack.trouble(Trouble::RateLimited(1));
    for outcome in [Ended::Retry, Ended::Retry, Ended::Done] {
        assert_eq!(bot.call(message()).await.outcome, outcome);
    }
    assert_eq!((world.posted(), world.slack.reads()), (1, 2));
}

#[tokio::test]
async fn an_instance_that_changes_its_channel_is_searched_where_it_posted() {
    let world = World::new().await;
    let untold = call(json!({ "text": "t" }));
    let first = world
        .bot_with(json!({ "channel": CHANNEL, "timeout": "200ms" }))
        .await;
    world.slack.trouble(Trouble::Error("internal_error"));
    assert_eq!(first.call(untold.clone()).await.outcome, Ended::Retry);
    let second = world.bot_with(json!({ "channel": "C0123EFGH" })).await;
    world.host.fail(HostCall::Record, 1);
    assert_eq!(second.call(untold.clone()).await.outcome, Ended::Retry);
    assert_eq!(second.call(untold).await.done()["duplicate"], true);
    assert_eq!(
        (world.posted(), world.slack.posted()[0].channel.as_str()),
        (1, "C0123EFGH")
    );
}

#[tokio::test]
async fn a_message_that_moves_into_a_thread_is_searched_there() {
    let world = World::new().await;
    let bot = world.bot().await;
    let thread = bot.call(message().key("dlv_0/thread")).await.done()["ts"].clone();
    world.intended(bot_intent(true));
    let answer = call(json!({ "channel": CHANNEL, "text": "t", "thread_ts": thread }));
    world.host.fail(HostCall::Record, 1);
    assert_eq!(bot.call(answer.clone()).await.outcome, Ended::Retry);
    assert_eq!(bot.call(answer.attempt(2)).await.done()["duplicate"], true);
    assert_eq!(world.posted(), 2);
}

#[tokio::test]
async fn what_slack_refuses_a_bot_is_final() {
    for error in [
        "channel_not_found",
        "not_in_channel",
        "invalid_blocks",
        "invalid_auth",
        "msg_blocks_too_long",
    ] {
        let world = World::new().await;
        world.slack.trouble(Trouble::Error(error));
        ended(&world.bot().await.call(message()).await, Ended::Fatal, error);
    }
    let world = World::new().await;
    let wrong = world.bot_with(json!({ "bot_token": "xoxb-wrong-hunter2" })).await;
    let report = wrong.call(message()).await;
    ended(
        &report,
        Ended::Fatal,
        "invalid_auth (check the instance's `bot_token`)",
    );
    assert!(!report.message.contains("hunter2"));
}

#[tokio::test]
async fn a_slack_that_is_not_there_is_tried_again() {
    let world = World::new().await;
    let bot = world.bot_with(json!({ "api": nobody().await })).await;
    ended(
        &bot.call(message()).await,
        Ended::Retry,
        "Slack could not be reached",
    );
    world.bot().await.call(message().attempt(2)).await.done();
    assert_eq!(
        (world.posted(), world.slack.reads()),
        (1, 0),
        "nothing was sent, so nothing is looked for"
    );
}

#[tokio::test]
async fn a_message_that_breaks_a_limit_is_not_sent() {
    let world = World::new().await;
    for (input, words) in [
        (json!({ "channel": CHANNEL }), "neither `text` nor `blocks`"),
        (
            json!({ "channel": CHANNEL, "text": "x".repeat(40_001) }),
            "40001 characters",
        ),
        (json!({ "text": "nowhere to go" }), "has no `channel`"),
        (
            json!({ "channel": "", "text": "nowhere to go" }),
            "has no `channel`",
        ),
    ] {
        let report = world.bot().await.call(call(input)).await;
        ended(&report, Ended::Fatal, words);
        assert_eq!(report.code, Code::Invalid);
    }
    assert_eq!(world.posted(), 0);
}

#[tokio::test]
async fn an_instance_can_have_a_channel_for_steps_that_name_none() {
    let world = World::new().await;
    let bot = world.bot_with(json!({ "channel": CHANNEL })).await;
    bot.call(call(json!({ "text": "t" }))).await.done();
    assert_eq!(world.slack.posted()[0].channel, CHANNEL);
}

#[tokio::test]
async fn a_webhook_posts_the_message_and_nothing_else() {
    let world = World::new().await;
    let output = world
        .webhook()
        .await
        .call(call(json!({ "text": "t" })))
        .await
        .done();
    assert_eq!(output, json!({ "duplicate": false }));
    assert_eq!(world.slack.posted()[0].body, json!({ "text": "t" }));
    let again = world
        .webhook()
        .await
        .call(call(json!({ "text": "t" })).attempt(2))
        .await
        .done();
    assert_eq!(again, json!({ "duplicate": true }));
    assert_eq!(world.posted(), 1);
}

#[tokio::test]
async fn a_webhook_that_was_killed_before_the_answer_is_ambiguous_ever_after() {
    let world = World::new().await;
    let webhook = world.webhook().await;
    world.slack.withhold().close();
    let running = webhook.begin(call(json!({ "text": "t" })));
    world.slack.withhold().arrival().await;
    webhook.crash().await;
    drop(running);
    world.slack.withhold().open();
    for attempt in 2..4 {
        let report = world
            .webhook()
            .await
            .call(call(json!({ "text": "t" })).attempt(attempt))
            .await;
        ended(&report, Ended::Ambiguous, "an earlier attempt may have posted");
    }
    assert_eq!(world.posted(), 1);
}

#[tokio::test]
async fn a_webhook_without_an_answer_is_ambiguous() {
    let world = World::new().await;
    let config = json!({ "webhook_url": world.slack.webhook(), "timeout": "200ms" });
    let webhook = Harness::<SlackNotify>::start_on(&world.host, config)
        .await
        .unwrap();
    world.slack.withhold().close();
    let report = webhook.call(call(json!({ "text": "t" }))).await;
    ended(&report, Ended::Ambiguous, "the webhook gave no answer");
    for status in [500, 502, 503] {
        let world = World::new().await;
        world.slack.trouble(Trouble::Status(status));
        let report = world.webhook().await.call(call(json!({ "text": "t" }))).await;
        ended(
            &report,
            Ended::Ambiguous,
            &format!("the webhook answered {status}"),
        );
    }
}

#[tokio::test]
async fn a_webhook_that_did_nothing_for_sure_is_tried_again() {
    let world = World::new().await;
    world.slack.trouble(Trouble::RateLimited(5));
    let report = world.webhook().await.call(call(json!({ "text": "t" }))).await;
    ended(&report, Ended::Retry, "rate limited");
    assert_eq!(report.retry_after, Some(Duration::from_secs(5)));

    let config = json!({ "webhook_url": format!("{}{WEBHOOK_PATH}", nobody().await) });
    let nowhere = Harness::<SlackNotify>::start_on(&world.host, config)
        .await
        .unwrap();
    ended(
        &nowhere.call(call(json!({ "text": "t" })).attempt(2)).await,
        Ended::Retry,
        "could not be reached",
    );

    world
        .webhook()
        .await
        .call(call(json!({ "text": "t" })).attempt(3))
        .await
        .done();
    assert_eq!(world.posted(), 1);
}

#[tokio::test]
async fn what_is_refused_through_a_webhook_is_final() {
    for status in [400, 403, 404, 410] {
        let world = World::new().await;
        world.slack.trouble(Trouble::Status(status));
        let report = world.webhook().await.call(call(json!({ "text": "t" }))).await;
        ended(&report, Ended::Fatal, &format!("the webhook answered {status}"));
    }
    let world = World::new().await;
    let report = world.webhook().await.call(message()).await;
    ended(&report, Ended::Fatal, "posts to its own channel");
    assert_eq!(report.code, Code::Invalid);
    assert_eq!(world.posted(), 0);
}

#[tokio::test]
async fn a_change_of_the_way_does_not_hide_a_doubt() {
    let world = World::new().await;
    world.intended(json!({ "by": "webhook", "in_flight": true }));
    ended(
        &world.bot().await.call(message()).await,
        Ended::Ambiguous,
        "through an incoming webhook",
    );
    world.intended(bot_intent(true));
    let report = world.webhook().await.call(call(json!({ "text": "t" }))).await;
    ended(&report, Ended::Ambiguous, "an earlier attempt may have posted");
    assert_eq!(world.posted(), 0);
    world.intended(json!({ "by": "webhook", "in_flight": false }));
    world.bot().await.call(message()).await.done();
    assert_eq!(world.posted(), 1);
}

#[test]
fn the_router_knows_what_to_expect_and_what_to_escape() {
    let manifest = Harness::<SlackNotify>::manifest();
    let schema = |key: &str| Schema::compile(manifest[key].clone()).unwrap();
    assert!(
        !schema("config_schema").accepts_empty(),
        "an instance wants a token or a webhook"
    );
    for config in [
        json!({ "bot_token": "t", "channel": "C0123ABCD" }),
        json!({ "webhook_url": "https://hooks.slack.com/" }),
    ] {
        assert_eq!(schema("config_schema").check(&config), [], "{config}");
    }
    let missing = schema("config_schema").check(&json!({ "channel": "C0123ABCD" }));
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(missing.join("\n"), @"`bot_token`: missing");
    let input = schema("input_schema");
    let blocks = json!([
        { "type": "header", "text": { "type": "plain_text", "text": "t", "emoji": true } },
        { "type": "markdown", "text": "t" },
        { "type": "section", "fields": [{ "type": "mrkdwn", "text": "t" }], "accessory": { "type": "image", "image_url": "u" } },
        { "type": "context", "elements": [{ "type": "mrkdwn", "text": "t" }] },
        { "type": "actions", "elements": [{ "type": "button", "text": { "type": "plain_text", "text": "t" }, "url": "u" }] },
        { "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": [{ "type": "text", "text": "t" }] }] },
        { "type": "carousel", "elements": [{ "type": "card", "body": { "type": "mrkdwn", "text": "t" } }] },
    ]);
    assert_eq!(input.check(&json!({ "text": "t", "blocks": blocks })), []);
    for (pointer, escape) in [
        ("/text", Some("mrkdwn")),
        ("/channel", None),
        ("/blocks/0/text/text", Some("mrkdwn")),
        ("/blocks/0/text/type", Some("none")),
        ("/blocks/1/text", Some("markdown")),
        ("/blocks/2/fields/0/text", Some("mrkdwn")),
        ("/blocks/2/accessory/image_url", None),
        ("/blocks/3/elements/0/text", Some("mrkdwn")),
        ("/blocks/4/elements/0/text/text", Some("mrkdwn")),
        ("/blocks/4/elements/0/url", None),
        ("/blocks/5/elements/0/elements/0/text", None),
        ("/blocks/6/elements/0/body/text", Some("mrkdwn")),
    ] {
        assert_eq!(input.escape(pointer), escape, "{pointer}");
    }
}

#[tokio::test]
async fn an_instance_without_a_way_to_slack_is_refused() {
    let refused = Harness::<SlackNotify>::start(json!({})).await.unwrap_err();
    assert_eq!(refused.message, "it has neither `bot_token` nor `webhook_url`");
}

/// Where the program that a test starts of itself finds Slack.
const TRUSTED_API: &str = "JACKFIELD_TEST_TRUSTED_API";

#[test]
fn all_of_this_is_true_of_the_built_library_in_a_process_of_its_own() {
    // What the environment says, a worker does not hear of.
    let passed = again("slack-notify", "process", &["tests::", "--skip", "systems_roots"]).unwrap();
    assert!(passed > 30 || library().is_some(), "{passed}");
}

#[tokio::test]
async fn slack_is_known_by_the_systems_roots_and_by_nothing_else() {
    let ok = json!({ "ok": true, "channel": CHANNEL, "ts": "1.2" });
    let slack = Server::start_tls(move |_| {
        let answer = http::json(StatusCode::OK, &ok);
        async { answer }
    });
    let slack = slack.await.unwrap();
    let api = format!("https://localhost:{}/api", slack.address().port());
    let world = World::new().await;
    let bot = world.bot_with(json!({ "api": api })).await;
    ended(&bot.call(message()).await, Ended::Retry, "UnknownIssuer");

    // The roots are read from where the environment says, and that is one for the whole process.
    let trusting = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::a_slack_that_the_system_trusts_is_posted_to",
            "--ignored",
        ])
        .env("SSL_CERT_FILE", jackfield_stage::tls::authority())
        .env(TRUSTED_API, api)
        .output();
    let output = trusting.await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
#[ignore = "started by the test before it, in a process of its own"]
async fn a_slack_that_the_system_trusts_is_posted_to() {
    let world = World::new().await;
    let bot = world
        .bot_with(json!({ "api": std::env::var(TRUSTED_API).unwrap() }))
        .await;
    assert_eq!(bot.call(message()).await.done()["ts"], "1.2");
}
