//! A list that is usually short.

use std::{fmt, mem};

/// How many items are kept without an allocation: requests, tokens, and those of input and output.
/// Room for more would make every response dearer to read, since it is handed on by value.
const INLINE: usize = 4;

/// What stands at a place that no item has taken: a `Default` that is nobody else's business.
pub(super) trait Vacant {
    const VACANT: Self;
}

/// A list that allocates only for more items than servers usually have dimensions.
///
/// It starts as an empty `Vec`, which costs nothing: most responses have no dimension at all.
#[derive(Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a box would be the allocation to avoid"
)]
pub(super) enum Few<T> {
    /// Not empty; the places from `len` on are vacant.
    Inline {
        len: usize,
        items: [T; INLINE],
    },
    Spilled(Vec<T>),
}

impl<T: Vacant> Few<T> {
    /// Puts `item` before the one at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is larger than the length.
    pub(super) fn insert(&mut self, index: usize, item: T) {
        match self {
            Self::Inline { len, items } if *len < INLINE => {
                items[*len] = item;
                for at in (index..*len).rev() {
                    items.swap(at, at + 1);
                }
                *len += 1;
            }
            Self::Inline { items, .. } => {
                let mut spilled: Vec<T> = items
                    .iter_mut()
                    .map(|item| mem::replace(item, T::VACANT))
                    .collect();
                spilled.insert(index, item);
                *self = Self::Spilled(spilled);
            }
            Self::Spilled(spilled) if spilled.is_empty() => {
                let mut items = [T::VACANT; INLINE];
                items[index] = item;
                *self = Self::Inline { len: 1, items };
            }
            Self::Spilled(spilled) => spilled.insert(index, item),
        }
    }

    /// Keeps the first `len` items.
    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Inline { len: old, items } => {
                let kept = len.min(*old);
                items[kept..*old].fill_with(|| T::VACANT);
                *old = kept;
            }
            Self::Spilled(spilled) => spilled.truncate(len),
        }
    }
}

impl<T> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::Inline { len, items } => &items[..*len],
            Self::Spilled(items) => items,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::Inline { len, items } => &mut items[..*len],
            Self::Spilled(items) => items,
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Spilled(Vec::new())
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

    impl Vacant for usize {
        const VACANT: Self = 0;
    }

    #[test]
    fn the_fifth_item_moves_all() {
        let mut few = Few::default();
        for item in 1..=4 {
            few.insert(0, item);
            assert!(
                matches!(few, Few::Inline { .. }),
                "no allocation for {item}"
            );
        }
        few.insert(1, 5);
        assert_eq!(few.as_slice(), [4, 5, 3, 2, 1]);
        assert_eq!(format!("{few:?}"), "[4, 5, 3, 2, 1]");
    }

    #[test]
    fn lists_are_equal_if_their_items_are() {
        let list = |items: &[usize]| {
            let mut few = Few::default();
            for (at, &item) in items.iter().enumerate() {
                few.insert(at, item);
            }
            few
        };
        let mut spilled = list(&[1, 2, 3, 4, 5]);
        spilled.truncate(2);
        assert_eq!(spilled, list(&[1, 2]), "wherever they are");
        assert_ne!(spilled, list(&[1]));
        assert_ne!(spilled, list(&[1, 3]));
        assert_ne!(list(&[]), list(&[0]));
    }

    proptest! {
        #[test]
        fn it_does_what_a_vec_does(
            steps in prop::collection::vec((0_usize..9, any::<bool>()), 0..24),
        ) {
            let (mut few, mut vec) = (Few::default(), Vec::new());
            for (step, (at, grow)) in steps.into_iter().enumerate() {
                if grow {
                    few.insert(at.min(vec.len()), step);
                    vec.insert(at.min(vec.len()), step);
                } else {
                    few.truncate(at);
                    vec.truncate(at);
                }
                prop_assert_eq!(few.as_slice(), &vec);
                prop_assert_eq!(few.as_mut_slice(), &mut vec);
            }
        }
    }
}
