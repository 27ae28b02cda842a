//! A plugin that is taken away from a running router and given back.

use std::{fs, time::Duration};

use jackfield_stage::{cargo, change, router::Router};
use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]
"#;
/// By what its plugin takes under another name.
const UNFIT_LIMIT: &str = r#"
[[instance]]
name = "hello"

[[instance.limit]]
by = "{{ input.nme }}"
rate = "1/s"
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

#[tokio::test]
async fn a_plugin_that_is_away_is_waited_for_and_stands_in_the_way_of_no_other_and_of_no_start() {
    let built = cargo::build(&["jackfield", "counting-plugin", "hello-plugin"], "dev").unwrap();
    let [counting, hello] = ["counting-plugin", "hello-plugin"].map(|name| built.library(name).unwrap());
    let greets = |name: &str| {
        let use_hello = format!("use = \"hello\"\nwith = {{ name = \"{name}\" }}");
        let greet = ROUTES.replace("\"count\"", "\"greet\"");
        format!(
            "{ROUTES}{}",
            greet.replace("use = \"counting-plugin\"", &use_hello)
        )
    };
    let home = tempfile::tempdir().unwrap();
    let libraries = [counting.clone(), hello.clone()];
    let mut router = Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &libraries).unwrap();
    router.set("ZEPLIN_SECRET", "secret");
    router.configure(CONFIGURATION, &greets("Ada")).unwrap();
    router.start().await.unwrap();
    let file = home.path().join("plugins").join(counting.file_name().unwrap());
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    until(&router, &["plugin", "list"], |answer| {
        answer["instances"].to_string().contains("was removed")
    })
    .await;

    let next = [&fs::read(&hello).unwrap()[..], b"another"].concat();
    assert_eq!(change::library(&router, &hello, &next).await.unwrap(), None);
    let listed = router.ask(&["plugin", "list"]).await.unwrap();
    assert_eq!(listed["plugins"][0]["generation"], 2, "{listed:#}");
    assert_eq!(
        change::rules(&router, &greets("Grace"), true).await.unwrap(),
        None
    );
    let unknown = greets("Grace").replace("hello", "nobody");
    let refused = change::rules(&router, &unknown, true).await.unwrap();
    assert_eq!(
        refused.unwrap(),
        "`route.step.use`: there is no instance `nobody`"
    );
    fs::write(home.path().join("routes.toml"), greets("Grace")).unwrap();

    router.stop().await.unwrap();
    router.start().await.unwrap();
    assert!(
        router
            .log()
            .contains("the rules use an instance that there is not"),
        "{}",
        router.end_of_log()
    );
    router.command(&["send", "screens"]).await.unwrap();
    let stand = |answer: &Value| {
        let stands = answer.as_array().unwrap().iter();
        stands
            .map(|delivery| json!([delivery["route"], delivery["state"]]))
            .collect::<Value>()
    };
    let waits = json!([["greet", "succeeded"], ["count", "waiting"]]);
    until(&router, &["deliveries", "list"], |answer| stand(answer) == waits).await;
    assert_eq!(
        change::rules(&router, &greets("Edsger"), false).await.unwrap(),
        None
    );
    // Nor does one that is refused, whether a router starts or takes over.
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    router.relieve().await.unwrap();

    fs::write(&file, &whole).unwrap();
    let done = json!([["greet", "succeeded"], ["count", "succeeded"]]);
    until(&router, &["deliveries", "list"], |answer| stand(answer) == done).await;
    router.stop().await.unwrap();
}

/// An instance that is waited for is no mistake, whatever else is one.
#[tokio::test]
async fn a_limit_that_does_not_fit_is_told_alone_where_only_a_plugin_is_away() {
    let built = cargo::build(&["jackfield", "counting-plugin", "hello-plugin"], "dev").unwrap();
    let libraries = ["counting-plugin", "hello-plugin"].map(|name| built.library(name).unwrap());
    let home = tempfile::tempdir().unwrap();
    let mut router = Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &libraries).unwrap();
    router.set("ZEPLIN_SECRET", "secret");
    router.configure(CONFIGURATION, ROUTES).unwrap();
    router.start().await.unwrap();
    router.stop().await.unwrap();

    fs::remove_file(home.path().join("plugins/libcounting_plugin.so")).unwrap();
    router
        .configure(&format!("{CONFIGURATION}{UNFIT_LIMIT}"), ROUTES)
        .unwrap();
    for arguments in [&["run"][..], &["run", "--take-over"]] {
        let output = router.attempt(arguments).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("instance `hello`, limit by `{{ input.nme }}`"),
            "{said}"
        );
        assert!(said.contains("error: 1 fault in the configuration"), "{said}");
    }
    router.configure(CONFIGURATION, ROUTES).unwrap();
    router.start().await.unwrap();
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
