//! What refusals say of the number in flight.

use super::*;
use Suspicion::{Confirmed, Possible, Refuted};

const SECOND: Duration = Duration::from_secs(1);

/// Answers come after half a second, refusals after 20 ms.
fn tempo() -> Tempo {
    let mut tempo = Tempo::default();
    for _ in 0..100 {
        tempo.served(SECOND / 2);
        tempo.refused_after(SECOND / 50);
    }
    tempo
}

/// A server that works on so many at a time.
struct Server {
    places: u32,
    limit: Concurrency,
    tempo: Tempo,
    now: Instant,
    /// The depths of those it works on.
    working: VecDeque<u32>,
}

impl Server {
    fn new(places: u32) -> Self {
        Self {
            places,
            limit: Concurrency::default(),
            tempo: tempo(),
            now: Instant::now(),
            working: VecDeque::new(),
        }
    }

    /// Sends so many together, and hears of the refusals when all have been sent.
    fn burst(&mut self, requests: u32) -> Vec<Suspicion> {
        let mut refused = Vec::new();
        for _ in 0..requests {
            let depth = self.limit.reserve(self.now);
            if self.working.len() < self.places as usize {
                self.working.push_back(depth);
            } else {
                refused.push(depth);
            }
        }
        self.now += SECOND / 50;
        let mut again = false;
        let judge = |depth| {
            self.limit.done();
            let again = std::mem::replace(&mut again, true);
            self.limit.refused(depth, again, 0.0)
        };
        refused.into_iter().map(judge).collect()
    }

    /// One is done; sends whatever may go then. Whether one was refused, and what that said.
    fn turn(&mut self) -> Option<Suspicion> {
        self.now += SECOND / 2 / self.places;
        if let Some(depth) = self.working.pop_front() {
            self.limit.served(depth);
            self.limit.done();
        }
        self.limit.pass(self.now, &self.tempo);
        let mut said = None;
        while self.limit.is_open() && said.is_none() {
            said = self.burst(1).pop();
        }
        said
    }

    /// Turns until one is refused; after how many.
    fn until_refused(&mut self) -> (u32, Suspicion) {
        let mut turns = 1..10_000;
        let refused = turns.find_map(|turn| self.turn().map(|said| (turn, said)));
        refused.expect("one more is tried from time to time")
    }
}

#[test]
fn before_the_first_refusal_any_number_may_be_in_flight() {
    let mut limit = Concurrency::default();
    for _ in 0..100_000 {
        assert!(limit.is_open() && !limit.is_limited() && !limit.is_full());
        limit.reserve(Instant::now());
    }
}

#[test]
fn as_many_as_the_burst_has_left_in_flight_are_the_cap() {
    for (places, requests) in [(10, 11), (10, 20), (1, 2), (1, 30), (100, 110)] {
        let mut server = Server::new(places);
        let said = server.burst(requests);
        assert_eq!(said, vec![Possible; (requests - places) as usize]);
        assert!(server.limit.is_limited() && !server.limit.is_open());
        for free in 1..=places {
            let depth = server.working.pop_front().unwrap();
            server.limit.served(depth);
            server.limit.done();
            assert!(server.limit.is_open(), "{free} of {places} are free");
        }
    }
}

#[test]
fn one_beyond_the_cap_confirms_it_and_holds_back_nobody_else() {
    let mut server = Server::new(10);
    server.burst(20);
    let (_, first) = server.until_refused();
    assert_eq!(first, Confirmed);
    let mut refused = 0;
    for _ in 0..1_000 {
        refused += server
            .turn()
            .into_iter()
            .inspect(|&said| assert_eq!(said, Confirmed))
            .count();
    }
    assert!(
        (1..=30).contains(&refused),
        "{refused} of a thousand were refused"
    );
    assert_eq!(server.working.len(), 10, "and no place is idle");
}

#[test]
fn the_longer_it_holds_the_less_often_it_is_tried() {
    let mut server = Server::new(10);
    server.burst(20);
    let turns: Vec<_> = (0..6).map(|_| server.until_refused().0).collect();
    assert!(
        turns[1..]
            .windows(2)
            .all(|two| two[1] > two[0] + two[0] / 2),
        "{turns:?}"
    );
}

