use super::*;

/// Reads `text` with `TOKEN` and `SECRET` in the environment, and files beside this one.
fn read(text: &str) -> Result<Config, Faults> {
    let environment = |name: &str| match name {
        "TOKEN" => Some("t0ken".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    Config::parse("jackfield.toml", text, Path::new("/etc/jackfield"), &environment)
}

#[test]
fn all_mistakes_are_reported_together_with_their_places() {
    let faults = read(
        r#"
data_dir = 7
roots = "routes.d"

[listen]
address = "localhost"
header_size = "1KiB"
body_timeout = "0s"

[admin]
address = "0.0.0.0:9090"

[log]
format = "xml"
level = "jackfield=loud"

[[source]]
name = "design system"
provider = "supernova"
path_token = { env = "TOKEN" }

[[source]]
name = "screens"
provider = "zeplni"
secrets = ["hunter2"]

[[source]]
name = "unsigned"
provider = "zeplin"

[[source]]
name = "unsigned"
provider = "appflow"
path_token = { env = "APPFLOW_TOKEN" }
path_tokens = 1

[[instance]]
plugin = "slack-notify"
concurrency = 0
config = { token = { env = "EMPTY" }, sink = [{ file = "missing" }] }

[instance.secrets]
key = "hunter2"

[shutdown]
grace = "999ms"
"#,
    )
    .unwrap_err();
    insta::assert_snapshot!(faults, @r#"
    jackfield.toml:1:1: the file has no `routes`, which is required
    jackfield.toml:2:12: `data_dir`: found a whole number, expected a string
      2 | data_dir = 7
        |            ^
    jackfield.toml:3:1: the file has no key `roots`
      3 | roots = "routes.d"
        | ^^^^^
        = did you mean `routes`?
    jackfield.toml:6:11: `listen.address`: found "localhost", expected an address and a port such as "0.0.0.0:8080"
      6 | address = "localhost"
        |           ^^^^^^^^^^^
    jackfield.toml:7:15: `listen.header_size`: found 1024 bytes, expected at least 8192 bytes
      7 | header_size = "1KiB"
        |               ^^^^^^
    jackfield.toml:8:16: `listen.body_timeout`: found no time at all, expected some, as in "30s"
      8 | body_timeout = "0s"
        |                ^^^^
    jackfield.toml:11:11: `admin.address`: found 0.0.0.0:9090, expected a loopback address such as 127.0.0.1:9090
     11 | address = "0.0.0.0:9090"
        |           ^^^^^^^^^^^^^^
        = reach it from elsewhere through a proxy that asks who is there
    jackfield.toml:14:10: `log.format`: found "xml", expected "auto" or "text" or "json"
     14 | format = "xml"
        |          ^^^^^
    jackfield.toml:15:9: `log.level`: found "jackfield=loud", which is no filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
     15 | level = "jackfield=loud"
        |         ^^^^^^^^^^^^^^^^
        = write a level (error, warn, info, debug, trace) or `target=level,…`
    jackfield.toml:18:8: `source.name`: found "design system", expected at most 64 of a-z, 0-9, `-` and `_`
     18 | name = "design system"
        |        ^^^^^^^^^^^^^^^
    jackfield.toml:24:12: `source.provider`: `zeplni` is not a provider, did you mean `zeplin`; known are appflow, supernova, zeplin, and `plugin:` with the name of an instance
     24 | provider = "zeplni"
        |            ^^^^^^^^
    jackfield.toml:25:12: `source.secrets`: found a secret in the file, expected a reference to one
        = write `{ env = "NAME" }` or `{ file = "/path" }`
    jackfield.toml:27:1: zeplin signs its requests, and there is no secret to check them with: add `secrets = [{ env = "ZEPLIN_SECRET" }]`, or `unverified = true` to believe everybody
    jackfield.toml:32:8: `source.name`: found "unsigned" again; a name is used once
     32 | name = "unsigned"
        |        ^^^^^^^^^^
    jackfield.toml:34:14: `source.path_token`: the variable APPFLOW_TOKEN is not set
     34 | path_token = { env = "APPFLOW_TOKEN" }
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^
        = export it, or write `{ file = "/path" }`
    jackfield.toml:35:1: `source` has no key `path_tokens`
        = did you mean `path_token`?
    jackfield.toml:37:1: `instance` has no `name`, which is required
     37 | [[instance]]
        | ^^^^^^^^^^^^
    jackfield.toml:39:15: `instance.concurrency`: found 0, expected a whole number from 1 to 1024
     39 | concurrency = 0
        |               ^
    jackfield.toml:40:20: `instance.config.token`: the variable EMPTY is empty
        = export it, or write `{ file = "/path" }`
    jackfield.toml:40:47: `instance.config.sink`: the file missing cannot be read: No such file or directory (os error 2)
    jackfield.toml:43:7: `instance.secrets.key`: found a secret in the file, expected a reference to one
        = write `{ env = "NAME" }` or `{ file = "/path" }`
    jackfield.toml:46:9: `shutdown.grace`: found 999ms, expected at least 1s: a journal takes a moment to close
     46 | grace = "999ms"
        |         ^^^^^^^
    "#);
}

#[test]
fn a_whole_configuration_becomes_values() {
    let config = read(
        r#"
data_dir = "/var/lib/jackfield"
routes = "routes.d"
[listen]
address = "0.0.0.0:8080"
acceptors = 3
body_size = "1MiB"
[shutdown]
grace = "8s"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "SECRET" }, { env = "TOKEN" }]
dedup_window = "1d"
[[source]]
name = "builds"
provider = "appflow"
path_token = { env = "TOKEN" }
body_size = "2KiB"
[[instance]]
name = "fetch"
plugin = "artifact-fetch"
timeout = "10m"
[instance.limits]
memory = "2GiB"
core_file = "1GiB"
silence = "1m"
[instance.config]
limit = 5
credentials."a/b" = [{ origins = ["https://example.com"], bearer = { env = "SECRET" } }]
"#,
    )
    .unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/jackfield"));
    assert_eq!(config.routes, Path::new("/etc/jackfield/routes.d"));
    assert_eq!(config.plugins.dir, None);
    assert_eq!(config.listen.address.port(), 8080);
    assert_eq!(config.listen.acceptors.get(), 3);
    assert_eq!(
        (config.grace.whole(), config.listen.grace),
        (Duration::from_secs(8), config.grace.requests())
    );
    assert_eq!(
        config
            .sources
            .iter()
            .map(|source| source.body_size)
            .collect::<Vec<_>>(),
        [1 << 20, 2 << 10]
    );
    assert_eq!(config.sources[0].options.secrets.len(), 2);
    assert_eq!(config.sources[0].dedup_window, Duration::from_secs(86_400));

    let instance = &config.instances[0];
    let expected = serde_json::json!({
        "limit": 5,
        "credentials": { "a/b": [{ "origins": ["https://example.com"], "bearer": "hunter2" }] },
    });
    assert_eq!(instance.config, expected);
    let limits = crate::plugin::Limits {
        memory: 2 << 30,
        core_file: 1 << 30,
        silence: Duration::from_secs(60),
        ..crate::plugin::Limits::default()
    };
    assert_eq!(instance.limits, limits);
    let pointers: Vec<_> = instance.secrets.keys().collect();
    assert_eq!(pointers, ["/credentials/a~1b/0/bearer"]);
}

#[test]
fn limits_are_those_of_a_process_and_leave_it_room() {
    let faults = read(
        r#"
routes = "r"
[[source]]
name = "a"
provider = "zeplin"
secrets = { env = "SECRET" }
[[instance]]
name = "b"
limits = { memory = "1MiB", open_files = 3, silence = "200ms", cores = 1 }
[[instance]]
name = "c"
isolation = "none"
limits.memory = "1GiB"
"#,
    )
    .unwrap_err();
    insta::assert_snapshot!(faults, @r#"
    jackfield.toml:9:21: `instance.limits.memory`: found 1048576 bytes, expected at least 33554432 bytes
      9 | limits = { memory = "1MiB", open_files = 3, silence = "200ms", cores = 1 }
        |                     ^^^^^^
    jackfield.toml:9:42: `instance.limits.open_files`: found 3, expected a whole number from 32 to 1048576
      9 | limits = { memory = "1MiB", open_files = 3, silence = "200ms", cores = 1 }
        |                                          ^
    jackfield.toml:9:55: `instance.limits.silence`: found 200ms, expected at least 1s
      9 | limits = { memory = "1MiB", open_files = 3, silence = "200ms", cores = 1 }
        |                                                       ^^^^^^^
    jackfield.toml:9:64: `instance.limits` has no key `cores`
      9 | limits = { memory = "1MiB", open_files = 3, silence = "200ms", cores = 1 }
        |                                                                ^^^^^
        = there is: `memory`, `open_files`, `core_file`, `silence`
    jackfield.toml:13:1: `instance.limits`: it bounds a process, and with `isolation = "none"` that is the router's
     13 | limits.memory = "1GiB"
        | ^^^^^^
        = leave out one of the two
    "#);
}

#[test]
fn secrets_show_neither_in_the_configuration_nor_in_faults() {
    let text = |rest: &str| {
        format!(
            "routes = \"r\"\n[[source]]\nname = \"a\"\nprovider = \"zeplin\"\nsecrets = {{ env = \"SECRET\" }}\n\
             [[instance]]\nname = \"b\"\nconfig = {{ key = {{ env = \"SECRET\" }} }}\n{rest}"
        )
    };
    let config = read(&text("")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));

    for (slip, said) in [
        ("path_token = \"hunter2\"", "write `{ env"),
        (
            "path_token = hunter2",
            "jackfield.toml:12:14: string values must be quoted",
        ),
        ("path_token = [\"hunter2\"]", "expected a reference: `{ env"),
        (
            "path_token = { value = \"hunter2\" }",
            "expected a reference: `{ env",
        ),
        ("secret = \"hunter2\"", "did you mean `secrets`?"),
        (
            "secrets = [{ env = \"UNSET\" }, \"hunter2\"]",
            "the variable UNSET is not set",
        ),
    ] {
        let written = format!("[[source]]\nname = \"c\"\nprovider = \"appflow\"\n{slip}\n");
        let faults = read(&text(&written)).unwrap_err().to_string();
        assert!(faults.contains(said), "{slip}: {faults}");
        assert!(!faults.contains("hunter2"), "{slip}: {faults}");
    }
    let instance = "config = { token = { env = \"UNSET\" }, other = \"hunter2\" }\npasswort = \"hunter2\"";
    let faults = read(&format!(
        "routes = \"r\"\n[[instance]]\nname = \"b\"\n{instance}\n"
    ))
    .unwrap_err();
    let faults = faults.to_string();
    assert!(
        faults.contains("UNSET") && faults.contains("`passwort`"),
        "{faults}"
    );
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn a_body_that_would_never_fit_into_the_memory_for_all_is_a_fault() {
    let faults = read(
        r#"
routes = "r"
[listen]
body_memory = "1MiB"
[[source]]
name = "a"
provider = "supernova"
path_token = { env = "TOKEN" }
body_size = "2MiB"
"#,
    )
    .unwrap_err();
    insta::assert_snapshot!(faults, @r"
    jackfield.toml:3:1: a body may have 5242880 bytes (`body_size`), and all of them together 1048576 (`body_memory` of `[listen]`): the longest would be refused for ever
      3 | [listen]
        | ^^^^^^^^
    jackfield.toml:5:1: a body may have 2097152 bytes (`body_size`), and all of them together 1048576 (`body_memory` of `[listen]`): the longest would be refused for ever
      5 | [[source]]
        | ^^^^^^^^^^
    ");
}

#[test]
fn an_empty_path_is_none() {
    let text = "data_dir = \"\"\nroutes = \"\"\n[plugins]\ndir = \"\"\nlock = \"\"\n";
    let faults = read(text).unwrap_err().to_string();
    for key in ["data_dir", "routes", "plugins.dir", "plugins.lock"] {
        let said = format!("`{key}`: found \"\", expected a path");
        assert!(faults.contains(&said), "{key}: {faults}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j.toml");
    std::fs::write(&path, text).unwrap();
    for read in [data_dir, routes] {
        let faults = read(&path).unwrap_err().to_string();
        assert!(faults.contains("found \"\", expected a path"), "{faults}");
    }
}

#[test]
fn the_newline_that_ends_a_file_belongs_to_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "hunter2\r\n").unwrap();
    let text = "routes = \"r\"\n[[source]]\nname = \"a\"\nprovider = \"zeplin\"\nsecrets = [{ file = \"secret\" }]\n";
    let config = Config::parse("j.toml", text, directory.path(), &|_| None).unwrap();
    assert_eq!(config.sources[0].options.secrets[0].expose(), "hunter2");
}

#[test]
fn a_missing_file_says_what_to_do() {
    let faults = Config::load(Path::new("/nonexistent/jackfield.toml"), &|_| None).unwrap_err();
    insta::assert_snapshot!(faults, @r#"
    /nonexistent/jackfield.toml: the configuration cannot be read: No such file or directory (os error 2)
        = name another file with `--config`; `config/jackfield.toml` is a sample
    "#);
}

#[test]
fn where_data_lies_is_read_without_secrets_or_the_rest_being_right() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        data_dir(&path)
    };
    assert_eq!(read("").unwrap(), directory.path().join("data"));
    assert_eq!(
        read("data_dir = \"d\"\n[[source]]\nsecrets = nonsense\n").unwrap(),
        directory.path().join("d")
    );
    assert!(read("data_dir = 1\n").is_err());
    assert!(read("data_dir = \n").is_err());
}

/// Every file under `config/` is whole, once its variables are set.
#[test]
fn every_sample_is_valid() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut seen = 0;
    for entry in std::fs::read_dir(&samples).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "toml") && text.contains("[[source]]") {
            let environment = |_: &str| Some("any-value".to_owned());
            let violations = against_schema(&path, &text);
            assert!(violations.is_empty(), "{}: {violations:?}", path.display());
            Config::load(&path, &environment)
                .unwrap_or_else(|faults| panic!("{}:\n{faults}", path.display()));
            seen += 1;
        }
    }
    assert!(seen > 0, "there is no sample in {}", samples.display());
}

