//! The common event: a [CloudEvents 1.0] event in JSON whose `data` has the same fields for every provider.
//!
//! An [`Event`] is what a rule matches and what a plugin reads. It is immutable once made. A field that a
//! provider does not have is absent, never `null` and never invented. The provider's own payload stays whole,
//! byte for byte, in `data.payload`.
//!
//! ```
//! use jackfield_event::Event;
//!
//! let event = Event::from_json(
//!     br#"{
//!         "specversion": "1.0", "id": "evt_01kdvdna000000000000000000", "source": "/in/design-system",
//!         "type": "io.supernova.job.success", "subject": "job/6", "time": "2026-01-01T00:00:00Z",
//!         "datacontenttype": "application/json", "dataschema": "urn:jackfield:event:1",
//!         "provider": "supernova", "sourcename": "design-system", "verified": "path-token",
//!         "data": {
//!             "outcome": "success", "title": "Example exporter finished",
//!             "artifacts": [{ "name": "result.zip", "url": "https://example.com/6", "auth": "supernova" }],
//!             "payload": { "job": { "id": "6",   "status": "Success" } }
//!         }
//!     }"#,
//! )?;
//! assert_eq!(event.kind, "io.supernova.job.success");
//! assert_eq!(event.data.artifacts[0].auth.as_deref(), Some("supernova"));
//! assert!(event.data.project.is_none());
//!
//! // The provider's own words, white space and all.
//! let payload = event.data.payload.as_ref().ok_or("no payload")?;
//! assert_eq!(payload.get(), r#"{ "job": { "id": "6",   "status": "Success" } }"#);
//!
//! // What was read is what is written.
//! let again = Event::from_json(event.to_json())?;
//! assert_eq!(again.to_json(), event.to_json());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [CloudEvents 1.0]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod event;
mod id;
mod timestamp;

pub use event::{
    Actor, Artifact, Commit, DATA_SCHEMA, Data, Event, Project, Resource, SpecVersion, Verification,
    join_payload, schema,
};
pub use id::{DeliveryId, EventId, ParseIdError};
pub use timestamp::{ParseTimestampError, Timestamp};