#[test]
fn a_cap_that_was_raised_is_found_one_by_one() {
    let mut server = Server::new(10);
    server.burst(20);
    server.until_refused();
    server.places = 20;
    let mut deepest = server.working.len();
    for _ in 0..5_000 {
        if server.turn().is_some() {
            break;
        }
        let beyond = server.working.len().saturating_sub(deepest);
        assert!(
            beyond <= deepest / 4 + 2,
            "{beyond} more at once than {deepest}"
        );
        deepest = deepest.max(server.working.len());
    }
    assert_eq!(deepest, 20);
}

#[test]
fn a_cap_that_was_lowered_is_found() {
    let mut server = Server::new(20);
    server.burst(30);
    server.until_refused();
    server.places = 10;
    let refused = (0..2_000).filter_map(|_| server.turn()).skip(30).count();
    assert!(refused <= 30, "{refused} of two thousand, beside the first");
    assert_eq!(server.working.len(), 10);
}

#[test]
fn a_refusal_that_comes_late_tells_nothing_of_the_present() {
    let mut server = Server::new(20);
    server.burst(30);
    server.until_refused();
    server.working.drain(..).for_each(|_| server.limit.done());
    server.limit.reserve(server.now);
    assert_eq!(server.limit.refused(19, true, 0.0), Possible);
    for free in 1..20 {
        assert!(server.limit.is_open(), "only {free} of 20 are free");
        server.limit.reserve(server.now);
    }
}

#[test]
fn a_refusal_when_as_many_were_admitted_before_has_another_cause_and_the_cap_stays() {
    let mut server = Server::new(20);
    server.burst(30);
    server.until_refused();
    for _ in 0..20 {
        for _ in 0..20 {
            assert_eq!(server.turn(), None);
        }
        server.limit.done();
        let depth = server.limit.in_flight() + 1;
        assert_eq!(depth, 20);
        assert_eq!(server.limit.refused(depth, false, 0.0), Refuted);
        assert_eq!(server.limit.cap.as_ref().map(|cap| cap.size), Some(20));
        server.limit.reserve(server.now);
    }
}

#[test]
fn tries_become_no_rarer_than_so_much() {
    let mut cap = Cap::new(10);
    for _ in 0..100 {
        cap.filled = 10;
        assert_eq!(cap.refused(11, 10, false, 1.0), Confirmed);
    }
    assert_eq!(cap.patience, 10 * 10 * MAX_PATIENCE);
}

#[test]
fn a_refusal_at_a_shallow_depth_has_another_cause() {
    let mut server = Server::new(10);
    server.burst(20);
    server.working.drain(3..);
    (0..7).for_each(|_| server.limit.done());
    server.places = 0;
    assert_eq!(server.burst(1), [Refuted]);
    assert!(!server.limit.is_limited(), "and the cap was none");
}

#[test]
fn what_was_served_at_a_greater_depth_is_no_cap() {
    let mut server = Server::new(100);
    assert!(server.burst(100).is_empty());
    server.working.drain(..).for_each(|depth| {
        server.limit.served(depth);
        server.limit.done();
    });
    server.places = 20;
    assert_eq!(server.burst(21), [Refuted]);
    assert!(!server.limit.is_limited());
}

#[test]
fn what_was_served_at_a_greater_depth_is_forgotten_refusal_by_refusal() {
    let mut limit = Concurrency::default();
    limit.served(100);
    (0..60).for_each(|_| _ = limit.reserve(Instant::now()));
    assert_eq!(limit.refused(61, true, 0.0), Refuted, "of one burst");
    for _ in 0..20 {
        assert_eq!(limit.refused(61, false, 0.0), Refuted);
    }
    assert_eq!(
        limit.refused(61, false, 0.0),
        Possible,
        "three quarters of 80"
    );
    let mut limit = Concurrency::default();
    limit.served(1);
    assert_eq!(limit.refused(1, false, 0.0), Refuted);
    assert_eq!(limit.refused(1, false, 0.0), Refuted);
}

