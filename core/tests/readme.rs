//! What the README and the sample files show to newcomers is what the router takes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use jackfield::schema::Schema;
use jackfield_stage::cargo;
use tempfile::TempDir;

const README: &str = include_str!("../../README.md");
const PLUGINS: [&str; 5] = [
    "artifact-fetch",
    "git-commit",
    "slack-notify",
    "hello-plugin",
    "provider-plugin",
];

/// A copy of the samples, as the README has newcomers make it, with all plugins of the README in it.
fn samples() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for file in ["jackfield.toml", "routes.toml"] {
        fs::copy(samples.join(file), home.path().join(file)).unwrap();
    }
    fs::create_dir(home.path().join("plugins")).unwrap();
    let built = cargo::build(&PLUGINS, "dev").unwrap();
    for library in PLUGINS.map(|plugin| built.library(plugin).unwrap()) {
        fs::copy(
            &library,
            home.path().join("plugins").join(library.file_name().unwrap()),
        )
        .unwrap();
    }
    home
}

/// The blocks of the README in that language, whole.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let after = README.split(&fence).skip(1);
    after.map(|text| text.split("```").next().unwrap()).collect()
}

/// The one block of TOML with these words in it.
fn toml_with(words: &str) -> &'static str {
    let found: Vec<_> = blocks("toml")
        .into_iter()
        .filter(|block| block.contains(words))
        .collect();
    assert_eq!(found.len(), 1, "blocks with {words:?}");
    found[0]
}

/// What `jackfield check` says in that directory, with every variable set that the configuration names.
fn check(home: &Path) -> String {
    let configuration = fs::read_to_string(home.join("jackfield.toml")).unwrap();
    let variables = configuration
        .split("env = \"")
        .skip(1)
        .map(|text| text.split('"').next().unwrap());
    let output = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_jackfield")))
        .arg("check")
        .current_dir(home)
        .env_remove("JACKFIELD_CONFIG")
        .envs(variables.map(|name| (name, "0123456789abcdef0123456789abcdef")))
        .output()
        .unwrap();
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", said(&output.stderr));
    said(&output.stdout)
}

#[test]
fn the_samples_are_sound_where_they_are_copied_to() {
    let home = samples();
    let said = check(home.path());
    for words in ["tokens-to-repository", "screens-to-slack", "All is well"] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
}

#[test]
fn the_configuration_and_the_rules_of_the_readme_are_sound() {
    let home = samples();
    let configuration = [toml_with("name = \"screens\""), toml_with("plugin:acme")].concat();
    fs::write(home.path().join("jackfield.toml"), configuration).unwrap();
    fs::remove_file(home.path().join("routes.toml")).unwrap();
    fs::create_dir(home.path().join("routes.toml")).unwrap();
    for (file, words) in [
        ("tokens.toml", "tokens-to-repository"),
        ("greet.toml", "use = \"hello\""),
    ] {
        fs::write(home.path().join("routes.toml").join(file), toml_with(words)).unwrap();
    }
    let said = check(home.path());
    for words in [
        "tokens-to-repository",
        "greet",
        "hello",
        "plugin:acme",
        "All is well",
    ] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
}

#[test]
fn the_case_of_the_readme_passes_with_its_rules() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("greet.toml"), toml_with("use = \"hello\"")).unwrap();
    fs::write(home.path().join("greet.case.toml"), toml_with("[[case]]")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_jackfield"))
        .args(["routes", "test", "--routes", "greet.toml"])
        .current_dir(home.path())
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    assert!(output.status.success(), "{}", said.concat());
}

/// With a configuration, steps know its instances; without one, plugins by their own names.
#[test]
fn the_sample_rules_fit_the_schema_that_is_made_for_editors() {
    let home = samples();
    let schema = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_jackfield"))
            .args(["schema", "routes"])
            .args(arguments)
            .current_dir(home.path())
            .env_remove("JACKFIELD_CONFIG")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Schema::compile(serde_json::from_slice(&output.stdout).unwrap()).unwrap()
    };
    let violations = |schema: &Schema, rules: &str| {
        let violations = schema.check(&toml::from_str(rules).unwrap());
        violations.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let configured = schema(&[]);
    let sample = fs::read_to_string(home.path().join("routes.toml")).unwrap();
    for rules in [
        &sample,
        toml_with("tokens-to-repository"),
        toml_with("use = \"hello\""),
    ] {
        assert_eq!(violations(&configured, rules), [""; 0], "{rules}");
    }
    let step = |uses: &str, with: &str| {
        format!(
            "[[route]]\nname = \"r\"\nwhen.type = [\"x\"]\n[[route.step]]\nuse = \"{uses}\"\nwith = {{ {with} }}\n"
        )
    };
    let slack = step("slack", "chanel = \"#a\", text = \"t\"");
    let found = violations(&configured, &slack).join("\n");
    assert!(found.contains("did you mean `channel`?"), "{found}");

    fs::remove_file(home.path().join("jackfield.toml")).unwrap();
    let alone = schema(&["--plugins", "plugins"]);
    let fetch = step("artifact-fetch", "url = \"{{ event.data.artifacts[0].url }}\"");
    assert_eq!(violations(&alone, &fetch), [""; 0]);
    assert!(violations(&alone, &slack)[0].contains("use"));
}

#[test]
fn the_commands_of_the_readme_exist() {
    let table = README.lines().filter(|line| line.starts_with("| `"));
    let commands: Vec<Vec<&str>> = table
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .map(|command| {
            command
                .strip_prefix("jackfield ")
                .unwrap_or(command)
                .split(' ')
                .collect()
        })
        .collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        // Only words that name a command, not what it is about.
        let names = command
            .iter()
            .take_while(|word| !word.contains('…') && **word != "screens");
        let output = Command::new(env!("CARGO_BIN_EXE_jackfield"))
            .args(names)
            .arg("--help")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
