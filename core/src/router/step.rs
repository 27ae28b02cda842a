//! One step of a route: what it calls, when, and with what.

use serde_json::{Map, Value};

use super::{
    Context,
    template::{Escape, Expression, Template},
};
use crate::{
    delivery::RetryPolicy,
    reason::Reason,
    schema::{Schema, Violation},
};

/// One call of an instance, as a route describes it.
#[derive(Debug)]
pub struct Step {
    pub(super) id: String,
    pub(super) instance: String,
    pub(super) condition: Option<Expression>,
    pub(super) with: Field,
    pub(super) retry: RetryPolicy,
}

/// A value of a `with`, with templates in it.
#[derive(Debug)]
pub(super) enum Field {
    /// Not a string.
    Fixed(Value),
    Text(Template),
    List(Vec<Field>),
    Table(Vec<(String, Field)>),
}

/// Why a template of a route could not be rendered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// A value is undefined or null, or the template asks for the impossible.
    #[error("route `{route}`, step `{step}`, `{field}`: {error}")]
    Template {
        /// The route's name.
        route: String,
        /// The step's id.
        step: String,
        /// The path of the field: `with.text`, `if`.
        field: String,
        /// What is wrong.
        error: String,
    },
    /// The rendered input does not fit the plugin's input schema.
    #[error(
        "route `{route}`, step `{step}`: the input does not fit: {}",
        list(violations)
    )]
    Input {
        /// The route's name.
        route: String,
        /// The step's id.
        step: String,
        /// In what it does not fit.
        violations: Vec<Violation>,
    },
}

impl Step {
    /// Its id, unique within its route.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The instance that it calls.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// How often it is tried.
    pub fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Whether it is to be called: its `if`, or true where it has none.
    ///
    /// # Errors
    ///
    /// Where a value in the `if` is undefined, or its result is null.
    pub fn enabled(&self, context: &Context) -> Result<bool, RenderError> {
        let Some(condition) = &self.condition else {
            return Ok(true);
        };
        let value = condition.evaluate(context.root());
        value
            .map(|value| value.is_true())
            .map_err(|error| self.error(context, "if".to_owned(), error))
    }

    /// The input: the `with` with every template rendered, escaped and checked as `schema` says.
    ///
    /// # Errors
    ///
    /// Where a value is undefined or null, or the input does not fit the schema.
    pub fn render(&self, context: &Context, schema: Option<&Schema>) -> Result<Value, RenderError> {
        let value = self.field(&self.with, String::new(), context, schema)?;
        let violations = schema.map(|schema| schema.check(&value)).unwrap_or_default();
        if violations.is_empty() {
            return Ok(value);
        }
        Err(RenderError::Input {
            route: context.route().to_owned(),
            step: self.id.clone(),
            violations,
        })
    }

    /// The value of the field at the JSON Pointer `at`.
    pub(super) fn field(
        &self,
        field: &Field,
        at: String,
        context: &Context,
        schema: Option<&Schema>,
    ) -> Result<Value, RenderError> {
        match field {
            Field::Fixed(value) => Ok(value.clone()),
            Field::Text(template) => {
                let rendered = text(template, &at, context, schema);
                rendered.map_err(|error| self.error(context, dotted(&at), error))
            }
            Field::List(items) => {
                let items = items.iter().enumerate();
                let values =
                    items.map(|(index, item)| self.field(item, format!("{at}/{index}"), context, schema));
                values.collect::<Result<_, _>>().map(Value::Array)
            }
            Field::Table(members) => {
                let values = members.iter().map(|(name, member)| {
                    let value = self.field(member, join(&at, name), context, schema)?;
                    Ok((name.clone(), value))
                });
                values.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
        }
    }

    fn error(&self, context: &Context, field: String, error: String) -> RenderError {
        RenderError::Template {
            route: context.route().to_owned(),
            step: self.id.clone(),
            field,
            error,
        }
    }
}

impl Field {
    /// The value as it stands in the rule file, templates unrendered, and the JSON Pointers of the templates.
    pub(super) fn outline(&self) -> (Value, Vec<String>) {
        let mut holes = Vec::new();
        (self.draw(String::new(), &mut holes), holes)
    }

    fn draw(&self, at: String, holes: &mut Vec<String>) -> Value {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) => {
                if !template.is_text() {
                    holes.push(at);
                }
                Value::from(template.source())
            }
            Self::List(items) => {
                let items = items.iter().enumerate();
                items
                    .map(|(index, item)| item.draw(format!("{at}/{index}"), holes))
                    .collect()
            }
            Self::Table(members) => {
                let members = members.iter();
                let draw =
                    |(name, member): &(String, Self)| (name.clone(), member.draw(join(&at, name), holes));
                Value::Object(members.map(draw).collect())
            }
        }
    }
}

impl RenderError {
    /// The code for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Template { .. } => Reason::TemplateFailed,
            Self::Input { .. } => Reason::InputInvalid,
        }
    }
}

fn text(template: &Template, at: &str, context: &Context, schema: Option<&Schema>) -> Result<Value, String> {
    if template.is_text() {
        return Ok(Value::from(template.source()));
    }
    let value = template.value(context.root(), escape(schema, at)?)?;
    match template.is_typed() {
        true => escape_strings(value, at.to_owned(), schema),
        false => Ok(value),
    }
}

/// Escapes every string of a value that an event or a step brought, each as the schema says for its place.
fn escape_strings(value: Value, at: String, schema: Option<&Schema>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::from(escape(schema, &at)?.whole(&text)),
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            let items = items.map(|(index, item)| escape_strings(item, format!("{at}/{index}"), schema));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, member)| {
                let member = escape_strings(member, join(&at, &name), schema)?;
                Ok::<_, String>((name, member))
            });
            Value::Object(members.collect::<Result<_, _>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    })
}

