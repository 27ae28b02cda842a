//! Rules that change under a running router: by their files, by a signal, by hand, and back again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::{HeaderMap, Method};
use jackfield_stage::{
    cargo, http,
    router::{Router, Signal},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const SOURCES: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]
"#;

/// Rules by which every event leads to that greeting.
fn greets(name: &str) -> String {
    format!(
        "[[route]]\nname = \"greet\"\nwhen.provider = [\"zeplin\"]\n\n[[route.step]]\nuse = \"hello\"\nwith = {{ name = \"{name}\" }}\n"
    )
}

struct Stage {
    router: Router,
    home: TempDir,
}

impl Stage {
    /// A router that is configured with `rest` and greets `name`.
    async fn started(libraries: &[&str], rest: &str, rules: &str) -> Self {
        let built = cargo::build(&["jackfield", "hello-plugin", "counting-plugin"], "dev").unwrap();
        let libraries: Vec<_> = libraries
            .iter()
            .map(|package| built.library(package).unwrap())
            .collect();
        let home = tempfile::tempdir().unwrap();
        let mut router =
            Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &libraries).unwrap();
        router.set("ZEPLIN_SECRET", "secret");
        router.configure(&format!("{SOURCES}{rest}"), rules).unwrap();
        router.start().await.unwrap();
        Self { router, home }
    }

    async fn greeting(name: &str) -> Self {
        Self::started(&["hello-plugin"], "", &greets(name)).await
    }

    fn rules(&self) -> PathBuf {
        self.home.path().join("routes.toml")
    }

    /// As editors do that write a file anew beside it.
    fn replace_rules(&self, rules: &str) {
        let new = self.home.path().join("routes.toml.new");
        fs::write(&new, rules).unwrap();
        fs::rename(new, self.rules()).unwrap();
    }

    /// What an event leads to that is sent now.
    async fn greeted(&self) -> String {
        let sent = self.router.ask(&["send", "screens"]).await.unwrap();
        let event = sent["body"]["id"].as_str().unwrap();
        self.greeting_of(event).await
    }

    /// What the event has led to, or leads to in the end.
    async fn greeting_of(&self, event: &str) -> String {
        let list = ["deliveries", "list", "--event", event];
        let listed = self
            .until(&list, |listed| listed[0]["state"] == "succeeded")
            .await;
        let delivery = listed[0]["id"].as_str().unwrap();
        let shown = self.router.ask(&["deliveries", "show", delivery]).await.unwrap();
        let attempts = shown["attempts"].as_array().unwrap();
        let greeting = attempts.last().unwrap()["output"]["greeting"].as_str();
        greeting.unwrap().to_owned()
    }

    /// Asks until the answer is what is waited for.
    async fn until(&self, command: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let answer = self.router.ask(command).await.unwrap();
            if is_so(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until so many generations have been in force, and gives the last.
    async fn generations(&self, count: usize) -> Value {
        let history = self
            .until(&["routes", "history"], |history| {
                history.as_array().unwrap().len() >= count
            })
            .await;
        assert_eq!(history.as_array().unwrap().len(), count, "{history:#}");
        history[0].clone()
    }

    /// The exit code of a command, and all that it says.
    async fn attempt(&self, command: &[&str]) -> (Option<i32>, String) {
        let output = self.router.attempt(command).await.unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
        (output.status.code(), said.concat())
    }

    async fn has_metric(&self, line: &str) -> bool {
        let headers = HeaderMap::new();
        let answer = http::send(self.router.admin(), Method::GET, "/metrics", &headers, "");
        answer.await.unwrap().body.lines().any(|found| found == line)
    }
}

#[tokio::test]
async fn rules_act_as_soon_as_their_file_changes_however_it_is_written() {
    let mut stage = Stage::greeting("Ada").await;
    assert_eq!(stage.greeted().await, "hello, Ada");
    fs::write(stage.rules(), greets("Grace")).unwrap();
    assert_eq!(stage.generations(2).await["cause"], "change");
    assert_eq!(stage.greeted().await, "hello, Grace");
    stage.replace_rules(&greets("Edsger"));
    assert_eq!(stage.generations(3).await["cause"], "change");
    assert_eq!(stage.greeted().await, "hello, Edsger");

    // The same text again is no other generation.
    stage.replace_rules(&greets("Edsger"));
    let taken = stage.router.ask(&["routes", "reload"]).await.unwrap();
    assert_eq!(taken["generation"], taken["before"]);
    stage.generations(3).await;
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn a_hangup_has_the_rules_read_again_and_ends_nothing() {
    let mut stage = Stage::greeting("Ada").await;
    fs::write(stage.rules(), greets("Grace")).unwrap();
    stage.router.signal(Signal::HUP).unwrap();
    assert_eq!(stage.generations(2).await["cause"], "signal");
    assert_eq!(stage.greeted().await, "hello, Grace");
    stage.router.stop().await.unwrap();
}

/// Neither one that is cut off, nor one that is empty, nor one that does not fit the plugins.
#[tokio::test]
async fn faulty_rules_change_nothing_and_are_shown_until_they_are_mended() {
    let mut stage = Stage::greeting("Ada").await;
    for (rules, place, words) in [
        (
            greets("Grace").replace("when", "wen"),
            "routes.toml:3:1: ",
            "did you mean `when`?",
        ),
        (
            greets("Grace").replace("hello", "nobody"),
            "routes.toml:6:7: ",
            "there is no instance `nobody`",
        ),
        (
            greets("Grace").replace("name = \"G", "nme = \"G"),
            "routes.toml:7",
            "`nme`",
        ),
        (String::new(), "routes.toml: ", "the rule file is empty"),
    ] {
        fs::write(stage.rules(), rules).unwrap();
        let (code, said) = stage.attempt(&["routes", "reload"]).await;
        assert_eq!(code, Some(78), "{said}");
        let listed = stage.router.ask(&["routes", "list"]).await.unwrap();
        assert_eq!(listed["routes"][0]["name"], "greet");
        let (code, listed) = stage.attempt(&["routes", "list"]).await;
        assert_eq!(code, Some(0), "{listed}");
        let log = stage.router.log();
        for said in [said, listed, log] {
            assert!(said.contains(place) && said.contains(words), "{said}");
        }
        assert!(stage.has_metric("jackfield_rules_refused 1").await);
    }
    // The watch finds the last of them as well, and has nothing new to say of it.
    assert_eq!(stage.greeted().await, "hello, Ada");
    let refusals = stage
        .router
        .log()
        .matches("rules refused; those in force stay")
        .count();
    assert_eq!(refusals, 4);

    fs::write(stage.rules(), greets("Grace")).unwrap();
    stage.generations(2).await;
    assert_eq!(stage.greeted().await, "hello, Grace");
    let listed = stage.router.ask(&["routes", "list"]).await.unwrap();
    assert_eq!(listed["refused"], Value::Null);
    assert!(stage.has_metric("jackfield_rules_refused 0").await);
    assert!(stage.has_metric("jackfield_routes 1").await);
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn rules_that_wait_for_a_plugin_act_once_it_is_there() {
    let mut stage = Stage::greeting("Ada").await;
    let rules = format!("{}\n[[route.step]]\nuse = \"counting-plugin\"\n", greets("Grace"));
    fs::write(stage.rules(), rules).unwrap();
    let (code, said) = stage.attempt(&["routes", "reload"]).await;
    assert_eq!(code, Some(78), "{said}");
    let built = cargo::build(&["counting-plugin"], "dev").unwrap();
    let library = built.library("counting-plugin").unwrap();
    let plugins = stage.home.path().join("plugins");
    fs::copy(&library, plugins.join(library.file_name().unwrap())).unwrap();
    assert_eq!(stage.generations(2).await["cause"], "change");
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn reload_and_in_flight_what_is_under_way_is_carried_out_under_the_rules_that_it_came_in_under() {
    let counter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = counter.local_addr().unwrap();
    let instance = format!(
        "[[instance]]\nname = \"counting-plugin\"\ngrant.network = [\"{address}\"]\nconfig = {{ report_to = \"{address}\" }}\n"
    );
    let rules = |name| {
        let wait = "[[route.step]]\nuse = \"counting-plugin\"\n\n[[route.step]]\nuse = \"hello\"";
        greets(name).replace("[[route.step]]\nuse = \"hello\"", wait)
    };
    let mut stage = Stage::started(&["hello-plugin", "counting-plugin"], &instance, &rules("the old")).await;
    let sent = stage.router.ask(&["send", "screens"]).await.unwrap();
    let event = sent["body"]["id"].as_str().unwrap().to_owned();
    // Its first step is under way, and ends when it is answered.
    let (mut counting, _) = counter.accept().await.unwrap();
    let mut reported = [0; 31];
    counting.read_exact(&mut reported).await.unwrap();
    assert_eq!(reported[..30], *event.as_bytes());

    fs::write(stage.rules(), greets("the new")).unwrap();
    stage.router.ask(&["routes", "reload"]).await.unwrap();
    assert_eq!(stage.greeted().await, "hello, the new");
    counting.write_all(b"\n").await.unwrap();
    assert_eq!(stage.greeting_of(&event).await, "hello, the old");
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn a_rollback_holds_over_restarts_until_the_rule_files_change_or_are_asked_for() {
    let mut stage = Stage::greeting("Ada").await;
    let first = stage.generations(1).await["id"].as_str().unwrap().to_owned();
    fs::write(stage.rules(), greets("Grace")).unwrap();
    let second = stage.generations(2).await["id"].as_str().unwrap().to_owned();
    let rollback = async |stage: &Stage| {
        let (code, said) = stage.attempt(&["routes", "rollback", &first[..8]]).await;
        assert_eq!(code, Some(0), "{said}");
        for words in [&first, "They hold until those change, over restarts as well"] {
            assert!(said.contains(words), "{said}");
        }
    };
    rollback(&stage).await;
    assert_eq!(stage.greeted().await, "hello, Ada");
    assert!(stage.has_metric("jackfield_rules_rolled_back 1").await);
    let again = stage.attempt(&["routes", "rollback", &first]).await;
    assert_eq!(again.0, Some(1), "{}", again.1);
    assert!(again.1.contains("is in force already"), "{}", again.1);
    let (code, checked) = stage.attempt(&["check"]).await;
    let words = format!("By a rollback, generation {first} is in force");
    assert!(code == Some(0) && checked.contains(&words), "{checked}");

    // The files have been written anew, but say nothing else.
    stage.replace_rules(&greets("Grace"));
    stage.router.stop().await.unwrap();
    stage.router.start().await.unwrap();
    assert_eq!(stage.greeted().await, "hello, Ada");
    let last = stage.generations(3).await;
    assert_eq!(
        (&last["id"], &last["cause"], &last["displaced"]),
        (
            &first.as_str().into(),
            &"rollback".into(),
            &second.as_str().into()
        )
    );
    assert!(stage.router.log().contains("a rollback is in force"));

    // Asked for as they are, they are taken up.
    stage.router.ask(&["routes", "reload"]).await.unwrap();
    assert_eq!(stage.greeted().await, "hello, Grace");
    rollback(&stage).await;
    fs::write(stage.rules(), greets("Edsger")).unwrap();
    let last = stage.generations(6).await;
    assert_eq!(
        (&last["cause"], &last["displaced"]),
        (&"change".into(), &Value::Null)
    );
    assert_eq!(stage.greeted().await, "hello, Edsger");
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn earlier_rules_can_be_seen_and_compared_with_the_router_running_and_when_it_is_down() {
    let mut stage = Stage::greeting("Ada").await;
    let first = stage.generations(1).await["id"].as_str().unwrap().to_owned();
    fs::write(stage.rules(), greets("Grace")).unwrap();
    let second = stage.generations(2).await["id"].as_str().unwrap().to_owned();
    let look = async |stage: &Stage| {
        let shown = stage.router.command(&["routes", "show", &first]).await.unwrap();
        assert!(shown.contains("name = \"Ada\""), "{shown}");
        let shown = stage.router.ask(&["routes", "show"]).await.unwrap();
        assert_eq!(shown["generation"], second.as_str());
        assert_eq!(shown["files"][0]["text"], greets("Grace"));
        let listed = stage.router.ask(&["routes", "list"]).await.unwrap();
        assert_eq!(listed["in_force"]["id"], second.as_str());
        let same = stage.router.command(&["routes", "diff"]).await.unwrap();
        assert_eq!(same, "no difference\n");
        let compare = ["routes", "diff", &first, &second];
        let diff = stage.router.command(&compare).await.unwrap();
        for line in [
            "-with = { name = \"Ada\" }",
            "+with = { name = \"Grace\" }",
            &format!("--- {}\tgeneration {first}", stage.rules().display()),
        ] {
            assert!(diff.lines().any(|found| found == line), "{diff}");
        }
        let history = stage.router.ask(&["routes", "history"]).await.unwrap();
        assert_eq!(listed["in_force"], history[0]);
        history
    };
    let running = look(&stage).await;
    stage.router.stop().await.unwrap();
    assert_eq!(look(&stage).await, running);
    let (code, said) = stage.attempt(&["routes", "show", "abcdefgh"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no generation `abcdefgh`"), "{said}");

    fs::write(stage.rules(), greets("Edsger")).unwrap();
    let diff = stage
        .router
        .command(&["routes", "diff", &first[..8]])
        .await
        .unwrap();
    assert!(diff.contains("\tas it is now\n"), "{diff}");
    assert!(diff.contains("+with = { name = \"Edsger\" }"), "{diff}");
}

/// A directory of rule files, one of which is a link, as tools that mount configurations have it.
#[tokio::test]
async fn files_that_come_and_go_in_a_directory_of_rules_are_followed() {
    let built = cargo::build(&["jackfield", "hello-plugin"], "dev").unwrap();
    let library = built.library("hello-plugin").unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut router = Router::prepare(&built.binary("jackfield").unwrap(), home.path(), &[library]).unwrap();
    router.set("ZEPLIN_SECRET", "secret");
    router.configure(SOURCES, "").unwrap();
    let text = fs::read_to_string(router.configuration()).unwrap();
    let text = text.replace("\"routes.toml\"", "\"routes.d\"");
    fs::write(router.configuration(), text).unwrap();
    let dir = home.path().join("routes.d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.toml"), greets("Ada")).unwrap();
    router.start().await.unwrap();
    let stage = Stage { router, home };
    let routes = async |count: usize| {
        stage
            .until(&["routes", "list"], |listed| {
                listed["routes"].as_array().unwrap().len() == count
            })
            .await
    };
    routes(1).await;
    let linked = stage.home.path().join("linked.toml");
    fs::write(&linked, greets("Grace").replace("greet", "greet-more")).unwrap();
    std::os::unix::fs::symlink(&linked, dir.join("b.toml")).unwrap();
    routes(2).await;
    fs::remove_file(dir.join("a.toml")).unwrap();
    routes(1).await;
    // The last file goes, as when a mount does: that is no way to say that there are to be no rules.
    fs::remove_file(dir.join("b.toml")).unwrap();
    let listed = stage
        .until(&["routes", "list"], |listed| !listed["refused"].is_null())
        .await;
    assert_eq!(listed["routes"][0]["name"], "greet-more");
    let Stage { mut router, .. } = stage;
    router.stop().await.unwrap();
}

/// `jackfield check` and a start see rules as a reload does.
#[tokio::test]
async fn what_a_reload_refuses_a_start_refuses_with_the_same_words() {
    let mut stage = Stage::greeting("Ada").await;
    fs::write(stage.rules(), greets("Grace").replace("hello", "nobody")).unwrap();
    let (code, reload) = stage.attempt(&["routes", "reload"]).await;
    assert_eq!(code, Some(78));
    stage.router.stop().await.unwrap();
    let faults = |said: &str| -> Vec<String> {
        let from = said.lines().skip_while(|line| !line.contains("routes.toml:"));
        from.map(str::to_owned).collect()
    };
    for command in ["check", "run"] {
        let (code, said) = stage.attempt(&[command]).await;
        assert_eq!(code, Some(78), "{said}");
        assert_eq!(faults(&said), faults(&reload), "{command}");
    }
    assert!(!faults(&reload).is_empty() && Path::new(&stage.rules()).exists());
}

/// Nothing is done for it, and the exit code says whether anything would be different.
#[tokio::test]
async fn a_plan_tells_what_other_rules_would_have_made_of_what_came_in() {
    let mut stage = Stage::greeting("Ada").await;
    assert_eq!(stage.greeted().await, "hello, Ada");
    let done = stage.router.stories().await.unwrap();
    assert_eq!(done.len(), 1, "{done:#?}");
    let other = stage.home.path().join("other.toml");
    let plan = ["routes", "plan", other.to_str().unwrap()];

    fs::write(&other, greets("Ada").replace("greet", "welcome")).unwrap();
    let (code, said) = stage.attempt(&plan).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.starts_with("1 event held against generation "), "{said}");
    assert!(
        said.contains("+ welcome (new): taken by 1 event, as evt_"),
        "{said}"
    );
    assert!(
        said.contains("- greet (gone): no longer taken by 1 event, as evt_"),
        "{said}"
    );

    fs::write(&other, greets("Grace")).unwrap();
    let (code, said) = stage.attempt(&plan).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("~ greet: of 1 that take it, dealt with otherwise by 1 event"),
        "{said}"
    );
    let [before, after] = ["before  \"Ada\"", "after   \"Grace\""];
    assert!(said.contains(before) && said.contains(after), "{said}");

    // A comment is another generation, and no difference.
    fs::write(&other, format!("# the same\n{}", greets("Ada"))).unwrap();
    let (code, said) = stage.attempt(&plan).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("nothing would be different\n"), "{said}");
    let (code, said) = stage.attempt(&["routes", "plan", "--since", "7d"]).await;
    assert_eq!(
        (code, said.ends_with("nothing would be different\n")),
        (Some(0), true),
        "{said}"
    );

    fs::write(&other, greets("Ada").replace("when", "wen")).unwrap();
    assert_eq!(stage.attempt(&plan).await.0, Some(78));
    stage.generations(1).await;
    assert_eq!(stage.router.stories().await.unwrap(), done);
    stage.router.stop().await.unwrap();
}
