//! What a partition's lock protects, and each step that a call takes under it.

use super::{
    claim::{Claim, GivenUp},
    queue::{GRACE, Queue},
};
use crate::{
    quota::{Admit, Cost, Quota, after},
    report::StopReason,
};
use std::task::Waker;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) quota: Quota,
    pub(super) queue: Queue,
    pub(super) rng: fastrand::Rng,
    last_number: u64,
}

/// What becomes of a call that arrives.
pub(super) enum Arrival {
    /// It is sent at once.
    Sent,
    /// It waits for its turn.
    InLine,
    /// It is not let in.
    TurnedAway(GivenUp),
}

/// What a call that waits finds when it looks.
pub(super) enum Look {
    /// Its cost is reserved.
    Admitted,
    /// It cannot be sent in the time it has, and is out of the queue.
    GivenUp(GivenUp),
    /// It is to look again at this instant, if it is not woken before.
    Again(Instant),
}

impl State {
    /// The number of the next call to arrive.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A new call, on its way at once if the partition is open and nobody older waits.
    pub(super) fn arrive(
        &mut self,
        claim: &Claim,
        now: Instant,
        woken: &mut Vec<Waker>,
    ) -> Arrival {
        self.advance(now, woken);
        if self.admits(claim, now) {
            self.quota.reserve(now, claim.cost);
            return Arrival::Sent;
        }
        // One with a head start passes some of those who wait; how many is not worth counting.
        let last = self.queue.is_last(claim.ticket);
        let ahead = if last {
            self.queue.waiting_cost()
        } else {
            Cost::NONE
        };
        if let Some(given_up) = claim.give_up(&self.quota, now, ahead) {
            return Arrival::TurnedAway(given_up);
        }
        if self.queue.len() >= claim.bounds.max_waiting {
            let expected = self.quota.expected(now, ahead, claim.cost);
            let given_up = GivenUp::held(StopReason::MaxWaiting, expected, now);
            return Arrival::TurnedAway(given_up);
        }
        self.queue.insert(claim.ticket, claim.waiter(None));
        Arrival::InLine
    }

    /// A call that waits is polled.
    pub(super) fn look(
        &mut self,
        claim: &Claim,
        not_before: Option<Instant>,
        now: Instant,
        waker: &Waker,
        woken: &mut Vec<Waker>,
    ) -> Look {
        let ticket = claim.ticket;
        self.queue.polled(ticket);
        let mut stands_in = self.advance(now, woken);
        if !self.queue.is_admitted(ticket) {
            if let Some(given_up) = claim.give_up(&self.quota, now, Cost::NONE) {
                self.queue.remove(ticket);
                self.advance(now, woken);
                return Look::GivenUp(given_up);
            }
            if !self.queue.contains(ticket) {
                self.queue.insert(ticket, claim.waiter(not_before));
                stands_in |= self.advance(now, woken);
            }
        }
        if self.queue.is_admitted(ticket) {
            return Look::Admitted;
        }
        self.queue.wake_on_turn(ticket, waker);
        Look::Again(self.look_again(claim, now, stands_in))
    }

    /// The service of a call is ready: whether it may be sent now, and then it counts as sent. Else
    /// it is back in line.
    pub(super) fn confirm(&mut self, claim: &Claim, now: Instant, woken: &mut Vec<Waker>) -> bool {
        self.advance(now, woken);
        let admitted = self.queue.take_admission(claim.ticket).is_some();
        let confirmed = if admitted {
            self.quota.paused_until(now).is_none()
        } else {
            self.admits(claim, now)
        };
        match (admitted, confirmed) {
            (true, true) | (false, false) => {}
            (true, false) => self.quota.give_back(claim.cost),
            (false, true) => self.quota.reserve(now, claim.cost),
        }
        if !confirmed {
            self.queue.insert(claim.ticket, claim.waiter(None));
        }
        self.advance(now, woken);
        confirmed
    }

    /// A call that waits or is admitted goes away.
    pub(super) fn leave(&mut self, claim: &Claim) {
        self.queue.remove(claim.ticket);
        if let Some(cost) = self.queue.take_admission(claim.ticket) {
            self.quota.give_back(cost);
        }
    }

    /// Lets all go that may; whether somebody's turn had lapsed.
    pub(super) fn advance(&mut self, now: Instant, woken: &mut Vec<Waker>) -> bool {
        self.queue.advance(&mut self.quota, now, woken)
    }

    /// Whether the partition is open for a call, and nobody older is before it.
    fn admits(&self, claim: &Claim, now: Instant) -> bool {
        self.queue.is_first(claim.ticket) && self.quota.admit(now, claim.cost) == Admit::Now
    }

    /// When a call that waits looks again: exactly at its turn if it is the front, or stands in for
    /// one that is not being polled; else behind the time at which its turn is expected.
    fn look_again(&mut self, claim: &Claim, now: Instant, stands_in: bool) -> Instant {
        let is_front = self.queue.set_timer(claim.ticket);
        let turn = self.queue.next_turn().filter(|_| is_front || stands_in);
        let look_again = turn.unwrap_or_else(|| {
            let ahead = self.queue.ahead_of(claim.ticket);
            let expected = self.quota.expected(now, ahead, claim.cost);
            after(expected.opens_at(now), GRACE)
        });
        let deadline = claim.bounds.deadline;
        deadline.map_or(look_again, |deadline| deadline.min(look_again))
    }
}
