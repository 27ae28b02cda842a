//! `plugin new`, as an author goes on from there: what the README says to do with what it writes is done, word for word, up to an
//! event that a running router has it handle; and so is what its file for CI says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use jackfield_stage::router::Router;
use serde_json::Value;
use yaml_rust2::YamlLoader;

const README: &str = include_str!("../../README.md");

const SOURCE: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "TOKEN" }]
"#;

#[tokio::test]
async fn a_new_plugin_builds_passes_and_is_dropped_into_a_running_router() {
    let home = tempfile::tempdir().unwrap();
    let mut router = Router::prepare(Path::new(BINARY), &home.path().join("jackfield"), &[]).unwrap();
    router.configure(SOURCE, "# None yet.").unwrap();
    router.set("TOKEN", "t0ken");
    router.start().await.unwrap();

    let mut shell = Shell::at(home.path());
    for command in commands(README, "plugin new hello") {
        shell.run(&command);
        if command.starts_with("cp ") {
            taken_up(&router, "hello").await;
        }
    }
    assert_eq!(shell.said.matches(TESTED).count(), 2, "{}", shell.said);
    for words in ["testing `hello` as it is in", "hello, Ada"] {
        assert!(shell.said.contains(words), "{words:?} in {}", shell.said);
    }
    let mut shell = Shell::at(home.path());
    shell.run("jackfield plugin new hello-in-c --lang c");
    shell.run("cd hello-in-c");
    let readme = fs::read_to_string(home.path().join("hello-in-c/README.md")).unwrap();
    for command in commands(&readme, "make check") {
        shell.run(&command);
    }
    taken_up(&router, "hello-in-c").await;

    let greet_in_c = block(&readme, "toml", "use = \"hello-in-c\"").replace("\"greet\"", "\"greet-in-c\"");
    let routes = [block(README, "toml", "use = \"hello\""), &greet_in_c].concat();
    fs::write(router.home().join("routes.toml"), routes).unwrap();
    router.command(&["routes", "reload"]).await.unwrap();
    let mut shell = Shell::at(router.home());
    shell.run("jackfield send screens");
    router.settled(Duration::from_secs(60)).await.unwrap();
    let stories = router.stories().await.unwrap();
    let greeting = |story: &Value| story["attempts"][0]["output"]["greeting"].clone();
    let mut greetings: Vec<_> = stories.iter().map(greeting).collect();
    greetings.sort_by_key(Value::to_string);
    assert_eq!(greetings, ["hello, Ada", "hello, greet-in-c"]);
    router.stop().await.unwrap();
}

/// Under a name that no code can have: it has a hyphen, a word of Rust, and the template's own name.
#[test]
fn what_the_file_for_ci_does_is_what_the_readme_says_and_works() {
    let home = tempfile::tempdir().unwrap();
    let mut shell = Shell::at(home.path());
    shell.run("jackfield plugin new match-greeter --path plugin");
    shell.run("cd plugin");
    let (steps, readme) = (
        for_ci(&shell.at),
        fs::read_to_string(shell.at.join("README.md")).unwrap(),
    );
    let [install, take_sdk, rest @ ..] = &steps[..] else {
        panic!("{steps:?}");
    };
    let mut by_hand = commands(&readme, "cargo test");
    let copy = by_hand.pop().unwrap();
    assert!(copy.starts_with("cp "), "{copy}");
    assert_eq!(rest, by_hand);
    assert!(install.starts_with("cargo install "), "{install}");

    // As on a machine that has nothing where the author's SDK is.
    let manifest = shell.at.join("Cargo.toml");
    let here = fs::read_to_string(&manifest).unwrap();
    let (_, path) = here.split_once("jackfield-sdk = { path = ").unwrap();
    let (path, _) = path.split_once(" }").unwrap();
    fs::write(&manifest, here.replace(path, "\"/no/such/sdk\"")).unwrap();
    shell.run(take_sdk);
    let there = fs::read_to_string(&manifest).unwrap();
    assert_eq!(there, here.replace(path, "\"../jackfield/sdk\""));
    // From here on where it is, so that it is built but once for all of these tests.
    fs::write(&manifest, here).unwrap();
    for step in rest {
        shell.run(step);
    }
    assert_eq!(shell.said.matches(TESTED).count(), 2, "{}", shell.said);
    // Of a good plugin, nothing is left to wish for.
    let sum = shell.said.lines().find(|line| line.ends_with(" passed")).unwrap();
    assert!(!sum.contains(','), "{}", shell.said);

    let mut shell = Shell::at(home.path());
    shell.run("jackfield plugin new match-greeter --lang c");
    shell.run("cd match-greeter");
    let steps = for_ci(&shell.at);
    let [install, check] = &steps[..] else {
        panic!("{steps:?}");
    };
    assert!(install.starts_with("cargo install "), "{install}");
    shell.run(check);
    let sum = shell.said.lines().find(|line| line.ends_with(" passed")).unwrap();
    assert!(!sum.contains(','), "{}", shell.said);
}

