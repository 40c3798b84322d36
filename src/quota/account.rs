//! What is used of a window: by us, as we know ourselves; by others, as what remains gives them
//! away.
//!
//! Answers come out of order, and none knows of all that is under way. But whatever remains by the
//! server's word, no more of ours than we have sent can be missing from the limit: what is missing
//! beyond that, others have used. Where that is nothing, our own count is exact, and no answer is
//! needed to know what is left.

/// All in units of the dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) limit: u64,
    /// What we have sent in this window.
    used: u64,
    /// What others have used at the least.
    others: u64,
    /// The least that was told to remain; at first the limit.
    told: u64,
    /// The least that may remain, if others use it as they are presumed to.
    low: u64,
    /// What of our own may not have been counted when that was told.
    unheard: u64,
    /// What was answered without a word on whether it counts in this window.
    unclear: u64,
}

impl Account {
    /// Of a window of which we have used so much, and of that not all may have been counted.
    fn opened(limit: u64, used: u64, unheard: u64) -> Self {
        Self {
            limit,
            used,
            others: 0,
            told: limit,
            low: limit,
            unheard,
            unclear: 0,
        }
    }

    /// Of the window after this one; `carried` was sent when it may already have begun.
    pub(super) fn next(&self, carried: u64) -> Self {
        Self::opened(self.limit, carried, carried.min(self.unheard))
    }

    /// Of a window that is first heard of in its course: `own` is all that we can have used of it.
    pub(super) fn met(limit: u64, remaining: u64, own: u64, uncounted: u64) -> Self {
        let mut account = Self::opened(limit, own, uncounted);
        account.tell(remaining, uncounted);
        account
    }

    /// The same where we have used a known part of what is missing.
    pub(super) fn met_by(ratio: f64, limit: u64, remaining: u64, uncounted: u64) -> Self {
        let missing = limit.saturating_sub(remaining);
        let own = (ratio * missing as f64).round() as u64;
        Self::met(limit, remaining, own.saturating_add(uncounted), uncounted)
    }

