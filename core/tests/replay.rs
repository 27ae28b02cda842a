//! What died is looked at, mended and done again; what nobody knows, a person settles; what nobody wants, a person cancels.
//! With the real router, the real plugins, and stand-ins for the services.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, also in what its stories share"
)]

use std::{fs, process::Stdio, time::Duration};

use jackfield_stage::{
    cargo,
    router::Signal,
    scene::{PACKAGES, Scene},
    slack::Trouble,
    zeplin,
};
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use tokio::process::Command;

/// An export becomes a commit and one message.
const TOKENS: &str = r##"
[[route]]
name = "tokens"
when.type = ["io.supernova.job.success"]

[[route.step]]
id = "fetch"
use = "artifact-fetch"
with = { url = "{{ event.data.artifacts[0].url }}", auth = "supernova", unpack = true }

[[route.step]]
id = "commit"
use = "git-commit"
with = { repository = "{repository}", branch = "main", from = "{{ steps.fetch.dir }}", to = "design/", own = true }

[[route.step]]
id = "tell"
use = "slack"
with = { channel = "#design-system", text = "{{ steps.commit.sha }}" }
"##;

/// Screens are announced one after the other, in a channel that there is not.
const SCREENS: &str = r##"
[[route]]
name = "screens"
order_by = "{{ event.data.project.id }}"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "slack"
with = { channel = "#nowhere", text = "{{ event.data.title }}" }
"##;

/// A screen is announced through the webhook, which cannot be asked what it got, and then by the bot.
const TWICE: &str = r##"
[[route]]
name = "screens"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
id = "post"
use = "slack-webhook"
with = { text = "{{ event.data.title }}" }

[[route.step]]
id = "tell"
use = "slack"
with = { channel = "#screens", text = "posted as {{ steps.post.ts | default('nobody knows what') }}" }
"##;

struct Story {
    scene: Scene,
}

impl Story {
    async fn begin(routes: &str) -> Self {
        let built = cargo::build(&PACKAGES, "dev").unwrap();
        let mut scene = Scene::set(&built, routes).await.unwrap();
        scene.router.start().await.unwrap();
        Self { scene }
    }

    /// A version of a screen comes in, and all that is owed is settled.
    async fn screen(&self, name: &str) {
        self.sends(name).await;
        self.settled().await;
    }

    async fn sends(&self, name: &str) {
        let body = zeplin::screen_version(name);
        let answer = self.scene.zeplin_posts(&body, name).await.unwrap();
        assert_eq!(answer.status, 200);
    }

    async fn settled(&self) {
        self.scene.router.settled(Duration::from_secs(60)).await.unwrap();
    }

    async fn ask(&self, arguments: &[&str]) -> Value {
        self.scene.router.ask(arguments).await.unwrap()
    }

