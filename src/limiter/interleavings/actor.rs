//! Those who meet at a partition, what each of them does there, and what is kept of it.

use super::{
    Caller, Clock, GRACE, Gate, Lesson, Limiter, Look, Partition, Quota, Refused, Rng, SERVICE,
    SPAN, clock::Alarm,
};
use shuttle::rand::thread_rng;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

const TOKENS: u64 = 10;

const HEAD_START: Duration = Duration::from_secs(10);

/// For so long a refusal is read, and for so long it could be.
const READING: Duration = Duration::from_millis(20);
const LONGEST_READING: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Is polled whenever it asks to be, and is served.
    Patient,
    /// The same with a head start.
    Ahead,
    /// Is refused the first time, for all.
    Refused,
    /// Is refused the first time, for all, and has to wait longer itself.
    Rests,
    /// Goes away, wherever it is then.
    Cancelled,
    /// Is not polled for a while, in line or when its turn has come.
    Held,
    /// Its service takes its time to be ready.
    Unready,
    /// No caller: lets time pass while the others are awake.
    Thief,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Since the beginning.
    pub(super) at: Duration,
    kind: Kind,
    /// Whether it waited before.
    waited: bool,
    /// Its call's, in the order of arrival.
    number: u64,
}

/// A partition, and what has happened there.
pub(super) struct Stage {
    gate: Arc<Gate>,
    clock: Arc<Clock>,
    log: Arc<Log>,
}

/// Held for moments in which nothing else happens.
struct Log {
    began: Instant,
    sent: Mutex<Vec<Sent>>,
    /// The end of the last pause of those that are understood.
    closed_until: Mutex<Instant>,
}

impl Stage {
    pub(super) fn new(quotas: &[Quota]) -> Self {
        let gate = Gate::new(Partition::new("test"), quotas, &Arc::default());
        let began = Instant::now();
        Self {
            gate: Arc::new(gate),
            clock: Clock::new(),
            log: Arc::new(Log {
                began,
                sent: Mutex::default(),
                closed_until: Mutex::new(began),
            }),
        }
    }

    /// Lets each of them do what it does, until all have done it.
    pub(super) fn play<const N: usize>(&self, kinds: [Kind; N]) {
        for kind in kinds {
            let (gate, log) = (Arc::clone(&self.gate), Arc::clone(&self.log));
            self.clock.spawn(move |alarm| match kind {
                Kind::Thief => steal(alarm),
                _ => Actor::arrive(kind, &gate, &log, alarm).act(),
            });
        }
        self.clock.join();
    }

    /// Nobody waits, nothing is reserved, and nothing is in flight.
    pub(super) fn assert_over(&self) {
        // Those that were given up in flight count for as long as an answer may take.
        self.clock.pass(Duration::from_secs(3_600));
        let snapshot = self.gate.snapshot();
        let counts = (snapshot.waiting, snapshot.admitted, snapshot.in_flight);
        assert_eq!(counts, (0, 0, 0));
        self.gate.with(|state, _| {
            assert!(state.queue.is_deserted(), "{:?}", state.queue);
            assert!(state.quota.is_idle(), "{:?}", state.quota);
        });
    }

    /// No more than so many were sent in any span.
    pub(super) fn assert_kept(&self, quota: usize) {
        let mut sent: Vec<_> = self.sent().iter().map(|sent| sent.at).collect();
        sent.sort_unstable();
        for (first, beyond) in sent.iter().zip(sent.iter().skip(quota)) {
            assert!(*beyond >= *first + SPAN, "{:?}", self.sent());
        }
    }

    /// After the last pause the next one goes as soon as the one before it is answered.
    pub(super) fn assert_prompt(&self) {
        let reopened = *self.log.closed_until.lock().unwrap() - self.log.began;
        let mut next = reopened;
        for sent in self.sent().iter().filter(|sent| sent.at >= reopened) {
            assert!(sent.at <= next, "{reopened:?} {:?}", self.sent());
            next = sent.at + SERVICE;
        }
    }

