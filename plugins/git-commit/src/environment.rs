//! The environment that git runs in, built from nothing for one remote: no configuration of the machine or the user, no
//! hooks, no prompts, no protocol but the remote's own.
//!
//! A token goes in here, never by an argument that `ps` would show, and comes out of no message.

use std::{fmt, path::Path};

use jackfield_sdk::Proxy;

use crate::{
    config::{Options, Ssh, Token},
    remote::{Protocol, Remote},
};

/// The variables of git's environment, and which texts in them are secret.
#[derive(Clone)]
pub(crate) struct Environment {
    variables: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Environment {
    /// The environment for `remote`, with `home` as an empty home directory.
    pub(crate) fn new(options: &Options, remote: &Remote, home: &Path) -> Self {
        let token = options.token(remote);
        let authorization = token.map(authorization);
        let mut variables = base(remote.protocol(), home);
        if let (Protocol::Ssh, Some(ssh)) = (remote.protocol(), &options.ssh) {
            let proxy = options.proxy.as_ref();
            variables.push(pair("GIT_SSH_COMMAND", ssh_command(ssh, proxy.is_some())));
            variables.extend(proxy.iter().flat_map(|proxy| proxy.environment()));
            // Otherwise git guesses from the program's name, and runs it to find out.
            variables.push(pair("GIT_SSH_VARIANT", "ssh"));
        }
        variables.extend(configuration(options, remote, authorization.as_deref()));
        let secrets = token
            .zip(authorization)
            .into_iter()
            .flat_map(|(token, header)| [token.token.expose().to_owned(), header])
            .chain(options.proxy.iter().map(|proxy| proxy.secret().to_owned()))
            .collect();
        Self { variables, secrets }
    }

    /// Adds a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push(pair(name, value));
    }

    /// All variables; where a name stands twice, the later counts.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// What must not be shown.
    pub(crate) fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

/// Tokens are in the values.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.variables.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

fn base(protocol: Protocol, home: &Path) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    vec![
        pair("PATH", path),
        // Without one, curl would look up the user's own, and take passwords out of its `.netrc`.
        pair("HOME", home.to_string_lossy()),
        // Where git looks for a repository as long as it is told none: in that directory, and not above it.
        pair(
            "GIT_CEILING_DIRECTORIES",
            home.parent().unwrap_or(home).to_string_lossy(),
        ),
        // Messages are told apart by their words.
        pair("LC_ALL", "C"),
        pair("GIT_CONFIG_NOSYSTEM", "1"),
        pair("GIT_CONFIG_SYSTEM", "/dev/null"),
        pair("GIT_CONFIG_GLOBAL", "/dev/null"),
        pair("GIT_ATTR_NOSYSTEM", "1"),
        pair("GIT_TERMINAL_PROMPT", "0"),
        pair("GIT_ALLOW_PROTOCOL", protocol.word()),
        pair("GIT_NO_REPLACE_OBJECTS", "1"),
        pair("GIT_LITERAL_PATHSPECS", "1"),
        pair("GIT_OPTIONAL_LOCKS", "0"),
    ]
}

/// Configuration by the environment, which overrides that of any file.
fn configuration(options: &Options, remote: &Remote, authorization: Option<&str>) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = [
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("core.protectHFS", "true"),
        ("core.protectNTFS", "true"),
        ("protocol.ext.allow", "never"),
        ("credential.helper", ""),
        ("core.askPass", ""),
        ("gc.autoDetach", "false"),
        // A mirror is used by one call at a time, under a lock.
        ("gc.pruneExpire", "now"),
        ("commit.gpgSign", "false"),
        ("push.gpgSign", "false"),
        ("push.followTags", "false"),
        ("i18n.commitEncoding", "UTF-8"),
        // A redirection could take the token to another place.
        ("http.followRedirects", "false"),
        // A transfer that stalls for a minute is over.
        ("http.lowSpeedLimit", "1000"),
        ("http.lowSpeedTime", "60"),
    ]
    .map(|(key, value)| pair(key, value))
    .to_vec();
    if let Some(file) = &options.ca_file {
        entries.push(pair("http.sslCAInfo", file.to_string_lossy()));
    }
    if let (Some(origin), Some(authorization)) = (remote.origin(), authorization) {
        let key = format!("http.{origin}/.extraHeader");
        entries.push(pair(&key, format!("Authorization: Basic {authorization}")));
    }
    if let (Protocol::Http | Protocol::Https, Some(proxy)) = (remote.protocol(), &options.proxy) {
        entries.push(pair("http.proxy", proxy.url()));
    }
    let count = pair("GIT_CONFIG_COUNT", entries.len().to_string());
    let numbered = entries
        .into_iter()
        .enumerate()
        .flat_map(|(number, (key, value))| {
            [
                (format!("GIT_CONFIG_KEY_{number}"), key),
                (format!("GIT_CONFIG_VALUE_{number}"), value),
            ]
        });
    std::iter::once(count).chain(numbered).collect()
}

/// The command line of ssh. git gives it to a shell: every word is quoted, and the configuration lets no quote in.
fn ssh_command(ssh: &Ssh, proxied: bool) -> String {
    let known_hosts = match &ssh.known_hosts {
        Some(file) => format!("UserKnownHostsFile=\"{}\"", file.display()),
        None => "UserKnownHostsFile=/dev/null".to_owned(),
    };
    let options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        &known_hosts,
        "UpdateHostKeys=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "ConnectTimeout=20",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
    ];
    let mut command = format!(
        "'{}' -F /dev/null -i '{}'",
        ssh.program.display(),
        ssh.key.display()
    );
    for option in options {
        command.push_str(&format!(" -o '{option}'"));
    }
    if proxied {
        command.push_str(&format!(" -o 'ProxyCommand={}'", Proxy::COMMAND));
    }
    command
}

