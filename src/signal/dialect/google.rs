//! Google's errors. [`RetryInfo`, `QuotaFailure` and `ErrorInfo`][details] say how long to wait and
//! which quota is spent; older ones have a [reason].
//!
//! [details]: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
//! [reason]: https://developers.google.com/drive/api/guides/handle-errors

use std::{iter, time::Duration};

use http::StatusCode;

use super::Dialect;
use crate::signal::{
    body::Body,
    instant::Clock,
    json::Json,
    number::{self, Number, SECOND},
};

pub(super) const DIALECT: Dialect = Dialect {
    terminal_codes: &["QUOTA_EXHAUSTED", "dailyLimitExceeded"],
    is_terminal: Some(violates_daily_quota),
    refuses: Some(refuses),
    wait: Some(wait),
    ..Dialect::SILENT
};

/// Such a refusal may come with a wait of a few seconds, which is not true.
fn violates_daily_quota(body: &Body<'_>) -> bool {
    body.details().elements().iter().any(|detail| {
        let quotas = detail["violations"]
            .elements()
            .iter()
            .map(|violation| &violation["quotaId"]);
        let mut quotas = quotas
            .chain(iter::once(&detail["metadata"]["quota_limit"]))
            .filter_map(Json::as_str);
        quotas.any(|quota| quota.contains("PerDay"))
    })
}

fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    status == StatusCode::FORBIDDEN
        && body
            .codes()
            .any(|code| matches!(code, "rateLimitExceeded" | "userRateLimitExceeded"))
}

/// The longest, should there be several.
fn wait(body: &Body<'_>, _: &Clock<'_>) -> Option<Duration> {
    let details = body.details().elements().iter();
    let delays = details.filter_map(|detail| duration(detail["retryDelay"].as_str()?));
    delays.max()
}

/// `3.5s`, the one form in which [JSON] has a `google.protobuf.Duration`.
///
/// [JSON]: https://protobuf.dev/programming-guides/json/
fn duration(text: &str) -> Option<Duration> {
    match Number::split(text.as_bytes())? {
        (seconds, b"s") => Some(number::wait(seconds.nanos(SECOND))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_has_one_form() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("56s", Some(56_000)),
            ("0.539477544s", Some(540)),
            ("99999999999999999999s", Some(2_147_483_648_000)),
            ("5", None),
            ("-5s", None),
            ("1e3s", None),
            (" 5s", None),
            ("5 s", None),
            ("5ms", None),
            ("1m", None),
            ("", None),
        ] {
            let millis = millis.map(Duration::from_millis);
            assert_eq!(duration(text), millis, "{text}");
        }
    }
}
