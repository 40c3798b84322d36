//! What a request takes from each dimension.

use crate::signal::RateLimit;

/// What one or several requests cost: how many they are, and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Every attempt costs one.
    pub(crate) requests: u64,
    /// As the caller says or as is estimated; zero while nothing counts tokens.
    pub(crate) tokens: u64,
}

impl Cost {
    /// Nobody.
    pub(crate) const NONE: Self = Self {
        requests: 0,
        tokens: 0,
    };

    /// One request of so many tokens.
    pub(crate) fn of_request(tokens: u64) -> Self {
        Self {
            requests: 1,
            tokens,
        }
    }

    /// What a dimension that counts `unit` charges for this.
    pub(super) fn count(self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    /// What is left of this without `other`.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            tokens: self.tokens.saturating_sub(other.tokens),
        }
    }
}

/// Whether a request of so many tokens is larger than a whole limit, and nothing else is used up
/// that would explain its refusal.
pub(crate) fn exceeds_limit(limits: &[RateLimit], tokens: u64) -> bool {
    let is_above = |l: &RateLimit| l.limit().is_some_and(|limit| tokens > limit);
    nothing_is_used_up(limits) && token_limits(limits).any(is_above)
}

/// Whether a refusal is due to the request's size alone: something is left in every dimension, but
/// not enough tokens for this one.
pub(crate) fn is_due_to_size(limits: &[RateLimit], tokens: u64) -> bool {
    let is_short = |l: &RateLimit| l.remaining().is_some_and(|remaining| remaining < tokens);
    nothing_is_used_up(limits) && token_limits(limits).any(is_short)
}

fn nothing_is_used_up(limits: &[RateLimit]) -> bool {
    limits.iter().all(|l| l.remaining() != Some(0))
}

fn token_limits(limits: &[RateLimit]) -> impl Iterator<Item = &RateLimit> {
    limits
        .iter()
        .filter(|l| Unit::of(l.dimension()) == Unit::Tokens)
}

/// What a dimension counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Requests,
    Tokens,
}

impl Unit {
    /// What it is called in the plural.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }

    /// By its name: `tokens`, `input-tokens`, `tokens-minute`, `tokens_usage_based` count tokens,
    /// all others requests.
    pub(super) fn of(dimension: &str) -> Self {
        if dimension.contains("token") {
            Self::Tokens
        } else {
            Self::Requests
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use std::time::SystemTime;

    /// Of each dimension the limit and what remains of it.
    fn limits(dimensions: &[(&str, &str, &str)]) -> Vec<RateLimit> {
        let mut headers = HeaderMap::new();
        for &(dimension, limit, remaining) in dimensions {
            for (field, value) in [("limit", limit), ("remaining", remaining)] {
                let name = format!("x-ratelimit-{field}-{dimension}");
                let name = HeaderName::try_from(name).unwrap();
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        let signal = signal::read(StatusCode::OK, &headers, None, SystemTime::UNIX_EPOCH);
        assert_eq!(signal.limits().len(), dimensions.len());
        signal.limits().to_vec()
    }

    #[test]
    fn a_size_explains_a_refusal_where_nothing_is_used_up() {
        // Whether a request of 100 tokens is larger than the whole limit, or than what is left of it.
        for (requests, tokens, exceeds, is_due) in [
            (("60", "1"), ("1000", "99"), false, true),
            (("60", "1"), ("1000", "100"), false, false),
            (("60", "1"), ("100", "99"), false, true),
            (("60", "1"), ("99", "99"), true, true),
            (("60", "1"), ("99", "0"), false, false),
            (("60", "0"), ("99", "99"), false, false),
            (("60", "0"), ("1000", "99"), false, false),
            (("99", "99"), ("1000", "1000"), false, false),
        ] {
            let limits = limits(&[
                ("requests", requests.0, requests.1),
                ("tokens", tokens.0, tokens.1),
            ]);
            assert_eq!(exceeds_limit(&limits, 100), exceeds, "{limits:?}");
            assert_eq!(is_due_to_size(&limits, 100), is_due, "{limits:?}");
        }
        assert!(!exceeds_limit(&[], u64::MAX) && !is_due_to_size(&[], u64::MAX));
        let of_requests_alone = limits(&[("requests", "60", "1")]);
        assert!(!exceeds_limit(&of_requests_alone, 100));
        assert!(!is_due_to_size(&of_requests_alone, 100));
    }

    #[test]
    fn a_dimension_charges_by_what_its_name_counts() {
        let cost = Cost::of_request(7).plus(Cost::of_request(3));
        for (dimension, unit, name, units) in [
            ("requests", Unit::Requests, "requests", 2),
            ("default", Unit::Requests, "requests", 2),
            ("tokens", Unit::Tokens, "tokens", 10),
            ("input-tokens", Unit::Tokens, "tokens", 10),
            ("tokens_usage_based", Unit::Tokens, "tokens", 10),
        ] {
            assert_eq!(Unit::of(dimension), unit);
            assert_eq!((unit.name(), cost.count(unit)), (name, units));
        }
        assert_eq!(cost.minus(Cost::of_request(3)), Cost::of_request(7));
        assert_eq!(cost.minus(cost), Cost::NONE);
        assert_eq!(Cost::NONE.minus(cost), Cost::NONE);
    }
}
