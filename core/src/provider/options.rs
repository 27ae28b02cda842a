//! From a source's options to a provider: every mistake is found here, and none at the first request.

use std::{sync::Arc, time::Duration};

use jackfield_event::{Timestamp, Verification};

use super::{Provider, SignedRequest, appflow, supernova, zeplin};
use crate::{fault::nearest, secret::Secret};

/// How one source is verified.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The provider's name, one of [`names`].
    pub provider: String,
    /// The live signing secrets; a request need match only one. The first is the one that [`sign`](super::sign) uses.
    pub secrets: Vec<Secret>,
    /// The secret last segment of the source's path. For a provider that signs, a second lock beside the signature.
    pub path_token: Option<Secret>,
    /// Believe everybody. Goes with neither `secrets` nor `path_token`.
    pub unverified: bool,
    /// How far a signed timestamp may lie from the present, either way; by default what suits the provider.
    pub tolerance: Option<Duration>,
}

/// A provider that is known, and what it needs to be verified.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) name: &'static str,
    /// Whether it signs its requests; one that does not needs a token in the path.
    pub(super) signs: bool,
    /// The types of the events that its documentation promises.
    pub(super) types: fn() -> Vec<String>,
    pub(super) build: fn(Options) -> Arc<dyn Provider>,
    pub(super) sign: fn(&Options, &[u8], Timestamp, &str) -> SignedRequest,
}

const ADAPTERS: &[Adapter] = &[appflow::ADAPTER, supernova::ADAPTER, zeplin::ADAPTER];

/// The names of all providers, in alphabetical order.
pub fn names() -> impl Iterator<Item = &'static str> {
    ADAPTERS.iter().map(|adapter| adapter.name)
}

/// The types of the events that `provider` is documented to cause, for hints about slips in a rule; empty for
/// an unknown one. Others can come: a provider's new words pass through.
pub fn event_types(provider: &str) -> Vec<String> {
    find(provider)
        .map(|adapter| (adapter.types)())
        .unwrap_or_default()
}

/// How the requests of a provider are verified where a source is configured as it should be: by what it signs, or else by
/// the token in the address. An unknown one is taken for one that signs.
pub fn verification(provider: &str) -> Verification {
    match find(provider) {
        Ok(Adapter { signs: false, .. }) => Verification::PathToken,
        Ok(Adapter { signs: true, .. }) | Err(_) => Verification::Signature,
    }
}

/// Makes the provider that `options` describe.
///
/// # Errors
///
/// Where a request could not be verified, or an option would check nothing. The error says which key to
/// change ([`BuildError::key`]) and to what.
pub fn build(options: Options) -> Result<Arc<dyn Provider>, BuildError> {
    let adapter = options.check()?;
    Ok((adapter.build)(options))
}

/// Why options do not make a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// There is no provider of that name.
    #[error(
        "`{name}` is not a provider{}; known are {}, and `plugin:` with the name of an instance",
        near.map(|near| format!(", did you mean `{near}`")).unwrap_or_default(),
        names().collect::<Vec<_>>().join(", ")
    )]
    UnknownProvider {
        /// The name as given.
        name: String,
        /// The known name that resembles it.
        near: Option<&'static str>,
    },
    /// The provider signs, and nothing could check it.
    #[error(
        "{provider} signs its requests, and there is no secret to check them with: \
         add `secrets = [{{ env = \"{}_SECRET\" }}]`, or `unverified = true` to believe everybody",
        provider.to_uppercase()
    )]
    MissingSecret {
        /// The provider.
        provider: &'static str,
    },
    /// The provider does not sign, and the path holds no secret either.
    #[error(
        "{provider} signs nothing, so its requests are told by a secret in the path: \
         add `path_token = {{ env = \"{}_PATH_TOKEN\" }}`, or `unverified = true` to believe everybody",
        provider.to_uppercase()
    )]
    MissingPathToken {
        /// The provider.
        provider: &'static str,
    },
    /// The provider does not sign, so that a signing secret would check nothing.
    #[error("{provider} signs nothing, so `secrets` would check nothing: use `path_token` instead")]
    UnusedSecrets {
        /// The provider.
        provider: &'static str,
    },
    /// The provider sends no timestamp, so that a tolerance would check nothing.
    #[error("{provider} sends no signed timestamp, so `tolerance` would check nothing: remove it")]
    UnusedTolerance {
        /// The provider.
        provider: &'static str,
    },
    /// No request can arrive within no time at all.
    #[error(
        "a tolerance below one second refuses everything: providers count in seconds; the default is 10m"
    )]
    TooStrict,
    /// The source believes everybody and yet has something to check.
    #[error("`unverified = true` believes everybody, and `{key}` would go unused: remove one of the two")]
    Contradiction {
        /// The other key.
        key: &'static str,
    },
    /// Anybody can guess nothing.
    #[error("the secret is empty: check the variable or file that `{key}` refers to")]
    EmptySecret {
        /// The key that holds it.
        key: &'static str,
    },
    /// The token could never be equal to a segment of a path.
    #[error(
        "the token cannot stand in a path as it is: use only letters, digits, `-`, `_`, `.` and `~`, \
         for example what `openssl rand -hex 24` prints"
    )]
    UnfitPathToken,
}

