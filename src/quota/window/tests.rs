use super::*;
use crate::signal;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::{Duration, SystemTime};

const NANOSECOND: Duration = Duration::from_nanos(1);
const REQUEST: Cost = Cost {
    requests: 1,
    tokens: 0,
};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn requests(requests: u64) -> Cost {
    Cost {
        requests,
        tokens: 0,
    }
}

/// As the three header fields have it, where there are so many.
pub(super) fn announcement(limit: &str, remaining: &str, reset: &str) -> Option<RateLimit> {
    let mut headers = HeaderMap::new();
    for (field, value) in [("limit", limit), ("remaining", remaining), ("reset", reset)] {
        let name = HeaderName::try_from(format!("x-ratelimit-{field}")).unwrap();
        let value = (!value.is_empty()).then(|| HeaderValue::from_str(value).unwrap());
        headers.extend(value.map(|value| (name, value)));
    }
    let signal = signal::read(StatusCode::OK, &headers, None, SystemTime::now());
    signal.limits().first().cloned()
}

/// A window, and the instant from which its times count.
struct Story {
    epoch: Instant,
    window: Window,
}

/// An answer to what was sent and answered so many milliseconds after the epoch.
fn answer(epoch: Instant, sent: u64, answered: u64, uncounted: u64) -> Answer {
    Answer {
        now: epoch + ms(answered),
        sent_at: epoch + ms(sent),
        cost: REQUEST,
        uncounted: requests(uncounted),
        is_refused: false,
        on_the_way: ms(100),
    }
}

impl Story {
    /// Begins with the answer to a request that was sent after 100 ms and answered after 200.
    fn new(limit: &str, remaining: &str, reset: &str) -> Option<Self> {
        let epoch = Instant::now();
        let announced = announcement(limit, remaining, reset)?;
        let window = Window::new(&answer(epoch, 100, 200, 0), &announced)?;
        Some(Self { epoch, window })
    }

    /// Of a process that is known to be alone: after 400 ms 99 of 100 are left of a window that ends
    /// after 10,400.
    fn alone() -> Self {
        let mut story = Self::new("100", "99", "0.1").unwrap();
        assert_eq!(story.send_all(300), 1);
        story.told((300, 400), 0, 99, 10);
        story
    }

    fn told(&mut self, (sent, answered): (u64, u64), uncounted: u64, remaining: u64, reset: u64) {
        let answer = answer(self.epoch, sent, answered, uncounted);
        let (remaining, reset) = (remaining.to_string(), reset.to_string());
        let announced = announcement("100", &remaining, &reset).unwrap();
        self.window.announced(&answer, &announced);
    }

    /// After how many milliseconds one may go, after `ahead` others.
    fn opens_at(&self, now: u64, ahead: u64) -> u128 {
        let now = self.epoch + ms(now);
        let opens_at = self.window.opens_at(now, requests(ahead), REQUEST);
        assert_two_sided(&self.window, now, REQUEST);
        (opens_at.max(now) - self.epoch).as_millis()
    }

    /// Sends at that time all that may go; how many that were.
    fn send_all(&mut self, now: u64) -> u64 {
        let now = self.epoch + ms(now);
        let may_go = |window: &Window| window.opens_at(now, Cost::NONE, REQUEST) <= now;
        let mut sent = 0;
        while may_go(&self.window) {
            self.window.reserve(now, REQUEST);
            sent += 1;
        }
        sent
    }
}

#[test]
fn what_is_used_up_opens_at_its_end_with_the_whole_limit() {
    let mut story = Story::new("100", "0", "40").unwrap();
    assert_eq!(story.opens_at(200, 0), 40_200);
    assert_eq!(story.send_all(40_199), 0);

    let mut story = Story::alone();
    assert_eq!(story.send_all(400), 99);
    assert_eq!(story.opens_at(400, 0), 10_400);
    assert_eq!(story.send_all(10_399), 0);
    assert_eq!(story.send_all(10_400), 100);
}

