//! Holds a case against rules: what comes out otherwise than it says.

use std::collections::{BTreeMap, BTreeSet};

use jackfield_event::join_payload;
use serde::Serialize;
use serde_json::Value;

use super::{Case, Expected, ExpectedStep, Fate};
use crate::{
    fault::{Place, nearest},
    reason::Reason,
    router::{Explanation, FailureView, Generation, Given, Rehearsed, RenderError, Rendered, dotted},
};

/// Something that comes out otherwise than a case says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Where the case says so.
    #[serde(flatten)]
    pub place: Place,
    /// The route that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The step's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The field: `with.text`, `order_by`, `if`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong, in words.
    pub message: String,
    /// The value that the case has, in JSON; absent where it is about no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The value that comes out, in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Case {
    /// All that comes out otherwise under these rules; nothing where all is as the case says.
    pub fn judge(&self, generation: &Generation) -> Vec<Mismatch> {
        let rehearsed = match self.rehearse(generation) {
            Ok(rehearsed) => rehearsed,
            // The case was read as JSON; what JSON lets pass may be none to templates.
            Err(error) => return vec![Mismatch::new(&self.place, error)],
        };
        let mut mismatches = Vec::new();
        let known: BTreeSet<_> = self
            .expected
            .iter()
            .map(|expected| expected.name.as_str())
            .collect();
        for rehearsed in rehearsed.iter().filter(|one| !known.contains(one.route.name())) {
            let message = "matches, and the case does not name it";
            mismatches.push(Mismatch::new(&self.place, message).route(rehearsed.route.name()));
        }
        for expected in &self.expected {
            let found = rehearsed.iter().find(|one| one.route.name() == expected.name);
            match found {
                Some(rehearsed) => expected.judge(rehearsed, &mut mismatches),
                None => mismatches.push(self.unmatched(expected, generation)),
            }
        }
        mismatches.sort_by_key(|mismatch| mismatch.place.line);
        mismatches
    }

    /// What the rules make of the event, where steps put out what the case says.
    pub(super) fn rehearse<'g>(&self, generation: &'g Generation) -> Result<Vec<Rehearsed<'g>>, String> {
        let given: BTreeMap<_, _> = self
            .expected
            .iter()
            .map(|expected| (expected.name.clone(), expected.given()))
            .collect();
        let rehearsed = generation.rehearse(&self.occurrence.event, &self.occurrence.payload, &given);
        rehearsed.map_err(|error| error.to_string())
    }

    /// Why a route does not match that is to.
    fn unmatched(&self, expected: &Expected, generation: &Generation) -> Mismatch {
        let mismatch = |message| Mismatch::new(&expected.place, message).route(&expected.name);
        if generation.find(&expected.name).is_none() {
            let names = generation.routes().iter().map(|route| route.name());
            let near = nearest(&expected.name, names);
            return Mismatch {
                help: near.map(|near| format!("did you mean `{near}`?")),
                ..mismatch("there is no such route".to_owned())
            };
        }
        let envelope = self.occurrence.event.to_json();
        let whole = join_payload(envelope, &self.occurrence.payload).unwrap_or_default();
        let explanations = generation.explain(&whole).unwrap_or_default();
        let explanation = explanations.into_iter().find(|one| one.route == expected.name);
        match explanation {
            Some(Explanation {
                failed: Some(failed), ..
            }) => Mismatch {
                help: failed.hint.clone(),
                ..mismatch(format!("does not match: {failed}"))
            },
            Some(_) | None => mismatch("does not match".to_owned()),
        }
    }
}