    /// Of those who waited, each is sent in its turn: first those with a head start, for nobody came
    /// as much earlier, then by their numbers.
    pub(super) fn assert_in_order(&self) {
        let sent = self.sent();
        let mut waited: Vec<_> = sent.iter().filter(|sent| sent.waited).collect();
        waited.sort_by_key(|sent| sent.at);
        let place = |sent: &Sent| (sent.kind != Kind::Ahead, sent.number);
        let is_in_order = waited.is_sorted_by(|a, b| a.at == b.at || place(a) < place(b));
        assert!(is_in_order, "{sent:?}");
    }

    /// No more time passes between two sendings than this, and none of an unused turn.
    pub(super) fn assert_steady(&self, interval: Duration) {
        let sent = self.sent();
        let gaps = sent.iter().zip(sent.iter().skip(1));
        let mut gaps = gaps.map(|(one, next)| next.at.saturating_sub(one.at));
        assert!(gaps.all(|gap| gap < interval + GRACE), "{sent:?}");
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.log.sent.lock().unwrap().clone()
    }

    pub(super) fn sent_by(&self, kind: Kind) -> impl Iterator<Item = Duration> {
        let sent = self.sent().into_iter();
        sent.filter(move |sent| sent.kind == kind)
            .map(|sent| sent.at)
    }
}

/// Lets time pass, now and then.
fn steal(alarm: &Alarm) {
    for _ in 0..6 {
        let time = thread_rng().gen_range(1..150);
        alarm.clock().pass(Duration::from_millis(time));
        shuttle::thread::yield_now();
    }
}

/// One of the callers.
struct Actor<'a> {
    kind: Kind,
    log: &'a Log,
    alarm: &'a Alarm,
    caller: Caller,
    /// After so many steps it goes away, or is not polled for a while.
    patience: u32,
}

impl<'a> Actor<'a> {
    fn arrive(kind: Kind, gate: &Arc<Gate>, log: &'a Log, alarm: &'a Alarm) -> Self {
        let head_start = match kind {
            Kind::Ahead => HEAD_START,
            _ => Duration::ZERO,
        };
        let (now, closed_until) = (Instant::now(), *log.closed_until.lock().unwrap());
        let caller = Caller::arrive(
            Arc::clone(gate),
            Arc::default(),
            now,
            head_start,
            None,
            TOKENS,
        );
        let patience = match kind {
            Kind::Cancelled | Kind::Held => thread_rng().gen_range(0..4),
            _ => u32::MAX,
        };
        let actor = Self {
            kind,
            log,
            alarm,
            caller,
            patience,
        };
        if actor.caller.is_in_flight() {
            actor.sent(false, now, closed_until);
        }
        actor
    }

