//! The models together: whatever happens in whatever order.

mod given_back;
mod learned;

use super::*;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use std::time::SystemTime;

const NANOSECOND: Duration = Duration::from_nanos(1);

/// What happens to one of those that are admitted or under way, or to all.
#[derive(Clone, Copy, Debug)]
enum Event {
    Reserve { tokens: u64, waited: bool },
    GiveBack,
    Abandon,
    Serve { announced: [u64; 3], form: u8 },
    End { took: Option<u64> },
    Refuse { pause: u64, wait: Option<u64> },
    Pass,
}

fn event() -> impl Strategy<Value = Event> {
    let reserve = (any::<u64>(), 0..65_u32, any::<bool>());
    let reserve = reserve.prop_map(|(tokens, bits, waited)| Event::Reserve {
        tokens: tokens.checked_shr(bits).unwrap_or(0),
        waited,
    });
    let refuse = (nanoseconds(), proptest::option::of(nanoseconds()));
    prop_oneof![
        6 => reserve,
        1 => Just(Event::GiveBack),
        1 => Just(Event::Abandon),
        3 => (any::<[u64; 3]>(), 0..64_u32, any::<u8>()).prop_map(|(numbers, bits, form)| {
            Event::Serve { announced: numbers.map(|number| number >> bits), form }
        }),
        2 => proptest::option::of(nanoseconds()).prop_map(|took| Event::End { took }),
        2 => refuse.prop_map(|(pause, wait)| Event::Refuse { pause, wait }),
        2 => Just(Event::Pass),
    ]
}

/// Limit, remaining and reset of requests or of tokens, or nothing.
fn announcement([limit, remaining, reset]: [u64; 3], form: u8) -> Vec<RateLimit> {
    let dimension = ["requests", "tokens"][usize::from(form / 4 % 2)];
    let reset = match form % 4 {
        0 => return Vec::new(),
        1 => format!("{reset}s"),
        2 => format!("{reset}ms"),
        _ => reset.to_string(),
    };
    let mut headers = HeaderMap::new();
    for (field, value) in [
        ("limit", limit.to_string()),
        ("remaining", remaining.to_string()),
        ("reset", reset),
    ] {
        let name = HeaderName::try_from(format!("x-ratelimit-{field}-{dimension}")).unwrap();
        headers.insert(name, HeaderValue::try_from(value).unwrap());
    }
    let signal = crate::signal::read(StatusCode::OK, &headers, None, SystemTime::UNIX_EPOCH);
    signal.limits().to_vec()
}

/// Of all orders of magnitude, from nothing to the longest that is looked ahead.
fn nanoseconds() -> impl Strategy<Value = u64> {
    (any::<u64>(), 1..64_u32)
        .prop_map(|(random, bits)| (random >> bits).min(CEILING.as_nanos() as u64))
}

#[derive(Debug, Default)]
struct World {
    model: Model,
    admitted: Vec<Reserved>,
    under_way: Vec<Sent>,
    /// Of those that were served, the ones whose bodies are on their way.
    bodies: Vec<u64>,
    /// The end of the longest pause.
    closed_until: Option<Instant>,
}

impl World {
    fn happen(&mut self, now: Instant, who: usize, event: Event) {
        match event {
            Event::Reserve { tokens, waited } => {
                let cost = Cost::of_request(tokens);
                self.admitted.push(self.model.reserve(now, cost, waited));
                // Every other one is sent at once.
                if who % 2 == 0 {
                    let reserved = self.admitted.pop();
                    let sent = reserved.map(|reserved| self.model.sent(reserved, now));
                    self.under_way.extend(sent);
                }
            }
            Event::GiveBack => {
                if let Some(reserved) = pick(&mut self.admitted, who) {
                    self.model.give_back(reserved);
                }
            }
            Event::Abandon => {
                if let Some(sent) = pick(&mut self.under_way, who) {
                    self.model.abandoned(sent);
                }
            }
            Event::Serve { announced, form } => {
                if let Some(sent) = pick(&mut self.under_way, who) {
                    let limits = announcement(announced, form);
                    self.model.announced(now, sent, form % 8 == 0, &limits);
                    match form % 3 {
                        0 => self.model.served(now, sent),
                        _ => self.bodies.push(self.model.streams(now, sent)),
                    }
                }
            }
            Event::End { took } => {
                if let Some(number) = pick(&mut self.bodies, who) {
                    self.model.ended(number, took.map(Duration::from_nanos));
                }
            }
            Event::Refuse { pause, wait } => {
                if let Some(sent) = pick(&mut self.under_way, who) {
                    self.refuse(now, sent, pause, wait);
                }
            }
            Event::Pass => {}
        }
    }

