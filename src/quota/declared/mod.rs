//! The limits that the user has declared: kept from the first request on.
//!
//! Each [`Quota`] has an account of its own in each partition: a [`Sliding`] log of what was taken
//! in the last span, or a [`Steady`] bucket where the user says that the server has one. Both allow
//! for the unevenness of the network by a *cushion* that the answers tell ([`Spread`]).
//!
//! A refusal drains accounts of up to [`SHORT`]: the server's was used up at that moment. Nothing
//! else that it says, and nothing that it announces, makes an account fuller.

mod quota;
mod sliding;
mod spread;
mod steady;

pub use quota::Quota;

use super::{Cost, Hold, cost::Unit};
use crate::snapshot::{DimensionSnapshot, Source};
use sliding::Sliding;
use spread::Spread;
use std::{num::NonZeroU64, time::Duration};
use steady::Steady;
use tokio::time::Instant;

/// Accounts of a longer span are not drained: which of several limits has refused is not known, and
/// a mistake would last as long as the span.
const SHORT: Duration = Duration::from_secs(60);

/// The accounts of one partition.
#[derive(Debug, Default)]
pub(super) struct Declared {
    accounts: Vec<Account>,
    spread: Spread,
    /// What was sent before this, and refused, belongs to the refusal that drained the accounts.
    drained_at: Option<Instant>,
}

/// What is left of one quota.
#[derive(Debug)]
struct Account {
    unit: Unit,
    /// A request that costs more than this is larger than the whole limit.
    limit: u64,
    span: Duration,
    kind: Kind,
    /// What the last request that was larger than the limit has taken, and when.
    swallowed: Option<(Instant, u64)>,
}

#[derive(Debug)]
enum Kind {
    Sliding(Sliding),
    Steady(Steady),
}