    fn act(mut self) {
        if !self.caller.is_in_flight() && !self.wait() {
            return;
        }
        if matches!(self.kind, Kind::Refused | Kind::Rests) {
            self.alarm.oversleep(SERVICE);
            self.be_refused();
            self.wait();
        }
        if self.kind == Kind::Cancelled && self.tires() {
            return;
        }
        self.alarm.oversleep(SERVICE);
        if self.kind == Kind::Cancelled && thread_rng().r#gen() {
            let now = Instant::now();
            let until = now + LONGEST_READING;
            self.caller.refused(now, &[], until);
            return;
        }
        self.caller.answered(Instant::now(), &[], Lesson::Served);
    }

    /// Until it is sent; `false` if it goes away before.
    fn wait(&mut self) -> bool {
        let waker = self.alarm.waker();
        loop {
            if self.tires() {
                return false;
            }
            match self.caller.look(&waker) {
                Look::Again(at) => drop(self.alarm.sleep_until(at)),
                Look::GivenUp(given_up) => panic!("it has the time to wait: {given_up:?}"),
                Look::Admitted => {
                    if self.tires() {
                        return false;
                    }
                    if self.kind == Kind::Unready {
                        let takes = [0, 50, 100, 101, 250][thread_rng().gen_range(0..5)];
                        self.alarm.oversleep(Duration::from_millis(takes));
                    }
                    let (now, closed_until) =
                        (Instant::now(), *self.log.closed_until.lock().unwrap());
                    if self.caller.confirm(now, false).is_some() {
                        self.sent(true, now, closed_until);
                        return true;
                    }
                }
            }
        }
    }

    /// For all, and back in line.
    fn be_refused(&mut self) {
        let now = Instant::now();
        let until = now + LONGEST_READING;
        self.caller.refused(now, &[], until);
        self.alarm.oversleep(READING);
        let now = Instant::now();
        let pause = Duration::from_millis(thread_rng().gen_range(3..6) * 100);
        let refused = Refused {
            until: now + pause,
            wait: Some(pause),
        };
        self.caller.understood(now, Some(refused));
        let mut closed_until = self.log.closed_until.lock().unwrap();
        *closed_until = refused.until.max(*closed_until);
        drop(closed_until);
        let resting = (self.kind == Kind::Rests).then(|| refused.until + pause);
        self.caller.queue_again(now, TOKENS, resting);
    }

    /// Whether it goes away now. One that is to be held is, and then goes on.
    fn tires(&mut self) -> bool {
        let is_tired = self.patience == 0;
        self.patience = self.patience.saturating_sub(1);
        if is_tired && self.kind == Kind::Held {
            let time = thread_rng().gen_range(0..30) * 100;
            self.alarm.oversleep(Duration::from_millis(time));
            self.patience = u32::MAX;
        }
        is_tired && self.kind == Kind::Cancelled
    }

    /// It was sent `now`, and before that step the last pause was `closed_until`.
    fn sent(&self, waited: bool, now: Instant, closed_until: Instant) {
        assert!(closed_until <= now, "sent inside a pause");
        self.log.sent.lock().unwrap().push(Sent {
            at: now - self.log.began,
            kind: self.kind,
            waited,
            number: self.caller.number(),
        });
    }
}

/// Threads that use three partitions of which one may be kept, and one that looks at them; how many
/// calls there will be.
pub(super) fn visit(limiter: &Arc<Limiter>, clock: &Arc<Clock>, threads: u64) -> u64 {
    const CALLS: u64 = 4;
    let visits = Arc::new(Visits::default());
    for _ in 0..threads {
        let (limiter, visits) = (Arc::clone(limiter), Arc::clone(&visits));
        clock.spawn(move |_| (0..CALLS).for_each(|_| visits.call(&limiter)));
    }
    let limiter = Arc::clone(limiter);
    clock.spawn(move |_| (0..CALLS).for_each(|_| visits.look(&limiter)));
    threads * CALLS
}

#[derive(Default)]
struct Visits {
    /// Who holds which gate of each partition: its address, and by how many.
    held: Mutex<HashMap<u32, (usize, u32)>>,
    begun: AtomicU64,
    counted: AtomicU64,
}

impl Visits {
    fn call(&self, limiter: &Limiter) {
        let name = thread_rng().gen_range(0..3_u32);
        let partition = Partition::new(name.to_string());
        let key = limiter.keyed.key(&partition);
        let new = || Gate::new(partition, &[], &Arc::default());
        let gate = limiter.use_or_insert(key, 1, new);
        let address = Arc::as_ptr(&gate) as usize;
        {
            let mut held = self.held.lock().unwrap();
            let known = held.entry(name).or_insert((address, 0));
            assert_eq!(known.0, address, "there are two of a partition");
            known.1 += 1;
        }
        self.begun.fetch_add(1, Relaxed);
        let mut caller = Caller::arrive(
            gate,
            Arc::default(),
            Instant::now(),
            Duration::ZERO,
            None,
            TOKENS,
        );
        self.counted.fetch_add(1, Relaxed);
        caller.answered(Instant::now(), &[], Lesson::Served);
        {
            let mut held = self.held.lock().unwrap();
            let known = held.get_mut(&name).expect("it is held by this thread");
            known.1 -= 1;
            if known.1 == 0 {
                held.remove(&name);
            }
        }
        drop(caller);
    }

    fn look(&self, limiter: &Limiter) {
        let least = self.counted.load(Relaxed);
        let calls = limiter.snapshot().totals().calls();
        let most = self.begun.load(Relaxed);
        assert!(
            (least..=most).contains(&calls),
            "{calls} of {least} to {most}"
        );
    }
}
