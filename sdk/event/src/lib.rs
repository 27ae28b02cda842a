//! The common event: a [CloudEvents 1.0] event in JSON whose `data` has the same fields for every provider.
//!
//! An [`Event`] is what a rule matches and what a plugin reads. It is immutable once made. A field that a
//! provider does not have is absent, never `null` and never invented. The provider's own payload stays whole,
//! byte for byte, in `data.payload`.
//!
//! [CloudEvents 1.0]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md

mod event;
mod id;
mod timestamp;

pub use event::{
    Actor, Artifact, Commit, DATA_SCHEMA, Data, Event, Project, Resource, SpecVersion, Verification,
    join_payload, schema,
};
pub use id::{DeliveryId, EventId, ParseIdError};
pub use timestamp::{ParseTimestampError, Timestamp};
