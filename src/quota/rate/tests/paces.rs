//! When requests are due at a rate.

use super::*;
use cycle::Sample;

/// One each 100 ms, as so many admissions have told.
fn pace(now: Instant, admitted: f64) -> Pace {
    Pace::new(now, &sample(0.1, admitted))
}

fn sample(seconds: f64, admitted: f64) -> Sample {
    Sample {
        interval: seconds * 1e9,
        admitted,
        is_least: false,
    }
}

/// Refusals come after 10 ms, all of them.
fn tempo() -> Tempo {
    let mut tempo = Tempo::default();
    (0..100).for_each(|_| tempo.refused_after(SECOND / 100));
    tempo
}

/// A request goes, and whether a probe begins with it.
fn send(
    pace: &mut Pace,
    now: Instant,
    admitted: u64,
    since: Option<Duration>,
    refusal_time: Duration,
) -> bool {
    let begins = pace.probe(now, admitted, since, refusal_time);
    pace.reserve(now, admitted);
    begins
}

/// A cycle of so many that ended at `empty_at`.
fn closed(admitted: u64, empty_at: Instant, wait: Option<Duration>) -> Closed {
    let mut cycle = Cycle::new(empty_at);
    (0..=admitted).for_each(|_| cycle.sent(empty_at, true));
    cycle.refused(empty_at, wait);
    cycle.close().unwrap()
}

#[test]
fn so_many_flow_in_and_so_many_are_due_and_no_more_than_can_be_had_at_once() {
    let now = Instant::now();
    let mut pace = pace(now, 8.0);
    assert_eq!(
        [0, 1, 9, 10].map(|tenths| pace.flow(SECOND / 10 * tenths)),
        [0, 1, 9, 10]
    );
    assert_eq!(pace.burst(), 8);
    for (burst, at_once) in [(20.0, 18), (0.5, 1)] {
        pace.set_burst(burst);
        assert_eq!(
            pace.burst(),
            at_once,
            "nine tenths of it, and one at the least"
        );
    }
    pace.set_burst(20.0);
    let due_by = |tenths| pace.due_by(now + SECOND / 10 * tenths);
    assert_eq!(
        [0, 1, 2, 16, 17, 18, 100].map(due_by),
        [1, 2, 3, 17, 18, 18, 18]
    );
    assert_eq!(pace.due_by(now - Duration::from_nanos(1)), 0);
    assert_eq!(pace.full_at(), now + SECOND / 10 * 17);
}

#[test]
fn as_many_go_at_once_after_idleness_as_can_be_had() {
    let now = Instant::now() + 1_000 * SECOND;
    let mut pace = pace(now - 10 * SECOND, 100.0);
    pace.set_burst(20.0);
    let closed = closed(100, now - 10 * SECOND, Some(SECOND));
    pace.resume(now - 9 * SECOND, &closed, &tempo());
    let mut at_once = 0;
    while pace.opens_at(0, true) <= now && !pace.is_probing() {
        send(&mut pace, now, at_once, None, SECOND / 100);
        at_once += 1;
    }
    assert_eq!(at_once, 18);
}

#[test]
fn the_least_is_taken_from_a_few_admissions_and_never_for_a_lower_rate() {
    for (admitted, seconds, learned) in [
        (7.0, 0.05, 0.1),
        (8.0, 0.05, 0.05),
        (100.0, 0.05, 0.05),
        (100.0, 0.2, 0.1),
    ] {
        let mut pace = pace(Instant::now(), 20.0);
        pace.learn(&Sample {
            is_least: true,
            ..sample(seconds, admitted)
        });
        assert_eq!(
            pace.interval(),
            super::seconds(learned),
            "{admitted} {seconds}"
        );
    }
}

#[test]
fn what_comes_back_in_small_lumps_is_spread_and_the_rest_counts_from_when_it_was_used_up() {
    let now = Instant::now() + 1_000 * SECOND;
    let millisecond = SECOND / 1_000;
    for (wait, admitted, spread) in [
        (None, 100, true),
        (Some(SECOND), 10, false),
        // Two intervals, and a second for the rounding.
        (Some(1_200 * millisecond), 10, false),
        (Some(1_201 * millisecond), 10, true),
        (Some(10 * SECOND), 49, true),
        (Some(10 * SECOND), 50, false),
        (Some(SECOND), 100, false),
    ] {
        let mut pace = pace(now, 20.0);
        let empty_at = now - 10 * SECOND;
        pace.resume(now, &closed(admitted, empty_at, wait), &tempo());
        let due = pace.opens_at(0, true);
        let interval = SECOND / 10;
        let expected = if spread {
            now + interval
        } else {
            empty_at + 2 * interval
        };
        assert_eq!(due, expected, "{wait:?} {admitted}");
    }
}

