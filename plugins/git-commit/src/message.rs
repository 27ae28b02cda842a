//! What a commit says: its message, its trailers, and who wrote it.
//!
//! All of it may come from a payload. Whatever comes in, what goes out is text that is read in one way: one trailer block,
//! at the end, with our trailers in it exactly once. By them a commit is found again, so that it is us who read them:
//! git has ideas of its own about where a message ends.

use std::{collections::BTreeMap, fmt::Write as _};

use jackfield_sdk::event::{Actor, Event};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The trailer by which a commit is found again.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The trailers that only this plugin writes.
const RESERVED: [&str; 3] = ["Event-Id", "Artifact-Sha256", IDEMPOTENCY_KEY];
const LONGEST_SUBJECT: usize = 120;
const LONGEST_NAME: usize = 100;
const LONGEST_VALUE: usize = 1000;
const LONGEST_MESSAGE: usize = 64 * 1024;
/// At a line that ends in this, git takes a message for ended, and does not see the trailers behind it.
const SCISSORS: &str = "------------------------ >8 ------------------------";

/// A name and an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The name to show.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

/// What was given cannot be said in a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the message is {0} bytes long, more than {LONGEST_MESSAGE}")]
    TooLong(usize),
    #[error("the message is empty")]
    Empty,
    #[error("trailer `{0}` is not a name of letters, digits and hyphens")]
    TrailerName(String),
    #[error("trailer `{0}` is written by this plugin alone")]
    Reserved(String),
    #[error("`artifact_sha256` is `{0}`, which is not a SHA-256 of 64 hexadecimal digits")]
    Digest(String),
    #[error("author `{0}` is not a name and an address")]
    Author(String),
}

impl Identity {
    /// This identity as git takes it, or `None` where nothing is left of it.
    pub(crate) fn sanitized(&self) -> Option<Self> {
        let name = clean_name(&self.name);
        let email: String = self
            .email
            .chars()
            .filter(|c| c.is_ascii_graphic() && !"<>\"\\".contains(*c))
            .collect();
        (!name.is_empty() && email.contains('@')).then_some(Self { name, email })
    }

    /// Who the event says did it. The address is made up and, ending with `.invalid`, can be nobody's: a payload
    /// must not be able to sign in the name of an account.
    pub(crate) fn of_actor(event: &Event) -> Option<Self> {
        let Actor { id, name, .. } = event.data.actor.as_ref()?;
        let name = clean_name(name.as_deref().or(id.as_deref())?);
        let mailbox = |text: &str| -> String {
            let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            text.chars().filter(plain).take(64).collect()
        };
        let local = mailbox(id.as_deref().unwrap_or_default());
        let local = if local.is_empty() {
            "unknown".to_owned()
        } else {
            local
        };
        (!name.is_empty()).then(|| Self {
            name,
            email: format!("{local}@{}.invalid", mailbox(&event.provider)),
        })
    }
}

/// Checks `given`, a message of the rule's author; without one, a line is made from the event.
pub(crate) fn message(given: Option<&str>, event: &Event) -> Result<String, MessageError> {
    let Some(given) = given else {
        let title = event
            .data
            .title
            .as_deref()
            .map(single_line)
            .filter(|title| !title.is_empty());
        return Ok(shorten(
            &title.unwrap_or_else(|| format!("Handle {}", single_line(&event.kind))),
            LONGEST_SUBJECT,
        ));
    };
    if given.len() > LONGEST_MESSAGE {
        return Err(MessageError::TooLong(given.len()));
    }
    let lines = given.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<String> = lines
        .lines()
        .map(|line| clean(line).trim_end().to_owned())
        .collect();
    let text = lines.join("\n");
    let text = text.trim();
    if text.is_empty() {
        return Err(MessageError::Empty);
    }
    let harmless = |line: &str| match line.ends_with(SCISSORS) {
        true => format!(" {line}"),
        false => line.to_owned(),
    };
    Ok(text.lines().map(harmless).collect::<Vec<_>>().join("\n"))
}

/// The trailers of a commit, ours last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailers(Vec<(String, String)>);