#[test]
fn answers_narrow_the_end_down_in_any_order() {
    let answers = [
        ((100, 210), 10),
        ((3_020, 3_120), 7),
        ((4_990, 5_100), 6),
        ((500, 700), 10),
    ];
    for first in 0..answers.len() {
        let mut story = Story::new("100", "50", "10").unwrap();
        for place in 0..answers.len() {
            let (times, reset) = answers[(first + place) % answers.len()];
            story.told(times, 0, 0, reset);
        }
        assert_eq!(story.opens_at(5_100, 0), 10_120);
    }
}

#[test]
fn those_ahead_take_the_windows_before() {
    let mut story = Story::alone();
    for (ahead, opens_at) in [
        (98, 400),
        (99, 10_400),
        (198, 10_400),
        (199, 20_400),
        (1_098, 100_400),
        (1_099, 110_400),
    ] {
        assert_eq!(story.opens_at(400, ahead), opens_at, "{ahead} ahead");
    }
    assert!(story.opens_at(400, u64::MAX) >= 1_000 << 31);
    story.send_all(400);
    assert_eq!(story.opens_at(400, 99), 10_400);
    assert_eq!(story.opens_at(400, 100), 20_400);
}

#[test]
fn one_process_uses_all_of_it_whatever_the_order_of_the_answers() {
    let mut story = Story::alone();
    assert_eq!(story.send_all(400), 99);
    let scrambled = (0..99).map(|place| place * 37 % 99);
    for (answered, remaining) in (1..).zip(scrambled) {
        story.told((400, 400 + answered), 99 - answered, remaining, 10);
        assert_eq!(story.send_all(400 + answered), 0);
    }
    assert_eq!(story.opens_at(500, 0), 10_400);
}

#[test]
fn what_was_never_counted_is_left() {
    let mut story = Story::alone();
    story.send_all(400);
    story.told((400, 500), 0, 40, 10);
    assert_eq!(story.send_all(500), 40, "the others did not arrive");
}

#[test]
fn a_window_that_was_opened_by_the_clock_opens_by_degrees_until_one_was_whole() {
    let mut story = Story::new("100", "99", "10").unwrap();
    assert_eq!(story.send_all(10_200), 1);
    assert_eq!(story.send_all(10_299), 0);
    assert_eq!(story.send_all(10_300), 2);
    assert_eq!(story.send_all(10_400), 4, "whether answers come or not");
    story.told((10_200, 10_450), 6, 99, 10);
    assert_eq!(story.send_all(10_450), 93, "until one tells what is there");
    story.told((10_450, 10_600), 0, 0, 10);
    assert_eq!(story.opens_at(10_600, 0), 20_450);
    assert_eq!(story.send_all(20_450), 100, "the next one opens at once");
}

#[test]
fn where_the_limit_comes_back_bit_by_bit_each_answer_tells_how_much() {
    let mut story = Story::new("100", "0", "2").unwrap();
    for at in [2_200, 4_300, 6_400] {
        assert_eq!(story.send_all(at), 1);
        story.told((at, at + 100), 0, 3, 2);
        let mut left = 3;
        for now in (at + 100..at + 900).step_by(100) {
            for _ in 0..story.send_all(now) {
                left -= 1;
                story.told((now, now + 50), 0, left, 2);
            }
        }
        assert_eq!(left, 0);
        assert_eq!(story.opens_at(at + 900, 0), u128::from(at + 2_100));
    }
}

#[test]
fn a_late_answer_of_the_window_before_says_nothing_of_this_one() {
    let mut story = Story::alone();
    story.send_all(400);
    story.told((400, 500), 0, 0, 10);
    assert_eq!(story.send_all(10_400), 100);
    story.told((10_400, 10_500), 50, 50, 10);
    for (sent, reset) in [(200, 10), (300, 0), (9_000, 2), (10_100, 1)] {
        story.told((sent, 10_510), 50, 0, reset);
        let account = &story.window.present.account;
        assert!(
            account.is_all_ours() && account.told() == 50,
            "sent after {sent} ms"
        );
    }
}

