//! Requests: a plugin may be a provider besides.

use std::time::Duration;

use bytes::Bytes;
use jackfield::{
    delivery::Outcome,
    plugin::{Report, RequestCall},
    reason::Reason,
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use super::{check, check_panic};
use crate::{built::Build, trial::Trial};

/// The verdict that there is.
fn verdict(report: &Report) -> Value {
    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
    serde_json::from_slice(report.output.as_ref().unwrap()).unwrap()
}

/// An event of a body of that length and sum.
fn event(proof: &str, length: usize, sum: usize) -> Value {
    json!({ "event": {
        "verified": proof, "dedup": "trials",
        "draft": { "type": "com.example.trial", "subject": format!("[{length},{sum}]"), "data": {} },
    } })
}

fn event_of(body: &[u8]) -> Value {
    let sum = body.iter().map(|byte| usize::from(*byte)).sum();
    event("signature", body.len(), sum)
}

/// The same request with something else in its head.
fn with(request: RequestCall, name: &str, value: Value) -> RequestCall {
    let mut head: Value = serde_json::from_slice(&request.head).unwrap();
    head[name] = value;
    let head = Bytes::from(head.to_string());
    RequestCall { head, ..request }
}

/// That it still judges.
async fn goes_on(trial: &Trial) {
    let report = trial.receive(trial.request("believe")).await;
    assert_eq!(verdict(&report), event_of(b"{}"));
}

everywhere! {
    async fn every_verdict_comes_back(trial: Trial) {
        let refused = |reason, detail| json!({ "refused": { "reason": reason, "detail": detail } });
        let not_understood = |why| json!({ "event": { "verified": "signature", "why": why } });
        for (act, expected) in [
            ("believe", event_of(b"{}")),
            ("token", event("path-token", 2, 248)),
            ("refuse", refused("wrong-signature", "not like this")),
            ("stale", refused("stale-timestamp", "too late")),
            ("handshake", json!({ "handshake": { "status": 200, "content_type": "text/plain", "body": "welcome" } })),
            ("nothing", not_understood("")),
            ("misread", not_understood("no order in it")),
        ] {
            assert_eq!(verdict(&trial.receive(trial.request(act)).await), expected, "{act}");
        }
    }

    async fn what_is_to_be_believed_is_for_the_source_to_say(trial: Trial) {
        let bare = with(trial.request(""), "headers", json!([]));
        assert_eq!(
            verdict(&trial.receive(bare.clone()).await),
            json!({ "refused": { "reason": "missing-header", "detail": "header `act` is missing" } })
        );
        let everybodys = with(bare, "unverified", json!(true));
        assert_eq!(verdict(&trial.receive(everybodys).await), event("none", 2, 248));
        let without_token = with(trial.request("token"), "path_token", json!(false));
        assert_eq!(verdict(&trial.receive(without_token).await)["refused"]["reason"], "wrong-signature");
    }

    async fn a_body_arrives_byte_for_byte(trial: Trial) {
        for body in [Vec::new(), (0..=u8::MAX).collect(), vec![b'x'; 8 << 20]] {
            let expected = event_of(&body);
            let request = RequestCall { body: body.into(), ..trial.request("believe") };
            assert_eq!(verdict(&trial.receive(request).await), expected);
        }
    }

    async fn what_cannot_be_told_now_is_no_verdict(trial: Trial) {
        let report = trial.receive(trial.request("not-now")).await;
        check(&report, Outcome::Retry, Reason::PluginRetry, "not now");
        goes_on(&trial).await;
    }

    async fn a_panic_while_it_verifies_is_no_verdict(trial: Trial) {
        check_panic(&trial, &trial.receive(trial.request("panic")).await, "on purpose");
        goes_on(&trial).await;
    }

    async fn a_panic_while_it_translates_is_an_event_that_is_not_understood(trial: Trial) {
        let report = trial.receive(trial.request("panic-late")).await;
        if trial.aborts() {
            check_panic(&trial, &report, "");
        } else {
            let why = "the plugin panicked: on purpose";
            assert_eq!(verdict(&report), json!({ "event": { "verified": "signature", "why": why } }));
        }
        goes_on(&trial).await;
    }

    async fn a_request_that_is_canceled_has_no_verdict(trial: Trial) {
        let request = trial.request("wait");
        let cancelled = request.cancelled.clone();
        let (report, ()) = tokio::join!(trial.receive(request), async {
            trial.host.waits(1).await;
            cancelled.cancel();
        });
        check(&report, Outcome::Retry, Reason::Interrupted, "");
        goes_on(&trial).await;
    }

    async fn a_request_past_its_deadline_has_no_verdict(trial: Trial) {
        let deadline = Instant::now() + Duration::from_millis(20);
        let request = RequestCall { deadline, ..trial.request("wait") };
        check(&trial.receive(request).await, Outcome::Retry, Reason::TimedOut, "");
        goes_on(&trial).await;
    }

    async fn the_end_of_an_instance_ends_its_requests(trial: Trial) {
        let mut requests = JoinSet::new();
        for _ in 0..20 {
            let (caller, request) = (trial.instance.caller.clone(), trial.request("wait"));
            requests.spawn(async move { caller.receive(request).await });
        }
        trial.host.waits(20).await;
        trial.registry.shutdown(Duration::from_secs(60)).await;
        for report in requests.join_all().await {
            check(&report, Outcome::Retry, Reason::Interrupted, "");
        }
        let late = trial.receive(trial.request("believe")).await;
        check(&late, Outcome::Retry, Reason::Interrupted, "shut down");
    }

    async fn three_hundred_requests_are_judged_beside_calls(trial: Trial) {
        let mut requests = JoinSet::new();
        for number in 0..300 {
            let (caller, request, call) = (trial.instance.caller.clone(), trial.request("believe"), trial.call("done"));
            let body = vec![b'x'; number];
            let expected = event_of(&body);
            requests.spawn(async move {
                let request = RequestCall { body: body.into(), ..request };
                let (judged, called) = tokio::join!(caller.receive(request), caller.call(call));
                assert_eq!(verdict(&judged), expected);
                assert_eq!(called.outcome, Outcome::Done, "{called:?}");
            });
        }
        requests.join_all().await;
    }
}
