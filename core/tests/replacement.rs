//! A plugin that is taken away from a running router and given back.

use std::{fs, time::Duration};

use jackfield_stage::{cargo, router::Router};
use serde_json::Value;

const CONFIGURATION: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]
"#;
const ROUTES: &str = r#"
[[route]]
name = "count"
when.provider = ["zeplin"]

[[route.step]]
use = "counting-plugin"
"#;

#[tokio::test]
async fn what_comes_in_while_a_plugin_is_away_waits_and_is_delivered_when_it_is_back() {
    let built = cargo::build(&["jackfield", "counting-plugin"], "dev").unwrap();
    let library = built.library("counting-plugin").unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut router = Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &[library]).unwrap();
    router.set("ZEPLIN_SECRET", "secret");
    router.configure(CONFIGURATION, ROUTES).unwrap();
    router.start().await.unwrap();

    let file = home.path().join("plugins/libcounting_plugin.so");
    let away = home.path().join("away.so");
    fs::rename(&file, &away).unwrap();
    until(&router, &["plugin", "list"], |answer| {
        answer["instances"][0]["state"] == "parked"
    })
    .await;
    // It is parked as soon as no call is made any more, and ends then.
    while router.workers().unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    router.command(&["send", "screens"]).await.unwrap();
    let listed = until(&router, &["deliveries", "list"], |answer| {
        answer[0]["state"] == "waiting"
    })
    .await;
    assert_eq!(listed[0]["reason"], "instance-parked");
    let detail = listed[0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("the file of its plugin `counting-plugin` was removed"),
        "{detail}"
    );

    fs::rename(&away, &file).unwrap();
    let listed = until(&router, &["deliveries", "list"], |answer| {
        answer[0]["state"] == "succeeded"
    })
    .await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    router.stop().await.unwrap();
}

/// Asks until the answer is what is waited for.
async fn until(router: &Router, command: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let answer = router.ask(command).await.expect("the router answers");
        if is_so(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
