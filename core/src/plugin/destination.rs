//! Hosts that a plugin may reach, as manifests and configurations write them.

use std::{fmt, net::IpAddr, str::FromStr};

/// A host, all hosts below a name, or all hosts (`*`), at one port: `slack.com`, `slack.com:443`, `*.example.com`,
/// `127.0.0.1:8080`, `[::1]:80`.
///
/// Where no port is said, it is 443.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// In lower case, without a dot at the end.
    Name(String),
    /// Whatever ends with a dot and this name.
    Below(String),
    Any,
    Address(IpAddr),
    /// Every name and every address, at every port.
    Everything,
}

/// Why a text names no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found \"{0}\", expected a host and a port such as \"slack.com:443\", \"*.example.com\" or \"[::1]:8080\""
)]
pub struct DestinationError(String);

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        parse(text).ok_or_else(|| DestinationError(text.to_owned()))
    }
}

impl Destination {
    /// All there is, this machine among it: for a library that its author tries out, and for no configuration.
    pub(super) const EVERYTHING: Self = Self {
        host: Host::Everything,
        port: 0,
    };

    /// Whether it stands for the name: itself, or with others.
    pub(super) fn names(&self, name: &str, port: u16) -> bool {
        let covers = match &self.host {
            Host::Name(granted) => name_of(name).is_some_and(|name| name == *granted),
            Host::Below(granted) => name_of(name).is_some_and(|name| {
                name.strip_suffix(granted.as_str())
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }),
            Host::Any => name_of(name).is_some(),
            Host::Address(_) => false,
            Host::Everything => return true,
        };
        covers && self.port == port
    }

    /// Whether it is this very name.
    pub(super) fn is_name(&self, name: &str, port: u16) -> bool {
        matches!(&self.host, Host::Name(granted) if granted == name) && self.port == port
    }

    /// Whether it is this very address.
    pub(super) fn is_address(&self, address: IpAddr, port: u16) -> bool {
        self.host == Host::Everything || self.host == Host::Address(address) && self.port == port
    }

    /// Whether it is all hosts.
    pub(super) fn is_any(&self, port: u16) -> bool {
        self.host == Host::Any && self.port == port
    }
}

fn parse(text: &str) -> Option<Destination> {
    if let Ok(address) = text.parse() {
        return Some(Destination {
            host: Host::Address(address),
            port: HTTPS,
        });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port.parse().ok()?),
        Some(_) => return None,
        None => (text, HTTPS),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => Host::Address(IpAddr::V6(address.parse().ok()?)),
        None => match (host.parse(), host.strip_prefix("*.")) {
            (Ok(address @ IpAddr::V4(_)), _) => Host::Address(address),
            (_, None) if host == "*" => Host::Any,
            (_, Some(name)) => Host::Below(name_of(name)?),
            (_, None) => Host::Name(name_of(host)?),
        },
    };
    (port != 0).then_some(Destination { host, port })
}

/// A name as it is compared: host names have no other letters, and case does not matter.
fn name_of(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // What ends in a number is taken for an address by those who resolve it, however it is written.
    let last = name.rsplit('.').next()?;
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    (name.len() <= 253 && name.split('.').all(is_label) && !is_number).then_some(name)
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{port}"),
            Host::Any => write!(f, "*:{port}"),
            Host::Everything => f.write_str("everything"),
            Host::Below(name) => write!(f, "*.{name}:{port}"),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{port}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
        }
    }
}

const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_wildcards_and_addresses() {
        for (text, shown) in [
            ("slack.com", "slack.com:443"),
            ("Slack.COM.:22", "slack.com:22"),
            ("*.example.com", "*.example.com:443"),
            ("*", "*:443"),
            ("*:22", "*:22"),
            ("localhost:8080", "localhost:8080"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1", "127.0.0.1:443"),
            ("::1", "[::1]:443"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_name_is_granted_by_itself_or_with_those_below_another() {
        let names = |granted: &str, name: &str| granted.parse::<Destination>().unwrap().names(name, 443);
        for (granted, name, expected) in [
            ("slack.com", "slack.com", true),
            ("slack.com", "SLACK.com.", true),
            ("slack.com", "api.slack.com", false),
            ("slack.com", "notslack.com", false),
            ("slack.com:80", "slack.com", false),
            ("*.slack.com", "api.slack.com", true),
            ("*.slack.com", "a.b.slack.com", true),
            ("*.slack.com", "slack.com", false),
            ("*.slack.com", ".slack.com", false),
            ("*.slack.com", "notslack.com", false),
            ("*.slack.com", "slack.com.evil.com", false),
            ("*", "anything.example", true),
            ("*", "a b", false),
            ("*", "2130706433", false),
            ("127.0.0.1", "127.0.0.1", false),
        ] {
            assert_eq!(names(granted, name), expected, "{granted} {name}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in [
            "",
            "*.",
            "a..b",
            "a.*.b",
            "*b.c",
            "https://slack.com",
            "slack.com/api",
            "slack.com:",
            "slack.com:0",
            "slack.com:65536",
            "slack.com:https",
            "user@slack.com",
            "2130706433",
            "127.1",
            "0x7f.1",
            "a.0x1",
            "[::1",
            "[a]:1",
            "grün.example",
            "a b",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }
}
