//! JSON that is given on the command line: written out there, or in a file.

use std::{
    fs,
    io::{self, Read as _},
    str::FromStr,
};

use serde_json::Value;

/// `{"name": "Ada"}`, or `@input.json`, or `@-` for standard input; read where the arguments are, so that what is no JSON is
/// wrong usage.
#[derive(Clone, Debug)]
pub(super) struct Given(pub(super) Value);

impl FromStr for Given {
    type Err = GivenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, from) = match text.strip_prefix('@') {
            None => (text.to_owned(), "it".to_owned()),
            Some("-") => (read_stdin()?, "standard input".to_owned()),
            Some(file) => {
                let unreadable = |error| GivenError::Unreadable(file.to_owned(), error);
                (fs::read_to_string(file).map_err(unreadable)?, file.to_owned())
            }
        };
        let json = serde_json::from_str(&text);
        json.map(Self).map_err(|error| GivenError::NotJson(from, error))
    }
}

/// Why nothing was given.
#[derive(Debug, thiserror::Error)]
pub(super) enum GivenError {
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, io::Error),
    #[error(
        "{0} is not JSON ({1}); write it out, as in '{{\"name\": \"Ada\"}}', or name a file, as in @input.json"
    )]
    NotJson(String, serde_json::Error),
}

fn read_stdin() -> Result<String, GivenError> {
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text);
    read.map_err(|error| GivenError::Unreadable("standard input".to_owned(), error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_written_out_or_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[1]").unwrap();
        let given = |text: &str| text.parse::<Given>().map(|given| given.0);
        assert_eq!(given("{\"a\": 1}").unwrap(), json!({ "a": 1 }));
        assert_eq!(given(&format!("@{}", file.path().display())).unwrap(), json!([1]));
        let wrong = |text: &str| given(text).unwrap_err().to_string();
        assert!(wrong("@/no/such/file").starts_with("/no/such/file cannot be read: "));
        assert!(wrong("name=Ada").starts_with("it is not JSON ("));
    }
}
