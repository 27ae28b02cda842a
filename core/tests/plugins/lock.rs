//! `plugin lock`, and a router that loads only what is locked.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use jackfield_stage::router::Router;

use crate::built;

const CONFIGURATION: &str = r#"lock = "plugins.lock"

[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "SECRET" }]
"#;
const ROUTES: &str = r#"
[[route]]
name = "try"
when.provider = ["zeplin"]

[[route.step]]
use = "trial"
with = { act = "done" }
"#;

#[tokio::test]
async fn a_router_loads_what_was_locked_and_takes_up_what_is_locked_later() {
    let home = tempfile::tempdir().unwrap();
    let mut router = Router::prepare(Path::new(env!("CARGO_BIN_EXE_jackfield")), home.path(), &[]).unwrap();
    router.configure(CONFIGURATION, ROUTES).unwrap();
    let plugins = home.path().join("plugins");
    built::c(&plugins.join("trial.so"), &[]);
    let reason = async |router: &Router| {
        let refused = router.attempt(&["check"]).await.unwrap();
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    router.set("SECRET", "s");
    let missing = reason(&router).await;
    assert!(missing.contains("`jackfield plugin lock` writes it"), "{missing}");

    // Where others could put another in its place, none is written that no router would read.
    let open = |mode| fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).unwrap();
    open(0o775);
    let refused = router.attempt(&["plugin", "lock"]).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("has mode 0775") && !refused.status.success(),
        "{said}"
    );
    assert!(!home.path().join("plugins.lock").exists());
    open(0o700);

    let told = router.command(&["plugin", "lock"]).await.unwrap();
    assert!(told.contains("trial") && told.contains("new"), "{told}");
    router.start().await.unwrap();
    let version = async |router: &Router| {
        let listed = router.ask(&["plugin", "list"]).await.unwrap();
        let mut plugins = listed["plugins"].as_array().unwrap().iter();
        let plugin = plugins.find(|plugin| plugin["name"] == "trial").unwrap();
        (plugin["version"].clone(), plugin["refused"]["reason"].clone())
    };
    assert_eq!(version(&router).await.0, "1.0.0");

    built::c(&plugins.join("trial.so"), &["-DVERSION=\"2.0.0\""]);
    fs::write(plugins.join("broken.so"), "hello\n").unwrap();
    while !version(&router).await.1.is_string() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(version(&router).await.0, "1.0.0");
    let checked = router.attempt(&["plugin", "lock", "--check"]).await.unwrap();
    assert_eq!(checked.status.code(), Some(1));
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    for words in ["changed", "left out: `", "broken.so` is not a library"] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(version(&router).await.0, "1.0.0", "nothing was written");

    let locked = router.attempt(&["plugin", "lock"]).await.unwrap();
    assert_eq!(locked.status.code(), Some(1), "one was left out");
    while version(&router).await.0 != "2.0.0" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    router.stop().await.unwrap();
}
