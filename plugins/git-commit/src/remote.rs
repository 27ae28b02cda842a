//! Addresses of repositories: read strictly, compared by their parts, shown without credentials.
//!
//! An address often comes out of a rule's template, hence from a payload: in comes any text, out comes a
//! [`Remote`] whose every part was checked, or the reason why not. What git would read in more than one way
//! (helpers such as `ext::`, relative paths, options) is no address here.

mod allowed;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::allowed::Allowed;

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `https://host/path`.
    Https,
    /// `ssh://user@host/path` or `user@host:path`.
    Ssh,
    /// `/path` or `file:///path`: a repository on this machine.
    File,
    /// `http://host/path`: nothing is encrypted, not even a token. For loopback and closed networks.
    Http,
}

impl Protocol {
    /// The word that git and the configuration know it by.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

/// The address of a repository, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    protocol: Protocol,
    /// `user@host:port`, as far as it has them, the host in lower case; empty for a local path.
    authority: String,
    /// Starts with `/`, but for the short form of ssh (`user@host:path`).
    path: String,
}

/// The text is not the address of a repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("it is empty")]
    Empty,
    #[error("it holds a control character")]
    ControlCharacter,
    #[error(
        "it is neither `https://host/path`, `ssh://user@host/path`, `user@host:path` nor an absolute path"
    )]
    Form,
    #[error("the protocol `{0}` is not one of https, ssh, file, http")]
    Protocol(String),
    #[error("it carries a credential: leave it out, and configure `tokens` of the instance")]
    Credential,
    #[error("the user, host or port `{0}` is not a plain one")]
    Authority(String),
    #[error("its path has no name in it")]
    NoPath,
    #[error("its path holds `{0}`, which is not a plain name")]
    Segment(String),
}

impl Remote {
    /// Reads an address.
    pub(crate) fn parse(text: &str) -> Result<Self, RemoteError> {
        if text.is_empty() {
            return Err(RemoteError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(RemoteError::ControlCharacter);
        }
        if text.starts_with('/') {
            return Self::checked(Protocol::File, "", text);
        }
        match text.split_once("://") {
            Some((scheme, rest)) => Self::from_url(scheme, rest),
            None => Self::from_short_form(text),
        }
    }

    fn from_url(scheme: &str, rest: &str) -> Result<Self, RemoteError> {
        let protocol = match scheme {
            "https" => Protocol::Https,
            "http" => Protocol::Http,
            "ssh" => Protocol::Ssh,
            "file" => Protocol::File,
            other => return Err(RemoteError::Protocol(other.to_owned())),
        };
        let slash = rest.find('/').ok_or(RemoteError::NoPath)?;
        let (authority, path) = rest.split_at(slash);
        if matches!(protocol, Protocol::Https | Protocol::Http) && authority.contains('@') {
            return Err(RemoteError::Credential);
        }
        Self::checked(protocol, authority, path)
    }

    fn from_short_form(text: &str) -> Result<Self, RemoteError> {
        let colon = match text.rfind("]:") {
            Some(bracket) => bracket + 1,
            None => text.find(':').ok_or(RemoteError::Form)?,
        };
        let (authority, path) = (&text[..colon], &text[colon + 1..]);
        if authority.contains('/') || path.starts_with(':') {
            return Err(RemoteError::Form);
        }
        Self::checked(Protocol::Ssh, authority, path)
    }

    fn checked(protocol: Protocol, authority: &str, path: &str) -> Result<Self, RemoteError> {
        let authority = match protocol {
            Protocol::File if matches!(authority, "" | "localhost") => String::new(),
            Protocol::File => return Err(RemoteError::Authority(authority.to_owned())),
            Protocol::Https | Protocol::Http | Protocol::Ssh => check_authority(authority)?,
        };
        let path = path.strip_suffix('/').unwrap_or(path);
        let names = path.strip_prefix('/').unwrap_or(path);
        if names.is_empty() {
            return Err(RemoteError::NoPath);
        }
        match names.split('/').find(|name| !is_plain(name)) {
            Some(name) => Err(RemoteError::Segment(name.to_owned())),
            None => Ok(Self {
                protocol,
                authority,
                path: path.to_owned(),
            }),
        }
    }

    /// How it is reached.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `https://host:port`, which a token belongs to; `None` where no token is sent.
    pub(crate) fn origin(&self) -> Option<String> {
        match self.protocol {
            Protocol::Https | Protocol::Http => {
                Some(format!("{}://{}", self.protocol.word(), self.authority))
            }
            Protocol::Ssh | Protocol::File => None,
        }
    }

    /// The last name of the path, without `.git`: for people.
    pub(crate) fn name(&self) -> &str {
        let path = self.bare_path();
        path.rsplit('/').next().unwrap_or(path)
    }

    /// The page of a commit, where the host's name tells which forge it is.
    pub(crate) fn commit_url(&self, sha: &str) -> Option<String> {
        if self.protocol == Protocol::File {
            return None;
        }
        let host = match self.protocol {
            // The names by which forges take ssh on the port of https are of no page.
            Protocol::Ssh => {
                let names = ["ssh.", "altssh."].iter();
                let host = self.host();
                names
                    .filter_map(|name| host.strip_prefix(name))
                    .next()
                    .unwrap_or(host)
            }
            _ => self.host(),
        };
        let page = match Forge::of(host)? {
            Forge::GitHub | Forge::Gitea => "commit",
            Forge::GitLab => "-/commit",
            Forge::Bitbucket => "commits",
        };
        // A port of https belongs to the page as well; one of ssh does not.
        let site = match self.protocol {
            Protocol::Ssh => format!("https://{host}"),
            _ => self.origin()?,
        };
        let path = self.bare_path().trim_start_matches('/');
        Some(format!("{site}/{path}/{page}/{sha}"))
    }

    /// The page of a commit by a pattern with `{path}` and `{sha}`.
    pub(crate) fn commit_url_by(&self, pattern: &str, sha: &str) -> String {
        let path = self.bare_path().trim_start_matches('/');
        pattern.replace("{path}", path).replace("{sha}", sha)
    }

    fn host(&self) -> &str {
        let host = self.authority.rsplit('@').next().unwrap_or_default();
        match host.rfind(':') {
            Some(colon) if !host.ends_with(']') => &host[..colon],
            _ => host,
        }
    }

    /// The path without `.git`, which forges take with and without.
    fn bare_path(&self) -> &str {
        self.path.strip_suffix(".git").unwrap_or(&self.path)
    }
}

/// The form that git is given. It never holds a credential.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::File => f.write_str(&self.path),
            Protocol::Ssh if !self.path.starts_with('/') => write!(f, "{}:{}", self.authority, self.path),
            protocol => write!(f, "{}://{}{}", protocol.word(), self.authority, self.path),
        }
    }
}

