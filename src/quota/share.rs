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

#[cfg(test)]
mod tests {
    use super::*;

    const NANOSECOND: Duration = Duration::from_nanos(1);
    const LONG: Duration = Duration::from_secs(60);

    /// Of a window that is first heard of now, of which so much is left for all.
    fn met(now: Instant, remaining: u64) -> (Share, Account) {
        let account = Account::met(1_000, remaining, 1, 0);
        assert!(!account.is_all_ours());
        (Share::unknown(now, now), account)
    }

    /// Of the window after one of which half was used, a quarter of that by us.
    fn quarter(now: Instant, length: Duration) -> (Share, Account) {
        let account = Account::met(1_000, 500, 125, 0);
        let share = Share::unknown(now, now).next(&account, now, length);
        (share, account.next(0))
    }

    /// How many of this cost may go now, one after the other.
    fn send_all(share: &mut Share, account: &mut Account, now: Instant, cost: u64) -> u64 {
        let mut sent = 0;
        while share.opens_at(now, account, 0, cost) == Some(now) {
            share.reserve(now, account, cost);
            sent += 1;
        }
        sent
    }

    /// Opens after this time, and not before.
    fn assert_opens(share: &Share, account: &Account, now: Instant, cost: u64, wait: Duration) {
        let at = now + wait;
        let opens_at = |now| share.opens_at(now, account, 0, cost);
        assert_eq!(opens_at(now), Some(at));
        assert_eq!(opens_at(at), Some(at));
        if let Some(wait) = wait.checked_sub(NANOSECOND) {
            assert_eq!(opens_at(now + wait), Some(at));
        }
    }

    #[test]
    fn half_of_our_share_may_be_under_way_whatever_each_costs() {
        let now = Instant::now();
        for (remaining, cost, sent) in [(60, 1, 7), (60, 3, 2), (61, 7, 1), (800, 1, 100)] {
            let (mut share, mut account) = met(now, remaining);
            assert_eq!(send_all(&mut share, &mut account, now, cost), sent);
            let all = account.left();
            assert_eq!(all, remaining - sent * cost);
            assert_eq!(share.opens_at(now, &account, 0, all + 1), None);
            assert_eq!(share.opens_at(now, &account, 1, all - 1), Some(now));
        }
    }

    #[test]
    fn where_half_is_less_than_one_a_whole_one_goes_alone() {
        let now = Instant::now();
        for (remaining, cost) in [(4, 1), (7, 1), (60, 15), (63, 15)] {
            let (mut share, mut account) = met(now, remaining);
            assert_eq!(send_all(&mut share, &mut account, now, cost), 1);
        }
        let (share, account) = met(now, 60);
        assert_opens(&share, &account, now, 16, 4 * UNMEASURED);
    }

    #[test]
    fn who_had_hardly_anything_may_have_one_under_way_while_ten_remain() {
        let now = Instant::now();
        for (remaining, opens_at) in [(10, Some(now)), (9, None)] {
            let (mut share, account) = met(now, remaining);
            share.ratio = LEAST_RATIO / 2.0;
            assert_eq!(share.opens_at(now, &account, 0, 1), opens_at);
        }
    }

    #[test]
    fn what_nobody_answers_has_been_counted_after_a_second_and_what_others_sent_meanwhile() {
        let now = Instant::now();
        let (mut share, mut account) = met(now, 60);
        assert_eq!(send_all(&mut share, &mut account, now, 1), 7);
        assert_opens(&share, &account, now, 1, PATIENCE);
        let sent = send_all(&mut share, &mut account, now + PATIENCE, 1);
        assert_eq!((sent, account.low(), account.unheard()), (4, 60 - 4 * 7, 4));
        assert_eq!(share.sent_at(), now + PATIENCE);
    }

    #[test]
    fn who_meets_nobody_takes_twice_as_many_each_time() {
        let now = Instant::now();
        for (cost, all) in [(1, 8), (2, 4)] {
            let (mut share, mut account) = met(now, 8);
            for sent in [1, 1, 2, 4, all, all] {
                assert_eq!(send_all(&mut share, &mut account, now, cost), sent);
                account.tell(8, 0);
                (0..sent).for_each(|_| share.heard(now, now, false));
            }
            share.heard(now, now, true);
            assert_eq!(send_all(&mut share, &mut account, now, cost), 1);
        }
    }

