//! A stand-in for Ionic Appflow: signed download links of builds, which die after 24 hours.
//!
//! As <https://ionic.io/docs/appflow/automation/webhooks> says: the link holds a token, is for one build, and stops
//! working after its time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    gate::Gate,
    http::{Answer, Asked, Server, answer, in_halves},
};

/// A host of build artifacts.
#[derive(Debug)]
pub struct Appflow {
    server: Server,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    expired: AtomicBool,
    downloads: AtomicUsize,
    middle: Gate,
}

/// The artifact: no real app, but as large as makes two halves worth speaking of.
pub const ARTIFACT_SIZE: usize = 256 * 1024;

impl Appflow {
    /// Starts one on a free port.
    ///
    /// # Errors
    ///
    /// Where no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let server = Server::start(move |asked| {
            let answer = shared.download(&asked);
            async { answer }
        })
        .await?;
        Ok(Self { server, state })
    }

    /// The body that Appflow posts when the package build `id` has ended with `state`.
    pub fn webhook(&self, id: &str, state: &str) -> Value {
        json!({
            "state": state, "automationId": 777, "id": id, "appId": "abcd1234", "platform": "android", "type": "debug",
            "automation": {
                "id": 777, "buidType": "debug", "environmentName": "staging", "name": "my-awesome-automation",
                "created": "2018-08-24T14:49:01.462549+00:00", "platform": "android", "profile": "debug",
                "channel": { "name": "threeve", "updated": "2018-02-13T20:35:46.486541Z+00:00" }
            },
            "environmentName": "staging", "profile": "debug",
            "created": "2018-08-24T14:49:01.462549+00:00", "finished": "2018-08-24T14:56:45.986317+00:00",
            "downloadUrl": self.download_url(id),
            "buildInfo": { "id": 777, "state": state, "job_type": "package-android" },
            "app": { "slug": "awesomeapp", "org": null, "name": "Awesome App", "id": "abcd1234" },
            "commit": {
                "sha": "e900ae1863482df4f9c24ee759d15a9250de77a7", "note": "github 🦊", "ref": "different-branch",
                "refType": "branch", "user": { "name": "Ionitron", "username": "ionitron" }
            }
        })
    }

    /// The signed link of a build.
    pub fn download_url(&self, id: &str) -> String {
        format!("{}/builds/{id}/app.apk?token=stage", self.server.url())
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// From now on all links have lived for more than 24 hours.
    pub fn expire(&self) {
        self.state.expired.store(true, Ordering::Relaxed);
    }

    /// How often a whole artifact was sent.
    pub fn downloads(&self) -> usize {
        self.state.downloads.load(Ordering::Relaxed)
    }

    /// Every download passes here when half of the body is sent.
    pub fn middle(&self) -> &Gate {
        &self.state.middle
    }
}

impl State {
    fn download(self: &Arc<Self>, asked: &Asked) -> Answer {
        if asked.parameter("token").as_deref() != Some("stage") || self.expired.load(Ordering::Relaxed) {
            return answer(StatusCode::FORBIDDEN, "text/plain", "the link has expired");
        }
        let (state, artifact) = (Arc::clone(self), Bytes::from(vec![0xa5; ARTIFACT_SIZE]));
        in_halves(
            "application/vnd.android.package-archive",
            artifact,
            self.middle.clone(),
            move || {
                state.downloads.fetch_add(1, Ordering::Relaxed);
            },
        )
    }
}
