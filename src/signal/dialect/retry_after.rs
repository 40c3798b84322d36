//! Waits in header fields of their own: `Retry-After` ([RFC 9110, section 10.2.3]) and those of
//! servers to whom seconds are too coarse. And in bodies as a number, `retry_after`, in [Discord]'s
//! and [Telegram]'s manner.
//!
//! [RFC 9110, section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
//! [Discord]: https://discord.com/developers/docs/topics/rate-limits
//! [Telegram]: https://core.telegram.org/bots/api#responseparameters

use std::time::Duration;

use super::{Dialect, Field, Heard};
use crate::signal::{
    body::{self, Body},
    instant::Clock,
};

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    wait: Some(wait),
    ..Dialect::SILENT
};

fn hear(field: &Field<'_>, heard: &mut Heard<'_>) -> bool {
    match field.name {
        "retry-after" => heard.announced.hear_retry_after(field.value, field.clock),
        "retry-after-ms" | "x-ms-retry-after-ms" | "x-amz-retry-after" => {
            heard.announced.hear_milliseconds(field.value);
        }
        "x-ratelimit-retry-after" => heard.announced.hear_of_rate_limit(field.value),
        _ => return false,
    }
    true
}

fn wait(body: &Body<'_>, _: &Clock<'_>) -> Option<Duration> {
    let mut numbers = [body.json(), body.error(), &body.json()["parameters"]].into_iter();
    numbers.find_map(|object| body::seconds(&object["retry_after"]))
}
