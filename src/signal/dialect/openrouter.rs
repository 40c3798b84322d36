//! [OpenRouter], which puts the header fields of the refusal into its body.
//!
//! [OpenRouter]: https://openrouter.ai/docs/api-reference/limits

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Dialect, Heard};
use crate::signal::{body::Body, few::Few, instant::Clock};

pub(super) const DIALECT: Dialect = Dialect {
    wait: Some(wait),
    ..Dialect::SILENT
};

/// What they would announce, were they header fields.
fn wait(body: &Body<'_>, clock: &Clock<'_>) -> Option<Duration> {
    let fields = body.error()["metadata"]["headers"].members();
    if fields.is_empty() {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let Some(text) = value.as_str() else { continue };
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.as_ref()),
            HeaderValue::try_from(text),
        ) {
            // Too many of them is the only error, and what fits is enough.
            let _ = headers.try_append(name, value);
        }
    }
    let mut limits = Few::default();
    let heard = Heard::listen(&headers, clock, &mut limits);
    heard.announced.wait().or_else(|| heard.limits.wait())
}
