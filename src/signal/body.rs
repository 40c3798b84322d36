//! The body of a response, and where in it servers put what they say.

use std::{iter, str, time::Duration};

use super::{
    json::Json,
    number::{self, Number, SECOND},
};

/// Error bodies are small. A larger one is something else, and not read.
const MAX_LENGTH: usize = 64 * 1024;

/// The body of a response: JSON, or else XML.
#[derive(Debug)]
pub(super) struct Body<'a> {
    text: &'a str,
    /// An object; of an array the first that has an `error`. `null` if the text is XML.
    json: Json<'a>,
    /// Taken out of it: all that most errors say is in here.
    error: Json<'a>,
    /// Taken out of that.
    details: Json<'a>,
    is_partial: bool,
}

impl<'a> Body<'a> {
    /// Reads a body. Anything but JSON or XML, and whatever is larger than 64 KiB or deeper than
    /// 128 levels, is `None`.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (b'{' | b'[' | b'<') = body.trim_ascii_start().first()? else {
            return None;
        };
        if body.len() > MAX_LENGTH {
            return None;
        }
        let text = str::from_utf8(body).ok()?;
        let (mut json, is_partial) = if text.trim_ascii_start().starts_with('<') {
            (Json::Null, false)
        } else {
            object(Json::parse(text)?)?
        };
        let mut error = json.take("error");
        let details = error.take("details");
        Some(Self {
            text,
            json,
            error,
            details,
            is_partial,
        })
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// All but the error.
    pub(super) fn json(&self) -> &Json<'a> {
        &self.json
    }

    /// Whether it is an array that also has results: a batch that was answered in part.
    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// All but its details.
    pub(super) fn error(&self) -> &Json<'a> {
        &self.error
    }

    pub(super) fn details(&self) -> &Json<'a> {
        &self.details
    }

    /// What says which error it is: `code`, `type` and `reason`, of the whole, of the error, of its
    /// causes and of its details.
    pub(super) fn codes(&self) -> impl Iterator<Item = &str> {
        let (error, details) = (self.error(), self.details());
        let nested = error["errors"].elements().iter().chain(details.elements());
        iter::once(&self.json)
            .chain(iter::once(error))
            .chain(nested)
            .flat_map(Json::members)
            .filter(|(name, _)| matches!(name.as_ref(), "code" | "type" | "reason"))
            .map(|(_, code)| code)
            .chain(iter::once(&details["error_code"]))
            .filter_map(Json::as_str)
    }

    /// What is said to people.
    pub(super) fn messages(&self) -> impl Iterator<Item = &str> {
        [self.error(), &self.json]
            .into_iter()
            .filter_map(|object| object["message"].as_str())
    }
}

/// The object that tells, and whether others beside it have results.
fn object(json: Json<'_>) -> Option<(Json<'_>, bool)> {
    let Json::Array(items) = json else {
        return Some((json, false));
    };
    let is_partial = items.iter().any(|item| item.get("result").is_some());
    let mut items = items.into_iter();
    let error = items.find(|item| item.get("error").is_some())?;
    Some((error, is_partial))
}

