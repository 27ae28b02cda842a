//! Logs: one line per decision, text on a terminal and JSON elsewhere.

use std::{fmt, io::IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt::time::SystemTime};

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// In which form.
    pub format: Format,
    /// What passes, as in `info` or `jackfield=debug,warn`. `RUST_LOG` has the last word.
    pub level: Option<String>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines, one object per line.
    Json,
}

/// Whether `filter` can be given as a level.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), ParseError> {
    EnvFilter::builder().parse(filter).map(|_| ())
}

/// Writes logs to the standard error from now on. Called once, by the program.
///
/// # Panics
///
/// Where logs are being written already.
pub fn init(options: &Options) {
    let variable = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|text| !text.is_empty());
    let level = variable.as_deref().or(options.level.as_deref()).unwrap_or(LEVEL);
    let filter = EnvFilter::builder().parse_lossy(level);
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(std::io::stderr);
    match options.format {
        Format::Json => builder.json().flatten_event(true).with_current_span(false).init(),
        Format::Auto if !terminal => builder.json().flatten_event(true).with_current_span(false).init(),
        Format::Text | Format::Auto => {
            let colour = terminal && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).with_target(false).init();
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

const LEVEL: &str = "info";