#[test]
fn one_that_was_alone_or_follows_a_refusal_was_not_one_too_many() {
    for (in_flight, again, said) in [
        (1, false, Refuted),
        (1, true, Refuted),
        (2, true, Refuted),
        (2, false, Possible),
    ] {
        let mut limit = Concurrency::default();
        (0..in_flight).for_each(|_| _ = limit.reserve(Instant::now()));
        limit.done();
        assert_eq!(limit.refused(in_flight, again, 0.0), said);
        assert_eq!(limit.is_limited(), said == Possible, "{in_flight} {again}");
    }
}

#[test]
fn three_quarters_of_what_was_served_are_not_too_many() {
    for (in_flight, deepest, is_shallow) in [
        (0, 0, false),
        (0, 1, true),
        (1, 1, false),
        (74, 100, true),
        (75, 100, false),
        (148, 198, true),
        (149, 198, false),
    ] {
        assert_eq!(super::is_shallow(in_flight, deepest), is_shallow);
    }
}

#[test]
fn one_more_fills_the_cap_when_all_places_but_one_are_taken() {
    let mut server = Server::new(10);
    server.burst(20);
    for in_flight in (0..=10).rev() {
        assert_eq!(server.limit.in_flight(), in_flight);
        assert_eq!(server.limit.is_full(), in_flight >= 9, "{in_flight} of 10");
        server.limit.done();
    }
    assert!(!Concurrency::default().is_full());
}

#[test]
fn what_is_tried_beyond_the_cap_is_seen_as_a_part_of_it() {
    let mut server = Server::new(10);
    assert!(server.limit.snapshot(server.now).is_none());
    server.burst(20);
    server.limit.taught(server.now);
    server.limit.cap.as_mut().unwrap().beyond = 3;
    let seen = server.limit.snapshot(server.now + SECOND).unwrap();
    assert_eq!((seen.limit, seen.remaining), (13, 3));
    assert_eq!(seen.age, Some(SECOND));
}

#[test]
fn nothing_is_left_of_a_cap_that_is_forgotten_but_what_is_in_flight() {
    let mut server = Server::new(10);
    server.burst(20);
    server.limit.served(100);
    server.limit.forget();
    assert!(server.limit.is_open() && !server.limit.is_limited());
    assert_eq!(server.limit.in_flight(), 10);
    assert_eq!(server.burst(1), [Possible], "nothing was served deeper");
}

#[test]
fn a_body_keeps_its_place_until_it_ends_and_work_lasts_as_long_as_it_takes() {
    let (mut limit, tempo, now) = (Concurrency::default(), tempo(), Instant::now());
    assert_eq!(limit.usual_work(&Tempo::default()), None);
    assert_eq!(limit.usual_work(&tempo), tempo.usual_answer());
    limit.reserve(now);
    let [quick, slow] = [0, 1].map(|_| limit.streams(now));
    limit.found();
    assert_eq!(limit.in_flight(), 2);
    for _ in 0..2 {
        limit.ended(quick, Some(SECOND / 10));
        assert_eq!(limit.in_flight(), 1, "it ends once");
    }
    assert_eq!(limit.usual_work(&tempo), tempo.usual_answer());
    limit.ended(slow, Some(8 * SECOND));
    assert!(!limit.is_in_use());
    assert_eq!(limit.usual_work(&tempo), Some(8 * SECOND));
}

#[test]
fn what_is_tried_has_proved_itself_once_a_refusal_would_be_known_or_the_work_be_done() {
    let (trip, work) = (SECOND / 50, SECOND / 2);
    for (is_confirmed, size, trial) in [(false, 12, trip), (true, 11, work)] {
        let (mut cap, now) = (Cap::new(10), Instant::now());
        cap.confirmed = NonZeroU32::new(10).filter(|_| is_confirmed);
        for _ in 0..cap.patience {
            cap.reserve(now, 10);
        }
        assert_eq!(cap.tried_at, None, "the cap is full, but nobody is beyond");
        cap.reserve(now, size);
        let before = now + trial - Duration::from_nanos(1);
        cap.pass(before, trip, work);
        assert_eq!(cap.size, 10);
        cap.pass(now + trial, trip, work);
        assert_eq!(
            (cap.size, cap.beyond, cap.tried_at),
            (size, 2 + size / 12, None)
        );
    }
}