/// A number of seconds, as a wait.
pub(super) fn seconds(value: &Json<'_>) -> Option<Duration> {
    // `Display` of an `f64` is its shortest decimal form, without an exponent: 64.57 stays 64.57.
    let decimal = value.as_f64()?.to_string();
    Number::parse(decimal.as_bytes()).map(|number| number::wait(number.nanos(SECOND)))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::signal::{dialect, instant::Clock};

    fn wait(body: &str) -> Option<u128> {
        let body = Body::parse(body.as_bytes())?;
        let headers = HeaderMap::new();
        let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH);
        dialect::wait(&body, &clock).map(|wait| wait.as_millis())
    }

    #[test]
    fn a_refusal_that_no_wait_cures_is_known_by_its_code() {
        for body in [
            r#"{"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}"#,
            r#"{"error": {"type": "invalid_request_error", "code": "billing_hard_limit_reached"}}"#,
            r#"{"code": "billing_not_active"}"#,
            r#"{"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}}"#,
            r#"{"error": {"details": [{"reason": "RATE_LIMIT"}, {"reason": "QUOTA_EXHAUSTED"}]}}"#,
            r#"{"error": {"errors": [{"domain": "usageLimits", "reason": "dailyLimitExceeded"}], "code": 403}}"#,
            r#"[{"id": 1}, {"error": {"code": "insufficient_quota"}}]"#,
            r#"{"title": "UsageCapExceeded", "type": "https://api.twitter.com/2/problems/usage-capped"}"#,
            r#"{"error": {"details": [{"violations": [{"quotaId": "RequestsPerMinute"}, {"quotaId": "RequestsPerDayPerProject"}]}]}}"#,
            r#"{"error": {"details": [{"metadata": {"quota_limit": "RequestsPerDay"}}]}}"#,
            r#"{"error": {"message": "Request too large for gpt-4o: Limit 30000, Requested 38324.", "code": "rate_limit_exceeded"}}"#,
            r#"{"error": {"message": "Extra usage is required for long context requests."}}"#,
            r#"{"message": "Your credit balance is too low to access the API."}"#,
        ] {
            let read = Body::parse(body.as_bytes()).expect("an object");
            assert!(dialect::is_terminal(&read), "{body}");
        }
    }

    #[test]
    fn words_about_quotas_and_billing_prove_nothing() {
        for body in [
            r#"{"error": {"message": "see docs on insufficient_quota", "type": "requests", "code": "rate_limit_exceeded"}}"#,
            r#"{"error": {"code": "rate_limit_exceeded", "metadata": {"code": "insufficient_quota"}}}"#,
            r#"{"error": {"message": "Upgrade at https://platform.openai.com/account/billing.", "code": "rate_limit_exceeded"}}"#,
            r#"{"error": "INSUFFICIENT QUOTA", "message": "You exceeded your current quota of tokens per minute."}"#,
            r#"{"error": {"code": "Insufficient_Quota"}}"#,
            r#"{"error": {"message": "insufficient_quota"}}"#,
            r#"{"error": {"details": [{"violations": [{"quotaId": "RequestsPerMinute"}]}]}}"#,
            r#"{"error": ["insufficient_quota"], "code": ["insufficient_quota"], "type": null}"#,
            r#"{"choices": [{"message": {"content": "insufficient_quota. Request too large"}}]}"#,
            "{}",
        ] {
            let read = Body::parse(body.as_bytes()).expect("an object");
            assert!(!dialect::is_terminal(&read), "{body}");
        }
    }

    #[test]
    fn a_number_is_asked_for_before_words() {
        for (body, millis) in [
            (
                r#"{"message": "You are being rate limited.", "retry_after": 64.57}"#,
                Some(64_570),
            ),
            (r#"{"error": {"retry_after": 3}}"#, Some(3_000)),
            (
                r#"{"description": "retry after 9", "parameters": {"retry_after": 5}}"#,
                Some(5_000),
            ),
            (r#"{"retry_after": 0}"#, Some(0)),
            (r#"{"retry_after": 1e1}"#, Some(10_000)),
            (r#"{"retry_after": 0.0000001}"#, Some(1)),
            (
                r#"{"retry_after": 18446744073709551615}"#,
                Some(2_147_483_648_000),
            ),
            (
                r#"{"retry_after": 99999999999999999999}"#,
                Some(2_147_483_648_000),
            ),
            (r#"{"retry_after": 1e308}"#, Some(2_147_483_648_000)),
            (r#"{"retry_after": 1e400}"#, None),
            (r#"{"retry_after": -3}"#, None),
            (r#"{"retry_after": "5"}"#, None),
            (
                r#"{"retry_after": null, "error": {"message": "try again in 20s"}}"#,
                Some(20_000),
            ),
            (
                r#"{"error": {"message": "try again in 20s"}, "message": "retry after 5"}"#,
                Some(20_000),
            ),
            (
                r#"{"error": {"message": "slow down"}, "message": "retry after 5"}"#,
                Some(5_000),
            ),
            (
                r#"{"description": "Too Many Requests: retry after 5"}"#,
                Some(5_000),
            ),
            (
                r#"[{"id": 0, "message": "retry after 9"}, {"error": {"message": "retry after 5"}}]"#,
                Some(5_000),
            ),
            (
                r#"{"detail": "retry after 5", "error": "retry after 5"}"#,
                None,
            ),
            (r#"{"error": {"message": ["retry after 5"]}}"#, None),
        ] {
            assert_eq!(wait(body), millis, "{body}");
        }
    }

    #[test]
    fn what_is_neither_json_nor_xml_says_nothing() {
        let deep = "[".repeat(5_000);
        let large = format!(
            r#"{{"message": "retry after 5", "padding": "{}"}}"#,
            " ".repeat(MAX_LENGTH)
        );
        for body in [
            "",
            " ",
            "429",
            "null",
            r#""retry after 5""#,
            "[]",
            "[1]",
            "{",
            "retry after 5",
            &deep,
            &large,
        ] {
            assert!(Body::parse(body.as_bytes()).is_none(), "{body:.40}");
        }
        assert!(Body::parse(b"{\"message\": \"retry after 5\xFF\"}").is_none());
    }

    #[test]
    fn a_body_may_have_64_kib() {
        let message = r#"{"message": "retry after 5"}"#;
        let padded = |length| message.to_owned() + &" ".repeat(length - message.len());
        assert_eq!(wait(&padded(65_536)), Some(5_000));
        assert_eq!(wait(&padded(65_537)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            json in r#"\[?\{"(error|retry_after|message)": (\{"(message|details)": )?[\["0-9.e-]{0,4}["\]}]{0,4}"#,
        ) {
            for body in [&bytes, json.as_bytes()] {
                let Some(body) = Body::parse(body) else { continue };
                let _ = dialect::is_terminal(&body);
                let headers = HeaderMap::new();
                let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH);
                prop_assert!(dialect::wait(&body, &clock).is_none_or(|wait| wait <= number::MAX_WAIT));
            }
        }

        #[test]
        fn a_number_is_never_shorter_than_written(millis in 0_u64..=2_147_483_648_000) {
            let body = format!(r#"{{"retry_after": {}.{:03}}}"#, millis / 1_000, millis % 1_000);
            prop_assert_eq!(wait(&body), Some(u128::from(millis)));
        }
    }
}
