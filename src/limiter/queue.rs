//! Who waits, and in what order: plain data behind a partition's lock.
//!
//! Nobody here is a driver. Whoever is polled lets [`Queue::advance`] admit from the front all that
//! the quota allows at that instant, and wakes them and the new front. What keeps this alive when
//! callers are held and not polled:
//!
//! - each waiter owns a timer: the front's is exact, and of the others a few are set behind each
//!   opening, so that they see if something ahead of them failed, be it many in a row;
//! - an admission that is not used within [`GRACE`] lapses: its cost goes back to the quota;
//! - so does the turn of a front that let [`GRACE`] pass since the quota opened.
//!
//! A caller whose turn has lapsed is out of the queue, and asks anew by its old number when it is
//! polled.
//!
//! A caller that the server told to wait for its own sake alone rests beside the line until then,
//! and steps in front of those who came after it.

use super::{admissions::Admissions, claim::Claim};
use crate::quota::{Admit, Cost, Model, after};
use std::{
    collections::{BTreeMap, BTreeSet},
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// How long a turn may stay unused: far longer than a task takes to be polled, far shorter than a
/// wait.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// Of so many in front the places are known exactly.
const FEW: usize = 4;

/// The order of arrival: when the call came (less its head start), in nanoseconds since the
/// partition was first seen, and its number.
pub(super) type Ticket = (i64, u64);

/// One that waits. There may be very many, so whatever its call knows anyway stays with that.
#[derive(Debug)]
pub(super) struct Waiter {
    tokens: u64,
    waker: Option<Waker>,
}

impl Waiter {
    /// Not polled yet.
    pub(super) fn new(tokens: u64) -> Self {
        Self {
            tokens,
            waker: None,
        }
    }

    fn cost(&self) -> Cost {
        Cost::of_request(self.tokens)
    }
}

/// Wakers that are to be woken, or dropped, without the lock: both may run code that comes back
/// here.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    wake: Vec<Waker>,
    drop: Vec<Waker>,
}

impl Wakers {
    #[inline]
    pub(super) fn wake_all(self) {
        if !self.wake.is_empty() {
            self.wake.into_iter().for_each(Waker::wake);
        }
    }
}

