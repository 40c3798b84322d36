//! What kind of answer a response is: the rule that weighs the status, the header fields and the
//! body.

use http::{HeaderMap, StatusCode, header};

use super::{
    body::Body,
    dialect::{self, Heard},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    /// No refusal, or one that is not about limits.
    #[default]
    Unrelated,
    Throttle,
    Terminal,
}

impl Class {
    pub(super) fn of(status: StatusCode, heard: &Heard<'_>, body: Option<&Body<'_>>) -> Self {
        let is_error = status.as_u16() >= 400;
        // The status of a refused gRPC call is that of a success.
        let should_retry = heard.should_retry.filter(|_| is_error);
        match heard.push_back.into_iter().chain(should_retry).min() {
            Some(true) => return Self::Throttle,
            Some(false) => return Self::Terminal,
            None => {}
        }
        if is_error && body.is_some_and(dialect::is_terminal) {
            return Self::Terminal;
        }
        let asks_to_wait = || heard.announced.wait().is_some();
        let refuses_in_body = || body.is_some_and(|body| dialect::refuses(status, body));
        let is_throttle = match status.as_u16() {
            // RFC 6585, section 4, and "overloaded", as some APIs say
            429 | 529 => true,
            // RFC 9110, section 15.5.14: without a wait, too large.
            413 => asks_to_wait(),
            // RFC 9110, section 15.6.4: without a wait, an outage.
            503 => asks_to_wait() || heard.is_throttled || refuses_in_body(),
            // GitHub refuses so when the quota is used up, but more often for want of a permission.
            403 => asks_to_wait() || heard.limits.is_exhausted() || refuses_in_body(),
            400 | 500 => heard.is_throttled || refuses_in_body(),
            200..=299 => refuses_in_body(),
            _ => false,
        };
        if is_throttle {
            Self::Throttle
        } else {
            Self::Unrelated
        }
    }
}

/// Whether the body of an error may prove that a limit was reached, though its head does not:
/// whether it is worth the time to have it read.
///
/// So for the errors that have been seen to do so, 400, 403, 500 and 503, if the body is JSON, XML
/// or of no stated type, and not compressed. A status that means a limit by itself, such as 429, is
/// not among them.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, HeaderValue, StatusCode, header};
/// use tower_rate_limit_retry::signal;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
/// assert!(signal::might_refuse(StatusCode::FORBIDDEN, &headers));
/// assert!(!signal::might_refuse(StatusCode::NOT_FOUND, &headers));
/// ```
pub fn might_refuse(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 400 | 403 | 500 | 503) && has_readable_body(headers)
}