#[test]
fn more_are_tried_when_the_cap_was_full_for_long_enough() {
    let (mut cap, now) = (Cap::new(20), Instant::now());
    for filled in 1..=5 {
        assert_eq!((cap.beyond, cap.patience), (0, 5));
        cap.reserve(now, 19);
        assert_eq!(cap.filled, filled - 1, "it was not full");
        cap.reserve(now, 20);
    }
    assert_eq!((cap.beyond, cap.filled), (5, 5));
    cap.reserve(now, 24);
    assert_eq!(cap.tried_at, None);
    cap.reserve(now, 25);
    assert_eq!(cap.tried_at, Some(now));
    let (mut cap, mut confirmed) = (Cap::new(20), Cap::new(20));
    cap.reserve(now, 23);
    assert_eq!(cap.beyond, 3, "of the first behind a pause, just those");
    confirmed.confirmed = NonZeroU32::new(20);
    (0..5).for_each(|_| confirmed.reserve(now, 20));
    assert_eq!(confirmed.beyond, 1);
}

/// A cap that was found again, and was filled so often since.
fn confirmed(size: u32, filled: u32) -> Cap {
    let mut cap = Cap::new(size);
    (cap.confirmed, cap.filled) = (NonZeroU32::new(size), filled);
    cap
}

#[test]
fn a_confirmed_cap_may_be_lower_by_a_quarter_but_by_no_more() {
    for (size, least) in [(1, 2), (2, 2), (3, 3), (4, 4), (8, 7), (20, 16), (100, 76)] {
        for depth in 1..=size {
            let mut cap = confirmed(size, 0);
            let said = cap.refused(depth, 7, false, 0.0);
            let expected = if depth < least { Refuted } else { Possible };
            assert_eq!(said, expected, "{depth} of {size}");
            assert_eq!(cap.size, if said == Possible { 7 } else { size });
            // One that is not confirmed bears none.
            assert_eq!(Cap::new(size).refused(depth, 7, false, 0.0), Refuted);
        }
    }
    let mut cap = confirmed(20, 0);
    assert_eq!(cap.refused(18, 7, true, 0.0), Possible);
    assert_eq!(
        cap.size, 20,
        "the others of that burst were sent before it shrank"
    );
}

#[test]
fn a_confirmed_cap_that_has_shrunk_by_more_than_a_quarter_is_none() {
    for (size, least) in [(4, 3), (20, 15), (100, 75)] {
        let mut limit = Concurrency::default();
        limit.served(size);
        limit.cap = Some(confirmed(size, 0));
        (1..size).for_each(|_| _ = limit.reserve(Instant::now()));
        for in_flight in (least..size).rev() {
            assert_eq!(limit.refused(in_flight + 1, false, 0.0), Possible);
            assert_eq!(limit.cap.as_ref().map(|cap| cap.size), Some(in_flight));
            limit.done();
        }
        assert_eq!(limit.refused(least, false, 0.0), Refuted);
        assert!(!limit.is_limited());
        assert_eq!(
            limit.refused(least, false, 0.0),
            Possible,
            "it is found anew"
        );
        assert_eq!(limit.cap.as_ref().map(|cap| cap.size), Some(least - 1));
    }
}

#[test]
fn a_cap_that_refuses_what_is_shallower_by_more_than_a_quarter_is_given_up_after_six_times() {
    for (filled, again, depth, said, unexplained) in [
        (5, false, 20, Possible, 0),
        (6, false, 20, Refuted, 0),
        (6, true, 20, Refuted, 0),
        (0, false, 15, Refuted, 1),
        (6, false, 15, Refuted, 1),
        (0, true, 15, Refuted, 0),
    ] {
        let (mut cap, case) = (confirmed(20, filled), (filled, again, depth));
        assert_eq!(cap.refused(depth, 19, again, 0.0), said, "{case:?}");
        assert_eq!((cap.unexplained, cap.filled), (unexplained, 0), "{case:?}");
        let size = if said == Possible { 19 } else { 20 };
        assert_eq!(cap.size, size, "{case:?}");
    }
    let mut cap = confirmed(20, 0);
    for refusals in 1..=MAX_UNEXPLAINED + 1 {
        assert_eq!(cap.refused(15, 14, false, 0.0), Refuted);
        let is_one_too_many = refusals > MAX_UNEXPLAINED;
        assert_eq!(cap.is_refuted(), is_one_too_many, "{refusals}");
    }
    assert!(Cap::new(20).is_refuted());
}

