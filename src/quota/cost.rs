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
