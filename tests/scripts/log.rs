//! What has happened, and what must not have.

use crate::script::{Fate, Says, Script};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// For so long a refusal may be read; who reads is not in line.
const READING: Duration = Duration::from_millis(250);

/// After so many attempts in a row a call may let others go before it, and a refusal of it may be put
/// down to itself.
const MAX_PROBES: u32 = 3;

/// In the order in which it happened.
#[derive(Clone)]
pub(crate) struct Log {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Since the beginning.
    pub(crate) at: Duration,
    /// Which call of the script.
    pub(crate) id: usize,
    pub(crate) event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `call` was called.
    Called,
    /// The service was called.
    Sent,
    /// The layer was told.
    Heard(Says),
    /// The body of an answer is there.
    Read,
    /// The call was answered after so many attempts, as the answer says; an error says nothing.
    Answered(Option<u32>),
    /// The call was given up.
    Dropped,
}

/// A line for each entry.
impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let mut lines = entries.iter();
        lines.try_for_each(|Entry { at, id, event }| write!(f, "\n{at:>12.1?} {id:>3} {event:?}"))
    }
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Arc::default(),
        }
    }

    pub(crate) fn add(&self, id: usize, event: Event) {
        let at = self.began.elapsed();
        self.entries.lock().unwrap().push(Entry { at, id, event });
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, event: Event) -> usize {
        let entries = self.entries();
        entries.iter().filter(|entry| entry.event == event).count()
    }

    /// Whose request was sent when, and what was said to it, if anything was.
    fn sent(&self) -> Vec<(Duration, usize, Option<Says>)> {
        let entries = self.entries();
        let sent = entries.iter().enumerate();
        let sent = sent.filter(|(_, entry)| entry.event == Event::Sent);
        let told = |(place, sent): (usize, &Entry)| {
            let mut later = entries[place..].iter().filter(|entry| entry.id == sent.id);
            let says = later.find_map(|entry| match entry.event {
                Event::Heard(says) => Some(says),
                _ => None,
            });
            (sent.at, sent.id, says)
        };
        sent.map(told).collect()
    }

    /// Nothing is sent before the time that the server asked for; unless it refuses one request again
    /// and again, and serves others that were sent since.
    pub(crate) fn assert_pauses_are_kept(&self) {
        let (mut closed_until, entries) = (Duration::ZERO, self.entries());
        // Of each call how often it was sent, and when it was refused.
        let mut calls: HashMap<usize, (u32, Duration)> = HashMap::new();
        for entry in &entries {
            let (attempts, refused_at) = calls.entry(entry.id).or_default();
            match entry.event {
                Event::Sent => {
                    assert!(
                        entry.at >= closed_until,
                        "sent at {:?}, closed until {closed_until:?}: {self:?}",
                        entry.at
                    );
                    *attempts += 1;
                }
                Event::Heard(says) => {
                    let others = || self.serves_between(*refused_at, entry.at + READING);
                    let is_singled_out = *attempts > MAX_PROBES && others();
                    if let Some(pause) = says.pause().filter(|_| !is_singled_out) {
                        closed_until = closed_until.max(entry.at + pause);
                    }
                    *refused_at = entry.at;
                }
                _ => {}
            }
        }
    }

    /// Whether a request that was sent after `from` was served by `to`.
    fn serves_between(&self, from: Duration, to: Duration) -> bool {
        let mut sent = HashMap::new();
        let entries = self.entries();
        let mut entries = entries.iter().take_while(|entry| entry.at <= to);
        entries.any(|entry| match entry.event {
            Event::Sent => {
                sent.insert(entry.id, entry.at);
                false
            }
            Event::Heard(Says::Ok) => sent.get(&entry.id).is_some_and(|&at| at > from),
            _ => false,
        })
    }

    /// Who is polled and waits is not passed by one that came later, less the head start.
    pub(crate) fn assert_order_is_kept(&self, script: &Script) {
        let entries = self.entries();
        // At the instant at which a refusal is heard or understood one may have gone before, and the
        // one whose turn came first is held back again.
        let pauses = entries.iter().flat_map(|entry| match entry.event {
            Event::Read => vec![entry.at],
            Event::Heard(_) => vec![entry.at, entry.at + READING],
            _ => Vec::new(),
        });
        let pauses: HashSet<_> = pauses.collect();
        // Whose place is known, and since when each of them waits.
        let mut places = HashMap::new();
        let mut waiting: HashMap<usize, Duration> = HashMap::new();
        let mut attempts: HashMap<usize, u32> = HashMap::new();
        // Two that are sent at the same instant have no order; so those who were sent are taken out
        // when time has passed.
        let mut sent: Vec<usize> = Vec::new();
        let mut now = Duration::ZERO;
        for (number, entry) in entries.iter().enumerate() {
            let call = &script.calls[entry.id];
            if entry.at > now {
                now = entry.at;
                sent.clear();
            }
            match entry.event {
                // Who is not polled may be passed, and may use its turn late.
                _ if call.fate != Fate::Polled => {}
                Event::Called => {
                    let arrived = i128::try_from(entry.at.as_millis()).expect("within hours");
                    let head_start = i128::from(call.head_start.0);
                    places.insert(entry.id, (arrived - head_start, number));
                    waiting.insert(entry.id, entry.at);
                }
                Event::Sent => {
                    *attempts.entry(entry.id).or_default() += 1;
                    waiting.remove(&entry.id);
                    sent.push(entry.id);
                }
                Event::Heard(Says::Refused(_)) if attempts[&entry.id] < MAX_PROBES => {
                    waiting.insert(entry.id, entry.at + READING);
                }
                Event::Heard(_) => drop(places.remove(&entry.id)),
                Event::Read => {}
                Event::Answered(_) | Event::Dropped => drop(waiting.remove(&entry.id)),
            }
            // What is still waiting when the instant is over was passed.
            let is_over = entries.get(number + 1).is_none_or(|next| next.at > now);
            if !is_over || pauses.contains(&now) {
                continue;
            }
            for (waits, since) in &waiting {
                let Some(place) = places.get(waits).filter(|_| *since < now) else {
                    continue;
                };
                let passing = sent
                    .iter()
                    .find(|by| places.get(by).is_some_and(|by| by > place));
                assert!(
                    passing.is_none(),
                    "{waits} was passed by {passing:?}: {self:?}"
                );
            }
        }
    }

    /// In no span of this length more than so much was sent, as each request counts.
    pub(crate) fn assert_quota_is_kept(
        &self,
        limit: u64,
        span: Duration,
        count: impl Fn(usize, Option<Says>) -> u64,
    ) {
        let sent = self.sent();
        for (first, &(began, ..)) in sent.iter().enumerate() {
            let within = sent[first..]
                .iter()
                .take_while(|(at, ..)| *at < began + span);
            let counted: u64 = within.map(|&(_, id, says)| count(id, says)).sum();
            assert!(
                counted <= limit,
                "{counted} of {limit} in {span:?} from {began:?}: {self:?}"
            );
        }
    }

    /// Every answer says how often its request was sent.
    pub(crate) fn assert_attempts_are_told(&self) {
        let mut sent: HashMap<usize, u32> = HashMap::new();
        for entry in self.entries() {
            match entry.event {
                Event::Sent => *sent.entry(entry.id).or_default() += 1,
                Event::Answered(Some(told)) => {
                    let sent = sent.get(&entry.id).copied().unwrap_or_default();
                    assert_eq!(told, sent, "{self:?}");
                }
                _ => {}
            }
        }
    }
}
