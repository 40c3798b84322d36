//! How many go at once, and what lets the next ones go.

use super::*;
use proptest::prelude::*;

/// Within this time a refusal would be known.
const TRIP: Duration = Duration::from_millis(100);
const NANOSECOND: Duration = Duration::from_nanos(1);

/// Sends one.
fn go(opening: &mut Opening, now: Instant) -> Step {
    let step = opening.reserve(now);
    opening.sent(step, now);
    step
}

/// Sends all that may go at this instant.
fn send(opening: &mut Opening, now: Instant) -> Vec<Step> {
    let mut steps = Vec::new();
    while opening.opens_at(TRIP).is_none() && steps.len() < 1_000_000 {
        steps.push(go(opening, now));
    }
    steps
}

/// How many go, round trip by round trip, where nobody answers.
fn rounds(opening: &mut Opening, began: Instant, is_blind: bool, rounds: u32) -> Vec<usize> {
    let sends = |round| {
        let now = began + TRIP * round;
        opening.pass(now, TRIP, is_blind);
        let sent = send(opening, now).len();
        assert_eq!(opening.opens_at(TRIP), Some(now + TRIP), "held until then");
        sent
    };
    (0..rounds).map(sends).collect()
}

fn closed(aim: Option<u64>) -> Opening {
    let mut opening = Opening::default();
    opening.reserve(Instant::now());
    opening.refused(aim);
    opening
}

#[test]
fn a_first_burst_doubles_on_the_clock_while_nobody_has_answered() {
    let burst = rounds(&mut Opening::default(), Instant::now(), true, 10);
    assert!(burst[0] > 1, "one by one is no burst: {burst:?}");
    assert!(
        burst.windows(2).all(|two| two[1] == 2 * two[0]),
        "{burst:?}"
    );
}

#[test]
fn behind_a_pause_a_crowd_waits_for_one_that_is_served_and_not_for_ten_in_turn() {
    let mut opening = closed(Some(10_000));
    opening.expect(100_000, 0);
    let now = Instant::now();
    let first = send(&mut opening, now);
    assert_eq!(first.len(), 1, "as long as the server refuses");
    opening.served(first[0]);
    assert_eq!(send(&mut opening, now).len(), 250);
    let mut few = closed(Some(10_000));
    few.expect(1_000, 0);
    let first = send(&mut few, now);
    few.served(first[0]);
    assert_eq!(send(&mut few, now).len(), 2);
}

#[test]
fn answers_that_take_for_ever_do_not_stop_a_burst() {
    // Once the time that refusals take is known, each that was not refused counts as if it had been
    // answered.
    let burst = rounds(&mut Opening::default(), Instant::now(), false, 30);
    assert!(burst[29] > 10 * burst[0], "{burst:?}");
    assert!(burst.is_sorted(), "{burst:?}");
}

#[test]
fn eight_answers_let_one_more_go_and_four_when_many_have_come() {
    let now = Instant::now();
    let mut opening = Opening::default();
    let mut under_way: VecDeque<_> = send(&mut opening, now).into();
    let mut served = 0;
    let mut serve = |opening: &mut Opening, answers| {
        for _ in 0..answers {
            opening.served(under_way.pop_front().unwrap());
            under_way.extend(send(opening, now));
            served += 1;
        }
        (under_way.len(), served)
    };
    let (first, _) = serve(&mut opening, 0);
    for more in 1..=10 {
        assert_eq!(serve(&mut opening, 8).0, first + more);
    }
    while serve(&mut opening, 1).1 < 100 {}
    let (many, _) = serve(&mut opening, 0);
    for more in 1..=100 {
        assert_eq!(serve(&mut opening, 4).0, many + more);
    }
}

#[test]
fn what_nobody_has_tried_proves_nothing() {
    let now = Instant::now();
    let mut opening = Opening::default();
    for _ in 0..1_000 {
        let step = go(&mut opening, now);
        opening.served(step);
    }
    let mut fresh = Opening::default();
    assert_eq!(send(&mut opening, now).len(), send(&mut fresh, now).len());
}

