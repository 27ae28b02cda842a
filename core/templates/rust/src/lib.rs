//! Greets people.
#![forbid(unsafe_code)]

use jackfield_sdk::prelude::*;

/// What an instance is configured with, once. What is said of a field here is what `jackfield plugin inspect` says of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What a greeting begins with.
    #[serde(default = "hello")]
    salutation: String,
}

/// What a step gives, with every event: `with = { name = "{{ event.data.actor.name }}" }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Whom to greet.
    name: String,
}

/// What the steps after it see: `{{ steps.<id>.greeting }}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// What was said.
    greeting: String,
}

/// An instance: whatever its calls share.
#[derive(Debug)]
pub struct GreeterPlugin {
    config: Config,
}

#[async_trait]
impl Plugin for GreeterPlugin {
    type Config = Config;
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "greeter";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");

    async fn create(config: Config, _start: Start) -> Result<Self> {
        if config.salutation.trim().is_empty() {
            return Err(Error::invalid("`salutation` is empty: a greeting has to begin with something"));
        }
        Ok(Self { config })
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Output>> {
        if input.name.trim().is_empty() {
            return Ok(Outcome::skipped("there is nobody to greet"));
        }
        let greeting = format!("{}, {}", self.config.salutation, input.name);
        tracing::info!(greeting, attempt = cx.attempt(), "greeted");
        Ok(Outcome::Done(Output { greeting }))
    }
}

fn hello() -> String {
    "hello".to_owned()
}

export_plugin!(GreeterPlugin);
