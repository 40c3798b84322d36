//! The models together: whatever happens in whatever order.

mod given_back;

use super::*;
use proptest::prelude::*;

const NANOSECOND: Duration = Duration::from_nanos(1);

/// What happens to one of those that are admitted or under way, or to all.
#[derive(Clone, Copy, Debug)]
enum Event {
    Reserve { tokens: u64, waited: bool },
    GiveBack,
    Abandon,
    Serve,
    Refuse { pause: u64, wait: Option<u64> },
    Pass,
}

fn event() -> impl Strategy<Value = Event> {
    let reserve = || (any::<u64>(), any::<bool>());
    let reserve = reserve().prop_map(|(tokens, waited)| Event::Reserve { tokens, waited });
    let refuse = (nanoseconds(), proptest::option::of(nanoseconds()));
    prop_oneof![
        6 => reserve,
        1 => Just(Event::GiveBack),
        1 => Just(Event::Abandon),
        3 => Just(Event::Serve),
        2 => refuse.prop_map(|(pause, wait)| Event::Refuse { pause, wait }),
        2 => Just(Event::Pass),
    ]
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
            Event::Serve => {
                if let Some(sent) = pick(&mut self.under_way, who) {
                    self.model.announced(now, sent, false, &[]);
                    self.model.served(now, sent);
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
            // Room for one more may come at any time.
            if hold != Hold::Concurrency {
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
            world.model.admit(now, Cost::of_request(who as u64));
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
        // Nobody works any longer on what nobody waits for.
        world.model.pass(now + CEILING + CEILING, 0);
        prop_assert!(!world.model.concurrency.is_in_use(), "{:?}", world.model);
    }
}
