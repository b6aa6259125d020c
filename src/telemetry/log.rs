//! The log: one line an event on stderr, as text for people and as JSON for machines.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
    time::Duration,
};

use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use super::lines::Lines;
use crate::{
    config::{LogFormat, LogSettings},
    error::{Error, Result},
};

/// What would say too much at the level `info`. A directive of the same name in the settings goes over it.
const QUIET: &str = "sqlx=warn,sea_orm=warn,sea_orm_migration=warn,h2=warn,hyper=warn,hyper_util=warn,tower=warn,rustls=warn,tonic=warn";

static LINES: OnceLock<Lines> = OnceLock::new();

/// Begins to log; where the process already does, nothing changes. `FIELD_INVALID` where the filter is none.
pub fn start(settings: &LogSettings) -> Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.filter))
        .map_err(|_| Error::field("log.filter", "must be a level or an EnvFilter"))?;
    if LINES.get().is_some() {
        return Ok(());
    }
    let lines = Lines::start()
        .map_err(|error| Error::internal("the log cannot be started").because(error))?;
    let lines = LINES.get_or_init(|| lines).clone();
    let terminal = io::stderr().is_terminal();
    let as_text = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let layer = if as_text {
        layer.with_ansi(terminal).boxed()
    } else {
        layer.json().flatten_event(true).boxed()
    };
    // Somebody else's subscriber, as a test may have one, stays.
    let _already = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    Ok(())
}

/// Waits a moment for the last lines to be written.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_and_the_metrics_can_be_started_twice() {
        let settings = LogSettings::default();
        for _ in 0..2 {
            start(&settings).unwrap();
            crate::telemetry::metrics::start();
        }
        tracing::info!("once");
        flush();
        let rendered = crate::telemetry::metrics::render();
        assert!(!rendered.contains("panicked"));
    }
}
