//! What a plugin says about itself.

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::Value;

use crate::{Needs, Plugin};

/// What a plugin says about itself, made from its types, and therefore never stale.
///
/// ```
/// use jackfield_sdk::{Manifest, prelude::*};
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Input {
///     /// Whom to greet.
///     name: String,
/// }
/// # struct Greeter;
/// # #[async_trait]
/// # impl Plugin for Greeter {
/// #     type Config = Empty;
/// #     type Input = Input;
/// #     type Output = String;
/// #     const NAME: &'static str = "greeter";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
/// #     async fn call(&self, input: Input, _: &Cx) -> Result<Outcome<String>> { Ok(Outcome::Done(input.name)) }
/// # }
///
/// let manifest = Manifest::of::<Greeter>();
/// assert_eq!(manifest.name, "greeter");
/// assert_eq!(manifest.input_schema["properties"]["name"]["description"], "Whom to greet.");
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// [`Plugin::NAME`].
    pub name: &'static str,
    /// [`Plugin::VERSION`].
    pub version: &'static str,
    /// [`Plugin::DESCRIPTION`].
    pub description: &'static str,
    /// [`Plugin::DOCS`].
    #[serde(skip_serializing_if = "str::is_empty")]
    pub docs: &'static str,
    /// What the plugin is: `action` for a [`Plugin`], `provider` for a [`Provider`](crate::provider::Provider).
    pub capabilities: &'static [&'static str],
    /// [`Plugin::NEEDS`].
    #[serde(skip_serializing_if = "Needs::is_nothing")]
    pub needs: Needs,
    /// The JSON Schema (2020-12) of [`Plugin::Config`].
    pub config_schema: Value,
    /// The JSON Schema (2020-12) of [`Plugin::Input`].
    pub input_schema: Value,
    /// The JSON Schema (2020-12) of [`Plugin::Output`].
    pub output_schema: Value,
}

impl Manifest {
    /// What `P` says about itself.
    pub fn of<P: Plugin>() -> Self {
        Self {
            name: P::NAME,
            version: P::VERSION,
            description: P::DESCRIPTION,
            docs: P::DOCS,
            capabilities: P::CAPABILITIES,
            needs: P::NEEDS,
            config_schema: schema::<P::Config>(SchemaSettings::draft2020_12()),
            input_schema: schema::<P::Input>(SchemaSettings::draft2020_12()),
            output_schema: schema::<P::Output>(SchemaSettings::draft2020_12().for_serialize()),
        }
    }

    /// The manifest of `P` in JSON, made once and kept for the life of the process, as the ABI asks for.
    pub(crate) fn json_of<P: Plugin>() -> &'static [u8] {
        static MADE: LazyLock<Mutex<HashMap<TypeId, &'static [u8]>>> = LazyLock::new(Mutex::default);
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(TypeId::of::<P>()).or_insert_with(|| {
            let json = serde_json::to_vec(&Self::of::<P>()).expect("texts and schemas have a JSON form");
            json.leak()
        })
    }
}

fn schema<T: JsonSchema>(settings: SchemaSettings) -> Value {
    settings.into_generator().into_root_schema_for::<T>().to_value()
}
