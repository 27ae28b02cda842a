//! Others push at the same time.

use jackfield_sdk::testing::HostCall;
use serde_json::json;

use crate::world::{World, retry};

#[tokio::test]
async fn on_a_moved_branch_the_files_are_applied_anew() {
    let world = World::new();
    world.brings(&[("a.json", "ours")]);
    world.host.hold(HostCall::Intend);
    let plugin = world.start().await;
    let running = plugin.begin(world.call(json!({ "own": true })));
    world.host.held(HostCall::Intend, 1).await;
    // The commit is made, its push is next. What the other brings into our directory goes with it.
    let theirs = world.push("main", &[("src/x", "theirs"), ("tokens/b.json", "theirs")]);
    world.host.release(HostCall::Intend);
    let output = running.end().await.done();
    assert_eq!(output["sha"], world.tip("main"));
    assert_eq!(world.ask(&["rev-parse", "main~1"]), theirs);
    let files = world.files("main");
    assert_eq!(
        (files["src/x"].as_str(), files["tokens/a.json"].as_str()),
        ("theirs", "ours")
    );
    assert!(!files.contains_key("tokens/b.json") && !files.contains_key("tokens/old/b.json"));
}

#[tokio::test]
async fn a_rewound_branch_is_not_put_back() {
    let world = World::new();
    let first = world.tip("main");
    world.push("main", &[("src/mistake", "x")]);
    world.brings(&[("a.json", "ours")]);
    world.host.hold(HostCall::Intend);
    let plugin = world.start().await;
    let running = plugin.begin(world.call(json!({})));
    world.host.held(HostCall::Intend, 1).await;
    // Our commit stands on the mistake: a plain push would be a fast-forward, and bring it back.
    world.ask(&["update-ref", "refs/heads/main", &first]);
    world.host.release(HostCall::Intend);
    running.end().await.done();
    assert_eq!(world.ask(&["rev-parse", "main~1"]), first);
    assert!(!world.files("main").contains_key("src/mistake"));
}

#[tokio::test]
async fn when_another_does_the_same_there_is_nothing_left_to_do() {
    let world = World::new();
    world.brings(&[("a.json", "same")]);
    world.host.hold(HostCall::Intend);
    let plugin = world.start().await;
    let running = plugin.begin(world.call(json!({})));
    world.host.held(HostCall::Intend, 1).await;
    let theirs = world.push("main", &[("tokens/a.json", "same")]);
    world.host.release(HostCall::Intend);
    let output = running.end().await.done();
    assert_eq!(
        output,
        json!({ "sha": theirs, "changed": false, "branch": "main", "files": 0 })
    );
}

#[tokio::test]
async fn calls_to_one_repository_take_turns() {
    let world = World::new();
    world.brings(&[("x", "x")]);
    let (one, other) = (world.start().await, world.start().await);
    let running: Vec<_> = (0..6)
        .map(|number| {
            let plugin = if number % 2 == 0 { &one } else { &other };
            let to = format!("place/{number}/");
            plugin.begin(world.call(json!({ "to": to })).key(to))
        })
        .collect();
    for running in running {
        assert_eq!(running.end().await.done()["changed"], true);
    }
    assert_eq!(world.count("main"), 1 + 6);
}

#[tokio::test]
async fn a_branch_that_never_rests_is_left_to_the_next_attempt() {
    let world = World::new();
    world.brings(&[("a.json", "ours")]);
    // Before each of our pushes comes another's.
    let git = world.script(
        "busy-git",
        &format!(
            "if [ \"$1\" = push ]; then (\n\
             cd '{}' || exit 1; unset GIT_DIR; export GIT_ALLOW_PROTOCOL=file\n\
             export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x\n\
             git commit --quiet --allow-empty --message more && git push --quiet origin main\n\
             ) || exit 99; fi\nexec git \"$@\"",
            world.at("clone").display()
        ),
    );
    let plugin = world.start_with(json!({ "git": git, "push_attempts": 3 })).await;
    let report = plugin.call(world.call(json!({}))).await;
    retry(&report, "others moved the branch of ");
    retry(&report, "during all 3 pushes");
    assert_eq!((world.count("main"), world.ours("main").len()), (1 + 3, 0));
}