/// What the schema for editors finds in the file; keys that are commented out count as well.
fn against_schema(path: &Path, text: &str) -> Vec<String> {
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once('=')
                    .is_some_and(|(key, _)| !key.trim_end().contains(' ')) =>
            {
                rest
            }
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let mut faults = Faults::new();
    let file = path.display().to_string();
    let document = Document::parse(&file, &uncommented, &mut faults);
    let entries = document.root().entries();
    let object = entries
        .iter()
        .map(|item| (item.key().to_owned(), item.json(&mut faults).unwrap()))
        .collect::<serde_json::Map<_, _>>();
    assert!(faults.is_empty(), "{faults}");
    let schema = crate::schema::Schema::compile(schema()).unwrap();
    let violations = schema.check(&serde_json::Value::Object(object));
    violations.iter().map(ToString::to_string).collect()
}

/// An editor underlines what the router would refuse.
#[test]
fn the_schema_refuses_what_is_misspelt_or_of_a_wrong_type() {
    let sound = "routes = \"routes.toml\"\n[[source]]\nname = \"screens\"\nprovider = \"zeplin\"\nsecrets = [{ env = \"S\" }]\n";
    let found = |text: &str| against_schema(Path::new("jackfield.toml"), text);
    assert_eq!(found(sound), [""; 0]);
    for (more, expected) in [
        ("body_sise = \"1MiB\"", "did you mean `body_size`?"),
        (
            "body_size = 5",
            "`source[0].body_size`: found 5, expected a string",
        ),
        (
            "body_size = \"5 megabytes\"",
            "`source[0].body_size`: found a string, expected text like",
        ),
        (
            "unverified = \"yes\"",
            "`source[0].unverified`: found a string, expected true or false",
        ),
        ("[listen]\nadress = \"[::]:8080\"", "did you mean `address`?"),
        (
            "[listen]\nconnections = \"many\"",
            "`listen.connections`: found a string, expected a whole number",
        ),
        (
            "[[instance]]\nname = \"a\"\nconcurency = 2",
            "did you mean `concurrency`?",
        ),
        (
            "[[instance]]\nname = \"a\"\nconcurrency = 0",
            "`instance[0].concurrency`: found 0, expected at least 1",
        ),
        ("[rentention]", "did you mean `retention`?"),
    ] {
        let violations = found(&format!("{sound}{more}\n")).join("\n");
        assert!(violations.contains(expected), "{more}: {violations:?}");
    }
    let missing = found(&sound.replace("provider = \"zeplin\"\n", "")).join("\n");
    assert!(missing.contains("provider"), "{missing:?}");
}

