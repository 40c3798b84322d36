//! Who calls, when, for what, and how patiently.

use std::{str::FromStr, time::Duration};

use fastrand::Rng;

use crate::world::{World, mixed};

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// All at once.
    AtOnce,
    /// By 64 workers, each of which makes the next call when it has an answer.
    Closed,
    /// At random, at this share of the rate that the server can serve for long.
    Poisson(f64),
}

impl Pace {
    pub(crate) const ALL: [Self; 4] = [
        Self::AtOnce,
        Self::Closed,
        Self::Poisson(0.9),
        Self::Poisson(1.5),
    ];
    pub(crate) const WORKERS: usize = 64;

    pub(crate) fn name(self) -> String {
        match self {
            Self::AtOnce => "at-once".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Poisson(ratio) => format!("poisson-{ratio}"),
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name);
        let at = names.iter().position(|known| known == name);
        at.map(|at| Self::ALL[at])
            .ok_or_else(|| format!("expected a workload ({}), found {name:?}", names.join(", ")))
    }
}

/// All calls of a race, in order of their arrival.
pub(crate) struct Workload {
    pub(crate) pace: Pace,
    pub(crate) calls: Vec<Call>,
}

/// One call, as it is planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When it is made, counted from the beginning; in a closed loop, when a worker is free.
    pub(crate) at: Duration,
    pub(crate) key: usize,
    pub(crate) process: usize,
    pub(crate) tokens: u32,
    pub(crate) patience: Patience,
    /// Whether it can succeed at all.
    pub(crate) is_possible: bool,
}

/// When a caller gives up by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Endless,
    /// So long after its call, sent or not.
    SinceCall(Duration),
    /// So long after the first attempt was sent.
    SinceSending(Duration),
}

impl Call {
    /// Whether it is one of those that all is measured by.
    pub(crate) fn counts(&self) -> bool {
        self.is_possible && self.patience == Patience::Endless
    }
}

impl Workload {
    /// The calls of patient callers, dealt out to the processes in turn, all with the first key.
    pub(crate) fn new(world: &World, pace: Pace, seed: u64) -> Self {
        let mut rng = Rng::with_seed(mixed(seed));
        let mut at = 0.0;
        let calls = (0..world.requests).map(|number| {
            let progress = number as f64 / world.requests as f64;
            let tokens = (world.tokens)(&mut rng, progress);
            if let Pace::Poisson(ratio) = pace {
                at -= (1.0 - rng.f64()).ln() / (ratio * world.rate);
            }
            Call {
                at: Duration::from_millis((at * 1_000.0) as u64),
                key: 0,
                process: number % world.processes,
                tokens,
                patience: Patience::Endless,
                is_possible: true,
            }
        });
        Self {
            calls: calls.collect(),
            pace,
        }
    }
}
