//! What a server counts: its dimensions, put together from header fields that come in any order and
//! several spellings.

use std::{num::NonZeroU64, time::Duration};

use super::{
    few::{Few, Vacant},
    number::MAX_WAIT,
};

/// The dimension of a server that has no name for it.
pub(super) const DEFAULT_DIMENSION: &str = "default";

/// More than any server has. What one with more would cost is bounded by it: the first in
/// alphabetical order count.
const MAX_DIMENSIONS: usize = 32;

/// What a response says about one dimension of the server's quota, such as requests or tokens.
///
/// Each fact is `None` if the response does not state it, or states it in a way that cannot be
/// understood. At least one is known.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    dimension: Dimension,
    limit: Option<Count>,
    remaining: Option<Count>,
    reset: Option<Reset>,
}

impl RateLimit {
    fn new(dimension: Dimension) -> Self {
        Self {
            dimension,
            limit: None,
            remaining: None,
            reset: None,
        }
    }

    /// What is counted, in the server's words: `requests` from `x-ratelimit-limit-requests`,
    /// `default` if the server has no name for it.
    pub fn dimension(&self) -> &str {
        self.dimension.name()
    }

    /// How many quota units a window or bucket holds, at most 2^53 - 1.
    ///
    /// Zero does not mean "never": some servers send it with every refusal. A fraction or a
    /// negative number is none.
    pub fn limit(&self) -> Option<u64> {
        self.limit.map(Count::get)
    }

    /// How many quota units are left, rounded down, at most 2^53 - 1.
    ///
    /// An overdrawn quota (below -1) has zero left; -1 is what servers send that do not know.
    pub fn remaining(&self) -> Option<u64> {
        self.remaining.map(Count::get)
    }

    /// How long, from the receipt of the response, until the quota is renewed: rounded up to whole
    /// milliseconds, at most 2^31 seconds, and zero if that time is past.
    ///
    /// Whether the quota returns at once by then or bit by bit until then, the field does not say.
    pub fn reset(&self) -> Option<Duration> {
        self.reset.map(Reset::delay)
    }

    /// Whether the quota comes back bit by bit, and [`reset`](Self::reset) is the time until *all*
    /// of it is back.
    ///
    /// So [OpenAI] means its durations (`x-ratelimit-reset-tokens: 6m0s`), and those who took over
    /// its format: the rate is (limit - remaining) / reset. Nowhere else does a response tell.
    ///
    /// [OpenAI]: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
    pub(crate) fn refills_continuously(&self) -> bool {
        self.reset.is_some_and(Reset::is_to_full)
    }

    fn is_exhausted(&self) -> bool {
        self.remaining() == Some(0)
    }

    fn is_known(&self) -> bool {
        self.limit.is_some() || self.remaining.is_some() || self.reset.is_some()
    }
}

impl Vacant for RateLimit {
    const VACANT: Self = Self {
        dimension: Dimension::Usual(Usual::Default),
        limit: None,
        remaining: None,
        reset: None,
    };
}

/// The name of a dimension: small, and seldom more than a byte to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Dimension {
    Usual(Usual),
    /// None of the usual ones.
    Other(Box<str>),
}

impl Dimension {
    fn name(&self) -> &str {
        match self {
            Self::Usual(usual) => usual.name(),
            Self::Other(name) => name,
        }
    }

    /// Whether its name is `name`, of which `usual` is what [`Usual::of`] says.
    fn is(&self, usual: Option<Usual>, name: &str) -> bool {
        match self {
            Self::Usual(own) => usual == Some(*own),
            Self::Other(own) => usual.is_none() && **own == *name,
        }
    }
}

/// A name that needs no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usual {
    Default,
    InputTokens,
    Minute,
    OutputTokens,
    Requests,
    RequestsDay,
    RequestsMinute,
    Tokens,
    TokensDay,
    TokensMinute,
}

