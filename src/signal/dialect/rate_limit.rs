//! The `RateLimit-Limit`, `-Remaining` and `-Reset` header fields, in all their spellings.
//!
//! `RateLimit-*` was named by [the first drafts of the IETF][draft], after the `X-RateLimit-*` and
//! `X-Rate-Limit-*` that servers already sent. A suffix names a dimension:
//! `x-ratelimit-remaining-tokens` ([OpenAI]).
//!
//! [draft]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-03
//! [OpenAI]: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers

use super::{Dialect, Field, Heard};
use crate::signal::{
    limits::{DEFAULT_DIMENSION, Precedence},
    value,
};

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    ..Dialect::SILENT
};

fn hear(field: &Field<'_>, heard: &mut Heard<'_>) -> bool {
    let Some(name) = Name::parse(field.name) else {
        return false;
    };
    let (dimension, by) = (name.dimension, name.precedence);
    let limits = &mut heard.limits;
    match name.kind {
        Kind::Limit => limits.hear_limit(dimension, by, value::limit(field.value)),
        Kind::Remaining => limits.hear_remaining(dimension, by, value::remaining(field.value)),
        Kind::Reset => {
            let reset = value::reset(field.value, name.tells_time_to_full(), field.clock);
            limits.hear_reset(dimension, by, reset);
        }
        Kind::ResetAfter => limits.hear_reset(dimension, by, value::reset_after(field.value)),
    }
    true
}

/// What the name of a header field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name<'a> {
    kind: Kind,
    dimension: &'a str,
    precedence: Precedence,
    has_suffix: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Limit,
    Remaining,
    /// A delay or a date.
    Reset,
    /// A delay, whatever its size.
    ResetAfter,
}

impl<'a> Name<'a> {
    /// Reads a name in lower case, `[x-]rate[-]limit-{limit,remaining,reset}[-DIMENSION]` or one of
    /// its relatives.
    fn parse(name: &'a str) -> Option<Self> {
        let (rest, precedence) = if let Some(rest) = name.strip_prefix("x-ratelimit-") {
            (rest, Precedence::XRateLimit)
        } else if let Some(rest) = name.strip_prefix("ratelimit-") {
            (rest, Precedence::RateLimit)
        } else {
            let bare = name.strip_prefix("x-").unwrap_or(name);
            (
                bare.strip_prefix("rate-limit-")?,
                Precedence::XRateHyphenLimit,
            )
        };
        let of_default = |kind, precedence| Self {
            kind,
            dimension: DEFAULT_DIMENSION,
            precedence,
            has_suffix: false,
        };
        let (kind, suffix) = if let Some(suffix) = rest.strip_prefix("limit") {
            (Kind::Limit, suffix)
        } else if let Some(suffix) = rest.strip_prefix("remaining") {
            (Kind::Remaining, suffix)
        } else {
            (Kind::Reset, rest.strip_prefix("reset")?)
        };
        match (kind, suffix) {
            (_, "") => Some(of_default(kind, precedence)),
            // Needs no clock and no guess, so it is the best reset there is.
            (Kind::Reset, "-after") => Some(of_default(Kind::ResetAfter, Precedence::ResetAfter)),
            (Kind::Reset, "time") => Some(of_default(Kind::Reset, Precedence::ResetTime)),
            _ => Some(Self {
                kind,
                dimension: suffix.strip_prefix('-').filter(|name| !name.is_empty())?,
                precedence,
                has_suffix: true,
            }),
        }
    }

    /// Whether a duration is the time until a bucket is full again, as in [OpenAI]'s fields.
    ///
    /// [OpenAI]: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
    fn tells_time_to_full(self) -> bool {
        self.has_suffix && self.precedence == Precedence::XRateLimit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_is_a_field() {
        use Precedence::{RateLimit, ResetAfter, ResetTime, XRateHyphenLimit, XRateLimit};
        for (name, kind, dimension, precedence) in [
            ("ratelimit-limit", Kind::Limit, "default", RateLimit),
            ("ratelimit-resettime", Kind::Reset, "default", ResetTime),
            (
                "x-ratelimit-remaining",
                Kind::Remaining,
                "default",
                XRateLimit,
            ),
            ("x-ratelimit-reset", Kind::Reset, "default", XRateLimit),
            (
                "x-ratelimit-reset-after",
                Kind::ResetAfter,
                "default",
                ResetAfter,
            ),
            (
                "x-rate-limit-reset",
                Kind::Reset,
                "default",
                XRateHyphenLimit,
            ),
            ("rate-limit-limit", Kind::Limit, "default", XRateHyphenLimit),
            (
                "x-ratelimit-limit-requests",
                Kind::Limit,
                "requests",
                XRateLimit,
            ),
            (
                "x-ratelimit-remaining-tokens_usage_based",
                Kind::Remaining,
                "tokens_usage_based",
                XRateLimit,
            ),
            (
                "x-ratelimit-reset-tokens-minute",
                Kind::Reset,
                "tokens-minute",
                XRateLimit,
            ),
            (
                "x-rate-limit-reset-tokens",
                Kind::Reset,
                "tokens",
                XRateHyphenLimit,
            ),
        ] {
            let field = Name::parse(name).expect(name);
            assert_eq!(
                (field.kind, field.dimension, field.precedence),
                (kind, dimension, precedence),
                "{name}"
            );
        }
    }

    #[test]
    fn lookalikes_are_no_fields() {
        for name in [
            "",
            "x-",
            "x-rate",
            "ratelimit",
            "x-ratelimit",
            "ratelimit-",
            "x-rate-limit",
            "x-ratelimit-limited",
            "x-ratelimit-resettable",
            "x-ratelimit-remainingish",
            "not-x-ratelimit-reset",
            "x-ratelimit-limit-",
            "x-ratelimit-used",
            "x-ratelimit-retry-after",
            "x-ratelimit-resource",
            "x-ratelimit-bucket",
            "ratelimit-policy",
            "ratelimit-observed",
            "x-ratelimit-tokens-query-cost",
            "x--ratelimit-limit",
            "x-rate--limit-limit",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn only_the_duration_of_a_named_dimension_is_the_time_to_a_full_bucket() {
        for (name, to_full) in [
            ("x-ratelimit-reset-tokens", true),
            ("x-ratelimit-reset", false),
            ("x-ratelimit-reset-after", false),
            ("x-rate-limit-reset-tokens", false),
            ("ratelimit-reset-tokens", false),
        ] {
            let name = Name::parse(name).expect("a field");
            assert_eq!(name.tells_time_to_full(), to_full, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_or_refused(name in "(x-)?rate-?limit-.{0,24}") {
            let dimension = Name::parse(&name).map(|name| name.dimension);
            prop_assert!(dimension.is_none_or(|dimension| !dimension.is_empty()));
        }
    }
}
