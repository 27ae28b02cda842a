//! The rules of an instance, checked.

use std::{collections::BTreeMap, time::Duration};

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;

use crate::{
    config::{Config, CredentialConfig},
    fetch::Credential,
    place::{HostPort, parse_origin},
    unpack::Limits,
};

/// The rules of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) credentials: BTreeMap<String, Credential>,
    pub(crate) allow_private: Vec<HostPort>,
    pub(crate) max_bytes: u64,
    pub(crate) max_redirects: u32,
    pub(crate) stall_timeout: Duration,
    pub(crate) limits: Limits,
}

impl Options {
    /// Checks `config`; every mistake is named, each with its key.
    pub(crate) fn new(config: Config) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut allow_private = Vec::new();
        for text in &config.allow_private {
            match HostPort::parse(text) {
                Ok(place) => allow_private.push(place),
                Err(mistake) => mistakes.push(format!("allow_private: {mistake}")),
            }
        }
        let mut credentials = BTreeMap::new();
        for (name, raw) in config.credentials {
            match credential(&name, raw, &allow_private) {
                Ok(credential) => drop(credentials.insert(name, credential)),
                Err(found) => {
                    mistakes.extend(found.into_iter().map(|it| format!("credentials.{name}: {it}")))
                }
            }
        }
        let stall_timeout = parse_duration(&config.stall_timeout).unwrap_or_else(|| {
            mistakes.push(format!(
                "stall_timeout: `{}` is not a duration, as in \"30s\" or \"2m\"",
                config.stall_timeout
            ));
            Duration::ZERO
        });
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            credentials,
            allow_private,
            max_bytes: config.max_bytes,
            max_redirects: config.max_redirects,
            stall_timeout,
            limits: Limits {
                entries: config.max_entries,
                bytes: config.max_unpacked_bytes,
                ratio: config.max_ratio,
            },
        })
    }
}

fn credential(name: &str, raw: CredentialConfig, excepted: &[HostPort]) -> Result<Credential, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut origins = Vec::new();
    for text in &raw.origins {
        match parse_origin(text) {
            Ok(url) if url.scheme() == "https" || is_excepted(&url, excepted) => origins.push(url.origin()),
            Ok(_) => mistakes.push(format!(
                "`{text}` is plain http, and a credential is sent over https only, but to hosts in `allow_private`"
            )),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if raw.origins.is_empty() {
        mistakes.push("`origins` is empty, so that it could be sent nowhere".to_owned());
    }
    let header = match (raw.bearer, raw.header) {
        (Some(token), None) => Ok((AUTHORIZATION, format!("Bearer {}", token.expose()))),
        (None, Some(header)) => match header.name.parse::<HeaderName>() {
            Ok(name) => Ok((name, header.value.expose().to_owned())),
            Err(_) => Err(format!("`{}` is not the name of a header", header.name)),
        },
        (Some(_), Some(_)) => Err("it has both `bearer` and `header`; one is meant".to_owned()),
        (None, None) => Err("it has neither `bearer` nor `header`".to_owned()),
    };
    let header = header.and_then(|(header, value)| match HeaderValue::from_str(value.trim()) {
        Ok(value) => Ok((header, value)),
        Err(_) => Err("its secret holds a character that no header can carry, a line break say".to_owned()),
    });
    match header {
        Ok((header, mut value)) if mistakes.is_empty() => {
            value.set_sensitive(true);
            Ok(Credential {
                name: name.to_owned(),
                origins,
                header,
                value,
            })
        }
        Ok(_) => Err(mistakes),
        Err(mistake) => {
            mistakes.push(mistake);
            Err(mistakes)
        }
    }
}

fn is_excepted(url: &Url, excepted: &[HostPort]) -> bool {
    HostPort::of(url).is_some_and(|place| excepted.contains(&place))
}

/// Reads `500ms`, `30s`, `10m`, `2h`; nothing else, and not zero.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let milliseconds = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number
        .checked_mul(milliseconds)
        .filter(|total| *total > 0)
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mistakes(config: serde_json::Value) -> Vec<String> {
        Options::new(serde_json::from_value(config).unwrap()).unwrap_err()
    }

    #[test]
    fn an_empty_configuration_has_sensible_limits() {
        let options = Options::new(Config::default()).unwrap();
        assert_eq!(options.max_bytes, 512 << 20);
        assert_eq!(options.max_redirects, 5);
        assert_eq!(options.stall_timeout, Duration::from_secs(30));
        assert_eq!(
            (options.limits.entries, options.limits.bytes, options.limits.ratio),
            (10_000, 2 << 30, 200)
        );
        assert!(options.allow_private.is_empty() && options.credentials.is_empty());
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let found = mistakes(json!({
            "allow_private": ["localhost"],
            "stall_timeout": "soon",
            "credentials": {
                "a": { "origins": [], "bearer": "hunter2" },
                "b": { "origins": ["http://files.example"], "bearer": "hunter2" },
                "c": { "origins": ["https://files.example/path"] },
                "d": { "origins": ["https://files.example"], "bearer": "hunter2", "header": { "name": "x", "value": "y" } },
                "e": { "origins": ["https://files.example"], "header": { "name": "no header", "value": "hunter2" } },
                "f": { "origins": ["https://files.example"], "bearer": "hunter2\nX: y" },
            }
        }));
        insta::assert_snapshot!(found.join("\n"), @r#"
        allow_private: `localhost` is not `host:port`, as in "127.0.0.1:8081"
        credentials.a: `origins` is empty, so that it could be sent nowhere
        credentials.b: `http://files.example` is plain http, and a credential is sent over https only, but to hosts in `allow_private`
        credentials.c: `https://files.example/path` is not an origin, as in "https://api.supernova.io"
        credentials.c: it has neither `bearer` nor `header`
        credentials.d: it has both `bearer` and `header`; one is meant
        credentials.e: `no header` is not the name of a header
        credentials.f: its secret holds a character that no header can carry, a line break say
        stall_timeout: `soon` is not a duration, as in "30s" or "2m"
        "#);
    }

    #[test]
    fn a_credential_never_shows_itself() {
        let config = json!({
            "allow_private": ["127.0.0.1:80"],
            "credentials": { "a": { "origins": ["http://127.0.0.1"], "bearer": "hunter2" } }
        });
        let config: Config = serde_json::from_value(config).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let options = Options::new(config).unwrap();
        assert_eq!(options.credentials["a"].value, "Bearer hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn durations_are_numbers_with_a_unit() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("0s", None),
            ("30", None),
            ("s", None),
            ("1.5s", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(
                parse_duration(text),
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