fn authorization(token: &Token) -> String {
    base64(format!("{}:{}", token.user, token.token.expose()).as_bytes())
}

/// Base 64 with padding, as HTTP's basic authentication wants it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let six = (group >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() {
                char::from(ALPHABET[six])
            } else {
                '='
            });
        }
    }
    text
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn environment(repository: &str, config: Value) -> Environment {
        let mut all = json!({ "repositories": ["*"], "protocols": ["https", "http", "ssh", "file"] });
        all.as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        let options = Options::new(serde_json::from_value(all).unwrap(), std::path::PathBuf::new).unwrap();
        let remote = options.repository(repository).unwrap();
        Environment::new(&options, &remote, Path::new("/cache/home"))
    }

    fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
        environment
            .variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The configuration that git is given by its environment.
    fn setting<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
        let count: usize = variable(environment, "GIT_CONFIG_COUNT")
            .unwrap()
            .parse()
            .unwrap();
        let number = (0..count)
            .find(|number| variable(environment, &format!("GIT_CONFIG_KEY_{number}")) == Some(name))?;
        variable(environment, &format!("GIT_CONFIG_VALUE_{number}"))
    }

    #[test]
    fn git_sees_nothing_of_the_machine_and_only_one_protocol() {
        let ssh = json!({ "ssh": { "key": "/key" } });
        for (repository, protocol) in [
            ("/srv/x", "file"),
            ("https://h/x", "https"),
            ("http://h/x", "http"),
            ("h:x", "ssh"),
        ] {
            let git = environment(repository, ssh.clone());
            for (name, value) in [
                ("GIT_ALLOW_PROTOCOL", protocol),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("HOME", "/cache/home"),
                ("LC_ALL", "C"),
                ("GIT_CEILING_DIRECTORIES", "/cache"),
            ] {
                assert_eq!(variable(&git, name), Some(value), "{name}");
            }
            for (name, value) in [
                ("core.hooksPath", "/dev/null"),
                ("protocol.ext.allow", "never"),
                ("http.followRedirects", "false"),
            ] {
                assert_eq!(setting(&git, name), Some(value), "{name}");
            }
            assert_eq!(variable(&git, "GIT_SSH_COMMAND").is_some(), protocol == "ssh");
        }
    }

    #[test]
    fn a_token_is_a_header_for_its_origin_and_never_shown() {
        let tokens =
            json!({ "tokens": [{ "origin": "https://h", "token": "s3cr3t" }], "ca_file": "/ca.pem" });
        let git = environment("https://H/x.git", tokens);
        let header = "Authorization: Basic eC1hY2Nlc3MtdG9rZW46czNjcjN0";
        assert_eq!(setting(&git, "http.https://h/.extraHeader"), Some(header));
        assert_eq!(setting(&git, "http.sslCAInfo"), Some("/ca.pem"));
        assert_eq!(git.secrets, ["s3cr3t", "eC1hY2Nlc3MtdG9rZW46czNjcjN0"]);
        assert!(!format!("{git:?}").contains("s3cr3t"));
    }

    #[test]
    fn ssh_asks_nobody_and_trusts_only_known_hosts() {
        let git = environment(
            "git@h:x",
            json!({ "ssh": { "key": "/keys/a b", "known_hosts": "/keys/known hosts" } }),
        );
        assert_eq!(variable(&git, "GIT_SSH_VARIANT"), Some("ssh"));
        assert_eq!(
            variable(&git, "GIT_SSH_COMMAND").unwrap(),
            "'ssh' -F /dev/null -i '/keys/a b' -o 'BatchMode=yes' -o 'StrictHostKeyChecking=yes' \
             -o 'UserKnownHostsFile=\"/keys/known hosts\"' -o 'UpdateHostKeys=no' -o 'IdentitiesOnly=yes' \
             -o 'IdentityAgent=none' -o 'PreferredAuthentications=publickey' -o 'ForwardAgent=no' \
             -o 'ClearAllForwardings=yes' -o 'PermitLocalCommand=no' -o 'ConnectTimeout=20' \
             -o 'ServerAliveInterval=15' -o 'ServerAliveCountMax=4'"
        );
    }

    #[test]
    fn hosts_are_reached_by_the_proxy_where_there_is_one() {
        let url = "socks5h://7:t0ken@127.0.0.1:4711";
        let proxied = |repository: &str| {
            let config = json!({ "repositories": ["*"], "protocols": ["https", "ssh", "file"], "ssh": { "key": "/key" } });
            let mut options =
                Options::new(serde_json::from_value(config).unwrap(), std::path::PathBuf::new).unwrap();
            options.proxy = Some(Proxy::new(url));
            let remote = options.repository(repository).unwrap();
            Environment::new(&options, &remote, Path::new("/cache/home"))
        };
        let git = proxied("https://h/x.git");
        assert_eq!(setting(&git, "http.proxy"), Some(url));
        assert_eq!(git.secrets, ["t0ken"]);
        let git = proxied("git@h:x");
        assert_eq!(setting(&git, "http.proxy"), None);
        assert_eq!(variable(&git, "JACKFIELD_PROXY"), Some(url));
        let command = variable(&git, "GIT_SSH_COMMAND").unwrap();
        assert!(
            command.ends_with(" -o 'ProxyCommand=\"$JACKFIELD_TUNNEL\" plugin-tunnel %h %p'"),
            "{command}"
        );
        assert_eq!(variable(&proxied("/srv/x"), "JACKFIELD_PROXY"), None);
    }

    #[test]
    fn base_64_pads() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
