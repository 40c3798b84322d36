//! One line on standard error for each event.

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::prelude::*;

/// The target of the proxy's own events.
pub(super) const TARGET: &str = "proxy";

/// Writes what the layer and the proxy tell, and nothing of anybody else: what HTTP and TLS trace
/// would show header fields. Of the layer only its events: what its spans say, these say as well.
pub(crate) fn subscriber<W>(quiet: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = if quiet {
        LevelFilter::INFO
    } else {
        LevelFilter::DEBUG
    };
    let told = Targets::new()
        .with_target(TARGET, level)
        .with_target("tower_rate_limit_retry", level);
    let lines = fmt::layer()
        .with_writer(writer)
        .with_target(false)
        .with_level(false);
    let events = filter_fn(|metadata| !metadata.is_span());
    tracing_subscriber::registry().with(lines.with_filter(told.and(events)))
}
