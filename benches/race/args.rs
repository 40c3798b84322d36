//! The command line.

use std::{num::NonZeroUsize, ops::RangeInclusive, path::PathBuf, str::FromStr, thread};

use lexopt::{Arg, Parser, ValueExt};

use crate::{strategy::Strategy, workload::Pace};

pub(crate) const HELP: &str = "\
Races clients against simulated rate-limited servers, in virtual time.

Usage: cargo bench --bench race -- [OPTIONS]

  --only SERVER      a server by its number or a part of its name; may be repeated
  --workload NAME    at-once, closed, poisson-0.9 or poisson-1.5; may be repeated
  --strategy NAME    nothing, backoff, retry-after, openai-python, aws-adaptive,
                     governor, ours or ours-told; may be repeated
  --seeds FIRST-LAST the medians over these seeds are shown
                     [default: 1-5 for ours, 1 for the others]
  --plot FILE.svg    draws the outcomes of the workload at-once
  --random N         races through N random worlds instead; if no strategy is
                     named, with ours alone
  --seed S           the random worlds of this seed [default: 1]
  --world K          of the random worlds, only that of this number, from 0 on
  --trace            prints each request and each answer
  --help             prints this
";

/// What to race.
#[derive(Debug)]
pub(crate) struct Args {
    only: Vec<String>,
    workloads: Vec<Pace>,
    strategies: Vec<String>,
    seeds: Option<RangeInclusive<u64>>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) random: Option<usize>,
    pub(crate) seed: u64,
    pub(crate) world: Option<usize>,
    pub(crate) is_traced: bool,
}

impl Args {
    /// Those that the program was called with; `None` if only help was asked for.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            only: Vec::new(),
            workloads: Vec::new(),
            strategies: Vec::new(),
            seeds: None,
            plot: None,
            random: None,
            seed: 1,
            world: None,
            is_traced: false,
        };
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("only") => args.only.push(parser.value()?.string()?),
                Arg::Long("workload") => {
                    args.workloads
                        .push(parser.value()?.parse_with(Pace::from_str)?);
                }
                Arg::Long("strategy") => {
                    args.strategies.push(parser.value()?.parse_with(strategy)?);
                }
                Arg::Long("seeds") => args.seeds = Some(parser.value()?.parse_with(seeds)?),
                Arg::Long("plot") => args.plot = Some(parser.value()?.into()),
                Arg::Long("random") => args.random = Some(parser.value()?.parse()?),
                Arg::Long("seed") => args.seed = parser.value()?.parse()?,
                Arg::Long("world") => args.world = Some(parser.value()?.parse()?),
                Arg::Long("trace") => args.is_traced = true,
                // Cargo says so to each bench.
                Arg::Long("bench") => {}
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if args.world.is_some() && args.random.is_none() {
            return Err("expected --random beside --world".into());
        }
        Ok(Some(args))
    }

    pub(crate) fn paces(&self) -> &[Pace] {
        match &self.workloads[..] {
            [] => &Pace::ALL,
            asked => asked,
        }
    }

    pub(crate) fn seeds(&self, strategy: &Strategy) -> RangeInclusive<u64> {
        let is_ours = strategy.name.starts_with(Strategy::OURS.name);
        let default = if is_ours { 1..=5 } else { 1..=1 };
        self.seeds.clone().unwrap_or(default)
    }

    /// Whether a strategy is to race against the named servers.
    pub(crate) fn has_strategy(&self, name: &str) -> bool {
        self.strategies.is_empty() || self.asks_for(name)
    }

    /// Whether a strategy is to race in random worlds: only ours if none is asked for.
    pub(crate) fn has_random_strategy(&self, name: &str) -> bool {
        if self.strategies.is_empty() {
            name == Strategy::OURS.name
        } else {
            self.asks_for(name)
        }
    }

    fn asks_for(&self, strategy: &str) -> bool {
        self.strategies.iter().any(|asked| asked == strategy)
    }

    /// How many races run at a time: as many as there are cores; one if it is traced.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        if self.is_traced {
            return NonZeroUsize::MIN;
        }
        thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    /// Whether a server is to be raced against.
    pub(crate) fn has_server(&self, number: usize, name: &str) -> bool {
        let is_meant = |asked: &String| match asked.parse::<usize>() {
            Ok(asked) => asked == number,
            Err(_) => name.contains(asked.as_str()),
        };
        self.only.is_empty() || self.only.iter().any(is_meant)
    }
}

fn strategy(name: &str) -> Result<String, String> {
    let names = Strategy::ALL.map(|strategy| strategy.name);
    if names.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "expected a strategy ({}), found {name:?}",
        names.join(", ")
    ))
}

/// `3` or `1-5`.
fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("expected seeds as 3 or 1-5, found {text:?}")),
    }
}