#[test]
fn what_is_kept_goes_in_order_and_what_is_not_named_follows() {
    let kept = |section: &str| {
        let rest = "[[source]]\nname = \"a\"\nprovider = \"supernova\"\npath_token = { env = \"TOKEN\" }\n";
        read(&format!("routes = \"r.toml\"\n[retention]\n{section}\n{rest}")).map(|config| config.retention)
    };
    let days = |ages: [u64; 3]| ages.map(|days| Duration::from_secs(days * 86_400));
    for (section, ages) in [
        ("", [30, 90, 180]),
        ("payloads = \"120d\"", [120, 120, 180]),
        ("outcomes = \"20d\"", [20, 20, 20]),
        ("events = \"48h\"", [2, 2, 180]),
        ("payloads = \"1d\"\noutcomes = \"400d\"", [1, 90, 400]),
    ] {
        let kept = kept(section).unwrap();
        assert_eq!(
            [kept.payloads, kept.events, kept.outcomes],
            days(ages),
            "{section}"
        );
        assert_eq!((kept.max_events, kept.max_bytes), (None, 8 << 30));
    }
    let all = kept("payloads = \"forever\"\nmax_events = 5000\nmax_size = \"1GiB\"\ndead_letters = \"1h\"")
        .unwrap();
    assert_eq!([all.payloads, all.events, all.outcomes], [Duration::MAX; 3]);
    assert_eq!(
        (all.max_events, all.max_bytes, all.dead_letters),
        (Some(5_000), 1 << 30, Duration::from_secs(3_600))
    );

    let faults = kept(
        "payloads = \"30d\"\nevents = \"36h\"\noutcomes = \"1m\"\ndead_letters = \"never\"\nmax_events = 5\nmax_size = \"1MiB\"",
    );
    insta::assert_snapshot!(faults.unwrap_err(), @r#"
    jackfield.toml:4:10: `retention.events`: found 36h, expected at least the 30d of `payloads`
      4 | events = "36h"
        |          ^^^^^
        = payloads go first, then events, then what became of them
    jackfield.toml:5:12: `retention.outcomes`: found 60s, expected at least an hour, as in "30d", or "forever"
      5 | outcomes = "1m"
        |            ^^^^
    jackfield.toml:6:16: `retention.dead_letters`: found "never", expected a time such as "250ms", "2s", "10m", "24h" or "7d"
      6 | dead_letters = "never"
        |                ^^^^^^^
    jackfield.toml:7:14: `retention.max_events`: found 5, expected a whole number from 1000 to 1000000000000
      7 | max_events = 5
        |              ^
    jackfield.toml:8:12: `retention.max_size`: found 1048576 bytes, expected at least 67108864 bytes
      8 | max_size = "1MiB"
        |            ^^^^^^
    "#);
}

#[test]
fn limits_of_instances_are_read() {
    let config = read(
        r#"
routes = "routes.toml"
[[source]]
name = "s"
provider = "supernova"
path_token = { env = "TOKEN" }
[[instance]]
name = "slack"
rate = { calls = 50, per = "1m", burst = 5 }
[[instance.limit]]
by = "{{ input.channel }}"
rate = "1/s"
concurrency = 1
[[instance]]
name = "git"
"#,
    )
    .unwrap();
    let slack = &config.limits["slack"];
    assert_eq!(slack.rate.unwrap().to_string(), "50 calls in 60s");
    assert_eq!(slack.rate.unwrap().opens(10_000_000), 10_000_000 - 4 * 1_200_000);
    let limit = &slack.keys[0];
    assert_eq!(limit.by.source(), "{{ input.channel }}");
    assert_eq!(limit.rate.unwrap().to_string(), "1 call in 1s");
    assert_eq!(limit.concurrency.map(NonZeroUsize::get), Some(1));
    assert_eq!(config.limits["git"].rate, None);
}

#[test]
fn mistakes_in_limits_are_told_with_their_places() {
    let faults = read(
        r##"
routes = "routes.toml"
[[source]]
name = "s"
provider = "supernova"
path_token = { env = "TOKEN" }
[[instance]]
name = "slack"
rate = "10 per s"
[[instance.limit]]
by = "{{ chanel }}"
[[instance.limit]]
by = "#general"
rate = { calls = 5000, per = "1s" }
[[instance.limit]]
rate = { calls = 0, burst = 1 }
concurency = 1
[[instance]]
name = "git"
rate = 10
"##,
    )
    .unwrap_err();
    insta::assert_snapshot!(faults, @r##"
    jackfield.toml:9:8: `instance.rate`: found "10 per s", expected a rate such as "10/s", "50/m", "1/30s" or { calls = 50, per = "1m", burst = 5 }
      9 | rate = "10 per s"
        |        ^^^^^^^^^^
    jackfield.toml:10:1: the limit bounds nothing
     10 | [[instance.limit]]
        | ^^^^^^^^^^^^^^^^^^
        = add `rate = "1/s"`, `concurrency = 1`, or both
    jackfield.toml:11:6: `instance.limit.by`: there is no `chanel`
     11 | by = "{{ chanel }}"
        |      ^^^^^^^^^^^^^^
        = a template over `input`, what the step gives, and `event`, as in "{{ input.channel }}"
    jackfield.toml:13:6: `instance.limit.by`: found "#general", which is the same for every call; expected a template
     13 | by = "#general"
        |      ^^^^^^^^^^
        = a template over `input`, what the step gives, and `event`, as in "{{ input.channel }}"
    jackfield.toml:14:8: `instance.limit.rate`: found 5000 calls in 1s, expected at most a thousand in a second and at least one in a year
     14 | rate = { calls = 5000, per = "1s" }
        |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    jackfield.toml:15:1: `instance.limit` has no `by`, which is required
     15 | [[instance.limit]]
        | ^^^^^^^^^^^^^^^^^^
    jackfield.toml:16:8: `instance.limit.rate` has no `per`, which is required
     16 | rate = { calls = 0, burst = 1 }
        |        ^^^^^^^^^^^^^^^^^^^^^^^^
    jackfield.toml:16:18: `instance.limit.rate.calls`: found 0, expected a whole number from 1 to 1000000
     16 | rate = { calls = 0, burst = 1 }
        |                  ^
    jackfield.toml:17:1: `instance.limit` has no key `concurency`
     17 | concurency = 1
        | ^^^^^^^^^^
        = did you mean `concurrency`?
    jackfield.toml:20:8: `instance.rate`: found a whole number, expected a rate such as "10/s", "50/m", "1/30s" or { calls = 50, per = "1m", burst = 5 }
     20 | rate = 10
        |        ^^
    "##);
}