    /// What a command says that fails.
    async fn refused(&self, arguments: &[&str]) -> String {
        let output = self.scene.router.attempt(arguments).await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The ids of what a list has, the newest first.
    async fn ids(&self, list: &[&str]) -> Vec<String> {
        let listed = self.ask(list).await;
        let listed = listed.as_array().unwrap().iter();
        listed.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Replays or resolves, waits for the end of it, and gives the new delivery.
    async fn again(&self, arguments: &[&str]) -> Value {
        let before = self.ids(&["deliveries", "list"]).await;
        self.scene.router.command(arguments).await.unwrap();
        self.settled().await;
        let made = self.ids(&["deliveries", "list"]).await;
        assert_eq!(made.len(), before.len() + 1, "{arguments:?}");
        self.show(&made[0]).await
    }

    async fn show(&self, delivery: &str) -> Value {
        self.ask(&["deliveries", "show", delivery]).await
    }

    fn posted(&self, channel: &str) -> Vec<String> {
        let posted = self.scene.slack.posted();
        let posted = posted.iter().filter(|message| message.channel == channel);
        let texts = posted.map(|message| message.body["text"].as_str().unwrap().to_owned());
        texts.collect()
    }
}

/// What would become of each step of the one delivery that would be made.
fn fates(preview: &Value) -> Value {
    let steps = preview["deliveries"][0]["steps"].as_array().unwrap().iter();
    let fates = steps.map(|step| (step["id"].as_str().unwrap().to_owned(), step["fate"].clone()));
    Value::Object(fates.collect())
}

#[tokio::test]
async fn what_died_at_a_step_goes_on_from_there_with_the_files_of_those_before() {
    let mut story = Story::begin(TOKENS).await;
    let repository = story.scene.repository.path().to_owned();
    let away = repository.with_extension("away");
    fs::rename(&repository, &away).unwrap();
    let export = story.scene.supernova.webhook("6", "Success");
    assert_eq!(story.scene.supernova_posts(&export).await.unwrap().status, 200);
    story.settled().await;
    let dead = story.ids(&["dead", "list"]).await;
    let [dead] = &dead[..] else { panic!("{dead:?}") };
    let words = story.scene.router.command(&["dead", "show", dead]).await.unwrap();
    let way = format!("jackfield replay {dead} --from commit");
    assert!(words.contains(&way), "{words}");

    // Who only wants to know needs no router, and nothing comes of it.
    story.scene.router.stop().await.unwrap();
    let preview = story
        .ask(&["replay", dead, "--from", "commit", "--dry-run"])
        .await;
    let expected = json!({ "fetch": "made-for-its-files", "commit": "made", "tell": "made" });
    assert_eq!(fates(&preview), expected);
    let nothing = story.refused(&["replay", "nobody", "--dry-run"]).await;
    assert!(nothing.contains("1 of 1 would not be replayed"), "{nothing}");
    assert_eq!(story.ids(&["deliveries", "list"]).await.len(), 1);
    fs::rename(&away, &repository).unwrap();
    story.scene.router.start().await.unwrap();
    let wrong = story.refused(&["replay", dead, "--from", "comit"]).await;
    assert!(
        wrong.contains("its steps are `fetch`, `commit`, `tell`"),
        "{wrong}"
    );

    let replay = story.again(&["replay", dead, "--from", "commit"]).await;
    assert_eq!(
        (&replay["state"], &replay["parent"]),
        (&json!("succeeded"), &json!(dead))
    );
    assert_eq!(story.scene.repository.commits("main").unwrap(), 2);
    let sha = story.scene.repository.git(&["rev-parse", "main"]).unwrap();
    assert_eq!(story.posted("#design-system"), [sha]);
    assert_eq!(story.ids(&["dead", "list"]).await, [] as [&str; 0]);
    assert_eq!(story.ids(&["dead", "list", "--all"]).await, [dead.as_str()]);
}

#[tokio::test]
async fn replay_and_idempotency_what_did_happen_happens_again_only_where_its_key_is_renewed() {
    let story = Story::begin(TOKENS).await;
    let export = story.scene.supernova.webhook("6", "Success");
    assert_eq!(story.scene.supernova_posts(&export).await.unwrap().status, 200);
    story.settled().await;
    let first = story.ids(&["deliveries", "list"]).await.remove(0);
    let sha = story.scene.repository.git(&["rev-parse", "main"]).unwrap();

    let kept = story.again(&["replay", &first, "--from", "tell"]).await;
    assert_eq!(kept["state"], "succeeded", "{kept:#}");
    let reasons: Vec<_> = kept["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| &attempt["reason"])
        .collect();
    assert_eq!(reasons, [&Value::Null, &json!("taken-over"), &Value::Null]);
    let whole = story.again(&["replay", &first]).await;
    assert_eq!(whole["state"], "succeeded", "{whole:#}");
    let told = story.posted("#design-system");
    assert_eq!((told.len(), &told[0]), (1, &sha), "it has been told");

    let renewed = story
        .again(&["replay", &first, "--from", "tell", "--keys", "renew"])
        .await;
    assert_eq!(renewed["state"], "succeeded", "{renewed:#}");
    assert_eq!(story.posted("#design-system"), [sha.clone(), sha]);
    assert_eq!(
        story.scene.repository.commits("main").unwrap(),
        2,
        "and committed once"
    );
}

#[tokio::test]
async fn replay_and_order_key_what_died_of_its_rules_is_replayed_by_the_mended_ones_in_its_order() {
    let story = Story::begin(SCREENS).await;
    let names = ["S1", "S2", "S3", "S4", "S5"];
    for name in names {
        story.sends(name).await;
    }
    story.settled().await;
    let mut dead = story.ids(&["dead", "list"]).await;
    dead.reverse();
    assert_eq!(dead.len(), 5);
    let titles: Vec<_> = {
        let events = story.ask(&["events", "list"]).await;
        let events = events.as_array().unwrap().iter().rev();
        events
            .map(|event| event["title"].as_str().unwrap().to_owned())
            .collect()
    };

    // Nobody is there who could agree.
    let unanswered = story.refused(&["replay", "--route", "screens"]).await;
    assert!(
        unanswered.contains("replay 5 dead deliveries of route screens"),
        "{unanswered}"
    );
    let of_another = story
        .scene
        .router
        .command(&["replay", "--route", "other", "--yes"])
        .await;
    assert!(
        of_another
            .unwrap()
            .contains("there are no dead deliveries of route other")
    );
    // By the rules of then it comes to the same end.
    let then = story.again(&["replay", &dead[0]]).await;
    assert_eq!(then["failure"]["reason"], "plugin-fatal");
    let dead = [
        then["id"].as_str().unwrap().to_owned(),
        dead[1].clone(),
        dead[2].clone(),
    ];

    let routes = story.scene.router.home().join("routes.toml");
    fs::write(&routes, SCREENS.replace("#nowhere", "#screens")).unwrap();
    story.scene.router.command(&["routes", "reload"]).await.unwrap();
    let preview = story
        .ask(&[
            "replay",
            "--reason",
            "plugin-fatal",
            "--rules",
            "today",
            "--dry-run",
        ])
        .await;
    assert_eq!(preview["deliveries"].as_array().unwrap().len(), 5, "{preview:#}");
    let wrong = story.refused(&["replay", &dead[1], "--rules", "ffffffff"]).await;
    assert!(wrong.contains("there is no generation `ffffffff`"), "{wrong}");

    // Some of them, and then the rest: the replay of the first is the youngest of them.
    let some = story
        .ask(&[
            "replay", "--source", "screens", "--rules", "today", "-n", "2", "--yes",
        ])
        .await;
    assert_eq!(some["deliveries"].as_array().unwrap().len(), 2);
    let rest = story
        .ask(&["replay", "--route", "screens", "--rules", "today", "--yes"])
        .await;
    assert_eq!(rest["deliveries"].as_array().unwrap().len(), 3);
    story.settled().await;
    let expected = [1, 2, 3, 4, 0].map(|place| titles[place].clone());
    assert_eq!(story.posted("#screens"), expected);
    let none = story.ask(&["replay", "--state", "dead", "--yes"]).await;
    assert_eq!(none["deliveries"], json!([]));

    let twice = story
        .ask(&["replay", &dead[1], &dead[2], "--rules", "today"])
        .await;
    assert_eq!(
        twice["deliveries"].as_array().unwrap().len(),
        2,
        "who names them means it"
    );
    story.settled().await;
    assert_eq!(
        story.posted("#screens").len(),
        5,
        "but what was posted is not posted twice"
    );
}

#[tokio::test]
async fn many_replays_that_are_interrupted_go_on_with_the_rest() {
    // Of each event only the template of a step fails, which calls nobody.
    let story = Story::begin(&SCREENS.replace("event.data.title", "event.data.payload.nothing")).await;
    for number in 0..130 {
        story.sends(&format!("S{number}")).await;
    }
    story.settled().await;
    let router = &story.scene.router;
    // With the router held, the command waits for the answer to its first piece of a hundred.
    router.signal(Signal::STOP).unwrap();
    let command = Command::new(env!("CARGO_BIN_EXE_jackfield"))
        .args(["replay", "--route", "screens", "--yes", "--config"])
        .arg(router.configuration())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let id = command.id().unwrap();
    while !catches_interrupts(id) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    router.signal(Signal::CONT).unwrap();
    let output = command.wait_with_output().await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("stopped after 100 of 130"), "{words}");

    story.settled().await;
    // The replays died as well, and are dead letters like any other, but younger than what is left.
    let rest = story
        .ask(&["replay", "--route", "screens", "-n", "30", "--yes"])
        .await;
    assert_eq!(rest["deliveries"].as_array().unwrap().len(), 30);
    let all = story.ask(&["deliveries", "list", "-n", "1000"]).await;
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 130 + 100 + 30);
    for delivery in &all[130..] {
        assert_eq!(delivery["replays"].as_array().unwrap().len(), 1, "{delivery:#}");
    }
}

/// Whether a process has said what an interrupt does to it.
fn catches_interrupts(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (Signal::INT.as_raw() - 1)) != 0
}