impl BuildError {
    /// The key of the configuration that is wrong or missing.
    pub fn key(&self) -> &'static str {
        match self {
            Self::UnknownProvider { .. } => "provider",
            Self::MissingSecret { .. } | Self::UnusedSecrets { .. } => "secrets",
            Self::MissingPathToken { .. } | Self::UnfitPathToken => "path_token",
            Self::UnusedTolerance { .. } | Self::TooStrict => "tolerance",
            Self::Contradiction { .. } => "unverified",
            Self::EmptySecret { key } => key,
        }
    }
}

impl Options {
    /// Finds the adapter, and whether the options suit it.
    pub(super) fn check(&self) -> Result<&'static Adapter, BuildError> {
        let adapter = find(&self.provider)?;
        let provider = adapter.name;
        self.check_secrets()?;
        if !adapter.signs && !self.secrets.is_empty() {
            return Err(BuildError::UnusedSecrets { provider });
        }
        if self.tolerance.is_some() && !adapter.signs {
            return Err(BuildError::UnusedTolerance { provider });
        }
        self.check_tolerance()?;
        if self.unverified {
            return self.check_unverified().map(|()| adapter);
        }
        if adapter.signs && self.secrets.is_empty() {
            return Err(BuildError::MissingSecret { provider });
        }
        if !adapter.signs && self.path_token.is_none() {
            return Err(BuildError::MissingPathToken { provider });
        }
        Ok(adapter)
    }

    /// Whether the options could suit a provider of which nobody knows what it needs.
    pub(super) fn check_any(&self) -> Result<(), BuildError> {
        self.check_secrets()?;
        self.check_tolerance()?;
        match self.unverified {
            true => self.check_unverified(),
            false => Ok(()),
        }
    }

    fn check_secrets(&self) -> Result<(), BuildError> {
        if self.secrets.iter().any(|secret| secret.expose().is_empty()) {
            return Err(BuildError::EmptySecret { key: "secrets" });
        }
        self.path_token.as_ref().map_or(Ok(()), check_token)
    }

    fn check_tolerance(&self) -> Result<(), BuildError> {
        match self.tolerance {
            Some(tolerance) if tolerance < Duration::from_secs(1) => Err(BuildError::TooStrict),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether there is nothing to check where nothing is checked.
    fn check_unverified(&self) -> Result<(), BuildError> {
        match (self.secrets.is_empty(), &self.path_token) {
            (false, _) => Err(BuildError::Contradiction { key: "secrets" }),
            (_, Some(_)) => Err(BuildError::Contradiction { key: "path_token" }),
            (true, None) => Ok(()),
        }
    }
}

fn find(name: &str) -> Result<&'static Adapter, BuildError> {
    ADAPTERS
        .iter()
        .find(|adapter| adapter.name == name)
        .ok_or_else(|| BuildError::UnknownProvider {
            name: name.to_owned(),
            near: nearest(name, names()),
        })
}

