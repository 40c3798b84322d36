//! What a JSON request body says of its cost and its partition.

use crate::{body::Replayer, quota::Cost};
use http_body::Body;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, fmt};

/// The members of a JSON request body that concern its quota; none for whatever is no JSON object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload<'a> {
    pub(crate) model: Option<Cow<'a, str>>,
    /// The largest of the limits on what the model may write.
    pub(crate) max_tokens: Option<u64>,
}

impl<'a> Payload<'a> {
    /// Allocates nothing but for names and a model that are written with escapes: calls to servers
    /// that count tokens come through here one by one.
    pub(crate) fn read(body: &'a [u8]) -> Self {
        if body.trim_ascii_start().first() != Some(&b'{') {
            // An error would be made only to be dropped.
            return Self::default();
        }
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// What an attempt costs in tokens: as the caller says, or as can be estimated. The body is looked
/// into only where the partition is known to count tokens; its size is told at no cost.
pub(crate) fn tokens<B: Body>(told: Option<u64>, body: &Replayer<B>, counts_tokens: bool) -> u64 {
    let estimate = || {
        body.known_bytes()
            .map_or(0, |b| estimate(&b, counts_tokens))
    };
    told.unwrap_or_else(estimate)
}

/// What an attempt with a body of these bytes costs.
pub(crate) fn cost_of_bytes(tokens: Option<u64>, body: &[u8], counts_tokens: bool) -> Cost {
    Cost::of_request(tokens.unwrap_or_else(|| estimate(body, counts_tokens)))
}

fn estimate(body: &[u8], counts_tokens: bool) -> u64 {
    if counts_tokens {
        estimate_tokens(body)
    } else {
        input_tokens(body)
    }
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

impl<'de> Deserialize<'de> for Payload<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Payload<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Payload<'de>, A::Error> {
        let mut payload = Payload::default();
        while let Some(name) = members.next_key::<Scalar<'de>>()? {
            let Scalar::Text(name) = name else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            match &*name {
                "model" => {
                    if let Scalar::Text(model) = members.next_value()? {
                        payload.model = Some(model);
                    }
                }
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                    if let Scalar::Count(tokens) = members.next_value()? {
                        payload.max_tokens = payload.max_tokens.max(Some(tokens));
                    }
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(payload)
    }
}

/// A JSON value, as far as it is of interest.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Count(u64),
    Other,
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, count: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Count(count))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Scalar<'de>, A::Error> {
        IgnoredAny.visit_seq(items).map(|_| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Scalar<'de>, A::Error> {
        IgnoredAny.visit_map(members).map(|_| Scalar::Other)
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
    fn escapes_are_read_as_what_they_stand_for() {
        let body = br#" {"mode\u006c":"\u0061\"b","max\u005ftokens":3}"#;
        let payload = Payload::read(body);
        assert_eq!(payload.model.as_deref(), Some("a\"b"));
        assert_eq!(payload.max_tokens, Some(3));
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
            r#"{"model":{"model":"no"},"max_tokens":[7]}"#,
            r#"{"model":null,"max_tokens":0.5,"max_output_tokens":true}"#,
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
