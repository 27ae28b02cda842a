//! Reads what happened in a case: an event in one of three forms, or a request that becomes one.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use jackfield_event::{DATA_SCHEMA, Event, EventId, Timestamp, Verification};
use serde_json::{Map, Value, json};

use super::{Occurrence, read};
use crate::{
    document::{Item, Table},
    fault::Faults,
    provider::{self, Request, Translated, Translation, plugin_of},
    router::missing,
};

/// Reads the event of a case, or its request.
pub(super) fn read(
    table: &mut Table<'_>,
    base: &Path,
    providers: &BTreeMap<String, String>,
    faults: &mut Faults,
) -> Option<Occurrence> {
    let keys = ["event", "event_json", "event_file", "request"];
    let help = "write `event = { type = \"…\" }`, `event_json = '''…'''`, `event_file = \"….json\"` or `[case.request]`";
    let item = read::one_of(table, &keys, "event", help, faults)?;
    match item.key() {
        "request" => request(item.table(faults)?, base, providers, faults),
        "event_json" => {
            let value = read::json(&item, faults)?;
            event(&item, value, faults)
        }
        "event_file" => {
            let text = file(&item, base, faults)?;
            let value = serde_json::from_slice(&text);
            let value =
                value.map_err(|error| faults.push(item.fault(format!("the file is not JSON: {error}"))));
            event(&item, value.ok()?, faults)
        }
        _ => {
            item.table(faults)?;
            let before = faults.len();
            strange(&item, &mut Vec::new(), faults);
            let value = item.json(faults)?;
            (faults.len() == before).then_some(())?;
            event(&item, value, faults)
        }
    }
}

/// An event, of which a person needs to write no more than what matters.
fn event(item: &Item<'_>, value: Value, faults: &mut Faults) -> Option<Occurrence> {
    // As `events show -o json` prints it.
    let value = match value {
        Value::Object(mut shown) if !shown.contains_key("type") && shown.contains_key("event") => {
            shown.remove("event").unwrap_or_default()
        }
        value => value,
    };
    let Value::Object(mut members) = value else {
        faults.push(item.fault("found no object, expected an event"));
        return None;
    };
    if !members.contains_key("type") {
        let fault = item.fault("the event has no `type`");
        faults.push(fault.help("say what happened, as in `type = \"com.github.push\"`"));
        return None;
    }
    for (name, value) in usual() {
        members.entry(name).or_insert(value);
    }
    let event = Event::from_json(Value::Object(members).to_string());
    let mut event = event
        .map_err(|error| {
            let fault = item.fault(format!("this is not an event: {}", without_place(&error)));
            faults.push(fault.help("`jackfield schema event` says what an event has"));
        })
        .ok()?;
    let payload = event.data.payload.take();
    Some(Occurrence {
        event: Box::new(event),
        payload: payload.map_or_else(
            || Bytes::from_static(b"null"),
            |payload| payload.get().to_owned().into(),
        ),
    })
}

