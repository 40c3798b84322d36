//! [Slack], some methods of which refuse with a success.
//!
//! [Slack]: https://api.slack.com/apis/rate-limits

use http::StatusCode;

use super::Dialect;
use crate::signal::body::Body;

pub(super) const DIALECT: Dialect = Dialect {
    refuses: Some(refuses),
    ..Dialect::SILENT
};

fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    let is_failure = body.json()["ok"].as_bool() == Some(false);
    status.is_success() && is_failure && body.error().as_str() == Some("ratelimited")
}