#[test]
fn the_next_window_may_begin_before_the_clock_says_so() {
    let mut story = Story::alone();
    story.send_all(400);
    story.told((1_000, 1_150), 0, 0, 10);
    assert_eq!(story.opens_at(1_150, 0), 10_400);
    story.told((10_250, 10_350), 0, 99, 10);
    assert_eq!(story.send_all(10_350), 99);
}

#[test]
fn who_rounds_down_is_believed_too_early_only_once() {
    let mut story = Story::new("100", "0", "9").unwrap();
    // The window ends after 10 s.
    assert_eq!(story.send_all(9_200), 1);
    story.told((9_200, 9_300), 0, 0, 0);
    assert_eq!(story.opens_at(9_300, 0), 10_300);
    assert_eq!(story.send_all(10_300), 1);
    story.told((10_300, 10_400), 0, 0, 9);
    assert_eq!(story.opens_at(10_400, 0), 20_400);
}

#[test]
fn no_second_left_and_yet_something_of_the_window_is_rounded_down() {
    let mut story = Story::alone();
    story.told((8_000, 8_900), 0, 99, 0);
    assert_eq!(story.send_all(8_900), 99);
    assert_eq!(story.opens_at(8_900, 0), 9_900);
}

#[test]
fn an_end_that_moves_ahead_is_followed() {
    let mut story = Story::alone();
    for at in (2_000..40_000).step_by(2_000) {
        story.told((at, at + 100), 0, 60, 10);
        assert_eq!(story.opens_at(at + 100, 59), u128::from(at + 100));
        assert_eq!(story.opens_at(at + 100, 60), u128::from(at + 10_100));
    }
    story.told((40_000, 40_100), 0, 0, 10);
    assert_eq!(story.opens_at(40_100, 0), 50_100);
}

#[test]
fn one_absurd_announcement_closes_it_for_an_hour_at_most() {
    for reset in ["99999999", "86400", "99999999999999"] {
        let mut story = Story::new("100", "0", reset).unwrap();
        assert_eq!(story.opens_at(200, 0), 3_600_200);
        assert_eq!(story.send_all(3_600_200), 1, "one asks");
        assert_eq!(story.opens_at(3_600_200, 0), 7_200_200);
        story.told((3_600_200, 3_600_300), 0, 99, 10);
        assert!(story.send_all(3_600_300) > 0, "and its answer corrects it");
        assert!(story.opens_at(3_600_300, 0) <= 3_610_300);
    }
}

#[test]
fn an_absurd_announcement_is_corrected_by_the_next() {
    let mut story = Story::new("1", "0", "99999999").unwrap();
    story.told((300, 400), 0, 50, 10);
    assert_eq!(story.opens_at(400, 0), 400);
    assert_eq!(
        story.opens_at(400, 150),
        20_400,
        "and its length is forgotten"
    );
}

#[test]
fn however_long_ago_it_was_opened_by_the_clock_no_more_go_than_the_limit() {
    for idle in [0, 29, 31, 3_599, 3_601, 86_400] {
        let mut story = Story::alone();
        let now = 10_400 + 1_000 * idle;
        assert_eq!(story.send_all(now + 60_000), 100);
        assert!(story.opens_at(now + 60_000, 0) > u128::from(now + 60_000));
    }
}

#[test]
fn without_an_answer_that_tells_the_end_one_asks_in_time() {
    let mut story = Story::new("1", "0", "10").unwrap();
    for (now, asks_at) in [(10_200, 40_200), (40_200, 70_200)] {
        assert_eq!(story.send_all(now), 1);
        assert_eq!(
            story.opens_at(now, 0),
            asks_at,
            "how long windows are is unknown"
        );
    }
}

#[test]
fn windows_that_are_over_before_their_answers_come_follow_each_other_at_their_length() {
    let mut story = Story::alone();
    story.send_all(400);
    for now in [10_400, 20_500] {
        assert_eq!(story.send_all(now), 100);
        let next_at = u128::from(now) + 10_100;
        assert_eq!(story.opens_at(now, 0), next_at);
        assert_eq!(story.opens_at(now, 100), next_at + 10_000);
    }
    story.told((10_400, 24_000), 100, 0, 10);
    assert_eq!(story.opens_at(24_000, 0), 30_600, "it was of one before");
    story.told((10_400, 24_000), 100, 0, 11);
    assert_eq!(story.opens_at(24_000, 0), 31_600, "but they are longer");
}

