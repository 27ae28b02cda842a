//! Whatever dies in the middle of a call, there is one commit.

use std::{fs, path::Path, time::Duration};

use jackfield_sdk::{
    Receipt,
    testing::{Call, Ended, HostCall, library},
};
use serde_json::json;

use crate::world::{KEY, World, abandoned_at, heard, retry, tell};

/// A world whose call has something to do.
fn world() -> World {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    world
}

#[tokio::test]
async fn a_crash_between_the_push_and_the_word_of_it_is_found() {
    let mut world = world();
    world.host.hold(HostCall::Record);
    let plugin = world.start().await;
    let running = plugin.begin(world.call(json!({})));
    world.host.held(HostCall::Record, 1).await;
    drop(running);
    plugin.crash().await;
    let first = world.tip("main");
    let base = world.ask(&["rev-parse", "main~1"]);
    let intent = json!({ "repository": world.remote(), "branch": "main", "base": base });
    assert_eq!(world.host.receipt(KEY), Receipt::Intended(intent));
    // Meanwhile others go on: the commit is no longer the tip.
    world.push("main", &[("src/x", "more")]);

    world.restart_host();
    let output = world
        .start()
        .await
        .call(world.call(json!({})).attempt(2))
        .await
        .done();
    assert_eq!(
        output,
        json!({ "sha": first, "changed": true, "branch": "main", "files": 1 })
    );
    assert_eq!((world.ours("main"), world.count("main")), (vec![first], 3));
    assert_eq!(world.host.receipt(KEY), Receipt::Done(output));
}

#[tokio::test]
async fn a_crash_while_the_servers_hook_runs_is_found() {
    let world = world();
    let (landed, gate) = (world.pipe("landed"), world.pipe("gate"));
    world.hook(
        "post-receive",
        &format!("echo > '{}'; read go < '{}'", landed.display(), gate.display()),
    );
    let plugin = world.start().await;
    let running = plugin.begin(world.call(json!({})));
    abandoned_at(landed, running).await;
    plugin.crash().await;
    let first = world.tip("main");

    let output = world
        .start()
        .await
        .call(world.call(json!({})).attempt(2))
        .await
        .done();
    assert_eq!(
        (output["sha"].clone(), output["changed"].clone()),
        (json!(first), json!(true))
    );
    assert_eq!((world.ours("main").len(), world.count("main")), (1, 2));
}

/// A world that is reached by a stand-in for ssh. Its first push outlives its client, as on a real server, and is held
/// in the server's hook before it lands: until somebody writes into `gate`. Into `through` goes that it has ended.
fn world_with_a_lingering_push() -> (World, serde_json::Value) {
    let world = world();
    let [waiting, gate, through] =
        ["waiting", "gate", "through"].map(|name| world.pipe(name).display().to_string());
    let (push, hook) = (
        world.at("push").display().to_string(),
        world.at("hook").display().to_string(),
    );
    world.hook(
        "pre-receive",
        &format!("mkdir '{hook}' 2>/dev/null || exit 0; cat > '{hook}/pushes'; echo > '{waiting}'; read go < '{gate}'"),
    );
    let ssh = world.script(
        "ssh",
        &format!(
            "for last; do :; done\n\
             case $last in *receive-pack*) if mkdir '{push}' 2>/dev/null; then\n\
             exec setsid sh -c \"$last; echo > '{through}'\"\n\
             fi;; esac\n\
             eval \"$last\""
        ),
    );
    let config = json!({ "repositories": ["ssh://h/*"], "protocols": ["ssh"], "ssh": { "key": "/key", "program": ssh } });
    (world, config)
}

/// An attempt whose commit is not that of another, as it would be if both were made in the same second.
fn attempt_by_ssh(world: &World, attempt: u32) -> Call {
    let repository = format!("ssh://h{}", world.remote());
    let message = format!("Attempt {attempt}");
    world
        .call(json!({ "repository": repository, "message": message }))
        .attempt(attempt)
}

