//! Nothing, as a type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An object without fields: the configuration, the input or the output of a plugin that has none.
///
/// Fields that are given nevertheless are an error.
///
/// ```
/// use jackfield_sdk::Empty;
///
/// assert!(serde_json::from_str::<Empty>("{}").is_ok());
/// assert!(serde_json::from_str::<Empty>(r#"{ "colour": "red" }"#).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}
