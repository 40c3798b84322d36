//! What refusals say of the number in flight.

use super::*;
use Suspicion::{Confirmed, Possible, Refuted};

const SECOND: Duration = Duration::from_secs(1);

/// Answers come after half a second, refusals after 20 ms.
fn tempo() -> Tempo {
    let mut tempo = Tempo::default();
    for _ in 0..100 {
        tempo.served(SECOND / 2);
        tempo.refused(SECOND / 50);
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
fn a_cap_that_was_filled_and_yet_refuses_is_none() {
    let mut server = Server::new(20);
    server.burst(30);
    server.until_refused();
    for refusals in 1.. {
        for _ in 0..20 {
            assert_eq!(server.turn(), None);
        }
        server.limit.done();
        let depth = server.limit.in_flight() + 1;
        let said = server.limit.refused(depth, false, 0.0);
        if said == Refuted {
            break;
        }
        assert_eq!(said, Possible);
        assert!(refusals <= MAX_UNEXPLAINED, "it narrows without end");
        server.places = depth - 1;
        server.working.truncate(server.places as usize);
    }
    assert!(!server.limit.is_limited());
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
