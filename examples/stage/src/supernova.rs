//! A stand-in for Supernova: the result of an exporter run, behind a personal access token, on storage of another
//! origin.
//!
//! What the [documentation] says: the result's address wants `Authorization: Bearer <PAT>`. That it redirects to
//! presigned storage is not documented, but how such storage behaves is: it refuses a second way to authorize.
//!
//! [documentation]: https://learn.supernova.io/latest/code-integration/code-delivery/delivery-through-rest-post-LL8MfEME

use std::{
    io::{Cursor, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hyper::{StatusCode, header::LOCATION};
use serde_json::{Value, json};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::{
    gate::Gate,
    http::{Answer, Asked, Server, answer, in_halves, json as respond},
};

/// The API and the storage behind it.
#[derive(Debug)]
pub struct Supernova {
    api: Server,
    storage: Server,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    downloads: AtomicUsize,
    leaked: AtomicUsize,
    middle: Gate,
}

/// The personal access token that the API wants.
pub const PAT: &str = "sn.stage-notarealtoken";

/// The tokens in the exported archive: path and content.
pub const TOKENS: [(&str, &str); 3] = [
    (
        "tokens/color.json",
        "{\n  \"brand\": { \"value\": \"#5b2be0\" },\n  \"surface\": { \"value\": \"#ffffff\" }\n}\n",
    ),
    (
        "tokens/spacing.json",
        "{\n  \"small\": { \"value\": \"4px\" },\n  \"large\": { \"value\": \"24px\" }\n}\n",
    ),
    (
        "css/variables.css",
        ":root {\n  --color-brand: #5b2be0;\n  --space-small: 4px;\n}\n",
    ),
];

impl Supernova {
    /// Starts both on free ports.
    ///
    /// # Errors
    ///
    /// Where no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let state = Arc::new(State::default());
        let archive = Bytes::from(archive(&TOKENS)?);
        let shared = Arc::clone(&state);
        let storage = Server::start(move |asked| {
            let answer = shared.download(&asked, archive.clone());
            async { answer }
        })
        .await?;
        let target = format!("{}/exports/6.zip?X-Amz-Signature=stage", storage.url());
        let api = Server::start(move |asked| {
            let answer = result(&asked, &target);
            async { answer }
        })
        .await?;
        Ok(Self { api, storage, state })
    }

    /// The body that Supernova posts when job `job` has ended with `status`.
    pub fn webhook(&self, job: &str, status: &str) -> Value {
        json!({
            "event": "job:updated",
            "workspace": { "id": "1", "name": "Example workspace" },
            "designSystem": { "id": "2", "name": "Example Design System" },
            "designSystemVersion": { "id": "3", "name": "A version name", "version": "v0.1" },
            "exporter": { "id": "4", "name": "Example exporter" },
            "hook": { "id": "5", "name": "Example hook" },
            "job": { "id": job, "status": status, "logsUrl": "", "s3": { "url": self.result_url(job) } }
        })
    }

    /// Where the result of `job` is.
    pub fn result_url(&self, job: &str) -> String {
        format!("{}/api/v2/codegen/workspaces/1/jobs/{job}/result", self.api.url())
    }

    /// The origin of the API, which the token is for.
    pub fn origin(&self) -> String {
        self.api.url()
    }

    /// The `host:port` of both servers.
    pub fn addresses(&self) -> [String; 2] {
        [self.api.address().to_string(), self.storage.address().to_string()]
    }

    /// How often the whole archive was sent.
    pub fn downloads(&self) -> usize {
        self.state.downloads.load(Ordering::Relaxed)
    }

    /// How often the token was shown to the storage, which is none of its business.
    pub fn leaked(&self) -> usize {
        self.state.leaked.load(Ordering::Relaxed)
    }

    /// Every download passes here when half of the archive is sent.
    pub fn middle(&self) -> &Gate {
        &self.state.middle
    }
}

impl State {
    fn download(self: &Arc<Self>, asked: &Asked, archive: Bytes) -> Answer {
        if asked.header("authorization").is_some() {
            self.leaked.fetch_add(1, Ordering::Relaxed);
            let error = "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>";
            return answer(StatusCode::BAD_REQUEST, "application/xml", error);
        }
        if asked.parameter("X-Amz-Signature").as_deref() != Some("stage") {
            return answer(
                StatusCode::FORBIDDEN,
                "application/xml",
                "<Error><Code>AccessDenied</Code></Error>",
            );
        }
        let state = Arc::clone(self);
        in_halves("application/zip", archive, self.middle.clone(), move || {
            state.downloads.fetch_add(1, Ordering::Relaxed);
        })
    }
}

fn result(asked: &Asked, target: &str) -> Answer {
    if asked.header("authorization") != Some(&format!("Bearer {PAT}")) {
        return respond(StatusCode::UNAUTHORIZED, &json!({ "message": "Unauthorized" }));
    }
    let mut redirect = answer(StatusCode::FOUND, "text/plain", "");
    redirect.headers_mut().insert(
        LOCATION,
        target.parse().expect("an address of ours is a header value"),
    );
    redirect
}

/// A zip of `files`.
fn archive(files: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        zip.start_file(*path, SimpleFileOptions::default())?;
        zip.write_all(content.as_bytes())?;
    }
    Ok(zip.finish()?.into_inner())
}
