//! What a partition's lock protects, and each step that a call takes under it.

use super::{
    caller::Lesson,
    claim::{Claim, GivenUp},
    in_flight::{InFlight, Number},
    queue::{GRACE, Queue, Ticket, Wakers},
    watch::Watch,
};
use crate::{
    quota::{Admit, Cost, Model, Quota, RefusalCause, Refused, Sent, after},
    report::StopReason,
    retry::Budget,
    signal::RateLimit,
    snapshot::Totals,
};
use std::{task::Waker, time::Duration};
use tokio::time::Instant;

/// How long those behind the front rely on what holds it back, where that is not certain.
const UNCERTAIN: Duration = Duration::from_secs(1);

/// So many places in line share a moment at which they look whether somebody ahead has failed, and
/// beyond so many of those moments all look equally seldom.
const PLACES: u32 = 16;
const MAX_WAIT: u32 = 300;

#[derive(Debug)]
pub(super) struct State {
    pub(super) quota: Model,
    pub(super) queue: Queue,
    pub(super) in_flight: InFlight,
    /// Of the retries that no refusal has asked for.
    pub(super) budget: Budget,
    pub(super) rng: fastrand::Rng,
    /// All but the calls, which have numbers.
    pub(super) totals: Totals,
    /// What observers were told.
    pub(super) watch: Watch,
    /// When the partition was first seen; times of arrival count from here.
    began: Instant,
    last_number: u64,
}

/// What is counted when a call that was not sent at once is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    /// How long it was held back this time.
    pub(crate) time: Duration,
    /// Whether it was sent before.
    pub(crate) is_retry: bool,
}

/// What becomes of a call that arrives.
pub(super) enum Arrival {
    /// It is sent at once.
    Sent(Number),
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
    pub(super) fn new(quotas: &[Quota]) -> Self {
        Self {
            quota: Model::new(quotas),
            queue: Queue::default(),
            in_flight: InFlight::default(),
            budget: Budget::default(),
            rng: fastrand::Rng::new(),
            totals: Totals::default(),
            watch: Watch::default(),
            began: Instant::now(),
            last_number: 0,
        }
    }

    /// The place of a call that arrives now.
    #[inline]
    pub(super) fn ticket(&mut self, now: Instant, head_start: Duration) -> Ticket {
        self.last_number += 1;
        self.ticket_of(self.last_number, now, head_start)
    }

    /// The place that a call would have.
    pub(super) fn next_ticket(&self, now: Instant, head_start: Duration) -> Ticket {
        self.ticket_of(self.last_number + 1, now, head_start)
    }

    fn ticket_of(&self, number: u64, now: Instant, head_start: Duration) -> Ticket {
        let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let arrived = nanos(now.saturating_duration_since(self.began));
        (arrived.saturating_sub(nanos(head_start)), number)
    }

    /// A new call, on its way at once if the partition is open and nobody older waits.
    #[inline]
    pub(super) fn arrive(&mut self, claim: &Claim, now: Instant, wakers: &mut Wakers) -> Arrival {
        self.advance(now, wakers);
        if self.admits(claim, now) {
            let reserved = self.quota.reserve(now, claim.cost, false);
            self.totals.attempts += 1;
            let sent = self.quota.sent(reserved, now);
            return Arrival::Sent(self.in_flight.insert(sent));
        }
        let ahead = self.cost_ahead(claim);
        if let Some(given_up) = claim.give_up(&self.quota, now, ahead) {
            return Arrival::TurnedAway(given_up);
        }
        // Where only an unused admission is before it, it need not wait.
        let is_open = self.quota.admit(now, claim.cost) == Admit::Now;
        if self.queue.len() >= claim.bounds.max_waiting && !is_open {
            let expected = self.quota.expected(now, ahead, claim.cost);
            let given_up = GivenUp::held(StopReason::MaxWaiting, expected, now);
            return Arrival::TurnedAway(given_up);
        }
        self.queue.insert(claim.ticket, claim.waiter());
        Arrival::InLine
    }

