//! Payloads as the providers document them: bodies of the recorded requests that the tests are held against.

use crate::{provider::Options, secret::Secret};

/// One payload.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) body: &'static [u8],
}

/// The samples of a provider, the most usual first.
pub(super) fn of(provider: &str) -> impl Iterator<Item = Sample> {
    SAMPLES
        .iter()
        .filter(move |(of, _, _)| *of == provider)
        .map(|(_, name, request)| Sample {
            name,
            body: body(request),
        })
}

/// The same source, as somebody imagines it who does not know its secrets.
pub(super) fn forged(options: &Options) -> Options {
    let mut forged = options.clone();
    let guess = || Secret::new("a-guess");
    forged.secrets = options.secrets.iter().map(|_| guess()).collect();
    forged.path_token = options.path_token.as_ref().map(|_| guess());
    forged
}

/// What follows the first empty line.
fn body(request: &'static [u8]) -> &'static [u8] {
    let end = request.windows(2).position(|pair| pair == b"\n\n");
    end.map_or(request, |end| &request[end + 2..])
}

macro_rules! samples {
    ($($provider:literal: $($name:literal = $case:literal),+;)+) => {
        &[$($((
            $provider,
            $name,
            include_bytes!(concat!("../../tests/providers/", $provider, "/", $case, ".http")),
        )),+),+]
    };
}

const SAMPLES: &[(&str, &str, &[u8])] = samples! {
    "supernova":
        "success" = "documented",
        "failure" = "failure",
        "in-progress" = "in-progress",
        "shape-of-2021" = "shape-of-2021";
    "zeplin":
        "screen-version" = "documented-screen-version",
        "component-version" = "component-version",
        "note-comment" = "note-comment",
        "member-invited" = "member-invited",
        "screen-deleted" = "screen-deleted",
        "ping" = "ping";
    "appflow":
        "package" = "documented-package",
        "web" = "documented-web",
        "native" = "documented-native",
        "canceled" = "canceled";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_samples_and_each_is_json() {
        for provider in crate::provider::names() {
            assert!(of(provider).count() > 0, "{provider}");
            for Sample { name, body } in of(provider) {
                let parsed = serde_json::from_slice::<serde_json::Value>(body);
                assert!(parsed.is_ok_and(|value| value.is_object()), "{provider} {name}");
            }
        }
    }
}