impl Expected {
    fn given(&self) -> Given<'_> {
        let outputs = self.steps.iter().chain(&self.on_failure).filter_map(|step| {
            let output = step.output.clone()?;
            Some((step.id.clone(), output))
        });
        Given {
            outputs: outputs.collect(),
            failure: self.failure.as_ref().map(|failure| FailureView {
                step: failure.step.as_deref(),
                reason: failure.reason,
                error: &failure.error,
            }),
        }
    }

    fn judge(&self, rehearsed: &Rehearsed<'_>, mismatches: &mut Vec<Mismatch>) {
        self.order(rehearsed, mismatches);
        for (expected, found) in [
            (&self.steps, &rehearsed.steps),
            (&self.on_failure, &rehearsed.on_failure),
        ] {
            if !expected.is_empty() {
                self.steps(expected, found, mismatches);
            }
        }
    }

    fn order(&self, rehearsed: &Rehearsed<'_>, mismatches: &mut Vec<Mismatch>) {
        let place = self.order.as_ref().map_or(&self.place, |(_, place)| place);
        let mismatch = |message: String| Mismatch {
            field: Some("order_by".to_owned()),
            ..Mismatch::new(place, message).route(&self.name)
        };
        // The words begin as the mismatch does.
        let known = format!("route `{}`, `order_by`: ", self.name);
        let reason = |error: &str| error.strip_prefix(&known).unwrap_or(error).to_owned();
        let is_meant = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.reason == Reason::OrderKeyFailed);
        match (&self.order, &rehearsed.order) {
            (None, Err(error)) if !is_meant => mismatches.push(Mismatch {
                help: Some(
                    "what the event owes would be dead from the start; where that is meant, write \
                     `failure = { reason = \"order-key-failed\" }`"
                        .to_owned(),
                ),
                ..mismatch(reason(error))
            }),
            (Some(_), Err(error)) => mismatches.push(mismatch(reason(error))),
            (Some((expected, _)), Ok(found)) if found.as_ref() != Some(expected) => {
                mismatches.push(Mismatch {
                    expected: Some(Value::from(expected.as_str()).to_string()),
                    found: Some(
                        found
                            .as_deref()
                            .map_or_else(nothing, |found| Value::from(found).to_string()),
                    ),
                    ..mismatch("comes out otherwise".to_owned())
                })
            }
            (_, Ok(_)) | (None, Err(_)) => {}
        }
    }

    fn steps(&self, expected: &[ExpectedStep], found: &[Rendered<'_>], mismatches: &mut Vec<Mismatch>) {
        let mismatch = |place: &Place, id: &str, message: &str| {
            let mismatch = Mismatch::new(place, message).route(&self.name);
            Mismatch {
                step: Some(id.to_owned()),
                ..mismatch
            }
        };
        let names: Vec<_> = found.iter().map(|rendered| rendered.step.id()).collect();
        let told: Vec<_> = expected.iter().map(|step| step.id.as_str()).collect();
        for id in names.iter().filter(|id| !told.contains(id)) {
            mismatches.push(Mismatch {
                help: Some(format!(
                    "say what becomes of it; `id = \"{id}\"` alone lets it be given anything"
                )),
                ..mismatch(
                    &self.place,
                    id,
                    "the route has this step, and the case does not name it",
                )
            });
        }
        for step in expected {
            let Some(rendered) = found.iter().find(|rendered| rendered.step.id() == step.id) else {
                mismatches.push(Mismatch {
                    help: nearest(&step.id, names.iter().copied())
                        .map(|near| format!("did you mean `{near}`?")),
                    ..mismatch(&step.place, &step.id, "the route has no such step")
                });
                continue;
            };
            let mismatch = |place: &Place, message: &str| mismatch(place, &step.id, message);
            self.step(step, rendered, &mismatch, mismatches);
        }
        let both = |one: &[&str], other: &[&str]| {
            let both = one.iter().filter(|id| other.contains(id));
            both.map(|id| (*id).to_owned()).collect::<Vec<_>>()
        };
        let (is, should) = (both(&names, &told), both(&told, &names));
        if is != should {
            mismatches.push(Mismatch {
                expected: Some(should.join(", ")),
                found: Some(is.join(", ")),
                ..Mismatch::new(&self.place, "the steps come in another order").route(&self.name)
            });
        }
    }

    fn step(
        &self,
        step: &ExpectedStep,
        rendered: &Rendered<'_>,
        mismatch: &dyn Fn(&Place, &str) -> Mismatch,
        mismatches: &mut Vec<Mismatch>,
    ) {
        match (&step.fate, &rendered.input) {
            (Fate::Any, Ok(None)) if step.output.is_some() => {
                mismatches.push(mismatch(
                    &step.place,
                    "is skipped, and the case has an output of it",
                ));
            }
            (Fate::Any, _) | (Fate::Skipped, Ok(None)) => {}
            (Fate::Skipped, Ok(Some(_))) => {
                mismatches.push(mismatch(
                    &step.place,
                    "is not skipped: its `if` is true, or it has none",
                ));
            }
            (Fate::Given(..), Ok(None)) => {
                mismatches.push(mismatch(&step.place, "is skipped: its `if` is false"));
            }
            (Fate::Skipped | Fate::Given(..), Err(error)) => {
                let (field, message) = match error {
                    RenderError::Template { field, error, .. } => (Some(field.clone()), error.clone()),
                    RenderError::Input { .. } => (None, error.to_string()),
                };
                mismatches.push(Mismatch {
                    field,
                    help: self.silent(step),
                    ..mismatch(&step.place, &format!("cannot be rendered: {message}"))
                });
            }
            (Fate::Given(expected, places), Ok(Some(found))) => {
                let differences = &mut Vec::new();
                differ(String::new(), expected, found, differences);
                for (pointer, expected, found) in differences {
                    let place = places.find(pointer).unwrap_or(&step.place);
                    mismatches.push(Mismatch {
                        field: Some(dotted(pointer)),
                        expected: Some(expected.take().unwrap_or_else(nothing)),
                        found: Some(found.take().unwrap_or_else(nothing)),
                        ..mismatch(place, "comes out otherwise")
                    });
                }
            }
        }
    }

    /// A hint where a step may lack what those before it put out.
    fn silent(&self, step: &ExpectedStep) -> Option<String> {
        let phase = [&self.steps, &self.on_failure];
        let phase = phase
            .into_iter()
            .find(|steps| steps.iter().any(|other| other.id == step.id))?;
        let earlier = phase.iter().take_while(|other| other.id != step.id);
        let silent = earlier.filter(|other| other.output.is_none() && !matches!(other.fate, Fate::Skipped));
        let names: Vec<_> = silent.map(|other| format!("`{}`", other.id)).collect();
        (!names.is_empty()).then(|| {
            format!(
                "the case has no output of {}; where this step needs one, write `output = {{ … }}` under it",
                names.join(", ")
            )
        })
    }
}

