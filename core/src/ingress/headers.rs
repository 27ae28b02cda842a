//! Which headers of a request are kept in the journal.

use hyper::HeaderMap;

/// The headers that help a person to understand a delivery later, in the order in which they came.
///
/// A list of what is allowed, not of what is forbidden: a header that nobody thought of could hold a secret. Of
/// those that prove something only the presence is kept.
pub(super) fn kept(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let among = |names: &[&'static str]| names.iter().copied().find(|known| name == known);
        if let Some(name) = among(KEPT) {
            kept.push((name, String::from_utf8_lossy(value.as_bytes()).into_owned()));
        } else if let Some(name) = among(REDACTED) {
            kept.push((name, "(redacted)".to_owned()));
        }
    }
    kept
}

const KEPT: &[&str] = &[
    "content-type",
    "user-agent",
    "traceparent",
    "tracestate",
    "x-request-id",
    "zeplin-attempt-number",
    "zeplin-delivery-id",
    "zeplin-delivery-timestamp",
    "zeplin-version",
    "zeplin-webhook-id",
];

const REDACTED: &[&str] = &["authorization", "cookie", "zeplin-signature"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_redacted_and_unknown_headers_dropped() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("zeplin-signature", "c0ffee"),
            ("authorization", "Bearer hunter2"),
            ("x-internal-token", "hunter2"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let expected = [
            ("content-type", "application/json"),
            ("zeplin-signature", "(redacted)"),
            ("authorization", "(redacted)"),
        ];
        assert_eq!(
            kept(&headers),
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }
}
