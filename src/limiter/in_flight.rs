//! What is remembered of each request that is under way, while its call keeps only a number.
//!
//! Many calls wait while few are under way; so those that wait have no room for it.

use crate::quota::Sent;

/// As many places are kept when nothing is under way.
const KEPT: usize = 64;

/// Which of the requests that are under way. It belongs to one of them until that is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(u32);

#[derive(Debug, Default)]
pub(super) struct InFlight {
    places: Vec<Option<Sent>>,
    free: Vec<u32>,
}

impl InFlight {
    #[inline]
    pub(super) fn insert(&mut self, sent: Sent) -> Number {
        let free = self.free.pop();
        let place = free.and_then(|free| self.places.get_mut(free as usize));
        if let (Some(free), Some(place)) = (free, place) {
            *place = Some(sent);
            return Number(free);
        }
        if self.places.is_empty() {
            // Of many partitions the usual first room for four would be a good part of the memory.
            self.places.reserve_exact(1);
        }
        self.places.push(Some(sent));
        // More than memory has room for are never under way.
        Number((self.places.len() - 1) as u32)
    }

    pub(super) fn get(&self, number: Number) -> Option<Sent> {
        *self.places.get(number.0 as usize)?
    }

    #[inline]
    pub(super) fn take(&mut self, number: Number) -> Option<Sent> {
        let sent = self.places.get_mut(number.0 as usize)?.take()?;
        self.free.push(number.0);
        if self.free.len() == self.places.len() && self.places.len() > KEPT {
            *self = Self::default();
        }
        Some(sent)
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}
