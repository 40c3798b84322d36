//! A token bucket that the server announces: limit, remaining, and the time until it is full again.
//!
//! A bucket that refills steadily is known by one instant, that at which it will be full if nobody
//! takes anything; each unit taken moves it later by the time in which one unit flows in. Servers
//! of this family (`OpenAI`'s) announce just that: `now + reset`. We keep our own account of the
//! instant, charged for each request as it is admitted, and each answer bounds it from both sides,
//! whatever the order in which answers arrive:
//!
//! - it is no earlier than the announced reset after the answered request was *sent* (the server
//!   may have counted then);
//! - it is no later than the latest reset announced of late, counted from when the answer
//!   *arrived*, plus all that is admitted and still to be answered (the server may not have counted
//!   any of it).
//!
//! Between the bounds our own account is the better one, for it is not blurred by the network. The
//! lower bound makes us see what other processes take and what was estimated too low, the upper one
//! lets go of what was charged too much.

use super::{CEILING, Cost, Unit, after};
use crate::signal::RateLimit;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Bucket {
    dimension: Arc<str>,
    unit: Unit,
    limit: u64,
    /// Nanoseconds in which one unit flows in.
    interval: f64,
    /// When the bucket is full again, by our own account.
    full_at: Instant,
    /// The latest announced instant at which the bucket is full, in this round of answers and the
    /// one before.
    announced: [Instant; 2],
    /// Answers to what was sent before this belong to the present round.
    round_began: Instant,
}

impl Bucket {
    /// `None` when the announcement is not that of a bucket with a rate.
    pub(super) fn new(now: Instant, outstanding: Cost, announced: &RateLimit) -> Option<Self> {
        let (limit, missing, reset) = level(announced)?;
        let full_at = after(now, reset);
        let mut bucket = Self {
            dimension: announced.dimension().into(),
            unit: Unit::of(announced.dimension()),
            limit,
            interval: *intervals(missing, reset)?.start(),
            full_at,
            announced: [full_at; 2],
            round_began: now,
        };
        bucket.full_at = after(full_at, bucket.span(outstanding.count(bucket.unit)));
        Some(bucket)
    }

    pub(super) fn is(&self, dimension: &str) -> bool {
        *self.dimension == *dimension
    }

    pub(super) fn dimension(&self) -> Arc<str> {
        Arc::clone(&self.dimension)
    }

    pub(super) fn unit(&self) -> Unit {
        self.unit
    }

    /// When `cost` is there, after `ahead` was taken. A cost above the whole limit is there as soon
    /// as the bucket is not overdrawn: the server may know better than our estimate.
    pub(super) fn opens_at(&self, now: Instant, ahead: Cost, cost: Cost) -> Instant {
        let cost = cost.count(self.unit);
        let cost = if cost > self.limit { 0 } else { cost };
        let taken = ahead.count(self.unit).saturating_add(cost);
        let full_at = self.full_at.max(now);
        match taken.checked_sub(self.limit) {
            Some(over) => after(full_at, self.span(over)),
            None => full_at
                .checked_sub(self.span(self.limit - taken))
                .unwrap_or(now),
        }
    }

    pub(super) fn reserve(&mut self, now: Instant, cost: Cost) {
        let cost = cost.count(self.unit).min(self.limit);
        self.full_at = after(self.full_at.max(now), self.span(cost));
    }

    pub(super) fn give_back(&mut self, cost: Cost) {
        let cost = cost.count(self.unit).min(self.limit);
        self.full_at = self
            .full_at
            .checked_sub(self.span(cost))
            .unwrap_or(self.full_at);
    }

    /// An answer to what was sent at `sent_at` has announced the level, while `outstanding` is
    /// still to be answered.
    pub(super) fn announced(
        &mut self,
        now: Instant,
        sent_at: Instant,
        outstanding: Cost,
        announced: &RateLimit,
    ) {
        let Some((limit, missing, reset)) = level(announced) else {
            return;
        };
        self.limit = limit;
        if let Some(possible) = intervals(missing, reset) {
            self.interval = self.interval.clamp(*possible.start(), *possible.end());
        }
        if sent_at > self.round_began {
            self.announced = [after(now, reset), self.announced[0]];
            self.round_began = now;
        }
        self.announced[0] = self.announced[0].max(after(now, reset));
        let earliest = after(sent_at, reset);
        let latest = after(
            self.announced[0].max(self.announced[1]).max(now),
            self.span(outstanding.count(self.unit)),
        );
        self.full_at = self.full_at.min(latest).max(earliest);
    }

    /// The time in which so many units flow in.
    fn span(&self, units: u64) -> Duration {
        // The conversion saturates; the product cannot be NaN, for the interval is finite and not
        // negative.
        Duration::from_nanos((units as f64 * self.interval) as u64).min(CEILING)
    }
}

