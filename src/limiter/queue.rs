//! Who waits, and in what order: plain data behind a partition's lock.
//!
//! Nobody here is a driver. Whoever is polled lets [`Queue::advance`] admit from the front all that
//! the quota allows at that instant, and wakes them and the new front. What keeps this alive when
//! callers are held and not polled:
//!
//! - each waiter owns a timer: the front's is exact, every other one's is set behind the time at
//!   which its turn is expected, and so goes off only if something ahead of it failed;
//! - an admission that is not used within [`GRACE`] lapses: its cost goes back to the quota;
//! - so does the turn of a front that let [`GRACE`] pass since the quota opened.
//!
//! A caller whose turn has lapsed is out of the queue, and asks anew by its old number when it is
//! polled.

use crate::quota::{Admit, Cost, Quota};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// How long a turn may stay unused: far longer than a task takes to be polled, far shorter than a
/// wait.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// The order of arrival: when the call came (less its head start), and its number.
pub(crate) type Ticket = (Instant, u64);

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) cost: Cost,
    /// What the server told this very call, where it told nobody else.
    pub(super) not_before: Option<Instant>,
    /// After this its call can no longer be sent.
    pub(super) deadline: Option<Instant>,
    pub(super) waker: Option<Waker>,
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
    deadlines: BTreeSet<(Instant, Ticket)>,
    /// Admissions that are not used yet, each with the instant at which it lapses; and these
    /// instants in order.
    admitted: BTreeMap<Ticket, (Instant, Cost)>,
    lapses: VecDeque<(Instant, Ticket)>,
    front: Option<Front>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits or holds an admission, by all accounts.
    #[cfg(test)]
    pub(super) fn is_deserted(&self) -> bool {
        let indices_agree = self.deadlines.is_empty() && self.waiting_cost == Cost::NONE;
        self.waiting.is_empty() && self.admitted.is_empty() && indices_agree
    }

    /// What all who wait will cost.
    pub(super) fn waiting_cost(&self) -> Cost {
        self.waiting_cost
    }

    pub(super) fn contains(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Whether nobody older waits or holds an unused admission.
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        let oldest = |first: Option<&Ticket>| first.is_none_or(|&first| ticket <= first);
        oldest(self.waiting.keys().next()) && oldest(self.admitted.keys().next())
    }

    /// Whether nobody younger waits.
    pub(super) fn is_last(&self, ticket: Ticket) -> bool {
        self.waiting
            .last_key_value()
            .is_none_or(|(&last, _)| last < ticket)
    }

    /// About what those will cost who are ahead of this one: no rank is kept, but numbers are given
    /// in order.
    pub(super) fn ahead_of(&self, ticket: Ticket) -> Cost {
        let waiting = self.waiting.len() as u64;
        let first = self.waiting.keys().next().map_or(ticket.1, |first| first.1);
        let requests = ticket.1.saturating_sub(first).min(waiting);
        let tokens = u128::from(self.waiting_cost.tokens) * u128::from(requests)
            / u128::from(waiting.max(1));
        Cost {
            requests,
            tokens: u64::try_from(tokens).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn insert(&mut self, ticket: Ticket, waiter: Waiter) {
        self.waiting_cost = self.waiting_cost.plus(waiter.cost);
        self.deadlines
            .extend(waiter.deadline.map(|deadline| (deadline, ticket)));
        self.waiting.insert(ticket, waiter);
    }

    /// Out of the line, admitted or given up.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiting.remove(&ticket)?;
        self.waiting_cost = self.waiting_cost.minus(waiter.cost);
        waiter
            .deadline
            .map(|deadline| self.deadlines.remove(&(deadline, ticket)));
        self.front.take_if(|front| front.ticket == ticket);
        Some(waiter)
    }

    /// Takes an admission, if it is still there.
    pub(super) fn take_admission(&mut self, ticket: Ticket) -> Option<Cost> {
        self.admitted.remove(&ticket).map(|(_, cost)| cost)
    }

    pub(super) fn is_admitted(&self, ticket: Ticket) -> bool {
        self.admitted.contains_key(&ticket)
    }

    /// The caller with this ticket is being polled: it is alive, and need not be woken for what
    /// follows.
    pub(super) fn polled(&mut self, ticket: Ticket) {
        self.front.take_if(|front| front.ticket == ticket);
        if let Some(waiter) = self.waiting.get_mut(&ticket) {
            waiter.waker = None;
        }
    }

    /// Remembers whom to wake when the turn of `ticket` comes.
    pub(super) fn wake_on_turn(&mut self, ticket: Ticket, waker: &Waker) {
        if let Some(waiter) = self.waiting.get_mut(&ticket) {
            waiter.waker = Some(waker.clone());
        }
    }

    /// Lets all go that may go at this instant. Whoever is to be woken is put into `woken`, for the
    /// caller to wake without the lock. Returns whether a turn had lapsed: then somebody ahead is
    /// not being polled.
    pub(super) fn advance(
        &mut self,
        quota: &mut Quota,
        now: Instant,
        woken: &mut Vec<Waker>,
    ) -> bool {
        let mut lapsed = self.lapse(quota, now);
        while let Some((&ticket, waiter)) = self.waiting.first_key_value() {
            if let Some(opens_at) = opens_at(quota, waiter, now) {
                self.expect(ticket, opens_at, woken);
                break;
            }
            let due = self
                .front
                .as_ref()
                .filter(|front| front.ticket == ticket)
                .map(|front| front.opens_at);
            let Some(waiter) = self.remove(ticket) else {
                break;
            };
            if due.is_some_and(|due| now.saturating_duration_since(due) >= GRACE) {
                lapsed = true;
            } else {
                let lapses_at = now + GRACE;
                quota.reserve(now, waiter.cost);
                self.admitted.insert(ticket, (lapses_at, waiter.cost));
                self.lapses.push_back((lapses_at, ticket));
            }
            woken.extend(waiter.waker);
        }
        lapsed
    }

    /// When the front should look again: the quota opens for it, or an admission ahead of it
    /// lapses.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let lapses = self.lapses.front().map(|&(at, _)| at);
        let opens = self.front.as_ref().map(|front| front.opens_at);
        lapses.into_iter().chain(opens).min()
    }

    /// The front's timer has been set to [`Queue::next_turn`]; `false` if this is not the front.
    pub(super) fn set_timer(&mut self, ticket: Ticket) -> bool {
        let next = self.next_turn();
        let front = self.front.as_mut().filter(|front| front.ticket == ticket);
        front.is_some_and(|front| {
            front.timer = next;
            true
        })
    }

    /// Wakes those whose deadline comes before the quota opens.
    pub(super) fn wake_hopeless(&mut self, opens_at: Instant, woken: &mut Vec<Waker>) {
        let hopeless = self
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= opens_at);
        for (_, ticket) in hopeless {
            woken.extend(
                self.waiting
                    .get_mut(ticket)
                    .and_then(|waiter| waiter.waker.take()),
            );
        }
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(
            self.waiting
                .values_mut()
                .filter_map(|waiter| waiter.waker.take()),
        );
    }

    /// Takes back the admissions that were not used in time; whether there were any.
    fn lapse(&mut self, quota: &mut Quota, now: Instant) -> bool {
        let mut lapsed = false;
        while let Some(&(at, ticket)) = self.lapses.front() {
            let unused = self
                .admitted
                .get(&ticket)
                .filter(|&&(lapses_at, _)| lapses_at == at)
                .map(|&(_, cost)| cost);
            if unused.is_some() && at > now {
                break;
            }
            self.lapses.pop_front();
            if let Some(cost) = unused {
                self.admitted.remove(&ticket);
                quota.give_back(cost);
                lapsed = true;
            }
        }
        lapsed
    }

    /// `ticket` is in front and may go at `opens_at`: wakes it, unless its timer goes off soon
    /// enough.
    fn expect(&mut self, ticket: Ticket, opens_at: Instant, woken: &mut Vec<Waker>) {
        let timer = self
            .front
            .take()
            .filter(|front| front.ticket == ticket)
            .and_then(|front| front.timer);
        self.front = Some(Front {
            ticket,
            opens_at,
            timer,
        });
        let needed = self.next_turn();
        if timer.is_none() || timer > needed {
            woken.extend(
                self.waiting
                    .get_mut(&ticket)
                    .and_then(|waiter| waiter.waker.take()),
            );
        }
    }
}

/// When the quota opens for a waiter that is in front; `None` for now.
fn opens_at(quota: &Quota, waiter: &Waiter, now: Instant) -> Option<Instant> {
    let own = waiter.not_before.filter(|&at| at > now);
    match quota.admit(now, waiter.cost) {
        Admit::Now => own,
        Admit::At(at, _) => own.max(Some(at)),
    }
}