#[test]
fn what_was_half_used_up_is_proved_until_nothing_is_undecided() {
    let now = Instant::now();
    for (used, grows) in [(49, false), (50, true)] {
        let mut opening = Opening::default();
        // A hundred of those who wait.
        opening.expect(100 * CROWD, 0);
        let steps: Vec<_> = (0..used).map(|_| go(&mut opening, now)).collect();
        for step in steps {
            opening.served(step);
        }
        for _ in 0..1_000 {
            let step = go(&mut opening, now);
            opening.served(step);
        }
        opening.expect(0, 0);
        let more = if grows { used / 8 } else { 0 };
        assert_eq!(send(&mut opening, now).len(), 5 + more, "{used}");
    }
}

#[test]
fn behind_a_pause_what_flows_in_is_had_once_one_was_served() {
    let now = Instant::now();
    let mut opening = Opening::default();
    assert!(!opening.has_paused());
    opening.refused(None);
    opening.expect(0, 10);
    assert!(opening.has_paused());
    let first = send(&mut opening, now);
    assert_eq!(first.len(), 1);
    opening.served(first[0]);
    assert_eq!(send(&mut opening, now).len(), 12);
}

#[test]
fn one_goes_after_a_pause_and_with_each_that_was_not_refused_one_more() {
    let mut opening = closed(None);
    assert!(opening.is_at_pause());
    let burst = rounds(&mut opening, Instant::now(), false, 10);
    assert_eq!(
        burst,
        [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
        "a thousand within ten"
    );
    assert!(!opening.is_at_pause());
}

#[test]
fn an_answer_opens_at_once() {
    let now = Instant::now();
    let mut opening = closed(None);
    let mut under_way = send(&mut opening, now);
    for expected in [1, 2, 4, 8] {
        assert_eq!(under_way.len(), expected);
        for step in under_way {
            opening.served(step);
        }
        under_way = send(&mut opening, now);
    }
}

#[test]
fn what_failed_proves_nothing_and_leaves_its_place_to_the_next() {
    let now = Instant::now();
    let mut opening = closed(None);
    for _ in 0..100 {
        let steps = send(&mut opening, now);
        assert_eq!((steps.len(), opening.proved()), (1, 0));
        opening.failed(steps[0]);
    }
    assert!(opening.is_at_pause());
}

#[test]
fn what_is_not_sent_is_not_decided() {
    let mut now = Instant::now();
    let mut opening = closed(None);
    let step = opening.reserve(now);
    for _ in 0..3 {
        now = opening.opens_at(TRIP).unwrap();
        opening.pass(now, TRIP, false);
        assert_eq!(opening.proved(), 0);
        assert!(opening.opens_at(TRIP) > Some(now));
    }
    now += TRIP / 2;
    opening.sent(step, now);
    opening.pass(now + TRIP - NANOSECOND, TRIP, false);
    assert_eq!(opening.proved(), 0, "the clock begins when it is sent");
    opening.pass(now + TRIP, TRIP, false);
    assert_eq!(opening.proved(), 1);
}

#[test]
fn what_went_before_a_pause_does_not_count_behind_it() {
    let now = Instant::now();
    let mut opening = Opening::default();
    let before = send(&mut opening, now);
    opening.refused(None);
    let first = send(&mut opening, now);
    for &step in &before {
        opening.served(step);
        opening.failed(step);
    }
    opening.pass(now + TRIP - NANOSECOND, TRIP, false);
    assert_eq!(opening.proved(), 0);
    assert_eq!(opening.opens_at(TRIP), Some(now + TRIP));
    opening.served(first[0]);
    assert_eq!(opening.proved(), 1);
}

#[test]
fn each_is_decided_once() {
    let now = Instant::now();
    let mut opening = closed(None);
    let step = go(&mut opening, now);
    opening.served(step);
    opening.served(step);
    opening.pass(now + TRIP, TRIP, false);
    assert_eq!((opening.proved(), opening.undecided), (1, 0));
}

#[test]
fn a_refusal_that_comes_late_takes_back_what_the_clock_has_proved() {
    let now = Instant::now();
    let mut opening = closed(None);
    let step = go(&mut opening, now);
    opening.pass(now + TRIP, TRIP, false);
    assert_eq!((opening.proved(), opening.undecided), (1, 0));
    opening.failed(step);
    assert_eq!((opening.proved(), opening.undecided), (0, 0));
}

#[test]
fn where_a_quota_is_expected_to_end_few_are_under_way() {
    for expected in [3, 10, 100, 1_000] {
        let mut now = Instant::now();
        let mut opening = closed(Some(expected));
        let (mut sent, mut trips) = (0, 0);
        while sent < expected {
            opening.pass(now, TRIP, false);
            while opening.opens_at(TRIP).is_none() && sent < expected {
                go(&mut opening, now);
                sent += 1;
            }
            let careful = (expected / 50).max(2) + 1;
            assert!(
                sent < expected || opening.undecided <= careful,
                "{opening:?}"
            );
            now += TRIP;
            trips += 1;
        }
        assert!(trips < 25, "{trips} round trips to {expected}");
        // Behind it the way is as long as it was at first.
        let beyond = rounds(&mut opening, now, false, 40);
        let careful = (expected / 50).max(2) * 3 / 2 + 1;
        assert!(
            beyond[0] as u64 <= careful && beyond.is_sorted(),
            "{beyond:?}"
        );
        assert!(beyond[39] > 10 * beyond[0], "{beyond:?}");
    }
}

#[test]
fn a_quota_that_is_known_better_is_no_longer_tried_with_care() {
    let now = Instant::now();
    let mut opening = closed(Some(4));
    opening.open();
    assert_eq!(rounds(&mut opening, now, false, 5), [1, 2, 4, 8, 16]);
    let mut first = Opening::default();
    first.open();
    assert!(
        rounds(&mut first, now, true, 1)[0] > 1,
        "the first burst stays what it is"
    );
}

/// What happens, and how many nanoseconds later.
#[derive(Clone, Debug)]
enum Event {
    Send,
    Serve(usize),
    Fail(usize),
    Refuse(Option<u64>),
    Pass,
}

fn event() -> impl Strategy<Value = (u64, Event)> {
    let event = prop_oneof![
        6 => Just(Event::Send),
        2 => (0..20_usize).prop_map(Event::Serve),
        1 => (0..20_usize).prop_map(Event::Fail),
        1 => proptest::option::of(any::<u64>()).prop_map(Event::Refuse),
        2 => Just(Event::Pass),
    ];
    (0..150_000_000_u64, event)
}

proptest! {
    #[test]
    fn refuses_before_the_instant_it_names_and_admits_exactly_at_it(
        events in prop::collection::vec(event(), 1..200),
        is_blind: bool,
    ) {
        let mut now = Instant::now();
        let mut opening = Opening::default();
        let mut steps = Vec::new();
        for (pass, event) in events {
            now += Duration::from_nanos(pass);
            opening.pass(now, TRIP, is_blind);
            match event {
                Event::Send => {
                    if let Some(opens_at) = opening.opens_at(TRIP) {
                        prop_assert!(opens_at > now);
                        opening.pass(opens_at - NANOSECOND, TRIP, is_blind);
                        prop_assert_eq!(opening.opens_at(TRIP), Some(opens_at));
                        opening.pass(opens_at, TRIP, is_blind);
                        // The nearer a quota's end is thought to be, the fewer may be under way.
                        let is_narrowing = matches!(opening.aim, Aim::Expected(_));
                        prop_assert!(is_narrowing || opening.opens_at(TRIP).is_none());
                        now = opens_at;
                    }
                    steps.push(go(&mut opening, now));
                }
                Event::Serve(which) => {
                    steps.get(which).into_iter().for_each(|&step| opening.served(step));
                }
                Event::Fail(which) => {
                    steps.get(which).into_iter().for_each(|&step| opening.failed(step));
                }
                Event::Refuse(admitted) => opening.refused(admitted),
                Event::Pass => {}
            }
            let undecided = opening.recent.iter().filter(|recent| recent.progress != Progress::Decided);
            prop_assert_eq!(opening.undecided, undecided.count() as u64);
        }
        opening.pass(now + TRIP, TRIP, is_blind);
        prop_assert_eq!(opening.undecided, 0);
        prop_assert_eq!(opening.opens_at(TRIP), None, "nobody is held back for ever");
    }
}
