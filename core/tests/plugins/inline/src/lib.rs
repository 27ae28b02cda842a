#![forbid(unsafe_code)]
//! The plugin `trial`, whose calls begin on the threads that bring them.

#[path = "../../trial/src/lib.rs"]
pub mod trial;
