//! What a server counts: its dimensions, put together from header fields that come in any order and several spellings.

use std::{borrow::Cow, time::Duration};

use super::{
    family::{self, Field, Kind},
    few::Few,
    instant::Clock,
};

/// More than any server has. What one with more would cost is bounded by it: the first in alphabetical order count.
const MAX_DIMENSIONS: usize = 32;

/// The names that need no allocation.
const USUAL_DIMENSIONS: [&str; 10] = [
    family::DEFAULT_DIMENSION,
    "requests",
    "tokens",
    "input-tokens",
    "output-tokens",
    "requests-day",
    "requests-minute",
    "tokens-day",
    "tokens-minute",
    "minute",
];

/// What a response says about one dimension of the server's quota, such as requests or tokens.
///
/// Each fact is `None` if the response does not state it, or states it in a way that cannot be understood. At least one
/// is known.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_rate_limit_retry::signal;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-ratelimit-limit-tokens", HeaderValue::from_static("150000"));
/// headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("149984"));
/// headers.insert("x-ratelimit-reset-tokens", HeaderValue::from_static("6m0s"));
///
/// let signal = signal::read(StatusCode::OK, &headers, None, SystemTime::now());
/// let tokens = &signal.limits()[0];
/// assert_eq!(tokens.dimension(), "tokens");
/// assert_eq!(tokens.limit(), Some(150_000));
/// assert_eq!(tokens.remaining(), Some(149_984));
/// assert_eq!(tokens.reset(), Some(Duration::from_secs(360)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    dimension: Cow<'static, str>,
    limit: Option<u64>,
    remaining: Option<u64>,
    reset: Option<Reset>,
}

impl RateLimit {
    /// What is counted, in the server's words: `requests` from `x-ratelimit-limit-requests`, `default` if the server has
    /// no name for it.
    pub fn dimension(&self) -> &str {
        &self.dimension
    }

    /// How many quota units a window or bucket holds, at most 2^53 - 1.
    ///
    /// Zero does not mean "never": some servers send it with every refusal. A fraction or a negative number is none.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// How many quota units are left, rounded down, at most 2^53 - 1.
    ///
    /// An overdrawn quota (below -1) has zero left; -1 is what servers send that do not know.
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// How long, from the receipt of the response, until the quota is renewed: rounded up to whole milliseconds, at most
    /// 2^31 seconds, and zero if that time is past.
    ///
    /// Whether the quota returns at once by then or bit by bit until then, the field does not say.
    pub fn reset(&self) -> Option<Duration> {
        self.reset.map(|reset| reset.delay)
    }

    /// Whether the quota comes back bit by bit, and [`reset`](Self::reset) is the time until *all* of it is back.
    ///
    /// So [OpenAI] means its durations (`x-ratelimit-reset-tokens: 6m0s`), and those who took over its format: the rate
    /// is (limit - remaining) / reset. Nowhere else does a response tell.
    ///
    /// [OpenAI]: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the model of an announced bucket")
    )]
    pub(crate) fn refills_continuously(&self) -> bool {
        self.reset.is_some_and(|reset| reset.to_full)
    }
}

/// Of two, the later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reset {
    pub(super) delay: Duration,
    /// Whether the quota is full then, and not merely usable.
    pub(super) to_full: bool,
}

/// Whose word counts if a dimension has several spellings in one response, from least to most; fact by fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precedence {
    #[default]
    ResetTime,
    XRateHyphenLimit,
    XRateLimit,
    RateLimit,
    ResetAfter,
}

/// The dimensions of one response while its header fields are read, in alphabetical order.
#[derive(Debug, Default)]
pub(super) struct Limits(Few<Draft>);