/// How values at `at` are escaped. An escape that this router does not know is an error: not to escape could
/// harm.
fn escape(schema: Option<&Schema>, at: &str) -> Result<Escape, String> {
    match schema.and_then(|schema| schema.escape(at)) {
        None => Ok(Escape::None),
        Some(name) => Escape::named(name)
            .ok_or_else(|| format!("the plugin's schema asks for the escape `{name}`, which is not known")),
    }
}

pub(super) fn join(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A JSON Pointer as a path of the rule file: `with.blocks[0].text`.
pub fn dotted(at: &str) -> String {
    let tokens = at.split('/').skip(1);
    tokens.fold("with".to_owned(), |path, token| match token.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) => format!("{path}.{}", token.replace("~1", "/").replace("~0", "~")),
    })
}

fn list(violations: &[Violation]) -> String {
    let violations: Vec<_> = violations.iter().map(Violation::to_string).collect();
    violations.join("; ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use jackfield_event::{DeliveryId, Timestamp};
    use serde_json::json;

    use super::*;

    fn context() -> Context {
        let time: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let event =
            json!({ "data": { "title": "<!here> & <b>", "fields": [{ "title": "<t>", "value": "<v>" }] } });
        let outputs = BTreeMap::from([(
            "commit".to_owned(),
            Bytes::from_static(br#"{"changed":false,"n":0}"#),
        )]);
        Context::new(
            "tokens",
            DeliveryId::new(time, 0),
            &[event.to_string().into()],
            &outputs,
            None,
        )
        .unwrap()
    }

    fn step(with: Value, condition: Option<&str>) -> Step {
        Step {
            id: "announce".into(),
            instance: "slack".into(),
            condition: condition.map(|source| Expression::compile(source).unwrap()),
            with: field(with),
            retry: RetryPolicy::default(),
        }
    }

    fn field(value: Value) -> Field {
        match value {
            Value::String(text) => Field::Text(Template::compile(&text).unwrap()),
            Value::Array(items) => Field::List(items.into_iter().map(field).collect()),
            Value::Object(members) => Field::Table(
                members
                    .into_iter()
                    .map(|(name, value)| (name, field(value)))
                    .collect(),
            ),
            other => Field::Fixed(other),
        }
    }

    fn schema() -> Schema {
        let marked = json!({ "type": "string", "x-escape": "mrkdwn" });
        Schema::compile(json!({ "type": "object", "required": ["text"], "properties": {
            "text": marked,
            "plain": { "type": "string" },
            "count": { "type": "integer" },
            "fields": { "type": "array", "items": {
                "type": "object", "properties": { "title": { "type": "string" }, "value": marked }
            } },
            "odd": { "type": "string", "x-escape": "sgml" }
        } }))
        .unwrap()
    }

    #[track_caller]
    fn check(with: Value, expected: Result<Value, &str>) {
        let rendered = step(with, None).render(&context(), Some(&schema()));
        assert_eq!(
            rendered.map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }

    #[test]
    fn values_are_escaped_where_the_schema_marks_the_place() {
        check(
            json!({ "text": "<a> {{ event.data.title }}", "plain": "{{ event.data.title }}" }),
            Ok(json!({ "text": "<a> &lt;!here&gt; &amp; &lt;b&gt;", "plain": "<!here> & <b>" })),
        );
        check(
            json!({ "text": "{{ event.data.title }}", "fields": "{{ event.data.fields }}" }),
            Ok(
                json!({ "text": "&lt;!here&gt; &amp; &lt;b&gt;", "fields": [{ "title": "<t>", "value": "&lt;v&gt;" }] }),
            ),
        );
        check(
            json!({ "text": "x", "odd": "{{ event.data.title }}" }),
            Err(
                "route `tokens`, step `announce`, `with.odd`: the plugin's schema asks for the escape `sgml`, which is not known",
            ),
        );
    }

    #[test]
    fn an_error_names_route_step_field_and_path() {
        check(
            json!({ "text": "x", "fields": [{ "title": "{{ event.data.titel }}" }] }),
            Err(
                "route `tokens`, step `announce`, `with.fields[0].title`: `event.data` has no `titel`; did you mean `title`?",
            ),
        );
        check(
            json!({ "plain": "{{ steps.commit.changed }}" }),
            Err(
                "route `tokens`, step `announce`: the input does not fit: `plain`: found false, expected a string; `text`: missing",
            ),
        );
        check(
            json!({ "text": "x", "count": "{{ steps.commit.n }}" }),
            Ok(json!({ "text": "x", "count": 0 })),
        );
    }

    #[test]
    fn a_condition_is_true_or_false_or_an_error() {
        let enabled = |condition| {
            step(json!({}), condition)
                .enabled(&context())
                .map_err(|error| error.to_string())
        };
        assert_eq!(enabled(None), Ok(true));
        assert_eq!(enabled(Some("steps.commit.changed")), Ok(false));
        assert_eq!(
            enabled(Some(
                "not steps.commit.changed and event.data.title == '<!here> & <b>'"
            )),
            Ok(true)
        );
        assert_eq!(enabled(Some("steps.fetch.changed | default(true)")), Ok(true));
        let error = |reason| Err(format!("route `tokens`, step `announce`, `if`: {reason}"));
        assert_eq!(
            enabled(Some("steps.comit.changed")),
            error("step `comit` put out nothing; perhaps it was skipped")
        );
        assert_eq!(
            enabled(Some("event.data.titel == 'x'")),
            error("`event.data.titel` is undefined")
        );
        assert_eq!(enabled(Some("none")), error("`none` is null"));
    }
}
