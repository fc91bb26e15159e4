//! Logs: one subscriber for the process, to standard error. Every session has a span (protocol,
//! session, peer; the user once known) and every call one below it (kind, transaction id), so that
//! one call can be followed by its transaction id into the layers below. Passwords and contents of
//! messages are never logged.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::TryInitError;

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The filter makes no sense: correct it.
    #[error("is no log filter: {0}")]
    Filter(#[from] ParseError),
    /// There is a subscriber already.
    #[error("logging has been started before")]
    Twice(#[from] TryInitError),
}

/// Starts logging. `filter`: `error`, `warn`, `info`, `debug`, `trace`, or directives by module
/// such as `info,postroom_node::front=debug`. With `debug`, every span says when it is over and how
/// long it took: the way of a call, from the innermost layer out. `json`: lines for programs instead
/// of people.
pub fn start(filter: &str, json: bool) -> Result<(), StartError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = EnvFilter::builder().parse(filter)?;
    let ends = match filter.max_level_hint() {
        Some(level) if level < LevelFilter::DEBUG => FmtSpan::NONE,
        _ => FmtSpan::CLOSE,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(ends)
        .with_writer(std::io::stderr);
    match json {
        true => builder.json().finish().try_init()?,
        false => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let error = start("info,=,=x[", false).unwrap_err();
        assert!(matches!(error, StartError::Filter(_)), "{error}");
    }
}
