//! What a JSON request body says of its cost and its partition.

use crate::{body::Replayer, quota::Cost};
use http_body::Body;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;
use std::fmt;

/// The members of a JSON request body that concern its quota; none for whatever is no JSON object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) model: Option<String>,
    /// The largest of the limits on what the model may write.
    pub(crate) max_tokens: Option<u64>,
}

impl Payload {
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// What an attempt costs: the tokens as the caller says, or as can be estimated. The body is looked
/// into only where the partition is known to count tokens; its size is told at no cost.
pub(crate) fn cost<B: Body>(tokens: Option<u64>, body: &Replayer<B>, counts_tokens: bool) -> Cost {
    let estimate = || match body.known_bytes() {
        Some(bytes) if counts_tokens => estimate_tokens(&bytes),
        Some(bytes) => input_tokens(&bytes),
        None => 0,
    };
    Cost::of_request(tokens.unwrap_or_else(estimate))
}

/// The tokens of the input, or what the answer may take if that is more.
fn estimate_tokens(body: &[u8]) -> u64 {
    let input = input_tokens(body);
    Payload::read(body)
        .max_tokens
        .map_or(input, |output| output.max(input))
}

/// A quarter of the bytes: so many make a token in most languages and models.
fn input_tokens(body: &[u8]) -> u64 {
    body.len().div_ceil(4) as u64
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Payload, A::Error> {
        let mut payload = Payload::default();
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "model" => {
                    if let Value::String(model) = members.next_value()? {
                        payload.model = Some(model);
                    }
                }
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                    payload.max_tokens = payload
                        .max_tokens
                        .max(members.next_value::<Value>()?.as_u64());
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_model_and_the_largest_limit_on_tokens() {
        let body = br#"{"messages":[{"model":"no"}],"model":"ft:a","max_tokens":5,"max_completion_tokens":70,"n":null}"#;
        let expected = Payload {
            model: Some("ft:a".into()),
            max_tokens: Some(70),
        };
        assert_eq!(Payload::read(body), expected);
    }

    #[test]
    fn whatever_else_is_there_says_nothing() {
        for body in [
            "",
            "[]",
            "7",
            "{",
            r#"{"model":7,"max_tokens":"many"}"#,
            r#"{"max_tokens":-1}"#,
            "\u{0}",
        ] {
            assert_eq!(Payload::read(body.as_bytes()), Payload::default(), "{body}");
        }
    }

    #[test]
    fn tokens_are_a_quarter_of_the_bytes_or_what_the_answer_may_take() {
        assert_eq!(estimate_tokens(b"12345"), 2);
        assert_eq!(estimate_tokens(br#"{"max_tokens":400}"#), 400);
        assert_eq!(estimate_tokens(br#"{"max_tokens":1,"x":"........"}"#), 8);
    }
}
