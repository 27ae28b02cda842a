//! What nobody should send, write or drop into a directory: the real router answers clearly, leaves a reason, and
//! goes on as if nothing had been.

#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod clients;
mod files;
mod plugins;
mod process;
mod requests;
mod site;
