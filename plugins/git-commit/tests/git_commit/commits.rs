//! What is committed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use jackfield_sdk::{
    Receipt,
    event::Actor,
    testing::{Harness, event},
};
use serde_json::{Value, json};

use crate::world::{KEY, World, fatal};

#[tokio::test]
async fn a_directory_becomes_one_commit() {
    let world = World::new();
    world.brings(&[("a.json", "1"), ("c.json", "4")]);
    let mut event = event();
    event.data.actor = Some(Actor {
        id: Some("u-1".into()),
        name: Some("Ada".into()),
        avatar: None,
    });
    let before = world.tip("main");
    let digest = "ab".repeat(32);
    let call = world
        .call(json!({ "artifact_sha256": digest, "trailers": { "Reviewed-by": "Grace" } }))
        .event(&event);
    let output = world.start().await.call(call).await.done();

    let sha = world.tip("main");
    assert_eq!(
        output,
        json!({ "sha": sha, "changed": true, "branch": "main", "files": 1 })
    );
    assert_eq!(world.ask(&["rev-parse", "main~1"]), before);
    assert_eq!(
        world.paths("main"),
        [
            "README.md",
            "src/x",
            "tokens/a.json",
            "tokens/c.json",
            "tokens/old/b.json"
        ]
    );
    assert_eq!(
        world.ask(&["log", "-1", "--format=%an <%ae> %at%n%cn <%ce>%n%B", "main"]),
        format!(
            "Ada <u-1@supernova.invalid> 1767225600\nBot <bot@acme.example>\nA test\n\n\
             Reviewed-by: Grace\nEvent-Id: {}\nArtifact-Sha256: {digest}\nIdempotency-Key: {KEY}",
            event.id
        )
    );
    assert_eq!(world.host.receipt(KEY), Receipt::Done(output));
}

#[tokio::test]
async fn only_in_an_owned_directory_vanished_files_are_deleted() {
    for (more, expected) in [
        (
            json!({}),
            vec![
                "README.md",
                "src/x",
                "tokens/a.json",
                "tokens/new",
                "tokens/old/b.json",
            ],
        ),
        (json!({ "own": true }), vec!["README.md", "src/x", "tokens/new"]),
        (
            json!({ "own": true, "keep": ["old/"] }),
            vec!["README.md", "src/x", "tokens/new", "tokens/old/b.json"],
        ),
        (
            json!({ "own": true, "to": "tokens/old" }),
            vec!["README.md", "src/x", "tokens/a.json", "tokens/old/new"],
        ),
        (json!({ "own": true, "to": "" }), vec!["new"]),
    ] {
        let world = World::new();
        world.brings(&[("new", "5")]);
        world.start().await.call(world.call(more.clone())).await.done();
        assert_eq!(world.paths("main"), expected, "{more}");
    }
}

#[tokio::test]
async fn what_changes_nothing_is_no_commit() {
    let world = World::new();
    let before = world.tip("main");
    world.brings(&[("a.json", "1")]);
    let output = world.start().await.call(world.call(json!({}))).await.done();
    assert_eq!(
        output,
        json!({ "sha": before, "changed": false, "branch": "main", "files": 0 })
    );
    assert_eq!(
        (world.tip("main"), world.host.receipt(KEY)),
        (before, Receipt::Absent)
    );
}

#[tokio::test]
async fn the_next_event_builds_on_the_last_and_on_what_others_pushed() {
    let world = World::new();
    let plugin = world.start().await;
    for round in 0..4 {
        world.brings(&[("a.json", &format!("round {round}"))]);
        plugin
            .call(world.call(json!({})).key(format!("key {round}")))
            .await
            .done();
        if round % 2 == 0 {
            world.push("main", &[("src/x", &format!("work {round}"))]);
        }
    }
    assert_eq!(world.count("main"), 1 + 4 + 2);
    let files = world.files("main");
    assert_eq!(
        (files["tokens/a.json"].as_str(), files["src/x"].as_str()),
        ("round 3", "work 2")
    );
}

#[tokio::test]
async fn an_empty_repository_gets_its_first_commit() {
    let world = World::empty();
    world.brings(&[("a.json", "1")]);
    let plugin = world.start().await;
    fatal(
        &plugin.call(world.call(json!({ "branch": null }))).await,
        "does not tell its default branch",
    );
    let output = plugin.call(world.call(json!({}))).await.done();
    assert_eq!(
        (output["changed"].clone(), output["files"].clone()),
        (json!(true), json!(1))
    );
    assert_eq!(
        (world.count("main"), world.paths("main")),
        (1, vec!["tokens/a.json".to_owned()])
    );
}

#[tokio::test]
async fn a_branch_is_created_only_as_the_step_says() {
    let world = World::new();
    world.brings(&[("c.json", "4")]);
    let plugin = world.start().await;
    let call = |branch: &str, create: Value| {
        world
            .call(json!({ "branch": branch, "create": create }))
            .key(branch)
    };
    fatal(
        &plugin.call(call("new", Value::Null)).await,
        "has no branch `new`: make it, or let `create` say how",
    );

    plugin
        .call(call("from/default", json!("from-default")))
        .await
        .done();
    assert_eq!(world.ask(&["rev-parse", "from/default~1"]), world.tip("main"));
    plugin.call(call("alone", json!("orphan"))).await.done();
    assert_eq!(
        (world.count("alone"), world.paths("alone")),
        (1, vec!["tokens/c.json".to_owned()])
    );
    // `from` and `from/default` cannot both be branches, but the mirror does not mind a change of mind.
    world.ask(&["update-ref", "-d", "refs/heads/from/default"]);
    plugin.call(call("from", json!("from-default"))).await.done();
    assert_eq!(world.count("from"), 2);
}

