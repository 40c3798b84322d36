//! A window that the server announces: a limit, what remains of it, and the time until it ends and
//! the next one begins.
//!
//! The servers of the IETF's `RateLimit` fields, GitHub, GitLab and many others do so. Three small
//! models make up a window: when it ends ([`End`]), what is used of it ([`Account`]), and how much
//! of it we take if others use it too ([`Share`](super::share::Share)). What is used up opens when its
//! end has come for certain, and then the next window is there ([`Present`]), with the whole limit.
//!
//! Not all servers mean the same by a reset. Where a window slides, it is the time until the first
//! unit is back, or until all are. So until a server has been seen to renew its limit at once, a
//! window that was opened by the clock opens by degrees, as after a pause, until an answer tells
//! what is there.

use super::{
    Cost, Unit,
    account::Account,
    after,
    dimension::Answer,
    end::{End, Rounding},
    present::{Present, Spoken},
};
use crate::signal::RateLimit;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Window {
    dimension: Arc<str>,
    unit: Unit,
    /// How often another window, or another limit, took the place of the known one.
    changes: u32,
    rounding: Rounding,
    renewal: Renewal,
    present: Present,
}

/// Whether windows that were opened by the clock were there with their whole limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    Unproven,
    Proven,
    /// Not once, at the least: the window slides, or others use it.
    Disproven,
}

/// What an answer says of a window, if it says enough.
#[derive(Clone, Copy, Debug)]
struct Told {
    limit: Option<u64>,
    remaining: u64,
    reset: Duration,
}

impl Told {
    fn of(announced: &RateLimit) -> Option<Self> {
        let told = Self {
            // Zero is what some servers send with every refusal.
            limit: announced.limit().filter(|&limit| limit > 0),
            remaining: announced.remaining()?,
            reset: announced.reset()?,
        };
        // Of a window that is over, of no size, nothing can be learned: so some fill in fields that do
        // not apply.
        let is_empty = told.limit.is_none() && told.reset.is_zero();
        (!is_empty).then_some(told)
    }

    /// Whether no time is left and yet something of the window: who rounds up would have said a
    /// second.
    fn is_rounded_down(self) -> bool {
        self.reset.is_zero() && self.remaining > 0
    }

    /// The limit; if there is no word of it, what remains and the answered request at the least.
    fn limit_from(self, known: u64) -> u64 {
        match self.limit {
            Some(limit) => limit.max(self.remaining),
            None => self.remaining.saturating_add(1).max(known),
        }
    }
}

impl Window {
    /// `None` when the announcement does not say what remains, or until when.
    pub(super) fn new(answer: &Answer, announced: &RateLimit) -> Option<Self> {
        let told = Told::of(announced)?;
        let unit = Unit::of(announced.dimension());
        let rounding = Rounding::Up;
        let end = End::announced(answer.now, answer.sent_at, told.reset, rounding);
        let uncounted = answer.uncounted.count(unit);
        let own = uncounted.saturating_add(answer.used().count(unit));
        let account = Account::met(told.limit_from(0), told.remaining, own, uncounted);
        let mut present = Present::met(answer.now, answer.sent_at, end, account);
        present.ends(answer.now, end, told.reset);
        Some(Self {
            dimension: announced.dimension().into(),
            unit,
            changes: 1,
            rounding,
            renewal: Renewal::Unproven,
            present,
        })
    }

    pub(super) fn dimension(&self) -> Arc<str> {
        Arc::clone(&self.dimension)
    }

    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    pub(super) fn unit(&self) -> Unit {
        self.unit
    }

