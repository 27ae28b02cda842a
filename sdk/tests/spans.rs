//! What is logged within spans of the plugin's own.

use jackfield_sdk::{
    prelude::*,
    serde_json::Value,
    testing::{Call, Harness},
    tokio::{self, runtime::Handle, task::yield_now},
    tracing::{Instrument as _, field, info, info_span},
};

/// Logs from wherever one can.
struct Talker;

#[async_trait]
impl Plugin for Talker {
    type Config = Value;
    type Input = Value;
    type Output = ();
    const NAME: &'static str = "talker";
    const VERSION: &'static str = "1.0.0";

    async fn create(_: Value, _: Start) -> Result<Self> {
        info_span!("create", step = "look").in_scope(|| info!("starting"));
        Ok(Self)
    }

    async fn call(&self, _: Value, _: &Cx) -> Result<Outcome<()>> {
        info!(size = 1, "outside");
        let outer = info_span!("publish", commit = "abc", files = field::Empty, size = 7);
        let inner = async {
            info!("early");
            outer.record("files", 3);
            yield_now().await;
            info!(size = 9, span = "mine", "late");
        };
        inner
            .instrument(
                info_span!(parent: &outer, "upload", ratio = 0.5, ok = true, debt = -4, what = ?Some(1)),
            )
            .await;
        Handle::current()
            .spawn(async { info!("alone") }.instrument(outer.clone()))
            .await?;
        Handle::current().spawn(async { info!("lost") }).await?;
        let blocking = outer.clone();
        Handle::current()
            .spawn_blocking(move || blocking.in_scope(|| info!("blocking")))
            .await?;
        let error: &(dyn std::error::Error + 'static) = &std::io::Error::other("broken");
        info!(error, "failed");
        Ok(Outcome::Done(()))
    }
}

#[tokio::test]
async fn a_message_has_the_names_and_the_fields_of_the_spans_around_it() {
    let talker = Harness::<Talker>::start(json!({})).await.unwrap();
    talker.call(Call::new(json!({}))).await.done();
    let logged: Vec<_> = talker
        .host()
        .logs()
        .into_iter()
        .map(|log| (log.message, log.fields, log.in_call))
        .collect();
    let publish = json!({ "span": "publish", "commit": "abc", "files": 3, "size": 7 });
    let expected = [
        ("starting", json!({ "span": "create", "step": "look" }), false),
        ("outside", json!({ "size": 1 }), true),
        (
            "early",
            json!({ "span": "publish:upload", "commit": "abc", "size": 7, "ratio": 0.5, "ok": true, "debt": -4,
                "what": "Some(1)" }),
            true,
        ),
        (
            "late",
            json!({ "span": "mine", "commit": "abc", "files": 3, "size": 9, "ratio": 0.5, "ok": true, "debt": -4,
                "what": "Some(1)" }),
            true,
        ),
        // A task belongs to the call if a span of the call's goes with it.
        ("alone", publish.clone(), true),
        ("lost", json!({}), false),
        ("blocking", publish, true),
        ("failed", json!({ "error": "broken" }), true),
    ];
    let expected = expected.map(|(message, fields, in_call)| (message.to_owned(), fields, in_call));
    assert_eq!(logged, expected);
}
