//! A window that the server announces: a limit, what remains of it, and the time until it ends and
//! the next one begins.
//!
//! The servers of the IETF's `RateLimit` fields, GitHub, GitLab and many others do so. Three small
//! models make up a window: when it ends ([`End`]), what is used of it
//! ([`Account`](super::account::Account)), and how much
//! of it we take if others use it too ([`Share`](super::share::Share)). What is used up opens when its
//! end has come for certain, and then the next window is there ([`Present`]), with the whole limit.
//!
//! Not all servers mean the same by a reset. Where a window slides, it is the time until the first
//! unit is back, or until all are. So until a server has been seen to renew its limit at once, a
//! window that was opened by the clock opens by degrees, as after a pause, until an answer tells
//! what is there.

use super::{
    Cost, Unit, after,
    dimension::{Answer, Standing},
    end::{End, Rounding},
    present::{Present, Spoken},
    told::Told,
};
use crate::signal::RateLimit;
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Clone, Debug)]
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

impl Window {
    /// `None` when the announcement does not say what remains, or until when.
    pub(super) fn new(answer: &Answer, announced: &RateLimit) -> Option<Self> {
        let unit = Unit::of(announced.dimension());
        let told = Told::of(answer, announced, unit)?;
        let rounding = Rounding::Up;
        Some(Self {
            dimension: announced.dimension().into(),
            unit,
            changes: 1,
            rounding,
            renewal: Renewal::Unproven,
            present: Present::met(&told, told.end(rounding)),
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

    /// Whether the clock has opened it, what was sent at that time was sent in it, and yet no answer has
    /// spoken of it.
    pub(super) fn is_unspoken(&self, sent_at: Instant) -> bool {
        !self.present.is_told() && self.present.is_opened_by(sent_at)
    }

    /// What is there now.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let present = self.present.at(now);
        Standing {
            limit: present.account.limit,
            remaining: present.account.left(),
            full_at: present.is_told().then(|| present.shut_until()),
            interval: None,
        }
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
        in_next.map_or(next.shut_until(), |at| at.min(next.shut_until()))
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
        let Some(told) = Told::of(answer, announced, self.unit) else {
            return;
        };
        self.roll(told.now);
        self.present.hear(&told);
        let (end, is_too_early) = self.end(&told);
        let (end, is_moved) = match self.present.spoken_of(&told, end) {
            Spoken::Former => return self.present.hear_of_another(&told, 0),
            Spoken::Unclear => return self.present.hear_of_another(&told, told.used()),
            Spoken::Present(end) => (end, is_too_early),
            Spoken::Moved => (end, true),
            Spoken::Next => {
                let own = told.uncounted.saturating_add(told.cost);
                self.open(told.now, own);
                (end, false)
            }
        };
        let is_first = !self.present.is_told();
        let limit = told.limit_from(self.present.account.limit);
        self.present.tell_end(&told, end);
        if is_moved || limit != self.present.account.limit {
            self.changes = self.changes.wrapping_add(1);
            self.present.meet_anew(&told, limit, is_too_early);
        }
        let met_others = self.present.tell_remaining(&told);
        if is_first && met_others {
            self.renewal = Renewal::Disproven;
        } else if is_first && self.renewal == Renewal::Unproven {
            self.renewal = Renewal::Proven;
        }
    }

    /// When the window ends by this answer; and whether that is later than the clock had it. Then the
    /// server rounds down.
    fn end(&mut self, told: &Told) -> (End, bool) {
        let end = told.end(self.rounding);
        let is_too_early = told.is_whole() && self.present.opened_too_early(told.sent_at, end);
        if is_too_early || told.is_rounded_down() {
            self.rounding = Rounding::Down;
        }
        (told.end(self.rounding), is_too_early)
    }

    /// Goes on to the next window if this one is over.
    fn roll(&mut self, now: Instant) {
        if let Some(over_at) = self.present.over_at(now) {
            self.open(over_at, 0);
        }
    }

    fn open(&mut self, opened_at: Instant, own: u64) {
        self.changes = self.changes.wrapping_add(1);
        self.present = self.present.next(opened_at, own);
    }
}

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod spoken;
#[cfg(test)]
mod tests;
