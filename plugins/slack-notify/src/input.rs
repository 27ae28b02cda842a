//! What a step asks for, and the checks that Slack would otherwise do after the fact.

use jackfield_sdk::{Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A message. It has a `text`, `blocks`, or both.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where to post: a channel's id, its `#name`, or a person's id. Required with a token, unless the instance has a
    /// channel; refused with a webhook, which has its own. An id is best: it survives renaming, and can be looked up
    /// without the scope `channels:read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The message in Slack's markup, of at most 40,000 characters; with `blocks`, what notifications show.
    /// Interpolated values are escaped: they make no links and mention nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-escape" = "mrkdwn"))]
    pub text: Option<String>,
    /// The message in Block Kit, at most 50 blocks. Interpolated values in texts are escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "blocks_schema")]
    pub blocks: Option<Vec<Value>>,
    /// The `ts` of a message to answer in its thread: `{{ steps.<id>.ts }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_ts: Option<String>,
    /// Whether an answer in a thread shows in the channel too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_broadcast: Option<bool>,
    /// The name to post under. Wants the scope `chat:write.customize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The emoji to post under, as in `:art:`. Wants the scope `chat:write.customize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_emoji: Option<String>,
    /// The picture to post under. Wants the scope `chat:write.customize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
    /// Whether links in the text get a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfurl_links: Option<bool>,
    /// Whether pictures and films that the text links to are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfurl_media: Option<bool>,
}

impl Input {
    /// Checks the message against Slack's limits; every mistake is named.
    ///
    /// # Errors
    ///
    /// Permanent: the rule has to change.
    pub(crate) fn check(&self) -> Result<()> {
        let mut mistakes = Vec::new();
        let blocks = self.blocks.as_deref().unwrap_or_default();
        if self.text.as_deref().is_none_or(str::is_empty) && blocks.is_empty() {
            mistakes.push("the message has neither `text` nor `blocks`".to_owned());
        }
        at_most(&mut mistakes, "text", self.text.as_deref(), 40_000);
        if blocks.len() > 50 {
            mistakes.push(format!("blocks: there are {}, and Slack takes 50", blocks.len()));
        }
        for (index, block) in blocks.iter().enumerate() {
            check_block(&mut mistakes, &format!("blocks[{index}]"), block);
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid(mistakes.join("; "))),
        }
    }

    /// The message as Slack takes it, with a text for notifications where there are only blocks.
    pub(crate) fn body(&self) -> Map<String, Value> {
        let mut body = match json!(self) {
            Value::Object(body) => body,
            _ => Map::new(),
        };
        if self.text.as_deref().is_none_or(str::is_empty)
            && let Some(text) = self
                .blocks
                .as_ref()
                .and_then(|blocks| blocks.iter().find_map(first_text))
        {
            body.insert("text".to_owned(), text.into());
        }
        body
    }
}

fn check_block(mistakes: &mut Vec<String>, place: &str, block: &Value) {
    let Some(kind) = block.get("type").and_then(Value::as_str) else {
        mistakes.push(format!("{place}: it is not an object with a `type`"));
        return;
    };
    let text = block.pointer("/text/text").and_then(Value::as_str);
    let count = |key: &str| block.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    match kind {
        "section" => {
            at_most(mistakes, &format!("{place}.text"), text, 3_000);
            few(mistakes, &format!("{place}.fields"), count("fields"), 10);
            for (index, field) in block
                .get("fields")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .enumerate()
            {
                let text = field.get("text").and_then(Value::as_str);
                at_most(mistakes, &format!("{place}.fields[{index}]"), text, 2_000);
            }
        }
        "header" => at_most(mistakes, &format!("{place}.text"), text, 150),
        "context" => few(mistakes, &format!("{place}.elements"), count("elements"), 10),
        "actions" => few(mistakes, &format!("{place}.elements"), count("elements"), 25),
        // Slack knows more kinds, and more about these; its answer tells.
        _ => {}
    }
}

