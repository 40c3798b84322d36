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
//!   *arrived*, plus all that the server may not have counted yet.
//!
//! Between the bounds our own account is the better one, for it is not blurred by the network. The
//! lower bound makes us see what other processes take and what was estimated too low, the upper one
//! lets go of what was charged too much.

use super::{
    Cost, Unit, after,
    dimension::Standing,
    level::{Interval, Level},
};
use crate::signal::RateLimit;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(super) struct Bucket {
    dimension: Arc<str>,
    unit: Unit,
    limit: u64,
    /// How often the limit or the rate was found to be another, this first one included.
    changes: u32,
    /// Between what the time lies in which one unit flows in.
    interval: Interval,
    /// When the bucket is full again, by our own account; and what the last answer says it is no
    /// earlier than.
    full_at: Instant,
    earliest: Instant,
    /// The latest announced instant at which the bucket is full, in this round of answers and the
    /// one before.
    announced: [Instant; 2],
    /// Answers to what was sent before this belong to the present round.
    round_began: Instant,
}

impl Bucket {
    /// `None` when the announcement is not that of a bucket with a rate.
    pub(super) fn new(
        now: Instant,
        sent_at: Instant,
        uncounted: Cost,
        announced: &RateLimit,
    ) -> Option<Self> {
        let level = Level::of(announced)?;
        let full_at = after(now, level.reset);
        let mut bucket = Self {
            dimension: announced.dimension().into(),
            unit: Unit::of(announced.dimension()),
            limit: level.limit,
            changes: 1,
            interval: level.interval()?,
            full_at,
            earliest: after(sent_at, level.reset),
            announced: [full_at; 2],
            round_began: now,
        };
        // Who counts at the receipt of a request tells what was left when the answered one came;
        // since then its age has flowed in.
        let age = now.saturating_duration_since(sent_at);
        let uncounted = bucket.charge(uncounted);
        bucket.full_at = after(full_at, uncounted.saturating_sub(age));
        Some(bucket)
    }

    pub(super) fn dimension(&self) -> Arc<str> {
        Arc::clone(&self.dimension)
    }

    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    pub(super) fn unit(&self) -> Unit {
        self.unit
    }

