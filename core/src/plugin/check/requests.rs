//! Requests that prove nothing: what anybody may send to the address of a source, and heads that no router writes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A request, and what is wrong with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Unproven {
    /// As in `an empty body`.
    pub(super) what: String,
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// Whether the source is to believe it all the same.
    pub(super) unverified: bool,
}

/// All of them.
pub(super) fn all() -> Vec<Unproven> {
    let nonsense = json!([
        ["", ""],
        ["authorization", "Bearer \u{fffd}\u{0}"],
        ["x-signature", "sha256="],
        ["x-signature", "v1,"],
        ["x-hub-signature-256", "sha256=zz"],
        ["date", "yesterday"],
        ["content-length", "-1"],
    ]);
    let thousand: Vec<_> = (0..1000)
        .map(|number| json!([format!("x-header-{number}"), "value"]))
        .collect();
    let long = json!([
        ["x-signature", "a".repeat(64 << 10)],
        ["x-timestamp", "9".repeat(64 << 10)]
    ]);
    let (none, secret) = (json!([]), head(&json!([]), true));
    let proofless = [
        (
            "nothing but an address, where there is no secret",
            head(&none, false),
            Vec::new(),
        ),
        ("an empty body", secret.clone(), Vec::new()),
        (
            "a body that is no text",
            secret.clone(),
            b"\xff\xfe{}\x00".to_vec(),
        ),
        ("JSON that breaks off", secret.clone(), b"{\"a\": ".to_vec()),
        ("a thousand lists in one another", secret.clone(), nested()),
        ("a body of a megabyte", secret, vec![b' '; 1 << 20]),
        (
            "headers that make no sense",
            head(&nonsense, true),
            b"{}".to_vec(),
        ),
        ("a thousand headers", head(&thousand.into(), true), b"{}".to_vec()),
        ("headers of 64 KiB", head(&long, true), b"{}".to_vec()),
        ("no head", Vec::new(), b"{}".to_vec()),
        ("a head that is no JSON", b"head".to_vec(), b"{}".to_vec()),
        ("a head without fields", b"{}".to_vec(), b"{}".to_vec()),
    ];
    let believed = [
        (
            "a body that is no text, from everybody",
            b"\xff\xfe{}\x00".to_vec(),
        ),
        ("a thousand lists in one another, from everybody", nested()),
        ("`null`, from everybody", b"null".to_vec()),
    ];
    let request = |what: &str, head, body, unverified| Unproven {
        what: what.to_owned(),
        head,
        body,
        unverified,
    };
    let proofless = proofless
        .into_iter()
        .map(|(what, head, body)| request(what, head, body, false));
    let believed = believed
        .into_iter()
        .map(|(what, body)| request(what, everybodys(), body, true));
    proofless.chain(believed).collect()
}

/// The one for many at a time.
pub(super) fn one() -> (String, String) {
    (
        String::from_utf8_lossy(&head(&json!([]), true)).into_owned(),
        "{}".to_owned(),
    )
}

/// A head with these headers, of a source with a secret or with none.
fn head(headers: &Value, secret: bool) -> Vec<u8> {
    let secrets = if secret {
        json!(["a secret that nobody knows"])
    } else {
        json!([])
    };
    of(headers, &secrets, false)
}

/// A head of a source that believes everybody.
fn everybodys() -> Vec<u8> {
    of(&json!([]), &json!([]), true)
}

fn of(headers: &Value, secrets: &Value, unverified: bool) -> Vec<u8> {
    let head = json!({
        "source": "plugin-check", "received": "2026-01-01T00:00:00Z", "headers": headers, "secrets": secrets,
        "unverified": unverified, "path_token": false, "options": {},
    });
    head.to_string().into_bytes()
}

fn nested() -> Vec<u8> {
    [[b'['; 1000], [b']'; 1000]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_has_a_proof_and_each_is_told_from_the_others() {
        let all = all();
        for request in &all {
            let Ok(head) = serde_json::from_slice::<Value>(&request.head) else {
                continue;
            };
            assert_ne!(head["path_token"], true, "{}", request.what);
            assert_eq!(head["unverified"] == true, request.unverified, "{}", request.what);
        }
        let mut names: Vec<_> = all.iter().map(|request| &request.what).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
