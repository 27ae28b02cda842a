//! Providers as the router sees them: what becomes of their panics and errors, and in which order they are asked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use jackfield_sdk::{
    event::Data,
    prelude::*,
    provider::{Draft, Proof, Provider, Refusal, Request, Translation},
    testing::{Code, Ended, HostCall, Incoming, ProviderHarness, TestHost},
    tokio::time::sleep,
};

/// Does as its headers say.
struct Puppet(Start);

#[async_trait]
impl Provider for Puppet {
    type Config = Empty;
    const NAME: &'static str = "puppet";
    const VERSION: &'static str = "1.0.0";

    async fn create(_: Empty, start: Start) -> Result<Self> {
        Ok(Self(start))
    }

    async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> {
        match request.header("verify")? {
            "panic" => panic!("in verify"),
            "later" => Err(Refusal::not_now("the keys cannot be fetched")),
            "token" => request.path_token(),
            "age" => {
                let sent = request.header("sent")?.parse();
                request.check_age(sent.expect("the tests send times"), Duration::from_secs(60))?;
                Ok(Proof::SIGNATURE)
            }
            "wait" => std::future::pending().await,
            "hour" => {
                sleep(HOUR).await;
                Ok(Proof::SIGNATURE)
            }
            "known" => {
                let kv = self.0.kv();
                if kv.get("known").await.map_err(Refusal::not_now)?.is_some() {
                    return Ok(Proof::SIGNATURE);
                }
                kv.put("known", "yes").await.map_err(Refusal::not_now)?;
                Err(Refusal::wrong_signature("it was not known"))
            }
            _ => Ok(Proof::SIGNATURE),
        }
    }

