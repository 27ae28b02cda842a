//! Fetches a file from an address that somebody else wrote.
//!
//! What goes in is a [`Job`]; what comes out is a file on disk with its size and sha256. Always: every hop is checked
//! anew, the connection goes to the very addresses that were checked, and a credential is sent to its own origins
//! only. Once a redirect has left an origin the credential is gone for good, even when the way leads back: whoever
//! we came from could have chosen the path and query that we come back with.

mod body;
mod error;
mod hop;

use std::path::PathBuf;

use jackfield_sdk::Proxy;
use reqwest::{
    Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use url::{Origin, Url};

use self::hop::Gate;
pub(crate) use self::{
    error::{FetchError, Link, Remedy},
    hop::Resolver,
};
use crate::{http::Http, options::Options, place};

/// What is to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Where it lies.
    pub url: Url,
    /// What to show there.
    pub credential: Option<Credential>,
    /// The sha256 that it must have, in lower-case hexadecimal.
    pub sha256: Option<String>,
    /// The most bytes that it may have.
    pub max_bytes: u64,
    /// Where it goes. What is there is replaced.
    pub to: PathBuf,
    /// What the event says about the link's life, for the message when it has ended.
    pub link: Link,
}

/// A credential: a header that is sent to certain origins.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// What configuration and steps call it.
    pub name: String,
    /// Where it may be sent.
    pub origins: Vec<Origin>,
    /// The header's name.
    pub header: HeaderName,
    /// The header's value; marked as sensitive, hence never shown.
    pub value: HeaderValue,
}

/// A file that was fetched whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Its sha256, in lower-case hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// What the server called it: `application/zip`.
    pub media_type: Option<String>,
}

/// Fetches files by one set of rules.
#[derive(Debug)]
pub(crate) struct Fetcher {
    gate: Gate,
    max_redirects: u32,
}

impl Fetcher {
    /// A fetcher by the rules of `options`, which goes by `proxy`, or else looks names up with `resolver`.
    pub(crate) fn new(options: &Options, resolver: Resolver, proxy: Option<Proxy>) -> Self {
        Self {
            gate: Gate::new(
                Http::new(options.stall_timeout, proxy),
                resolver,
                options.allow_private.clone(),
            ),
            max_redirects: options.max_redirects,
        }
    }

    /// Fetches one file. When it returns well, the file is whole and on disk.
    pub(crate) async fn fetch(&self, job: &Job) -> Result<Fetched, FetchError> {
        if let Some(credential) = &job.credential {
            credential.check_origin(&job.url)?;
        }
        let response = self.follow(job).await?;
        let media_type = media_type(&response);
        let saved = body::save(response, &job.to, job.max_bytes, job.sha256.as_deref()).await?;
        Ok(Fetched {
            sha256: saved.sha256,
            size: saved.size,
            media_type,
        })
    }

    /// Follows redirects to the answer that is none.
    async fn follow(&self, job: &Job) -> Result<Response, FetchError> {
        let mut url = job.url.clone();
        let mut credential = job.credential.as_ref();
        for _ in 0..=self.max_redirects {
            let response = self.gate.get(&url, credential).await?;
            let Some(next) = redirect(&url, &response)? else {
                return accept(&url, response, &job.link).await;
            };
            if next.origin() != url.origin() {
                credential = None;
            }
            url = next;
        }
        Err(FetchError::Redirects(self.max_redirects))
    }
}

impl Credential {
    fn check_origin(&self, url: &Url) -> Result<(), FetchError> {
        if self.origins.contains(&url.origin()) {
            return Ok(());
        }
        Err(FetchError::CredentialOrigin {
            name: self.name.clone(),
            origins: self.origins.iter().map(Origin::ascii_serialization).collect(),
            found: place::shown(url),
        })
    }
}

/// Where the answer sends us, if anywhere.
fn redirect(from: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok());
    next.map(Some)
        .ok_or_else(|| FetchError::BadRedirect(place::shown(from)))
}

/// Lets the answer pass that holds the whole file as it is.
async fn accept(url: &Url, response: Response, link: &Link) -> Result<Response, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::of_status(url, response, link).await);
    }
    match response.headers().get(header::CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => {
            Err(FetchError::Encoded(coding.as_bytes().escape_ascii().to_string()))
        }
        _ => Ok(response),
    }
}

fn media_type(response: &Response) -> Option<String> {
    let value = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next()?.trim().to_ascii_lowercase();
    (!essence.is_empty()).then_some(essence)
}

#[cfg(test)]
mod tests;
