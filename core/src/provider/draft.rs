//! What every translation begins with, and the pieces of which several are made.

use std::borrow::Cow;

use jackfield_event::{DATA_SCHEMA, Data, Event, EventId, SpecVersion};

use super::{Translated, Translation, Verified};

/// How many artifacts an event lists at most. Real ones have a handful; a body of nothing but addresses must
/// not become an event many times its size. All of them stay in the payload.
pub(super) const MAX_ARTIFACTS: usize = 100;

/// The event `id` of `source`, with all attributes that do not depend on the body; its time is the arrival.
pub(super) fn event(
    provider: &str,
    id: EventId,
    source: &str,
    request: &Verified<'_>,
    kind: String,
) -> Box<Event> {
    Box::new(Event {
        specversion: SpecVersion::V1,
        id,
        source: ["/in/", source].concat(),
        kind,
        subject: None,
        time: request.request().received,
        datacontenttype: "application/json".into(),
        dataschema: DATA_SCHEMA.into(),
        provider: provider.into(),
        sourcename: source.into(),
        providerdelivery: None,
        providerattempt: None,
        verified: request.verification(),
        data: Data::default(),
    })
}

/// The translation to `event`, which `dedup` tells from others of its source.
pub(super) fn translation(event: Box<Event>, dedup: Option<String>) -> Translation {
    Translation::Event(Translated { event, dedup })
}

/// `text` for a title: the first line that is not blank, white space folded, cut where it gets long.
pub(super) fn clip(text: &str) -> Cow<'_, str> {
    const LONG: usize = 80;
    let line = text.trim().lines().next().unwrap_or_default().trim_end();
    let plain = !line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}');
    if plain && line.len() <= LONG {
        return Cow::Borrowed(line);
    }
    let mut clipped: String = line.split_whitespace().collect::<Vec<_>>().join(" ");
    clipped.retain(|c| !c.is_control());
    if let Some((end, _)) = clipped.char_indices().nth(LONG) {
        clipped.truncate(end);
        clipped.truncate(clipped.trim_end().len());
        clipped.push('…');
    }
    Cow::Owned(clipped)
}

/// Appends `joint` and a clipped `text` to a title, where there is a text.
pub(super) fn append(title: &mut String, joint: &str, text: Option<&str>) {
    if let Some(text) = text {
        title.push_str(joint);
        title.push_str(&clip(text));
    }
}

/// The last segment of an address's path, where it looks like a file's name.
pub(super) fn file_name(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?;
    let (_, name) = path.split_once("://")?.1.rsplit_once('/')?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_holds_one_line_of_bearable_length() {
        for (text, clipped) in [
            ("Login", "Login"),
            ("  two\nlines ", "two"),
            ("a\tb", "a b"),
            ("", ""),
            (&"ä".repeat(81), &format!("{}…", "ä".repeat(80))),
            (&"ä".repeat(80), &"ä".repeat(80)),
        ] {
            assert_eq!(clip(text), clipped);
        }
    }

    #[test]
    fn a_file_is_named_by_its_address() {
        for (url, name) in [
            (
                "https://a.example/b/result.zip?X-Amz-Signature=1.2#x",
                Some("result.zip"),
            ),
            ("https://a.example/jobs/6/result", None),
            ("https://a.example", None),
            ("https://a.example/b/.hidden", None),
            ("result.zip", None),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
