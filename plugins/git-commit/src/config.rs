//! How an instance is configured: [`Config`] as it is written, [`Options`] as it was checked.

use std::path::{Component, Path, PathBuf};

use jackfield_sdk::{Proxy, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    message::Identity,
    remote::{Allowed, Protocol, Remote, RemoteError},
    target::Target,
};

/// What an instance may do, and in whose name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The repositories that steps may name: addresses (`https://github.com/acme/tokens.git`), all below a path
    /// (`git@github.com:acme/*`), or `*` for any. A step that names another one fails.
    #[schemars(length(min = 1))]
    pub repositories: Vec<String>,
    /// The protocols that may be used. A repository on this machine needs `file`.
    #[serde(default = "default_protocols")]
    pub protocols: Vec<Protocol>,
    /// The committer of every commit; its author is the event's actor, where it has one.
    #[serde(default = "default_committer")]
    pub committer: Identity,
    /// How repositories are reached by ssh.
    #[serde(default)]
    pub ssh: Option<Ssh>,
    /// How repositories are reached by https.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// A file of certificate authorities (PEM) in place of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Where mirrors of repositories are kept between calls. It can be deleted at any time while nothing runs.
    /// A relative path is below the router's data directory. By default a private directory below the
    /// system's temporary directory.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// The `git` program, 2.32 or newer.
    #[serde(default = "default_git")]
    pub git: PathBuf,
    /// Directories that `from` may lie in, besides the delivery's work directory.
    #[serde(default)]
    pub sources: Vec<PathBuf>,
    /// Paths in repositories that no call writes or deletes; a directory ends with `/`. By default those that
    /// tell a forge what to run.
    #[serde(default = "default_protected")]
    pub protected: Vec<String>,
    /// How many files a call may bring.
    #[serde(default = "default_max_files")]
    #[schemars(range(min = 1))]
    pub max_files: u32,
    /// How many bytes its files may have in all.
    #[serde(default = "default_max_bytes")]
    #[schemars(range(min = 1))]
    pub max_bytes: u64,
    /// How often a call pushes while others move the branch; after that it is left to the step's `retry`.
    #[serde(default = "default_push_attempts")]
    #[schemars(range(min = 1, max = 20))]
    pub push_attempts: u32,
    /// The page of a commit on a forge whose host's name does not tell its kind:
    /// `https://git.example.com/{path}/commit/{sha}`.
    #[serde(default)]
    pub commit_url: Option<String>,
}

/// How repositories are reached by ssh.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// The file of the private key (a deploy key, without a passphrase), readable by its owner alone.
    pub key: PathBuf,
    /// The file of known host keys. By default the system's, `/etc/ssh/ssh_known_hosts`. A host that is not in it is
    /// refused.
    #[serde(default)]
    pub known_hosts: Option<PathBuf>,
    /// The `ssh` program.
    #[serde(default = "default_ssh")]
    pub program: PathBuf,
}

/// A token for the repositories of one origin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Where it is used: `https://github.com`. It is sent nowhere else.
    pub origin: String,
    /// The token.
    pub token: Secret,
    /// The user name that goes with it: anything for GitHub and GitLab, `x-token-auth` for Bitbucket.
    #[serde(default = "default_user")]
    pub user: String,
}

/// A [`Config`] that was checked.
#[derive(Debug)]
pub(crate) struct Options {
    repositories: Vec<Allowed>,
    protocols: Vec<Protocol>,
    pub(crate) committer: Identity,
    pub(crate) ssh: Option<Ssh>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cache: PathBuf,
    pub(crate) git: PathBuf,
    pub(crate) sources: Vec<PathBuf>,
    pub(crate) protected: Vec<Target>,
    pub(crate) max_files: usize,
    pub(crate) max_bytes: u64,
    pub(crate) push_attempts: u32,
    /// By what hosts are reached, where not directly. Not configured: it is the router's.
    pub(crate) proxy: Option<Proxy>,
    commit_url: Option<String>,
}

