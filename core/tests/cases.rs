//! Rules that are tried out on cases: on those that people write, and on those that history left.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use jackfield_stage::{cargo, router::Router};
use serde_json::{Value, json};

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_jackfield"))
        .args(arguments)
        .current_dir(home)
        .env_remove("JACKFIELD_CONFIG")
        .output()
        .unwrap();
    told(&output)
}

/// The exit code, and all that was said.
fn told(output: &Output) -> (Option<i32>, String) {
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    (output.status.code(), said.concat())
}

#[test]
fn the_sample_cases_pass_with_a_configuration_and_without_one() {
    let home = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for file in ["routes.toml", "routes.case.toml"] {
        fs::copy(samples.join(file), home.path().join(file)).unwrap();
    }
    let (code, said) = run(home.path(), &["routes", "test", "--routes", "routes.toml"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("\n5 passed\n"), "{said}");
    assert!(
        said.starts_with("routes.case.toml\n  ok    a finished export is fetched"),
        "{said}"
    );

    fs::copy(samples.join("jackfield.toml"), home.path().join("jackfield.toml")).unwrap();
    let cases = fs::read_to_string(home.path().join("routes.case.toml")).unwrap();
    let cases: String = cases
        .lines()
        .filter(|line| !line.starts_with("provider ="))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(home.path().join("routes.case.toml"), cases).unwrap();
    let (code, said) = run(home.path(), &["routes", "test", "told"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("\n3 passed, 2 left out\n"), "{said}");
}

#[test]
fn a_case_that_fails_says_where_and_a_machine_can_read_it() {
    let home = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(home.path().join(file), text).unwrap();
    let rules = "[[route]]\nname = \"greet\"\nwhen.type = [\"a\"]\n[[route.step]]\nuse = \"hello\"\nwith.name = \"{{ event.data.title }}\"\n";
    let case = "[[case]]\nname = \"Ada & <Grace>\"\nevent = { type = \"a\", data.title = \"Ada\" }\n\
                [[case.route]]\nname = \"greet\"\nstep = [{ id = \"hello\", with.name = \"Grace\" }]\n";
    write("routes.toml", rules);
    let test = ["routes", "test", "--routes", "routes.toml"];

    // Whoever tests nothing has not passed.
    let (code, said) = run(home.path(), &test);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("there are no cases (`*.case.toml`) beside routes.toml"),
        "{said}"
    );

    write("a.case.toml", case);
    let (code, said) = run(home.path(), &[&test[..], &["--junit", "report.xml"]].concat());
    assert_eq!(code, Some(1), "{said}");
    insta::assert_snapshot!(said, @r#"
    a.case.toml
      FAIL  Ada & <Grace>
        a.case.toml:6:37: route `greet`, step `hello`, `with.name`: comes out otherwise
          expected  "Grace"
          found     "Ada"

    0 passed, 1 failed
    "#);
    let xml = fs::read_to_string(home.path().join("report.xml")).unwrap();
    assert!(
        xml.contains("<testcase name=\"Ada &amp; &lt;Grace&gt;\" classname=\"a.case.toml\""),
        "{xml}"
    );
    assert!(xml.contains("tests=\"1\" failures=\"1\""), "{xml}");
    let (code, said) = run(home.path(), &[&test[..], &["-o", "json"]].concat());
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&said).unwrap();
    let mismatch = &report["cases"][0]["mismatches"][0];
    assert_eq!(mismatch["expected"], "\"Grace\"");
    assert_eq!(
        (&mismatch["file"], &mismatch["line"]),
        (&json!("a.case.toml"), &json!(6))
    );

    // What comes out becomes what is expected, where a person says so.
    let (code, said) = run(home.path(), &[&test[..], &["--update"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let updated = fs::read_to_string(home.path().join("a.case.toml")).unwrap();
    let (head, _) = case.split_once("step = ").unwrap();
    let expected = format!("{head}\n[[case.route.step]]\nid = \"hello\"\nwith = {{ name = \"Ada\" }}\n");
    assert_eq!(updated, expected);

    // Mistakes in rules and cases are told together, and nothing is tried.
    write("routes.toml", &rules.replace("when", "wen"));
    write("a.case.toml", &case.replace("event", "evnt"));
    let (code, said) = run(home.path(), &test);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("routes.toml:3:1: ") && said.contains("did you mean `when`?"),
        "{said}"
    );
    assert!(
        said.contains("a.case.toml:3:1: ") && said.contains("did you mean `event`?"),
        "{said}"
    );
}

/// The first step puts out what the second one says; the event has secrets of several kinds.
const RULES: &str = r#"
[[route]]
name = "greet"
order_by = "{{ event.data.project.id }}"
when.type = ["io.zeplin.project.screen.version.created"]
[[route.step]]
id = "first"
use = "hello"
with.name = "{{ event.data.actor.name }} of {{ event.data.payload.context.link }}"
[[route.step]]
id = "second"
use = "hello"
with.name = "{{ steps.first.greeting }}"
[[route.step]]
id = "third"
use = "hello"
if = "event.data.actor.name == 'nobody'"
with.name = "x"
"#;

#[tokio::test]
async fn what_happened_becomes_a_case_that_passes_until_the_rules_say_otherwise() {
    let built = cargo::build(&["jackfield", "hello-plugin"], "dev").unwrap();
    let home = tempfile::tempdir().unwrap();
    let library = built.library("hello-plugin").unwrap();
    let mut router = Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &[library]).unwrap();
    router.set("ZEPLIN_SECRET", "secret");
    let source =
        "[[source]]\nname = \"screens\"\nprovider = \"zeplin\"\nsecrets = [{ env = \"ZEPLIN_SECRET\" }]\n";
    router.configure(source, RULES).unwrap();
    let recorded = include_str!("providers/zeplin/documented-screen-version.http");
    let body = recorded.split_once("\n\n").unwrap().1.trim();
    let body = body.strip_suffix('}').unwrap().replace(
        "\"context\":{",
        "\"accessToken\":\"hunter2\",\"context\":{\"link\":\"https://a.example/?token=hunter3\",",
    );
    fs::write(
        home.path().join("body.json"),
        body + ",\"note\":\"it's '''quoted'''\",\"nothing\":null}",
    )
    .unwrap();
    router.start().await.unwrap();
    let file = home.path().join("body.json");
    let sent = router
        .ask(&[
            "send",
            "screens",
            "--file",
            file.to_str().unwrap(),
            "--delivery",
            "d1",
        ])
        .await
        .unwrap();
    let event = sent["body"]["id"].as_str().unwrap().to_owned();
    router.settled(Duration::from_secs(60)).await.unwrap();

    let capture = async |arguments: &[&str]| {
        let output = router
            .attempt(&[&["events", "capture", event.as_str()], arguments].concat())
            .await
            .unwrap();
        assert!(output.status.success(), "{}", told(&output).1);
        let case = String::from_utf8(output.stdout).unwrap();
        assert!(!case.contains("hunter"), "{case}");
        assert!(case.contains("# Redacted: "), "{case}");
        assert!(
            case.contains("hello, Ada of https://a.example/?token=redacted"),
            "{case}"
        );
        case
    };
    let cases = [
        capture(&[]).await,
        capture(&["--request", "--name", "the request"]).await,
        capture(&["--as-routed", "--name", "as it was routed"]).await,
    ];
    assert!(
        cases[1].contains("headers.zeplin-delivery-id = \"d1\""),
        "{}",
        cases[1]
    );
    assert!(cases[1].contains("verified = \"signature\""), "{}", cases[1]);
    fs::write(home.path().join("all.case.toml"), cases.concat()).unwrap();
    let test = || async { told(&router.attempt(&["routes", "test"]).await.unwrap()) };
    let (code, said) = test().await;
    assert_eq!(code, Some(0), "{said}\n{}", cases.concat());
    assert!(said.ends_with("\n3 passed\n"), "{said}");

    // Cases are no rules: the router does not care.
    let listed = router.ask(&["routes", "reload"]).await.unwrap();
    assert_eq!(listed["generation"], listed["before"]);

    let rules = home.path().join("routes.toml");
    fs::write(
        &rules,
        RULES.replace("{{ steps.first.greeting }}", "again: {{ steps.first.greeting }}"),
    )
    .unwrap();
    let (code, said) = test().await;
    assert_eq!(code, Some(1), "{said}");
    for words in [
        "FAIL  the request",
        "route `greet`, step `second`, `with.name`: comes out otherwise",
        "found     \"again: hello, Ada",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    fs::write(&rules, RULES.replace("version.created", "version.deleted")).unwrap();
    let (code, said) = test().await;
    assert_eq!(code, Some(1), "{said}");
    let words = "route `greet`: does not match: type: expected \"io.zeplin.project.screen.version.deleted\", found \"io.zeplin.";
    assert!(said.contains(words), "{said}");
    // What was in force then still passes what it made.
    fs::write(home.path().join("all.case.toml"), capture(&["--as-routed"]).await).unwrap();
    fs::write(&rules, RULES).unwrap();
    assert_eq!(test().await.0, Some(0));
    router.stop().await.unwrap();
}
