//! The window that is on, and the next one that follows it.
//!
//! An answer takes a while: the service may be slow, and requests overtake each other. So it may
//! speak of the window that is on, or still of the one before, or already of the next: its request
//! was counted at some instant between its sending and its answer. Windows are as long as the
//! longest reset told, at the least. Where that does not decide which window it is, nothing is taken
//! from the answer that would be wrong of another; and what was sent when the next window may
//! already have begun is taken to count in both.

use super::{
    account::Account,
    after,
    end::{End, SECOND},
    share::Share,
    tempo::UNMEASURED,
    told::Told,
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
    /// `None` if it was opened by the clock and no answer has spoken of it yet.
    end: Option<End>,
    /// When the answer came by which it ends no earlier.
    earliest_told_at: Instant,
    /// When an answer last spoke of it, or a request went to ask.
    asked_at: Instant,
    /// The longest reset told of this window, and of the one before.
    longest: [Duration; 2],
    /// The longest reset that any answer has told, since the first window that the clock opened was
    /// spoken of; `None` until then, and after the window proved to be another. What no answer speaks
    /// of is taken to last so long.
    span: Option<Duration>,
    /// How many requests were sent in it.
    released: u64,
    /// How long a request is on its way at most.
    on_the_way: Duration,
    /// What may arrive when the next one has already begun.
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
    /// Perhaps this one, and perhaps the one before or the next.
    Unclear,
}

impl Present {
    /// A window that is first heard of in its course.
    pub(super) fn met(told: &Told, end: End) -> Self {
        let own = told.uncounted.saturating_add(told.used());
        let limit = told.limit_from(0);
        Self {
            account: Account::met(limit, told.remaining, own, told.uncounted),
            share: Share::unknown(told.now, told.sent_at),
            opened_at: told.now,
            end: Some(end),
            earliest_told_at: told.now,
            asked_at: told.now,
            longest: [told.reset, Duration::ZERO],
            span: None,
            released: 0,
            on_the_way: told.on_the_way,
            carried: 0,
        }
    }

    /// The window after this one. What was sent before may count there: `own` for certain.
    pub(super) fn next(&self, opened_at: Instant, own: u64) -> Self {
        let (carried, longest) = match self.end {
            Some(_) => (self.carried, [Duration::ZERO, self.longest[0]]),
            // All that was sent in it was sent longer ago than it lasts.
            None => (0, self.longest),
        };
        Self {
            account: self.account.next(carried.max(own)),
            share: self.share.next(&self.account, opened_at, self.length()),
            opened_at,
            end: None,
            longest,
            released: 0,
            carried: 0,
            ..*self
        }
    }

    /// The window that is on by then, as far as is known now.
    pub(super) fn at(&self, now: Instant) -> Self {
        match self.over_at(now) {
            Some(over_at) => self.next(over_at, 0),
            None => *self,
        }
    }

    /// When it ended for certain, if it has.
    pub(super) fn over_at(&self, now: Instant) -> Option<Instant> {
        self.ends_at().filter(|&ends_at| ends_at <= now)
    }

    /// When it ends at the latest, if that is known.
    fn ends_at(&self) -> Option<Instant> {
        if let Some(end) = self.end {
            return Some(end.latest);
        }
        let span = self.span.filter(|_| self.released > 0)?.max(SECOND);
        let last_arrived_at = after(self.share.sent_at(), self.on_the_way);
        Some(after(last_arrived_at, span))
    }

    pub(super) fn is_opened_at(&self, at: Instant) -> bool {
        self.opened_at == at
    }

    /// Whether it was on by then.
    pub(super) fn is_opened_by(&self, at: Instant) -> bool {
        self.opened_at <= at
    }

    /// Whether an answer has told when it ends.
    pub(super) fn is_told(&self) -> bool {
        self.end.is_some()
    }