impl Usual {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            DEFAULT_DIMENSION => Self::Default,
            "input-tokens" => Self::InputTokens,
            "minute" => Self::Minute,
            "output-tokens" => Self::OutputTokens,
            "requests" => Self::Requests,
            "requests-day" => Self::RequestsDay,
            "requests-minute" => Self::RequestsMinute,
            "tokens" => Self::Tokens,
            "tokens-day" => Self::TokensDay,
            "tokens-minute" => Self::TokensMinute,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Default => DEFAULT_DIMENSION,
            Self::InputTokens => "input-tokens",
            Self::Minute => "minute",
            Self::OutputTokens => "output-tokens",
            Self::Requests => "requests",
            Self::RequestsDay => "requests-day",
            Self::RequestsMinute => "requests-minute",
            Self::Tokens => "tokens",
            Self::TokensDay => "tokens-day",
            Self::TokensMinute => "tokens-minute",
        }
    }
}

/// A count in half the space of an `Option<u64>`: facts are copied from hand to hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Count(NonZeroU64);

impl Count {
    fn new(count: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(count))
    }

    fn get(self) -> u64 {
        self.0.get() - 1
    }
}

/// Of two, the later one.
///
/// Twice the milliseconds, at most 2^31 seconds; one more if the quota is full then, and not merely
/// usable; and one more so that it is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reset(NonZeroU64);

impl Reset {
    /// So many milliseconds, as [`number::wait_millis`] has them. `to_full`: the quota comes back bit
    /// by bit and is full then; else it comes back at once, or the server does not say how.
    pub(super) fn new(millis: u64, to_full: bool) -> Self {
        Self(NonZeroU64::MIN.saturating_add(2 * millis + u64::from(to_full)))
    }

    /// A delay in whole milliseconds, of 2^31 seconds at most, after which the quota comes back at
    /// once, or the server does not say how.
    pub(super) fn at_once(delay: Duration) -> Self {
        let delay = delay.min(MAX_WAIT);
        Self::new(
            delay.as_secs() * 1_000 + u64::from(delay.subsec_millis()),
            false,
        )
    }

    fn is_to_full(self) -> bool {
        // Odd without the one that keeps it from zero.
        self.0.get() % 2 == 0
    }

    pub(super) fn delay(self) -> Duration {
        Duration::from_millis((self.0.get() - 1) / 2)
    }
}

/// Whose word counts if a dimension has several spellings in one response, from least to most; fact
/// by fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precedence {
    ResetTime,
    Shopify,
    XRateHyphenLimit,
    XRateLimit,
    RateLimit,
    Structured,
    ResetAfter,
}

/// The dimensions of one response while its header fields are read, in alphabetical order.
#[derive(Debug)]
pub(super) struct Limits<'a> {
    /// Where they are wanted: moving that many bytes twice would cost more than reading a response
    /// without any.
    limits: &'a mut Few<RateLimit>,
    /// Of the dimension at the same place.
    sources: [Sources; MAX_DIMENSIONS],
}

impl<'a> Limits<'a> {
    /// Begins with an empty list.
    pub(super) fn within(limits: &'a mut Few<RateLimit>) -> Self {
        Self {
            limits,
            sources: [Sources::NONE; MAX_DIMENSIONS],
        }
    }

    /// Hears of a limit; `None` is an unreadable one. So with the other two.
    pub(super) fn hear_limit(&mut self, dimension: &str, by: Precedence, limit: Option<u64>) {
        if let Some((facts, sources)) = self.dimension(dimension) {
            let limit = limit.map(Count::new);
            take(&mut facts.limit, &mut sources.limit, limit, by, Count::min);
        }
    }

    pub(super) fn hear_remaining(&mut self, dimension: &str, by: Precedence, left: Option<u64>) {
        if let Some((facts, sources)) = self.dimension(dimension) {
            sources.has_remaining = true;
            let (fact, source) = (&mut facts.remaining, &mut sources.remaining);
            take(fact, source, left.map(Count::new), by, Count::min);
        }
    }

    pub(super) fn hear_reset(&mut self, dimension: &str, by: Precedence, reset: Option<Reset>) {
        if let Some((facts, sources)) = self.dimension(dimension) {
            take(&mut facts.reset, &mut sources.reset, reset, by, Reset::max);
        }
    }

