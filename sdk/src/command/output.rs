//! What a program leaves behind.

use std::process::ExitStatus;

use crate::error::{Error, Result};

/// What a program leaves behind when it has ended.
///
/// ```
/// # use jackfield_sdk::command::{Command, Scope};
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let output = Command::new("sh").args(["-c", "echo 'no such branch' >&2; exit 2"]).run(Scope::detached(None)).await?;
/// assert_eq!(output.status.code(), Some(2));
/// assert_eq!(output.last_words(), "no such branch");
/// let error = output.success().unwrap_err();
/// assert!(error.is_retry() && error.to_string().ends_with("exit status: 2: no such branch"));
/// # Ok::<_, jackfield_sdk::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of what it wrote to its standard error.
    pub stderr: Vec<u8>,
    pub(super) title: String,
}

impl Output {
    /// The same, if the program ended with status 0.
    ///
    /// # Errors
    ///
    /// A retry with the status and the last lines of standard error, if it did not. (What is permanent only the caller
    /// can know: [`Error::permanent`].)
    pub fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let (title, status) = (&self.title, self.status);
        match self.last_words().as_str() {
            "" => Err(Error::retry(format_args!("{title} ended with {status}"))),
            words => Err(Error::retry(format_args!("{title} ended with {status}: {words}"))),
        }
    }

    /// What it wrote to its standard output, as text.
    ///
    /// # Errors
    ///
    /// A fatal one where that is not UTF-8.
    pub fn stdout_text(&self) -> Result<&str> {
        str::from_utf8(&self.stdout)
            .map_err(|_| Error::fatal(format_args!("{} wrote text that is not UTF-8", self.title)))
    }

    /// The last lines of its standard error, in one line and not too long: for messages.
    pub fn last_words(&self) -> String {
        const LINES: usize = 5;
        const CHARS: usize = 600;
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let joined = lines[lines.len().saturating_sub(LINES)..].join("; ");
        match joined.char_indices().nth(CHARS) {
            Some((end, _)) => format!("{}…", &joined[..end]),
            None => joined,
        }
    }
}