#[test]
fn the_length_of_such_a_window_counts_from_the_last_that_was_sent_in_it() {
    let mut story = Story::alone();
    story.send_all(400);
    for now in [10_400, 17_000] {
        (0..50).for_each(|_| story.window.reserve(story.epoch + ms(now), REQUEST));
    }
    assert_eq!(story.opens_at(17_000, 0), 27_100);
    assert_eq!(story.send_all(27_100), 100);
}

#[test]
fn how_long_windows_are_is_forgotten_with_their_limit() {
    let mut story = Story::alone();
    let other = announcement("10", "0", "10").unwrap();
    let answer = answer(story.epoch, 400, 500, 0);
    story.window.announced(&answer, &other);
    assert_eq!(story.send_all(10_500), 10);
    assert_eq!(story.opens_at(10_500, 0), 40_500);
}

#[test]
fn without_a_limit_all_that_was_ever_left_comes_back() {
    let told = |story: &mut Story, (sent, answered), remaining| {
        let answer = answer(story.epoch, sent, answered, 0);
        let announced = announcement("", remaining, "10").unwrap();
        story.window.announced(&answer, &announced);
    };
    let mut story = Story::new("", "0", "10").unwrap();
    assert_eq!(story.opens_at(200, 0), 10_200);
    assert_eq!(story.send_all(10_200), 1);
    told(&mut story, (10_200, 10_300), "49");
    assert_eq!(story.send_all(10_300), 49);
    told(&mut story, (10_300, 10_400), "0");
    assert_eq!(story.window.present.account.limit, 50);
    assert_eq!(story.opens_at(10_400, 49), 20_300);
    assert_eq!(story.opens_at(10_400, 50), 30_300);
}

#[test]
fn a_limit_of_zero_holds_back_until_the_end_and_not_longer() {
    let mut story = Story::new("0", "0", "10").unwrap();
    assert_eq!(story.opens_at(200, 0), 10_200);
    assert_eq!(story.send_all(10_200), 1);
}

#[test]
fn what_does_not_say_until_when_or_how_much_holds_nobody_back() {
    for (limit, remaining, reset) in [
        ("100", "0", ""),
        ("100", "", "10"),
        ("100", "-1", "10"),
        ("100", "0", "soon"),
        ("0", "0", "0"),
        ("", "0", "0"),
        ("", "5", "0"),
    ] {
        let story = Story::new(limit, remaining, reset);
        assert!(story.is_none(), "{limit} {remaining} {reset}");
    }
}

#[test]
fn an_end_that_is_past_opens_by_degrees() {
    let mut story = Story::new("100", "99", "10").unwrap();
    story.told((300, 400), 0, 0, 0);
    assert_eq!(story.send_all(400), 1);
    assert_eq!(story.send_all(500), 2);
}

#[test]
fn a_cost_above_the_limit_goes_when_anything_is_left() {
    let mut story = Story::alone();
    story.told((500, 600), 0, 1, 10);
    let (now, dear) = (story.epoch + ms(600), requests(101));
    assert!(story.window.opens_at(now, Cost::NONE, dear) <= now);
    story.window.reserve(now, dear);
    let opens_at = story.window.opens_at(now, Cost::NONE, dear);
    assert_eq!(opens_at, story.epoch + ms(10_400));
    assert_two_sided(&story.window, now, dear);
}

#[test]
fn what_is_given_back_is_there_again() {
    let mut story = Story::alone();
    story.send_all(400);
    story.window.give_back(REQUEST);
    assert_eq!(story.send_all(400), 1);
}

#[test]
fn another_window_changes_what_is_charged_by() {
    let mut story = Story::alone();
    let changes = story.window.changes();
    story.told((500, 600), 0, 98, 10);
    assert_eq!(story.window.changes(), changes);
    story.window.reserve(story.epoch + seconds(11), REQUEST);
    assert_ne!(story.window.changes(), changes);
}

