//! The two-sided property, for all limits, and what is peculiar to each.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::openai::{Limits, Quota};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const NANOSECOND: Duration = Duration::from_nanos(1);

#[test]
fn a_window_begins_on_multiples_of_its_length() {
    let now = Instant::now();
    let window = FixedWindow::new(Unit::Requests, 2, 10 * SECOND, now);
    assert_eq!(
        admissions(window.clone(), now, 200),
        [0, 0, 10_000, 10_000, 20_000, 20_000]
    );
    let aged = window.age(7 * SECOND);
    assert_eq!(aged.standings(now)[0].reset, 3 * SECOND);
    assert_eq!(
        admissions(aged, now, 200),
        [0, 0, 3_000, 3_000, 13_000, 13_000]
    );
}

#[test]
fn a_log_forgets_one_at_a_time() {
    let now = Instant::now();
    let mut log = SlidingLog::new(2, 10 * SECOND);
    assert!(log.admit(0, now) && log.admit(0, now + 4 * SECOND));
    assert_eq!(log.standings(now + 4 * SECOND)[0].next, 6 * SECOND);
    assert_eq!(log.standings(now + 4 * SECOND)[0].reset, 10 * SECOND);
    assert!(!log.admit(0, now + 9 * SECOND));
    assert!(log.admit(0, now + 10 * SECOND) && !log.admit(0, now + 10 * SECOND));
    assert!(log.admit(0, now + 14 * SECOND));
}

#[test]
fn a_place_is_free_when_one_has_left() {
    let now = Instant::now();
    let mut limit = Concurrency::new(1);
    assert!(limit.admit(0, now) && !limit.admit(0, now));
    assert_eq!(limit.opening(0, now), Opening::AfterLeaving);
    assert_eq!(limit.wait(0, now), None);
    limit.leave();
    assert!(limit.admit(0, now));
}

#[test]
fn who_asks_during_a_ban_makes_it_longer() {
    let now = Instant::now();
    let mut limit = Ban::new(bucket(1, 60, now), 10 * SECOND, 2 * SECOND);
    assert!(limit.admit(0, now) && !limit.admit(0, now));
    assert_eq!(limit.wait(0, now), Some(10 * SECOND));
    assert!(!limit.admit(0, now + SECOND) && !limit.admit(0, now + SECOND));
    assert_eq!(limit.opening(0, now), Opening::At(now + 14 * SECOND));
    assert!(limit.admit(0, now + 14 * SECOND));
}

#[test]
fn an_outage_refuses_what_the_limit_would_admit() {
    let now = Instant::now();
    let (begin, end) = (now + 20 * SECOND, now + 50 * SECOND);
    let mut limit = Outage::new(bucket(1, 60, now), begin, end, 5 * SECOND);
    assert!(limit.admit(0, begin - MILLISECOND) && !limit.admit(0, begin));
    assert_eq!(limit.wait(0, begin), Some(5 * SECOND));
    assert_eq!(limit.opening(0, begin), Opening::At(end));
    assert_eq!(limit.wait(0, end - SECOND), Some(SECOND));
    assert!(limit.admit(0, end));
}

#[test]
fn a_bucket_announces_the_wait_at_its_present_rate() {
    let now = Instant::now();
    let slow = NonZeroU32::new(30).unwrap();
    let mut limit = bucket(1, 60, now).then(now + 2 * SECOND, slow);
    let later = now + 1_500 * MILLISECOND;
    assert!(limit.admit(0, later));
    assert_eq!(limit.wait(0, later), Some(SECOND));
    // Half of it in half a second, the other half at half the rate.
    assert_eq!(
        limit.opening(0, later),
        Opening::At(later + 1_500 * MILLISECOND)
    );
    assert_eq!(limit.standings(later)[0].window, SECOND);
    assert_eq!(limit.standings(later + SECOND)[0].window, 2 * SECOND);
}