    /// Whether a dimension is known to be used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.limits.as_slice().iter().any(RateLimit::is_exhausted)
    }

    /// The wait that the resets of a refusal amount to: until the last of the dimensions that are
    /// used up is renewed.
    ///
    /// If none is, but exactly one has a reset and no word on what remains, until that. A reset
    /// beside a positive or an unreadable `remaining` is no wait: it is the time to a full bucket,
    /// or of a dimension that did not refuse.
    pub(super) fn wait(&self) -> Option<Duration> {
        let limits = self.limits.as_slice().iter();
        let exhausted = limits.clone().filter(|limit| limit.is_exhausted());
        exhausted.filter_map(RateLimit::reset).max().or_else(|| {
            let heard = limits.zip(&self.sources);
            let unqualified = heard.filter(|(_, sources)| !sources.has_remaining);
            let mut resets = unqualified.filter_map(|(limit, _)| limit.reset());
            resets.next().filter(|_| resets.next().is_none())
        })
    }

    /// Drops the dimensions of which nothing is known.
    pub(super) fn finish(self) {
        let limits = self.limits.as_mut_slice();
        // Nearly always.
        if limits.iter().all(RateLimit::is_known) {
            return;
        }
        // In place and in order: the known ones to the front.
        let mut known = 0;
        for at in 0..limits.len() {
            if limits[at].is_known() {
                limits.swap(known, at);
                known += 1;
            }
        }
        self.limits.truncate(known);
    }

    fn dimension(&mut self, name: &str) -> Option<(&mut RateLimit, &mut Sources)> {
        let usual = Usual::of(name);
        let mut limits = self.limits.as_slice().iter();
        let place = limits.position(|limit| limit.dimension.is(usual, name));
        let at = match place {
            Some(at) => at,
            None => self.add(usual, name)?,
        };
        let limit = self.limits.as_mut_slice().get_mut(at)?;
        Some((limit, self.sources.get_mut(at)?))
    }

    /// Adds a dimension and returns its place. If there are too many, the last one has to go.
    fn add(&mut self, usual: Option<Usual>, name: &str) -> Option<usize> {
        let limits = self.limits.as_slice();
        let at = limits.partition_point(|limit| limit.dimension() < name);
        if at == MAX_DIMENSIONS {
            return None;
        }
        let kept = limits.len().min(MAX_DIMENSIONS - 1);
        self.sources.copy_within(at..kept, at + 1);
        self.sources[at] = Sources::NONE;
        self.limits.truncate(kept);
        let other = || Dimension::Other(name.into());
        let dimension = usual.map_or_else(other, Dimension::Usual);
        self.limits.insert(at, RateLimit::new(dimension));
        Some(at)
    }
}

/// Whose word the facts about a dimension are.
#[derive(Clone, Copy, Debug)]
struct Sources {
    limit: Precedence,
    remaining: Precedence,
    reset: Precedence,
    /// Whether there is a field for what remains, readable or not.
    has_remaining: bool,
}

impl Sources {
    const NONE: Self = Self {
        limit: Precedence::ResetTime,
        remaining: Precedence::ResetTime,
        reset: Precedence::ResetTime,
        has_remaining: false,
    };
}