/// What every event has, and what stands there where a case does not say.
fn usual() -> Map<String, Value> {
    let usual = json!({
        "specversion": "1.0",
        "id": EventId::new(moment(), 0),
        "source": "/in/case",
        "time": moment(),
        "datacontenttype": "application/json",
        "dataschema": DATA_SCHEMA,
        "provider": "case",
        "sourcename": "case",
        "verified": "none",
        "data": {},
    });
    match usual {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Reports the names that no event has.
fn strange<'d>(item: &Item<'d>, path: &mut Vec<&'d str>, faults: &mut Faults) {
    if let Some(table) = item.as_table() {
        for entry in table.entries() {
            path.push(entry.key());
            match missing(path.iter().copied()) {
                Some(missing) => {
                    let fault = entry.key_fault(format!("no event has `{}`", path.join(".")));
                    faults.push(fault.help(missing.help()));
                }
                None => strange(&entry, path, faults),
            }
            path.pop();
        }
    }
    for item in item.as_array().into_iter().flatten() {
        strange(&item, path, faults);
    }
}

/// A request, translated by the adapter of its provider as if it had been verified.
fn request(
    mut table: Table<'_>,
    base: &Path,
    providers: &BTreeMap<String, String>,
    faults: &mut Faults,
) -> Option<Occurrence> {
    let source = table.required("source", faults);
    let named = table.take("provider");
    let received = table
        .take("received")
        .map_or_else(|| Some(moment()), |item| time(&item, faults));
    let ways = [
        ("signature", Verification::Signature),
        ("path-token", Verification::PathToken),
        ("none", Verification::None),
    ];
    let verified = table.one_of("verified", &ways, faults);
    let headers = table.table("headers", faults);
    let headers = headers.map_or_else(HeaderMap::new, |table| self::headers(&table, faults));
    let help = "write `body = '''…'''` or `body_file = \"….json\"`";
    let body = read::one_of(&mut table, &["body", "body_file"], "body", help, faults);
    table.finish(faults);
    let (item, body) = body.and_then(|item| {
        let body = match item.key() {
            "body" => item
                .string(faults)
                .map(|text| Bytes::from(text.trim().to_owned())),
            _ => file(&item, base, faults),
        };
        Some((item, body?))
    })?;
    let source_item = source?;
    let source = source_item.string(faults)?;
    let name = match &named {
        Some(item) => item.string(faults)?,
        None => match providers.get(&source) {
            Some(provider) => provider.clone(),
            None => {
                let fault = source_item.fault(format!("the configuration has no source `{source}`"));
                faults.push(fault.help("say whose request it is, as in `provider = \"zeplin\"`"));
                return None;
            }
        },
    };
    let place = named.as_ref().unwrap_or(&source_item);
    if plugin_of(&name).is_some() {
        let fault = place.fault(format!("only the plugin knows what `{name}` makes of a request"));
        faults.push(fault.help("write the event that it becomes, as `events show -o json` prints it"));
        return None;
    }
    let request = Request {
        headers,
        body,
        token: None,
        received: received.unwrap_or_else(moment),
    };
    match translate(&name, &source, &request) {
        Ok(Translation::Event(Translated { mut event, .. })) => {
            received?;
            event.verified = verified.unwrap_or_else(|| provider::verification(&name));
            Some(Occurrence {
                event,
                payload: request.body,
            })
        }
        Ok(Translation::Handshake(_)) => {
            faults.push(item.fault("this is a handshake, which is answered and becomes no event"));
            None
        }
        Err(Untranslated::Provider(error)) => {
            faults.push(place.fault(error));
            None
        }
        Err(Untranslated::Body(error)) => {
            faults.push(item.fault(error));
            None
        }
    }
}

/// Why a request becomes no event, and which part of it is to blame.
enum Untranslated {
    Provider(String),
    Body(String),
}

fn translate(name: &str, source: &str, request: &Request) -> Result<Translation, Untranslated> {
    // No secret is at hand where rules are tried out, nor would an old signature hold.
    let options = provider::Options {
        provider: name.to_owned(),
        unverified: true,
        ..provider::Options::default()
    };
    let provider = provider::build(options).map_err(|error| Untranslated::Provider(error.to_string()))?;
    let body = |error: &dyn std::fmt::Display| Untranslated::Body(error.to_string());
    let verified = provider.verify(request).map_err(|error| body(&error))?;
    let translated = provider.translate(EventId::new(request.received, 0), source, &verified);
    translated.map_err(|error| body(&error))
}

fn headers(table: &Table<'_>, faults: &mut Faults) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for item in table.entries() {
        let name = item.key().parse::<HeaderName>();
        let name = name.map_err(|error| faults.push(item.key_fault(error)));
        // A header that came several times is a list.
        let values = item.as_array().unwrap_or_else(|| vec![item.clone()]);
        for item in values {
            let value = item.string(faults).map(|text| HeaderValue::from_str(&text));
            match value {
                Some(Ok(value)) => headers.extend(name.clone().ok().map(|name| (name, value))),
                Some(Err(error)) => faults.push(item.fault(error)),
                None => {}
            }
        }
    }
    headers
}

fn time(item: &Item<'_>, faults: &mut Faults) -> Option<Timestamp> {
    let text = item.string(faults)?;
    let time = text.parse().ok();
    if time.is_none() {
        faults.push(item.fault(format!(
            "found \"{text}\", expected a time such as \"2026-01-01T00:00:00Z\""
        )));
    }
    time
}

fn file(item: &Item<'_>, base: &Path, faults: &mut Faults) -> Option<Bytes> {
    let path = base.join(item.string(faults)?);
    let read = fs::read(&path);
    let unreadable = |error| faults.push(item.fault(format!("{} cannot be read: {error}", path.display())));
    read.map_err(unreadable).ok().map(Bytes::from)
}

/// The message without line and column, which are those of a text that nobody sees.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = text.rfind(" at line ");
    place.map_or(text.clone(), |place| text[..place].to_owned())
}

/// When everything happens of which a case does not say when.
fn moment() -> Timestamp {
    Timestamp::from_secs(1_767_225_600).expect("2026-01-01 is a moment of our time")
}
