//! GraphQL, where a refusal is an ordinary answer with errors: [GitHub]'s `RATE_LIMITED` and
//! [Shopify]'s `THROTTLED`.
//!
//! [GitHub]: https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
//! [Shopify]: https://shopify.dev/docs/api/usage/limits

use http::StatusCode;

use super::Dialect;
use crate::signal::{body::Body, json::Json};

pub(super) const DIALECT: Dialect = Dialect {
    refuses: Some(refuses),
    ..Dialect::SILENT
};

fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    let json = body.json();
    status.is_success()
        && !has_data(&json["data"])
        && json["errors"].elements().iter().any(is_throttle)
}

/// Where one part of a request was refused and another done, sending it again would do that twice.
fn has_data(data: &Json<'_>) -> bool {
    data.members().iter().any(|(_, value)| !value.is_null())
}

fn is_throttle(error: &Json<'_>) -> bool {
    let codes = [&error["type"], &error["extensions"]["code"]];
    codes
        .into_iter()
        .any(|code| matches!(code.as_str(), Some("RATE_LIMITED" | "THROTTLED")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_as_a_whole_was_refused() {
        for (body, refused) in [
            (r#"{"errors": [{"type": "RATE_LIMITED"}]}"#, true),
            (
                r#"{"data": null, "errors": [{"extensions": {"code": "THROTTLED"}}]}"#,
                true,
            ),
            (
                r#"{"data": {"a": null}, "errors": [{"type": "RATE_LIMITED"}]}"#,
                true,
            ),
            (
                r#"{"data": {"a": null, "b": 1}, "errors": [{"type": "RATE_LIMITED"}]}"#,
                false,
            ),
            (r#"{"errors": [{"type": "NOT_FOUND"}]}"#, false),
            (r#"{"data": {"errors": [{"type": "RATE_LIMITED"}]}}"#, false),
            (r#"{"errors": "RATE_LIMITED"}"#, false),
        ] {
            let body = Body::parse(body.as_bytes()).expect("an object");
            assert_eq!(refuses(StatusCode::OK, &body), refused, "{body:?}");
            assert!(!refuses(StatusCode::FOUND, &body), "{body:?}");
        }
    }
}