/// How long it takes until the first goes before it is due, behind a pause of that length.
fn patience(pace: &mut Pace, paused: Duration, tempo: &Tempo) -> Duration {
    let opened_at = Instant::now() + 10_000 * SECOND;
    // Spread over its time, and so told that nothing comes at once.
    let wait = Some(10 * SECOND);
    pace.resume(opened_at, &closed(10, opened_at - paused, wait), tempo);
    let mut admitted = 0;
    loop {
        let now = pace.opens_at(0, true).max(opened_at);
        admitted += 1;
        if send(pace, now, admitted, None, tempo.refusal_time()) {
            return now - opened_at;
        }
    }
}

#[test]
fn a_rate_that_has_just_risen_is_tried_sooner_than_one_that_has_fallen() {
    let trip = SECOND / 100;
    for (seconds, requests) in [(0.5, 12), (0.05, 3)] {
        let mut pace = pace(Instant::now(), 100.0);
        pace.set_burst(1e6);
        pace.learn(&sample(seconds, 20.0));
        assert_eq!(pace.interval(), super::seconds(seconds));
        let interval = pace.interval();
        let patience = patience(&mut pace, SECOND, &tempo());
        let least = if requests == 3 { 3 * trip } else { 20 * trip };
        let expected = (interval * requests).max(least);
        assert!(
            (expected..=expected + interval).contains(&patience),
            "{patience:?}, not {expected:?}"
        );
    }
}

#[test]
fn a_probe_waits_for_as_many_round_trips_as_the_rate_is_uncertain() {
    let mut tempo = Tempo::default();
    (0..100).for_each(|_| tempo.refused_after(SECOND));
    for (learned, trips) in [(0.05, 3), (0.2, 20)] {
        let mut pace = pace(Instant::now(), 100.0);
        pace.set_burst(1e6);
        pace.learn(&sample(learned, 20.0));
        let patience = patience(&mut pace, SECOND, &tempo);
        let expected = trips * SECOND;
        let interval = pace.interval();
        assert!(
            (expected..=expected + interval).contains(&patience),
            "{patience:?}, not {expected:?}"
        );
    }
}

#[test]
fn where_a_refusal_loses_quota_a_probe_waits_until_that_is_a_tenth() {
    let pause = 60 * SECOND;
    for (samples, burst, times) in [(0, 2.0, 1), (1, 2.0, 10), (1, 1e6, 0)] {
        let mut pace = pace(Instant::now(), 100.0);
        for _ in 0..samples {
            patience(&mut pace, SECOND, &tempo());
            pace.learn(&sample(0.1, 100.0));
        }
        pace.set_burst(burst);
        let patience = patience(&mut pace, pause, &tempo());
        let expected = (pause * times).max(12 * SECOND / 10);
        assert!(
            (expected..=expected + SECOND).contains(&patience),
            "{patience:?}, not {expected:?}"
        );
    }
}

#[test]
fn what_was_tried_in_vain_is_tried_more_rarely_and_what_was_not_tried_is_not() {
    for (tries, requests) in [(0, 12), (1, 15), (2, 19)] {
        let mut pace = pace(Instant::now(), 100.0);
        pace.set_burst(1e6);
        for i in 0..2 {
            if i < tries {
                patience(&mut pace, SECOND, &tempo());
            }
            pace.learn(&sample(0.1, 100.0));
            let opened_at = Instant::now() + 5_000 * SECOND;
            pace.resume(opened_at, &closed(10, opened_at, Some(SECOND)), &tempo());
        }
        let patience = patience(&mut pace, SECOND, &tempo());
        let interval = pace.interval();
        let expected = interval * requests;
        assert!(
            (expected..=expected + interval).contains(&patience),
            "{patience:?}, not {expected:?}"
        );
    }
}

#[test]
fn one_that_is_refused_long_before_a_probe_makes_it_come_sooner() {
    // Twelve are waited for, then six, then three.
    for (refused_after, requests) in [
        (&[6.0][..], 12),
        (&[5.9], 6),
        (&[5.9, 3.0], 6),
        (&[5.9, 2.9], 3),
        (&[1.0; 10], 3),
    ] {
        let mut pace = pace(Instant::now(), 100.0);
        pace.set_burst(1e6);
        for &admitted in refused_after {
            pace.learn(&sample(0.1, admitted));
        }
        assert_patience(&mut pace, requests);
    }
    // Of one that a single admission has told two are waited for next, and then three.
    for (times, requests) in [(0, 1), (1, 2), (2, 3), (10, 3)] {
        let mut pace = pace(Instant::now(), 1.0);
        pace.set_burst(1e6);
        (0..times).for_each(|_| pace.learn(&sample(0.1, 1.0)));
        assert_patience(&mut pace, requests);
    }
}

