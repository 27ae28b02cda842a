//! JSON that is given on the command line: written out there, or in a file.

use std::{
    fs,
    io::{self, Read as _},
    str::FromStr,
};

use anyhow::Context as _;
use serde_json::Value;

/// `{"name": "Ada"}`, or `@input.json`, or `@-` for standard input.
#[derive(Clone, Debug)]
pub(super) struct Given(String);

impl FromStr for Given {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Given {
    /// What it says.
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        let (text, from) = match self.0.strip_prefix('@') {
            None => (self.0.clone(), "what was given".to_owned()),
            Some("-") => {
                let mut text = String::new();
                io::stdin()
                    .read_to_string(&mut text)
                    .context("standard input cannot be read")?;
                (text, "standard input".to_owned())
            }
            Some(file) => {
                let text = fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?;
                (text, file.to_owned())
            }
        };
        serde_json::from_str(&text).with_context(|| {
            format!("{from} is not JSON; write it out, as in '{{\"name\": \"Ada\"}}', or name a file with @")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_written_out_or_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[1]").unwrap();
        let given = |text: &str| Given(text.to_owned()).json();
        assert_eq!(given("{\"a\": 1}").unwrap(), json!({ "a": 1 }));
        assert_eq!(given(&format!("@{}", file.path().display())).unwrap(), json!([1]));
        assert!(
            given("@/no/such/file")
                .unwrap_err()
                .to_string()
                .contains("/no/such/file cannot be read")
        );
        assert!(
            given("name=Ada")
                .unwrap_err()
                .to_string()
                .starts_with("what was given is not JSON")
        );
    }
}
