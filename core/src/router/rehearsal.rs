//! What one set of rules makes of one event, step by step, while nothing is done.

use std::collections::BTreeMap;

use bytes::Bytes;
use jackfield_event::{DeliveryId, Event, Timestamp, join_payload};
use serde_json::Value;

use super::{Context, FailureView, Generation, NotJson, RenderError, Route, Step, context::Parsed};
use crate::delivery::Phase;

/// What only a delivery could tell, said beforehand.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    /// What steps put out, by their ids, in JSON.
    pub outputs: BTreeMap<String, Bytes>,
    /// What failed, where `on_failure` is to be seen as well.
    pub failure: Option<FailureView<'a>>,
}

/// A route that an event takes.
#[derive(Debug)]
pub struct Rehearsed<'g> {
    /// The route.
    pub route: &'g Route,
    /// Its order key, where it has one; or why it could not be rendered.
    pub order: Result<Option<String>, String>,
    /// Its steps, in their order.
    pub steps: Vec<Rendered<'g>>,
    /// Its `on_failure` steps; none where no failure was given.
    pub on_failure: Vec<Rendered<'g>>,
}

/// A step, and what it is given.
#[derive(Debug)]
pub struct Rendered<'g> {
    /// The step.
    pub step: &'g Step,
    /// Its input, before anything in it is escaped for the plugin; none where its `if` is false.
    pub input: Result<Option<Value>, RenderError>,
}

impl Generation {
    /// The routes that an event takes, and what their steps are given, where earlier ones put out what `given` says by route.
    /// `payload` is the event's body, which `event` itself is without.
    ///
    /// # Errors
    ///
    /// Where the payload, or an output, is not JSON.
    pub fn rehearse(
        &self,
        event: &Event,
        payload: &Bytes,
        given: &BTreeMap<String, Given<'_>>,
    ) -> Result<Vec<Rehearsed<'_>>, NotJson> {
        let not_json = |error: &dyn std::fmt::Display| NotJson(error.to_string());
        let routed = self.route(event.clone(), payload.clone(), None)?.into_parts();
        let whole = join_payload(&routed.envelope, payload).map_err(|error| not_json(&error))?;
        let parsed = Parsed::event(&whole).map_err(|error| not_json(&error))?;
        let nothing = Given::default();
        let mut rehearsed = Vec::new();
        for owed in routed.owed {
            let Some(route) = self.find(&owed.route) else {
                continue;
            };
            let given = given.get(route.name()).unwrap_or(&nothing);
            let scene = Scene {
                route,
                event: &parsed,
                given,
            };
            rehearsed.push(Rehearsed {
                route,
                order: owed.order,
                steps: scene.phase(Phase::Steps)?,
                on_failure: match given.failure {
                    Some(_) => scene.phase(Phase::OnFailure)?,
                    None => Vec::new(),
                },
            });
        }
        Ok(rehearsed)
    }
}

/// One route with all that its steps may see.
struct Scene<'g, 'a> {
    route: &'g Route,
    event: &'a Parsed,
    given: &'a Given<'a>,
}

impl<'g> Scene<'g, '_> {
    /// The steps of a phase, each of which sees what those before it put out, but for such as are skipped.
    fn phase(&self, phase: Phase) -> Result<Vec<Rendered<'g>>, NotJson> {
        let mut outputs = BTreeMap::new();
        let mut rendered = Vec::new();
        for step in self.route.steps(phase) {
            let context = self.context(phase, &outputs)?;
            let enabled = step.enabled(&context);
            let input = enabled.and_then(|enabled| match enabled {
                // What is escaped depends on the plugin, and is the host's work; what the rule says does not.
                true => step.render(&context, None).map(Some),
                false => Ok(None),
            });
            // One that cannot be rendered is told by itself; those after it are to say no more than what is wrong with them.
            let is_skipped = matches!(input, Ok(None));
            let output = self.given.outputs.get(step.id()).filter(|_| !is_skipped);
            outputs.extend(output.map(|output| (step.id().to_owned(), output.clone())));
            rendered.push(Rendered { step, input });
        }
        Ok(rendered)
    }

    fn context(&self, phase: Phase, outputs: &BTreeMap<String, Bytes>) -> Result<Context, NotJson> {
        let failure = self.given.failure.filter(|_| phase == Phase::OnFailure);
        let events = std::slice::from_ref(self.event);
        let context = Context::of_delivery(self.route.name(), nobody(), events, outputs, failure);
        context.map_err(|error| NotJson(error.to_string()))
    }
}

