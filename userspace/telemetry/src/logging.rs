//! Where log lines go and which of them.

use std::io;

use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};

/// Environment variable that commands take the log level from, for example `info` or
/// `nightgate_router=debug,info`.
pub const LEVEL_VARIABLE: &str = "NIGHTGATE_LOG";

/// How a log line is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object on each line, for log collectors.
    Json,
}

/// Logging that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is not understood.
    #[error(
        "log level {level:?}: {source}; expected error, warn, info, debug, trace or target=level"
    )]
    Level {
        /// What was asked for.
        level: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process logs somewhere else already.
    #[error("start logging: the process has a log subscriber already")]
    AlreadyStarted(#[source] TryInitError),
}

/// Starts logging to standard error at `level`: a level, or several of the form `target=level`.
///
/// # Errors
/// The level is not understood, or the process logs already.
pub fn init_logging(level: &str, format: LogFormat) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let level = std::env::var(LEVEL_VARIABLE).unwrap_or_else(|_unset| level.to_owned());
    let filter =
        EnvFilter::try_new(&level).map_err(|source| LoggingError::Level { level, source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(false).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    }
    .map_err(LoggingError::AlreadyStarted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_by_name() {
        let error = init_logging("nightgate=loud", LogFormat::Text).unwrap_err();

        assert!(error.to_string().contains("nightgate=loud"), "{error}");
        assert!(matches!(error, LoggingError::Level { .. }));
    }
}
