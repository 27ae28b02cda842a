//! The provider of the examples, from the signature to the delivery.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use jackfield_stage::cargo;
use serde_json::json;
use sha2::Sha256;

use crate::{Site, unavailable};

const ORDER: &str = r#"{"order":{"id":7},"state":"paid"}"#;
const OPTIONS: &str = "[source.options]\nshop = \"North\"\n";

fn library() -> PathBuf {
    let built = cargo::build(&["jackfield", "hello-plugin", "provider-plugin"], "dev").unwrap();
    built.library("provider-plugin").unwrap()
}

/// As Acme signs, so long ago.
fn signed(secret: &str, body: &str, ago: Duration) -> HeaderMap {
    #[expect(clippy::disallowed_methods, reason = "the router's own clock is the system's")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let timestamp = (now - ago).as_secs().to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{timestamp}.{body}").as_bytes());
    let signature: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut headers = HeaderMap::new();
    headers.insert("acme-timestamp", timestamp.parse().unwrap());
    headers.insert("acme-signature", signature.parse().unwrap());
    headers
}

fn now(body: &str) -> HeaderMap {
    signed("it is a secret", body, Duration::ZERO)
}

/// `send` posts what a person has signed, and says what it takes where they have not.
#[tokio::test]
async fn a_request_that_was_signed_by_hand_can_be_sent() {
    let mut site = Site::start("acme", &[library()], OPTIONS).await;
    let order = tempfile::NamedTempFile::new().unwrap();
    fs::write(order.path(), ORDER).unwrap();
    let file = order.path().to_str().unwrap();
    let signed = now(ORDER);
    let header = |name: &str| format!("{name}: {}", signed[name].to_str().unwrap());
    let (timestamp, signature) = (header("acme-timestamp"), header("acme-signature"));
    let proof = ["--header", timestamp.as_str(), "--header", signature.as_str()];
    let send = ["send", "in", "--file", file];
    let sent = site.router.ask(&[&send[..], &proof].concat()).await.unwrap();
    assert_eq!(sent["status"], 200, "{sent}");

    for (arguments, words) in [
        (
            send.to_vec(),
            "only the plugin knows how requests for `plugin:acme` are signed",
        ),
        (
            vec!["send", "in"],
            "only the plugin knows the payloads of `plugin:acme`",
        ),
        (
            vec!["send", "in", "--list"],
            "only the plugin knows the payloads of `plugin:acme`",
        ),
        ([&send[..], &["--forged"]].concat(), "what `--forged` is about"),
    ] {
        let refused = site.router.attempt(&arguments).await.unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            refused.status.code() == Some(1) && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
    site.router.stop().await.unwrap();
}

async fn goes_all_the_way(isolation: &str) {
    let instance = format!("{OPTIONS}[[instance]]\nname = \"acme\"\nisolation = \"{isolation}\"\n");
    let mut site = Site::start("acme", &[library()], &instance).await;

    let answer = site.post(&now(ORDER), ORDER).await;
    assert_eq!(
        answer.status,
        200,
        "{}: {}",
        answer.body,
        site.router.end_of_log()
    );
    site.router.settled(Duration::from_secs(60)).await.unwrap();
    let deliveries = site.router.ask(&["deliveries", "list"]).await.unwrap();
    assert_eq!(deliveries[0]["state"], "succeeded", "{deliveries}");

    // The same order in the same state, signed anew with the secret that is going out of use.
    let again = site
        .post(&signed("it was a secret", ORDER, Duration::from_secs(5)), ORDER)
        .await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["duplicate"]),
        (200, &json!(true))
    );
    assert_eq!(again.json()["id"], answer.json()["id"]);

    for (headers, body, status) in [
        (signed("a guess", ORDER, Duration::ZERO), ORDER, 401),
        (now(ORDER), r#"{"order":{"id":8},"state":"paid"}"#, 401),
        (HeaderMap::new(), ORDER, 401),
        (
            signed("it is a secret", ORDER, Duration::from_secs(3600)),
            ORDER,
            401,
        ),
        (now("{"), "{", 400),
    ] {
        let answer = site.post(&headers, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }

    let hello = r#"{"challenge":"are you there"}"#;
    let handshake = site.post(&now(hello), hello).await;
    assert_eq!(
        (handshake.status.as_u16(), handshake.body.as_str()),
        (200, "are you there")
    );
    assert_eq!(handshake.headers["content-type"], "text/plain");

    let strange = site.post(&now("[1]"), "[1]").await;
    assert_eq!(strange.status, 200);
    let shown = site
        .router
        .ask(&["events", "show", strange.json()["id"].as_str().unwrap()])
        .await
        .unwrap();
    let event = &shown["event"];
    assert_eq!(
        [
            &event["type"],
            &event["provider"],
            &event["verified"],
            &event["data"]["payload"]
        ],
        [
            &json!("plugin.acme.unrecognized"),
            &json!("acme"),
            &json!("signature"),
            &json!([1])
        ]
    );
    let shown = site
        .router
        .ask(&["events", "show", answer.json()["id"].as_str().unwrap()])
        .await
        .unwrap();
    let event = &shown["event"];
    assert_eq!(
        [
            &event["subject"],
            &event["source"],
            &event["data"]["project"]["name"]
        ],
        [&json!("order/7"), &json!("/in/in"), &json!("North")]
    );
    assert_eq!(site.events().await.len(), 2);
    site.router.stop().await.unwrap();
    assert!(!site.router.log().contains("it is a secret"));
}

#[tokio::test]
async fn a_signed_webhook_goes_all_the_way_by_a_process_of_the_plugins_own() {
    goes_all_the_way("process").await;
}

#[tokio::test]
async fn a_signed_webhook_goes_all_the_way_in_the_router() {
    goes_all_the_way("none").await;
}

#[tokio::test]
async fn while_the_plugin_is_away_senders_are_asked_to_try_again() {
    let mut site = Site::prepare("acme", &[], OPTIONS);
    insta::assert_snapshot!(site.check().await, @"
    source `in`: its provider `plugin:acme` names no instance that can run
        = drop the plugin into the plugins directory, or add an `[[instance]]` of that name

    error: 1 fault in the configuration
    ");
    site.router.start().await.unwrap();
    unavailable(&site.post(&now(ORDER), ORDER).await);

    let file = site.router.home().join("plugins/libprovider_plugin.so");
    let away = site.router.home().join("away.so");
    fs::copy(library(), &away).unwrap();
    fs::rename(&away, &file).unwrap();
    site.post_until(&now(ORDER), ORDER, 200).await;
    fs::rename(&file, &away).unwrap();
    unavailable(&site.post_until(&now(ORDER), ORDER, 503).await);
    fs::rename(&away, &file).unwrap();
    site.post_until(&now(ORDER), ORDER, 200).await;
    assert_eq!(site.events().await.len(), 1, "they were deliveries of one order");
    assert!(site.router.log().contains("provider-unavailable"));
    site.router.stop().await.unwrap();
}

#[tokio::test]
async fn a_plugin_without_the_capability_is_found_by_check_and_accepts_nothing() {
    let mut site = Site::prepare("hello", &[], "");
    insta::assert_snapshot!(site.check().await, @"
    source `in`: its provider `plugin:hello` is an instance of a plugin without the capability `provider`

    error: 1 fault in the configuration
    ");
    site.router.start().await.unwrap();
    unavailable(&site.post(&HeaderMap::new(), "{}").await);
    site.router.stop().await.unwrap();
}
