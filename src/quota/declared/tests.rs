//! All accounts of a partition together: what happens to which of them, and to which not.

use super::*;

const NANOSECOND: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// What is allowed for when answers take no time.
const CUSHION: Duration = Duration::from_millis(1);

fn count(count: u64) -> NonZeroU64 {
    NonZeroU64::new(count).unwrap()
}

fn requests(requests: u64) -> Cost {
    Cost {
        requests,
        tokens: 0,
    }
}

/// The accounts of these, where answers take no time.
fn declared(now: Instant, quotas: &[Quota]) -> Declared {
    let mut declared = Declared::new(quotas);
    declared.answered(now, now);
    declared
}

/// 10 requests and 1,000 tokens a minute, of each kind. A bucket holds one more, which the cushion
/// takes.
fn of_each_kind(now: Instant) -> [Declared; 2] {
    let steady = |quota: Quota| quota.burst(quota.count);
    [
        [Quota::requests(count(10)), Quota::tokens(count(1_000))],
        [
            steady(Quota::requests(count(11))),
            steady(Quota::tokens(count(1_001))),
        ],
    ]
    .map(|quotas| declared(now, &quotas))
}

/// What is left of each.
fn left(declared: &Declared, now: Instant) -> Vec<u64> {
    declared.snapshots(now).map(|seen| seen.remaining).collect()
}

/// How long until that may go, by each account.
fn waits(declared: &Declared, now: Instant, cost: Cost) -> Vec<Duration> {
    let opens_at = declared.opens_at(now, Cost::NONE, cost);
    opens_at.map(|(at, _)| at - now).collect()
}

#[test]
fn what_is_corrected_are_the_tokens_alone() {
    let now = Instant::now();
    for mut declared in of_each_kind(now) {
        declared.reserve(now, Cost::of_request(300));
        assert_eq!(left(&declared, now), [9, 700]);
        declared.unused(now, Cost::of_request(300));
        assert_eq!(left(&declared, now), [9, 1_000], "refused");
        declared.charge(now, 250);
        assert_eq!(left(&declared, now), [9, 750], "charged afterwards");
        declared.reserve(now, Cost::of_request(300));
        for (charged, cost, left_then) in [(300, 100, 650), (100, 400, 350), (400, 400, 350)] {
            declared.settle(now, now, charged, cost);
            assert_eq!(left(&declared, now), [8, left_then], "settled");
        }
        declared.give_back(now, Cost::of_request(400));
        assert_eq!(left(&declared, now), [9, 750], "given back");
    }
}

#[test]
fn what_came_later_is_charged_when_it_is_known() {
    let began = Instant::now();
    let now = began + 59 * SECOND;
    let mut declared = declared(began, &[Quota::tokens(count(1_000))]);
    declared.reserve(began, Cost::of_request(300));
    declared.settle(now, began, 300, 500);
    assert_eq!(left(&declared, now), [500]);
    assert_eq!(left(&declared, now + 2 * SECOND), [800]);
    assert_eq!(left(&declared, now + MINUTE + CUSHION), [1_000]);
}

#[test]
fn what_is_sent_later_counts_from_then_on() {
    let began = Instant::now();
    let now = began + 30 * SECOND;
    // In a bucket each of the ten flows in again within an eleventh of a minute.
    let ten_elevenths = Duration::from_nanos((10 * MINUTE.as_nanos() as u64).div_ceil(11));
    let expected = [(MINUTE + CUSHION, 0), (ten_elevenths, 6)];
    for (mut declared, (reset, left_then)) in of_each_kind(began).into_iter().zip(expected) {
        declared.reserve(began, requests(10));
        declared.sent(began, now, requests(10));
        assert_eq!(left(&declared, now)[0], 0);
        let seen = declared.snapshots(now).next().unwrap();
        assert_eq!(seen.reset, Some(reset));
        assert_eq!(left(&declared, began + MINUTE + CUSHION)[0], left_then);
    }
}

#[test]
fn what_is_reserved_holds_while_it_counts_and_then_until_others_take_its_place() {
    let began = Instant::now();
    let last = began + MINUTE + CUSHION - NANOSECOND;
    let over = began + 2 * MINUTE;
    for mut declared in of_each_kind(began) {
        declared.reserve(began, requests(10));
        assert!(declared.still_holds(began, began, requests(10)));
        assert!(declared.still_holds(began, last, requests(10)));
        assert!(declared.still_holds(began, over, requests(10)));
        declared.reserve(over, requests(10));
        assert!(!declared.still_holds(began, over, requests(10)), "taken");
        assert!(declared.still_holds(over, over, requests(10)));
    }
}

