//! Places on the network: the origins that a credential is for, and the hosts that are excepted from the rules.

use std::fmt;

use url::Url;

/// A host and a port, as a URL spells them: `127.0.0.1:8081`, `[::1]:8081`, `minio.internal:9000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Reads `host:port`; both must be there.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mistake = || format!("`{text}` is not `host:port`, as in \"127.0.0.1:8081\"");
        let (_, port) = text.rsplit_once(':').ok_or_else(mistake)?;
        let port = port.parse().map_err(|_| mistake())?;
        let url = Url::parse(&format!("http://{text}/")).map_err(|_| mistake())?;
        if url.path() != "/" || !url.username().is_empty() || url.password().is_some() {
            return Err(mistake());
        }
        let host = url.host_str().ok_or_else(mistake)?.to_owned();
        Ok(Self { host, port })
    }

    /// Where `url` leads to; `None` for one without a host.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        Some(Self {
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default()?,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Reads an origin: scheme, host and, where it is not the scheme's own, port; nothing follows.
pub(crate) fn parse_origin(text: &str) -> Result<Url, String> {
    let mistake = || format!("`{text}` is not an origin, as in \"https://api.supernova.io\"");
    let url = Url::parse(text).map_err(|_| mistake())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "http" | "https" if bare && anonymous => Ok(url),
        _ => Err(mistake()),
    }
}

/// The part of a URL that may be shown: paths and queries of artifacts hold tokens.
pub(crate) fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_compared_as_urls_spell_it() {
        for (text, url) in [
            ("127.0.0.1:8081", "http://127.0.0.1:8081/a"),
            ("127.0.0.1:8081", "http://0x7f.1:8081/a"),
            ("127.0.0.1:80", "http://127.0.0.1/a"),
            ("[::1]:8081", "https://[0:0::1]:8081/a"),
            ("MinIO.internal:443", "https://minio.internal/a"),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(HostPort::of(&url), HostPort::parse(text).ok(), "{text} {url}");
        }
    }

    #[test]
    fn what_is_not_a_place_is_refused() {
        for text in [
            "",
            "localhost",
            ":80",
            "a:b",
            "a:70000",
            "http://a:80",
            "a:80/b",
            "u@a:80",
            "::1:80",
        ] {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_has_no_path_and_no_credentials() {
        for (text, good) in [
            ("https://api.supernova.io", true),
            ("https://api.supernova.io/", true),
            ("http://127.0.0.1:8081", true),
            ("https://api.supernova.io/api", false),
            ("https://api.supernova.io?x", false),
            ("https://u:p@api.supernova.io", false),
            ("ftp://api.supernova.io", false),
            ("api.supernova.io", false),
        ] {
            assert_eq!(parse_origin(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn only_the_origin_of_a_url_is_shown() {
        let url = Url::parse("https://files.example:8443/token/abc?sig=def#ghi").unwrap();
        assert_eq!(shown(&url), "https://files.example:8443");
    }
}
