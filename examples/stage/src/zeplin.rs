//! What Zeplin posts; it needs no stand-in, since Jackfield never calls it.
//!
//! As <https://docs.zeplin.dev/docs/receiving-webhook-events> says, with what the API's models say of
//! `ScreenVersionSummary` where that page abridges.

use serde_json::{Value, json};

/// Where the picture of the screen is.
pub const SCREEN_IMAGE: &str = "https://cdn.zeplin.io/screens/5ed0610239707fea3f06903f.png";

/// The body for a new version of a screen.
pub fn screen_version(screen: &str) -> Value {
    json!({
        "event": "project.screen.version", "action": "created", "timestamp": 1_590_624_000,
        "resource": {
            "id": "5ed0610239707fea3f06903f", "type": "ScreenVersionSummary",
            "data": {
                "id": "5ed0610239707fea3f06903f",
                "commit": { "message": "Softer corners & a <new> header", "author": { "username": "ada" } },
                "image_url": SCREEN_IMAGE,
                "source": "figma", "width": 375, "height": 812, "created": 1_590_624_000
            }
        },
        "context": {
            "project": { "id": "5db81e73e1e36ee19f138c1a", "name": "Mobile App", "platform": "ios" },
            "screen": { "id": "5ed05ecf3356a7967b21f12b", "name": screen }
        },
        "actor": { "user": { "id": "5d9caaecb4a3fa9bc9718686", "username": "ada", "email": "ada@example.com" } }
    })
}

/// The same, as large as real ones are: 3 KB.
pub fn screen_version_of_3_kb() -> Vec<u8> {
    let mut body = screen_version("Sign in");
    let short = serde_json::to_vec(&body)
        .expect("a JSON value has a JSON form")
        .len();
    let layers: String = "layer "
        .chars()
        .cycle()
        .take(3 * 1024 - short - r#","description":"""#.len())
        .collect();
    body["resource"]["data"]["description"] = layers.into();
    serde_json::to_vec(&body).expect("a JSON value has a JSON form")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_large_body_is_exactly_3_kb() {
        assert_eq!(super::screen_version_of_3_kb().len(), 3 * 1024);
    }
}