    /// What we may still use of it.
    pub(super) fn left(&self) -> u64 {
        if self.others == 0 {
            self.limit.saturating_sub(self.used)
        } else {
            self.low.saturating_sub(self.unheard)
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn told(&self) -> u64 {
        self.told
    }

    pub(super) fn low(&self) -> u64 {
        self.low
    }

    pub(super) fn unheard(&self) -> u64 {
        self.unheard
    }

    /// Whether nobody else has used anything, as far as is known.
    pub(super) fn is_all_ours(&self) -> bool {
        self.others == 0
    }

    /// What of our own has not been seen to count in this window, where nobody else's does.
    pub(super) fn unseen(&self) -> Option<u64> {
        let seen = self.limit.saturating_sub(self.told);
        self.is_all_ours().then(|| self.used.saturating_sub(seen))
    }

    /// What of all that was used is ours; unknown while nothing was.
    pub(super) fn ratio(&self) -> Option<f64> {
        let all = self.used.saturating_add(self.others);
        (all > 0).then(|| self.used as f64 / all as f64)
    }

    pub(super) fn reserve(&mut self, cost: u64) {
        self.used = self.used.saturating_add(cost);
        self.unheard = self.unheard.saturating_add(cost);
    }

    pub(super) fn give_back(&mut self, cost: u64) {
        self.used = self.used.saturating_sub(cost);
        self.unheard = self.unheard.saturating_sub(cost);
    }

    /// What we have sent of this cost was refused.
    pub(super) fn refuse(&mut self, cost: u64) {
        self.used = self.used.saturating_sub(cost);
    }

    /// So much remained when all but `uncounted` of ours was counted for certain. Whether that gives
    /// others away.
    pub(super) fn tell(&mut self, remaining: u64, uncounted: u64) -> bool {
        let missing = self.limit.saturating_sub(remaining);
        let others = missing.saturating_sub(self.used);
        let are_more = others > self.others;
        self.others = self.others.max(others);
        if self.others == 0 && remaining <= self.told {
            // What never came to be counted, or was in the window before, is not used. An older answer
            // knows less than those that overtook it.
            let own = missing.saturating_add(uncounted);
            self.used = self.used.min(own.saturating_add(self.unclear));
        }
        self.told = self.told.min(remaining);
        self.low = self.low.min(remaining);
        self.unheard = uncounted;
        are_more
    }

    /// An answer speaks of another window. Of what may not have been counted in this one, all but so
    /// much has been answered; `unclear` may have been.
    pub(super) fn hear(&mut self, uncounted: u64, unclear: u64) {
        self.unheard = self.unheard.min(uncounted);
        self.unclear = self.unclear.saturating_add(unclear);
    }

    /// The same when what is under way has been counted for certain, although no answer says so,
    /// and others have used as much more as they do (`ratio` of all is ours).
    pub(super) fn settled(&self, ratio: f64) -> Self {
        let used_by_all = (self.unheard as f64 / ratio).ceil() as u64;
        Self {
            low: self.low.saturating_sub(used_by_all),
            unheard: 0,
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_any_order_leave_our_own_count_as_it_is() {
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]] {
            let mut account = Account::opened(30, 0, 0);
            account.reserve(5);
            for (answered, place) in (1..).zip(order) {
                assert_eq!(account.left(), 25);
                assert!(!account.tell(29 - place, 5 - answered));
            }
            assert_eq!(account.left(), 25);
            assert_eq!(account.ratio(), Some(1.0));
        }
    }

    #[test]
    fn what_is_missing_beyond_our_own_was_used_by_others() {
        let mut account = Account::opened(100, 0, 0);
        account.reserve(20);
        assert!(!account.tell(80, 19), "it may all be ours");
        assert!(account.tell(60, 10));
        assert!(!account.is_all_ours());
        assert_eq!(account.left(), 50, "ten may not have been counted");
        assert_eq!(account.ratio(), Some(0.5));
        assert!(!account.tell(70, 0), "an older answer");
        assert_eq!(account.told(), 60);
    }

    #[test]
    fn what_was_never_counted_is_not_used() {
        let mut account = Account::opened(10, 3, 3);
        account.reserve(4);
        account.tell(9, 2);
        assert_eq!(account.left(), 7, "only one has come, and two may");
    }

    #[test]
    fn a_window_met_in_its_course_is_used_by_whom_it_can_be() {
        let account = Account::met(100, 97, 16, 15);
        assert!(account.is_all_ours());
        assert_eq!(
            account.left(),
            84,
            "what is missing are some of the sixteen"
        );
        let account = Account::met(100, 60, 16, 15);
        assert_eq!(account.ratio(), Some(0.4));
        assert_eq!(account.left(), 45);
    }

    #[test]
    fn what_nobody_answers_is_taken_for_used_together_with_what_others_use_meanwhile() {
        let mut account = Account::met(100, 60, 16, 0);
        account.reserve(5);
        let settled = account.settled(0.25);
        assert_eq!((settled.low(), settled.unheard()), (40, 0));
        assert_eq!(settled.told(), 60);
    }

    #[test]
    fn whose_it_is_is_unknown_while_nothing_was_used() {
        let mut account = Account::opened(10, 0, 0);
        assert_eq!(account.ratio(), None);
        account.reserve(1);
        assert_eq!(account.ratio(), Some(1.0));
        account.give_back(1);
        assert_eq!(account.ratio(), None);
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut account = Account::met(u64::MAX, 0, u64::MAX, u64::MAX);
        account.reserve(u64::MAX);
        account.tell(u64::MAX, u64::MAX);
        account.give_back(1);
        assert_eq!(account.left(), 1);
        assert_eq!(account.settled(0.0).low(), 0);
        assert_eq!(
            Account::opened(0, 0, 0).settled(0.0).low(),
            0,
            "0 / 0 is zero"
        );
    }
}
