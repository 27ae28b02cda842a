//! Requests, as a provider gets them: what comes of one, its header `act` says.

use jackfield_sdk::{
    prelude::*,
    provider::{Draft, Proof, Provider, Refusal, Request, Translation},
};

/// The provider that an instance is besides.
pub(super) struct Requests {
    start: Start,
}

#[async_trait]
impl Provider for Requests {
    type Config = Empty;
    const NAME: &'static str = "trial";
    const VERSION: &'static str = "1.0.0";

    async fn create(_: Empty, start: Start) -> Result<Self> {
        Ok(Self { start })
    }

    async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> {
        match request.header("act")? {
            "token" => request.path_token(),
            "refuse" => Err(Refusal::wrong_signature("not like this")),
            "stale" => Err(Refusal::stale_timestamp("too late")),
            "not-now" => Err(Refusal::not_now("not now")),
            "panic" => panic!("on purpose"),
            "wait" => {
                self.start.metric("waits_total", &[], 1.0);
                std::future::pending().await
            }
            _ => Ok(Proof::SIGNATURE),
        }
    }

    async fn translate(&self, request: &Request<'_>) -> Result<Translation> {
        match request.header("act").unwrap_or_default() {
            "handshake" => Ok(Translation::handshake("text/plain", "welcome")),
            "nothing" => Ok(Translation::unrecognized()),
            "misread" => Err(Error::invalid("no order in it")),
            "panic-late" => panic!("on purpose"),
            _ => {
                let draft = Draft::new("com.example.trial");
                let measured = super::measured(request.body()).to_string();
                Ok(draft.subject(measured).dedup(request.source()).into())
            }
        }
    }
}
