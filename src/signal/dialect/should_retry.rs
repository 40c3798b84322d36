//! Advice on sending the request again: `x-should-retry`, which [OpenAI] and Anthropic send and
//! their own clients heed, and [Stripe]'s.
//!
//! [OpenAI]: https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py
//! [Stripe]: https://docs.stripe.com/error-low-level

use super::{Dialect, Field, Heard};
use crate::signal::number;

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    ..Dialect::SILENT
};

fn hear(field: &Field<'_>, heard: &mut Heard<'_>) -> bool {
    let ("x-should-retry" | "stripe-should-retry") = field.name else {
        return false;
    };
    let value = number::trim(field.value);
    if value.eq_ignore_ascii_case(b"false") {
        heard.should_retry = Some(false);
    } else if value.eq_ignore_ascii_case(b"true") {
        heard.should_retry = heard.should_retry.or(Some(true));
    }
    true
}
