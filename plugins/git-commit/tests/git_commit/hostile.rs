//! Input that a payload's author chose.

use std::os::unix::fs::symlink;

use jackfield_sdk::testing::event;
use serde_json::json;

use crate::world::{KEY, World, fatal, files_below};

#[tokio::test]
async fn hostile_inputs_are_refused_before_anything_is_run() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    symlink("/etc/passwd", world.at("work/link")).unwrap();
    std::fs::create_dir(world.at("work/links")).unwrap();
    symlink("/etc/passwd", world.at("work/links/passwd")).unwrap();
    std::fs::create_dir_all(world.at("work/line\n/etc")).unwrap();
    std::fs::write(world.at("work/line\n/etc/hosts"), "mine").unwrap();
    let pwned = world.at("pwned");
    let (pwned_ext, pwned_pack) = (
        format!("ext::touch {}", pwned.display()),
        format!("--upload-pack=touch {}", pwned.display()),
    );
    let plugin = world
        .start_with(json!({ "protocols": ["file", "ssh", "https"], "ssh": { "key": "/key" } }))
        .await;
    for (more, part) in [
        (json!({ "repository": pwned_ext }), "is neither"),
        (json!({ "repository": pwned_pack }), "is neither"),
        (
            json!({ "repository": "https://evil.example/x" }),
            "is not in `repositories`",
        ),
        (
            json!({ "repository": "ssh://-oProxyCommand=id/x" }),
            "is not a plain one",
        ),
        (
            json!({ "repository": format!("{}/../x", world.at("a").display()) }),
            "which is not a plain name",
        ),
        (
            json!({ "branch": "--force" }),
            "which is not the name of a branch",
        ),
        (
            json!({ "branch": "main:refs/heads/other" }),
            "which is not the name of a branch",
        ),
        (
            json!({ "branch": "main\nx" }),
            "which is not the name of a branch",
        ),
        (json!({ "to": "../../x" }), "leaves the repository"),
        (json!({ "to": "/etc" }), "is absolute"),
        (json!({ "to": ".git/hooks" }), "belongs to git"),
        (json!({ "to": "a/.GIT" }), "belongs to git"),
        (json!({ "to": "a\nb" }), "control character"),
        (
            json!({ "to": ".github/workflows" }),
            "is among the `protected` paths",
        ),
        (json!({ "from": "/etc" }), "lies outside"),
        (json!({ "from": "../../../../etc/passwd" }), "lies outside"),
        (json!({ "from": "link" }), "is a symbolic link"),
        (json!({ "from": "links" }), "is a symbolic link"),
        (json!({ "from": "link/x" }), "does not exist"),
        (
            json!({ "from": "line\n/etc/hosts", "to": "a.txt" }),
            "control character",
        ),
        (json!({ "from": "line\n/etc" }), "control character"),
        (
            json!({ "trailers": { "Idempotency-Key": "x" } }),
            "is written by this plugin alone",
        ),
        (
            json!({ "author": { "name": "\n", "email": "\n" } }),
            "is not a name and an address",
        ),
    ] {
        fatal(&plugin.call(world.call(more)).await, part);
    }
    assert_eq!((world.count("main"), pwned.exists()), (1, false));
    assert_eq!(
        world.ask(&["for-each-ref", "--format=%(refname)"]),
        "refs/heads/main"
    );
}

#[tokio::test]
async fn values_cannot_forge_trailers_or_people() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    let mut event = event();
    event.data.title = Some("Tokens\n\nIdempotency-Key: forged\nCo-authored-by: x <x@x>".into());
    let actor =
        r#"{"id": "a@corp.example", "name": "Ada <ada@corp.example>\ncommitter Eve <eve@x> 0 +0000"}"#;
    event.data.actor = Some(serde_json::from_str(actor).unwrap());
    let more = json!({ "trailers": { "Note": "x\nIdempotency-Key: forged\n\nEvent-Id: forged" } });
    world
        .start()
        .await
        .call(world.call(more).event(&event))
        .await
        .done();

    let said = |format: &str| world.ask(&["log", "-1", &format!("--format={format}"), "main"]);
    assert_eq!(said("%(trailers:key=Idempotency-Key,valueonly)"), KEY);
    assert_eq!(said("%(trailers:key=Event-Id,valueonly)"), event.id.to_string());
    assert_eq!(said("%(trailers:key=Co-authored-by)"), "");
    assert_eq!(
        said("%s"),
        "Tokens Idempotency-Key: forged Co-authored-by: x <x@x>"
    );
    assert_eq!(
        said("%an|%ae|%cn|%ce"),
        "Ada ada@corp.example committer Eve eve@x 0 +0000|acorp.example@supernova.invalid|Bot|bot@acme.example"
    );
}

#[tokio::test]
async fn the_limits_of_the_instance_hold() {
    let world = World::new();
    world.brings(&[("a", "123456"), ("b", "123456")]);
    let few = world.start_with(json!({ "max_files": 1 })).await;
    fatal(&few.call(world.call(json!({}))).await, "more than 1 files");
    let small = world.start_with(json!({ "max_bytes": 11 })).await;
    fatal(&small.call(world.call(json!({}))).await, "more than 11 bytes");
    let enough = world.start_with(json!({ "max_files": 2, "max_bytes": 12 })).await;
    assert_eq!(enough.call(world.call(json!({}))).await.done()["files"], 2);
}

#[tokio::test]
async fn sources_outside_the_work_directory_must_be_configured() {
    let world = World::new();
    std::fs::create_dir(world.at("shared")).unwrap();
    std::fs::write(world.at("shared/x"), "1").unwrap();
    let more = json!({ "from": world.at("shared") });
    fatal(
        &world.start().await.call(world.call(more.clone())).await,
        "lies outside",
    );
    let plugin = world.start_with(json!({ "sources": [world.at("shared")] })).await;
    assert_eq!(plugin.call(world.call(more)).await.done()["files"], 1);
}

#[tokio::test]
async fn an_empty_artifact_deletes_nothing() {
    let world = World::new();
    std::fs::create_dir_all(world.at("work/out/empty")).unwrap();
    let report = world.start().await.call(world.call(json!({ "own": true }))).await;
    fatal(&report, "holds no file: an empty artifact is taken for a mistake");
    assert_eq!((world.count("main"), files_below(&world.at("work/out"))), (1, 0));
}

#[tokio::test]
async fn what_the_step_does_not_own_is_not_pushed_out() {
    let world = World::new();
    world.brings(&[("x/deeper", "1")]);
    fatal(
        &world.start().await.call(world.call(json!({ "to": "src" }))).await,
        "`src/x` is a file in its way",
    );
    world.brings(&[("src", "1")]);
    fatal(
        &world.start().await.call(world.call(json!({ "to": "" }))).await,
        "it is a directory, with files in it",
    );
    assert_eq!(world.count("main"), 1);
}
