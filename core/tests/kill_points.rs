//! The real router is killed at the worst moments, started again, and must neither lose nor repeat anything.
//!
//! Stand-ins hold the moment, not the clock: each test waits until the point is reached, sends SIGKILL, and starts
//! the router on what is left.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, also in what its stories share"
)]

use std::{fs, path::Path, time::Duration};

use jackfield_stage::{
    cargo,
    scene::{PACKAGES, Scene},
    supernova, zeplin,
};
use serde_json::Value;

/// An export becomes a commit and one message.
const TOKENS: &str = r##"
[[route]]
name = "tokens"
when.type = ["io.supernova.job.success"]

[[route.step]]
id = "fetch"
use = "artifact-fetch"
with = { url = "{{ event.data.artifacts[0].url }}", auth = "supernova", unpack = true }
retry = { first = "50ms" }

[[route.step]]
id = "commit"
use = "git-commit"
with = { repository = "{repository}", branch = "main", from = "{{ steps.fetch.dir }}", to = "design/", own = true }
retry = { first = "50ms" }

[[route.step]]
use = "slack"
with = { channel = "#design-system", text = "{{ steps.commit.sha }}" }
retry = { first = "50ms" }
"##;

/// A build is downloaded and announced.
const BUILDS: &str = r##"
[[route]]
name = "builds"
when.type = ["io.ionic.appflow.package.success"]

[[route.step]]
id = "fetch"
use = "artifact-fetch"
with = { url = "{{ event.data.artifacts[0].url }}" }
retry = { first = "50ms" }

[[route.step]]
use = "slack"
with = { channel = "#builds", text = "{{ steps.fetch.sha256 }}" }
retry = { first = "50ms" }
"##;

/// A screen is announced through the webhook, which cannot be asked what it got.
const WEBHOOK: &str = r#"
[[route]]
name = "screens"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "slack-webhook"
with = { text = "{{ event.data.title }}" }
retry = { first = "50ms" }
"#;

/// A screen is announced by the bot.
const BOT: &str = r##"
[[route]]
name = "screens"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "slack"
with = { channel = "#screens", text = "{{ event.data.title }}" }
retry = { first = "50ms" }
"##;

/// A burst of screens is announced by the bot, at once.
const BURST: &str = r##"
[[route]]
name = "screens"
order_by = "{{ event.data.project.id }}"
coalesce = { window = "3s", keep = "all" }
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "slack"
with = { channel = "#screens", text = "{% for event in events %}{{ event.data.title }}\n{% endfor %}" }
retry = { first = "50ms" }
"##;

async fn scene(routes: &str) -> Scene {
    let built = cargo::build(&PACKAGES, "dev").unwrap();
    let mut scene = Scene::set(&built, routes).await.unwrap();
    scene.router.start().await.unwrap();
    scene
}

/// Kills the router where it stands and starts it again.
async fn kill_and_restart(scene: &mut Scene) {
    scene.router.kill().await.unwrap();
    scene.router.start().await.unwrap();
}

async fn settled(scene: &Scene) {
    scene.router.settled(Duration::from_secs(60)).await.unwrap();
}

fn messages(scene: &Scene) -> usize {
    scene.slack.posted().len()
}

/// The states of all deliveries.
async fn states(scene: &Scene) -> Vec<String> {
    let listed = scene.router.ask(&["deliveries", "list"]).await.unwrap();
    let state = |delivery: &Value| delivery["state"].as_str().unwrap_or_default().to_owned();
    listed.as_array().unwrap().iter().map(state).collect()
}

/// How many attempts of each delivery have begun.
async fn attempts(scene: &Scene) -> Vec<usize> {
    let stories = scene.router.stories().await.unwrap();
    let attempts = |story: &Value| story["attempts"].as_array().unwrap().len();
    stories.iter().map(attempts).collect()
}

/// An export has ended, and the router is told.
async fn exports(scene: &Scene) {
    let export = scene.supernova.webhook("6", "Success");
    assert_eq!(scene.supernova_posts(&export).await.unwrap().status, 200);
}