/// Limit, units missing, and the time until they have flowed in; if all are announced.
fn level(announced: &RateLimit) -> Option<(u64, u64, Duration)> {
    let limit = announced.limit().filter(|&limit| limit > 0)?;
    let remaining = announced.remaining()?;
    Some((limit, limit.saturating_sub(remaining), announced.reset()?))
}

/// Between what the time must be in which one unit flows in, in nanoseconds. What remains is
/// announced in whole units, rounded down, and so up to one unit less is missing than it says: the
/// more is missing, the truer the rate. Unknown while nothing is missing or the reset is rounded to
/// nothing.
fn intervals(missing: u64, reset: Duration) -> Option<RangeInclusive<f64>> {
    let known = missing > 0 && !reset.is_zero();
    let reset = reset.as_nanos() as f64;
    // One unit missing may be next to none: the quotient is infinite then, and bounds nothing.
    known.then(|| reset / missing as f64..=reset / (missing - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use std::time::SystemTime;

    const NANOSECOND: Duration = Duration::from_nanos(1);
    const REQUEST: Cost = Cost {
        requests: 1,
        tokens: 0,
    };

    fn announcement(dimension: &str, limit: &str, remaining: &str, reset: &str) -> RateLimit {
        let mut headers = HeaderMap::new();
        for (field, value) in [("limit", limit), ("remaining", remaining), ("reset", reset)] {
            let name = HeaderName::try_from(format!("x-ratelimit-{field}-{dimension}")).unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let signal = signal::read(StatusCode::OK, &headers, None, SystemTime::now());
        signal.limits()[0].clone()
    }

    /// 60 a minute, of which `remaining` are left: one a second flows in.
    fn requests(remaining: u64) -> RateLimit {
        announcement(
            "requests",
            "60",
            &remaining.to_string(),
            &format!("{}s", 60 - remaining),
        )
    }

    fn bucket(now: Instant, remaining: u64) -> Bucket {
        Bucket::new(now, Cost::NONE, &requests(remaining)).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn opens_exactly_when_the_cost_has_flowed_in() {
        let now = Instant::now();
        for (tokens, wait_ms) in [(500, 0), (501, 1), (1_500, 1_000), (40_000, 39_500)] {
            let bucket = Bucket::new(
                now,
                Cost::NONE,
                &announcement("tokens", "60000", "500", "59.5s"),
            )
            .unwrap();
            let cost = Cost::of_request(tokens);
            let opens_at = bucket.opens_at(now, Cost::NONE, cost);
            assert_eq!(
                opens_at.saturating_duration_since(now),
                Duration::from_millis(wait_ms),
                "{tokens}"
            );
            if opens_at > now {
                assert!(
                    bucket.opens_at(opens_at - NANOSECOND, Cost::NONE, cost)
                        > opens_at - NANOSECOND
                );
            }
            assert!(bucket.opens_at(opens_at, Cost::NONE, cost) <= opens_at);
        }
    }

    #[test]
    fn charges_what_it_admits_at_once() {
        let now = Instant::now();
        let mut bucket = bucket(now, 2);
        for expected in [0, 0, 1, 2, 3] {
            let opens_at = bucket.opens_at(now, Cost::NONE, REQUEST);
            assert_eq!(opens_at.saturating_duration_since(now), seconds(expected));
            bucket.reserve(now, REQUEST);
        }
        bucket.give_back(REQUEST);
        assert_eq!(bucket.opens_at(now, Cost::NONE, REQUEST), now + seconds(3));
    }

    #[test]
    fn counts_those_ahead() {
        let now = Instant::now();
        let bucket = bucket(now, 0);
        let ahead = Cost {
            requests: 9,
            tokens: 0,
        };
        assert_eq!(bucket.opens_at(now, ahead, REQUEST), now + seconds(10));
        let ahead = Cost {
            requests: 599,
            tokens: 0,
        };
        assert_eq!(
            bucket.opens_at(now, ahead, REQUEST),
            now + seconds(600),
            "more than the bucket holds"
        );
    }

    #[test]
    fn does_not_fill_beyond_its_limit() {
        let now = Instant::now();
        let mut bucket = bucket(now, 0);
        let later = now + seconds(3600);
        for _ in 0..60 {
            assert!(bucket.opens_at(later, Cost::NONE, REQUEST) <= later);
            bucket.reserve(later, REQUEST);
        }
        assert_eq!(
            bucket.opens_at(later, Cost::NONE, REQUEST),
            later + seconds(1)
        );
    }

    #[test]
    fn what_is_under_way_when_the_first_answer_comes_is_charged() {
        let now = Instant::now();
        let outstanding = Cost {
            requests: 15,
            tokens: 0,
        };
        let bucket = Bucket::new(now, outstanding, &requests(15)).unwrap();
        assert_eq!(bucket.opens_at(now, Cost::NONE, REQUEST), now + seconds(1));
    }

    #[test]
    fn answers_in_any_order_leave_the_account_as_it_is() {
        let now = Instant::now();
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]] {
            let mut bucket = bucket(now, 30);
            (0..5).for_each(|_| bucket.reserve(now, REQUEST));
            let expected = bucket.full_at;
            for (answered, place) in (1..).zip(order) {
                let outstanding = Cost {
                    requests: 5 - answered,
                    tokens: 0,
                };
                bucket.announced(now, now, outstanding, &requests(29 - place));
            }
            assert_eq!(bucket.full_at, expected, "{order:?}");
        }
    }

    #[test]
    fn sees_what_others_take() {
        let now = Instant::now();
        let mut bucket = bucket(now, 30);
        bucket.reserve(now, REQUEST);
        bucket.announced(now, now, Cost::NONE, &requests(0));
        assert_eq!(bucket.opens_at(now, Cost::NONE, REQUEST), now + seconds(1));
    }

    #[test]
    fn lets_go_of_what_was_estimated_too_high() {
        let now = Instant::now();
        let level = |remaining: &str, reset| announcement("tokens", "60000", remaining, reset);
        let mut bucket = Bucket::new(now, Cost::NONE, &level("50000", "10s")).unwrap();
        bucket.reserve(now, Cost::of_request(50_000));
        bucket.announced(
            now + seconds(1),
            now + NANOSECOND,
            Cost::NONE,
            &level("49900", "10.1s"),
        );
        let opens_at = bucket.opens_at(now + seconds(1), Cost::NONE, Cost::of_request(49_000));
        assert!(opens_at <= now + seconds(1));
    }

    #[test]
    fn a_cost_above_the_limit_goes_as_soon_as_nothing_is_overdrawn() {
        let now = Instant::now();
        let mut bucket = bucket(now, 10);
        bucket.limit = 60;
        let dear = Cost {
            requests: 61,
            tokens: 0,
        };
        assert!(bucket.opens_at(now, Cost::NONE, dear) <= now);
        bucket.reserve(now, dear);
        assert!(bucket.opens_at(now, Cost::NONE, REQUEST) > now);
    }

    #[test]
    fn the_rate_is_taken_from_where_much_is_missing() {
        let now = Instant::now();
        let mut bucket = bucket(now, 0);
        let mut after = |remaining, reset| {
            bucket.announced(
                now,
                now,
                Cost::NONE,
                &announcement("requests", "60", remaining, reset),
            );
            bucket.span(60)
        };
        assert_eq!(
            after("59", "1ms"),
            seconds(60),
            "less than one unit is missing"
        );
        assert_eq!(after("39", "20.1s"), seconds(60), "between 20 and 21");
        assert_eq!(after("39", "20s"), seconds(60));
        assert_eq!(
            after("39", "22s"),
            Duration::from_nanos(62_857_142_857),
            "21, so it has slowed down"
        );
        assert_eq!(
            after("0", "30s"),
            Duration::from_nanos(30_508_474_576),
            "more than 59 in 30 s"
        );
    }

    #[test]
    fn what_is_no_bucket_is_ignored() {
        let now = Instant::now();
        let cases = [
            ("0", "0", "1s"),
            ("60", "60", "0s"),
            ("60", "-1", "1s"),
            ("60", "59", "0s"),
            ("60", "0", "soon"),
        ];
        for (limit, remaining, reset) in cases {
            let announced = announcement("requests", limit, remaining, reset);
            assert!(
                Bucket::new(now, Cost::NONE, &announced).is_none(),
                "{limit} {remaining} {reset}"
            );
        }
    }

    #[test]
    fn absurd_announcements_close_it_and_do_not_overflow() {
        let now = Instant::now();
        let huge = announcement("tokens", "9007199254740991", "0", "99999999999999999999h");
        let mut bucket = Bucket::new(now, Cost::of_request(u64::MAX), &huge).unwrap();
        for _ in 0..100 {
            bucket.reserve(now, Cost::of_request(u64::MAX));
            bucket.announced(now, now, Cost::of_request(u64::MAX), &huge);
            bucket.give_back(Cost::of_request(u64::MAX));
        }
        let ahead = Cost {
            requests: u64::MAX,
            tokens: u64::MAX,
        };
        assert!(bucket.opens_at(now, ahead, Cost::of_request(u64::MAX)) >= now + seconds(1 << 31));
        assert!(bucket.opens_at(now, Cost::NONE, Cost::of_request(1)) > now);
    }
}
