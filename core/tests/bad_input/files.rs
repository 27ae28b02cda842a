//! Configuration and rules with mistakes in them.

use crate::site::{ROUTES, Site};

/// A misspelt key, an instance that there is none of, an input that does not fit, a time that is none, and an operator
/// that is none.
const FIVE_MISTAKES: &str = r#"
[[route]]
name = "screens"
order_bye = "{{ event.data.project.id }}"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "counting-plugging"

[[route.step]]
use = "counting-plugin"
with = { colour = "red" }
retry = { first = "a fortnight" }

[[route]]
name = "exports"
when.type = [{ prefx = "io.supernova" }]

[[route.step]]
use = "counting-plugin"
"#;

const TYPO_IN_IF: &str = r#"
[[route]]
name = "screens"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
id = "count"
use = "counting-plugin"

[[route.step]]
use = "counting-plugin"
if = "steps.cuont.done"
"#;

/// Both `check` and `run` refuse `rules`; gives what they say, which is the same.
async fn refusal(site: &Site, rules: &str) -> String {
    site.rules(rules);
    let mut said = Vec::new();
    for command in ["check", "run"] {
        let output = site.attempt(&[command]).await;
        let text = site.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{command}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        // `run` has begun to log when it comes to the rules.
        let faults = text.lines().filter(|line| !line.starts_with('{'));
        said.push(faults.collect::<Vec<_>>().join("\n"));
    }
    assert_eq!(said[0], said[1]);
    said.swap_remove(0)
}

#[tokio::test]
async fn five_mistakes_in_a_rule_file_are_all_reported_with_their_places() {
    let mut site = Site::prepare();
    insta::assert_snapshot!(refusal(&site, FIVE_MISTAKES).await, @r#"
    …/routes.toml:4:1: `route` has no key `order_bye`
      4 | order_bye = "{{ event.data.project.id }}"
        | ^^^^^^^^^
        = did you mean `order_by`?
    …/routes.toml:8:7: `route.step.use`: there is no instance `counting-plugging`
      8 | use = "counting-plugging"
        |       ^^^^^^^^^^^^^^^^^^^
        = did you mean `counting-plugin`?
    …/routes.toml:12:10: the input does not fit: `colour`: unknown
     12 | with = { colour = "red" }
        |          ^^^^^^
    …/routes.toml:13:19: `route.step.retry.first`: found "a fortnight", expected a time such as "250ms", "2s", "10m", "24h" or "7d"
     13 | retry = { first = "a fortnight" }
        |                   ^^^^^^^^^^^^^
    …/routes.toml:17:16: there is no operator `prefx`
     17 | when.type = [{ prefx = "io.supernova" }]
        |                ^^^^^
        = did you mean `prefix`?

    error: 5 faults in the configuration
    "#);
    // Nothing is left behind that would keep the router from starting once they are mended.
    site.rules(ROUTES);
    site.router.start().await.unwrap();
    site.goes_on().await;
}

#[tokio::test]
async fn a_typo_in_an_if_is_reported_at_load() {
    let site = Site::prepare();
    insta::assert_snapshot!(refusal(&site, TYPO_IN_IF).await, @r#"
    …/routes.toml:12:6: `route.step.if`: there is no step `cuont` before this one; did you mean `count`?
     12 | if = "steps.cuont.done"
        |      ^^^^^^^^^^^^^^^^^^

    error: 1 fault in the configuration
    "#);
}

#[tokio::test]
async fn a_rule_file_that_is_no_text_is_told_from_one_with_mistakes() {
    let site = Site::prepare();
    std::fs::write(site.router.home().join("routes.toml"), b"name = \"\xff\"").unwrap();
    let output = site.attempt(&["check"]).await;
    assert_eq!(output.status.code(), Some(78));
    insta::assert_snapshot!(site.plain(&output.stderr), @r#"
    …/routes.toml: the rule file cannot be read: stream did not contain valid UTF-8

    error: 1 fault in the configuration
    "#);
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_all_reported_before_anything_starts() {
    let site = Site::prepare();
    site.listen("adress = \"127.0.0.1:0\"\nbody_timeout = \"soon\"");
    site.configure(
        "[[source]]\nname = \"screens\"\nprovider = \"zepelin\"\n\n\
         [[source]]\nname = \"open\"\nprovider = \"zeplin\"\n\n\
         [[source]]\nname = \"builds\"\nprovider = \"appflow\"\npath_token = { env = \"NOT_SET_ANYWHERE\" }\n",
    );
    let output = site.attempt(&["run"]).await;
    assert_eq!(output.status.code(), Some(78));
    insta::assert_snapshot!(site.plain(&output.stderr), @r#"
    …/jackfield.toml:5:1: `listen` has no key `adress`
      5 | adress = "127.0.0.1:0"
        | ^^^^^^
        = did you mean `address`?
    …/jackfield.toml:6:16: `listen.body_timeout`: found "soon", expected a time such as "250ms", "2s", "10m", "24h" or "7d"
      6 | body_timeout = "soon"
        |                ^^^^^^
    …/jackfield.toml:28:8: `source.name`: found "screens" again; a name is used once
     28 | name = "screens"
        |        ^^^^^^^^^
    …/jackfield.toml:29:12: `source.provider`: `zepelin` is not a provider, did you mean `zeplin`; known are appflow, supernova, zeplin, and `plugin:` with the name of an instance
     29 | provider = "zepelin"
        |            ^^^^^^^^^
    …/jackfield.toml:31:1: zeplin signs its requests, and there is no secret to check them with: add `secrets = [{ env = "ZEPLIN_SECRET" }]`, or `unverified = true` to believe everybody
    …/jackfield.toml:38:14: `source.path_token`: the variable NOT_SET_ANYWHERE is not set
     38 | path_token = { env = "NOT_SET_ANYWHERE" }
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        = export it, or write `{ file = "/path" }`

    error: 6 faults in the configuration
    "#);
    assert!(!site.router.home().join("data").exists(), "nothing has been made");
}
