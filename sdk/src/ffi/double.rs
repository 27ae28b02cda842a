//! The host's side of the boundary, for tests: a table of host functions over a safe trait, and an instance that is driven
//! through the plugin's table, exactly as a host drives it.

mod host;
mod instance;

pub(crate) use self::{
    host::{Answer, Double, Replier, Request},
    instance::{CallParts, Driven, Failure, Op, describe},
};
