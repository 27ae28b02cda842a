//! `git-commit` over ssh as in production: the real binary, its worker in its sandbox, git, ssh, the command that is ssh's way
//! through the proxy, and a server on this machine.

use std::{fs, path::Path};

use jackfield::plugin::unenforced;
use jackfield_stage::{cargo, git::Repository, router::Router, ssh::Ssh};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");

/// What it takes besides to have a router.
const SOURCE: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "SECRET" }]
"#;
const ROUTES: &str = r#"
[[route]]
name = "nothing"
when.type = ["com.example.nothing"]
[[route.step]]
use = "trusts"
with = { repository = "git@example.com:x", from = "files" }
"#;

#[tokio::test]
async fn a_commit_goes_by_ssh_to_a_host_whose_key_is_known_and_to_no_other() {
    if !unenforced().is_empty() || Ssh::program().is_none() {
        println!("skipped, since there is no server of ssh, or a kernel that does not keep plugins in");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let server = Ssh::start(&at("ssh")).unwrap();
    let remote = Repository::create(&at("remote.git")).unwrap();
    fs::create_dir(at("files")).unwrap();
    fs::write(at("files/tokens.json"), "{}").unwrap();
    let built = cargo::build(&["git-commit"], "dev").unwrap();
    let library = built.library("git-commit").unwrap();
    let mut router = Router::prepare(Path::new(BINARY), home.path(), &[library]).unwrap();
    let instances = [
        ("trusts", server.known_hosts()),
        ("mistrusts", server.other_hosts()),
    ];
    let instances = instances.map(|(name, hosts)| instance(name, &server, &hosts, &at("files")));
    router
        .configure(&format!("{SOURCE}{}", instances.concat()), ROUTES)
        .unwrap();
    router.set("SECRET", "s");
    router.start().await.unwrap();
    let input = json!({
        "repository": server.url(remote.path()).unwrap(),
        "branch": "main",
        "from": at("files"),
        "message": "Tokens",
    });
    let router = &router;
    let commit = async |instance: &str| -> Value {
        let input = input.to_string();
        let arguments = ["plugin", "call", instance, "-o", "json", "--input", &input];
        let called = router.attempt(&arguments).await.unwrap();
        serde_json::from_slice(&called.stdout).unwrap_or_else(|_| panic!("{called:?}"))
    };
    let tips = || remote.git(&["for-each-ref", "--format=%(objectname)"]).unwrap();

    let refused = commit("mistrusts").await;
    let message = refused["message"].as_str().unwrap();
    assert_eq!(refused["outcome"], "fatal", "{refused:#}\n{}", server.log());
    assert!(message.contains("Host key verification failed"), "{message}");
    assert_eq!(tips(), "");
    let done = commit("trusts").await;
    assert_eq!(done["outcome"], "done", "{done:#}\n{}", server.log());
    assert_eq!(tips(), done["output"]["sha"]);
}

/// An instance that takes the server for one of these hosts.
fn instance(name: &str, server: &Ssh, hosts: &Path, files: &Path) -> String {
    let (address, key, hosts, files) = (server.address(), server.key(), hosts.display(), files.display());
    let key = key.display();
    format!(
        r#"
        [[instance]]
        name = "{name}"
        plugin = "git-commit"
        grant.network = ["{address}"]
        grant.programs = ["git", "ssh"]
        grant.read = ["{key}", "{hosts}", "{files}"]
        grant.write = ["cache"]
        [instance.config]
        repositories = ["*"]
        protocols = ["ssh"]
        committer = {{ name = "Bot", email = "bot@example.com" }}
        ssh = {{ key = "{key}", known_hosts = "{hosts}" }}
        sources = ["{files}"]
        cache = "cache"
        "#
    )
}
