//! Says hello: the smallest plugin, to begin from.
#![forbid(unsafe_code)]
use jackfield_sdk::prelude::*;

/// What a step gives: `with = { name = "{{ event.data.actor.name }}" }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Whom to greet.
    name: String,
}

/// What the steps after it see: `{{ steps.hello.greeting }}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What was said.
    greeting: String,
}

/// The plugin.
#[derive(Debug)]
pub struct Hello;

#[async_trait]
impl Plugin for Hello {
    type Config = Empty;
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "hello";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");

    async fn create(_config: Empty, _start: Start) -> Result<Self> {
        Ok(Self)
    }

    async fn call(&self, input: Input, _cx: &Cx) -> Result<Outcome<Output>> {
        let greeting = format!("hello, {}", input.name);
        tracing::info!(greeting, "greeted");
        Ok(Outcome::Done(Output { greeting }))
    }
}

export_plugin!(Hello);
