//! Plugins through the whole host: the same tests for a plugin in Rust and one in C, and plugins that are wrong.
//!
//! The libraries are built by the tests themselves, so that none is stale.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, what is not there is a failure; the exemption for tests leaves out functions beside them"
)]

mod apart;
mod battery;
mod bounds;
mod built;
mod calls;
mod check;
mod host;
mod instances;
mod lock;
mod museum;
mod replacement;
mod sandbox;
mod trial;
mod workers;
mod wrong;
