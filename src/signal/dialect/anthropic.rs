//! [Anthropic]'s header fields, `anthropic-ratelimit-DIMENSION-{limit,remaining,reset}`, and what
//! of its errors no wait cures.
//!
//! The fields of subscriptions, `anthropic-ratelimit-unified-5h-reset`, are of the same form, but
//! their resets are Unix times and not dates.
//!
//! [Anthropic]: https://docs.anthropic.com/en/api/rate-limits

use super::{Dialect, Field, Heard};
use crate::signal::{limits::Precedence, value};

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    terminal_codes: &["enforced_spend_limit_reached"],
    // Both with the type of an ordinary error.
    terminal_messages: &["Extra usage is required", "credit balance is too low"],
    ..Dialect::SILENT
};

fn hear(field: &Field<'_>, heard: &mut Heard<'_>) -> bool {
    let Some(name) = field.name.strip_prefix("anthropic-ratelimit-") else {
        return false;
    };
    let Some((dimension, kind)) = name.rsplit_once('-') else {
        return false;
    };
    let by = Precedence::XRateLimit;
    let limits = &mut heard.limits;
    match kind {
        "limit" => limits.hear_limit(dimension, by, value::limit(field.value)),
        "remaining" => limits.hear_remaining(dimension, by, value::remaining(field.value)),
        "reset" => {
            let reset = value::reset(field.value, false, field.clock);
            limits.hear_reset(dimension, by, reset);
        }
        _ => return false,
    }
    true
}
