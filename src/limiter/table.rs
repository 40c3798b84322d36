//! The partitions that a layer has seen, and no more of them than it is to remember.
//!
//! Whoever comes to a partition that is not there makes room for it: those go first that have
//! nothing to lose ([`Worth`]), and among them those that were used the longest time ago. To find
//! them, all are looked through once for each eighth of them, so that a call costs the same however
//! many partitions there are; on the way to a partition that is there, only its use is noted, and for that
//! calls need not wait for each other.
//!
//! A partition that a call holds stays, or there would be two of it, and the quota would be split.
//! That nobody holds it is certain where the table has the only reference: further ones are made from
//! those that exist, or here, under the table's lock; but for bodies that end, which change nothing
//! that would be kept. The body of an answer holds none: a program may keep it for ever. If its
//! partition is forgotten, so is that the body counts as in flight.

use super::gate::Gate;
use crate::{
    partition::{ByKey, PartitionKey},
    quota::Worth,
    snapshot::Totals,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::time::Instant;

/// One in so many may leave after each search.
const SHARE: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<PartitionKey, Entry, ByKey>,
    /// All uses of all partitions so far.
    uses: AtomicU64,
    /// Who is to leave next, in order, unless used meanwhile: by the number of the last use.
    leaving: VecDeque<(u64, PartitionKey)>,
    /// No search before this use.
    next_search: u64,
    /// What those have counted that had to leave.
    left: Totals,
}

#[derive(Debug)]
struct Entry {
    gate: Arc<Gate>,
    /// The number of its last use.
    used: AtomicU64,
}

impl Table {
    /// The gate of that partition, if it is there.
    pub(super) fn get(&self, key: PartitionKey) -> Option<Arc<Gate>> {
        self.entries.get(&key).map(|entry| Arc::clone(&entry.gate))
    }

    /// The gates of all that are there, and what those have counted that are not any longer.
    pub(super) fn all(&self) -> (Vec<Arc<Gate>>, Totals) {
        let gates = self.entries.values().map(|entry| Arc::clone(&entry.gate));
        (gates.collect(), self.left.clone())
    }

    /// The gate of that partition, if it is there; and it counts as used.
    #[inline]
    pub(super) fn use_known(&self, key: PartitionKey) -> Option<Arc<Gate>> {
        let entry = self.entries.get(&key)?;
        // Who comes to the same again and again writes nothing that others have to read.
        if entry.used() != self.uses.load(Ordering::Relaxed) {
            entry.used.store(self.next_use(), Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.gate))
    }

    /// The gate of that partition; a new one, if it is not there, for which room is made among `max`.
    pub(super) fn use_or_insert(
        &mut self,
        key: PartitionKey,
        max: usize,
        new: impl FnOnce() -> Gate,
    ) -> Arc<Gate> {
        // Another may have been faster.
        if let Some(gate) = self.use_known(key) {
            return gate;
        }
        let used = AtomicU64::new(self.next_use());
        self.make_room(max);
        let gate = Arc::new(new());
        let entry = Entry {
            gate: Arc::clone(&gate),
            used,
        };
        self.entries.insert(key, entry);
        gate
    }

    /// The number of this use. No two are the same, which is all that is asked of their order between
    /// threads.
    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Drops as many as must go for one more; fewer, if the others are held.
    fn make_room(&mut self, max: usize) {
        while self.entries.len() >= max {
            if self.leaving.is_empty() {
                self.search(self.entries.len() + 1 - max);
            }
            let Some((used, key)) = self.leaving.pop_front() else {
                return;
            };
            let entry = self.entries.get(&key);
            if entry.is_some_and(|entry| entry.used() == used && entry.is_free()) {
                if let Some(entry) = self.entries.remove(&key) {
                    entry.gate.add_totals(&mut self.left);
                }
            }
        }
    }

