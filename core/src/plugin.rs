//! Plugins: native libraries, loaded step by step, and the instances of them that steps call.
//!
//! What comes in is a [`StepCall`]; what goes out is a [`Report`], whatever the plugin does. Who makes the call
//! (this process, or a [`worker`] process of the instance's own) hides behind [`Caller`]. What a plugin may ask of the router is
//! [`Host`].
//!
//! A [`Registry`] has them all. How a file gets into it: [`directory`] (is it safe to read) → [`trust`] (is it
//! one that we want) → [`elf`] (is it a plugin, and where can it live) → [`stage`] (a private copy) → [`describe`] (its
//! manifest, asked in a child) → [`survey`] (does each configuration fit) → `ffi` (load, and make instances). Each step takes
//! what only the one before it makes, so that nothing unchecked is ever run; what fails a step is parked with the reason.
//! [`Watch`] has the registry look again when the directory has changed. A panic in a plugin, a time-out, a broken answer
//! are [`Report`]s like others. What an instance may do at all is what it both needs and is granted ([`grant`]); its process
//! confines itself to that (`sandbox`) before it loads the library.

mod by_hand;
pub mod check;
pub mod describe;
pub mod destination;
pub mod digest;
pub mod directory;
pub mod drive;
mod egress;
pub mod elf;
mod ffi;
pub mod grant;
mod instance;
mod limits;
mod log;
pub mod manifest;
pub mod note;
mod portrait;
mod registry;
mod rehearsal;
mod report;
mod sandbox;
pub mod stage;
pub mod survey;
pub mod trust;
mod vitals;
mod watch;
mod work;
mod workdir;
pub mod worker;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::DeliveryId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use by_hand::{ByHand, ByHandError, Called, Logged};
pub use describe::{Runner, describe_main};
pub use egress::{Egress, tunnel_main};
pub use ffi::{CreateError, InProcess, Library, OpenError, Setup, TableFault, glibc};
pub use grant::Grant;
pub use instance::{
    DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, Instance, InstanceOptions, Isolation, Visit, Visits,
};
pub use portrait::{Portrait, PortraitError};
pub use registry::{
    Approval, DEFAULT_DRAIN, Held, InstanceRecord, Options, PluginRecord, PluginState, Refused, Registry,
};
pub use rehearsal::Rehearsal;
pub use sandbox::{Sandbox, SandboxError, unenforced};
pub use survey::Survey;
pub use vitals::{Tally, Vitals};
pub use watch::Watch;
pub use work::RequestCall;
pub(crate) use workdir::remove as remove_workdir;
pub use worker::{Exit, Housing, Limits, Worker, worker_main};

use crate::{delivery::Outcome, fault::chain as reason_of, reason::Reason, secret::Secret};

/// One call of an instance for one step of a delivery.
#[derive(Clone, Debug)]
pub struct StepCall {
    /// The event in JSON, payload and all.
    pub event: Bytes,
    /// The rendered `with`, in JSON.
    pub input: Bytes,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The route's name.
    pub route: String,
    /// The step's id within its route.
    pub step: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The same for every attempt of this step of this delivery.
    pub idempotency_key: String,
    /// When the call is given up.
    pub deadline: Instant,
    /// Where the step may leave files for the steps after it: the delivery's own. The first that needs it makes it.
    pub workdir: PathBuf,
    /// Tells the plugin to stop.
    pub cancelled: CancellationToken,
}

/// How a call ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The code for it, where the outcome is not done.
    pub reason: Option<Reason>,
    /// What kind of failure the plugin says it was, as the ABI numbers it; 0 where it says nothing, or others speak for it. The
    /// router goes by the reason that is made of it.
    pub code: u32,
    /// What the plugin put out, in JSON; what later steps see as `steps.<id>`.
    pub output: Option<Bytes>,
    /// What went wrong, or why there was nothing to do, in the plugin's words.
    pub message: Option<String>,
    /// How long the plugin asks to wait before the next attempt.
    pub retry_after: Option<Duration>,
}

/// Makes calls of one instance.
#[async_trait]
pub trait Caller: Send + Sync + fmt::Debug {
    /// Makes one call and waits for its end. Never panics, whatever the plugin does.
    async fn call(&self, call: StepCall) -> Report;

    /// Has one request verified and translated, by an instance that is a provider. What it is done with is the output: a
    /// verdict, as the ABI has it, or anything.
    async fn receive(&self, _request: RequestCall) -> Report {
        report::no_provider()
    }

    /// Ends the instance: no call is made afterwards.
    async fn shutdown(&self, grace: Duration);

    /// How many calls go on although nobody waits for them any more.
    fn stuck(&self) -> usize {
        0
    }

    /// Why no call is to be made for now, where that is so: it would only wait.
    fn down(&self) -> Option<Arc<str>> {
        None
    }

    /// How the instance is.
    fn vitals(&self) -> Vitals {
        Vitals::default()
    }
}

/// What the router does for plugins. Whatever must be durable is, when the future is ready.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// Reads `key` of the instance's own key-value store.
    async fn kv_get(&self, instance: &str, key: &str) -> Result<Option<Bytes>, HostError>;

    /// Writes `key`; `None` deletes it. Expires after `ttl`, where there is one.
    async fn kv_put(
        &self,
        instance: &str,
        key: &str,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), HostError>;

    /// Reads the receipt that the instance keeps under an idempotency key.
    async fn receipt(&self, instance: &str, idempotency_key: &str) -> Result<Option<Receipt>, HostError>;

    /// Keeps a receipt of the instance's under an idempotency key, in place of the one before.
    async fn keep_receipt(
        &self,
        instance: &str,
        idempotency_key: &str,
        receipt: Receipt,
    ) -> Result<(), HostError>;

    /// Journals and routes a follow-up event that a plugin raises while it handles `cause`, the event of its call.
    async fn emit(&self, instance: &str, idempotency_key: &str, event: Bytes) -> Result<String, HostError>;

    /// A secret that the instance was not made with. In a router there is none: what an instance may know, it is given.
    async fn secret(&self, _instance: &str, _name: &str) -> Result<Option<Secret>, HostError> {
        Ok(None)
    }

    /// Adds to a metric of the plugin's own.
    fn metric(&self, instance: &str, name: &str, labels: &[(String, String)], value: f64);
}

/// A trace of what a step is about to do, or has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whether it is about to be done or is done.
    pub stage: ReceiptStage,
    /// What the plugin wrote down, in JSON.
    pub body: Bytes,
}

/// How far a step got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptStage {
    /// It is about to act; whether it did must be looked up.
    Intent,
    /// It has acted.
    Done,
}

/// Why the router could not do what a plugin asked for.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum HostError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}
