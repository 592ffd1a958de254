//! The log for developers: what `bake` does inside, on standard error, when `BAKE_LOG` or `--debug` asks for it.
//!
//! Spans and events are made by `tracing` where the work is done. Without a filter nothing is set up here, and each of them
//! costs one comparison. Users are told things by diagnostics and progress, not by this.

use std::io;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{MakeWriter, format::FmtSpan},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::output;
use crate::report::Diagnostic;

/// Starts the log.
///
/// `filter` is a level (`error`, `warn`, `info`, `debug`, `trace`) for all of `bake`, or a list of `module=level` such as
/// `bake::solve=trace,bake::registry=debug`.
///
/// # Errors
/// When the filter is neither.
pub(crate) fn start(filter: &str) -> Result<(), Box<Diagnostic>> {
    let targets = targets(filter)?;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Masked)
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .compact();
    // A second start, as in a test, changes nothing.
    drop(tracing_subscriber::registry().with(targets).with(layer).try_init());
    Ok(())
}

fn targets(filter: &str) -> Result<Targets, Box<Diagnostic>> {
    if let Ok(level) = filter.parse::<LevelFilter>() {
        return Ok(Targets::new().with_target("bake", level));
    }
    filter.parse::<Targets>().map_err(|error| {
        let fault = Diagnostic::error("bake::cli::log_filter", format!("not a filter of the log: {filter}"));
        Box::new(
            fault
                .cause(&error)
                .help("write a level (debug) or modules with levels (bake::solve=trace,bake::registry=debug)"),
        )
    })
}

/// Standard error, where secrets are not shown.
struct Masked;

impl io::Write for Masked {
    /// A whole event each time: that is how the formatting layer writes.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        output::words(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Masked {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_a_list() {
        assert_eq!(targets("debug").expect("a level").to_string(), "bake=debug");
        assert_eq!(targets("bake::solve=trace").expect("a list").to_string(), "bake::solve=trace");
        assert_eq!(targets("bake=loud").expect_err("no level").message, "not a filter of the log: bake=loud");
    }
}
