//! What a step asks for.

use std::path::Path;

use jackfield_sdk::{Cx, Error, Result, event::Artifact};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::{
    fetch::{Credential, Job, Link},
    options::Options,
};

/// What a step asks for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where the file lies, as in `{{ event.data.artifacts[0].url }}`. Only https, but for hosts in `allow_private`.
    pub url: String,
    /// The name of a credential in the instance's configuration, as in `{{ event.data.artifacts[0].auth }}`. None
    /// where it is empty or absent. It is sent to the credential's own origins and not beyond them.
    #[serde(default)]
    pub auth: Option<String>,
    /// The sha256 that the file must have, in hexadecimal; `sha256:` may stand before it.
    #[serde(default)]
    pub sha256: Option<String>,
    /// What to call the file; otherwise the name in the event, or the last part of the link's path.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether the file is a zip archive that is to be unpacked.
    #[serde(default)]
    pub unpack: bool,
    /// The largest file to fetch, in bytes, where that is less than the instance's own `max_bytes`.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

impl Input {
    /// What is to be fetched into `directory`.
    pub(crate) fn job(&self, cx: &Cx, options: &Options, directory: &Path) -> Result<Job> {
        // The parser's message does not repeat the link, which may hold a token.
        let url = Url::parse(&self.url)
            .map_err(|error| Error::invalid(format_args!("`url` is not a URL: {error}")))?;
        // All that is wanted of the event is what it knows about the link. It does without.
        let event = cx.event().ok();
        let artifact = event.and_then(|event| {
            event
                .data
                .artifacts
                .iter()
                .find(|artifact| artifact.url == self.url)
        });
        let link = Link {
            expires: artifact.and_then(|artifact| artifact.expires.map(|time| time.to_string())),
            provider: event.map(|event| event.provider.clone()).unwrap_or_default(),
        };
        Ok(Job {
            credential: self.credential(options)?,
            sha256: self.sha256.as_deref().map(parse_sha256).transpose()?,
            max_bytes: self
                .max_bytes
                .map_or(options.max_bytes, |own| own.min(options.max_bytes)),
            to: directory.join(self.file_name(&url, artifact)?),
            url,
            link,
        })
    }

    fn credential(&self, options: &Options) -> Result<Option<Credential>> {
        let Some(name) = self.auth.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let missing = || {
            let known: Vec<_> = options.credentials.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            Error::invalid(format_args!(
                "`auth` names the credential `{name}`, which the instance does not have; under `credentials` it has {known}"
            ))
        };
        options
            .credentials
            .get(name)
            .cloned()
            .ok_or_else(missing)
            .map(Some)
    }

    fn file_name(&self, url: &Url, artifact: Option<&Artifact>) -> Result<String> {
        if let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) {
            let plain = plain_name(name);
            return match plain == name {
                true => Ok(plain),
                false => Err(Error::invalid(format_args!(
                    "`name` is {name:?}, which is not a plain file name; \"{plain}\" would be one"
                ))),
            };
        }
        let in_event = artifact.and_then(|artifact| artifact.name.as_deref());
        let in_link = || url.path_segments().and_then(|mut segments| segments.next_back());
        Ok(plain_name(in_event.or_else(in_link).unwrap_or_default()))
    }
}

/// `name` as one component of a path on any system: other characters than the plainest become `_`.
pub(crate) fn plain_name(name: &str) -> String {
    let plain = |character: char| match character {
        '-' | '_' | '.' => character,
        _ if character.is_alphanumeric() => character,
        _ => '_',
    };
    // A hidden file is easily overlooked, and `..` is another directory.
    let mut plain: String = name.trim_start_matches('.').chars().map(plain).collect();
    while plain.len() > MAX_NAME {
        plain.pop();
    }
    if plain.is_empty() {
        "artifact".to_owned()
    } else {
        plain
    }
}

fn parse_sha256(text: &str) -> Result<String> {
    let digest = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    match digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(digest),
        false => Err(Error::invalid(format_args!(
            "`sha256` is {text:?}, which is not 64 hexadecimal digits"
        ))),
    }
}

/// Bytes in a name, of the 255 that file systems take; `.part` is put behind it.
const MAX_NAME: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_a_plain_name() {
        for (name, plain) in [
            ("tokens.zip", "tokens.zip"),
            ("app release (2).apk", "app_release__2_.apk"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "artifact"),
            ("", "artifact"),
            (".htaccess", "htaccess"),
            ("a/b\\c\0d", "a_b_c_d"),
            ("日本語.zip", "日本語.zip"),
        ] {
            assert_eq!(plain_name(name), plain);
        }
        assert_eq!(plain_name(&"x".repeat(300)).len(), 200);
        assert_eq!(plain_name(&"日".repeat(300)).len(), 198);
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let digest = "AB".repeat(32);
        for (text, good) in [
            (digest.clone(), true),
            (format!("sha256:{digest}"), true),
            (format!("sha512:{digest}"), false),
            ("ab".repeat(31), false),
            ("xy".repeat(32), false),
            (String::new(), false),
        ] {
            assert_eq!(parse_sha256(&text).ok(), good.then(|| "ab".repeat(32)), "{text}");
        }
    }
}