    /// A call that waits is polled; it is to rest until `resting`, if that is not over.
    pub(super) fn look(
        &mut self,
        claim: &Claim,
        resting: Option<Instant>,
        now: Instant,
        waker: Waker,
        wakers: &mut Wakers,
    ) -> Look {
        let ticket = claim.ticket;
        self.queue.polled(ticket, wakers);
        let mut stands_in = self.advance(now, wakers);
        if !self.queue.admissions.contains(ticket) {
            if let Some(given_up) = claim.give_up(&self.quota, now, Cost::NONE) {
                self.leave(claim, resting, wakers);
                self.advance(now, wakers);
                return Look::GivenUp(given_up);
            }
            if !self.queue.contains(ticket, resting) {
                self.queue.insert(ticket, claim.waiter());
                stands_in |= self.advance(now, wakers);
            }
        }
        let admitted = self.queue.admissions.contains(ticket);
        self.queue.wake_on_turn(claim, resting, waker, wakers);
        if admitted {
            self.queue.forget_deadline(claim);
            return Look::Admitted;
        }
        let look_again = match resting.filter(|&until| until > now) {
            Some(until) => until,
            None => self.look_again(claim, now, stands_in),
        };
        let deadline = claim.bounds.deadline;
        Look::Again(deadline.map_or(look_again, |deadline| deadline.min(look_again)))
    }

    /// The service of a call is ready: it counts as sent from now on, or is back in line.
    pub(super) fn confirm(
        &mut self,
        claim: &Claim,
        waited: Waited,
        now: Instant,
        wakers: &mut Wakers,
    ) -> Option<Number> {
        let reserved = match self.queue.admissions.take(claim.ticket) {
            Some(reserved) if self.quota.still_holds(now, reserved) => Some(reserved),
            Some(reserved) => {
                self.quota.give_back(reserved);
                None
            }
            None => {
                self.advance(now, wakers);
                let admits = self.admits(claim, now);
                admits.then(|| self.quota.reserve(now, claim.cost, true))
            }
        };
        let Some(reserved) = reserved else {
            self.queue.insert(claim.ticket, claim.waiter());
            self.advance(now, wakers);
            return None;
        };
        self.totals.attempts += 1;
        self.totals.retries += u64::from(waited.is_retry);
        self.totals.waited = self.totals.waited.saturating_add(waited.time);
        let sent = self.quota.sent(reserved, now);
        Some(self.in_flight.insert(sent))
    }

    /// The head of an answer has arrived, and there is nothing more to be learned from it. The number
    /// of its body, if the server works on that.
    #[inline]
    pub(super) fn answered(
        &mut self,
        now: Instant,
        sent: Sent,
        limits: &[RateLimit],
        lesson: Lesson,
    ) -> Option<u64> {
        let mut number = None;
        let is_refused = matches!(lesson, Lesson::Pointless);
        match lesson {
            Lesson::Served => self.quota.served(now, sent),
            Lesson::Streams => number = Some(self.quota.streams(now, sent)),
            Lesson::Nothing => self.quota.unexplained(sent),
            Lesson::Pointless => {
                self.quota.pointless(sent);
                self.totals.refused(&RefusalCause::Request);
            }
        }
        // Last, for how long it took is known then.
        self.quota.announced(now, sent, is_refused, limits);
        number
    }

    /// The request will not be heard of again.
    pub(super) fn abandoned(&mut self, number: Number) {
        if let Some(sent) = self.in_flight.take(number) {
            self.quota.abandoned(sent);
        }
    }