/// The delivery of a rehearsal: always the same, so that what is rendered with it is, too.
fn nobody() -> DeliveryId {
    let epoch = Timestamp::from_millis(0).expect("the epoch is a moment of our time");
    DeliveryId::new(epoch, 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{reason::Reason, router::RuleFile};

    const RULES: &str = r##"
[[route]]
name = "tokens"
order_by = "{{ event.data.project.id }}"
when.type = ["a"]
[[route.step]]
id = "fetch"
use = "fetch"
with.url = "{{ event.data.artifacts[0].url }}"
[[route.step]]
id = "commit"
use = "commit"
with = { from = "{{ steps.fetch.dir }}", key = "{{ delivery.id }}" }
[[route.step]]
id = "tell"
use = "slack"
if = "steps.commit.changed"
with.text = "{{ steps.commit.sha[:7] }}"
[[route.step]]
id = "note"
use = "slack"
with.text = "{{ steps.tell.at | default('never') }}"
[[route.on_failure]]
id = "alarm"
use = "slack"
with.text = "{{ failure.step }}: {{ failure.error }} ({{ failure.reason }})"

[[route]]
name = "other"
when.type = ["b"]
[[route.step]]
use = "slack"
"##;

    fn given(outputs: &[(&str, Value)]) -> Given<'static> {
        let outputs = outputs
            .iter()
            .map(|(step, output)| ((*step).to_owned(), Bytes::from(output.to_string())));
        Given {
            outputs: outputs.collect(),
            failure: None,
        }
    }

    /// What comes of an event of type `a`, in a line each.
    fn rehearsed(given: Given<'_>) -> Vec<String> {
        let file = RuleFile {
            name: "routes.toml".to_owned(),
            text: RULES.to_owned(),
        };
        let generation = Generation::compile(&[file], None).unwrap_or_else(|faults| panic!("{faults}"));
        let event = json!({
            "specversion": "1.0", "id": "evt_01kdvdna000000000000000000", "source": "/in/s", "type": "a",
            "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "dataschema": "urn:jackfield:event:1",
            "provider": "p", "sourcename": "s", "verified": "none",
            "data": { "project": { "kind": "x", "id": "2" }, "artifacts": [{ "url": "https://a/1" }] }
        });
        let event = Event::from_json(event.to_string()).unwrap();
        let given = BTreeMap::from([("tokens".to_owned(), given)]);
        let rehearsed = generation
            .rehearse(&event, &Bytes::from_static(b"{}"), &given)
            .unwrap();
        let mut lines = Vec::new();
        for one in rehearsed {
            lines.push(format!("{} {:?}", one.route.name(), one.order));
            for Rendered { step, input } in one.steps.iter().chain(&one.on_failure) {
                let input = match input {
                    Ok(Some(input)) => input.to_string(),
                    Ok(None) => "skipped".to_owned(),
                    Err(error) => error.to_string(),
                };
                lines.push(format!("  {}: {input}", step.id()));
            }
        }
        lines
    }

    #[test]
    fn each_step_sees_what_those_before_it_are_said_to_have_put_out() {
        let outputs = [
            ("fetch", json!({ "dir": "/w" })),
            ("commit", json!({ "changed": true, "sha": "0123456789" })),
        ];
        insta::assert_snapshot!(rehearsed(given(&outputs)).join("\n"), @r#"
        tokens Ok(Some("2"))
          fetch: {"url":"https://a/1"}
          commit: {"from":"/w","key":"dlv_00000000000000000000000000"}
          tell: {"text":"0123456"}
          note: {"text":"never"}
        "#);
    }

    #[test]
    fn a_step_that_is_skipped_puts_out_nothing_whatever_is_said() {
        let outputs = [
            ("fetch", json!({ "dir": "/w" })),
            ("commit", json!({ "changed": false })),
            ("tell", json!({ "at": "noon" })),
        ];
        let lines = rehearsed(given(&outputs));
        assert_eq!(lines[3..], ["  tell: skipped", "  note: {\"text\":\"never\"}"]);
    }

    #[test]
    fn what_nobody_said_is_missing_and_named() {
        let lines = rehearsed(Given::default());
        assert_eq!(
            lines[2..4],
            [
                "  commit: route `tokens`, step `commit`, `with.from`: step `fetch` put out nothing; perhaps it was skipped",
                "  tell: route `tokens`, step `tell`, `if`: step `commit` put out nothing; perhaps it was skipped",
            ]
        );
    }

    #[test]
    fn steps_on_failure_are_seen_where_there_is_one() {
        let failed = Given {
            failure: Some(FailureView {
                step: Some("fetch"),
                reason: Reason::PluginFatal,
                error: "gone",
            }),
            ..Given::default()
        };
        let lines = rehearsed(failed);
        assert_eq!(
            lines.last().map(String::as_str),
            Some("  alarm: {\"text\":\"fetch: gone (plugin-fatal)\"}")
        );
    }
}