#[tokio::test]
async fn without_a_branch_it_is_the_default_one() {
    let world = World::new();
    world.push("trunk", &[]);
    world.ask(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    world.brings(&[("c.json", "4")]);
    let output = world
        .start()
        .await
        .call(world.call(json!({ "branch": null })))
        .await
        .done();
    assert_eq!(
        (output["branch"].clone(), output["sha"].clone()),
        (json!("trunk"), json!(world.tip("trunk")))
    );
    assert_eq!(world.count("main"), 1);
}

#[tokio::test]
async fn several_mappings_make_one_commit() {
    let world = World::new();
    world.brings(&[("css/a.css", "a"), ("t.json", "t")]);
    let files = json!([
        { "from": "out/css", "to": "web", "own": true },
        { "from": "out/t.json", "to": "tokens/" },
        { "from": "out/t.json", "to": "top.json" },
    ]);
    let output = world
        .start()
        .await
        .call(world.call(json!({ "from": null, "to": null, "files": files })))
        .await
        .done();
    assert_eq!(output["files"], 3);
    let paths = world.paths("main");
    for path in ["web/a.css", "tokens/t.json", "top.json"] {
        assert!(paths.iter().any(|known| known == path), "{path} in {paths:?}");
    }
}

#[tokio::test]
async fn files_go_in_byte_for_byte_under_their_own_names() {
    let world = World::new();
    world.push("main", &[(".gitattributes", "* text=auto eol=crlf\n")]);
    let names = [
        "with space",
        "-dash",
        "\"quoted\"",
        "ünïcode",
        "a'b",
        "$(id)",
        "%s",
        ".hidden/x",
        "*",
    ];
    let bytes = [0, b'\r', b'\n', b'\n', 0xff];
    world.brings(&[("x", "")]);
    for name in names {
        let path = world.at("work/out").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    world.start().await.call(world.call(json!({}))).await.done();
    fs::write(world.at("expected"), bytes).unwrap();
    let expected = world.git(&["hash-object", "--no-filters", "expected"]);
    let tree = world.ask(&["ls-tree", "-r", "-z", "main", "tokens/"]);
    for name in names {
        let entry = format!("100644 blob {expected}\ttokens/{name}");
        assert!(tree.split('\0').any(|line| line == entry), "{entry} in {tree}");
    }
}

#[tokio::test]
async fn the_executable_bit_follows_the_policy() {
    for (policy, modes) in [
        ("as-in-repository", ["100644", "100755"]),
        ("as-in-source", ["100755", "100644"]),
        ("never", ["100644", "100644"]),
    ] {
        let world = World::new();
        world.brings(&[("a.json", "changed"), ("run", "changed")]);
        world.push("main", &[("tokens/run", "1")]);
        world.git(&["-C", "clone", "update-index", "--chmod=+x", "tokens/run"]);
        world.git(&["-C", "clone", "commit", "--quiet", "--message", "run"]);
        world.git(&["-C", "clone", "push", "--quiet", "origin", "main"]);
        fs::set_permissions(world.at("work/out/a.json"), fs::Permissions::from_mode(0o755)).unwrap();
        world
            .start()
            .await
            .call(world.call(json!({ "executable": policy })))
            .await
            .done();
        let found = world.ask(&[
            "ls-tree",
            "--format=%(objectmode)",
            "main",
            "tokens/a.json",
            "tokens/run",
        ]);
        assert_eq!(found.lines().collect::<Vec<_>>(), modes, "{policy}");
    }
}

#[tokio::test]
async fn thousands_of_files_are_one_commit() {
    let world = World::new();
    let names: Vec<String> = (0..3000)
        .map(|number| format!("{}/{number}.svg", number % 50))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    world.brings(&files);
    let output = world
        .start()
        .await
        .call(world.call(json!({ "own": true })))
        .await
        .done();
    assert_eq!(output["files"], 3000 + 2);
    assert_eq!(
        world
            .ask(&["ls-tree", "-r", "--name-only", "main", "tokens/"])
            .lines()
            .count(),
        3000
    );
}

#[tokio::test]
async fn a_repository_of_the_other_hash_works_as_well() {
    let world = World::empty();
    fs::remove_dir_all(world.at("remote.git")).unwrap();
    world.git(&[
        "init",
        "--quiet",
        "--bare",
        "--initial-branch=main",
        "--object-format=sha256",
        "remote.git",
    ]);
    world.push("main", &[("tokens/old", "1")]);
    world.brings(&[("a.json", "1")]);
    let output = world
        .start()
        .await
        .call(world.call(json!({ "own": true })))
        .await
        .done();
    assert_eq!(output["sha"].as_str().unwrap().len(), 64);
    assert_eq!(world.paths("main"), ["tokens/a.json"]);
}

#[test]
fn the_schemas_say_what_the_fields_mean() {
    let manifest = Harness::<git_commit::GitCommit>::manifest();
    let text = manifest.to_string();
    for part in [
        "git-commit",
        "The repositories that steps may name",
        "nothing is ever deleted",
        "writeOnly",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}
