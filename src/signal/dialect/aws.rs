//! AWS: it throttles with nearly any status, and says so by a code, in `x-amzn-errortype` or in the
//! body, as JSON or XML.
//!
//! The codes are those that [its own clients] take for throttling.
//!
//! [its own clients]: https://github.com/smithy-lang/smithy-rs/blob/main/aws/rust-runtime/aws-runtime/src/retries/classifiers.rs

use std::str;

use http::StatusCode;

use super::{Dialect, Field, Heard};
use crate::signal::{body::Body, number};

const CODES: [&str; 14] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
];

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    refuses: Some(refuses),
    ..Dialect::SILENT
};

fn hear(field: &Field<'_>, heard: &mut Heard<'_>) -> bool {
    let "x-amzn-errortype" = field.name else {
        return false;
    };
    heard.is_throttled |= str::from_utf8(number::trim(field.value)).is_ok_and(is_throttle);
    true
}

fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    let json = body.json();
    let mut codes = [&json["__type"], &json["code"]].into_iter();
    matches!(status.as_u16(), 400 | 500 | 503)
        && (codes.any(|code| code.as_str().is_some_and(is_throttle))
            || xml_code(body.text()).is_some_and(is_throttle))
}

/// `com.amazonaws.dynamodb.v20120810#ThrottlingException:http://internal.amazon.com/`: the name
/// stands between a namespace and where it is explained.
fn is_throttle(code: &str) -> bool {
    let code = code.split_once(':').map_or(code, |(code, _)| code);
    let code = code.rsplit_once('#').map_or(code, |(_, code)| code);
    CODES.contains(&code)
}

/// `<Error><Code>SlowDown</Code></Error>`: the only element of an error that tells, so a parser for
/// all of XML would be of no further use.
fn xml_code(text: &str) -> Option<&str> {
    let xml = text.trim_ascii_start().strip_prefix('<')?;
    let (_, code) = xml.split_once("<Code>")?;
    let (code, _) = code.split_once("</Code>")?;
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_wherever_it_stands() {
        for body in [
            r#"{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException"}"#,
            r#"{"__type": "ThrottlingException:http://internal.amazon.com/#x"}"#,
            r#"{"code": "LimitExceededException"}"#,
            "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
            "<?xml version=\"1.0\"?>\n<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>",
        ] {
            let body = Body::parse(body.as_bytes()).expect(body);
            assert!(refuses(StatusCode::BAD_REQUEST, &body), "{body:?}");
            assert!(refuses(StatusCode::SERVICE_UNAVAILABLE, &body), "{body:?}");
            assert!(!refuses(StatusCode::FORBIDDEN, &body), "{body:?}");
        }
    }

    #[test]
    fn another_code_is_another_error() {
        for body in [
            r#"{"__type": "com.amazon.coral.service#AccessDeniedException"}"#,
            r#"{"__type": "throttlingexception"}"#,
            r#"{"__type": ["Throttling"], "message": "Throttling"}"#,
            "<Error><Code>NoSuchKey</Code><Key><Code>SlowDown</Code></Key></Error>",
            "<Error><Code>SlowDown",
            "<Error>SlowDown</Error>",
        ] {
            let body = Body::parse(body.as_bytes()).expect(body);
            assert!(!refuses(StatusCode::BAD_REQUEST, &body), "{body:?}");
        }
    }
}