#[test]
fn of_several_limits_all_must_admit() {
    let now = Instant::now();
    let mut both = All::new(vec![
        Box::new(Concurrency::new(1)),
        Box::new(FixedWindow::new(Unit::Tokens, 10, SECOND, now)),
    ]);
    assert!(!both.admit(11, now));
    assert_eq!(both.opening(11, now), Opening::Never);
    assert!(both.admit(6, now));
    assert_eq!(both.opening(6, now), Opening::AfterLeaving);
    both.leave();
    assert!(!both.admit(6, now), "the window is used up");
    assert!(both.admit(4, now), "what was refused was not charged");
}

proptest! {
    #[test]
    fn each_limit_refuses_before_its_opening_and_admits_exactly_at_it(
        // Each step: the nanoseconds that pass, the tokens asked for, whether one leaves.
        steps in prop::collection::vec((0_u64..3_000_000_000, 1_u32..60, any::<bool>()), 1..40),
        tokens in 1_u32..120,
        early_ratio in 0.0..1.0_f64,
    ) {
        let began = Instant::now();
        for make in LIMITS {
            let after_steps = || {
                let (mut limit, mut now) = (make(began), began);
                for &(pass, tokens, leaves) in &steps {
                    now += Duration::from_nanos(pass);
                    limit.admit(tokens, now);
                    if leaves {
                        limit.leave();
                    }
                }
                (limit, now)
            };
            let (mut limit, now) = after_steps();
            match limit.opening(tokens, now) {
                Opening::At(opening) => {
                    if opening > now {
                        let early = (opening - (now + NANOSECOND)).mul_f64(early_ratio);
                        for probe in [now, now + early, opening - NANOSECOND] {
                            prop_assert!(!after_steps().0.admit(tokens, probe), "{limit:?}");
                        }
                    }
                    prop_assert!(limit.admit(tokens, opening.max(now)), "{limit:?}");
                }
                Opening::AfterLeaving | Opening::Never => {
                    prop_assert!(!limit.admit(tokens, now), "{limit:?}");
                    prop_assert!(!limit.admit(tokens, now + 1_000 * SECOND), "{limit:?}");
                }
            }
        }
    }
}

const LIMITS: [fn(Instant) -> Box<dyn Limit>; 9] = [
    |now| Box::new(FixedWindow::new(Unit::Tokens, 100, 10 * SECOND, now).age(3 * SECOND)),
    |now| Box::new(FixedWindow::new(Unit::Requests, 3, 7 * SECOND, now)),
    |_| Box::new(SlidingLog::new(5, 10 * SECOND)),
    |now| Box::new(bucket(4, 40, now).then(now + 9 * SECOND, NonZeroU32::MIN)),
    |_| Box::new(Concurrency::new(4)),
    |now| Box::new(Ban::new(bucket(3, 60, now), 10 * SECOND, 2 * SECOND)),
    |now| {
        let (begin, end) = (now + 10 * SECOND, now + 40 * SECOND);
        Box::new(Outage::new(bucket(3, 60, now), begin, end, 5 * SECOND))
    },
    |now| Box::new(Quota::full(Limits::per_minute(20, 100), now)),
    |now| {
        Box::new(All::new(vec![
            Box::new(Concurrency::new(2)),
            Box::new(bucket(3, 60, now)),
        ]))
    },
];

fn bucket(capacity: u32, per_minute: u32, now: Instant) -> TokenBucket {
    let per_minute = NonZeroU32::new(per_minute).expect("a rate above zero");
    TokenBucket::new(Unit::Requests, capacity, per_minute, now)
}

/// When somebody who asks every so many milliseconds, three times at once, is admitted: the first
/// six.
fn admissions(mut limit: impl Limit, began: Instant, every: u64) -> Vec<u64> {
    let mut admitted = Vec::new();
    for millis in (0..).step_by(every as usize) {
        for _ in 0..3 {
            if limit.admit(0, began + Duration::from_millis(millis)) {
                admitted.push(millis);
            }
        }
        if admitted.len() >= 6 {
            break;
        }
    }
    admitted
}