/// The one export has become one commit, with all that was exported, and one message that tells of it.
async fn is_carried_out_once(scene: &Scene) {
    settled(scene).await;
    assert_eq!(states(scene).await, ["succeeded"]);
    assert_eq!(
        scene.repository.commits("main").unwrap(),
        2,
        "the first commit and one more"
    );
    for (path, content) in supernova::TOKENS {
        let committed = scene.repository.git(&["show", &format!("main:design/{path}")]);
        assert_eq!(committed.unwrap().trim(), content.trim());
    }
    let sha = scene.repository.git(&["rev-parse", "main"]).unwrap();
    let posted = scene.slack.posted();
    let told: Vec<_> = posted
        .iter()
        .map(|message| message.body["text"].as_str().unwrap())
        .collect();
    assert_eq!(told, [sha]);
}

#[tokio::test]
async fn killed_while_an_artifact_arrives_there_is_exactly_one_commit_and_one_message() {
    let mut scene = scene(TOKENS).await;
    scene.supernova.middle().close();
    exports(&scene).await;
    scene.supernova.middle().arrival().await;
    scene.router.kill().await.unwrap();
    assert_eq!(scene.supernova.downloads(), 0);
    scene.supernova.middle().open();
    scene.router.start().await.unwrap();
    is_carried_out_once(&scene).await;
}

/// Appflow's links live for 24 hours.
#[tokio::test]
async fn a_build_is_downloaded_until_its_link_dies_and_given_up_at_once_when_it_has() {
    let expires = "deadline = \"{{ event.data.artifacts[0].expires }}\"\nwhen.type";
    let scene = scene(&BUILDS.replace("when.type", expires)).await;
    let mut build = scene
        .appflow
        .webhook("2216322b-35be-4af2-aaad-2b4e57354f88", "success");
    build["finished"] = "2018-08-24T14:56:45+00:00".into();
    assert_eq!(scene.appflow_posts(&build).await.unwrap().status, 200);
    settled(&scene).await;
    let listed = scene.router.ask(&["deliveries", "list"]).await.unwrap();
    assert_eq!(listed[0]["deadline"], "2018-08-25T14:56:45Z");
    assert_eq!(listed[0]["failure"]["reason"], "deadline-passed", "{listed}");
    assert_eq!((scene.appflow.downloads(), messages(&scene)), (0, 0));

    let mut build = scene
        .appflow
        .webhook("b3d1a1a4-6f0c-4a57-8f0e-0f3f6b1f4b1e", "success");
    build["finished"] = "2199-12-31T00:00:00+00:00".into();
    assert_eq!(scene.appflow_posts(&build).await.unwrap().status, 200);
    settled(&scene).await;
    let listed = scene.router.ask(&["deliveries", "list"]).await.unwrap();
    assert_eq!(
        (&listed[0]["deadline"], &listed[0]["state"]),
        (&"2200-01-01T00:00:00Z".into(), &"succeeded".into())
    );
    assert_eq!((scene.appflow.downloads(), messages(&scene)), (1, 1));
}

