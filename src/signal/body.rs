//! What the JSON body of a refusal says: that no wait will help, or how long to wait.

use std::{iter, time::Duration};

use serde_json::Value;

use super::{
    number::{self, Number, SECOND},
    prose,
};

/// Error bodies are small. A larger one is something else, and not read.
const MAX_LENGTH: usize = 64 * 1024;

/// Codes of refusals that no wait can cure: the account has to be paid for or raised, or the day
/// has to end.
///
/// Compared exactly, with `code`, `type` and `reason`. Quota words in prose prove nothing: the
/// links in ordinary refusals contain them.
const TERMINAL_CODES: [&str; 9] = [
    // OpenAI, https://platform.openai.com/docs/guides/error-codes
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "organization_usage_limit_exceeded",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    // Anthropic
    "enforced_spend_limit_reached",
    // Google
    "QUOTA_EXHAUSTED",
    "dailyLimitExceeded",
];

/// How the problem types end with which X refuses for the rest of the month.
const TERMINAL_TYPE: &str = "/usage-capped";

/// What only the message tells: the code of these is that of an ordinary refusal.
const TERMINAL_MESSAGES: [&str; 3] = [
    "Request too large",
    "Extra usage is required",
    "credit balance is too low",
];

/// The body of a refusal: a JSON object, or the first of an array that has an `error`.
#[derive(Debug)]
pub(super) struct Refusal(Value);

// An index by name is total: what is absent, or in something that is no object, is `null`.
impl Refusal {
    /// Reads a body. Anything but JSON, and whatever is larger than 64 KiB or deeper than 128
    /// levels, is `None`.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (b'{' | b'[') = body.trim_ascii_start().first()? else {
            return None;
        };
        if body.len() > MAX_LENGTH {
            return None;
        }
        match serde_json::from_slice(body).ok()? {
            Value::Array(items) => items
                .into_iter()
                .find(|item| item.get("error").is_some())
                .map(Self),
            object => Some(Self(object)),
        }
    }

    /// Whether the same request is refused however long one waits.
    pub(super) fn is_terminal(&self) -> bool {
        let error = self.error();
        let details = &error["details"];
        let nested = elements(&error["errors"]).chain(elements(details));
        let mut coded = iter::once(&self.0).chain(iter::once(error)).chain(nested);
        coded.any(|object| {
            ["code", "type", "reason"]
                .iter()
                .any(|name| is_terminal_code(&object[name]))
        }) || is_terminal_code(&details["error_code"])
            || elements(details).any(violates_daily_quota)
            || self
                .messages()
                .any(|message| TERMINAL_MESSAGES.iter().any(|part| message.contains(part)))
    }

    /// The wait asked for, in seconds as a number, else in words.
    pub(super) fn wait(&self) -> Option<Duration> {
        let mut numbers = [&self.0, self.error(), &self.0["parameters"]].into_iter();
        let number = numbers.find_map(|object| seconds(&object["retry_after"]));
        number.or_else(|| {
            self.messages()
                .chain(self.0["description"].as_str())
                .find_map(prose::wait)
        })
    }

    fn error(&self) -> &Value {
        &self.0["error"]
    }

    fn messages(&self) -> impl Iterator<Item = &str> {
        [self.error(), &self.0]
            .into_iter()
            .filter_map(|object| object["message"].as_str())
    }
}

fn is_terminal_code(code: &Value) -> bool {
    code.as_str()
        .is_some_and(|code| TERMINAL_CODES.contains(&code) || code.ends_with(TERMINAL_TYPE))
}

/// Google's [`QuotaFailure`] and `ErrorInfo`, which may come with a wait of a few seconds that is
/// not true.
///
/// [`QuotaFailure`]: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
fn violates_daily_quota(detail: &Value) -> bool {
    let quotas = elements(&detail["violations"]).map(|violation| &violation["quotaId"]);
    let mut quotas = quotas
        .chain(iter::once(&detail["metadata"]["quota_limit"]))
        .filter_map(Value::as_str);
    quotas.any(|quota| quota.contains("PerDay"))
}

fn seconds(value: &Value) -> Option<Duration> {
    // `Display` of an `f64` is its shortest decimal form, without an exponent: 64.57 stays 64.57.
    let decimal = value.as_f64()?.to_string();
    Number::parse(decimal.as_bytes()).map(|number| number::wait(number.nanos(SECOND)))
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wait(body: &str) -> Option<u128> {
        Refusal::parse(body.as_bytes())?
            .wait()
            .map(|wait| wait.as_millis())
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
            assert!(
                Refusal::parse(body.as_bytes())
                    .expect("an object")
                    .is_terminal(),
                "{body}"
            );
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
            assert!(
                !Refusal::parse(body.as_bytes())
                    .expect("an object")
                    .is_terminal(),
                "{body}"
            );
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
    fn what_is_no_json_object_says_nothing() {
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
            "<p>retry after 5</p>",
            &deep,
            &large,
        ] {
            assert!(Refusal::parse(body.as_bytes()).is_none(), "{body:.40}");
        }
        assert!(Refusal::parse(b"{\"message\": \"retry after 5\xFF\"}").is_none());
        assert_eq!(
            wait(&large.replacen("  ", "", 64)),
            Some(5_000),
            "just short enough"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            json in r#"\[?\{"(error|retry_after|message)": (\{"(message|details)": )?[\["0-9.e-]{0,4}["\]}]{0,4}"#,
        ) {
            for body in [&bytes, json.as_bytes()] {
                let Some(refusal) = Refusal::parse(body) else { continue };
                let _ = refusal.is_terminal();
                prop_assert!(refusal.wait().is_none_or(|wait| wait <= number::MAX_WAIT));
            }
        }

        #[test]
        fn a_number_is_never_shorter_than_written(millis in 0_u64..=2_147_483_648_000) {
            let body = format!(r#"{{"retry_after": {}.{:03}}}"#, millis / 1_000, millis % 1_000);
            prop_assert_eq!(wait(&body), Some(u128::from(millis)));
        }
    }
}