/// A repository is not for this instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("`repository` is `{0}`: {1}")]
    Address(String, RemoteError),
    #[error("repository {0} is not in `repositories` of this instance")]
    NotListed(Remote),
    #[error("repository {0} needs the protocol `{word}`, which is not in `protocols` of this instance", word = .0.protocol().word())]
    Protocol(Remote),
    #[error("repository {0} needs `ssh` with a key in the configuration of this instance")]
    NoKey(Remote),
}

impl Options {
    /// Checks `config`; `default_cache` stands in for a cache directory that it does not name.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, in one text.
    pub(crate) fn new(config: Config, default_cache: impl FnOnce() -> PathBuf) -> Result<Self, String> {
        let mut faults = Vec::new();
        let repositories = parse_all("repositories", &config.repositories, Allowed::parse, &mut faults);
        if config.repositories.is_empty() {
            faults.push("`repositories` is empty: no step could name one".to_owned());
        }
        let protected = parse_all("protected", &config.protected, Target::parse, &mut faults);
        let committer = config.committer.sanitized().unwrap_or_else(|| {
            faults.push("`committer` is not a name and an e-mail address".to_owned());
            default_committer()
        });
        check_paths(&config, &mut faults);
        config
            .tokens
            .iter()
            .for_each(|token| check_token(token, &mut faults));
        if config.max_files == 0 || config.max_bytes == 0 || !(1..=20).contains(&config.push_attempts) {
            faults.push(
                "`max_files` and `max_bytes` must be at least 1, `push_attempts` from 1 to 20".to_owned(),
            );
        }
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        Ok(Self {
            repositories,
            protocols: config.protocols,
            committer,
            ssh: config.ssh,
            tokens: config.tokens,
            ca_file: config.ca_file,
            cache: config.cache.unwrap_or_else(default_cache),
            git: config.git,
            sources: config.sources,
            protected,
            max_files: usize::try_from(config.max_files).unwrap_or(usize::MAX),
            max_bytes: config.max_bytes,
            proxy: None,
            push_attempts: config.push_attempts,
            commit_url: config.commit_url,
        })
    }

    /// The repository that a step named, if it is for this instance.
    pub(crate) fn repository(&self, text: &str) -> Result<Remote, RepositoryError> {
        let remote = Remote::parse(text).map_err(|error| RepositoryError::Address(shown(text), error))?;
        if !self.repositories.iter().any(|allowed| allowed.covers(&remote)) {
            return Err(RepositoryError::NotListed(remote));
        }
        if !self.protocols.contains(&remote.protocol()) {
            return Err(RepositoryError::Protocol(remote));
        }
        if remote.protocol() == Protocol::Ssh && self.ssh.is_none() {
            return Err(RepositoryError::NoKey(remote));
        }
        Ok(remote)
    }

    /// The token of `remote`'s origin.
    pub(crate) fn token(&self, remote: &Remote) -> Option<&Token> {
        let origin = remote.origin()?;
        self.tokens
            .iter()
            .find(|token| token.origin.trim_end_matches('/').eq_ignore_ascii_case(&origin))
    }

    /// The page of a commit, where there is one.
    pub(crate) fn commit_url(&self, remote: &Remote, sha: &str) -> Option<String> {
        match &self.commit_url {
            Some(pattern) if remote.protocol() != Protocol::File => Some(remote.commit_url_by(pattern, sha)),
            _ => remote.commit_url(sha),
        }
    }
}

/// An address as it may be shown: without a credential that somebody put into it.
fn shown(text: &str) -> String {
    crate::redact::redact(text, &[])
}

fn parse_all<T, E: std::fmt::Display>(
    key: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
    faults: &mut Vec<String>,
) -> Vec<T> {
    let mut parsed = Vec::new();
    for text in texts {
        match parse(text) {
            Ok(value) => parsed.push(value),
            Err(error) => faults.push(format!("`{}` in `{key}`: {error}", shown(text))),
        }
    }
    parsed
}

