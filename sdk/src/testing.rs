//! Drives a plugin in plain `cargo test`, through the same C functions that the router calls.
//!
//! A [`Harness`] is one instance of a plugin under test. It gives calls and gets reports; a [`TestHost`] under it plays the
//! router in memory, remembers all that the plugin logs, counts and keeps, and can be made to fail or to hang.
//!
//! ```
//! use jackfield_sdk::{prelude::*, testing::{Call, Ended, Harness, HostCall, TestHost}};
//!
//! struct Counter;
//!
//! #[async_trait]
//! impl Plugin for Counter {
//!     type Config = serde_json::Value;
//!     type Input = serde_json::Value;
//!     type Output = u64;
//!     const NAME: &'static str = "counter";
//!     const VERSION: &'static str = "1.0.0";
//!
//!     async fn create(_: serde_json::Value, _: Start) -> Result<Self> {
//!         Ok(Counter)
//!     }
//!
//!     async fn call(&self, _: serde_json::Value, cx: &Cx) -> Result<Outcome<u64>> {
//!         let next = match cx.kv().get("next").await? {
//!             Some(bytes) => serde_json::from_slice(&bytes)?,
//!             None => 0,
//!         };
//!         cx.kv().put("next", serde_json::to_vec(&(next + 1))?).await?;
//!         Ok(Outcome::Done(next))
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let host = TestHost::new();
//! let counter = Harness::<Counter>::start_on(&host, json!({})).await.unwrap();
//! assert_eq!(counter.call(Call::new(json!({}))).await.done(), 0);
//!
//! host.fail(HostCall::KvPut, 1);
//! assert_eq!(counter.call(Call::new(json!({}))).await.outcome, Ended::Retry);
//! assert_eq!(counter.call(Call::new(json!({}))).await.done(), 1);
//! # });
//! ```
//!
//! To see what a plugin does after a crash, start it on a host with a [receipt](TestHost::set_receipt), or
//! [hold](TestHost::hold) one of its requests, [crash](Harness::crash) it there, and start another on the same host.
//! [`Harness::cancel_at_each_await`] goes through all the points at which a call can be cut off. With the feature `virtual-time`,
//! `Harness::start_paused` makes an instance whose time the test keeps. [`TestHost::asked`] tells what was asked of the router.

mod asked;
mod call;
mod clock;
mod cut;
mod driver;
mod engine;
mod harness;
mod host;
mod library;
mod provider;

pub use self::{
    asked::{Asked, HostCall},
    call::{Call, Report, Running, event},
    cut::Cut,
    harness::{Harness, Refused},
    host::{Emitted, Log, Metric, TestHost},
    library::library,
    provider::{Incoming, ProviderHarness},
};
pub use crate::call::{Code, Ended};