    fn refuse(&mut self, now: Instant, sent: Sent, pause: u64, wait: Option<u64>) {
        let until = now + Duration::from_nanos(pause);
        self.model.announced(now, sent, false, &[]);
        self.model.reading(now, sent, until);
        assert_eq!(
            self.model.paused_until(now),
            self.paused_until(now)
                .max(Some(until).filter(|&at| at > now))
        );
        self.model.understood(until);
        let wait = wait.map(Duration::from_nanos);
        let before = self.model.paused_until(now);
        self.model.refused(now, sent, Refused { until, wait });
        let after = self.model.paused_until(now);
        assert!(after >= before, "a refusal ended a pause");
        self.closed_until = self.closed_until.max(after);
    }

    fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|&until| until > now)
    }

    /// Nobody goes inside a pause, nor before the instant that was named; and everybody some time.
    fn assert_opens(&mut self, mut now: Instant, tokens: u64) {
        let cost = Cost::of_request(tokens);
        for _ in 0..10_000 {
            self.model.pass(now, 0);
            let Admit::At(at, hold) = self.model.admit(now, cost) else {
                assert_eq!(self.paused_until(now), None, "admitted inside a pause");
                return;
            };
            assert!(at > now, "{hold:?} holds back until the past");
            assert!(
                self.paused_until(now) <= Some(at),
                "{hold:?} opens inside a pause"
            );
            // Room for one more may come at any time, and so may the end of the one in flight that a probe
            // waits for.
            let is_probe = hold == Hold::Rate && self.model.rate.is_probing();
            let waits_for_another = is_probe && self.model.concurrency.is_in_use();
            if hold != Hold::Concurrency && !waits_for_another {
                let before = at.checked_sub(NANOSECOND).unwrap();
                self.model.pass(before, 0);
                assert_ne!(
                    self.model.admit(before, cost),
                    Admit::Now,
                    "{hold:?} opens too early"
                );
            }
            now = at;
        }
        panic!("never opens: {:?}", self.model);
    }
}

fn pick<T>(from: &mut Vec<T>, who: usize) -> Option<T> {
    let place = who.checked_rem(from.len())?;
    Some(from.swap_remove(place))
}

proptest! {
    #[test]
    fn nothing_panics_opens_too_early_or_stays_in_flight(
        events in prop::collection::vec((nanoseconds(), any::<usize>(), event()), 1..200),
        scale in 0..40_u32,
    ) {
        let mut now = Instant::now();
        let mut world = World::default();
        for (pass, who, event) in events {
            now += Duration::from_nanos(pass >> scale);
            world.model.pass(now, 0);
            world.happen(now, who, event);
            world.model.admit(now, Cost::of_request(who as u64 >> (who % 65).min(63)));
            world.model.estimated(now, Cost { requests: u64::MAX, tokens: u64::MAX }, Cost::of_request(u64::MAX));
        }
        for reserved in std::mem::take(&mut world.admitted) {
            world.model.give_back(reserved);
        }
        for sent in std::mem::take(&mut world.under_way) {
            world.model.abandoned(sent);
        }
        prop_assert!(world.model.is_idle());
        world.assert_opens(now, 1);
        // Nobody works any longer on what nobody waits for, or reads.
        world.model.pass(now + CEILING + CEILING, 0);
        prop_assert!(!world.model.concurrency.is_in_use(), "{:?}", world.model);
    }
}

