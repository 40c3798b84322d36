//! A list that is usually short.

use std::{fmt, mem};

/// How many items are kept without an allocation: requests and tokens, each per minute and per day.
const INLINE: usize = 4;

/// A list that allocates only for more items than servers usually have dimensions.
#[derive(Clone, Default)]
pub(super) struct Few<T> {
    len: usize,
    /// All items, while they are few; those from `len` on are defaults.
    inline: [T; INLINE],
    /// All items, once they are many.
    spilled: Vec<T>,
}

impl<T: Default> Few<T> {
    pub(super) fn push(&mut self, item: T) {
        self.insert(self.as_slice().len(), item);
    }

    /// Puts `item` before the one at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is larger than the length.
    pub(super) fn insert(&mut self, index: usize, item: T) {
        if self.spilled.is_empty() && self.len < INLINE {
            self.inline[self.len] = item;
            for at in (index..self.len).rev() {
                self.inline.swap(at, at + 1);
            }
            self.len += 1;
            return;
        }
        if self.spilled.is_empty() {
            self.spilled.extend(self.inline.iter_mut().map(mem::take));
            self.len = 0;
        }
        self.spilled.insert(index, item);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.spilled.pop().or_else(|| {
            self.len = self.len.checked_sub(1)?;
            Some(mem::take(&mut self.inline[self.len]))
        })
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        if self.spilled.is_empty() {
            &mut self.inline[..self.len]
        } else {
            &mut self.spilled
        }
    }
}

impl<T> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        if self.spilled.is_empty() {
            &self.inline[..self.len]
        } else {
            &self.spilled
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Eq> Eq for Few<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fifth_item_moves_all() {
        let mut few = Few::default();
        for item in 1..=4 {
            few.push(item);
            assert_eq!(few.spilled.capacity(), 0, "no allocation for {item}");
        }
        few.push(5);
        assert_eq!(few.as_slice(), [1, 2, 3, 4, 5]);
        assert_eq!(format!("{few:?}"), "[1, 2, 3, 4, 5]");
    }

    proptest! {
        #[test]
        fn it_does_what_a_vec_does(steps in prop::collection::vec((0_usize..8, any::<bool>()), 0..24)) {
            let (mut few, mut vec) = (Few::default(), Vec::new());
            for (step, (at, grow)) in steps.into_iter().enumerate() {
                if grow {
                    few.insert(at.min(vec.len()), step);
                    vec.insert(at.min(vec.len()), step);
                } else {
                    prop_assert_eq!(few.pop(), vec.pop());
                }
                prop_assert_eq!(few.as_slice(), &vec);
                prop_assert_eq!(few.as_mut_slice(), &mut vec);
            }
        }
    }
}
