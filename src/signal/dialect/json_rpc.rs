//! JSON-RPC, as the providers of Ethereum nodes speak it: a refusal is a success with an error
//! code.

use std::time::Duration;

use http::StatusCode;

use super::Dialect;
use crate::signal::{
    body::{self, Body},
    instant::Clock,
    json::Json,
};

pub(super) const DIALECT: Dialect = Dialect {
    refuses: Some(refuses),
    wait: Some(wait),
    ..Dialect::SILENT
};

/// Of a batch that was answered in part, the answered calls would be done twice.
fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    let is_call = body.json()["jsonrpc"].as_str().is_some();
    status.is_success() && is_call && !body.is_partial() && is_throttle(body.error())
}

/// 429 is a limit whoever says it. The others are reserved for implementations, and mean something
/// else on other chains, or only that a reply would be too long: there the message has to agree.
fn is_throttle(error: &Json<'_>) -> bool {
    let says = |part| {
        let message = error["message"].as_str();
        message.is_some_and(|message| message.to_ascii_lowercase().contains(part))
    };
    match error["code"].as_i64() {
        Some(429) => true,
        // https://eips.ethereum.org/EIPS/eip-1474
        Some(-32_005) => says("rate") || says("limit") && !says("results"),
        Some(-32_007 | -32_016) => says("limit"),
        _ => false,
    }
}

/// Infura's.
fn wait(body: &Body<'_>, _: &Clock<'_>) -> Option<Duration> {
    body::seconds(&body.error()["data"]["rate"]["backoff_seconds"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_others_use_differently_needs_its_words() {
        for (error, refused) in [
            (r#"{"code": 429}"#, true),
            (
                r#"{"code": -32005, "message": "project ID request rate exceeded"}"#,
                true,
            ),
            (r#"{"code": -32005, "message": "Limit exceeded"}"#, true),
            (
                r#"{"code": -32005, "message": "query returned more than 10000 results"}"#,
                false,
            ),
            (
                r#"{"code": -32005, "message": "Node is behind by 42 slots"}"#,
                false,
            ),
            (
                r#"{"code": -32007, "message": "50/second request limit reached"}"#,
                true,
            ),
            (
                r#"{"code": -32007, "message": "Slot 7 was skipped"}"#,
                false,
            ),
            (
                r#"{"code": -32016, "message": "Your IP is over rate limit"}"#,
                true,
            ),
            (
                r#"{"code": 3, "message": "execution reverted: rate limit"}"#,
                false,
            ),
            (r#"{"code": "429"}"#, false),
            ("null", false),
        ] {
            let reply = |text: &str| {
                let body = Body::parse(text.as_bytes()).expect("an object");
                refuses(StatusCode::OK, &body)
            };
            let call = format!(r#"{{"jsonrpc": "2.0", "id": 1, "error": {error}}}"#);
            assert_eq!(reply(&call), refused, "{error}");
            assert!(!reply(&format!(r#"{{"error": {error}}}"#)), "no call");
            let answered = format!(r#"[{{"jsonrpc": "2.0", "id": 0, "result": 1}}, {call}]"#);
            assert!(!reply(&answered), "a part of it was done");
            let refused_whole = format!("[{call}, {call}]");
            assert_eq!(reply(&refused_whole), refused, "{error} twice");
        }
    }
}
