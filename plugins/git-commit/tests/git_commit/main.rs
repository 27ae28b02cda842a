//! The plugin through its C functions, against real repositories and the system's `git`.

#![expect(clippy::unwrap_used, reason = "where a test cannot be set up, it fails")]

mod built;
mod commits;
mod faults;
mod hostile;
mod once;
mod races;
mod transports;
mod world;