impl Limits {
    /// Adds what one header field says. Unreadable values are skipped.
    pub(super) fn hear(&mut self, field: &Field<'_>, value: &[u8], clock: &Clock<'_>) {
        let Some(draft) = self.draft(field.dimension) else {
            return;
        };
        let by = field.precedence;
        match field.kind {
            Kind::Limit => draft.limit.hear(by, family::limit(value), u64::min),
            Kind::Remaining => {
                draft.has_remaining = true;
                draft.remaining.hear(by, family::remaining(value), u64::min);
            }
            Kind::Reset => draft.reset.hear(by, field.reset(value, clock), Reset::max),
            Kind::ResetAfter => draft.reset.hear(by, family::reset_after(value), Reset::max),
            Kind::RetryAfter => {}
        }
    }

    /// Whether a dimension is known to be used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.0.as_slice().iter().any(Draft::is_exhausted)
    }

    /// The wait that the resets of a refusal amount to: until the last of the dimensions that are used up is renewed.
    ///
    /// If none is, but exactly one has a reset and no word on what remains, until that. A reset beside a positive or an
    /// unreadable `remaining` is no wait: it is the time to a full bucket, or of a dimension that did not refuse.
    pub(super) fn wait(&self) -> Option<Duration> {
        let drafts = || self.0.as_slice().iter();
        let exhausted = drafts()
            .filter(|draft| draft.is_exhausted())
            .filter_map(Draft::reset)
            .max();
        exhausted.or_else(|| {
            let mut unqualified = drafts()
                .filter(|draft| !draft.has_remaining)
                .filter_map(Draft::reset);
            unqualified.next().filter(|_| unqualified.next().is_none())
        })
    }

    /// The dimensions of which anything is known.
    pub(super) fn finish(mut self) -> Few<RateLimit> {
        let mut known = Few::default();
        for draft in self.0.as_mut_slice() {
            let limit = RateLimit {
                dimension: std::mem::take(&mut draft.dimension),
                limit: draft.limit.fact,
                remaining: draft.remaining.fact,
                reset: draft.reset.fact,
            };
            if limit.limit.is_some() || limit.remaining.is_some() || limit.reset.is_some() {
                known.push(limit);
            }
        }
        known
    }

    fn draft(&mut self, dimension: &str) -> Option<&mut Draft> {
        let drafts = self.0.as_slice();
        let index = match drafts.binary_search_by(|draft| (*draft.dimension).cmp(dimension)) {
            Ok(index) => index,
            Err(MAX_DIMENSIONS) => return None,
            Err(index) => {
                if drafts.len() == MAX_DIMENSIONS {
                    self.0.pop();
                }
                self.0.insert(
                    index,
                    Draft {
                        dimension: owned(dimension),
                        ..Draft::default()
                    },
                );
                index
            }
        };
        self.0.as_mut_slice().get_mut(index)
    }
}

/// One dimension while its header fields are read.
#[derive(Debug, Default)]
struct Draft {
    dimension: Cow<'static, str>,
    limit: Heard<u64>,
    remaining: Heard<u64>,
    reset: Heard<Reset>,
    /// Whether there is a field for what remains, readable or not.
    has_remaining: bool,
}

impl Draft {
    fn is_exhausted(&self) -> bool {
        self.remaining.fact == Some(0)
    }

    fn reset(&self) -> Option<Duration> {
        self.reset.fact.map(|reset| reset.delay)
    }
}

/// One fact, and whose word it is.
#[derive(Debug, Default)]
struct Heard<T> {
    fact: Option<T>,
    by: Precedence,
}

impl<T: Copy> Heard<T> {
    /// Takes over the word of a source that counts more; of one that counts the same, whichever of both `choose` takes.
    fn hear(&mut self, by: Precedence, fact: Option<T>, choose: fn(T, T) -> T) {
        let Some(new) = fact else { return };
        let fact = match self.fact {
            Some(_) if by < self.by => return,
            Some(old) if by == self.by => choose(old, new),
            _ => new,
        };
        *self = Self {
            fact: Some(fact),
            by,
        };
    }
}

fn owned(dimension: &str) -> Cow<'static, str> {
    let usual = USUAL_DIMENSIONS.iter().find(|&&usual| usual == dimension);
    usual.map_or_else(
        || Cow::Owned(dimension.to_owned()),
        |usual| Cow::Borrowed(*usual),
    )
}