    /// Whether it has ended, and the next one is there as if nothing were known.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.present.shut_until() <= now
    }

    /// When there is room for `cost`, after `ahead`. A cost above the whole limit goes as soon as
    /// anything is left: the server may know better than our estimate.
    pub(super) fn opens_at(&self, now: Instant, ahead: Cost, cost: Cost) -> Instant {
        let present = self.present.at(now);
        let shut_until = present.shut_until();
        let in_present = self.opens_in(&present, now, ahead, cost);
        if let Some(at) = in_present.filter(|&at| at < shut_until) {
            return at;
        }
        if now >= shut_until {
            return now;
        }
        let left = present.account.left();
        let place = ahead
            .count(self.unit)
            .saturating_add(self.units(&present, cost));
        let beyond = place.saturating_sub(left).saturating_sub(1);
        let windows = beyond / present.account.limit.max(1);
        if windows > 0 {
            let windows = u32::try_from(windows).unwrap_or(u32::MAX);
            return after(shut_until, present.length().saturating_mul(windows));
        }
        let next = present.at(shut_until);
        if !next.is_opened_at(shut_until) {
            return shut_until;
        }
        let ahead = ahead.minus(Cost {
            requests: left,
            tokens: left,
        });
        let in_next = self.opens_in(&next, shut_until, ahead, cost);
        in_next.unwrap_or_else(|| next.shut_until())
    }

    /// When there is room in this window, if there is.
    fn opens_in(
        &self,
        present: &Present,
        now: Instant,
        ahead: Cost,
        cost: Cost,
    ) -> Option<Instant> {
        let units = self.units(present, cost);
        let (account, share) = (&present.account, &present.share);
        let opens_at = share.opens_at(now, account, ahead.count(self.unit), units)?;
        if self.renewal == Renewal::Proven || present.is_told() {
            return Some(opens_at);
        }
        Some(opens_at.max(present.door(ahead.requests)))
    }

    /// What has to be left for this cost. Even what seems to cost nothing wants something.
    fn units(&self, present: &Present, cost: Cost) -> u64 {
        let units = cost.count(self.unit);
        if units > present.account.limit {
            1
        } else {
            units.max(1)
        }
    }

    pub(super) fn reserve(&mut self, now: Instant, cost: Cost) {
        self.roll(now);
        let opens_at = self.opens_in(&self.present, now, Cost::NONE, cost);
        if opens_at.is_none_or(|at| at > now) {
            self.present.asks(now);
        }
        let units = cost.count(self.unit);
        self.present.reserve(now, cost.requests, units);
    }

    pub(super) fn give_back(&mut self, cost: Cost) {
        let units = cost.count(self.unit);
        self.present.give_back(cost.requests, units);
    }

    /// An answer has announced what remains.
    pub(super) fn announced(&mut self, answer: &Answer, announced: &RateLimit) {
        let Some(told) = Told::of(announced) else {
            return;
        };
        let Answer { now, sent_at, .. } = *answer;
        let uncounted = answer.uncounted.count(self.unit);
        self.roll(now);
        let end = self.end(answer, told);
        let (end, is_moved) = match self.present.spoken_of(now, sent_at, end) {
            Spoken::Former => return self.present.account.hear(uncounted),
            Spoken::Present(end) => (end, false),
            Spoken::Moved => (end, true),
            Spoken::Next => {
                let own = uncounted.saturating_add(answer.cost.count(self.unit));
                self.open(&self.present.next(now, own));
                (end, false)
            }
        };
        let limit = told.limit_from(self.present.account.limit);
        let is_first = !self.present.is_told();
        self.present.ends(now, end, told.reset);
        if is_moved || limit != self.present.account.limit {
            self.changes = self.changes.wrapping_add(1);
            let (remaining, present) = (told.remaining, &mut self.present);
            present.is_another(now, limit, remaining, uncounted);
        }
        let present = &mut self.present;
        if answer.is_refused {
            present.account.refuse(answer.cost.count(self.unit));
        }
        let met_others = present.remains(now, sent_at, told.remaining, uncounted);
        if is_first && met_others {
            self.renewal = Renewal::Disproven;
        } else if is_first && self.renewal == Renewal::Unproven {
            self.renewal = Renewal::Proven;
        }
    }

    /// What an answer says of the end. Who asks when the end has come for certain, and is told that it
    /// has not, learns that the server rounds down.
    fn end(&mut self, answer: &Answer, told: Told) -> End {
        let end = |rounding| End::announced(answer.now, answer.sent_at, told.reset, rounding);
        let asked_too_early = self
            .present
            .asked_too_early(answer.sent_at, end(self.rounding));
        if asked_too_early || told.is_rounded_down() {
            self.rounding = Rounding::Down;
        }
        end(self.rounding)
    }

    /// Goes on to the next window if this one is over.
    fn roll(&mut self, now: Instant) {
        let present = self.present.at(now);
        if present.is_told() != self.present.is_told() {
            self.open(&present);
        }
    }

    fn open(&mut self, next: &Present) {
        self.changes = self.changes.wrapping_add(1);
        self.present = *next;
    }
}

#[cfg(test)]
mod tests;
