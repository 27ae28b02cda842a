//! All that the author of a Jackfield plugin needs.
//!
//! A plugin is a type that implements [`Plugin`], and one line, [`export_plugin!`]. It is built as a `cdylib` and dropped
//! into the router's plugins directory; a step of a route then calls it.
//!
//! ```
//! #![forbid(unsafe_code)]
//! use jackfield_sdk::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Input {
//!     /// Whom to greet.
//!     name: String,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Output {
//!     greeting: String,
//! }
//!
//! struct Greeter;
//!
//! #[async_trait]
//! impl Plugin for Greeter {
//!     type Config = Empty;
//!     type Input = Input;
//!     type Output = Output;
//!     const NAME: &'static str = "greeter";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!
//!     async fn create(_config: Empty, _start: Start) -> Result<Self> {
//!         Ok(Greeter)
//!     }
//!
//!     async fn call(&self, input: Input, _cx: &Cx) -> Result<Outcome<Output>> {
//!         let greeting = format!("Hello, {}!", input.name);
//!         tracing::info!(greeting, "greeted");
//!         Ok(Outcome::Done(Output { greeting }))
//!     }
//! }
//!
//! export_plugin!(Greeter);
//! # use jackfield_sdk::testing::{Call, Harness};
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! # let greeter = Harness::<Greeter>::start(json!({})).await.unwrap();
//! # let report = greeter.call(Call::new(json!({ "name": "Ada" }))).await;
//! # assert_eq!(report.done(), json!({ "greeting": "Hello, Ada!" }));
//! # });
//! ```
//!
//! A plugin can bring a [provider](provider::Provider) instead: then a source uses it, and no step.
//!
//! # What always holds
//!
//! - Each instance has a tokio runtime of its own, with one worker thread. A plugin that blocks stalls only itself,
//!   unless its calls begin on the router's threads ([`Plugin::INLINE`]), of which it had better give each back at once.
//! - Each call ends with exactly one outcome: also after a panic, a cancellation, or a shutdown in its middle.
//! - A future that is canceled is dropped at its next `.await`, unless [`Plugin::CANCEL_GRACE`] gives it time.
//! - What is logged with `tracing` on the instance's threads reaches the router's log, with its fields and those of the
//!   spans around it. A panic is logged there as well.
//! - Nothing here asks for `unsafe`; a plugin can forbid it.
//!
//! What a plugin must not do is in this package's README.
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod call;
pub mod command;
mod cx;
mod emit;
mod empty;
mod engine;
mod error;
mod ffi;
mod instance;
mod kv;
mod log;
mod manifest;
mod needs;
mod panic;
mod plugin;
mod probe;
pub mod provider;
mod proxy;
mod receipt;
mod secret;
mod shared;
mod signal;
mod start;
pub mod testing;

pub use async_trait::async_trait;
pub use jackfield_event as event;
pub use schemars;
pub use serde;
pub use serde_json;
pub use tokio;
pub use tracing;

pub use crate::{
    cx::Cx,
    emit::NewEvent,
    empty::Empty,
    error::{Error, Result},
    kv::Kv,
    manifest::Manifest,
    needs::Needs,
    plugin::{Outcome, Plugin},
    proxy::Proxy,
    receipt::Receipt,
    secret::Secret,
    start::Start,
};

/// What nearly every plugin uses, for `use jackfield_sdk::prelude::*;`.
///
/// The derives of serde and schemars name their crates, so a plugin's `Cargo.toml` lists `serde` and `schemars` too.
pub mod prelude {
    pub use crate::{
        Cx, Empty, Error, Kv, Needs, NewEvent, Outcome, Plugin, Receipt, Result, Secret, Start, async_trait,
        event::Event, export_plugin, export_provider, tracing,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::json;
}

/// For [`export_plugin!`] alone; not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        ffi::{Note, Table, entry, note},
        provider::AsPlugin,
    };
}

/// Makes a library of the crate: exports the plugin's one function and its identity.
///
/// It stands once in a crate, at the top of `lib.rs`, and the crate's type is `cdylib`; with `rlib` beside it, the
/// crate's own tests in `tests/` can use it as well. See the [crate's docs](crate) for a whole plugin. Two such crates cannot be
/// linked into one program, since both export the same function: tests of several plugins together load the libraries.
///
/// It does not compile for a name that is not `[a-z0-9-]` or is longer than 63 bytes:
///
/// ```compile_fail,E0080
/// # use jackfield_sdk::prelude::*;
/// struct Shouting;
///
/// #[async_trait]
/// impl Plugin for Shouting {
///     type Config = Empty;
///     type Input = Empty;
///     type Output = Empty;
///     const NAME: &'static str = "SHOUTING";
///     const VERSION: &'static str = "1.0.0";
///     // …
/// #   async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
/// #   async fn call(&self, _: Empty, _: &Cx) -> Result<Outcome<Empty>> { Ok(Outcome::Done(Empty {})) }
/// }
///
/// export_plugin!(Shouting);
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".note.jackfield")]
            static NOTE: $crate::__private::Note = $crate::__private::note::<$plugin>();

            #[unsafe(no_mangle)]
            extern "C" fn jf_plugin_entry(
                host_major: u32,
                host_minor: u32,
            ) -> *const $crate::__private::Table {
                $crate::__private::entry::<$plugin>(host_major, host_minor)
            }
        };
    };
}

/// Makes a library of the crate, like [`export_plugin!`], of a type that implements [`Provider`](provider::Provider).
///
/// ```
/// # use jackfield_sdk::{prelude::*, provider::*};
/// # struct Acme;
/// # #[async_trait]
/// # impl Provider for Acme {
/// #     type Config = Empty;
/// #     const NAME: &'static str = "acme";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Acme) }
/// #     async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> { request.path_token() }
/// #     async fn translate(&self, _: &Request<'_>) -> Result<Translation> { Ok(Translation::unrecognized()) }
/// # }
/// // `Acme` implements `Provider`.
/// export_provider!(Acme);
/// ```
#[macro_export]
macro_rules! export_provider {
    ($provider:ty) => {
        $crate::export_plugin!($crate::__private::AsPlugin<$provider>);
    };
}

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The plugin in the project's README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ProjectReadme;