    #[test]
    fn the_last_ones_are_asked_for_in_turn_the_lowest_first() {
        let now = Instant::now();
        for (remaining, cost, turn) in [(1, 1, 2), (2, 1, 3), (3, 1, 4), (6, 3, 3), (11, 3, 4)] {
            let (mut share, account) = met(now, remaining);
            assert_opens(&share, &account, now, cost, turn * UNMEASURED);
            share.heard(now + LONG, now, true);
            assert_opens(&share, &account, now, cost, LONG + turn * UNMEASURED);
        }
        let (mut share, account) = met(now, TICKETS);
        share.ratio = LEAST_RATIO;
        assert_eq!(share.opens_at(now, &account, 0, 1), None, "no ticket");
        let (mut share, mut account) = met(now, TICKETS - 1);
        share.reserve(now, &mut account, 1);
        assert_opens(&share, &account, now, 1, PATIENCE);
    }

    #[test]
    fn nothing_that_was_told_to_remain_is_no_ticket() {
        let now = Instant::now();
        let share = Share::unknown(now, now);
        let mut account = Account::met(10, 0, 10, 0);
        account.refuse(1);
        assert_eq!(account.left(), 1);
        assert_eq!(share.opens_at(now, &account, 0, 1), None);
    }

    #[test]
    fn most_of_what_was_ours_is_ours_again_and_the_rest_is_left_to_latecomers() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        for (length, free_after) in [
            (LONG, LATECOMERS),
            (4 * second, second),
            (2 * second, second / 2),
        ] {
            let (mut share, mut account) = quarter(now, length);
            let seven_eighths = 219;
            assert_eq!(send_all(&mut share, &mut account, now, 1), seven_eighths);
            let left = 1_000 - seven_eighths;
            let (free_at, asks_after) = (now + free_after, free_after.max(PATIENCE));
            assert_eq!(share.opens_at(now, &account, 1, left - 1), Some(free_at));
            assert_eq!(share.opens_at(now, &account, 1, left), None);
            assert_opens(&share, &account, now, 1, asks_after);
            assert_opens(&share, &account, now, left, asks_after);
        }
    }

    #[test]
    fn then_one_finds_out_what_remains() {
        let now = Instant::now();
        let (mut share, mut account) = quarter(now, LONG);
        let free_at = now + LATECOMERS;
        assert_eq!(
            send_all(&mut share, &mut account, free_at, 1_000),
            1,
            "all of it"
        );
        let (mut share, mut account) = quarter(now, LONG);
        send_all(&mut share, &mut account, now, 1);
        share.heard(now + PATIENCE, free_at - NANOSECOND, false);
        assert_eq!(send_all(&mut share, &mut account, free_at, 1), 1);
        assert_opens(&share, &account, free_at, 1, PATIENCE);
        account.tell(500, 0);
        share.heard(free_at, free_at, true);
        assert_eq!(send_all(&mut share, &mut account, free_at, 1), 15);
        account.tell(100, 0);
        share.heard(free_at, now, true);
        assert_eq!(
            send_all(&mut share, &mut account, free_at, 1),
            12,
            "late answers teach no less"
        );
    }

    #[test]
    fn who_was_alone_takes_all_until_others_are_met() {
        let now = Instant::now();
        let last = Account::met(1_000, 500, 500, 0);
        let mut share = Share::unknown(now, now).next(&last, now, LONG);
        assert_eq!(share.ratio().to_bits(), 1.0_f64.to_bits());
        let mut account = last.next(0);
        let unused = share.next(&account, now, LONG);
        assert_eq!(unused.opens_at(now, &account, 999, 1), Some(now), "still");
        share.reserve(now, &mut account, 1);
        share.reserve(now + LONG, &mut account, 9);
        assert_eq!((account.low(), account.unheard()), (1_000, 10));
        assert_eq!(send_all(&mut share, &mut account, now, 1), 990);
        let mut account = last.next(900);
        assert!(account.tell(40, 0));
        assert_ne!(share.opens_at(now, &account, 0, 30), Some(now));
    }

    #[test]
    fn in_the_course_of_a_window_nothing_is_kept_and_nobody_waited_for() {
        let now = Instant::now();
        let (share, _) = quarter(now, LONG);
        let mut share = share.in_course(now);
        let mut account = Account::met(1_000, 80, 1, 0);
        assert_eq!(send_all(&mut share, &mut account, now, 1), 10);
        assert_eq!(share.ratio().to_bits(), 0.25_f64.to_bits());
    }
}
