//! One route: a pattern, and the steps that an event takes which matches it.

use super::{Step, template::Template};
use crate::delivery::{Line, Phase};

/// One rule, without its pattern.
#[derive(Debug)]
pub struct Route {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) order_by: Option<Template>,
    pub(super) line: Line,
    pub(super) deadline: Option<Template>,
    pub(super) steps: Vec<Step>,
    pub(super) on_failure: Vec<Step>,
}

impl Route {
    /// Its name, unique within its generation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, in the author's words.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// How its deliveries of one order key stand to one another.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The steps of one phase, in their order. There is at least one in [`Phase::Steps`].
    pub fn steps(&self, phase: Phase) -> &[Step] {
        match phase {
            Phase::Steps => &self.steps,
            Phase::OnFailure => &self.on_failure,
        }
    }
}