    /// When it ends at the latest, or it is time to ask.
    pub(super) fn shut_until(&self) -> Instant {
        if let Some(ends_at) = self.ends_at() {
            return ends_at.min(after(self.asked_at, BELIEVED));
        }
        let since = self.asked_at.max(self.opened_at);
        let will_be_told = self.account.unheard() > 0;
        let least = if will_be_told { UNTOLD } else { SECOND };
        after(since, self.length().clamp(least, BELIEVED))
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

    /// Whether the window before this one was not over when this one was opened by the clock, by the
    /// answer to a request that was sent since then.
    pub(super) fn opened_too_early(&self, sent_at: Instant, end: End) -> bool {
        let opened_by_clock = self.end.is_none() && sent_at >= self.opened_at;
        opened_by_clock && end.latest < after(self.opened_at, SECOND)
    }

    /// Which window it is whose end has been told.
    pub(super) fn spoken_of(&self, told: &Told, end: End) -> Spoken {
        let sent_at = told.sent_at;
        let Some(known) = self.end else {
            let may_be_former = sent_at < self.opened_at && end.earliest <= self.opened_at;
            return if may_be_former {
                Spoken::Unclear
            } else {
                Spoken::Present(end)
            };
        };
        let former_end = known.latest.checked_sub(self.length());
        let next_end = after(known.earliest, self.length());
        let may_be_former = former_end.is_some_and(|at| sent_at < at && end.earliest <= at);
        let may_be_over = told.now >= known.earliest;
        let may_be_next = may_be_over && end.latest >= next_end;
        match known.narrowed(end) {
            Some(_) if may_be_former => Spoken::Unclear,
            Some(_)
                if may_be_next && end.is_vague(self.length()) && !known.is_vague(self.length()) =>
            {
                Spoken::Unclear
            }
            // Be it this one or the next, that is when it ends.
            Some(_) if may_be_next => Spoken::Present(end),
            Some(narrowed) => Spoken::Present(narrowed),
            None if may_be_former => Spoken::Former,
            None if end.is_after(known) && may_be_over => Spoken::Next,
            None if end.is_after(known) || sent_at >= self.earliest_told_at => Spoken::Moved,
            None => Spoken::Former,
        }
    }

    /// A request goes to ask, whatever is known.
    pub(super) fn asks(&mut self, now: Instant) {
        self.asked_at = now;
    }

    pub(super) fn reserve(&mut self, now: Instant, requests: u64, cost: u64) {
        if self.end.is_none() && self.released == 0 {
            // However long ago the clock has opened it: nobody could answer before.
            self.asks(now);
        }
        let arrives_at = after(now, self.on_the_way);
        if self.end.is_none_or(|end| arrives_at > end.earliest) {
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

    /// An answer speaks of some window: of whichever, for they all last as long.
    pub(super) fn hear(&mut self, told: &Told) {
        self.span = self.span.map(|span| span.max(told.reset));
    }

    /// An answer has told when it ends.
    pub(super) fn tell_end(&mut self, told: &Told, end: End) {
        let is_same = self.end.is_some_and(|known| known.narrowed(end).is_some());
        if !is_same {
            self.longest[0] = told.reset;
        }
        if self.end.is_none_or(|known| known.earliest != end.earliest) {
            self.earliest_told_at = told.now;
        }
        if after(self.share.sent_at(), told.on_the_way) <= end.earliest {
            self.carried = 0;
        }
        self.on_the_way = told.on_the_way;
        self.asked_at = told.now;
        self.longest[0] = self.longest[0].max(told.reset);
        if self.end.is_none() && self.span.is_none() {
            self.span = Some(self.length());
        }
        self.end = Some(end);
    }

    /// An answer has told what remains. Whether others must have used more of it than was known.
    pub(super) fn tell_remaining(&mut self, told: &Told) -> bool {
        if told.is_refused {
            self.account.refuse(told.cost);
            self.carried = self.carried.saturating_sub(told.cost);
        }
        let met_others = self.account.tell(told.remaining, told.uncounted);
        if let Some(unseen) = self.account.unseen() {
            self.carried = self.carried.min(unseen);
        }
        self.share.heard(told.now, told.sent_at, met_others);
        met_others
    }

    /// An answer has told of another window, and perhaps `unclear` of what is used of this one.
    pub(super) fn hear_of_another(&mut self, told: &Told, unclear: u64) {
        self.account.hear(told.uncounted, unclear);
    }

    /// This is not the window it was thought to be. What is used of it was used by us and by others as
    /// before; as in the window before, if it `is_former`.
    pub(super) fn meet_anew(&mut self, told: &Told, limit: u64, is_former: bool) {
        let own = self.account.ratio().filter(|_| !is_former);
        let ratio = own.unwrap_or(self.share.ratio());
        self.account = Account::met_by(ratio, limit, told.remaining, told.uncounted);
        self.share = self.share.in_course(told.now);
        self.span = None;
        self.carried = 0;
    }
}