impl Declared {
    pub(super) fn new(quotas: &[Quota]) -> Self {
        Self {
            accounts: quotas.iter().map(Account::new).collect(),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    pub(super) fn counts_tokens(&self) -> bool {
        self.accounts.iter().any(|a| a.unit == Unit::Tokens)
    }

    /// Whether such a request is larger than a whole limit.
    pub(super) fn is_exceeded_by(&self, cost: Cost) -> bool {
        self.accounts.iter().any(|a| cost.count(a.unit) > a.limit)
    }

    /// Whether all of each quota is there.
    pub(super) fn is_unused(&self, now: Instant) -> bool {
        self.accounts.iter().all(|account| match &account.kind {
            Kind::Sliding(log) => log.is_empty(now),
            Kind::Steady(bucket) => bucket.is_full(now),
        })
    }

    /// What is to be seen of each account.
    pub(super) fn snapshots(&self, now: Instant) -> impl Iterator<Item = DimensionSnapshot> {
        let cushion = self.spread.cushion();
        let accounts = self.accounts.iter();
        accounts.map(move |account| account.snapshot(now, cushion))
    }

    /// When `cost` may be taken after `ahead` was, by each account.
    pub(super) fn opens_at(
        &self,
        now: Instant,
        ahead: Cost,
        cost: Cost,
    ) -> impl Iterator<Item = (Instant, Hold)> {
        let cushion = self.spread.cushion();
        self.accounts.iter().map(move |account| {
            let opens_at = account.opens_at(now, ahead, cost, cushion);
            (opens_at, Hold::Declared(account.unit.name()))
        })
    }

    pub(super) fn reserve(&mut self, now: Instant, cost: Cost) {
        let cushion = self.spread.cushion();
        let accounts = self.accounts.iter_mut();
        accounts.for_each(|account| account.reserve(now, cost, cushion));
    }

    /// What was reserved at `at` will not be sent.
    pub(super) fn give_back(&mut self, at: Instant, cost: Cost) {
        let accounts = self.accounts.iter_mut();
        accounts.for_each(|account| account.give_back(at, cost));
    }

    /// Whether what was reserved at `at` may be sent only now: it counts still, or others have not
    /// taken its place.
    pub(super) fn still_holds(&self, at: Instant, now: Instant, cost: Cost) -> bool {
        let cushion = self.spread.cushion();
        self.accounts.iter().all(|account| {
            account.still_counts(at, now, cushion)
                || account.opens_at(now, Cost::NONE, cost, cushion) <= now
        })
    }

    /// What was reserved at `at` is sent only now, and so the server counts it from now on.
    pub(super) fn sent(&mut self, at: Instant, now: Instant, cost: Cost) {
        if at < now {
            self.give_back(at, cost);
            self.reserve(now, cost);
        }
    }

    /// What was sent at `at` was refused: it has cost a request, and no tokens.
    pub(super) fn unused(&mut self, at: Instant, cost: Cost) {
        let accounts = self.accounts.iter_mut().filter(|a| a.unit == Unit::Tokens);
        accounts.for_each(|account| account.give_back(at, cost));
    }

    /// So many tokens were used besides what was reserved.
    pub(super) fn charge(&mut self, now: Instant, tokens: u64) {
        let accounts = self.accounts.iter_mut().filter(|a| a.unit == Unit::Tokens);
        accounts.for_each(|account| account.take(now, tokens));
    }

    /// What was sent at `at` and was charged with so many tokens has in truth cost so many.
    pub(super) fn settle(&mut self, now: Instant, at: Instant, charged: u64, cost: u64) {
        let accounts = self.accounts.iter_mut().filter(|a| a.unit == Unit::Tokens);
        accounts.for_each(|account| account.settle(now, at, charged, cost));
    }

    /// An answer has come to what was sent then.
    pub(super) fn answered(&mut self, now: Instant, sent_at: Instant) {
        if !self.accounts.is_empty() {
            self.spread.heard(now.saturating_duration_since(sent_at));
        }
    }

    /// A refusal that holds back all until then has come to what was sent at `sent_at`.
    pub(super) fn refused(&mut self, now: Instant, sent_at: Instant, until: Instant) {
        if self.drained_at.is_some_and(|drained| sent_at < drained) {
            return;
        }
        self.drained_at = Some(now);
        for account in self.accounts.iter_mut().filter(|a| a.span <= SHORT) {
            match &mut account.kind {
                Kind::Sliding(log) => log.drain(now, until),
                Kind::Steady(bucket) => bucket.drain(now, until),
            }
        }
    }
}

impl Account {
    fn new(quota: &Quota) -> Self {
        let count = quota.count.get();
        let kind = match quota.burst {
            None => Kind::Sliding(Sliding::new(count, quota.span)),
            Some(burst) => Kind::Steady(Steady::new(count, quota.span, burst.get())),
        };
        Self {
            unit: quota.unit,
            limit: quota.burst.map_or(count, NonZeroU64::get),
            span: quota.span,
            kind,
            swallowed: None,
        }
    }

    fn snapshot(&self, now: Instant, cushion: Duration) -> DimensionSnapshot {
        let (full_at, interval) = match &self.kind {
            Kind::Sliding(log) => (log.empty_at(now, cushion), None),
            Kind::Steady(bucket) => (bucket.full_at(now), Some(bucket.interval())),
        };
        DimensionSnapshot {
            source: Source::Declared,
            hold: Hold::Declared(self.unit.name()),
            limit: self.limit,
            remaining: self.left(now, cushion),
            reset: Some(full_at.saturating_duration_since(now)),
            interval,
            age: None,
        }
    }

    fn opens_at(&self, now: Instant, ahead: Cost, cost: Cost, cushion: Duration) -> Instant {
        let (ahead, units) = (ahead.count(self.unit), cost.count(self.unit));
        // What is larger than the whole limit goes as soon as nothing is overdrawn: the server may
        // know better than our estimate.
        let units = if units > self.limit { 0 } else { units };
        match &self.kind {
            Kind::Sliding(log) => log.opens_at(now, ahead, units, cushion),
            Kind::Steady(bucket) => bucket.opens_at(now, ahead, units, cushion),
        }
    }

    fn reserve(&mut self, now: Instant, cost: Cost, cushion: Duration) {
        let mut units = cost.count(self.unit);
        if units > self.limit {
            units = self.left(now, cushion);
            self.swallowed = Some((now, units));
        }
        self.take(now, units);
    }

    fn give_back(&mut self, at: Instant, cost: Cost) {
        let taken = self.taken(at, cost.count(self.unit));
        self.put_back(at, taken);
    }

    /// What came later is charged now, for that is when the server has come to know.
    fn settle(&mut self, now: Instant, at: Instant, charged: u64, cost: u64) {
        let taken = self.taken(at, charged);
        if cost > taken {
            self.take(now, cost - taken);
        } else {
            self.put_back(at, taken - cost);
        }
    }

    /// What was taken at `at` for a request that was charged with so much; of one that was larger
    /// than the limit, what it swallowed. Nothing, if another such has come since: at the worst it
    /// counts twice.
    fn taken(&mut self, at: Instant, charged: u64) -> u64 {
        if charged <= self.limit {
            return charged;
        }
        let swallowed = self.swallowed.take_if(|swallowed| swallowed.0 == at);
        swallowed.map_or(0, |swallowed| swallowed.1)
    }

    fn still_counts(&self, at: Instant, now: Instant, cushion: Duration) -> bool {
        match &self.kind {
            Kind::Sliding(log) => log.still_counts(at, now, cushion),
            Kind::Steady(bucket) => bucket.still_counts(at, now),
        }
    }

    fn left(&self, now: Instant, cushion: Duration) -> u64 {
        match &self.kind {
            Kind::Sliding(log) => log.left(now, cushion),
            Kind::Steady(bucket) => bucket.left(now, cushion),
        }
    }

    fn put_back(&mut self, at: Instant, units: u64) {
        match &mut self.kind {
            Kind::Sliding(log) => log.put_back(at, units),
            Kind::Steady(bucket) => bucket.put_back(at, units),
        }
    }

    fn take(&mut self, now: Instant, units: u64) {
        match &mut self.kind {
            Kind::Sliding(log) => log.take(now, units),
            Kind::Steady(bucket) => bucket.take(now, units),
        }
    }
}

#[cfg(test)]
mod tests;
