//! What a cycle tells of the rate.

use super::*;
use cycle::Sample;

/// The quota opens at `began`, so many are sent, of which the last is refused at `empty_at`.
fn cycle(began: Instant, admitted: u32, empty_at: Instant, wait: Option<Duration>) -> Closed {
    let mut cycle = Cycle::new(began);
    (0..=admitted).for_each(|_| cycle.sent(began, true));
    cycle.refused(empty_at, wait);
    cycle.close().unwrap()
}

/// The quota was used up at this instant.
fn empty(at: Instant) -> Empty {
    cycle(at, 1, at, None).empty()
}

/// So many were had at once at first.
fn at_once(admitted: u32) -> First {
    let now = Instant::now();
    cycle(now, admitted, now, None).first()
}

/// From one request to the next.
fn milliseconds(sample: &Sample) -> u32 {
    (sample.interval / 1e6).round() as u32
}

#[test]
fn what_was_had_at_once_is_what_did_not_flow_in_meanwhile() {
    let now = Instant::now();
    let closed = cycle(now, 30, now + SECOND, Some(SECOND));
    assert!((closed.burst(SECOND / 10) - 20.0).abs() < 1e-9);
    for (admitted, milliseconds, burst) in [
        (20, 0, Some(20.0)),
        (20, 900, Some(11.0)),
        // Half of it, and less: that was no burst.
        (20, 1_000, None),
        (20, 1_500, None),
        // Nor are so few that it may have been the order of arrival.
        (3, 0, Some(3.0)),
        (2, 0, None),
        (1, 0, None),
    ] {
        let empty_at = now + Duration::from_millis(milliseconds);
        let first = cycle(now, admitted, empty_at, None).first();
        assert_eq!(first.burst(SECOND / 10), burst, "{admitted} {milliseconds}");
    }
}

#[test]
fn of_a_few_that_are_admitted_first_after_many_all_count_until_now() {
    let sample = |admitted: f64| Sample {
        interval: 36e9 / admitted,
        admitted,
        is_least: false,
    };
    let since = 46 * SECOND;
    for (first, admitted, milliseconds) in [
        (992, 8.0, 4_500),
        (993, 7.0, 46),
        (999, 1.0, 46),
        (8, 1.0, 5_111),
        (7, 1.0, 36_000),
        (8, 7.0, 3_067),
    ] {
        let all = at_once(first).with(sample(admitted), since);
        assert_eq!(
            super::cycles::milliseconds(&all),
            milliseconds,
            "{first} {admitted}"
        );
        assert_eq!(all.admitted.to_bits(), admitted.to_bits());
    }
    let sooner = at_once(20).with(sample(7.0), 1_000 * SECOND);
    assert_eq!(milliseconds(&sooner), 5_143, "whichever is faster");
}

/// A thousand go at once; then one, and then none any more for half a minute.
fn left_over(wait: Duration) -> Rate {
    let (mut rate, tempo, mut now) = (Rate::default(), Tempo::default(), Instant::now());
    let turns = [(); 1_001].map(|()| rate.reserve(now, true, &tempo));
    rate.refused(turns[0], now, Some(SECOND));
    now += SECOND;
    rate.reserve(now, true, &tempo);
    rate.opened(&tempo);
    let opens_at = now + 30 * SECOND;
    while now < opens_at {
        let turn = rate.reserve(now, true, &tempo);
        rate.refused(turn, now, Some(wait));
        now += wait;
    }
    rate.reserve(now, true, &tempo);
    rate.opened(&tempo);
    rate
}

#[test]
fn what_was_left_over_by_who_names_too_short_a_time_is_not_the_rate() {
    let interval = |wait| left_over(wait).interval().unwrap();
    assert_eq!(interval(SECOND).as_millis(), 30);
    assert_eq!(interval(30 * SECOND), SECOND, "it named the right time");
}

