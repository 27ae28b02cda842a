//! What a limit of an instance counts by: a template over the call's input and its event.

use std::sync::Arc;

use minijinja::{Value, value::merge_maps};
use serde::Deserialize as _;

use super::{
    Context,
    template::{Escape, Names, Template, check, check_input},
};
use crate::schema::{Schema, Violation};

/// A template whose text tells calls apart: those with an equal one share a limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LimitKey(Arc<Template>);

impl LimitKey {
    /// Compiles a template that may ask for `input`, `event`, `events` and `route`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in words.
    pub fn compile(source: &str) -> Result<Self, Vec<String>> {
        let template = Template::compile(source).map_err(|reason| vec![reason])?;
        let names = Names {
            input: true,
            ..Names::default()
        };
        let mut faults = check(&template, &names);
        if template.is_text() {
            faults.push(format!(
                "found {source:?}, which is the same for every call; expected a template"
            ));
        }
        match faults.is_empty() {
            true => Ok(Self(Arc::new(template))),
            false => Err(faults),
        }
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// What it asks of inputs that none of them has which fit the schema.
    pub fn misfits(&self, schema: &Schema) -> Vec<Violation> {
        check_input(&self.0, schema)
    }

    /// The key of a call.
    ///
    /// # Errors
    ///
    /// In words, where a value is undefined or null.
    pub fn render(&self, context: &Context, input: &serde_json::Value) -> Result<String, String> {
        let input = Value::deserialize(input).map_err(|error| error.to_string())?;
        let input = Value::from_pairs([("input", input)]);
        let root = merge_maps([input, context.root().clone()]);
        self.0.text(&root, Escape::None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jackfield_event::{DeliveryId, Timestamp};
    use serde_json::json;

    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let delivery = DeliveryId::new(Timestamp::from_millis(1).unwrap(), 0);
        let event = br##"{ "type": "x", "data": { "title": "T" } }"##
            .as_slice()
            .into();
        let context = Context::new("r", delivery, &[event], &BTreeMap::new(), None).unwrap();
        let key = LimitKey::compile(source).map_err(|faults| faults.join("; "))?;
        key.render(&context, &json!({ "channel": "#general", "nothing": null }))
    }

    #[test]
    fn a_key_is_made_of_the_input_and_the_event() {
        let key = render("{{ input.channel }}/{{ event.data.title }}/{{ route.name }}");
        assert_eq!(key.as_deref(), Ok("#general/T/r"));
        assert_eq!(
            render("{{ input.thread | default('none') }}").as_deref(),
            Ok("none")
        );
    }

    #[test]
    fn what_is_no_key_is_told() {
        let table = [
            (
                "{{ input.chanel }}",
                "`input` has no `chanel`; did you mean `channel`?",
            ),
            ("{{ input.nothing }}", "`input.nothing` is null"),
            ("{{ channel }}", "there is no `channel`"),
            ("{{ event.titel }}", "`event` has no `titel`"),
            ("slack", "found \"slack\", which is the same for every call"),
            ("{{ input.channel", "`{{` has no `}}`"),
        ];
        for (source, expected) in table {
            let error = render(source).unwrap_err();
            assert!(error.starts_with(expected), "{source}: {error}");
        }
    }

    #[test]
    fn what_no_input_has_is_told_before_there_is_one() {
        let schema = Schema::compile(json!({
            "type": "object",
            "required": ["channel"],
            "additionalProperties": false,
            "properties": {
                "channel": { "type": "string" },
                "fields": { "type": "array", "items": { "$ref": "#/$defs/field" } },
                "labels": { "type": "object" },
                "target": { "oneOf": [
                    { "type": "object", "additionalProperties": false, "properties": { "name": { "type": "string" } } },
                    {
                        "type": "object", "additionalProperties": false, "required": ["user", "team"],
                        "properties": { "user": { "type": "string" }, "team": { "type": "string" } }
                    }
                ] }
            },
            "$defs": { "field": {
                "type": "object", "additionalProperties": false, "properties": { "title": { "type": "string" } }
            } }
        }))
        .unwrap();
        let misfits = |source: &str| {
            let misfits = LimitKey::compile(source).unwrap().misfits(&schema);
            crate::schema::listed(&misfits)
        };
        for fits in [
            "{{ input.channel }}",
            "{{ input.fields[1].title }}{{ input.labels.any.thing }}",
            "{{ input.target.name | default(input.target.user) }}",
            "{% for field in input.fields %}{{ field.titel }}{% endfor %}",
            "{{ input | json }}{{ event.type }}",
        ] {
            assert_eq!(misfits(fits), "", "{fits}");
        }
        for (source, expected) in [
            (
                "{{ input.chanel }}/{{ event.type }}",
                "`chanel`: unknown; did you mean `channel`?",
            ),
            (
                "{{ input.channel.name }}",
                "`channel`: found a table, expected a string",
            ),
            (
                "{{ input.fields[3].titel | default('x') }}",
                "`fields[0].titel`: unknown; did you mean `title`?",
            ),
            (
                "{% if input.chanel %}{{ input.channel }}{% endif %}",
                "`chanel`: unknown; did you mean `channel`?",
            ),
        ] {
            assert_eq!(misfits(source), expected, "{source}");
        }
    }
}