/// Whether the body is JSON, XML or of no stated type, and not compressed.
pub(crate) fn has_readable_body(headers: &HeaderMap) -> bool {
    let is_readable = headers.get(header::CONTENT_TYPE).is_none_or(|media_type| {
        // `application/problem+json`, `application/x-amz-json-1.0`, `text/xml`
        let mut words = media_type
            .as_bytes()
            .split(|byte| !byte.is_ascii_alphanumeric());
        words.any(|word| word.eq_ignore_ascii_case(b"json") || word.eq_ignore_ascii_case(b"xml"))
    });
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    is_readable && encodings.all(|encoding| encoding == "identity")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, HeaderValue};

    use super::{
        Class::{self, Terminal, Throttle, Unrelated},
        might_refuse,
    };
    use crate::signal;

    #[test]
    fn each_status_has_its_class() {
        let quota = r#"{"error": {"code": "insufficient_quota"}}"#;
        let wait = ("retry-after", "5");
        let yes = ("x-should-retry", "True");
        let no = ("x-should-retry", " FALSE");
        let none_left = ("x-ratelimit-remaining", "0");
        let some_left = ("x-ratelimit-remaining", "4999");
        for (status, headers, body, class) in [
            (429, &[][..], "", Throttle),
            (429, &[none_left], "Too Many Requests", Throttle),
            (429, &[], quota, Terminal),
            (429, &[wait], quota, Terminal),
            (429, &[no], "", Terminal),
            (429, &[yes], quota, Throttle),
            (429, &[yes, no], "", Terminal),
            (429, &[no, yes], "", Terminal),
            (429, &[("x-should-retry", "maybe")], "", Throttle),
            (529, &[], "", Throttle),
            (503, &[], "", Unrelated),
            (503, &[wait], "", Throttle),
            (503, &[("retry-after-ms", "0")], "", Throttle),
            (503, &[("retry-after", "soon")], "", Unrelated),
            (503, &[none_left], "", Unrelated),
            (503, &[wait, no], "", Terminal),
            (413, &[], "", Unrelated),
            (413, &[wait], "", Throttle),
            (
                413,
                &[wait],
                r#"{"error": {"message": "Request too large"}}"#,
                Terminal,
            ),
            (403, &[], "", Unrelated),
            (403, &[wait], "", Throttle),
            (403, &[none_left], "", Throttle),
            (403, &[some_left], "", Unrelated),
            (
                400,
                &[],
                r#"{"error": {"code": "billing_hard_limit_reached"}}"#,
                Terminal,
            ),
            (400, &[wait], "", Unrelated),
            (401, &[none_left], "", Unrelated),
            (404, &[none_left], "", Unrelated),
            (500, &[], "", Unrelated),
            (500, &[wait], "", Unrelated),
            (500, &[yes], "", Throttle),
            (200, &[wait, none_left], quota, Unrelated),
            (200, &[yes], "", Unrelated),
            (200, &[no], "", Unrelated),
            (301, &[wait, yes], "", Unrelated),
            (100, &[no], "", Unrelated),
        ] {
            assert_class(status, headers, body, class);
        }
    }

    #[test]
    fn some_refuse_with_the_status_of_something_else() {
        let push_back = ("grpc-retry-pushback-ms", "250");
        let secondary = r#"{"message": "You have exceeded a Secondary Rate limit."}"#;
        let some_left = ("x-ratelimit-remaining", "4999");
        for (status, headers, body, class) in [
            (200, &[push_back][..], "", Throttle),
            (
                200,
                &[push_back, ("grpc-retry-pushback-ms", "-1")],
                "",
                Terminal,
            ),
            (
                503,
                &[push_back, ("stripe-should-retry", "false")],
                "",
                Terminal,
            ),
            (
                400,
                &[("x-amzn-errortype", "ThrottlingException:http://a/")],
                "",
                Throttle,
            ),
            (
                404,
                &[("x-amzn-errortype", "ThrottlingException")],
                "",
                Unrelated,
            ),
            (
                400,
                &[("x-amzn-errortype", "ValidationException")],
                "",
                Unrelated,
            ),
            (500, &[], r#"{"__type": "x#ThrottlingException"}"#, Throttle),
            (503, &[], "<Error><Code>SlowDown</Code></Error>", Throttle),
            (404, &[], "<Error><Code>SlowDown</Code></Error>", Unrelated),
            (403, &[], secondary, Throttle),
            (403, &[some_left], secondary, Throttle),
            (404, &[], secondary, Unrelated),
            (500, &[], secondary, Unrelated),
            (403, &[], r#"{"message": "Forbidden"}"#, Unrelated),
            (
                403,
                &[],
                r#"{"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}"#,
                Throttle,
            ),
            (
                403,
                &[],
                r#"{"error": {"errors": [{"reason": "dailyLimitExceeded"}]}}"#,
                Terminal,
            ),
            (
                200,
                &[],
                r#"{"ok": false, "error": "ratelimited"}"#,
                Throttle,
            ),
            (
                404,
                &[],
                r#"{"ok": false, "error": "ratelimited"}"#,
                Unrelated,
            ),
            (
                200,
                &[],
                r#"{"ok": true, "error": "ratelimited"}"#,
                Unrelated,
            ),
            (
                200,
                &[],
                r#"{"errors": [{"type": "RATE_LIMITED"}]}"#,
                Throttle,
            ),
            (
                200,
                &[],
                r#"{"jsonrpc": "2.0", "error": {"code": 429}}"#,
                Throttle,
            ),
        ] {
            assert_class(status, headers, body, class);
        }
    }

    #[test]
    fn only_an_error_with_a_readable_body_might_refuse() {
        for (status, fields, might) in [
            (400, &[][..], true),
            (
                403,
                &[("content-type", "application/json; charset=utf-8")],
                true,
            ),
            (500, &[("content-type", "application/x-amz-json-1.0")], true),
            (503, &[("content-type", "application/xml")], true),
            (400, &[("content-type", "application/problem+JSON")], true),
            (400, &[("content-encoding", "identity")], true),
            (400, &[("content-encoding", "gzip")], false),
            (403, &[("content-type", "text/html")], false),
            (403, &[("content-type", "text/plain")], false),
            (403, &[("content-type", "application/grpc")], false),
            (200, &[("content-type", "application/json")], false),
            (404, &[("content-type", "application/json")], false),
            (502, &[("content-type", "application/json")], false),
        ] {
            let status = status.try_into().expect("a status");
            assert_eq!(
                might_refuse(status, &headers(fields)),
                might,
                "{status} {fields:?}"
            );
        }
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::try_from(*value).expect("a value"));
        }
        headers
    }

    fn assert_class(status: u16, fields: &[(&'static str, &str)], body: &str, class: Class) {
        let status = status.try_into().expect("a status");
        let now = SystemTime::UNIX_EPOCH;
        let signal = signal::read(status, &headers(fields), Some(body.as_bytes()), now);
        assert_eq!(signal.class, class, "{status} {fields:?} {body}");
        assert_eq!(signal.is_throttle(), class == Throttle);
        assert_eq!(signal.is_terminal(), class == Terminal);
    }
}
