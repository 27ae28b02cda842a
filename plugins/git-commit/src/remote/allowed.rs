//! Which repositories an instance is for.

use super::{Remote, RemoteError};

/// One entry of the instance's list of repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// `*`: any that the protocols allow.
    Any,
    /// That one.
    One(Remote),
    /// `…/*`: those whose path starts so; the path ends with `/` or is empty.
    Under(Remote),
}

impl Allowed {
    /// Reads an entry: an address, an address whose path ends with `/*`, `user@host:*`, or `*`.
    pub(crate) fn parse(text: &str) -> Result<Self, RemoteError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(prefix) = text.strip_suffix('*') else {
            return Remote::parse(text).map(Self::One);
        };
        if !prefix.ends_with(['/', ':']) {
            return Err(RemoteError::Form);
        }
        // A name in the star's place makes it an address, which is read as strictly as any.
        let mut remote = Remote::parse(&format!("{prefix}x"))?;
        remote.path.pop();
        Ok(Self::Under(remote))
    }

    /// Whether the entry covers `remote`.
    pub(crate) fn covers(&self, remote: &Remote) -> bool {
        let same_place =
            |other: &Remote| (other.protocol, &other.authority) == (remote.protocol, &remote.authority);
        match self {
            Self::Any => true,
            Self::One(one) => same_place(one) && one.bare_path() == remote.bare_path(),
            Self::Under(prefix) => {
                let relative = |path: &str| !path.starts_with('/');
                same_place(prefix)
                    && relative(&prefix.path) == relative(&remote.path)
                    && remote.path.len() > prefix.path.len()
                    && remote.path.starts_with(&prefix.path)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_allowed(pattern: &str, yes: &[&str], no: &[&str]) {
        let allowed = Allowed::parse(pattern).unwrap();
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(
                    allowed.covers(&Remote::parse(text).unwrap()),
                    expected,
                    "{pattern} and {text}"
                );
            }
        }
    }

    #[test]
    fn a_pattern_covers_whole_names_of_the_same_place() {
        check_allowed("*", &["/a", "git@h:a", "https://h/a"], &[]);
        check_allowed(
            "https://h/acme/*",
            &["https://H/acme/x", "https://h/acme/x/y.git"],
            &[
                "https://h/acme",
                "https://h/acme2/x",
                "https://h.evil/acme/x",
                "http://h/acme/x",
                "https://h:8/acme/x",
                "ssh://h/acme/x",
            ],
        );
        check_allowed(
            "https://h/acme/x.git",
            &["https://h/acme/x", "https://h/acme/x/"],
            &["https://h/acme/xy"],
        );
        check_allowed(
            "git@h:acme/*",
            &["git@h:acme/x"],
            &["root@h:acme/x", "git@h:/acme/x", "git@h:acmes/x"],
        );
        check_allowed("git@h:*", &["git@h:acme/x", "git@h:x"], &["git@h:/x", "git@h2:x"]);
        check_allowed(
            "/srv/git/*",
            &["/srv/git/x", "file:///srv/git/x"],
            &["/srv/gitx", "/srv/other/x"],
        );
    }

    #[test]
    fn a_star_stands_only_for_the_rest_of_a_path() {
        for pattern in [
            "",
            "https://*",
            "https://h*",
            "https://h/acme*",
            "*/x",
            "https://*/x",
            "git@*",
            "/srv/*/x",
        ] {
            assert!(Allowed::parse(pattern).is_err(), "{pattern}");
        }
    }
}