fn check_token(token: &Secret) -> Result<(), BuildError> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    match token.expose() {
        "" => Err(BuildError::EmptySecret { key: "path_token" }),
        // A client resolves these two away before it sends anything.
        "." | ".." => Err(BuildError::UnfitPathToken),
        token if token.bytes().all(unreserved) => Ok(()),
        _ => Err(BuildError::UnfitPathToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(provider: &str) -> Options {
        Options {
            provider: provider.into(),
            ..Options::default()
        }
    }

    #[track_caller]
    fn refused(options: Options) -> String {
        let error = build(options).expect_err("the options are faulty");
        format!("{}: {error}", error.key())
    }

    #[test]
    fn a_source_that_could_not_be_verified_is_not_built() {
        let some = |text| Some(Secret::new(text));
        let secrets = |texts: &[&str]| texts.iter().copied().map(Secret::new).collect::<Vec<_>>();
        let minute = Some(Duration::from_secs(60));
        #[rustfmt::skip]
        let faulty = [
            options("Zeplni"),
            options("github"),
            options("zeplin"),
            Options { path_token: some("t0ken"), ..options("zeplin") },
            options("supernova"),
            Options { secrets: secrets(&["s"]), ..options("appflow") },
            Options { path_token: some("t0ken"), tolerance: minute, ..options("appflow") },
            Options { secrets: secrets(&["s"]), tolerance: Some(Duration::ZERO), ..options("zeplin") },
            Options { secrets: secrets(&["s"]), unverified: true, ..options("zeplin") },
            Options { path_token: some("t0ken"), unverified: true, ..options("supernova") },
            Options { secrets: secrets(&["s", ""]), ..options("zeplin") },
            Options { path_token: some(""), ..options("supernova") },
            Options { path_token: some("a/b"), ..options("supernova") },
            Options { path_token: some(".."), ..options("supernova") },
        ];
        insta::assert_snapshot!(faulty.map(refused).join("\n"), @r#"
        provider: `Zeplni` is not a provider, did you mean `zeplin`; known are appflow, supernova, zeplin, and `plugin:` with the name of an instance
        provider: `github` is not a provider; known are appflow, supernova, zeplin, and `plugin:` with the name of an instance
        secrets: zeplin signs its requests, and there is no secret to check them with: add `secrets = [{ env = "ZEPLIN_SECRET" }]`, or `unverified = true` to believe everybody
        secrets: zeplin signs its requests, and there is no secret to check them with: add `secrets = [{ env = "ZEPLIN_SECRET" }]`, or `unverified = true` to believe everybody
        path_token: supernova signs nothing, so its requests are told by a secret in the path: add `path_token = { env = "SUPERNOVA_PATH_TOKEN" }`, or `unverified = true` to believe everybody
        secrets: appflow signs nothing, so `secrets` would check nothing: use `path_token` instead
        tolerance: appflow sends no signed timestamp, so `tolerance` would check nothing: remove it
        tolerance: a tolerance below one second refuses everything: providers count in seconds; the default is 10m
        unverified: `unverified = true` believes everybody, and `secrets` would go unused: remove one of the two
        unverified: `unverified = true` believes everybody, and `path_token` would go unused: remove one of the two
        secrets: the secret is empty: check the variable or file that `secrets` refers to
        path_token: the secret is empty: check the variable or file that `path_token` refers to
        path_token: the token cannot stand in a path as it is: use only letters, digits, `-`, `_`, `.` and `~`, for example what `openssl rand -hex 24` prints
        path_token: the token cannot stand in a path as it is: use only letters, digits, `-`, `_`, `.` and `~`, for example what `openssl rand -hex 24` prints
        "#);
    }

    #[test]
    fn a_source_that_can_be_verified_is_built() {
        for (provider, secrets, path_token, unverified) in [
            ("zeplin", vec!["new", "old"], None, false),
            ("zeplin", vec!["new"], Some("and-a-token"), false),
            ("zeplin", vec![], None, true),
            ("supernova", vec![], Some("t0ken"), false),
            ("supernova", vec![], None, true),
            ("appflow", vec![], Some("t0ken"), false),
        ] {
            let options = Options {
                secrets: secrets.into_iter().map(Secret::new).collect(),
                path_token: path_token.map(Secret::new),
                unverified,
                ..options(provider)
            };
            let built = build(options).map(|provider| format!("{provider:?}"));
            assert!(
                built.as_ref().is_ok_and(|debug| !debug.contains("t0ken")),
                "{provider}: {built:?}"
            );
        }
    }

    #[test]
    fn the_names_are_sorted_and_each_is_known() {
        assert!(names().is_sorted());
        for name in names() {
            assert_eq!(find(name).unwrap().name, name);
            assert!(
                event_types(name)
                    .iter()
                    .any(|kind| kind.ends_with(".unrecognized"))
            );
        }
    }
}