fn check_paths(config: &Config, faults: &mut Vec<String>) {
    let ssh = config.ssh.iter().flat_map(|ssh| {
        [
            ("ssh.key", Some(&ssh.key)),
            ("ssh.known_hosts", ssh.known_hosts.as_ref()),
        ]
    });
    let files = [("ca_file", config.ca_file.as_ref())];
    let sources = config.sources.iter().map(|path| ("sources", Some(path)));
    for (key, path) in ssh.chain(files).chain(sources) {
        let Some(path) = path else { continue };
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            faults.push(format!(
                "`{key}` is `{}`, which is not an absolute path",
                path.display()
            ));
        } else if !is_quotable(path) {
            faults.push(format!(
                "`{key}` is {path:?}; quotes, `%` and control characters have a meaning to ssh"
            ));
        }
    }
    let programs = [
        Some(("git", &config.git)),
        config.ssh.as_ref().map(|ssh| ("ssh.program", &ssh.program)),
    ];
    for (key, program) in programs.into_iter().flatten() {
        if program.as_os_str().is_empty() || !is_quotable(program) {
            faults.push(format!(
                "`{key}` is {program:?}, which is not the name of a program"
            ));
        }
    }
}

fn check_token(token: &Token, faults: &mut Vec<String>) {
    let origin = token.origin.trim_end_matches('/');
    let read = Remote::parse(&format!("{origin}/x"))
        .ok()
        .and_then(|remote| remote.origin());
    if !read.is_some_and(|read| read.eq_ignore_ascii_case(origin)) {
        faults.push(format!(
            "`{}` in `tokens` is not an origin such as `https://github.com`",
            shown(&token.origin)
        ));
    }
    if token.token.expose().is_empty() || token.token.expose().chars().any(char::is_control) {
        faults.push(format!(
            "the token of `{}` is empty or has a line break in it",
            shown(&token.origin)
        ));
    }
    if token.user.is_empty() || token.user.contains(|c: char| c == ':' || c.is_control()) {
        faults.push(format!(
            "the user of `{}` is empty or has a colon in it",
            shown(&token.origin)
        ));
    }
}

/// Whether a path can stand in an option of ssh, in quotes.
fn is_quotable(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        !path.starts_with('-') && !path.contains(|c: char| "\"'%\\".contains(c) || c.is_control())
    })
}

fn default_protocols() -> Vec<Protocol> {
    vec![Protocol::Https, Protocol::Ssh]
}

fn default_committer() -> Identity {
    Identity {
        name: "Jackfield".to_owned(),
        email: "jackfield@localhost.invalid".to_owned(),
    }
}

fn default_git() -> PathBuf {
    "git".into()
}

fn default_ssh() -> PathBuf {
    "ssh".into()
}

fn default_user() -> String {
    "x-access-token".to_owned()
}

fn default_protected() -> Vec<String> {
    [
        ".circleci/",
        ".forgejo/",
        ".gitea/",
        ".github/",
        ".gitlab/",
        ".gitlab-ci.yml",
        ".gitmodules",
        "Jenkinsfile",
        "azure-pipelines.yml",
        "bitbucket-pipelines.yml",
    ]
    .map(str::to_owned)
    .to_vec()
}

const fn default_max_files() -> u32 {
    20_000
}

const fn default_max_bytes() -> u64 {
    512 * 1024 * 1024
}

