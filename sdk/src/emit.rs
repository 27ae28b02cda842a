//! Follow-up events.

use serde::Serialize;

/// An event that a plugin raises while it handles another, for [`Cx::emit`](crate::Cx::emit).
///
/// The router fills in the rest: id, source, time, and the event that caused it.
///
/// ```
/// use jackfield_sdk::{NewEvent, event::Data};
///
/// let title = Some("Tokens are published".to_owned());
/// let event = NewEvent::new("com.acme.tokens.published").subject("tokens/1.4.0").data(Data { title, ..Data::default() });
/// assert_eq!(
///     serde_json::to_value(&event).unwrap(),
///     serde_json::json!({
///         "type": "com.acme.tokens.published",
///         "subject": "tokens/1.4.0",
///         "data": { "title": "Tokens are published" }
///     })
/// );
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct NewEvent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    data: jackfield_event::Data,
}

impl NewEvent {
    /// An event of this type, in reverse-DNS and lower case, with neither subject nor data.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            subject: None,
            data: jackfield_event::Data::default(),
        }
    }

    /// The same event, with what it happened to.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same event, with its data in the common form.
    #[must_use]
    pub fn data(mut self, data: jackfield_event::Data) -> Self {
        self.data = data;
        self
    }
}