#[tokio::test]
async fn replay_and_rules_an_event_is_routed_by_those_that_are_asked_for() {
    let story = Story::begin(SCREENS).await;
    story.screen("S1").await;
    let event = story.ids(&["events", "list"]).await.remove(0);
    let then = story.ask(&["events", "show", &event]).await["generation"].clone();
    let routes = story.scene.router.home().join("routes.toml");
    let mended = SCREENS.replace("#nowhere", "#screens");
    let second = mended.replace("\"screens\"", "\"again\"");
    fs::write(&routes, format!("{mended}{second}")).unwrap();
    story.scene.router.command(&["routes", "reload"]).await.unwrap();

    let preview = story
        .ask(&["replay", &event, "--rules", "then", "--dry-run"])
        .await;
    assert_eq!(preview["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(preview["deliveries"][0]["generation"], then);
    let preview = story.ask(&["replay", &event, "--dry-run"]).await;
    let planned = preview["deliveries"].as_array().unwrap().iter();
    let planned: Vec<_> = planned.map(|one| one["route"].as_str().unwrap()).collect();
    assert_eq!(planned, ["screens", "again"]);

    let again = story.again(&["replay", &event, "--route", "again"]).await;
    assert_eq!(
        (&again["route"], &again["state"]),
        (&json!("again"), &json!("succeeded"))
    );
    assert_eq!(again["parent"], Value::Null);
    assert_eq!(again["asked"]["what"], "replay");
    let then_again = story.again(&["replay", &event, "--rules", "then"]).await;
    assert_eq!(
        (&then_again["state"], &then_again["generation"]),
        (&json!("dead"), &then)
    );
    let unmatched = story.refused(&["replay", &event, "--route", "other"]).await;
    assert!(unmatched.contains("there is no route `other`"), "{unmatched}");
    assert_eq!(story.posted("#screens").len(), 1);
}

#[tokio::test]
async fn what_nobody_knows_is_settled_by_a_person_either_way() {
    let story = Story::begin(TWICE).await;
    story.scene.slack.trouble(Trouble::Status(503));
    story.screen("S1").await;
    let dead = story.ids(&["dead", "list"]).await.remove(0);
    assert_eq!(story.show(&dead).await["failure"]["reason"], "plugin-ambiguous");
    // Done again under the same key it is as unknown as before.
    let replay = story.again(&["replay", &dead]).await;
    assert_eq!(replay["failure"]["reason"], "plugin-ambiguous");
    let replay = replay["id"].as_str().unwrap();
    assert_eq!(story.posted("webhook"), [] as [&str; 0]);
    let old = story.refused(&["deliveries", "resolve", &dead, "--repeat"]).await;
    assert!(
        old.contains(&format!("was replayed before, as {replay}")),
        "{old}"
    );

    let repeated = story
        .again(&[
            "deliveries",
            "resolve",
            replay,
            "--repeat",
            "--note",
            "not in the channel",
        ])
        .await;
    assert_eq!(repeated["state"], "succeeded", "{repeated:#}");
    assert_eq!(repeated["asked"]["what"], "resolve-repeat");
    assert_eq!(repeated["asked"]["note"], "not in the channel");
    assert_eq!(story.posted("webhook").len(), 1);
    assert_eq!(story.posted("#screens"), ["posted as nobody knows what"]);
    // What is known from then on stays known to the next replay.
    let kept = story.again(&["replay", repeated["id"].as_str().unwrap()]).await;
    assert_eq!(kept["state"], "succeeded");
    assert_eq!(story.posted("webhook").len(), 1);

    story.scene.slack.trouble(Trouble::Status(503));
    story.screen("S2").await;
    let dead = story.ids(&["dead", "list"]).await.remove(0);
    let no_json = ["deliveries", "resolve", &dead, "--done", "--output", "{ts"];
    assert!(story.refused(&no_json).await.contains("--output is not JSON"));
    let output = r#"{ "ts": "1.2" }"#;
    let done = story
        .again(&["deliveries", "resolve", &dead, "--done", "--output", output])
        .await;
    assert_eq!(done["state"], "succeeded", "{done:#}");
    let resolved = &done["attempts"][0];
    assert_eq!(
        (&resolved["outcome"], &resolved["reason"]),
        (&json!("done"), &json!("resolved"))
    );
    assert_eq!(story.posted("webhook").len(), 1, "nothing was posted for it");
    assert_eq!(story.posted("#screens")[1], "posted as 1.2");

    let settled = done["id"].as_str().unwrap();
    let no_doubt = story.refused(&["deliveries", "resolve", settled, "--done"]).await;
    assert!(no_doubt.contains("is succeeded"), "{no_doubt}");
    let neither = ["deliveries", "resolve", settled];
    let usage = story.scene.router.attempt(&neither).await.unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[tokio::test]
async fn a_failure_that_leaves_no_doubt_is_not_settled_but_done_again() {
    let story = Story::begin(SCREENS).await;
    story.screen("S1").await;
    let dead = story.ids(&["dead", "list"]).await.remove(0);
    let refused = story.refused(&["deliveries", "resolve", &dead, "--done"]).await;
    let way = format!("`jackfield replay {dead} --from slack` does it again");
    assert!(refused.contains(&way), "{refused}");
}

#[tokio::test]
async fn what_nobody_wants_is_canceled_also_while_it_runs_and_the_next_of_its_key_goes_on() {
    let story = Story::begin(&SCREENS.replace("#nowhere", "#screens")).await;
    story.scene.slack.withhold().close();
    story.sends("S1").await;
    story.scene.slack.withhold().arrival().await;
    story.sends("S2").await;
    story.sends("S3").await;
    let ids = story.ids(&["deliveries", "list"]).await;
    let [third, second, first] = &ids[..] else {
        panic!("{ids:?}")
    };

    let words = story
        .scene
        .router
        .command(&["deliveries", "cancel", second, "--note", "not needed"])
        .await
        .unwrap();
    assert!(words.contains("is canceled"), "{words}");
    let words = story
        .scene
        .router
        .command(&["deliveries", "cancel", first])
        .await
        .unwrap();
    assert!(words.contains("its call was told to stop"), "{words}");
    // The gate is still closed: the first ends since its call is told to, and the third then waits at the gate.
    let stopped = loop {
        let shown = story.show(first).await;
        if shown["state"] == "canceled" {
            break shown;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(stopped["reason"], "canceled");
    story.scene.slack.withhold().open();
    story.settled().await;
    assert_eq!(story.show(third).await["state"], "succeeded");
    assert_eq!(story.show(first).await["state"], "canceled");
    let second_shown = story.show(second).await;
    assert_eq!(second_shown["state"], "canceled");
    assert_eq!(second_shown["cancel"]["note"], "not needed");
    assert_eq!(story.ids(&["dead", "list", "--all"]).await, [] as [&str; 0]);
    let late = story.refused(&["deliveries", "cancel", third]).await;
    assert!(late.contains("is succeeded already"), "{late}");

    // Whether the call that was stopped did post, a person has seen.
    let done = story.again(&["deliveries", "resolve", first, "--done"]).await;
    assert_eq!(done["state"], "succeeded");
    assert_eq!(story.posted("#screens").len(), 2);
}