/// Takes over a fact from a source that counts more; of one that counts the same, whichever of both
/// `choose` takes.
fn take<T: Copy>(
    fact: &mut Option<T>,
    source: &mut Precedence,
    new: Option<T>,
    by: Precedence,
    choose: fn(T, T) -> T,
) {
    let Some(new) = new else { return };
    *fact = match *fact {
        Some(_) if by < *source => return,
        Some(old) if by == *source => Some(choose(old, new)),
        _ => Some(new),
    };
    *source = by;
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::signal::{dialect::Heard, instant::Clock};

    #[test]
    fn the_six_fields_of_openai_are_two_dimensions() {
        let limits = heard(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        assert_eq!(
            facts(&limits),
            [
                ("requests", Some(60), Some(59), Some(1_000)),
                ("tokens", Some(150_000), Some(149_984), Some(360_000)),
            ]
        );
        assert!(
            limits
                .as_slice()
                .iter()
                .all(RateLimit::refills_continuously)
        );
        assert!(matches!(limits, Few::Inline { .. }), "allocated");
        assert!(limits.as_slice().iter().all(is_usual), "allocated");
    }

    #[test]
    fn four_usual_dimensions_need_no_allocation() {
        let limits = heard(&[
            ("anthropic-ratelimit-output-tokens-limit", "4"),
            ("anthropic-ratelimit-input-tokens-limit", "3"),
            ("anthropic-ratelimit-tokens-limit", "2"),
            ("anthropic-ratelimit-requests-limit", "1"),
        ]);
        let dimensions = limits.as_slice().iter().map(RateLimit::dimension);
        assert_eq!(
            dimensions.collect::<Vec<_>>(),
            ["input-tokens", "output-tokens", "requests", "tokens"]
        );
        assert!(matches!(limits, Few::Inline { .. }), "allocated");
        assert!(limits.as_slice().iter().all(is_usual), "allocated");
    }

    #[test]
    fn the_three_fields_of_anthropic_are_one_dimension() {
        let limits = heard(&[
            ("anthropic-ratelimit-tokens-limit", "50000"),
            ("anthropic-ratelimit-tokens-remaining", "49000"),
            ("anthropic-ratelimit-tokens-reset", "1970-01-01T00:00:30Z"),
            ("anthropic-ratelimit-tokens-used", "1000"),
        ]);
        assert_eq!(
            facts(&limits),
            [("tokens", Some(50_000), Some(49_000), Some(30_000))]
        );
    }

    #[test]
    fn a_usual_name_is_its_own() {
        for name in [
            "default",
            "input-tokens",
            "minute",
            "output-tokens",
            "requests",
            "requests-day",
            "requests-minute",
            "tokens",
            "tokens-day",
            "tokens-minute",
        ] {
            assert_eq!(Usual::of(name).map(Usual::name), Some(name));
        }
        assert_eq!(Usual::of("token"), None);
    }

    fn is_usual(limit: &RateLimit) -> bool {
        matches!(limit.dimension, Dimension::Usual(_))
    }

    #[test]
    fn only_time_to_a_full_bucket_is_a_rate() {
        for (name, value, refills) in [
            ("x-ratelimit-reset-tokens", "6m0s", true),
            ("x-ratelimit-reset-tokens", "360", false),
            ("x-ratelimit-reset-tokens", "2026-06-02T12:00:30Z", false),
            ("x-ratelimit-reset", "6m0s", false),
            ("ratelimit-reset", "360", false),
            ("x-ratelimit-limit-tokens", "5", false),
        ] {
            let limits = heard(&[(name, value)]);
            assert_eq!(
                limits.as_slice()[0].refills_continuously(),
                refills,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn the_best_spelling_counts_for_each_fact() {
        let fields = [
            ("ratelimit-resettime", "Thu, 01 Jan 1970 00:00:09 GMT"),
            ("x-rate-limit-reset", "8"),
            ("x-rate-limit-limit", "80"),
            ("x-rate-limit-remaining", "800"),
            ("x-ratelimit-reset", "7"),
            ("x-ratelimit-limit", "70"),
            ("x-ratelimit-remaining", "-1"),
            ("ratelimit-reset", "6"),
            ("ratelimit-limit", "6,000"),
            ("x-ratelimit-reset-after", "5"),
        ];
        let all = [("default", Some(70), Some(800), Some(5_000))];
        assert_eq!(facts(&heard(&fields)), all);
        let mut reversed = fields;
        reversed.reverse();
        assert_eq!(facts(&heard(&reversed)), all);
        for (known, reset) in [(1, 9_000), (2, 8_000), (5, 7_000), (8, 6_000), (10, 5_000)] {
            let limits = heard(&fields[..known]);
            assert_eq!(facts(&limits)[0].3, Some(reset), "{known} fields");
        }
    }

    #[test]
    fn a_fact_keeps_its_source_where_a_dimension_comes_before_it() {
        let limits = heard(&[
            ("x-ratelimit-limit-b", "10"),
            ("x-ratelimit-limit-a", "20"),
            ("x-rate-limit-limit-a", "2"),
            ("x-rate-limit-limit-b", "1"),
        ]);
        assert_eq!(
            facts(&limits),
            [("a", Some(20), None, None), ("b", Some(10), None, None)]
        );
    }

    #[test]
    fn of_two_lines_the_stricter_counts() {
        let limits = heard(&[
            ("x-ratelimit-limit", "100"),
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-remaining", "5"),
            ("x-ratelimit-remaining", ""),
            ("x-ratelimit-reset", "60"),
            ("x-ratelimit-reset", "10"),
        ]);
        assert_eq!(
            facts(&limits),
            [("default", Some(10), Some(0), Some(60_000))]
        );
    }

    #[test]
    fn a_dimension_without_a_fact_is_dropped() {
        let limits = heard(&[
            ("x-ratelimit-limit-a", "REDACTED"),
            ("x-ratelimit-limit-b", "1"),
            ("x-ratelimit-remaining-c", "-1"),
            ("x-ratelimit-reset-d", "2"),
        ]);
        assert_eq!(
            facts(&limits),
            [("b", Some(1), None, None), ("d", None, None, Some(2_000))]
        );
    }

    #[test]
    fn the_first_dimensions_in_alphabetical_order_count() {
        let mut names: Vec<_> = (0..100)
            .map(|at| format!("x-ratelimit-limit-d{at:02}"))
            .collect();
        let fields = |names: &[String]| {
            let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
            heard(&fields)
        };
        let first = fields(&names[..MAX_DIMENSIONS]);
        assert_eq!(first.as_slice().len(), MAX_DIMENSIONS);
        assert_eq!(fields(&names), first);
        names.reverse();
        assert_eq!(fields(&names), first);
        names.rotate_left(50);
        assert_eq!(fields(&names), first);
    }

    #[test]
    fn a_reset_is_a_wait_only_where_it_must_be() {
        let (requests, tokens) = (
            ("x-ratelimit-reset-requests", "17ms"),
            ("x-ratelimit-reset-tokens", "6s"),
        );
        let left = |value| ("x-ratelimit-remaining-requests", value);
        let tokens_left = |value| ("x-ratelimit-remaining-tokens", value);
        for (fields, wait) in [
            (
                &[requests, tokens, left("5"), tokens_left("0")][..],
                Some(6_000),
            ),
            (
                &[requests, tokens, left("0"), tokens_left("0")],
                Some(6_000),
            ),
            (&[requests, tokens, left("0"), tokens_left("5")], Some(17)),
            (&[requests, tokens, left("5"), tokens_left("5")], None),
            (&[requests, tokens, left("0")], Some(17)),
            (&[requests, left("0"), tokens_left("0")], Some(17)),
            // Without a word on what remains, if there is no doubt whose reset it is.
            (&[requests], Some(17)),
            (&[requests, tokens], None),
            (&[requests, tokens, left("5")], Some(6_000)),
            (&[tokens, left("0")], Some(6_000)),
            // Unreadable is not absent.
            (&[requests, left("-1")], None),
            (&[requests, left("1e3")], None),
            (&[left("0")], None),
            (&[], None),
        ] {
            let mut limits = Few::default();
            let wait = wait.map(Duration::from_millis);
            assert_eq!(hear(fields, &mut limits).wait(), wait, "{fields:?}");
        }
    }

    fn hear<'a>(fields: &[(&str, &str)], into: &'a mut Few<RateLimit>) -> Limits<'a> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).expect("a name");
            headers.append(name, HeaderValue::try_from(*value).expect("a value"));
        }
        let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH);
        Heard::listen(&headers, &clock, into).limits
    }

    fn heard(fields: &[(&str, &str)]) -> Few<RateLimit> {
        let mut limits = Few::default();
        hear(fields, &mut limits).finish();
        limits
    }

    type Facts<'a> = (&'a str, Option<u64>, Option<u64>, Option<u128>);

    fn facts(limits: &Few<RateLimit>) -> Vec<Facts<'_>> {
        let limits = limits.as_slice().iter();
        let millis = |limit: &RateLimit| limit.reset().map(|reset| reset.as_millis());
        limits
            .map(|limit| {
                (
                    limit.dimension(),
                    limit.limit(),
                    limit.remaining(),
                    millis(limit),
                )
            })
            .collect()
    }
}