impl Mismatch {
    fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            route: None,
            step: None,
            field: None,
            message: message.into(),
            expected: None,
            found: None,
            help: None,
        }
    }

    fn route(self, name: &str) -> Self {
        Self {
            route: Some(name.to_owned()),
            ..self
        }
    }
}

/// The parts of two values that differ, as small as can be: pointer, and what stands there on either side, in JSON.
fn differ(
    at: String,
    expected: &Value,
    found: &Value,
    differences: &mut Vec<(String, Option<String>, Option<String>)>,
) {
    match (expected, found) {
        (Value::Object(these), Value::Object(those)) => {
            let names: BTreeSet<_> = these.keys().chain(those.keys()).collect();
            for name in names {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (these.get(name), those.get(name)) {
                    (Some(one), Some(other)) => differ(at, one, other, differences),
                    (one, other) => {
                        differences.push((at, one.map(Value::to_string), other.map(Value::to_string)));
                    }
                }
            }
        }
        (Value::Array(these), Value::Array(those)) if these.len() == those.len() => {
            for (index, (one, other)) in these.iter().zip(those).enumerate() {
                differ(format!("{at}/{index}"), one, other, differences);
            }
        }
        (expected, found) if expected != found => {
            differences.push((at, Some(expected.to_string()), Some(found.to_string())));
        }
        _ => {}
    }
}

fn nothing() -> String {
    "nothing".to_owned()
}