    /// A refusal is understood: it concerns all, or only the request itself. What it was put down to.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        number: Number,
        refused: Option<Refused>,
    ) -> RefusalCause {
        let sent = self.in_flight.take(number);
        if let (Some(sent), Some(refused)) = (sent, refused) {
            self.quota.refused(now, sent, refused);
        }
        let cause = self.quota.blamed().filter(|_| refused.is_some());
        let cause = cause.unwrap_or(&RefusalCause::Request);
        self.totals.refused(cause);
        cause.clone()
    }

    /// A call that waits or is admitted goes away.
    pub(super) fn leave(&mut self, claim: &Claim, resting: Option<Instant>, wakers: &mut Wakers) {
        self.queue.forget_deadline(claim);
        self.queue.remove(claim.ticket, resting, wakers);
        if let Some(reserved) = self.queue.admissions.take(claim.ticket) {
            self.quota.give_back(reserved);
        }
    }

    /// Wakes those for whom it is certain that the partition opens too late.
    pub(super) fn tell_the_hopeless(&mut self, now: Instant, wakers: &mut Wakers) {
        let opens = self.quota.expected(now, Cost::NONE, Cost::of_request(0));
        if let Admit::At(opens_at, _) = opens {
            self.queue.wake_hopeless(now, opens_at, wakers);
        }
    }

    /// Adds what was counted since the start.
    pub(super) fn add_totals(&self, all: &mut Totals) {
        all.add(&self.totals);
        all.calls += self.last_number;
    }

    /// How long a call that arrives now would wait, as far as is known; `None` if it would not be let
    /// in.
    pub(super) fn expected_wait(&mut self, claim: &Claim, now: Instant) -> Option<Duration> {
        self.quota.pass(now, self.queue.len() as u64);
        if self.admits(claim, now) {
            return Some(Duration::ZERO);
        }
        let ahead = self.cost_ahead(claim);
        if claim.give_up(&self.quota, now, ahead).is_some() {
            return None;
        }
        let foreseen = self.quota.foreseen(now, ahead, claim.cost).opens_at(now);
        // Who is in front may be held back for its own size.
        let front = self.queue.opens_at().filter(|_| ahead != Cost::NONE);
        let opens_at = foreseen.max(front.unwrap_or(now));
        let is_full = self.queue.len() >= claim.bounds.max_waiting;
        let wait = opens_at.saturating_duration_since(now);
        (wait.is_zero() || !is_full).then_some(wait)
    }

    /// What those will cost who are before a call that arrives. One with a head start passes some of
    /// them; how many is not worth counting.
    fn cost_ahead(&self, claim: &Claim) -> Cost {
        if self.queue.is_last(claim.ticket) {
            self.queue.waiting_cost()
        } else {
            Cost::NONE
        }
    }

    /// Lets all go that may; whether somebody's turn had lapsed.
    pub(super) fn advance(&mut self, now: Instant, wakers: &mut Wakers) -> bool {
        self.queue.advance(&mut self.quota, now, wakers)
    }

    /// Whether the partition is open for a call, and nobody older is before it.
    fn admits(&self, claim: &Claim, now: Instant) -> bool {
        self.queue.is_first(claim.ticket) && self.quota.admit(now, claim.cost) == Admit::Now
    }

    /// When a call in line looks again: exactly at its turn if it is the front, or stands in for
    /// one that is not being polled; else behind an opening, to see whether those ahead have failed.
    fn look_again(&mut self, claim: &Claim, now: Instant, stands_in: bool) -> Instant {
        let is_on_watch = self.queue.is_on_watch(claim.ticket, stands_in);
        let turn = self.queue.next_turn().filter(|_| is_on_watch);
        turn.unwrap_or_else(|| {
            let place = self.queue.place_of(claim.ticket);
            // Those far behind are needed only if all those ahead have failed.
            let places = u32::try_from(place).unwrap_or(u32::MAX);
            let late = GRACE * (1 + places / PLACES).min(MAX_WAIT);
            after(self.watched_opening(claim, now, place), late)
        })
    }

    /// The opening behind which a call looks that is so far from the front.
    ///
    /// Where the pace is slow, far more than a place's [`GRACE`] would be lost if each looked only
    /// behind its own opening. So behind each opening those look whose places are powers of two, and
    /// the last: each looks a few times while it waits, and however many of the first have failed,
    /// somebody is soon there who is behind them.
    fn watched_opening(&self, claim: &Claim, now: Instant, place: u64) -> Instant {
        // What holds back the front alone holds back those behind it; but it may let go at any
        // time, as a refusal does that is being read.
        let front = self.queue.opens_at().unwrap_or(now);
        let front = front.min(after(now, UNCERTAIN));
        let opens_at = |ahead| {
            let ahead = self.queue.cost_of(ahead);
            let estimated = self.quota.estimated(now, ahead, claim.cost);
            estimated.opens_at(now).max(front)
        };
        let own = opens_at(place);
        let passed = if self.queue.is_last(claim.ticket) {
            place
        } else {
            place.checked_ilog2().map_or(0, |power| 1 << power)
        };
        let fast = GRACE.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
        if own <= after(now, fast) {
            return own;
        }
        let watched = opens_at(place - passed);
        if own <= after(watched, fast) {
            own
        } else if place == passed {
            let lapses_at = self.queue.admissions.next_lapse();
            lapses_at.map_or(watched, |at| at.min(watched))
        } else {
            watched
        }
    }
}
