//! How much of a window a process takes that shares it with others it knows nothing of.
//!
//! All that tells of the others is that more is missing than we have used. Once that has been seen,
//! - most of what we had of the last window is ours in the next one, and goes as soon as that opens:
//!   if everybody does so, most of the window is used at once, by each in turn as much as before;
//! - the rest of the window is left alone at first, for those who come late because they were
//!   refused: refusals end at whole seconds;
//! - then one request finds out what remains. Half of our share of it may be under way, or as many as
//!   have gone in a row without a trace of others: who is alone takes twice as many each time;
//! - when not even one for each remains, what was told to remain is a ticket, for it was told to
//!   nobody else. Who holds one of the lowest asks for the last ones, the lowest first.

use super::{account::Account, after, tempo::UNMEASURED};
use std::time::Duration;
use tokio::time::Instant;

/// Our share while nothing is known of anybody: small enough that four who begin at the same time
/// do not exceed what remains.
const FIRST_RATIO: f64 = 0.25;

/// Whoever has less than this of the window may still have one request under way while ten remain:
/// so newcomers come in.
const LEAST_RATIO: f64 = 0.1;

/// What of the last window's use is ours again in the next. The rest goes to whoever comes for it,
/// so that shares can change.
const KEPT_RATIO: f64 = 0.875;

/// How much later somebody comes who was refused: what a second is rounded up by, and the network.
const LATECOMERS: Duration = Duration::from_millis(1_100);

/// Where windows are short nobody waits longer for latecomers than this part of one.
const WAITING_SHARE: u32 = 4;

/// What nobody has answered after this time has been counted all the same: the service is slow, or
/// the answer lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who was told that fewer than so many requests' worth remain may ask for them: so, of any number
/// of processes, three ask in vain.
const TICKETS: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// What of all that was used of the last window was ours.
    ratio: f64,
    /// Whether all of it was.
    is_sole: bool,
    /// May be used at once.
    own_part: u64,
    /// From when on everybody may use what is left.
    free_at: Instant,
    /// Whether an answer to what was sent since then has told what is left.
    has_seen: bool,
    told_at: Instant,
    sent_at: Instant,
    /// So many answers in a row have shown no trace of others since then.
    unmet: u64,
}

impl Share {
    /// Of a window of which nothing is known but one answer, to what was sent at `sent_at`.
    pub(super) fn unknown(now: Instant, sent_at: Instant) -> Self {
        Self {
            ratio: FIRST_RATIO,
            is_sole: false,
            own_part: 0,
            free_at: sent_at,
            has_seen: true,
            told_at: now,
            sent_at: now,
            unmet: 0,
        }
    }

    /// Of the window after this one, of which that was the account; windows are as `length`.
    pub(super) fn next(&self, last: &Account, opened_at: Instant, length: Duration) -> Self {
        let used = last.ratio();
        let ratio = used.unwrap_or(self.ratio);
        Self {
            ratio,
            is_sole: used.map_or(self.is_sole, |_| last.is_all_ours()),
            own_part: (KEPT_RATIO * ratio * last.limit as f64).round() as u64,
            free_at: after(opened_at, LATECOMERS.min(length / WAITING_SHARE)),
            has_seen: false,
            told_at: opened_at,
            sent_at: opened_at,
            unmet: 0,
        }
    }

    /// The same where the window is first heard of in its course.
    pub(super) fn in_course(&self, now: Instant) -> Self {
        Self {
            own_part: 0,
            free_at: now,
            has_seen: true,
            ..*self
        }
    }

    /// What of all that was used of the last window was ours.
    pub(super) fn ratio(&self) -> f64 {
        self.ratio
    }

    /// When the last request was sent.
    pub(super) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// An answer to what was sent at `sent_at` has told what remains; `met_others`: and that others
    /// have used of it.
    pub(super) fn heard(&mut self, now: Instant, sent_at: Instant, met_others: bool) {
        self.told_at = now;
        let is_free = sent_at >= self.free_at;
        self.has_seen |= is_free;
        if met_others {
            self.unmet = 0;
        } else if is_free {
            self.unmet = self.unmet.saturating_add(1);
        }
    }

    pub(super) fn reserve(&mut self, now: Instant, account: &mut Account, cost: u64) {
        if now >= self.settles_at() && !self.is_alone(account) {
            *account = account.settled(self.ratio);
        }
        self.sent_at = now;
        account.reserve(cost);
    }

    /// When a request of this cost may go after others of the cost `ahead`, if it may in this
    /// window, and nobody answers until then.
    pub(super) fn opens_at(
        &self,
        now: Instant,
        account: &Account,
        ahead: u64,
        cost: u64,
    ) -> Option<Instant> {
        let place = ahead.saturating_add(cost);
        if place > account.left() {
            return None;
        }
        if self.is_alone(account) || account.used().saturating_add(place) <= self.own_part {
            return Some(now);
        }
        let free_at = now.max(self.free_at);
        if ahead > 0 {
            return Some(free_at);
        }
        let settles_at = free_at.max(self.settles_at());
        let asks_at = free_at.max(self.asks_at(account, cost));
        let changes = [free_at, settles_at, asks_at, settles_at.max(asks_at)];
        let open = changes
            .into_iter()
            .filter(|&at| self.fits(at, account, cost));
        open.min()
    }

    /// Whether nobody else uses the window, as far as can be known.
    fn is_alone(&self, account: &Account) -> bool {
        self.is_sole && account.is_all_ours()
    }

    /// When what is under way has been counted, answered or not.
    fn settles_at(&self) -> Instant {
        after(self.sent_at, PATIENCE)
    }

    /// When the turn of our ticket comes.
    fn asks_at(&self, account: &Account, cost: u64) -> Instant {
        let number = u32::try_from(account.told() / cost).unwrap_or(u32::MAX);
        after(
            self.told_at,
            UNMEASURED.saturating_mul(number.saturating_add(1)),
        )
    }

    /// Whether one of this cost may go of what is free for all.
    fn fits(&self, at: Instant, account: &Account, cost: u64) -> bool {
        let is_settled = at >= self.settles_at();
        let is_idle = account.unheard() == 0 || is_settled;
        if !self.has_seen {
            return is_idle && cost <= account.told();
        }
        let settled = is_settled.then(|| account.settled(self.ratio));
        self.may_be_under_way(account, cost)
            || settled.is_some_and(|settled| self.may_be_under_way(&settled, cost))
            || is_idle && at >= self.asks_at(account, cost) && Self::may_ask(account, cost)
    }

    fn may_be_under_way(&self, account: &Account, cost: u64) -> bool {
        let low = account.low();
        let under_way = account.unheard().saturating_add(cost);
        let half_share = (self.ratio * low as f64 / 2.0) as u64;
        let one_for_each = (self.ratio.max(LEAST_RATIO) * low as f64) as u64;
        let some = under_way <= half_share.max(self.unmet.saturating_mul(cost));
        let one = account.unheard() == 0 && cost <= one_for_each;
        under_way <= low && (some || one)
    }

    fn may_ask(account: &Account, cost: u64) -> bool {
        let told = account.told();
        told >= cost && told / cost < TICKETS
    }
}
