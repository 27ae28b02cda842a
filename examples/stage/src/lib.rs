//! The stage on which the demo, the load run and the system tests play.
//!
//! Services that cannot be reached have stand-ins here that behave as their documentation says, errors included:
//! [`slack`], [`supernova`], [`appflow`]. Everything else is real: [`cargo`] builds the plugins, [`again`] runs their
//! tests against what was built, [`git`] makes repositories, [`ssh`] serves them, [`router`] runs the real binary and
//! kills it, [`disk`] has it lose power and fill up. A [`gate`] holds a stand-in at a chosen point, so that a test waits
//! for what happens and never for time; what the system knows of a [`process`] has to be looked at again, which [`wait`]
//! does. What was seen is [`told`] in plain words, and what a benchmark finds is held to its [`marks`].

pub mod again;
pub mod appflow;
pub mod cargo;
pub mod change;
pub mod disk;
pub mod gate;
pub mod git;
pub mod http;
pub mod load;
pub mod marks;
pub mod process;
pub mod router;
pub mod scene;
pub mod slack;
pub mod ssh;
pub mod supernova;
pub mod tls;
pub mod told;
pub mod wait;
pub mod zeplin;