    async fn translate(&self, request: &Request<'_>) -> Result<Translation> {
        tracing::info!("translating");
        match request.body() {
            b"panic" => panic!("in translate"),
            b"error" => Err(Error::invalid("no order in it")),
            b"nothing" => Ok(Translation::unrecognized()),
            _ => {
                let payload = serde_json::value::to_raw_value(&json!({ "forged": true }))?;
                let data = Data {
                    payload: Some(payload),
                    ..Data::default()
                };
                Ok(Draft::new("com.puppet.came").data(data).attempt(2).into())
            }
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn verify(how: &str) -> Incoming {
    Incoming::new("{}").header("verify", how)
}

async fn puppet() -> ProviderHarness<Puppet> {
    ProviderHarness::start(json!({})).await.unwrap()
}

#[tokio::test]
async fn without_a_verdict_there_is_no_event() {
    let puppet = puppet().await;
    for (how, code, words) in [
        ("panic", Code::Panic, "in verify"),
        ("later", Code::None, "the keys cannot be fetched"),
        ("wait", Code::Cancelled, "canceled"),
    ] {
        let request = verify(how).deadline(match how {
            "wait" => Duration::from_millis(1),
            _ => Duration::from_secs(60),
        });
        let report = puppet.begin_request(request).end().await;
        assert_eq!((report.outcome, report.code), (Ended::Retry, code), "{how}");
        assert!(report.message.contains(words), "{}", report.message);
    }
    let logs = puppet.host().logs();
    assert!(logs.iter().all(|log| log.message != "translating"));
}

#[tokio::test]
async fn what_was_verified_is_an_event_even_where_nobody_understands_it() {
    let puppet = puppet().await;
    for (body, why) in [
        ("panic", "the plugin panicked: in translate"),
        ("error", "no order in it"),
        ("nothing", ""),
    ] {
        let verdict = puppet.receive(Incoming::new(body).header("verify", "yes")).await;
        assert_eq!(
            verdict,
            json!({ "event": { "verified": "signature", "why": why } })
        );
    }
}

#[tokio::test]
async fn an_event_is_drafted_without_a_payload() {
    let verdict = puppet().await.receive(verify("yes")).await;
    assert_eq!(
        verdict,
        json!({ "event": {
            "verified": "signature", "providerattempt": 2, "draft": { "type": "com.puppet.came", "data": {} },
        } })
    );
}

#[tokio::test]
async fn a_header_that_is_not_there_exactly_once_verifies_nothing() {
    let puppet = puppet().await;
    for (request, reason) in [
        (Incoming::new("{}"), "missing-header"),
        (verify(""), "missing-header"),
        (verify("yes").header("Verify", "yes"), "wrong-signature"),
    ] {
        assert_eq!(puppet.receive(request).await["refused"]["reason"], reason);
    }
}

#[tokio::test]
async fn a_token_in_the_address_proves_something_where_the_source_has_one() {
    let puppet = puppet().await;
    let verdict = puppet.receive(verify("token").path_token()).await;
    assert_eq!(verdict["event"]["verified"], "path-token");
    let verdict = puppet.receive(verify("token")).await;
    assert_eq!(verdict["refused"]["reason"], "wrong-signature");
}

#[tokio::test]
async fn a_source_that_believes_everybody_is_not_verified() {
    let verdict = puppet().await.receive(Incoming::new("{}").unverified()).await;
    assert_eq!(verdict["event"]["verified"], "none");
}

#[tokio::test]
async fn a_timestamp_may_be_off_in_either_direction_by_the_tolerance() {
    let puppet = puppet().await;
    // Requests of the harness arrive at midnight.
    for (sent, tolerance, fresh) in [
        ("2025-12-31T23:59:00Z", None, true),
        ("2025-12-31T23:58:59Z", None, false),
        ("2026-01-01T00:01:00Z", None, true),
        ("2026-01-01T00:01:01Z", None, false),
        ("2025-12-31T23:58:59Z", Some(Duration::from_secs(61)), true),
    ] {
        let request = verify("age").header("sent", sent);
        let request = tolerance.map_or(request.clone(), |tolerance| request.tolerance(tolerance));
        let verdict = puppet.receive(request).await;
        assert_eq!(verdict["event"].is_object(), fresh, "{sent}: {verdict}");
    }
}

#[tokio::test]
async fn a_request_that_is_canceled_has_no_verdict() {
    let puppet = puppet().await;
    let running = puppet.begin_request(verify("wait"));
    running.cancel();
    let report = running.end().await;
    assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Cancelled));
    assert!(
        puppet.shutdown(Duration::from_secs(60)).await,
        "nothing is left of it"
    );
}

#[tokio::test]
async fn what_an_instance_kept_before_a_crash_the_next_one_finds() {
    let host = TestHost::new();
    let before = ProviderHarness::<Puppet>::start_on(&host, json!({}))
        .await
        .unwrap();
    assert_eq!(
        before.receive(verify("known")).await["refused"]["detail"],
        "it was not known"
    );
    host.hold(HostCall::KvGet);
    let cut_off = before.begin_request(verify("known"));
    host.held(HostCall::KvGet, 1).await;
    before.crash().await;
    assert_eq!(cut_off.end().await.outcome, Ended::Retry);

    host.release(HostCall::KvGet);
    let after = ProviderHarness::<Puppet>::start_on(&host, json!({}))
        .await
        .unwrap();
    assert_eq!(
        after.receive(verify("known")).await["event"]["verified"],
        "signature"
    );
}

#[tokio::test]
async fn the_time_of_a_provider_may_be_the_tests() {
    let puppet = ProviderHarness::<Puppet>::start_paused(&TestHost::new(), json!({}))
        .await
        .unwrap();
    // A minute, unless something else is said.
    let report = puppet.begin_request(verify("hour")).end().await;
    assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Cancelled));

    let running = puppet.begin_request(verify("hour").deadline(2 * HOUR));
    puppet.advance(HOUR - Duration::from_secs(1)).await;
    assert!(!running.has_ended());
    assert_eq!(running.end().await.done()["event"]["verified"], "signature");
}