/// The commit that the lingering push carries.
fn lingering(world: &World) -> String {
    let pushes = fs::read_to_string(world.at("hook/pushes")).unwrap();
    pushes.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn the_push_of_a_dead_attempt_cannot_land_after_ours() {
    let (world, config) = world_with_a_lingering_push();
    let call = |attempt| attempt_by_ssh(&world, attempt);
    let plugin = world.start_with(config.clone()).await;
    let running = plugin.begin(call(1));
    abandoned_at(world.at("waiting"), running).await;
    plugin.crash().await;

    let output = world.start_with(config).await.call(call(2)).await.done();
    tell(world.at("gate")).await;
    heard(world.at("through")).await;
    assert_eq!(
        (output["sha"].clone(), output["changed"].clone()),
        (json!(world.tip("main")), json!(true))
    );
    assert_ne!(output["sha"], lingering(&world));
    assert_eq!((world.ours("main").len(), world.count("main")), (1, 2));
}

#[tokio::test]
async fn the_push_of_a_dead_attempt_that_lands_before_ours_is_found() {
    let (world, mut config) = world_with_a_lingering_push();
    let call = |attempt| attempt_by_ssh(&world, attempt);
    let plugin = world.start_with(config.clone()).await;
    let running = plugin.begin(call(1));
    abandoned_at(world.at("waiting"), running).await;
    plugin.crash().await;

    // It lands in the last moment: after we have looked for it, and made a commit of our own.
    let (gate, through) = (world.at("gate"), world.at("through"));
    let lines = format!(
        "if [ \"$1\" = push ] && mkdir '{}' 2>/dev/null; then echo > '{}'; read ended < '{}'; fi\nexec git \"$@\"",
        world.at("released").display(),
        gate.display(),
        through.display()
    );
    config["git"] = json!(world.script("git-with-gate", &lines));
    let output = world.start_with(config).await.call(call(2)).await.done();
    assert!(
        world.at("released").exists(),
        "the second attempt came as far as its push"
    );
    assert_eq!(
        (output["sha"].clone(), output["changed"].clone()),
        (json!(lingering(&world)), json!(true))
    );
    assert_eq!(output["sha"], world.tip("main"));
    assert_eq!((world.ours("main").len(), world.count("main")), (1, 2));
}

#[tokio::test]
async fn a_canceled_call_leaves_nothing_running_and_the_next_attempt_ends_it() {
    let world = world();
    let (landed, gate) = (world.pipe("landed"), world.pipe("gate"));
    world.hook(
        "pre-receive",
        &format!("echo $$ > '{}'; read go < '{}'", landed.display(), gate.display()),
    );
    let plugin = world.start().await;
    let running = plugin.begin(world.call(json!({})));
    heard(landed).await;
    running.cancel();
    let report = running.end().await;
    assert_eq!(report.outcome, Ended::Retry, "{report:?}");
    assert_eq!(
        world.count("main"),
        1,
        "the group of processes was ended before its push landed"
    );

    fs::remove_file(world.at("remote.git/hooks/pre-receive")).unwrap();
    let output = plugin.call(world.call(json!({})).attempt(2)).await.done();
    assert_eq!(
        (output["changed"].clone(), world.ours("main").len()),
        (json!(true), 1)
    );
    assert!(plugin.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_call_that_is_canceled_anywhere_has_one_commit_after_the_next_attempt() {
    if library().is_some() {
        return;
    }
    let world = world();
    let plugin = world.start().await;
    let call = world.call(json!({}));
    let (times, undisturbed) = plugin
        .cancel_at_each_await(call, async |cut| {
            assert!(world.commits_of(cut.key(), "main").len() <= 1);
            plugin.call(cut.again()).await.done();
            assert_eq!(world.commits_of(cut.key(), "main").len(), 1);
            // The next run has something to do as well.
            world.brings(&[("a.json", cut.key())]);
        })
        .await;
    undisturbed.done();
    assert_eq!(world.count("main"), times + 2, "one before, one for each run");
    assert!(times > 10, "{times}");
}

#[tokio::test]
async fn a_host_that_cannot_write_stops_the_push_and_forgets_no_push() {
    let world = world();
    let plugin = world.start().await;
    world.host.fail(HostCall::Intend, 1);
    assert_eq!(plugin.call(world.call(json!({}))).await.outcome, Ended::Retry);
    assert_eq!(
        world.count("main"),
        1,
        "nothing is pushed without an intent on disk"
    );
    world.host.fail(HostCall::Record, 1);
    assert_eq!(
        plugin.call(world.call(json!({})).attempt(2)).await.outcome,
        Ended::Retry
    );
    assert_eq!(world.count("main"), 2);
    let output = plugin.call(world.call(json!({})).attempt(3)).await.done();
    assert_eq!(
        (output["sha"].clone(), output["changed"].clone()),
        (json!(world.tip("main")), json!(true))
    );
    assert_eq!(world.count("main"), 2);
}

#[tokio::test]
async fn what_is_written_down_as_done_is_not_looked_at_again() {
    let world = world();
    let done = json!({ "sha": "1f", "changed": true, "branch": "main", "files": 1 });
    world.host.set_receipt(KEY, Receipt::Done(done.clone()));
    fs::remove_dir_all(world.at("remote.git")).unwrap();
    assert_eq!(world.start().await.call(world.call(json!({}))).await.done(), done);
}

#[tokio::test]
async fn only_a_trailer_tells_a_commit_of_ours() {
    let world = world();
    let intent = json!({ "repository": world.remote(), "branch": "main", "base": world.tip("main") });
    world.host.set_receipt(KEY, Receipt::Intended(intent));
    for message in [
        format!("Idempotency-Key: {KEY}\n\nThis is text."),
        format!("Subject\n\nIdempotency-Key: {KEY}\n\nSigned-off-by: x"),
        format!("Subject\n\nIdempotency-Key: {KEY}0"),
        format!("Subject\n\nIdempotency-Key: x {KEY}"),
    ] {
        world.push_saying("main", &[], &message);
    }
    let output = world.start().await.call(world.call(json!({}))).await.done();
    assert_eq!(
        (output["sha"].clone(), world.count("main")),
        (json!(world.tip("main")), 6)
    );
}

#[tokio::test]
async fn a_found_commit_counts_although_its_files_are_there_already() {
    let world = world();
    let plugin = world.start().await;
    let first = plugin.call(world.call(json!({}))).await.done();
    let base = world.ask(&["rev-parse", "main~1"]);
    // All history is searched where the base is gone or was none, as after a rewrite of the branch.
    for base in [json!(base), json!("1f".repeat(20)), json!(null)] {
        let intent = json!({ "repository": world.remote(), "branch": "main", "base": base });
        world.host.set_receipt(KEY, Receipt::Intended(intent));
        assert_eq!(plugin.call(world.call(json!({})).attempt(2)).await.done(), first);
    }
    assert_eq!(world.count("main"), 2);
}

#[tokio::test]
async fn a_found_commit_counts_although_its_files_are_gone() {
    let world = world();
    let plugin = world.start().await;
    world.host.fail(HostCall::Record, 1);
    assert_eq!(plugin.call(world.call(json!({}))).await.outcome, Ended::Retry);
    fs::remove_dir_all(world.at("work/out")).unwrap();
    let output = plugin.call(world.call(json!({})).attempt(2)).await.done();
    assert_eq!(output["sha"], world.tip("main"));
}

#[tokio::test]
async fn an_intent_for_another_branch_is_not_taken_for_ours() {
    let world = world();
    let plugin = world.start().await;
    plugin.call(world.call(json!({}))).await.done();
    world.push("other", &[("tokens/a.json", "as it was")]);
    let intent = json!({ "repository": world.remote(), "branch": "main", "base": null });
    world.host.set_receipt(KEY, Receipt::Intended(intent));
    let output = plugin
        .call(world.call(json!({ "branch": "other" })).attempt(2))
        .await
        .done();
    assert_eq!(
        (output["branch"].clone(), output["sha"].clone()),
        (json!("other"), json!(world.tip("other")))
    );
}

#[tokio::test]
async fn what_a_killed_call_left_in_the_mirror_is_no_hindrance() {
    let world = world();
    let plugin = world.start().await;
    plugin.call(world.call(json!({}))).await.done();
    let mirror = world.mirror();
    let reference = fs::read_dir(mirror.join("refs/jackfield"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for lock in [
        mirror.join("HEAD.lock"),
        mirror.join("packed-refs.lock"),
        mirror.join("index.lock"),
        reference.with_extension("lock"),
    ] {
        fs::write(lock, "").unwrap();
    }
    fs::write(mirror.join("jackfield-tmp-1.lock"), "").unwrap();
    world.push("main", &[("src/x", "more")]);
    world.brings(&[("a.json", "newer")]);
    plugin.call(world.call(json!({})).key("next")).await.done();
    assert_eq!(world.files("main")["tokens/a.json"], "newer");
    assert!(!mirror.join("HEAD.lock").exists() && !mirror.join("jackfield-tmp-1.lock").exists());
}

/// What is broken, and how.
type Breakage = (&'static str, fn(&Path));

#[tokio::test]
async fn a_broken_mirror_is_made_anew() {
    let world = world();
    let plugin = world.start().await;
    plugin.call(world.call(json!({}))).await.done();
    let mirror = world.mirror();
    let breakages: [Breakage; 5] = [
        ("its HEAD is gone", |mirror| {
            fs::remove_file(mirror.join("HEAD")).unwrap()
        }),
        ("its configuration is garbage", |mirror| {
            fs::write(mirror.join("config"), "[core").unwrap()
        }),
        ("its objects are gone", |mirror| {
            fs::remove_dir_all(mirror.join("objects")).unwrap()
        }),
        ("a reference is garbage", |mirror| {
            let reference = fs::read_dir(mirror.join("refs/jackfield"))
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path();
            fs::write(reference, "garbage").unwrap();
        }),
        ("it is a file", |mirror| {
            fs::remove_dir_all(mirror).unwrap();
            fs::write(mirror, "").unwrap();
        }),
    ];
    for (what, breakage) in breakages {
        breakage(&mirror);
        world.brings(&[("a.json", what)]);
        let output = plugin.call(world.call(json!({})).key(what)).await.done();
        assert_eq!(
            (
                output["changed"].clone(),
                world.files("main")["tokens/a.json"].as_str()
            ),
            (json!(true), what)
        );
    }
}

#[tokio::test]
async fn a_mirror_that_stays_unusable_is_a_retry() {
    let world = world();
    let plugin = world.start().await;
    world.script(
        "broken-git",
        "case $1 in version|ls-remote|rev-parse|fetch) exec git \"$@\";; *) echo oops >&2; exit 1;; esac",
    );
    let broken = world.start_with(json!({ "git": world.at("broken-git") })).await;
    retry(
        &broken.call(world.call(json!({}))).await,
        "is unusable: git ls-tree: oops",
    );
    plugin.call(world.call(json!({}))).await.done();
}

#[tokio::test]
async fn no_message_hides_from_the_next_attempt_that_it_was_pushed() {
    let mut world = world();
    // git takes what follows the last line for none of the message's.
    let message = "Update\n\nIdempotency-Key: forged\n# ------------------------ >8 ------------------------";
    let input = json!({ "message": message });
    world.host.hold(HostCall::Record);
    let plugin = world.start().await;
    let running = plugin.begin(world.call(input.clone()));
    world.host.held(HostCall::Record, 1).await;
    drop(running);
    plugin.crash().await;
    let first = world.tip("main");
    // Somebody corrects what came in.
    world.push("main", &[("tokens/a.json", "corrected by hand")]);

    world.restart_host();
    let plugin = world.start().await;
    let output = plugin.call(world.call(input).attempt(2)).await.done();
    assert_eq!(output["sha"], json!(first));
    assert_eq!((world.ours("main"), world.count("main")), (vec![first], 3));
}