    /// Looks for those that are to leave next: a share of all, if they have nothing to lose, but at
    /// least as many as must go. If they are fewer than that share, there is no further search for as
    /// many uses, and there may be so many too many meanwhile.
    fn search(&mut self, needed: usize) {
        let uses = *self.uses.get_mut();
        if uses < self.next_search {
            return;
        }
        let share = self.entries.len().div_ceil(SHARE);
        let all = self.entries.iter();
        let mut all: Vec<_> = all.map(|(&key, entry)| (entry.used(), key)).collect();
        if share < all.len() {
            all.select_nth_unstable_by_key(share, |&(used, _)| used);
        }
        let (oldest, rest) = all.split_at(share);
        // Looking into each takes far longer than all else; most often an eighth will do.
        let mut free = self.free(oldest);
        if free.iter().any(|(worth, ..)| *worth > Worth::Nothing) || free.len() < share {
            free.extend(self.free(rest));
        }
        // No two have the same last use, so this is an order.
        free.sort_unstable_by_key(|&(worth, used, _)| (worth, used));
        let worthless = free.partition_point(|(worth, ..)| *worth == Worth::Nothing);
        let leaving = free.iter().take(worthless.min(share).max(needed));
        self.leaving = leaving.map(|&(_, used, key)| (used, key)).collect();
        self.next_search = uses + share.saturating_sub(self.leaving.len()) as u64;
    }

    /// Those of these that no call holds, and what would be lost without each.
    fn free(&self, those: &[(u64, PartitionKey)]) -> Vec<(Worth, u64, PartitionKey)> {
        let now = Instant::now();
        let free = those.iter().filter_map(|&(used, key)| {
            let entry = self.entries.get(&key).filter(|entry| entry.is_free())?;
            Some((entry.gate.worth(now), used, key))
        });
        free.collect()
    }
}

impl Entry {
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether no call holds it.
    fn is_free(&self) -> bool {
        Arc::strong_count(&self.gate) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limiter::{Caller, Lesson},
        partition::{Keyed, Partition},
        quota::Refused,
    };
    use std::time::Duration;

    /// A table of at most so many, and its partitions by their numbers.
    struct World {
        table: Table,
        keyed: Keyed,
        max: usize,
    }

    impl World {
        fn new(max: usize) -> Self {
            Self {
                table: Table::default(),
                keyed: Keyed::default(),
                max,
            }
        }

        fn key(&self, number: u32) -> PartitionKey {
            self.keyed.key(&Partition::new(number.to_string()))
        }

        fn get(&mut self, number: u32) -> Arc<Gate> {
            let new = || Gate::new(Partition::new(number.to_string()), &[], &Arc::default());
            self.table.use_or_insert(self.key(number), self.max, new)
        }

        fn len(&self) -> usize {
            self.table.entries.len()
        }

        /// Which of these are there.
        fn known(&self, numbers: impl IntoIterator<Item = u32>) -> Vec<u32> {
            let is_known = |number: &u32| self.table.get(self.key(*number)).is_some();
            numbers.into_iter().filter(is_known).collect()
        }

        /// One request to it is refused for so long, or served.
        fn answer(&mut self, number: u32, wait: Option<Duration>) {
            let (now, mut caller) = (Instant::now(), self.caller(number));
            let Some(wait) = wait else {
                caller.answered(now, &[], Lesson::Served);
                return;
            };
            let until = now + wait;
            caller.refused(now, &[], until);
            let wait = Some(until.saturating_duration_since(now));
            caller.understood(now, Some(Refused { until, wait }));
        }

        /// A call whose request is under way.
        fn caller(&mut self, number: u32) -> Caller {
            let now = Instant::now();
            let (gate, config) = (self.get(number), Arc::default());
            Caller::arrive(gate, config, now, Duration::ZERO, None, 0)
        }
    }

    #[test]
    fn any_number_of_partitions_stays_within_the_bound_and_the_busiest_are_kept() {
        let mut world = World::new(100);
        let busy: Vec<_> = (0..10)
            .map(|number| Arc::downgrade(&world.get(number)))
            .collect();
        for number in 10..20_000 {
            drop(world.get(number));
            if number % 5 == 0 {
                drop(world.get(number / 5 % 10));
            }
            assert!(world.len() <= 100);
        }
        assert_eq!(world.len(), 100);
        assert!(busy.iter().all(|gate| gate.strong_count() == 1));
    }

    #[test]
    fn those_used_the_longest_time_ago_go_first_and_no_more_than_must() {
        let mut world = World::new(20);
        (0..20).for_each(|number| drop(world.get(number)));
        for number in [3, 0, 5] {
            drop(world.get(number));
        }
        for (added, gone) in (20..).zip([1, 2, 4, 6, 7, 8, 9, 10, 11, 12]) {
            assert_eq!(world.known([gone]), [gone]);
            drop(world.get(added));
            assert_eq!((world.known([gone]), world.len()), (vec![], 20));
        }
    }