impl Trailers {
    /// Puts the trailers together. Line breaks in values become spaces.
    pub(crate) fn new(
        extra: &BTreeMap<String, String>,
        event: &Event,
        digest: Option<&str>,
        key: &str,
    ) -> Result<Self, MessageError> {
        let mut trailers = Vec::new();
        for (name, value) in extra {
            check_trailer_name(name)?;
            trailers.push((name.clone(), single_line(value)));
        }
        trailers.push(("Event-Id".to_owned(), event.id.to_string()));
        if let Some(digest) = digest {
            if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MessageError::Digest(shorten(&single_line(digest), 80)));
            }
            trailers.push(("Artifact-Sha256".to_owned(), digest.to_ascii_lowercase()));
        }
        trailers.push((IDEMPOTENCY_KEY.to_owned(), single_line(key)));
        Ok(Self(trailers))
    }

    /// The whole text of a commit: `message`, a blank line, the trailers.
    ///
    /// Trailers are those of the last paragraph. That is ours, so what looks like a trailer in the message is text.
    pub(crate) fn under(&self, message: &str) -> String {
        let mut text = format!("{message}\n\n");
        for (name, value) in &self.0 {
            writeln!(text, "{name}: {value}").expect("a String takes all that is written");
        }
        text
    }
}

/// Whether the text of a commit has the key among its trailers.
pub(crate) fn carries(text: &str, key: &str) -> bool {
    let line = format!("{IDEMPOTENCY_KEY}: {}", single_line(key));
    text.lines()
        .rev()
        .skip_while(|line| line.trim().is_empty())
        .take_while(|line| !line.trim().is_empty())
        .any(|trailer| trailer.trim_end() == line)
}

fn check_trailer_name(name: &str) -> Result<(), MessageError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('-') || !name.bytes().all(plain) {
        return Err(MessageError::TrailerName(shorten(&single_line(name), 80)));
    }
    match RESERVED
        .iter()
        .find(|reserved| reserved.eq_ignore_ascii_case(name))
    {
        Some(reserved) => Err(MessageError::Reserved((*reserved).to_owned())),
        None => Ok(()),
    }
}

fn clean_name(name: &str) -> String {
    let name: String = single_line(name).chars().filter(|c| !"<>".contains(*c)).collect();
    // git drops these at either end, and refuses a name of nothing else.
    let crud = |c: char| c.is_whitespace() || ".,:;\"\\'".contains(c);
    shorten(name.trim_matches(crud), LONGEST_NAME)
}