/// The makers of forges, as far as their addresses differ.
enum Forge {
    GitHub,
    GitLab,
    Gitea,
    Bitbucket,
}

impl Forge {
    fn of(host: &str) -> Option<Self> {
        host.split('.').find_map(|label| match label {
            "github" => Some(Self::GitHub),
            "gitlab" => Some(Self::GitLab),
            "gitea" | "forgejo" | "codeberg" => Some(Self::Gitea),
            // Bitbucket's own servers have other addresses.
            "bitbucket" if host == "bitbucket.org" => Some(Self::Bitbucket),
            _ => None,
        })
    }
}

fn check_authority(text: &str) -> Result<String, RemoteError> {
    let wrong = || RemoteError::Authority(text.to_owned());
    let (user, place) = match text.split_once('@') {
        Some((user, _)) if user.contains(':') => return Err(RemoteError::Credential),
        Some((user, place)) => (Some(user), place),
        None => (None, text),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = |name: &str| !name.is_empty() && !name.starts_with('-') && name.chars().all(plain);
    if user.is_some_and(|user| !name(user)) {
        return Err(wrong());
    }
    let (host, port) = match place.rfind(':') {
        Some(colon) if !place.ends_with(']') => (&place[..colon], Some(&place[colon + 1..])),
        _ => (place, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return Err(wrong());
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name(host),
    };
    if !good_host {
        return Err(wrong());
    }
    Ok(match user {
        Some(user) => format!("{user}@{}", place.to_ascii_lowercase()),
        None => place.to_ascii_lowercase(),
    })
}

/// Whether one name of a path means itself to git, to ssh and to a web server.
fn is_plain(name: &str) -> bool {
    const ENCODED: [&str; 5] = ["%2e", "%2f", "%5c", "%25", "%00"];
    let lower = name.to_ascii_lowercase();
    let special = matches!(name, "" | "." | "..") || name.starts_with('-');
    let odd = name.contains(['\\', '?', '#', '"', '*']);
    !special && !odd && !ENCODED.iter().any(|code| lower.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, protocol: Protocol, shown: &str) {
        let remote = Remote::parse(text).unwrap();
        assert_eq!(
            (remote.protocol(), remote.to_string().as_str()),
            (protocol, shown)
        );
        assert_eq!(Remote::parse(shown).unwrap(), remote);
    }

    #[test]
    fn an_address_reads_back_as_what_git_is_given() {
        check(
            "https://GitHub.com/acme/tokens.git",
            Protocol::Https,
            "https://github.com/acme/tokens.git",
        );
        check(
            "https://git.example:8443/a/b/c/",
            Protocol::Https,
            "https://git.example:8443/a/b/c",
        );
        check(
            "http://127.0.0.1:3000/a",
            Protocol::Http,
            "http://127.0.0.1:3000/a",
        );
        check(
            "git@github.com:acme/tokens.git",
            Protocol::Ssh,
            "git@github.com:acme/tokens.git",
        );
        check("github:acme/tokens", Protocol::Ssh, "github:acme/tokens");
        check("git@[::1]:acme/x", Protocol::Ssh, "git@[::1]:acme/x");
        check("git@host:/srv/x", Protocol::Ssh, "ssh://git@host/srv/x");
        check(
            "ssh://git@host:22/~me/x",
            Protocol::Ssh,
            "ssh://git@host:22/~me/x",
        );
        check("/srv/git/x.git", Protocol::File, "/srv/git/x.git");
        check("file:///srv/git/a b.git", Protocol::File, "/srv/git/a b.git");
        check(
            "https://dev.example/a%20b/_git/x",
            Protocol::Https,
            "https://dev.example/a%20b/_git/x",
        );
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for text in [
            "",
            "-",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c id",
            "fd::3",
            "git://host/x",
            "HTTPS://host/x",
            "ftp://host/x",
            "https://host",
            "https://host/",
            "https:///x",
            "https://user@host/x",
            "https://user:pass@host/x",
            "ssh://user:pass@host/x",
            "ssh://-oProxyCommand=id/x",
            "-oProxyCommand=id:x",
            "git@-host:x",
            "a b@host:x",
            "host:-x",
            "host:",
            "host::x",
            "./x",
            "x",
            "../x",
            "a/b:c",
            "/",
            "//",
            "/srv//x",
            "/srv/../etc/x",
            "/srv/./x",
            "/srv/-x",
            "https://host/a/../b",
            "https://host/a/%2e%2E/b",
            "https://host/a%2Fb",
            "https://host/a?b",
            "https://host/a#b",
            "https://host/a\\b",
            "https://host/a\nb",
            "https://host:99999/a",
            "https://host:/a",
            "https://ho st/a",
            "ssh://[::1/x",
            "file://other/x",
            "file://",
        ] {
            assert!(
                Remote::parse(text).is_err(),
                "{text:?} was taken for {:?}",
                Remote::parse(text)
            );
        }
    }

    #[test]
    fn forges_are_told_by_their_host() {
        for (text, page) in [
            (
                "git@github.com:acme/x.git",
                Some("https://github.com/acme/x/commit/1f"),
            ),
            (
                "ssh://git@github.acme.io:22/acme/x",
                Some("https://github.acme.io/acme/x/commit/1f"),
            ),
            (
                "https://gitlab.com/a/b/x.git",
                Some("https://gitlab.com/a/b/x/-/commit/1f"),
            ),
            (
                "https://gitea.local:3000/a/x",
                Some("https://gitea.local:3000/a/x/commit/1f"),
            ),
            (
                "ssh://git@ssh.github.com:443/a/x.git",
                Some("https://github.com/a/x/commit/1f"),
            ),
            (
                "ssh://git@altssh.bitbucket.org:443/a/x.git",
                Some("https://bitbucket.org/a/x/commits/1f"),
            ),
            (
                "https://bitbucket.org/a/x",
                Some("https://bitbucket.org/a/x/commits/1f"),
            ),
            ("https://git.example/a/x", None),
            ("https://notgithub.com/a/x", None),
            ("/srv/github/x", None),
        ] {
            assert_eq!(
                Remote::parse(text).unwrap().commit_url("1f").as_deref(),
                page,
                "{text}"
            );
        }
        let own = Remote::parse("git@git.example:a/x.git").unwrap();
        assert_eq!(
            own.commit_url_by("https://web.example/{path}/c/{sha}", "1f"),
            "https://web.example/a/x/c/1f"
        );
    }
}