#[test]
fn what_has_fallen_is_tried_more_rarely_as_well_but_far_more_slowly() {
    for (tries, requests) in [(0, 12), (2, 12), (3, 13), (24, 24), (200, 200)] {
        let mut pace = pace(Instant::now(), 100.0);
        pace.set_burst(1e6);
        pace.learn(&sample(0.5, 100.0));
        for _ in 0..tries {
            patience(&mut pace, SECOND / 100, &tempo());
            pace.learn(&sample(0.5, 100.0));
        }
        assert_patience(&mut pace, requests);
    }
}

/// After so many requests one goes before it is due.
#[track_caller]
fn assert_patience(pace: &mut Pace, requests: u32) {
    let patience = patience(pace, SECOND / 100, &tempo());
    let expected = pace.interval() * requests;
    assert!(
        (expected..=expected + pace.interval()).contains(&patience),
        "{patience:?}, not {expected:?}"
    );
}

#[test]
fn what_was_learned_is_doubted_after_more_than_a_minute_without_need_of_it() {
    for (idle, is_doubted) in [(60 * SECOND, false), (61 * SECOND, true)] {
        let opened_at = Instant::now() + 10_000 * SECOND;
        let mut pace = pace(opened_at, 100.0);
        pace.set_burst(2.0);
        // So long a pause that the next probe is far off.
        let closed = closed(10, opened_at - 3_600 * SECOND, Some(3_600 * SECOND));
        pace.resume(opened_at, &closed, &tempo());
        let now = pace.opens_at(0, true) + idle;
        assert!(!send(&mut pace, now, 1, None, SECOND / 100));
        let next = pace.opens_at(0, true);
        assert_eq!(send(&mut pace, next, 2, None, SECOND / 100), is_doubted);
    }
}

#[test]
fn where_no_time_is_named_the_pace_rises_by_larger_and_larger_steps_and_then_sooner() {
    let opened_at = Instant::now() + 10_000 * SECOND;
    let mut pace = pace(opened_at, 100.0);
    pace.resume(opened_at, &closed(10, opened_at, None), &tempo());
    let (mut rises, mut since) = (Vec::new(), opened_at);
    for _ in 0..5 {
        let (before, mut now) = (pace.interval(), since);
        while pace.interval() == before {
            now = pace.opens_at(0, true);
            assert!(!send(&mut pace, now, 1, None, SECOND / 100));
        }
        let rise = ratio(before, pace.interval());
        let requests = ratio(now - since, before).round();
        rises.push((requests as u32, (rise * 100.0).round() / 100.0));
        since = now;
    }
    assert_eq!(
        rises,
        [(12, 1.16), (13, 1.32), (4, 1.64), (4, 2.0), (4, 2.0)]
    );
}

/// A burst of less than two, and the server names the time.
fn single(opened_at: Instant, burst: f64) -> Pace {
    let mut pace = pace(opened_at, 100.0);
    pace.set_burst(burst);
    let closed = closed(10, opened_at - SECOND / 10, Some(SECOND / 10));
    pace.resume(opened_at, &closed, &tempo());
    pace
}

#[test]
fn where_no_more_than_one_can_be_had_at_once_the_pace_rises_by_steps_too() {
    let opened_at = Instant::now() + 10_000 * SECOND;
    for (burst, rises) in [(1.0, true), (1.6, true), (1.7, false), (20.0, false)] {
        let mut pace = single(opened_at, burst);
        let before = pace.interval();
        while pace.interval() == before && !pace.is_probing() {
            let now = pace.opens_at(0, true);
            send(&mut pace, now, 1, None, SECOND / 100);
        }
        assert_eq!(pace.is_probing(), !rises, "{burst}");
        let rise = ratio(before, pace.interval());
        assert!(!rises || (1.15..1.17).contains(&rise), "{burst}: {rise}");
    }
}

