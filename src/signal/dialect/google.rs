//! Google's errors: [`QuotaFailure` and `ErrorInfo`][details], which name the quota that is spent.
//!
//! [details]: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto

use std::iter;

use serde_json::Value;

use super::Dialect;
use crate::signal::body::{Body, elements};

pub(super) const DIALECT: Dialect = Dialect {
    terminal_codes: &["QUOTA_EXHAUSTED", "dailyLimitExceeded"],
    is_terminal: Some(violates_daily_quota),
    ..Dialect::SILENT
};

/// Such a refusal may come with a wait of a few seconds, which is not true.
fn violates_daily_quota(body: &Body) -> bool {
    elements(&body.error()["details"]).any(|detail| {
        let quotas = elements(&detail["violations"]).map(|violation| &violation["quotaId"]);
        let mut quotas = quotas
            .chain(iter::once(&detail["metadata"]["quota_limit"]))
            .filter_map(Value::as_str);
        quotas.any(|quota| quota.contains("PerDay"))
    })
}
