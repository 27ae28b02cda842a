#![forbid(unsafe_code)]
//! A plugin with another allocator than the program that loads it.

use jackfield_sdk::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to give back.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    length: usize,
}

struct Allocates;

#[async_trait]
impl Plugin for Allocates {
    type Config = Empty;
    type Input = Input;
    type Output = String;
    const NAME: &'static str = "allocator";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    async fn create(_config: Empty, _start: Start) -> Result<Self> {
        Ok(Self)
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<String>> {
        cx.intend(&input.length).await?;
        Ok(Outcome::Done("a".repeat(input.length)))
    }
}

export_plugin!(Allocates);