#[tokio::test]
async fn killed_while_a_push_is_under_way_there_is_exactly_one_commit_and_one_message() {
    let mut scene = scene(TOKENS).await;
    let repository = scene.repository.path().to_owned();
    let (arrived, go) = (repository.join("arrived"), repository.join("go"));
    let wait = format!(
        "touch '{}'\nwhile [ ! -e '{}' ]; do sleep 0.05; done",
        arrived.display(),
        go.display()
    );
    scene
        .repository
        .hook("post-receive", &format!("#!/bin/sh\n{wait}\n"))
        .unwrap();
    // A repository of this machine has its hooks run by the plugin's git, and so within the plugin's bounds.
    let hook = repository.join("hooks/post-receive");
    let programs = format!(r#"programs = ["git", "touch", "sleep", "{}"]"#, hook.display());
    let configuration = fs::read_to_string(scene.router.configuration()).unwrap();
    let more = configuration.replace(r#"programs = ["git"]"#, &programs);
    assert_ne!(more, configuration);
    fs::write(scene.router.configuration(), more).unwrap();
    scene.router.stop().await.unwrap();
    scene.router.start().await.unwrap();
    exports(&scene).await;
    until_exists(&arrived).await;
    scene.router.kill().await.unwrap();
    fs::write(&go, "").unwrap();
    scene.router.start().await.unwrap();
    is_carried_out_once(&scene).await;
}

#[tokio::test]
async fn killed_before_slack_answers_the_bot_there_is_exactly_one_commit_and_one_message() {
    let mut scene = scene(TOKENS).await;
    scene.slack.withhold().close();
    exports(&scene).await;
    scene.slack.withhold().arrival().await;
    scene.router.kill().await.unwrap();
    scene.slack.withhold().open();
    scene.router.start().await.unwrap();
    is_carried_out_once(&scene).await;
}

#[tokio::test]
async fn killed_before_slack_answers_the_webhook_it_is_an_ambiguous_dead_letter_and_not_posted_again() {
    let mut scene = scene(WEBHOOK).await;
    scene.slack.withhold().close();
    assert_eq!(
        scene
            .zeplin_posts(&zeplin::screen_version("Sign in"), "d1")
            .await
            .unwrap()
            .status,
        200
    );
    scene.slack.withhold().arrival().await;
    scene.router.kill().await.unwrap();
    scene.slack.withhold().open();
    scene.router.start().await.unwrap();
    settled(&scene).await;
    let dead = scene.router.ask(&["dead", "list"]).await.unwrap();
    assert_eq!(dead[0]["failure"]["reason"], "plugin-ambiguous", "{dead:#}");
    assert_eq!(messages(&scene), 1);
}

#[tokio::test]
async fn killed_between_commit_and_dispatch_every_acknowledged_event_is_still_delivered() {
    let mut scene = scene(BOT).await;
    // The instance takes one call at a time, and that call waits: what comes after it is committed and no more.
    scene.slack.withhold().close();
    for number in 0..5 {
        let delivery = format!("d{number}");
        assert_eq!(
            scene
                .zeplin_posts(&zeplin::screen_version("Sign in"), &delivery)
                .await
                .unwrap()
                .status,
            200
        );
    }
    scene.slack.withhold().arrival().await;
    scene.router.kill().await.unwrap();
    let mut attempts = attempts(&scene).await;
    attempts.sort_unstable();
    assert_eq!(
        attempts,
        [0, 0, 0, 0, 1],
        "the journal, before it is opened again"
    );
    scene.slack.withhold().open();
    scene.router.start().await.unwrap();
    settled(&scene).await;
    assert_eq!(states(&scene).await, ["succeeded"; 5]);
    assert_eq!(messages(&scene), 5);
}

async fn until_exists(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn killed_in_a_burst_every_screen_of_it_is_announced_once_and_together() {
    let mut scene = scene(BURST).await;
    for number in 0..20 {
        let (screen, delivery) = (format!("Screen-{number:02}-"), format!("delivery-{number}"));
        let answer = scene
            .zeplin_posts(&zeplin::screen_version(&screen), &delivery)
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        if number == 9 {
            kill_and_restart(&mut scene).await;
        }
    }
    settled(&scene).await;
    let posted = scene.slack.posted();
    let listed = scene.router.ask(&["deliveries", "list"]).await.unwrap();
    // One, if the machine was back within the window, as it is unless it stood still.
    assert!(listed.as_array().unwrap().len() <= 2 && posted.len() == listed.as_array().unwrap().len());
    let told: String = posted
        .iter()
        .filter_map(|message| message.body["text"].as_str())
        .collect();
    for number in 0..20 {
        assert_eq!(told.matches(&format!("Screen-{number:02}-")).count(), 1, "{told}");
    }
}

#[tokio::test]
async fn twenty_screens_that_come_together_are_one_message() {
    // Over with the twentieth, however slow the machine is.
    let burst = BURST.replace(
        "window = \"3s\"",
        "window = \"1h\", max_wait = \"2h\", max_items = 20",
    );
    let scene = scene(&burst).await;
    for number in 0..20 {
        let screen = zeplin::screen_version(&format!("Screen-{number:02}-"));
        let answer = scene.zeplin_posts(&screen, &format!("delivery-{number}")).await;
        assert_eq!(answer.unwrap().status, 200);
    }
    settled(&scene).await;
    let posted = scene.slack.posted();
    assert_eq!(posted.len(), 1);
    let told = posted[0].body["text"].as_str().unwrap();
    assert_eq!(told.matches("Screen-").count(), 20, "{told}");
}

#[tokio::test]
async fn relieved_in_the_middle_of_a_call_a_router_lets_it_end_and_nobody_makes_it_again() {
    let mut scene = scene(BOT).await;
    scene.slack.withhold().close();
    let screen = zeplin::screen_version("Login");
    let answer = scene.zeplin_posts(&screen, "delivery-1").await.unwrap();
    assert_eq!(answer.status, 200);
    scene.slack.withhold().arrival().await;
    let log = scene.router.log_file();
    let stops = async {
        while !fs::read_to_string(&log).unwrap().contains("router stops") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        scene.slack.withhold().open();
    };
    let (relieved, ()) = tokio::join!(scene.router.relieve(), stops);
    relieved.unwrap();
    settled(&scene).await;
    assert_eq!(
        (states(&scene).await, messages(&scene)),
        (vec!["succeeded".to_owned()], 1)
    );
    let listed = scene.router.ask(&["deliveries", "list"]).await.unwrap();
    let id = listed[0]["id"].as_str().unwrap();
    let story = scene.router.ask(&["deliveries", "show", id]).await.unwrap();
    let attempts = story["attempts"].as_array().unwrap();
    assert_eq!(
        (attempts.len(), &attempts[0]["outcome"]),
        (1, &"done".into()),
        "{story}"
    );
}

#[tokio::test]
async fn killed_with_an_empty_bucket_an_instance_begins_no_call_more_than_its_rate_allows() {
    let mut scene = scene(BOT).await;
    let configuration = fs::read_to_string(scene.router.configuration()).unwrap();
    let rated = "concurrency = 1\nrate = { calls = 3, per = \"1h\", burst = 3 }";
    let slow = configuration.replace("concurrency = 1", rated);
    assert_ne!(slow, configuration);
    fs::write(scene.router.configuration(), slow).unwrap();
    kill_and_restart(&mut scene).await;

    for delivery in ["d1", "d2"] {
        posts(&scene, delivery).await;
        settled(&scene).await;
    }
    // The third call is under way, so that a second attempt of it would be the fourth.
    scene.slack.withhold().close();
    posts(&scene, "d3").await;
    scene.slack.withhold().arrival().await;
    kill_and_restart(&mut scene).await;
    scene.slack.withhold().open();
    posts(&scene, "d4").await;
    let told = waits_for_the_rate(&scene, 2).await;
    assert_eq!(messages(&scene), 3);

    kill_and_restart(&mut scene).await;
    posts(&scene, "d5").await;
    let told_again = waits_for_the_rate(&scene, 3).await;
    assert_eq!(messages(&scene), 3);
    assert_eq!(told_again[1..], told[..], "who waits keeps its time");
}

async fn posts(scene: &Scene, delivery: &str) {
    let body = zeplin::screen_version("Sign in");
    let answer = scene.zeplin_posts(&body, delivery).await.unwrap();
    assert_eq!(answer.status, 200);
}

/// Waits until so many deliveries wait for the rate, and gives when each is due, the newest first.
async fn waits_for_the_rate(scene: &Scene, count: usize) -> Vec<String> {
    loop {
        let command = ["deliveries", "list", "--reason", "rate-limited"];
        let listed = scene.router.ask(&command).await.unwrap();
        let listed = listed.as_array().unwrap().iter();
        let due: Vec<_> = listed
            .filter_map(|delivery| delivery["due"].as_str().map(str::to_owned))
            .collect();
        if due.len() == count {
            return due;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