#[test]
fn a_rise_that_was_too_large_tells_nothing_of_the_rate_of_one_at_a_time() {
    let opened_at = Instant::now() + 10_000 * SECOND;
    for (risen, burst, keeps) in [(true, 1.0, true), (false, 1.0, false), (true, 2.0, false)] {
        let mut pace = single(opened_at, burst);
        let closed = closed(10, opened_at, None);
        pace.resume(opened_at, &closed, &tempo());
        if risen {
            rise(&mut pace);
        }
        pace.learn(&sample(0.11, 100.0));
        assert_eq!(pace.interval() == SECOND / 10, keeps, "{risen} {burst}");
        assert!(pace.interval() >= SECOND / 10, "{risen} {burst}");
    }
}

/// Requests go until the pace rises, by that ratio.
fn rise(pace: &mut Pace) -> f64 {
    let before = pace.interval();
    while pace.interval() == before {
        let now = pace.opens_at(0, true);
        send(pace, now, 1, None, SECOND / 100);
    }
    (ratio(before, pace.interval()) * 100.0).round() / 100.0
}

/// So many cycles of `took`, at whose ends the server asks for `wait`, which it means.
fn cycles(pace: &mut Pace, cycles: u32, took: Duration, wait: Duration) -> Instant {
    let mut opened_at = Instant::now() + 10_000 * SECOND;
    for _ in 0..cycles {
        let mut cycle = Cycle::new(opened_at);
        opened_at += took;
        (0..=10).for_each(|_| cycle.sent(opened_at - wait, true));
        cycle.refused(opened_at - wait, Some(wait));
        pace.resume(opened_at, &cycle.close().unwrap(), &tempo());
    }
    opened_at
}

#[test]
fn when_three_pauses_in_a_row_took_more_than_a_third_requests_go_evenly() {
    let tenths = |tenths| SECOND / 10 * tenths;
    let cases = [
        (3, tenths(29), tenths(10), true),
        (5, tenths(29), tenths(10), true),
        (2, tenths(29), tenths(10), false),
        (3, tenths(30), tenths(10), false),
        // More than what a bucket may take for two at this rate.
        (3, tenths(3), tenths(3), true),
        (3, tenths(2), tenths(2), false),
    ];
    for (count, took, wait, is_even) in cases {
        let mut pace = pace(Instant::now(), 100.0);
        pace.set_burst(1e3);
        let opened_at = cycles(&mut pace, count, took, wait);
        let waits = pace.opens_at(0, true) == opened_at + SECOND / 10;
        assert_eq!(waits, is_even, "{count} of {took:?}, {wait:?}");
    }
}

#[test]
fn requests_that_go_evenly_do_so_until_one_is_refused_at_a_pace_that_had_gone_well() {
    let goes_evenly = |pace: &mut Pace| {
        let opened_at = cycles(pace, 1, SECOND * 10, SECOND);
        pace.opens_at(0, true) == opened_at + pace.interval()
    };
    let mut pace = pace(Instant::now(), 100.0);
    pace.set_burst(1e3);
    cycles(&mut pace, 3, SECOND, SECOND);
    assert!(goes_evenly(&mut pace));
    rise(&mut pace);
    pace.learn(&sample(0.2, 10.0));
    assert_eq!(pace.interval(), SECOND / 10, "the pause is no reason");
    assert!(goes_evenly(&mut pace));
    pace.learn(&sample(0.1, 10.0));
    assert!(!goes_evenly(&mut pace));
}

#[test]
fn a_window_that_comes_back_at_once_ends_the_even_pace() {
    let mut pace = pace(Instant::now(), 100.0);
    pace.set_burst(1e3);
    cycles(&mut pace, 3, SECOND, SECOND);
    cycles(&mut pace, 1, SECOND * 10, SECOND * 2);
    let opened_at = cycles(&mut pace, 1, SECOND * 10, SECOND);
    assert!(pace.opens_at(0, true) < opened_at);
}

#[test]
fn after_a_rise_that_was_too_large_the_first_is_half_and_the_second_twice_the_usual_first() {
    let opened_at = Instant::now() + 10_000 * SECOND;
    let mut pace = pace(opened_at, 100.0);
    let mut rises = Vec::new();
    for rises_until_refused in [1, 1, 2, 1, 1] {
        pace.resume(opened_at, &closed(10, opened_at, None), &tempo());
        rises.extend((0..rises_until_refused).map(|_| rise(&mut pace)));
        pace.learn(&sample(0.2, 10.0));
    }
    assert_eq!(rises, [1.16, 1.08, 1.08, 1.32, 1.08, 1.08]);
}