    /// Whether all of it is there, as of one that is not known yet.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// What is there now: as much as [`opens_at`](Self::opens_at) lets go at once, but for a cushion.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let missing = self.full_at.saturating_duration_since(now);
        Standing {
            limit: self.limit,
            remaining: self.limit.saturating_sub(self.interval.units(missing)),
            full_at: Some(self.full_at.max(now)),
            interval: Some(self.interval.longest(1)),
        }
    }

    /// When `cost` is there, after `ahead` was taken. A cost above the whole limit is there as soon
    /// as the bucket is not overdrawn: the server may know better than our estimate.
    ///
    /// Who has to wait goes later by the `cushion`: requests that are sent just in time may arrive
    /// too early.
    pub(super) fn opens_at(
        &self,
        now: Instant,
        ahead: Cost,
        cost: Cost,
        cushion: Duration,
    ) -> Instant {
        let cost = cost.count(self.unit);
        let cost = if cost > self.limit { 0 } else { cost };
        let taken = ahead.count(self.unit).saturating_add(cost);
        let full_at = after(self.full_at, cushion).max(now);
        if taken > self.limit {
            return after(full_at, self.interval.longest(taken - self.limit));
        }
        let may_be_missing = self.interval.shortest(self.limit - taken);
        full_at.checked_sub(may_be_missing).unwrap_or(now)
    }

    pub(super) fn reserve(&mut self, now: Instant, cost: Cost) {
        self.full_at = after(self.full_at.max(now), self.charge(cost));
    }

    pub(super) fn give_back(&mut self, cost: Cost) {
        let without = self.full_at.checked_sub(self.charge(cost));
        // What others have taken meanwhile is not given back.
        self.full_at = without.unwrap_or(self.full_at).max(self.earliest);
    }

    /// An answer to what was sent at `sent_at` has announced the level; the server may not have
    /// counted all that is under way.
    pub(super) fn announced(
        &mut self,
        now: Instant,
        sent_at: Instant,
        uncounted: Cost,
        announced: &RateLimit,
    ) {
        let Some(level) = Level::of(announced) else {
            return;
        };
        let interval = level.precise_interval().unwrap_or(self.interval);
        if level.limit != self.limit || interval.excludes(self.interval) {
            self.changes = self.changes.wrapping_add(1);
        }
        self.limit = level.limit;
        self.interval = self.interval.narrowed(interval);
        let full_at = after(now, level.reset);
        if sent_at > self.round_began {
            self.announced = [full_at, self.announced[0]];
            self.round_began = now;
        }
        self.announced[0] = self.announced[0].max(full_at);
        self.earliest = after(sent_at, level.reset);
        let latest = self.announced[0].max(self.announced[1]).max(now);
        let latest = after(latest, self.charge(uncounted));
        self.full_at = self.full_at.min(latest).max(self.earliest);
    }

    /// By how much later the bucket is full for it. No bucket gives more than it holds: of a burst
    /// that is larger, the rest is refused.
    fn charge(&self, cost: Cost) -> Duration {
        self.interval.longest(cost.count(self.unit).min(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{quota::level::SLOWEST, signal};
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
        Bucket::new(now, now, Cost::NONE, &requests(remaining)).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_under_way_takes_no_more_than_the_whole_bucket() {
        let now = Instant::now();
        let uncounted = Cost {
            requests: 5_000,
            tokens: 0,
        };
        let mut bucket = Bucket::new(now, now, uncounted, &requests(0)).unwrap();
        assert_wait(&bucket, now, 0, 0, seconds(61));
        bucket.announced(now, now, uncounted, &requests(0));
        assert_wait(&bucket, now, 0, 0, seconds(61));
    }

    /// How long until the bucket opens: never earlier than it should, and hardly later.
    fn assert_wait(bucket: &Bucket, now: Instant, ahead: u64, tokens: u64, expected: Duration) {
        let ahead = Cost {
            requests: ahead,
            tokens: 0,
        };
        let cost = Cost::of_request(tokens);
        let opens_at = bucket.opens_at(now, ahead, cost, Duration::ZERO);
        let wait = opens_at.saturating_duration_since(now);
        // One unit, at most, may seem missing that is there.
        let unit = if tokens == 0 { seconds(1) } else { seconds(0) };
        let latest = expected.mul_f64(1.02) + unit + Duration::from_millis(50);
        assert!(
            (expected..=latest).contains(&wait),
            "{wait:?} instead of {expected:?}"
        );
        if ahead == Cost::NONE {
            assert_two_sided(bucket, now, opens_at, cost);
        }
    }

    /// Refused at the instant before, admitted exactly at it.
    fn assert_two_sided(bucket: &Bucket, now: Instant, opens_at: Instant, cost: Cost) {
        if opens_at > now {
            let before = opens_at.checked_sub(NANOSECOND).unwrap();
            assert!(bucket.opens_at(before, Cost::NONE, cost, Duration::ZERO) > before);
        }
        assert!(bucket.opens_at(opens_at, Cost::NONE, cost, Duration::ZERO) <= opens_at);
    }

    #[test]
    fn opens_exactly_when_the_cost_has_flowed_in() {
        let now = Instant::now();
        let level = announcement("tokens", "60000", "500", "59.5s");
        for (tokens, wait_ms) in [(500, 0), (501, 1), (1_500, 1_000), (40_000, 39_500)] {
            let bucket = Bucket::new(now, now, Cost::NONE, &level).unwrap();
            assert_wait(&bucket, now, 0, tokens, Duration::from_millis(wait_ms));
        }
    }

    #[test]
    fn charges_what_it_admits_at_once() {
        let now = Instant::now();
        let mut bucket = bucket(now, 2);
        for expected in [0, 0, 1, 2, 3] {
            assert_wait(&bucket, now, 0, 0, seconds(expected));
            bucket.reserve(now, REQUEST);
        }
        bucket.give_back(REQUEST);
        assert_wait(&bucket, now, 0, 0, seconds(3));
    }

    #[test]
    fn counts_those_ahead() {
        let now = Instant::now();
        let bucket = bucket(now, 0);
        assert_wait(&bucket, now, 9, 0, seconds(10));
        assert_wait(&bucket, now, 599, 0, seconds(600));
    }

    #[test]
    fn does_not_fill_beyond_its_limit() {
        let now = Instant::now();
        let mut bucket = bucket(now, 0);
        let later = now + seconds(3600);
        for _ in 0..59 {
            assert_wait(&bucket, later, 0, 0, seconds(0));
            bucket.reserve(later, REQUEST);
        }
        bucket.reserve(later, REQUEST);
        assert_wait(&bucket, later, 0, 0, seconds(1));
    }

    #[test]
    fn what_is_under_way_when_the_first_answer_comes_is_charged() {
        let now = Instant::now();
        let outstanding = Cost {
            requests: 15,
            tokens: 0,
        };
        let bucket = Bucket::new(now, now, outstanding, &requests(15)).unwrap();
        assert_wait(&bucket, now, 0, 0, seconds(1));
    }

    #[test]
    fn a_slow_first_answer_does_not_charge_its_own_age() {
        let sent_at = Instant::now();
        let now = sent_at + seconds(20);
        let outstanding = Cost {
            requests: 59,
            tokens: 0,
        };
        let bucket = Bucket::new(now, sent_at, outstanding, &requests(59)).unwrap();
        let wait = bucket
            .opens_at(now, Cost::NONE, REQUEST, Duration::ZERO)
            .saturating_duration_since(now);
        assert!(
            wait <= seconds(62),
            "the reset is not longer than that: {wait:?}"
        );
    }

    #[test]
    fn answers_in_any_order_leave_the_account_as_it_is() {
        let now = Instant::now();
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]] {
            let mut bucket = bucket(now, 30);
            (0..5).for_each(|_| bucket.reserve(now, REQUEST));
            for (answered, place) in (1..).zip(order) {
                assert_wait(&bucket, now, 25, 0, seconds(1));
                let outstanding = Cost {
                    requests: 5 - answered,
                    tokens: 0,
                };
                bucket.announced(now, now, outstanding, &requests(29 - place));
            }
            assert_wait(&bucket, now, 25, 0, seconds(1));
        }
    }

    #[test]
    fn sees_what_others_take() {
        let now = Instant::now();
        let mut bucket = bucket(now, 30);
        bucket.reserve(now, REQUEST);
        bucket.announced(now, now, Cost::NONE, &requests(0));
        assert_wait(&bucket, now, 0, 0, seconds(1));
    }

    #[test]
    fn what_others_took_is_not_given_back() {
        let now = Instant::now();
        let mut bucket = bucket(now, 59);
        let many = Cost {
            requests: 40,
            tokens: 0,
        };
        bucket.reserve(now, many);
        bucket.announced(now, now, many, &requests(0));
        bucket.give_back(many);
        assert_wait(&bucket, now, 0, 0, seconds(1));
    }

    #[test]
    fn a_higher_limit_with_nothing_left_is_not_open() {
        let now = Instant::now();
        let mut bucket = bucket(now, 0);
        let raised = announcement("requests", "600", "0", "60s");
        bucket.announced(now, now, Cost::NONE, &raised);
        assert_wait(&bucket, now, 0, 0, Duration::from_millis(100));
    }

    #[test]
    fn one_absurd_announcement_does_not_close_it_for_good() {
        let now = Instant::now();
        let absurd = announcement("requests", "1", "0", "99999999h");
        let mut bucket = Bucket::new(now, now, Cost::NONE, &absurd).unwrap();
        let opens_at = bucket.opens_at(now, Cost::NONE, REQUEST, Duration::ZERO);
        assert_eq!(opens_at, now + SLOWEST);
        bucket.reserve(opens_at, REQUEST);
        bucket.announced(opens_at, opens_at, Cost::NONE, &requests(59));
        assert!(bucket.opens_at(opens_at, Cost::NONE, REQUEST, Duration::ZERO) <= opens_at);
    }

    #[test]
    fn lets_go_of_what_was_estimated_too_high() {
        let now = Instant::now();
        let level = |remaining: &str, reset| announcement("tokens", "60000", remaining, reset);
        let mut bucket = Bucket::new(now, now, Cost::NONE, &level("50000", "10s")).unwrap();
        bucket.reserve(now, Cost::of_request(50_000));
        bucket.announced(
            now + seconds(1),
            now + NANOSECOND,
            Cost::NONE,
            &level("49900", "10.1s"),
        );
        let opens_at = bucket.opens_at(
            now + seconds(1),
            Cost::NONE,
            Cost::of_request(49_000),
            Duration::ZERO,
        );
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
        assert!(bucket.opens_at(now, Cost::NONE, dear, Duration::ZERO) <= now);
        bucket.reserve(now, dear);
        assert!(bucket.opens_at(now, Cost::NONE, REQUEST, Duration::ZERO) > now);
    }

    #[test]
    fn is_full_when_nothing_is_missing_and_not_before() {
        let now = Instant::now();
        let bucket = bucket(now, 30);
        assert!(!bucket.is_full(now + seconds(30) - NANOSECOND));
        assert!(bucket.is_full(now + seconds(30)));
    }

    #[test]
    fn another_limit_or_another_rate_changes_what_is_charged_by() {
        let now = Instant::now();
        let mut bucket = bucket(now, 30);
        for (limit, remaining, reset, changes) in [
            ("60", "20", "40s", 1),
            ("60", "20", "20s", 2),
            ("60", "10", "25s", 2),
            ("70", "20", "25s", 3),
            ("70", "69", "1ms", 3),
        ] {
            let announced = announcement("requests", limit, remaining, reset);
            bucket.announced(now, now, Cost::NONE, &announced);
            assert_eq!(bucket.changes(), changes, "{limit} {remaining} {reset}");
        }
    }

    #[test]
    fn what_says_nothing_of_a_bucket_leaves_it_as_it_is() {
        let now = Instant::now();
        let mut bucket = bucket(now, 30);
        for (limit, remaining, reset) in [("0", "0", "1s"), ("60", "-1", "1s"), ("60", "0", "soon")]
        {
            let announced = announcement("requests", limit, remaining, reset);
            bucket.announced(now, now, Cost::NONE, &announced);
            assert_eq!((bucket.limit, bucket.changes()), (60, 1));
            assert_eq!(bucket.full_at, now + seconds(30));
        }
    }

    #[test]
    fn what_was_announced_two_rounds_ago_no_longer_holds_back() {
        let began = Instant::now();
        let mut bucket = bucket(began, 0);
        // From then on more is there than the first answer has said.
        for (sent, came, until_full) in [(0, 10, 60), (5, 11, 60), (10, 20, 40)] {
            let (sent_at, now) = (began + seconds(sent), began + seconds(came));
            bucket.announced(now, sent_at + NANOSECOND, Cost::NONE, &requests(40));
            let full_at = bucket.full_at - began;
            assert_eq!(full_at.as_secs(), until_full, "{sent}");
        }
    }

    #[test]
    fn a_bucket_that_is_nearly_full_is_open() {
        let now = Instant::now();
        for (limit, remaining, reset) in [("2000000", "1999980", "1ms"), ("10000", "9999", "6ms")] {
            let level = announcement("tokens", limit, remaining, reset);
            let bucket = Bucket::new(now, now, Cost::of_request(100), &level).unwrap();
            assert!(
                bucket.opens_at(now, Cost::NONE, Cost::of_request(1_000), Duration::ZERO) <= now
            );
        }
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
                Bucket::new(now, now, Cost::NONE, &announced).is_none(),
                "{limit} {remaining} {reset}"
            );
        }
    }

    #[test]
    fn absurd_announcements_close_it_and_do_not_overflow() {
        let now = Instant::now();
        let huge = announcement("tokens", "9007199254740991", "0", "99999999999999999999h");
        let mut bucket = Bucket::new(now, now, Cost::of_request(u64::MAX), &huge).unwrap();
        for _ in 0..100 {
            bucket.reserve(now, Cost::of_request(u64::MAX));
            bucket.announced(now, now, Cost::of_request(u64::MAX), &huge);
            bucket.give_back(Cost::of_request(u64::MAX));
        }
        let ahead = Cost {
            requests: u64::MAX,
            tokens: u64::MAX,
        };
        assert!(
            bucket.opens_at(now, ahead, Cost::of_request(u64::MAX), Duration::ZERO)
                >= now + seconds(1 << 31)
        );
    }
}
