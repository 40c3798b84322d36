//! How fast a quota is tried of which nothing is known: slow start.
//!
//! A refusal comes within a round trip ([`Tempo`](super::tempo::Tempo)); what may be refused is
//! what is *undecided*: neither answered nor older than that. So it is the undecided that are
//! bounded, and not what is in flight: a burst opens on the clock of refusals, whatever the pace of
//! answers. The bound begins low. Each request that was served raises it by an eighth, so at the
//! limit an eighth of what was admitted before is refused; behind the first hundred by a quarter.
//! Where answers take so long that none has come yet, they can not be the clock: then each request
//! that proves to be admitted raises it by one, and the burst doubles with each of these spans.
//!
//! After a pause one request goes, and with each that proves to be admitted one more: a server that
//! still refuses is asked once and not a thousand times, and one that serves again has a thousand
//! requests within ten round trips. Where a crowd waits, a share of it goes as soon as one was served.
//! Where nothing else is known than how many were admitted before the refusal, the bound narrows
//! shortly before that number, for it is there that the quota is likely to end, and behind it grows
//! by an eighth again.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// How many may be undecided at first: half of what TCP begins with (RFC 6928).
const FIRST: f64 = 5.0;

/// By how much each request that was served raises the bound, as long as few were; and when so many
/// were that it is more likely that there is no limit at all. A thousand are out after some twenty
/// round trips; a quota of twenty refuses two or three, and one of a thousand two hundred at worst.
const GROWTH: f64 = 0.125;
const FAST_GROWTH: f64 = 0.25;
const MANY: u64 = 100;

/// Near the number at which the quota may end, and just behind it.
const CAREFUL: u64 = 2;

/// One in so many of those who wait may be undecided in any case: that all of them are refused is a
/// small price for all who wait.
const CROWD: u64 = 200;

#[derive(Debug)]
pub(super) struct Opening {
    /// What was sent and may still be refused, in order.
    recent: VecDeque<Recent>,
    /// How many of `recent` are undecided.
    undecided: u64,
    /// Whether the bound has been half used up since nothing was undecided: what nobody has tried
    /// proves nothing.
    is_used: bool,
    /// A share of those who wait.
    crowd: u64,
    /// About what flows in while a refusal is on its way, if that is known.
    flow: u64,
    /// Admissions since the beginning, or since the last refusal.
    admitted: u64,
    aim: Aim,
    /// Of the first of `recent`, and of the first since the last refusal.
    number: u64,
    began: u64,
}

/// What the bound grows towards.
#[derive(Debug)]
enum Aim {
    /// Nothing was refused yet: the bound itself.
    Unknown(f64),
    /// Wide open, as soon as the server serves again.
    Open,
    /// So many, that were admitted before a refusal.
    Expected(u64),
}

#[derive(Debug)]
struct Recent {
    /// When it was sent; until then, no earlier than when it will be.
    at: Instant,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not sent yet, and perhaps never: nobody has asked the server.
    Admitted,
    Sent,
    Decided,
}

/// Which admission it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    number: u64,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            undecided: 0,
            is_used: false,
            crowd: 0,
            flow: 0,
            admitted: 0,
            aim: Aim::Unknown(FIRST),
            number: 0,
            began: 0,
        }
    }
}

impl Opening {
    /// Whether nobody has gone since a pause.
    pub(super) fn is_at_pause(&self) -> bool {
        self.admitted == 0 && self.has_paused()
    }

    /// Whether there has been a pause.
    pub(super) fn has_paused(&self) -> bool {
        !matches!(self.aim, Aim::Unknown(_))
    }

    /// How many have proved to be admitted since the last refusal.
    #[inline]
    pub(super) fn proved(&self) -> u64 {
        self.admitted.saturating_sub(self.undecided)
    }

    /// When the next may go, should no answer come before.
    #[inline]
    pub(super) fn opens_at(&self, refusal_time: Duration) -> Option<Instant> {
        let oldest = self
            .recent
            .front()
            .filter(|_| self.undecided >= self.bound());
        oldest.map(|oldest| super::after(oldest.at, refusal_time))
    }