#[test]
fn behind_a_pause_that_was_longer_than_the_bucket_takes_only_the_rest_has_flowed_in() {
    let began = Instant::now() + 100 * SECOND;
    let closed = cycle(began, 70, began + 5 * SECOND, Some(SECOND));
    let paused = empty(began - 60 * SECOND);
    let opened_at = began + 65 * SECOND;
    let sample = closed.sample(opened_at, &paused, None, Some(at_once(20)));
    assert!((sample.interval - 1e8).abs() < 1.0, "{sample:?}");
    assert!(!sample.is_least);
    let sample = closed.sample(opened_at, &paused, None, None);
    assert!((sample.interval - 65e9 / 70.0).abs() < 1.0, "{sample:?}");
}

#[test]
fn behind_a_pause_in_which_the_bucket_was_not_full_all_has_flowed_in() {
    let began = Instant::now() + 100 * SECOND;
    // Of a server that names no time: taken to have opened half-way between two attempts.
    let closed = cycle(began, 30, began + SECOND, None);
    let paused = empty(began - SECOND);
    let sample = closed.sample(began + 10 * SECOND, &paused, None, Some(at_once(20)));
    assert!((sample.interval - 5.5e9 / 30.0).abs() < 1.0, "{sample:?}");
}

#[test]
fn when_the_bucket_was_full_and_next_to_nothing_flowed_in_the_rate_may_be_higher() {
    let began = Instant::now() + 100 * SECOND;
    let closed = cycle(began, 22, began + SECOND / 5, Some(SECOND));
    let paused = empty(began - 60 * SECOND);
    for (opened_in, is_least) in [(20, true), (50, true), (60, false), (66, false)] {
        let opened_at = began + opened_in * SECOND;
        let sample = closed.sample(opened_at, &paused, None, Some(at_once(20)));
        assert_eq!(sample.is_least, is_least, "{opened_in}");
    }
    // Four may be a matter of order; a fifth has flowed in.
    for (admitted, interval) in [(24, 833), (25, 40)] {
        let closed = cycle(began, admitted, began + SECOND / 5, Some(SECOND));
        let sample = closed.sample(began + 20 * SECOND, &paused, None, Some(at_once(20)));
        assert_eq!(milliseconds(&sample), interval);
    }
}

#[test]
fn who_was_idle_tells_the_least_that_the_rate_can_be_unless_it_was_mostly_closed() {
    let began = Instant::now() + 100 * SECOND;
    for (flowed, waits, is_least) in [
        (1, false, false),
        (5, false, false),
        (6, false, true),
        (6, true, false),
    ] {
        let mut cycle = Cycle::new(began);
        (0..=30).for_each(|_| cycle.sent(began, waits));
        cycle.refused(began + flowed * SECOND, None);
        let closed = cycle.close().unwrap();
        // Taken to have opened half-way between the last two attempts, whenever that was.
        let opened_at = began + 20 * SECOND - flowed * SECOND;
        let sample = closed.sample(opened_at, &empty(began), None, None);
        assert_eq!(milliseconds(&sample), 333, "ten seconds");
        assert_eq!(sample.is_least, is_least, "{flowed} {waits}");
    }
}

#[test]
fn what_takes_more_than_twice_as_long_as_expected_was_an_outage() {
    for (took, interval) in [(15, 150), (20, 200), (21, 110), (71, 110)] {
        let empty_at = Instant::now() + 1_000 * SECOND;
        let began = empty_at - 10 * SECOND;
        let closed = cycle(began, 100, empty_at, Some(SECOND));
        // Refused again until a second before it opened.
        let mut before = cycle(empty_at - took * SECOND, 1, empty_at - took * SECOND, None);
        let again = began - SECOND;
        before.refused_again(&cycle(again, 0, again, None));
        let known = Some(SECOND / 10);
        let opened_at = empty_at + 100 * SECOND;
        let sample = closed.sample(opened_at, &before.empty(), known, None);
        assert_eq!(milliseconds(&sample), interval, "{took}");
        let sample = closed.sample(opened_at, &before.empty(), None, None);
        assert_eq!(milliseconds(&sample), took * 10);
    }
}