/// The front of the queue, and when it is expected to act.
#[derive(Debug)]
struct Front {
    ticket: Ticket,
    opens_at: Instant,
    /// What its timer is set to; `None` while it is still to set it.
    timer: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Ticket, Waiter>,
    /// What all who wait will cost.
    waiting_cost: Cost,
    /// Those whom the server told to wait for their own sake, and until when.
    resting: BTreeMap<(Instant, Ticket), Waiter>,
    /// Whom to tell when the quota opens too late for them. Who is admitted is here until it knows.
    deadlines: BTreeSet<(Instant, Ticket)>,
    /// How long those in line wait at the most who are to be told of longer waits. As these are the
    /// layer's, they are few, whoever waits.
    max_delays: BTreeSet<Duration>,
    pub(super) admissions: Admissions,
    front: Option<Front>,
    /// Who looks in place of the front.
    stand_in: Option<Ticket>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.resting.len()
    }

    /// Whether nobody waits or holds an admission, by all accounts.
    #[cfg(test)]
    pub(super) fn is_deserted(&self) -> bool {
        let indices = self.deadlines.is_empty() && self.max_delays.is_empty();
        let waiting = self.waiting.is_empty() && self.waiting_cost == Cost::NONE;
        indices && waiting && self.resting.is_empty() && self.admissions.is_empty()
    }

    /// What the first in line will cost.
    pub(super) fn first_cost(&self) -> Option<Cost> {
        self.waiting.values().next().map(Waiter::cost)
    }

    /// What all who wait will cost.
    pub(super) fn waiting_cost(&self) -> Cost {
        self.waiting_cost
    }

    /// Whether nobody older waits or holds an unused admission.
    #[inline]
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        let oldest = |first: Option<Ticket>| first.is_none_or(|first| ticket <= first);
        oldest(self.waiting.keys().next().copied()) && oldest(self.admissions.first())
    }

    /// Whether nobody younger waits.
    pub(super) fn is_last(&self, ticket: Ticket) -> bool {
        let last = self.waiting.last_key_value();
        last.is_none_or(|(&last, _)| last <= ticket)
    }

    /// About what those will cost who are ahead of this one.
    pub(super) fn ahead_of(&self, ticket: Ticket) -> Cost {
        self.cost_of(self.place_of(ticket))
    }

    /// About how many are ahead of this one: beyond the first few no rank is kept, but numbers are
    /// given in order, but for head starts.
    pub(super) fn place_of(&self, ticket: Ticket) -> u64 {
        let mut first_few = self.waiting.keys().take(FEW);
        if let Some(place) = first_few.position(|&other| other == ticket) {
            return place as u64;
        }
        let waiting = self.waiting.len() as u64;
        let first = self.waiting.keys().next().map_or(ticket.1, |first| first.1);
        let between = ticket.1.checked_sub(first);
        between.map_or(waiting, |between| between.min(waiting))
    }

    /// About what so many of those who wait will cost.
    pub(super) fn cost_of(&self, requests: u64) -> Cost {
        let waiting = self.waiting.len() as u64;
        let tokens = u128::from(self.waiting_cost.tokens) * u128::from(requests);
        let tokens = tokens / u128::from(waiting.max(1));
        let tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        Cost { requests, tokens }
    }

    /// Into the line.
    pub(super) fn insert(&mut self, ticket: Ticket, waiter: Waiter) {
        self.waiting_cost = self.waiting_cost.plus(waiter.cost());
        self.waiting.insert(ticket, waiter);
    }

    /// One in line costs something else than was thought.
    pub(super) fn revalue(&mut self, ticket: Ticket, tokens: u64) {
        if let Some(waiter) = self.waiting.get_mut(&ticket) {
            let without = self.waiting_cost.minus(waiter.cost());
            waiter.tokens = tokens;
            self.waiting_cost = without.plus(waiter.cost());
        }
    }

    /// Beside the line until then.
    pub(super) fn rest(&mut self, until: Instant, ticket: Ticket, waiter: Waiter) {
        self.resting.insert((until, ticket), waiter);
    }

    /// Whether the call rests until then, or is in line.
    pub(super) fn contains(&self, ticket: Ticket, resting: Option<Instant>) -> bool {
        let rests = resting.is_some_and(|until| self.resting.contains_key(&(until, ticket)));
        rests || self.waiting.contains_key(&ticket)
    }

    /// Out of the line, or from beside it.
    pub(super) fn remove(&mut self, ticket: Ticket, resting: Option<Instant>, wakers: &mut Wakers) {
        let rested = resting.and_then(|until| self.resting.remove(&(until, ticket)));
        let waiter = self.take(ticket).or(rested);
        wakers.drop.extend(waiter.and_then(|waiter| waiter.waker));
        self.wake_second(wakers);
    }

    /// The caller with this ticket is being polled: it is alive, and need not be woken for what
    /// follows.
    pub(super) fn polled(&mut self, ticket: Ticket, wakers: &mut Wakers) {
        self.front.take_if(|front| front.ticket == ticket);
        let waiter = self.waiting.get_mut(&ticket);
        wakers
            .drop
            .extend(waiter.and_then(|waiter| waiter.waker.take()));
    }

    /// Remembers whom to wake when the turn of this call comes, or can no longer come.
    pub(super) fn wake_on_turn(
        &mut self,
        claim: &Claim,
        resting: Option<Instant>,
        waker: Waker,
        wakers: &mut Wakers,
    ) {
        let ticket = claim.ticket;
        let rests = resting.and_then(|until| self.resting.get_mut(&(until, ticket)));
        let displaced = if let Some(waiter) = rests {
            // Its own timer goes off when its rest is over; until then it is not in line.
            waiter.waker.replace(waker)
        } else if let Some(waiter) = self.waiting.get_mut(&ticket) {
            self.max_delays.insert(claim.bounds.max_delay);
            let deadline = claim.bounds.deadline;
            self.deadlines
                .extend(deadline.map(|deadline| (deadline, ticket)));
            waiter.waker.replace(waker)
        } else {
            Some(waker)
        };
        wakers.drop.extend(displaced);
    }

    /// This call need not be told any longer when the quota opens too late for it.
    pub(super) fn forget_deadline(&mut self, claim: &Claim) {
        if let Some(deadline) = claim.bounds.deadline {
            self.deadlines.remove(&(deadline, claim.ticket));
        }
    }

    /// Lets all go that may go at this instant. Returns whether a turn had lapsed: then somebody
    /// ahead is not being polled.
    #[inline]
    pub(super) fn advance(&mut self, quota: &mut Model, now: Instant, wakers: &mut Wakers) -> bool {
        self.rise(now);
        quota.pass(now, self.waiting.len() as u64);
        let mut lapsed = self.admissions.lapse(quota, now);
        while let Some((&ticket, waiter)) = self.waiting.first_key_value() {
            if let Admit::At(opens_at, _) = quota.admit(now, waiter.cost()) {
                self.expect(ticket, opens_at, wakers);
                break;
            }
            let front = self.front.as_ref().filter(|front| front.ticket == ticket);
            let overdue = front.is_some_and(|front| after(front.opens_at, GRACE) <= now);
            let Some(waiter) = self.take(ticket) else {
                break;
            };
            if overdue {
                lapsed = true;
            } else {
                let reserved = quota.reserve(now, waiter.cost(), true);
                self.admissions.grant(ticket, reserved, now);
            }
            wakers.wake.extend(waiter.waker);
        }
        lapsed
    }

    /// When the quota is expected to open for the front, if somebody waits that it does not admit.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.front.as_ref().map(|front| front.opens_at)
    }

    /// When the front should look again: the quota opens for it, an admission ahead of it lapses,
    /// or somebody steps in front of it.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let lapses = self.admissions.next_lapse();
        let rises = self.resting.keys().next().map(|&(until, _)| until);
        lapses.into_iter().chain(rises).chain(self.opens_at()).min()
    }

    /// Whether this call is to look at [`Queue::next_turn`]: it is the front, whose timer is now set to
    /// that; or stands in for one that is not being polled, as it does until a front is.
    pub(super) fn is_on_watch(&mut self, ticket: Ticket, stands_in: bool) -> bool {
        let next = self.next_turn();
        if let Some(front) = self.front.as_mut().filter(|front| front.ticket == ticket) {
            front.timer = next;
            self.stand_in = None;
            return true;
        }
        if stands_in {
            self.stand_in = Some(ticket);
        }
        self.stand_in == Some(ticket)
    }

    /// Wakes those in line for whom `opens_at` is too late. Each is told once, until it is polled.
    ///
    /// If it is later than the layer lets anybody wait, or one of several layers does, all look for
    /// themselves.
    pub(super) fn wake_hopeless(&mut self, now: Instant, opens_at: Instant, wakers: &mut Wakers) {
        let delay = opens_at.saturating_duration_since(now);
        while let Some(&(deadline, ticket)) = self.deadlines.first().filter(|d| d.0 <= opens_at) {
            self.deadlines.remove(&(deadline, ticket));
            self.wake(ticket, wakers);
        }
        if self.max_delays.first().is_some_and(|&max| max < delay) {
            self.max_delays.retain(|&max| max >= delay);
            let waiting = self.waiting.values_mut();
            wakers
                .wake
                .extend(waiting.filter_map(|waiter| waiter.waker.take()));
        }
    }

    fn wake(&mut self, ticket: Ticket, wakers: &mut Wakers) {
        let waiter = self.waiting.get_mut(&ticket);
        wakers
            .wake
            .extend(waiter.and_then(|waiter| waiter.waker.take()));
    }

    /// The opening has come nearer than those behind the front have reckoned with: the one who would
    /// stand in for the front looks again.
    fn wake_second(&mut self, wakers: &mut Wakers) {
        let second = self.waiting.values_mut().nth(1);
        wakers
            .wake
            .extend(second.and_then(|second| second.waker.take()));
    }

    /// Those who have rested long enough step into the line.
    fn rise(&mut self, now: Instant) {
        while let Some(rested) = self
            .resting
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let (_, ticket) = *rested.key();
            let waiter = rested.remove();
            self.insert(ticket, waiter);
        }
    }

    /// Out of the line.
    fn take(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiting.remove(&ticket)?;
        self.waiting_cost = self.waiting_cost.minus(waiter.cost());
        if self.waiting.is_empty() {
            self.max_delays.clear();
        }
        self.front.take_if(|front| front.ticket == ticket);
        Some(waiter)
    }

    /// `ticket` is in front and may go at `opens_at`: wakes it, unless its timer goes off soon
    /// enough.
    fn expect(&mut self, ticket: Ticket, opens_at: Instant, wakers: &mut Wakers) {
        let front = self.front.take().filter(|front| front.ticket == ticket);
        if front
            .as_ref()
            .is_some_and(|front| after(opens_at, GRACE) < front.opens_at)
        {
            self.wake_second(wakers);
        }
        let timer = front.and_then(|front| front.timer);
        self.front = Some(Front {
            ticket,
            opens_at,
            timer,
        });
        if timer.is_none() || timer > self.next_turn() {
            self.wake(ticket, wakers);
        }
    }
}