    /// Time passes: what is old enough is decided.
    #[inline]
    pub(super) fn pass(&mut self, now: Instant, refusal_time: Duration, is_blind: bool) {
        while let Some(oldest) = self.recent.front_mut() {
            if oldest.progress != Progress::Decided {
                if super::after(oldest.at, refusal_time) > now {
                    break;
                }
                if oldest.progress == Progress::Admitted {
                    // Its time begins when it is sent.
                    oldest.at = now;
                    break;
                }
                self.decide(if is_blind { 1.0 } else { self.growth() });
            }
            self.recent.pop_front();
            self.number += 1;
        }
    }

    /// So many wait, and so many flow in while a refusal is on its way.
    #[inline]
    pub(super) fn expect(&mut self, waiting: u64, flow: u64) {
        self.crowd = waiting / CROWD;
        self.flow = flow;
    }

    /// A request is admitted.
    #[inline]
    pub(super) fn reserve(&mut self, now: Instant) -> Step {
        let step = Step {
            number: self.number + self.recent.len() as u64,
        };
        let progress = Progress::Admitted;
        super::push(&mut self.recent, Recent { at: now, progress });
        self.undecided += 1;
        self.admitted += 1;
        self.is_used |= 2 * self.undecided >= self.bound();
        step
    }

    /// It is sent, which may be somewhat later.
    #[inline]
    pub(super) fn sent(&mut self, step: Step, now: Instant) {
        if let Some(recent) = self.recent(step) {
            recent.at = now;
            recent.progress = Progress::Sent;
        }
    }

    /// It was served.
    #[inline]
    pub(super) fn served(&mut self, step: Step) {
        if self.settle(step) {
            self.decide(self.growth());
        }
    }

    /// It was refused, not sent, or nothing will be known of it.
    pub(super) fn failed(&mut self, step: Step) {
        if self.settle(step) {
            self.undecided -= 1;
        }
        // Even if it had counted as admitted for want of an answer.
        if step.number >= self.began {
            self.admitted = self.admitted.saturating_sub(1);
        }
    }

    /// Something better is known now than how many were admitted before.
    pub(super) fn open(&mut self) {
        if matches!(self.aim, Aim::Expected(_)) {
            self.aim = Aim::Open;
        }
    }

    /// A pause begins. If nothing but refusals tells the quota, it is tried anew towards the number
    /// that was `admitted` before.
    pub(super) fn refused(&mut self, admitted: Option<u64>) {
        let number = self.number + self.recent.len() as u64;
        *self = Self {
            aim: admitted.map_or(Aim::Open, Aim::Expected),
            number,
            began: number,
            ..Self::default()
        };
    }

    fn bound(&self) -> u64 {
        let decided = self.proved();
        match self.aim {
            Aim::Unknown(bound) => self.crowd.max(bound as u64),
            Aim::Open if decided == 0 => 1,
            Aim::Open => decided.saturating_add(1).saturating_add(self.flow),
            Aim::Expected(expected) => {
                let left = expected.saturating_sub(self.admitted) / 2;
                let beyond = self.admitted.saturating_sub(expected) as f64 * GROWTH;
                let careful = self.crowd.max(expected / 50).max(CAREFUL);
                let crowd = if decided > 0 { self.crowd / 2 } else { 0 };
                (left.max(careful) + beyond as u64).min(crowd.max(decided + 1))
            }
        }
    }

    fn growth(&self) -> f64 {
        if self.admitted < MANY {
            GROWTH
        } else {
            FAST_GROWTH
        }
    }

    fn decide(&mut self, growth: f64) {
        self.undecided -= 1;
        let is_used = self.is_used;
        self.is_used &= self.undecided > 0;
        if let Aim::Unknown(bound) = &mut self.aim {
            *bound += if is_used { growth } else { 0.0 };
        }
    }

    /// Whether the admission was undecided until now.
    fn settle(&mut self, step: Step) -> bool {
        let recent = self.recent(step).map(|recent| &mut recent.progress);
        let before = recent.map(|progress| std::mem::replace(progress, Progress::Decided));
        before.is_some_and(|progress| progress != Progress::Decided)
    }

    fn recent(&mut self, step: Step) -> Option<&mut Recent> {
        let place = step.number.checked_sub(self.number)?;
        self.recent.get_mut(place as usize)
    }
}

#[cfg(test)]
mod tests;
