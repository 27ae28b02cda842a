//! Events that plugins raise, in a running router.

use std::time::Duration;

use jackfield_stage::{cargo, router::Router};

const CONFIGURATION: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]
"#;
/// A route that answers every event with another, its own among them.
const ROUTES: &str = r#"
[[route]]
name = "again"
when.specversion = ["1.0"]

[[route.step]]
use = "trial"
with = { act = "emit" }
"#;

#[tokio::test]
async fn a_plugin_that_sets_itself_off_comes_to_an_end_with_the_reason() {
    let built = cargo::build(&["jackfield", "trial-plugin"], "dev").unwrap();
    let library = built.library("trial-plugin").unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut router = Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &[library]).unwrap();
    router.set("ZEPLIN_SECRET", "secret");
    router.configure(CONFIGURATION, ROUTES).unwrap();
    router.start().await.unwrap();
    router.command(&["send", "screens"]).await.unwrap();
    router.settled(Duration::from_secs(60)).await.unwrap();

    let listed = router.ask(&["deliveries", "list"]).await.unwrap();
    let (dead, succeeded): (Vec<_>, Vec<_>) = listed
        .as_array()
        .unwrap()
        .iter()
        .partition(|delivery| delivery["state"] == "dead");
    assert_eq!((succeeded.len(), dead.len()), (8, 1), "{listed:#}");
    let failure = &dead[0]["failure"];
    assert_eq!(failure["reason"], "plugin-fatal");
    assert_eq!(
        failure["error"],
        "raising the event `first`: it would follow 8 that plugins raised one after the other, which is the most that there may be: \
         does a route answer what it leads to? Its `when` can leave out the type `com.example.trial`, or the provider `plugin`"
    );
    router.stop().await.unwrap();
}