fn at_most(mistakes: &mut Vec<String>, place: &str, text: Option<&str>, most: usize) {
    let characters = text.map_or(0, |text| text.chars().count());
    if characters > most {
        mistakes.push(format!(
            "{place}: it has {characters} characters, and Slack takes {most}"
        ));
    }
}

fn few(mistakes: &mut Vec<String>, place: &str, count: usize, most: usize) {
    if count > most {
        mistakes.push(format!("{place}: there are {count}, and Slack takes {most}"));
    }
}

/// The first text of a block that says something by itself.
fn first_text(block: &Value) -> Option<String> {
    let text = block
        .pointer("/text/text")
        .or_else(|| block.pointer("/fields/0/text"))
        .or_else(|| block.pointer("/text"))?;
    text.as_str()
        .filter(|text| !text.is_empty())
        .map(|text| text.chars().take(3_000).collect())
}

/// Block Kit, as far as it is ours to know: which strings are markup, and in which of Slack's two languages. Strings elsewhere
/// (addresses, ids, the raw text of `rich_text`) are none, and must stay as they are.
fn blocks_schema(_: &mut SchemaGenerator) -> Schema {
    let text = json!({ "type": "string", "x-escape": "mrkdwn" });
    let text_object = json!({ "type": "object", "properties": { "text": text } });
    // The elements of a context are texts themselves; those of actions, inputs and carousels have some inside.
    let text_or_object =
        json!({ "type": ["string", "object"], "x-escape": "mrkdwn", "properties": { "text": text } });
    // A block has a text object; one of `markdown` has the text itself, and that is no `mrkdwn`.
    let kind = json!({ "type": "string", "x-escape": "none" });
    let block_text = json!({ "type": ["string", "object"], "x-escape": "markdown", "properties": { "type": kind, "text": text } });
    let option =
        json!({ "type": "object", "properties": { "text": text_object, "description": text_object } });
    let options = json!({ "type": "array", "items": option });
    let element = json!({ "type": "object", "properties": {
        "text": text_or_object,
        "options": options,
        "initial_options": options,
        "initial_option": option,
        "confirm": text_object,
        "title": text_object,
        "subtitle": text_object,
        "body": text_object,
    } });
    json_schema!({
        "type": ["array", "null"],
        "maxItems": 50,
        "items": {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": { "type": "string" },
                "text": block_text,
                "title": text_object,
                "subtitle": text_object,
                "body": text_object,
                "actions": { "type": "array", "items": element },
                "fields": { "type": "array", "items": text_object },
                "elements": { "type": "array", "items": element },
                "element": element,
                "accessory": element,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(value: Value) -> Input {
        serde_json::from_value(value).unwrap()
    }

    fn section(text: &str) -> Value {
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
    }

    #[test]
    fn what_slack_takes_passes() {
        let fields: Vec<_> = (0..10)
            .map(|_| json!({ "type": "mrkdwn", "text": "x".repeat(2_000) }))
            .collect();
        for message in [
            json!({ "text": "x".repeat(40_000) }),
            json!({ "text": "日".repeat(40_000) }),
            json!({ "blocks": vec![section(&"x".repeat(3_000)); 50] }),
            json!({ "blocks": [{ "type": "section", "fields": fields }] }),
            json!({ "blocks": [{ "type": "divider" }, { "type": "something_new", "text": 1 }] }),
        ] {
            input(message).check().unwrap();
        }
    }

    #[test]
    fn what_slack_would_refuse_is_refused_before_it_is_sent() {
        let table = [
            json!({}),
            json!({ "text": "", "blocks": [] }),
            json!({ "text": "x".repeat(40_001) }),
            json!({ "blocks": vec![section("x"); 51] }),
            json!({ "blocks": [section("x"), section(&"日".repeat(3_001))] }),
            json!({ "blocks": [{ "type": "section", "fields": vec![json!({ "text": "x" }); 11] }] }),
            json!({ "blocks": [{ "type": "section", "fields": [{ "text": "x".repeat(2_001) }] }] }),
        ];
        let found = table.map(|message| {
            let error = input(message).check().unwrap_err();
            assert!(!error.is_retry());
            error.to_string()
        });
        insta::assert_snapshot!(found.join("\n"), @r"
        the message has neither `text` nor `blocks`
        the message has neither `text` nor `blocks`
        text: it has 40001 characters, and Slack takes 40000
        blocks: there are 51, and Slack takes 50
        blocks[1].text: it has 3001 characters, and Slack takes 3000
        blocks[0].fields: there are 11, and Slack takes 10
        blocks[0].fields[0]: it has 2001 characters, and Slack takes 2000
        ");
        let text = |text: &str| json!({ "type": "plain_text", "text": text });
        let message = json!({ "blocks": [
            "section",
            { "text": "no type" },
            { "type": "header", "text": text(&"x".repeat(151)) },
            { "type": "context", "elements": vec![text("x"); 11] },
            { "type": "actions", "elements": vec![text("x"); 26] },
        ] });
        insta::assert_snapshot!(input(message).check().unwrap_err().to_string().replace("; ", "\n"), @r"
        blocks[0]: it is not an object with a `type`
        blocks[1]: it is not an object with a `type`
        blocks[2].text: it has 151 characters, and Slack takes 150
        blocks[3].elements: there are 11, and Slack takes 10
        blocks[4].elements: there are 26, and Slack takes 25
        ");
    }

    #[test]
    fn blocks_get_a_text_for_notifications() {
        let header = json!({ "type": "header", "text": { "type": "plain_text", "text": "Tokens" } });
        for (message, text) in [
            (
                json!({ "text": "given", "blocks": [section("block")] }),
                Some("given"),
            ),
            (
                json!({ "blocks": [{ "type": "divider" }, section("block")] }),
                Some("block"),
            ),
            (
                json!({ "text": "", "blocks": [header, section("block")] }),
                Some("Tokens"),
            ),
            (
                json!({ "blocks": [{ "type": "section", "fields": [{ "text": "field" }] }] }),
                Some("field"),
            ),
            (
                json!({ "blocks": [{ "type": "markdown", "text": "**md**" }] }),
                Some("**md**"),
            ),
            (json!({ "blocks": [{ "type": "divider" }] }), None),
        ] {
            let body = input(message.clone()).body();
            assert_eq!(body.get("text").and_then(Value::as_str), text, "{message}");
        }
    }

    #[test]
    fn only_markup_is_marked_for_escaping() {
        let schema = schemars::schema_for!(Input).to_value();
        let input = |field| format!("/properties/{field}");
        let block = |path: &str| format!("/properties/blocks/items/{path}");
        let within = |element: &str, path: &str| block(&format!("properties/{element}/{path}"));
        let (mrkdwn, markdown) = (Some("mrkdwn"), Some("markdown"));
        let mut places = vec![
            (input("text"), mrkdwn),
            (input("channel"), None),
            (input("username"), None),
            (block("properties/text"), markdown),
            (block("properties/text/properties/text"), mrkdwn),
            (block("properties/text/properties/type"), Some("none")),
            (block("properties/title/properties/text"), mrkdwn),
            (block("properties/body/properties/text"), mrkdwn),
            (block("properties/fields/items/properties/text"), mrkdwn),
            (input("blocks/items"), None),
        ];
        for element in ["elements/items", "element", "accessory"] {
            for marked in [
                "properties/text",
                "properties/text/properties/text",
                "properties/options/items/properties/text/properties/text",
                "properties/options/items/properties/description/properties/text",
                "properties/initial_options/items/properties/text/properties/text",
                "properties/initial_option/properties/text/properties/text",
                "properties/confirm/properties/text",
                "properties/body/properties/text",
            ] {
                places.push((within(element, marked), mrkdwn));
            }
            places.push((within(element, "properties/options/items"), None));
        }
        for (pointer, marked) in places {
            let found = schema
                .pointer(&pointer)
                .unwrap_or_else(|| panic!("{pointer} is in the schema"));
            assert_eq!(found.get("x-escape").and_then(Value::as_str), marked, "{pointer}");
        }
    }
}
