//! The window that is on, and the next one that follows it.

use super::{
    account::Account,
    after,
    end::{End, SECOND},
    share::Share,
    tempo::UNMEASURED,
};
use std::time::Duration;
use tokio::time::Instant;

/// How long one answer is believed to tell when a window ends: only limits by the day or more are
/// longer, and one absurd answer must not close a partition for good. After that one request asks.
const BELIEVED: Duration = Duration::from_secs(3600);

/// How long an answer is waited for that tells when the window ends: far longer than answers take.
/// After that one request asks.
const UNTOLD: Duration = Duration::from_secs(30);

/// All in units of the dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    pub(super) account: Account,
    pub(super) share: Share,
    opened_at: Instant,
    /// When the one before ended at the latest, if there was one.
    former_until: Option<Instant>,
    /// `None` if it was opened by the clock and no answer has spoken of it yet.
    end: Option<End>,
    /// When the first answer came that spoke of this end.
    told_end_at: Instant,
    /// When an answer last spoke of it, or a request went to ask.
    asked_at: Instant,
    /// The longest reset told of this window, and of the one before.
    longest: [Duration; 2],
    /// How many requests were sent in it.
    released: u64,
    /// What was sent when the next one may already have begun.
    carried: u64,
}

/// Which window an answer speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// The one that is on, with all that is known of its end.
    Present(End),
    /// The one after it: it is over.
    Next,
    /// The one that is on, but its end is another.
    Moved,
    /// One that is over; the answer comes late.
    Former,
}

impl Present {
    /// A window that is first heard of in its course.
    pub(super) fn met(now: Instant, sent_at: Instant, end: End, account: Account) -> Self {
        Self {
            account,
            share: Share::unknown(now, sent_at),
            opened_at: now,
            former_until: None,
            end: Some(end),
            told_end_at: now,
            asked_at: now,
            longest: [Duration::ZERO; 2],
            released: 0,
            carried: 0,
        }
    }

    /// The window after this one. What was sent before may count there: `own` for certain.
    pub(super) fn next(&self, opened_at: Instant, own: u64) -> Self {
        Self {
            account: self.account.next(self.carried.max(own)),
            share: self.share.next(&self.account, opened_at, self.length()),
            opened_at,
            former_until: self.end.map(|end| end.latest),
            end: None,
            longest: [Duration::ZERO, self.longest[0]],
            released: 0,
            carried: 0,
            ..*self
        }
    }

    /// The window that is on by then, as far as is known now.
    pub(super) fn at(&self, now: Instant) -> Self {
        match self.end {
            Some(end) if end.latest <= now => self.next(end.latest, 0),
            _ => *self,
        }
    }

    pub(super) fn is_opened_at(&self, at: Instant) -> bool {
        self.opened_at == at
    }

    /// Whether an answer has told when it ends.
    pub(super) fn is_told(&self) -> bool {
        self.end.is_some()
    }

    /// When it ends at the latest, or it is time to ask.
    pub(super) fn shut_until(&self) -> Instant {
        let since = self.asked_at.max(self.opened_at);
        match self.end {
            Some(end) => end.latest.min(after(self.asked_at, BELIEVED)),
            None if self.account.unheard() > 0 => {
                after(since, self.length().clamp(UNTOLD, BELIEVED))
            }
            // Nobody will tell.
            None => after(since, self.length().clamp(SECOND, BELIEVED)),
        }
    }

    /// When the next may go after `ahead` others if the door opens by degrees.
    pub(super) fn door(&self, ahead: u64) -> Instant {
        let place = self.released.saturating_add(ahead).saturating_add(1);
        after(self.opened_at, UNMEASURED * place.ilog2())
    }

    /// How long windows are at the least.
    pub(super) fn length(&self) -> Duration {
        self.longest[0].max(self.longest[1])
    }

    /// Whether what was sent when the window before this one was held to be over came before its end,
    /// according to the answer.
    pub(super) fn asked_too_early(&self, sent_at: Instant, end: End) -> bool {
        let opened_by_clock = self.end.is_none() && sent_at >= self.opened_at;
        opened_by_clock && end.latest < after(self.opened_at, SECOND)
    }

    /// Which window it is whose end an answer has told.
    pub(super) fn spoken_of(&self, now: Instant, sent_at: Instant, end: End) -> Spoken {
        let may_be_former = self.former_until.is_some_and(|until| end.earliest <= until);
        if sent_at < self.opened_at && may_be_former {
            return Spoken::Former;
        }
        let Some(known) = self.end else {
            return Spoken::Present(end);
        };
        match known.narrowed(end) {
            Some(narrowed) => Spoken::Present(narrowed),
            None if end.is_after(known) && now >= known.earliest => Spoken::Next,
            None if end.is_after(known) || sent_at >= self.told_end_at => Spoken::Moved,
            None => Spoken::Former,
        }
    }

    /// A request goes to ask, whatever is known.
    pub(super) fn asks(&mut self, now: Instant) {
        self.asked_at = now;
    }

    pub(super) fn reserve(&mut self, now: Instant, requests: u64, cost: u64) {
        if self
            .end
            .is_some_and(|end| after(now, SECOND) >= end.earliest)
        {
            self.carried = self.carried.saturating_add(cost);
        }
        self.share.reserve(now, &mut self.account, cost);
        self.released = self.released.saturating_add(requests);
    }

    pub(super) fn give_back(&mut self, requests: u64, cost: u64) {
        self.account.give_back(cost);
        self.carried = self.carried.saturating_sub(cost);
        self.released = self.released.saturating_sub(requests);
    }

    /// An answer has told when it ends.
    pub(super) fn ends(&mut self, now: Instant, end: End, reset: Duration) {
        let is_same = self.end.is_some_and(|known| known.narrowed(end).is_some());
        if !is_same {
            self.told_end_at = now;
            self.longest[0] = reset;
        }
        self.end = Some(end);
        self.asked_at = now;
        self.longest[0] = self.longest[0].max(reset);
    }

    /// An answer to what was sent at `sent_at` has told what remains.
    pub(super) fn remains(
        &mut self,
        now: Instant,
        sent_at: Instant,
        remaining: u64,
        uncounted: u64,
    ) -> bool {
        let met_others = self.account.tell(remaining, uncounted);
        self.share.heard(now, sent_at, met_others);
        met_others
    }

    /// The same where it is another window than was thought.
    pub(super) fn is_another(&mut self, now: Instant, limit: u64, remaining: u64, uncounted: u64) {
        self.account = self.account.moved(limit, remaining, uncounted);
        self.share = self.share.in_course(now);
        self.carried = 0;
    }
}