#[test]
fn what_was_admitted_and_not_sent_proves_nothing() {
    let now = Instant::now();
    let cost = Cost::of_request(0);
    let mut model = Model::default();
    let reserved = model.reserve(now, cost, false);
    let sent = model.sent(reserved, now);
    let until = now + Duration::from_secs(1);
    model.reading(now, sent, until);
    model.understood(until);
    let wait = Some(Duration::from_secs(1));
    model.refused(now, sent, Refused { until, wait });
    model.pass(until, 0);
    assert_eq!(model.admit(until, cost), Admit::Now);
    let unused = model.reserve(until, cost, true);
    let later = until + Duration::from_millis(99);
    model.pass(later, 0);
    assert_eq!(model.opening.proved(), 0, "nobody has asked the server yet");
    assert_ne!(model.admit(later, cost), Admit::Now);
    model.give_back(unused);
    assert_eq!(
        model.admit(later, cost),
        Admit::Now,
        "somebody else may ask"
    );
}

#[test]
fn a_row_of_refusals_is_over_once_one_behind_the_pause_is_not_refused() {
    let now = Instant::now();
    let cost = Cost::of_request(0);
    let mut model = Model::default();
    let mut until = now;
    for refusals in 1..=2 {
        model.pass(until, 0);
        let reserved = model.reserve(until, cost, true);
        let sent = model.sent(reserved, until);
        let begins_at = until;
        until += Duration::from_secs(1);
        model.reading(begins_at, sent, until);
        model.understood(until);
        model.refused(begins_at, sent, Refused { until, wait: None });
        assert_eq!(model.refusals(), refusals);
    }
    model.pass(until, 0);
    let reserved = model.reserve(until, cost, true);
    model.sent(reserved, until);
    let refusal_time = model.tempo.refusal_time();
    model.pass(until + refusal_time.checked_sub(NANOSECOND).unwrap(), 0);
    assert_eq!(model.refusals(), 2, "it may be refused yet");
    model.pass(until + refusal_time, 0);
    assert_eq!(model.refusals(), 0, "its answer may take minutes");
}

#[test]
fn a_row_of_refusals_goes_on_while_answers_are_faster_than_refusals() {
    let mut now = Instant::now();
    let cost = Cost::of_request(0);
    let mut model = Model::default();
    for _ in 0..20 {
        model.pass(now, 0);
        let reserved = model.reserve(now, cost, false);
        let sent = model.sent(reserved, now);
        now += Duration::from_millis(20);
        model.served(now, sent);
    }
    for refusals in 1..20 {
        model.pass(now, 0);
        let reserved = model.reserve(now, cost, true);
        let sent = model.sent(reserved, now);
        now += Duration::from_millis(50);
        model.pass(now, 0);
        let until = now + Duration::from_secs(1);
        model.reading(now, sent, until);
        model.understood(until);
        model.refused(now, sent, Refused { until, wait: None });
        assert_eq!(model.refusals(), refusals);
        now = until;
    }
}

#[test]
fn room_is_not_looked_for_more_often_than_refusals_take() {
    let mut now = Instant::now();
    let mut world = World::default();
    let reserve = Event::Reserve {
        tokens: 0,
        waited: false,
    };
    let [refuse, end] = [
        Event::Refuse {
            pause: 0,
            wait: None,
        },
        Event::End { took: Some(1_000) },
    ];
    let serve = |form| Event::Serve {
        announced: [0; 3],
        form,
    };
    for event in [reserve, reserve, refuse, reserve, reserve, refuse] {
        world.model.pass(now, 0);
        world.happen(now, 0, event);
    }
    now += Duration::from_secs(3_600);
    for event in [reserve, serve(4), end, reserve, serve(4)] {
        world.model.pass(now, 0);
        world.happen(now, 0, event);
    }
    let Admit::At(at, hold) = world.model.admit(now, Cost::of_request(0)) else {
        unreachable!("there is a cap: {:?}", world.model);
    };
    assert_eq!(hold, Hold::Concurrency);
    assert_eq!(at - now, world.model.tempo.refusal_time());
}