const fn default_push_attempts() -> u32 {
    5
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn options(config: Value) -> Result<Options, String> {
        Options::new(serde_json::from_value(config).unwrap(), || "/cache".into())
    }

    #[test]
    fn everything_but_the_repositories_has_a_default() {
        let options = options(json!({ "repositories": ["https://h/acme/*"] })).unwrap();
        assert_eq!(options.cache, Path::new("/cache"));
        assert_eq!((options.max_files, options.push_attempts), (20_000, 5));
        assert!(
            serde_json::from_value::<Config>(json!({})).is_err(),
            "nothing is allowed unless it is listed"
        );
        assert!(serde_json::from_value::<Config>(json!({ "repositories": ["*"], "typo": 1 })).is_err());
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let error = options(json!({
            "repositories": ["https://h", "https://me:s3cr3t@h/x"],
            "protected": ["../x"],
            "committer": { "name": "\n", "email": "nobody" },
            "ssh": { "key": "deploy", "known_hosts": "/a/%h" },
            "tokens": [{ "origin": "https://h/x", "token": "a\nb", "user": "a:b" }],
            "ca_file": "/a/../b",
            "git": "-x",
            "push_attempts": 0,
        }))
        .unwrap_err();
        let expected = [
            "`https://h` in `repositories`: its path has no name in it",
            "`https://***@h/x` in `repositories`: it carries a credential: leave it out, and configure `tokens` of the instance",
            "`../x` in `protected`: path \"../x\" holds the name \"..\", which leaves the repository or belongs to git",
            "`committer` is not a name and an e-mail address",
            "`ssh.key` is `deploy`, which is not an absolute path",
            "`ssh.known_hosts` is \"/a/%h\"; quotes, `%` and control characters have a meaning to ssh",
            "`ca_file` is `/a/../b`, which is not an absolute path",
            "`git` is \"-x\", which is not the name of a program",
            "`https://h/x` in `tokens` is not an origin such as `https://github.com`",
            "the token of `https://h/x` is empty or has a line break in it",
            "the user of `https://h/x` is empty or has a colon in it",
            "`max_files` and `max_bytes` must be at least 1, `push_attempts` from 1 to 20",
        ];
        assert_eq!(
            error.split("; ").collect::<Vec<_>>().join("; "),
            expected.join("; ")
        );
        assert!(!error.contains("s3cr3t"));
        assert!(
            options(json!({ "repositories": [] }))
                .unwrap_err()
                .starts_with("`repositories` is empty")
        );
    }

    #[test]
    fn a_repository_must_be_listed_and_its_protocol_allowed() {
        let options = options(json!({
            "repositories": ["https://h/acme/*", "/srv/git/*", "git@h:acme/*"],
            "protocols": ["https", "ssh"],
        }))
        .unwrap();
        assert!(options.repository("https://h/acme/x.git").is_ok());
        for (text, shown) in [
            (
                "https://h/other/x",
                "repository https://h/other/x is not in `repositories` of this instance",
            ),
            (
                "/srv/git/x",
                "repository /srv/git/x needs the protocol `file`, which is not in `protocols` of this instance",
            ),
            (
                "git@h:acme/x",
                "repository git@h:acme/x needs `ssh` with a key in the configuration of this instance",
            ),
            (
                "https://me:s3cr3t@h/x",
                "`repository` is `https://***@h/x`: it carries a credential: leave it out, and configure `tokens` of the instance",
            ),
            ("", "`repository` is ``: it is empty"),
        ] {
            assert_eq!(options.repository(text).unwrap_err().to_string(), shown);
        }
    }

    #[test]
    fn a_token_goes_to_its_own_origin_alone() {
        let options = options(json!({
            "repositories": ["*"],
            "protocols": ["https", "http", "ssh", "file"],
            "ssh": { "key": "/key" },
            "tokens": [{ "origin": "https://Git.example/", "token": "t1" }, { "origin": "https://git.example:8443", "token": "t2" }],
        }))
        .unwrap();
        for (repository, token) in [
            ("https://git.example/a/x", Some("t1")),
            ("https://git.example:8443/a/x", Some("t2")),
            ("http://git.example/a/x", None),
            ("https://git.example.evil/a/x", None),
            ("git@git.example:a/x", None),
            ("/git.example/x", None),
        ] {
            let remote = options.repository(repository).unwrap();
            assert_eq!(
                options.token(&remote).map(|token| token.token.expose()),
                token,
                "{repository}"
            );
        }
    }
}