#[test]
fn who_is_refused_twice_more_after_the_time_that_was_named_is_misled() {
    let now = Instant::now();
    for (wait, is_misleading) in [
        (Some(SECOND), [false, false, true, true]),
        (None, [false; 4]),
    ] {
        let mut closed = cycle(now, 10, now, wait);
        for is_misleading in is_misleading {
            assert_eq!(closed.is_misleading(), is_misleading);
            closed.refused_again(&cycle(now, 0, now, wait));
        }
        assert_eq!(closed.whole(now + SECOND).is_some(), wait.is_none());
        closed.distrust();
        assert!(closed.whole(now + SECOND).is_some() && !closed.is_misleading());
        assert_eq!(closed.wait(), None);
    }
}

#[test]
fn one_that_names_no_time_has_told_its_rate_when_two_were_admitted() {
    for (admitted, is_known) in [(1, false), (2, true)] {
        let (mut rate, tempo, now) = (Rate::default(), Tempo::default(), Instant::now());
        let turns = (0..=admitted).map(|_| rate.reserve(now, true, &tempo));
        let turn = turns.last().unwrap();
        rate.refused(turn, now, None);
        rate.reserve(now + 10 * SECOND, true, &tempo);
        rate.opened(&tempo);
        assert_eq!(rate.is_known(), is_known, "{admitted}");
    }
}

#[test]
fn a_cycle_of_which_some_were_admitted_takes_the_place_of_the_one_before() {
    let (mut rate, tempo, mut now) = (Rate::default(), Tempo::default(), Instant::now());
    for (sent, admitted) in [(10, 9), (1, 9), (5, 4), (1, 4)] {
        let turns = (0..sent).map(|_| rate.reserve(now, true, &tempo));
        let turn = turns.last().unwrap();
        rate.refused(turn, now, Some(SECOND));
        now += SECOND;
        let mut seen = rate.closed.take().into_iter().collect::<Vec<_>>();
        rate.closed = seen.pop();
        let next = rate.cycle.take();
        rate.close(next);
        let closed = rate.closed.as_ref().map(|(_, closed)| closed.admitted());
        assert_eq!(closed, Some(admitted));
    }
}

#[test]
fn a_server_that_misleads_once_may_have_been_out_of_order_and_twice_names_no_time() {
    let (mut rate, tempo, mut now) = (Rate::default(), Tempo::default(), Instant::now());
    let mut round = |rate: &mut Rate, refusals: u32| {
        rate.reserve(now, true, &tempo);
        rate.opened(&tempo);
        (0..9).for_each(|_| _ = rate.reserve(now, true, &tempo));
        for _ in 0..refusals {
            let turn = rate.reserve(now, true, &tempo);
            rate.refused(turn, now, Some(SECOND));
            now += SECOND;
        }
        rate.reserve(now, true, &tempo);
        rate.opened(&tempo);
        rate.misled
    };
    assert_eq!(
        [1, 3, 3, 3, 2, 3].map(|n| round(&mut rate, n)),
        [0, 1, 2, 3, 0, 1]
    );
}

#[test]
fn nothing_is_left_of_what_is_forgotten_and_late_refusals_belong_to_nobody() {
    let mut world = World::new(SECOND, 5, Hint::Exact).learned();
    world.rate.forget();
    assert!(!world.rate.is_known() && !world.rate.is_to_blame());
    let (mut rate, tempo, now) = (Rate::default(), Tempo::default(), Instant::now());
    let late = rate.reserve(now, true, &tempo);
    rate.forget();
    rate.reserve(now, true, &tempo);
    assert_eq!(rate.refused(late, now, None), None);
}

#[test]
fn what_was_not_used_was_not_admitted() {
    let (mut rate, tempo, now) = (Rate::default(), Tempo::default(), Instant::now());
    let turns = [0, 1, 2].map(|_| rate.reserve(now, true, &tempo));
    rate.give_back(turns[0]);
    assert_eq!(rate.cycle.as_ref().map(Cycle::admitted), Some(2));
    assert_eq!(rate.refused(turns[2], now, None), Some(1));
}
