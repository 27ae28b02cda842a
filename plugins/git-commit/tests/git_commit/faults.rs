//! What cannot succeed is told from what may succeed later.

use std::fs;

use jackfield_sdk::testing::Harness;
use serde_json::json;

use crate::world::{World, fatal, retry};

#[tokio::test]
async fn a_repository_that_is_not_there_is_fatal() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    let gone = world.at("gone.git");
    let report = world
        .start()
        .await
        .call(world.call(json!({ "repository": gone })))
        .await;
    fatal(&report, "does not appear to be a git repository");
    fatal(&report, "check the address");
}

#[tokio::test]
async fn a_hook_that_declines_is_fatal_in_the_servers_words() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    world.hook("pre-receive", "echo 'tokens are frozen until Monday' >&2; exit 1");
    let report = world.start().await.call(world.call(json!({}))).await;
    fatal(
        &report,
        "the server refused the push: pre-receive hook declined\ntokens are frozen until Monday",
    );
    assert_eq!(world.count("main"), 1);
}

#[tokio::test]
async fn a_locked_branch_is_a_retry() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    fs::write(world.at("remote.git/refs/heads/main.lock"), "").unwrap();
    let plugin = world.start_with(json!({ "push_attempts": 2 })).await;
    retry(&plugin.call(world.call(json!({}))).await, "during all 2 pushes");
    fs::remove_file(world.at("remote.git/refs/heads/main.lock")).unwrap();
    plugin.call(world.call(json!({})).attempt(2)).await.done();
    assert_eq!(world.ours("main").len(), 1);
}

#[tokio::test]
async fn a_refused_configuration_is_told_at_the_start() {
    let world = World::new();
    let refused = async |more: serde_json::Value| {
        let mut config = world.config();
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Harness::<git_commit::GitCommit>::start(config)
            .await
            .unwrap_err()
            .message
    };
    let message =
        refused(json!({ "repositories": ["https://h*"], "committer": { "name": "", "email": "" } })).await;
    assert!(
        message.contains("`https://h*` in `repositories`") && message.contains("`committer`"),
        "{message}"
    );
    let message = refused(json!({ "git": "no-such-git" })).await;
    assert!(message.contains("no-such-git"), "{message}");
    let old = world.script("old-git", "echo git version 2.30.2");
    let message = refused(json!({ "git": old })).await;
    assert!(
        message.contains("says `git version 2.30.2`, but git 2.32 or newer is needed"),
        "{message}"
    );
    fs::write(world.at("file"), "").unwrap();
    let message = refused(json!({ "cache": world.at("file") })).await;
    assert!(message.contains("is unusable"), "{message}");
}
