//! A provider of your own: the webhooks of the shop Acme, which signs `{timestamp}.{raw body}` with HMAC-SHA256.
#![forbid(unsafe_code)]
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jackfield_sdk::{
    event::{Data, Project, Resource, Timestamp},
    prelude::*,
    provider::{Draft, Proof, Provider, Refusal, Request, Translation},
};
use sha2::Sha256;

/// The provider: `provider = "plugin:acme"`.
#[derive(Debug)]
pub struct Acme;

/// What a source can say: `[source.options]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Which shop it is.
    shop: Option<String>,
}

/// What Acme sends. Fields that are not read stay in the event's payload.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Body {
    /// Acme asks whether anybody is there, and wants to hear its own words.
    Hello { challenge: String },
    /// Something happened to an order.
    Order { order: Order, state: String },
}

#[derive(Debug, Deserialize)]
struct Order {
    id: u64,
    title: Option<String>,
    changed: Option<Timestamp>,
}

#[async_trait]
impl Provider for Acme {
    type Config = Empty;
    const NAME: &'static str = "acme";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");

    async fn create(_config: Empty, _start: Start) -> Result<Self> {
        Ok(Self)
    }

    async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> {
        let timestamp = request.header("acme-timestamp")?;
        let signature = unhex(request.header("acme-signature")?)
            .ok_or_else(|| Refusal::wrong_signature("header `acme-signature` is not hexadecimal"))?;
        // Compared in constant time, and with every secret, whichever matches.
        let matching = request.secrets().iter().filter(|secret| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
                .expect("HMAC takes keys of any length");
            for part in [timestamp.as_bytes(), b".", request.body()] {
                mac.update(part);
            }
            mac.verify_slice(&signature).is_ok()
        });
        if matching.count() == 0 {
            return Err(Refusal::wrong_signature(
                "the signature matches none of the live secrets",
            ));
        }
        // Only now is the timestamp known to be Acme's.
        let sent = timestamp.parse().ok().and_then(Timestamp::from_secs);
        let sent = sent.ok_or_else(|| Refusal::stale_timestamp("header `acme-timestamp` is no time"))?;
        request.check_age(sent, TOLERANCE)?;
        Ok(Proof::SIGNATURE)
    }

    async fn translate(&self, request: &Request<'_>) -> Result<Translation> {
        let (order, state) = match serde_json::from_slice(request.body())? {
            Body::Hello { challenge } => return Ok(Translation::handshake("text/plain", challenge)),
            Body::Order { order, state } => (order, state),
        };
        let options: Options = request.options()?;
        let data = Data {
            title: Some(match &order.title {
                Some(title) => format!("Order {} ({title}): {state}", order.id),
                None => format!("Order {}: {state}", order.id),
            }),
            project: options.shop.map(|name| Project {
                kind: "shop".to_owned(),
                name: Some(name),
                ..Project::default()
            }),
            resource: Some(Resource {
                kind: "order".to_owned(),
                id: Some(order.id.to_string()),
                name: order.title,
                ..Resource::default()
            }),
            ..Data::default()
        };
        let mut event = Draft::new(format!("com.acme.order.{state}"))
            .subject(format!("order/{}", order.id))
            .data(data)
            // An order reaches each state once, however often Acme tells of it.
            .dedup(format!("{}/{state}", order.id));
        if let Some(changed) = order.changed {
            event = event.time(changed);
        }
        if let Ok(delivery) = request.header("acme-delivery") {
            event = event.delivery(delivery);
        }
        Ok(event.into())
    }
}

export_provider!(Acme);

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    let bytes = digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]));
    bytes.collect::<Result<_, _>>().ok()
}

/// How far a timestamp may lie from the arrival, where the source does not say.
const TOLERANCE: Duration = Duration::from_secs(300);
