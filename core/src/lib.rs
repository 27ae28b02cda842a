//! Jackfield: a plugin-based event router for webhooks.
//!
//! Data goes right: `ingress → provider → router → journal → dispatcher → plugin`. Imports go down: words,
//! stages, drivers, root. `ARCHITECTURE.md` beside this package has the map, and `tests/architecture.rs`
//! checks it.

// Words: what every stage speaks of.
pub mod clock;
pub mod delivery;
pub mod document;
pub mod fault;
pub mod file;
pub mod rate;
pub mod reason;
pub mod schema;
pub mod secret;
pub mod watch;

// Stages: each proves something and hands the proof on.
pub mod journal;
pub mod plugin;
pub mod provider;
pub mod router;

// Drivers: into the journal, out of it, and beside it.
pub mod admin;
pub mod dispatcher;
pub mod ingress;

// The root: builds, runs and stops the rest.
pub mod app;
pub mod case;
pub mod cli;
pub mod config;
pub mod telemetry;
