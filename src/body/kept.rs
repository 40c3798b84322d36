//! The data frames that are kept to be sent again.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

/// Data frames in their order. The first one lies inline, as most bodies have no other: keeping one
/// allocates nothing.
#[derive(Default)]
pub(super) struct Kept {
    first: Option<Bytes>,
    more: VecDeque<Bytes>,
    bytes: usize,
}

impl Kept {
    pub(super) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(frame);
        } else {
            self.more.push_back(frame);
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&Bytes> {
        match &self.first {
            None => self.more.get(index),
            Some(first) if index == 0 => Some(first),
            Some(_) => self.more.get(index - 1),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<Bytes> {
        let frame = self.first.take().or_else(|| self.more.pop_front())?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Takes the first `count` frames out.
    pub(super) fn take_front(&mut self, count: usize) -> Self {
        let mut front = Self::default();
        for frame in (0..count).map_while(|_| self.pop_front()) {
            front.push(frame);
        }
        front
    }

    /// Number of frames.
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Number of bytes in all frames.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Joins all frames into one, with a copy if there are several. Returns that one, and the
    /// frames that it replaces.
    pub(super) fn join(&mut self) -> (Bytes, Self) {
        if self.len() <= 1 {
            return (self.get(0).cloned().unwrap_or_default(), Self::default());
        }
        let mut joined = Vec::with_capacity(self.bytes);
        for frame in self.first.iter().chain(&self.more) {
            joined.extend_from_slice(frame);
        }
        let joined = Bytes::from(joined);
        let mut kept = Self::default();
        kept.push(joined.clone());
        (joined, mem::replace(self, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_stay_in_their_order() {
        let mut kept = Kept::default();
        for frame in ["a", "bc", "d"] {
            kept.push(frame.into());
        }
        let front = kept.take_front(1);
        kept.push("e".into());
        assert_eq!((front.len(), front.bytes()), (1, 1));
        assert_eq!((kept.len(), kept.bytes()), (3, 4));
        assert_eq!(kept.get(0).unwrap(), "bc");
        assert_eq!(kept.get(2).unwrap(), "e");
        assert_eq!(kept.get(3), None);

        let (joined, replaced) = kept.join();
        assert_eq!(joined, "bcde");
        assert_eq!((replaced.len(), kept.len(), kept.bytes()), (3, 1, 4));
        assert_eq!(kept.pop_front().unwrap(), "bcde");
        assert_eq!(kept.pop_front(), None);
    }
}