#[test]
fn is_over_when_the_next_one_is_there_and_unspoken_until_it_is_told_of() {
    let mut story = Story::alone();
    let at = |story: &Story, now: u64| story.epoch + ms(now);
    let is_over = |story: &Story, now| story.window.is_over(at(story, now));
    assert!(!is_over(&story, 10_399) && is_over(&story, 10_400));
    let is_unspoken = |story: &Story, sent| story.window.is_unspoken(at(story, sent));
    assert!(!is_unspoken(&story, 10_400));
    assert_eq!(story.send_all(10_400), 100);
    assert!(!is_unspoken(&story, 10_399) && is_unspoken(&story, 10_400));
    story.told((10_400, 10_500), 0, 50, 10);
    assert!(!is_unspoken(&story, 10_400));
}

#[test]
fn what_costs_more_than_is_left_waits_and_what_costs_nothing_wants_something() {
    let mut story = Story::alone();
    let now = story.epoch + ms(400);
    let next = story.epoch + ms(10_400);
    story.window.reserve(now, requests(60));
    for (units, opens_at) in [(0, now), (39, now), (40, next), (100, next)] {
        let cost = requests(units);
        assert_eq!(story.window.opens_at(now, Cost::NONE, cost), opens_at);
        assert_two_sided(&story.window, now, cost);
    }
    story.send_all(400);
    assert_eq!(story.window.opens_at(now, Cost::NONE, Cost::NONE), next);
    for (ahead, units, windows) in [(0, 50, 0), (50, 50, 0), (51, 50, 1), (150, 50, 1)] {
        let opens_at = story.window.opens_at(now, requests(ahead), requests(units));
        assert_eq!(opens_at, next + windows * seconds(10), "{ahead} {units}");
    }
}

#[test]
fn those_ahead_are_waited_for_behind_the_end_as_before_it() {
    let story = Story::new("100", "0", "10").unwrap();
    assert_eq!(story.opens_at(200, 0), 10_200);
    // One in a hundred was ours, as far as is known.
    assert_eq!(
        story.opens_at(200, 1),
        11_300,
        "what is left is for latecomers first"
    );
    assert_eq!(story.window.standing(story.epoch).limit, 100);
}

#[test]
fn what_would_have_room_at_the_very_end_goes_by_the_next_one() {
    let mut story = Story::new("100", "60", "10").unwrap();
    let at = |milliseconds| story.epoch + ms(milliseconds);
    let now = at(9_200);
    story.window.reserve(now, requests(5));
    // What is under way has been counted after a second, and then the window ends.
    for (cost, opens_at) in [(7, 10_200), (8, 11_300)] {
        let cost = requests(cost);
        assert_eq!(story.window.opens_at(now, Cost::NONE, cost), at(opens_at));
        assert_two_sided(&story.window, now, cost);
    }
}

#[test]
fn one_that_goes_before_its_time_asks() {
    let mut story = Story::new("100", "99", "10").unwrap();
    assert_eq!(story.send_all(10_200), 1);
    let shut_until = |story: &Story| story.window.present.shut_until() - story.epoch;
    assert_eq!(shut_until(&story), ms(40_200));
    story.window.reserve(story.epoch + ms(10_250), REQUEST);
    assert_eq!(shut_until(&story), ms(40_250));
    assert_eq!(story.send_all(10_300), 1);
    assert_eq!(shut_until(&story), ms(40_250), "who goes in time does not");
}

/// Refused at the instant before, admitted exactly at it.
fn assert_two_sided(window: &Window, now: Instant, cost: Cost) {
    let opens_at = window.opens_at(now, Cost::NONE, cost);
    let may_go = |at| window.opens_at(at, Cost::NONE, cost) <= at;
    assert!(may_go(opens_at), "closed at the time that it named");
    if opens_at > now {
        let wait = opens_at - now;
        for before in [NANOSECOND, ms(1), ms(99), seconds(1), wait / 2, wait] {
            let at = opens_at.checked_sub(before).unwrap().max(now);
            assert!(!may_go(at), "open {before:?} before");
        }
    }
}
