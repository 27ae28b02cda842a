//! The plugin through the same C functions that the router calls: of this package with `cargo test`, and of the built library with
//! `jackfield plugin test target/release/libgreeter_plugin.so -- cargo test`.

use greeter_plugin::GreeterPlugin;
use jackfield_sdk::{
    prelude::*,
    testing::{Call, Code, Ended, Harness},
};

#[tokio::test]
async fn it_greets_whom_it_is_told_to() {
    let instance = Harness::<GreeterPlugin>::start(json!({})).await.unwrap();
    let report = instance.call(Call::new(json!({ "name": "Ada" }))).await;
    assert_eq!(report.done(), json!({ "greeting": "hello, Ada" }));
    assert_eq!(instance.host().logs()[0].message, "greeted");
}

#[tokio::test]
async fn a_greeting_begins_as_it_is_configured() {
    let instance = Harness::<GreeterPlugin>::start(json!({ "salutation": "good evening" })).await.unwrap();
    let report = instance.call(Call::new(json!({ "name": "Ada" }))).await;
    assert_eq!(report.done(), json!({ "greeting": "good evening, Ada" }));
}

#[tokio::test]
async fn nobody_is_greeted_where_there_is_nobody() {
    let instance = Harness::<GreeterPlugin>::start(json!({})).await.unwrap();
    let report = instance.call(Call::new(json!({ "name": "" }))).await;
    assert_eq!(report.outcome, Ended::Skipped);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_the_reason() {
    let refused = Harness::<GreeterPlugin>::start(json!({ "salutation": " " })).await.unwrap_err();
    assert!(refused.message.contains("`salutation` is empty"), "{}", refused.message);
    let instance = Harness::<GreeterPlugin>::start(json!({})).await.unwrap();
    let report = instance.call(Call::new(json!({}))).await;
    assert_eq!(report.code, Code::Invalid);
    assert_eq!(report.message, "the input does not fit: missing field `name`");
}
