//! Admissions that are not used yet. Each lapses if that takes too long.

use super::queue::{GRACE, Ticket};
use crate::quota::{Model, Reserved, after};
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

#[derive(Debug)]
struct Admission {
    reserved: Reserved,
    lapses_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Admissions {
    unused: BTreeMap<Ticket, Admission>,
    /// In order when each of them lapses; those that were used are still named.
    lapses: VecDeque<(Instant, Ticket)>,
}

impl Admissions {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.unused.is_empty()
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.unused.len()
    }

    /// How many of them have lapsed, and are still here because nobody was polled since.
    pub(super) fn lapsed(&self, now: Instant) -> usize {
        let lapses = self.lapses.iter().take_while(|(at, _)| *at <= now);
        let is_unused = |&&(at, ticket): &&(Instant, Ticket)| self.unused(at, ticket).is_some();
        lapses.filter(is_unused).count()
    }

    pub(super) fn contains(&self, ticket: Ticket) -> bool {
        self.unused.contains_key(&ticket)
    }

    /// Whose admission is the oldest in the order of arrival.
    pub(super) fn first(&self) -> Option<Ticket> {
        self.unused.keys().next().copied()
    }

    pub(super) fn grant(&mut self, ticket: Ticket, reserved: Reserved, now: Instant) {
        let lapses_at = after(now, GRACE);
        self.unused.insert(
            ticket,
            Admission {
                reserved,
                lapses_at,
            },
        );
        self.lapses.push_back((lapses_at, ticket));
    }

    /// Takes an admission, if it is still there.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Reserved> {
        let admission = self.unused.remove(&ticket)?;
        Some(admission.reserved)
    }

    /// When the next of them lapses.
    pub(super) fn next_lapse(&self) -> Option<Instant> {
        self.lapses.front().map(|&(at, _)| at)
    }

    /// Puts back what was reserved for those that were not used in time; whether there were any.
    #[inline]
    pub(super) fn lapse(&mut self, quota: &mut Model, now: Instant) -> bool {
        let mut lapsed = false;
        while let Some(&(at, ticket)) = self.lapses.front() {
            let unused = self.unused(at, ticket);
            if unused.is_some() && at > now {
                break;
            }
            self.lapses.pop_front();
            if let Some(reserved) = unused {
                self.unused.remove(&ticket);
                quota.give_back(reserved);
                lapsed = true;
            }
        }
        lapsed
    }

    /// What is reserved for the one that lapses then, if it is still unused.
    fn unused(&self, lapses_at: Instant, ticket: Ticket) -> Option<Reserved> {
        // The same caller may have been admitted again since.
        let admission = self.unused.get(&ticket);
        let admission = admission.filter(|unused| unused.lapses_at == lapses_at);
        admission.map(|admission| admission.reserved)
    }
}
