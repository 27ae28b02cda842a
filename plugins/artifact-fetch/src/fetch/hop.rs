//! One hop: an address is checked, and a request goes to what was checked.

use std::net::{IpAddr, SocketAddr};

use reqwest::{Response, header};
use url::{Host, Url};

use super::{Credential, FetchError};
use crate::{
    http::{self, Http},
    place::{self, HostPort},
};

/// How names become addresses.
#[derive(Clone, Debug)]
pub(crate) enum Resolver {
    /// As the system does it.
    System,
    /// From a table.
    #[cfg(test)]
    Table(std::collections::HashMap<String, Vec<IpAddr>>),
}

/// Where every request has to pass.
#[derive(Debug)]
pub(super) struct Gate {
    http: Http,
    resolver: Resolver,
    excepted: Vec<HostPort>,
}

impl Gate {
    pub(super) fn new(http: Http, resolver: Resolver, excepted: Vec<HostPort>) -> Self {
        Self {
            http,
            resolver,
            excepted,
        }
    }

    /// Asks `url` for its file, once, without following anything.
    pub(super) async fn get(
        &self,
        url: &Url,
        credential: Option<&Credential>,
    ) -> Result<Response, FetchError> {
        let excepted = HostPort::of(url).is_some_and(|place| self.excepted.contains(&place));
        check_form(url, excepted)?;
        if let ("https", Some(hindrance)) = (url.scheme(), self.http.https_hindrance()) {
            return Err(FetchError::NoRoots(hindrance.to_owned()));
        }
        let addresses = self.addresses(url, excepted).await?;
        let host = url.host_str().unwrap_or_default();
        let client = self
            .http
            .client(host, &addresses)
            .map_err(|error| FetchError::Client(http::chain(error)))?;
        // A coding would change the bytes, and with them size and digest.
        let mut request = client
            .get(url.clone())
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(credential) = credential {
            request = request.header(credential.header.clone(), credential.value.clone());
        }
        request.send().await.map_err(|error| unanswered(url, error))
    }

    /// The addresses of the URL's host that may be connected to: at least one, unless the proxy sees to it.
    async fn addresses(&self, url: &Url, excepted: bool) -> Result<Vec<SocketAddr>, FetchError> {
        let port = url.port_or_known_default().unwrap_or_default();
        let all = match url.host() {
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            // The proxy resolves the name, and refuses what is not public by the same rules and its own exceptions.
            Some(Host::Domain(_)) if self.http.is_proxied() => return Ok(Vec::new()),
            Some(Host::Domain(name)) => self.resolver.resolve(name, port).await?,
            None => Vec::new(),
        };
        let public = all
            .iter()
            .filter(|address| excepted || jackfield_address::refusal(**address).is_none());
        let allowed: Vec<_> = public.map(|address| SocketAddr::new(*address, port)).collect();
        if allowed.is_empty() {
            return Err(refused(url, &all));
        }
        Ok(allowed)
    }
}

impl Resolver {
    async fn resolve(&self, name: &str, port: u16) -> Result<Vec<IpAddr>, FetchError> {
        match self {
            Self::System => match tokio::net::lookup_host((name, port)).await {
                Ok(found) => Ok(found.map(|address| address.ip()).collect()),
                Err(error) => Err(FetchError::Unresolved(name.to_owned(), error.to_string())),
            },
            #[cfg(test)]
            Self::Table(table) => {
                let missing = || FetchError::Unresolved(name.to_owned(), "not in the table".to_owned());
                table.get(name).cloned().ok_or_else(missing)
            }
        }
    }
}

/// Checks what can be seen of a URL without asking anybody.
fn check_form(url: &Url, excepted: bool) -> Result<(), FetchError> {
    match url.scheme() {
        "https" => {}
        "http" if excepted => {}
        "http" => return Err(FetchError::PlainHttp(place::shown(url))),
        other => return Err(FetchError::Scheme(other.to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::UserInfo(place::shown(url)));
    }
    Ok(())
}

/// Why there is no answer: what the proxy refuses today, it refuses tomorrow.
fn unanswered(url: &Url, error: reqwest::Error) -> FetchError {
    match http::is_forbidden(&error) {
        true => FetchError::Forbidden(host_and_port(url)),
        false => FetchError::Unreachable {
            place: place::shown(url),
            cause: http::chain(error),
        },
    }
}

fn refused(url: &Url, all: &[IpAddr]) -> FetchError {
    let host = url.host_str().unwrap_or_default().to_owned();
    let place = host_and_port(url);
    match all
        .iter()
        .find_map(|address| Some((*address, jackfield_address::refusal(*address)?)))
    {
        Some((address, kind)) => FetchError::Refused {
            host,
            address,
            kind,
            place,
        },
        None => FetchError::Unresolved(host, "the name has no address".to_owned()),
    }
}

fn host_and_port(url: &Url) -> String {
    HostPort::of(url)
        .map(|place| place.to_string())
        .unwrap_or_default()
}
