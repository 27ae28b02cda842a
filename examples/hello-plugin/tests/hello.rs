//! The plugin through the same C functions that the router calls.

use hello_plugin::Hello;
use jackfield_sdk::{
    prelude::*,
    testing::{Call, Code, Harness},
};

#[tokio::test]
async fn it_greets_whom_it_is_told_to() {
    let hello = Harness::<Hello>::start(json!({})).await.unwrap();
    let report = hello.call(Call::new(json!({ "name": "Ada" }))).await;
    assert_eq!(report.done(), json!({ "greeting": "hello, Ada" }));
    assert_eq!(hello.host().logs()[0].message, "greeted");
}

#[tokio::test]
async fn it_wants_to_know_whom() {
    let hello = Harness::<Hello>::start(json!({})).await.unwrap();
    let report = hello.call(Call::new(json!({}))).await;
    assert_eq!(report.code, Code::Invalid);
    assert_eq!(report.message, "the input does not fit: missing field `name`");
}