#[test]
fn a_pause_of_an_hour_in_which_the_server_was_out_of_order_puts_the_next_rise_off_by_a_minute() {
    for wait in [None, Some(SECOND)] {
        let mut pace = pace(Instant::now(), 100.0);
        pace.set_burst(1e3);
        cycles(&mut pace, 3, SECOND, SECOND);
        let opened_at = Instant::now() + 20_000 * SECOND;
        let mut out = closed(10, opened_at - 3_600 * SECOND, wait);
        out.refused_again(&closed(0, opened_at - SECOND, wait));
        pace.resume(opened_at, &out, &tempo());
        rise(&mut pace);
        let held = pace.opens_at(0, true) - opened_at;
        assert!(held <= 61 * SECOND, "{wait:?}: {held:?}");
    }
}

/// A request in ten seconds, where one more goes now before it is due; refusals come within a
/// hundredth of a second.
fn probing() -> (Pace, Instant) {
    let opened_at = Instant::now() + 10_000 * SECOND;
    let mut pace = Pace::new(opened_at, &sample(10.0, 100.0));
    pace.set_burst(1e3);
    let closed = closed(10, opened_at, Some(100 * SECOND));
    pace.resume(opened_at, &closed, &tempo());
    let mut now = opened_at;
    while !pace.is_probing() {
        now = pace.opens_at(0, true);
        send(&mut pace, now, 100, None, SECOND / 100);
    }
    (pace, now)
}

#[test]
fn twice_as_many_go_before_they_are_due_but_at_most_a_tenth_of_all_more() {
    let (mut pace, began) = probing();
    let mut now = began;
    let trip = |now: Instant| (now - began).as_millis() / 10;
    let mut by_trip = [0; 8];
    loop {
        now = now.max(pace.opens_at(0, true));
        let Some(sent) = by_trip.get_mut(trip(now) as usize) else {
            break;
        };
        *sent += 1;
        send(&mut pace, now, 100, None, SECOND / 100);
    }
    assert_eq!(by_trip, [1, 1, 2, 4, 8, 10, 10, 10]);
}

#[test]
fn what_may_not_be_tried_goes_when_it_is_due() {
    let (pace, began) = probing();
    assert!(pace.opens_at(0, true) <= began + SECOND / 100);
    for ahead in [0, 1, 7] {
        let due = began + 10 * SECOND * (ahead as u32 + 1);
        assert_eq!(pace.opens_at(ahead, false), due);
    }
}

#[test]
fn what_has_proved_to_be_admitted_within_a_time_is_the_least_rate() {
    for (admitted, seconds) in [(1, 10.0), (2, 10.0), (101, 1.0)] {
        let (mut pace, began) = probing();
        send(&mut pace, began, admitted, None, SECOND / 100);
        let now = pace.opens_at(0, true).max(began + SECOND / 100);
        send(&mut pace, now, admitted, Some(100 * SECOND), SECOND / 100);
        assert_eq!(pace.interval(), super::seconds(seconds), "{admitted}");
    }
}

#[test]
fn a_probe_grows_when_all_that_may_go_earlier_have_gone() {
    let (mut pace, began) = probing();
    // Something else lets one go each time when it is early by one interval and no more.
    let mut now = began;
    for _ in 0..100 {
        send(&mut pace, now, 1_000, None, SECOND / 100);
        now += pace.interval();
    }
    let go_at_once = (0..1_000).take_while(|&ahead| pace.opens_at(ahead, true) <= now);
    assert_eq!(go_at_once.count(), 2);
}

#[test]
fn a_probe_that_holds_nobody_back_does_not_grow_and_proves_nothing() {
    for late in [Duration::ZERO, SECOND] {
        let (mut pace, began) = probing();
        pace.set_burst(1.0);
        let due = pace.opens_at(0, true).max(began) + 10 * SECOND;
        send(&mut pace, due + late, 1_000, Some(SECOND), SECOND / 100);
        assert_eq!(pace.interval(), 10 * SECOND, "{late:?}");
    }
}

#[test]
fn a_rate_is_seen_and_so_many_flow_in_once_it_is_to_blame() {
    let world = World::new(7 * SECOND, 1, Hint::Exact).learned();
    let (rate, now) = (&world.rate, world.now);
    assert_eq!(
        [0, 69, 71].map(|seconds| rate.flow(SECOND * seconds)),
        [0, 9, 10]
    );
    let seen = rate.snapshot(now).unwrap();
    assert_eq!((seen.hold, seen.limit), (Hold::Rate, 1));
    assert_eq!(seen.interval, rate.interval());
    assert!(Rate::default().snapshot(now).is_none());
    assert_eq!(Rate::default().flow(SECOND), 0);
}
