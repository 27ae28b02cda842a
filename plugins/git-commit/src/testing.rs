//! What this crate's tests share.

use jackfield_sdk::event::Event;

/// An event without a title or an actor.
pub(crate) fn event() -> Event {
    let json = r#"{
        "specversion": "1.0", "id": "evt_01kdvdna000000000000000000", "source": "/in/design-system",
        "type": "io.supernova.job.success", "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json", "dataschema": "urn:jackfield:event:1",
        "provider": "supernova", "sourcename": "design-system", "verified": "path-token", "data": {}
    }"#;
    Event::from_json(json.as_bytes()).unwrap()
}