#[test]
fn what_is_there_is_not_overwritten_and_a_wrong_name_is_told() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("hello")).unwrap();
    fs::write(home.path().join("hello/precious"), "mine").unwrap();
    for (arguments, words) in [
        (
            &["hello"][..],
            "hello is not empty, and nothing in it is overwritten",
        ),
        (&["Hello World"], "`Hello World` is no name for a plugin"),
        (&["3d"], "begins with a letter"),
        (&["other", "--sdk", "hello"], "there is no SDK at hello"),
    ] {
        let refused = jackfield(home.path())
            .args(["plugin", "new"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(
            said(&refused).contains(words),
            "{arguments:?}: {}",
            said(&refused)
        );
    }
    assert_eq!(fs::read_dir(home.path().join("hello")).unwrap().count(), 1);
    // An empty directory is as good as none.
    fs::create_dir(home.path().join("empty")).unwrap();
    let made = jackfield(home.path())
        .args(["plugin", "new", "empty", "--lang", "c"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    assert!(home.path().join("empty/empty.c").exists());
}

fn jackfield(at: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(at);
    command
}

/// Waits until the router has an instance of that name.
async fn taken_up(router: &Router, name: &str) {
    let begun = Instant::now();
    loop {
        let listed = router.ask(&["plugin", "list"]).await.unwrap();
        let instances = listed["instances"].as_array().unwrap();
        if instances.iter().any(|instance| instance["name"] == name) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{listed:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The one block of a page in that language with these words in it.
fn block<'p>(page: &'p str, language: &str, words: &str) -> &'p str {
    let fence = format!("```{language}\n");
    let after = page.split(&fence).skip(1);
    let mut found = after
        .map(|text| text.split("```").next().unwrap())
        .filter(|block| block.contains(words));
    let block = found.next().unwrap_or_else(|| panic!("no block with {words:?}"));
    assert_eq!(found.next(), None, "blocks with {words:?}");
    block
}

/// The commands of the one block of a page with these words in it, without what is said of them.
fn commands(page: &str, words: &str) -> Vec<String> {
    let lines = block(page, "sh", words).lines();
    lines
        .map(|line| line.split(" #").next().unwrap().trim_end().to_owned())
        .collect()
}

/// What the file for CI of the package there has run, in turn.
fn for_ci(package: &Path) -> Vec<String> {
    let text = fs::read_to_string(package.join(".github/workflows/ci.yml")).unwrap();
    let file = YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let steps = file[0]["jobs"]["plugin"]["steps"].as_vec().unwrap().iter();
    let run = steps.filter_map(|step| step["run"].as_str());
    run.map(str::to_owned).collect()
}

/// Somebody at a terminal.
struct Shell {
    home: PathBuf,
    at: PathBuf,
    /// All that was printed.
    said: String,
}

impl Shell {
    fn at(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
            at: home.to_owned(),
            said: String::new(),
        }
    }

    #[track_caller]
    fn run(&mut self, command: &str) {
        let command = command.replace("~/", &format!("{}/", self.home.display()));
        match command.strip_prefix("cd ") {
            Some(to) => self.enter(to),
            None => self.carry_out(&command),
        }
    }

    /// Goes to a directory. If it is a new package, what it is built of is there already, so that nothing has to be fetched, and not
    /// built for each run of these tests: the versions are those of this workspace.
    fn enter(&mut self, to: &str) {
        self.at.push(to);
        if self.at.join("Cargo.toml").exists() {
            let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
            fs::copy(lock, self.at.join("Cargo.lock")).unwrap();
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-plugin");
            fs::create_dir_all(&target).unwrap();
            symlink(target, self.at.join("target")).unwrap();
        }
    }

    #[track_caller]
    fn carry_out(&mut self, command: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.at);
        // What this test is told of its own package is not true of that one.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_")) && name != "CARGO_HOME" {
                shell.env_remove(name);
            }
        }
        let output = shell
            .env_remove("JACKFIELD_CONFIG")
            .env("PATH", path())
            .env("TOKEN", "t0ken")
            .env("CFLAGS", "-Wall -Wextra -Werror")
            .env("CARGO_NET_OFFLINE", "true")
            // Nobody looks into it with a debugger, nor waits for what it does.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .output()
            .unwrap();
        let said = said(&output);
        assert!(output.status.success(), "{command}: {said}");
        self.said += &said;
    }
}

/// Where this `jackfield` is, and this `cargo`, and then all else.
fn path() -> std::ffi::OsString {
    let cargo = env::var_os("CARGO").map(PathBuf::from);
    let programs = [Some(PathBuf::from(BINARY)), cargo];
    let first = programs
        .into_iter()
        .flatten()
        .filter_map(|program| program.parent().map(Path::to_owned));
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths(first.chain(env::split_paths(&others))).unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

/// What cargo says of the tests that are written with a plugin.
const TESTED: &str = "test result: ok. 4 passed";
const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");