#[test]
fn more_than_the_limit_takes_what_is_left_and_that_is_what_comes_back() {
    let now = Instant::now();
    for mut declared in of_each_kind(now) {
        let limit = declared.accounts[1].limit;
        let [all, more] = [limit, limit + 1].map(Cost::of_request);
        assert!(!declared.is_exceeded_by(all) && declared.is_exceeded_by(more));
        declared.reserve(now, Cost::of_request(300));
        assert!(waits(&declared, now, all)[1] > Duration::ZERO);
        assert_eq!(waits(&declared, now, more)[1], Duration::ZERO);
        declared.reserve(now, all);
        assert_eq!(left(&declared, now)[1], 0);
        assert!(
            waits(&declared, now, more)[1] > Duration::ZERO,
            "all of it overdraws, if it is sent nevertheless"
        );
        declared.give_back(now, all);
        assert_eq!(left(&declared, now)[1], 700);
        declared.reserve(now, more);
        assert_eq!(left(&declared, now)[1], 0);
        assert_eq!(waits(&declared, now, more)[1], Duration::ZERO);
        declared.give_back(now, more);
        assert_eq!(left(&declared, now)[1], 700);
        declared.reserve(now, more);
        declared.settle(now, now, more.tokens, 600);
        assert_eq!(left(&declared, now)[1], 100);
    }
}

#[test]
fn of_two_that_are_larger_than_the_limit_what_the_first_took_is_forgotten() {
    let now = Instant::now();
    for mut declared in of_each_kind(now) {
        let later = now + NANOSECOND;
        let more = Cost::of_request(5_000);
        declared.reserve(now, Cost::of_request(300));
        declared.reserve(now, more);
        declared.give_back(now, Cost::of_request(200));
        declared.reserve(later, more);
        declared.give_back(now, more);
        assert_eq!(left(&declared, later)[1], 0);
        declared.give_back(later, more);
        assert_eq!(left(&declared, later)[1], 200);
    }
}

#[test]
fn a_refusal_drains_the_short_ones_once_for_each_burst() {
    let began = Instant::now();
    let now = began + SECOND;
    let long = MINUTE + NANOSECOND;
    let [ten, eleven] = [10, 11].map(|n| Quota::requests(count(n)));
    let bucket = eleven.burst(count(11));
    let quotas = [ten, bucket, ten.per(long), bucket.per(long)];
    let mut declared = declared(began, &quotas);
    declared.refused(now, began, now + SECOND);
    assert_eq!(left(&declared, now), [0, 0, 10, 10]);
    let reopened = now + MINUTE + MINUTE;
    let again = reopened + SECOND;
    declared.refused(reopened, now - NANOSECOND, again);
    assert_eq!(left(&declared, reopened), [10; 4], "of the same burst");
    declared.refused(reopened, now, again);
    assert_eq!(left(&declared, reopened), [0, 0, 10, 10]);
}

#[test]
fn is_unused_when_nothing_that_was_taken_counts_any_longer() {
    let now = Instant::now();
    let one_flows_in = MINUTE.div_f64(11.0);
    let longest = MINUTE + MINUTE / 10;
    for (mut declared, unused_after) in of_each_kind(now).into_iter().zip([longest, one_flows_in]) {
        assert!(declared.is_unused(now));
        declared.reserve(now, requests(1));
        assert!(!declared.is_unused(now));
        assert!(!declared.is_unused(now + unused_after - 2 * NANOSECOND));
        assert!(declared.is_unused(now + unused_after + NANOSECOND));
    }
}

#[test]
fn shows_of_each_what_is_there_and_until_when_it_is_not_whole() {
    let now = Instant::now();
    let ten = Quota::requests(count(10)).per(SECOND);
    let mut declared = declared(now, &[ten, ten.burst(count(20))]);
    declared.reserve(now, requests(4));
    let seen: Vec<_> = declared.snapshots(now).collect();
    assert_eq!([seen[0].limit, seen[1].limit], [10, 20]);
    assert_eq!([seen[0].remaining, seen[1].remaining], [6, 15]);
    let fourth = Duration::from_millis(400);
    assert_eq!(seen[0].reset, Some(SECOND + CUSHION));
    assert_eq!(seen[1].reset, Some(fourth));
    assert_eq!(seen[0].interval, None);
    assert_eq!(seen[1].interval, Some(SECOND / 10));
    for seen in seen {
        assert_eq!(seen.source, Source::Declared);
        assert_eq!(seen.hold, Hold::Declared("requests"));
        assert_eq!(seen.age, None);
    }
}

#[test]
fn knows_whether_there_are_any_and_what_they_count() {
    for (quotas, is_empty, counts_tokens) in [
        (&[][..], true, false),
        (&[Quota::requests(count(1))], false, false),
        (&[Quota::tokens(count(1))], false, true),
    ] {
        let declared = Declared::new(quotas);
        assert_eq!(declared.is_empty(), is_empty);
        assert_eq!(declared.counts_tokens(), counts_tokens);
    }
}

#[test]
fn a_quota_is_by_the_minute_until_a_span_is_set() {
    let quota = Quota::requests(count(7));
    for (quota, seconds) in [
        (quota, 60),
        (quota.per_second(), 1),
        (quota.per_minute(), 60),
        (quota.per_hour(), 3_600),
        (quota.per_day(), 86_400),
        (quota.per(5 * SECOND), 5),
        (quota.per_second().burst(count(3)), 1),
        (quota.burst(count(3)).per_second(), 1),
    ] {
        assert_eq!(quota.count.get(), 7);
        assert_eq!(quota.span, seconds * SECOND);
    }
    assert_eq!(quota.burst, None);
    assert_eq!(quota.burst(count(3)).per_day().burst, Some(count(3)));
}