#[test]
fn a_refusal_beyond_a_full_cap_confirms_it_unless_it_has_grown_by_more_than_a_quarter() {
    for (filled, size, said) in [
        (4, 20, Possible),
        (5, 20, Confirmed),
        (6, 25, Confirmed),
        (6, 26, Refuted),
        (0, 26, Refuted),
    ] {
        let mut cap = Cap::new(20);
        (cap.size, cap.filled) = (size, filled);
        assert_eq!(
            cap.refused(size + 1, size, false, 0.0),
            said,
            "{filled} {size}"
        );
        assert_eq!(cap.is_confirmed(), said == Confirmed);
        assert_eq!((cap.refused_at, cap.filled), (size, 0));
    }
}

#[test]
fn a_try_costs_a_tenth_of_what_is_served_between_two() {
    for (pause_ratio, patience) in [
        (0.0, [80, 160, 320]),
        (0.4, [80, 160, 320]),
        (1.0, [200, 400, 800]),
    ] {
        let mut cap = Cap::new(20);
        for patience in patience {
            cap.filled = 5;
            assert_eq!(cap.refused(21, 20, false, pause_ratio), Confirmed);
            assert_eq!(cap.patience, patience, "{pause_ratio}");
        }
    }
}

#[test]
fn requests_that_overtake_each_other_are_as_deep_as_those_in_flight() {
    let mut server = Server::new(10);
    server.burst(20);
    server.limit.cap = Some(confirmed(10, 10));
    server.limit.reserve(server.now);
    server.limit.done();
    assert_eq!(server.limit.refused(3, false, 0.0), Confirmed);
}

#[test]
fn a_cap_that_is_not_sure_yet_is_kept_while_it_may_be_one() {
    let mut server = Server::new(20);
    server.burst(21);
    // The first beyond it, before it was filled again.
    assert_eq!(server.burst(1), [Possible]);
    assert!(server.limit.is_limited());
}

#[test]
fn who_is_no_longer_waited_for_counts_until_the_server_is_done() {
    let mut server = Server::new(2);
    server.burst(3);
    let until = server.now + SECOND;
    (0..2).for_each(|_| server.limit.abandoned(until));
    let tempo = tempo();
    server.limit.pass(until - Duration::from_nanos(1), &tempo);
    assert!(!server.limit.is_open() && server.limit.is_in_use());
    server.limit.pass(until, &tempo);
    assert!(server.limit.is_open() && !server.limit.is_in_use());
}

#[test]
fn no_order_of_events_goes_below_zero() {
    let mut limit = Concurrency::default();
    limit.done();
    limit.give_back();
    assert!(!limit.is_in_use());
    for again in [true, false, true, true, false] {
        limit.refused(0, again, f64::MAX);
        limit.refused(u32::MAX, again, f64::INFINITY);
        limit.abandoned(Instant::now());
        limit.pass(Instant::now(), &Tempo::default());
    }
    assert!(!limit.is_in_use());
    assert!(limit.is_open(), "one at least may always go");
}

#[test]
fn a_refusal_of_one_that_is_not_alone_tells_of_a_rate_where_others_were_not_alone_either() {
    let (tempo, now) = (tempo(), Instant::now());
    let work = tempo.usual_answer().unwrap();
    let often = work * 199 / 100;
    for (served, interval, is_rate) in [
        (0, None, true),
        (0, Some(often), true),
        (0, Some(work * 2), false),
        // The one before may have been done when it came.
        (2, Some(work * 2), false),
        (3, Some(work * 2), true),
    ] {
        let mut limit = Concurrency::default();
        limit.served(served);
        assert!(limit.leaves_rate_to_blame(interval, &tempo), "it is alone");
        limit.reserve(now);
        let case = format!("{served} {interval:?}");
        let leaves = limit.leaves_rate_to_blame(interval, &tempo);
        assert_eq!(leaves, is_rate, "{case}");
    }
}