    #[test]
    fn what_is_used_while_it_is_to_leave_stays() {
        let mut world = World::new(80);
        (0..81).for_each(|number| drop(world.get(number)));
        assert_eq!(world.table.leaving.len(), 9);
        drop(world.get(2));
        (81..100).for_each(|number| drop(world.get(number)));
        assert_eq!(world.known(0..10), [2]);
    }

    #[test]
    fn what_a_call_holds_stays_even_beyond_the_bound() {
        let mut world = World::new(10);
        let held: Vec<_> = (0..30).map(|number| world.get(number)).collect();
        assert_eq!(world.len(), 30);
        for (number, gate) in (0..).zip(&held) {
            assert!(
                Arc::ptr_eq(gate, &world.get(number)),
                "there is one of each"
            );
        }
        drop(held);
        (30..40).for_each(|number| drop(world.get(number)));
        assert_eq!(world.len(), 10);
    }

    #[test]
    fn what_is_held_while_it_is_to_leave_stays() {
        let mut world = World::new(80);
        (0..81).for_each(|number| drop(world.get(number)));
        let held = world.table.get(world.key(2)).unwrap();
        (81..100).for_each(|number| drop(world.get(number)));
        assert!(Arc::ptr_eq(&held, &world.get(2)));
    }

    #[test]
    fn bodies_that_are_kept_hold_nothing() {
        let mut world = World::new(1);
        let gate = Arc::downgrade(&world.get(0));
        let mut caller = world.caller(0);
        let (_, watched) = caller.answered(Instant::now(), &[], Lesson::Streams);
        assert!(watched.is_some());
        drop(caller);
        drop(world.get(1));
        assert_eq!(gate.strong_count(), 0);
        drop(watched);
    }

    #[test]
    fn a_search_that_finds_few_is_not_repeated_for_each_newcomer() {
        let mut world = World::new(0);
        let _held: Vec<_> = (0..8_000).map(|number| world.get(number)).collect();
        let mut searches = 0;
        for number in 8_000..16_000 {
            let before = world.table.next_search;
            drop(world.get(number));
            searches += u32::from(world.table.next_search != before);
        }
        assert!(searches <= 20, "{searches}");
        assert!(world.len() <= 8_000 + 8_000 / 8 + 1, "{}", world.len());
    }

    #[tokio::test(start_paused = true)]
    async fn those_with_something_to_lose_go_last() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        let mut world = World::new(20);
        world.answer(0, Some(hour));
        world.answer(1, Some(second));
        world.answer(2, None);
        tokio::time::advance(2 * second).await;
        (3..40).for_each(|number| drop(world.get(number)));
        assert_eq!(world.known(0..3), [0, 1], "a pause, and one of late");
        for number in 40..80 {
            world.answer(number, Some(second));
            tokio::time::advance(2 * second).await;
        }
        assert_eq!(
            world.known(0..3),
            [0],
            "each has been refused, only one is paused"
        );
        (80..120).for_each(|number| world.answer(number, Some(hour)));
        assert!(
            world.known([0]).is_empty(),
            "all are paused, and it for the longest time"
        );
        assert!(world.len() <= 23, "{}", world.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_budget_that_is_not_full_is_something_to_lose() {
        let mut world = World::new(20);
        let now = Instant::now();
        for number in 0..2 {
            let mut caller = world.caller(number);
            assert!(number == 1 || caller.withdraw(now));
            caller.leave();
        }
        (2..40).for_each(|number| drop(world.get(number)));
        assert_eq!(world.known(0..2), [0]);
        tokio::time::advance(Duration::from_millis(100)).await;
        (40..80).for_each(|number| drop(world.get(number)));
        assert!(world.known([0]).is_empty(), "it is full again");
    }

    #[test]
    fn one_that_is_paused_stays_if_newcomers_can_go() {
        let mut world = World::new(20);
        (0..19).for_each(|number| world.answer(number, Some(Duration::from_secs(3_600))));
        for number in 19..1_000 {
            drop(world.get(number));
            assert!(world.len() <= 23, "{}", world.len());
        }
        assert_eq!(world.known(0..19).len(), 19);
    }
}
