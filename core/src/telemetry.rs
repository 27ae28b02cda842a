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
    let filter = quiet(EnvFilter::builder().parse_lossy(level));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        // It would tell of a line that cannot be written by writing it to the same place, and panic when that fails:
        // a log on a full disk must not stop what is being logged.
        .log_internal_errors(false)
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

/// Writes nothing, but has plugins log what `info` lets pass, for whoever listens to their calls. Called once, by the program.
///
/// # Panics
///
/// Where logs are being written already.
pub fn init_silent() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::sink)
        .init();
}

/// Without what could show a header: HTTP/2's own log holds paths and signatures, at whatever level it is asked for.
fn quiet(filter: EnvFilter) -> EnvFilter {
    filter.add_directive("h2=warn".parse().expect("the directive is well formed"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_http2_is_quiet_whatever_is_asked_for() {
        for asked in ["trace", "h2=trace", "info,h2=debug"] {
            let filter = quiet(EnvFilter::builder().parse_lossy(asked)).to_string();
            assert!(
                filter.contains("h2=warn") && !filter.contains("h2=trace") && !filter.contains("h2=debug"),
                "{filter}"
            );
        }
    }

    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        for good in ["info", "jackfield=debug,warn", "off"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        assert!(check_filter("jackfield=loud").is_err());
    }
}