/// `text` on one line: runs of white space, line breaks among them, are one space.
fn single_line(text: &str) -> String {
    let words: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .collect();
    let words = clean(&words);
    let line = words
        .split(' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    shorten(&line, LONGEST_VALUE)
}

/// `line` without control characters, and without those that turn the direction of text around.
fn clean(line: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    line.chars().filter(|c| !hidden(*c)).collect()
}

fn shorten(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(title: Option<&str>, actor: Option<(Option<&str>, Option<&str>)>) -> Event {
        let mut event = jackfield_sdk::testing::event();
        event.data.title = title.map(str::to_owned);
        event.data.actor = actor.map(|(id, name)| Actor {
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
            avatar: None,
        });
        event
    }

    #[test]
    fn without_a_message_the_events_title_is_the_one_line() {
        for (title, expected) in [
            (Some("Exported tokens"), "Exported tokens"),
            (Some("a\n\nIdempotency-Key: forged"), "a Idempotency-Key: forged"),
            (Some("\u{202e}evil\u{1b}[31m"), "evil[31m"),
            (Some(" \n\t "), "Handle io.supernova.job.success"),
            (None, "Handle io.supernova.job.success"),
        ] {
            assert_eq!(message(None, &event(title, None)).unwrap(), expected);
        }
        let long = message(None, &event(Some(&"é".repeat(500)), None)).unwrap();
        assert_eq!(
            (long.chars().count(), long.chars().last()),
            (LONGEST_SUBJECT, Some('…'))
        );
    }

    #[test]
    fn a_given_message_keeps_its_lines() {
        let given = "Subject\r\n\r\nBody \0one\rBody two   \n\n";
        assert_eq!(
            message(Some(given), &event(None, None)).unwrap(),
            "Subject\n\nBody one\nBody two"
        );
        assert_eq!(message(Some(" \n"), &event(None, None)), Err(MessageError::Empty));
        let long = "x".repeat(LONGEST_MESSAGE + 1);
        assert_eq!(
            message(Some(&long), &event(None, None)),
            Err(MessageError::TooLong(long.len()))
        );
    }

    #[test]
    fn an_actor_becomes_an_author_that_is_nobodys_account() {
        for (actor, expected) in [
            (None, None),
            (Some((None, None)), None),
            (
                Some((Some("u-1"), Some("Ada Lovelace"))),
                Some(("Ada Lovelace", "u-1@supernova.invalid")),
            ),
            (Some((Some("u-1"), None)), Some(("u-1", "u-1@supernova.invalid"))),
            (
                Some((None, Some("Ada"))),
                Some(("Ada", "unknown@supernova.invalid")),
            ),
            (
                Some((Some("ada@corp.com"), Some("A\n<root@corp.com>"))),
                Some(("A root@corp.com", "adacorp.com@supernova.invalid")),
            ),
            (Some((Some("1"), Some(" <>.,;\"' "))), None),
        ] {
            let author = Identity::of_actor(&event(None, actor));
            let expected = expected.map(|(name, email)| Identity {
                name: name.into(),
                email: email.into(),
            });
            assert_eq!(author, expected, "{actor:?}");
        }
    }

    #[test]
    fn trailers_stand_alone_at_the_end_and_break_no_line() {
        let extra = BTreeMap::from([("Reviewed-by".to_owned(), "x\nIdempotency-Key: forged".to_owned())]);
        let digest = "AB".repeat(32);
        let event = event(None, None);
        let trailers = Trailers::new(&extra, &event, Some(&digest), "key 1\r\n").unwrap();
        let expected = format!(
            "Subject\n\nReviewed-by: x Idempotency-Key: forged\nEvent-Id: {}\nArtifact-Sha256: {}\nIdempotency-Key: key 1\n",
            event.id,
            digest.to_lowercase()
        );
        assert_eq!(trailers.under("Subject"), expected);
    }

    #[test]
    fn a_commit_carries_the_key_of_its_last_paragraph_and_no_other() {
        let event = event(None, None);
        let trailers = |key| Trailers::new(&BTreeMap::new(), &event, None, key).unwrap();
        let forging = format!("Subject\n\nIdempotency-Key: forged\n# {SCISSORS}\n# more");
        let text = trailers("key\n1").under(&message(Some(&forging), &event).unwrap());
        for (text, key, carried) in [
            (text.as_str(), "key\n1", true),
            // Somebody has signed it off.
            (&format!("{text}Signed-off-by: x\n\n"), "key 1", true),
            (&text, "forged", false),
            (&text, "key", false),
            (&text, "", false),
            (&format!("{text}\nnews"), "key 1", false),
            ("Idempotency-Key: key 1", "key 1", true),
            ("", "key 1", false),
        ] {
            assert_eq!(carries(text, key), carried, "{key:?} in {text:?}");
        }
    }

    #[test]
    fn no_line_of_a_message_ends_it() {
        for (given, expected) in [
            (
                format!("Subject\n# {SCISSORS}\nmore"),
                format!("Subject\n # {SCISSORS}\nmore"),
            ),
            (format!(" ; {SCISSORS}  "), format!(" ; {SCISSORS}")),
        ] {
            assert_eq!(message(Some(&given), &event(None, None)).unwrap(), expected);
        }
    }

    #[test]
    fn trailers_that_would_forge_are_refused() {
        let refused = |name: &str| {
            let extra = BTreeMap::from([(name.to_owned(), "x".to_owned())]);
            Trailers::new(&extra, &event(None, None), None, "k").unwrap_err()
        };
        for name in ["idempotency-key", "EVENT-ID", "Artifact-Sha256"] {
            assert!(matches!(refused(name), MessageError::Reserved(_)), "{name}");
        }
        for name in ["", "-x", "a b", "a:b", "a\nb", "ä", "Idempotency-Key "] {
            assert!(matches!(refused(name), MessageError::TrailerName(_)), "{name:?}");
        }
        let digest = Trailers::new(&BTreeMap::new(), &event(None, None), Some("12"), "k");
        assert_eq!(digest.unwrap_err(), MessageError::Digest("12".into()));
    }
}
