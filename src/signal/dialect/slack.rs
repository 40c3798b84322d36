//! [Slack], some methods of which refuse with a success.
//!
//! [Slack]: https://api.slack.com/apis/rate-limits

use http::StatusCode;
use serde_json::Value;

use super::Dialect;
use crate::signal::body::Body;

pub(super) const DIALECT: Dialect = Dialect {
    refuses: Some(refuses),
    ..Dialect::SILENT
};

fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    let json = body.json();
    status.is_success() && json["ok"] == Value::Bool(false) && json["error"] == "ratelimited"
}
