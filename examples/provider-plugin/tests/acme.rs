//! The provider through the same C functions that the router calls: one request in, one verdict out.

use std::time::Duration;

use jackfield_sdk::{
    prelude::*,
    testing::{Incoming, ProviderHarness, library},
};
use jackfield_stage::again::again;
use provider_plugin::Acme;

const ORDER: &str = r#"{"order":{"id":7,"title":"Chairs","changed":"2025-12-31T23:59:00Z"},"state":"paid"}"#;
/// HMAC-SHA256 of `1767225600.` and that, as `openssl dgst -sha256 -hmac "it is a secret"` has it.
const SIGNATURE: &str = "caca8fe343eee21285c706a5040220ce154056cf03b592a037e22c2ba720caaa";

fn request(body: &str) -> Incoming {
    Incoming::new(body)
        .header("Acme-Timestamp", "1767225600")
        .header("Acme-Signature", SIGNATURE)
        .header("Acme-Delivery", "d-1")
        .secret("another secret")
        .secret("it is a secret")
}

#[test]
fn all_of_this_is_true_of_the_built_library_wherever_it_lives() {
    for isolation in ["process", "none"] {
        let passed = again("provider-plugin", isolation, &[]).unwrap();
        assert!(passed > 6 || library().is_some(), "{isolation}: {passed}");
    }
}

async fn acme() -> ProviderHarness<Acme> {
    ProviderHarness::start(json!({}))
        .await
        .expect("it needs no configuration")
}

#[track_caller]
fn refused(verdict: &serde_json::Value, reason: &str) {
    assert_eq!(verdict["refused"]["reason"], reason, "{verdict}");
    let text = verdict.to_string();
    assert!(!text.contains("secret\"") && !text.contains(SIGNATURE), "{text}");
}

#[tokio::test]
async fn a_signed_order_becomes_an_event() {
    let verdict = acme()
        .await
        .receive(request(ORDER).options(json!({ "shop": "North" })))
        .await;
    assert_eq!(
        verdict,
        json!({ "event": {
            "verified": "signature",
            "dedup": "7/paid",
            "providerdelivery": "d-1",
            "draft": {
                "type": "com.acme.order.paid",
                "subject": "order/7",
                "time": "2025-12-31T23:59:00Z",
                "data": {
                    "title": "Order 7 (Chairs): paid",
                    "project": { "kind": "shop", "name": "North" },
                    "resource": { "kind": "order", "id": "7", "name": "Chairs" },
                },
            },
        } })
    );
}

#[tokio::test]
async fn what_is_not_signed_with_a_live_secret_is_refused() {
    let acme = acme().await;
    refused(
        &acme.receive(request(&ORDER.replace('7', "8"))).await,
        "wrong-signature",
    );
    refused(
        &acme
            .receive(request(ORDER).header("acme-signature", SIGNATURE))
            .await,
        "wrong-signature",
    );
    let without_secrets = Incoming::new(ORDER)
        .header("acme-timestamp", "1767225600")
        .header("acme-signature", SIGNATURE);
    refused(&acme.receive(without_secrets).await, "wrong-signature");
    let odd = Incoming::new(ORDER)
        .header("acme-timestamp", "1")
        .header("acme-signature", "abc")
        .secret("s");
    refused(&acme.receive(odd).await, "wrong-signature");
}

#[tokio::test]
async fn a_missing_header_is_named() {
    let verdict = acme()
        .await
        .receive(Incoming::new(ORDER).secret("it is a secret"))
        .await;
    refused(&verdict, "missing-header");
    assert_eq!(verdict["refused"]["detail"], "header `acme-timestamp` is missing");
}

#[tokio::test]
async fn a_signature_of_long_ago_is_refused_by_the_sources_tolerance() {
    let acme = acme().await;
    let late = || request(ORDER).received("2026-01-01T00:06:00Z".parse().unwrap());
    refused(&acme.receive(late()).await, "stale-timestamp");
    let verdict = acme.receive(late().tolerance(Duration::from_secs(600))).await;
    assert_eq!(verdict["event"]["verified"], "signature");
}

#[tokio::test]
async fn what_acme_has_never_sent_is_an_event_that_says_so() {
    let acme = acme().await;
    for body in ["[1]", "not even JSON"] {
        let verdict = acme.receive(Incoming::new(body).unverified()).await;
        assert_eq!(verdict["event"]["verified"], "none", "{verdict}");
        assert!(
            verdict["event"]["draft"].is_null() && verdict["event"]["why"].is_string(),
            "{verdict}"
        );
    }
    assert_eq!(acme.host().logs()[0].message, "a request is not understood");
}

#[tokio::test]
async fn a_handshake_is_answered_with_its_challenge() {
    let acme = acme().await;
    let verdict = acme
        .receive(Incoming::new(r#"{"challenge":"abc"}"#).unverified())
        .await;
    assert_eq!(
        verdict,
        json!({ "handshake": { "status": 200, "content_type": "text/plain", "body": "abc" } })
    );
    // Nobody is answered who does not prove where the question comes from.
    let verdict = acme
        .receive(Incoming::new(r#"{"challenge":"abc"}"#).secret("s"))
        .await;
    refused(&verdict, "missing-header");
}

#[test]
fn its_manifest_says_that_sources_can_use_it() {
    assert_eq!(
        ProviderHarness::<Acme>::manifest()["capabilities"],
        json!(["provider"])
    );
}
