//! The command line.

use std::{ops::RangeInclusive, str::FromStr};

use lexopt::{Arg, Parser, ValueExt};

use crate::workload::Pace;

pub(crate) const HELP: &str = "\
Races clients against simulated rate-limited servers, in virtual time.

Usage: cargo bench --bench race -- [OPTIONS]

  --only SERVER      a server by its number or a part of its name; may be repeated
  --workload NAME    at-once, closed, poisson-0.9 or poisson-1.5; may be repeated
  --strategy NAME    one of those who race; may be repeated
  --seeds FIRST-LAST the medians over these seeds are shown [default: 1-5]
  --random N         races through N random worlds instead
  --seed S           the random worlds of this seed [default: 1]
  --world K          of the random worlds, only that of this number
  --trace            prints each request and each answer
  --help             prints this
";

/// What to race.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) only: Vec<String>,
    pub(crate) workloads: Vec<Pace>,
    pub(crate) strategies: Vec<String>,
    pub(crate) seeds: RangeInclusive<u64>,
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
            seeds: 1..=5,
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
                Arg::Long("strategy") => args.strategies.push(parser.value()?.string()?),
                Arg::Long("seeds") => args.seeds = parser.value()?.parse_with(seeds)?,
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
        Ok(Some(args))
    }

    /// Whether a strategy is to race.
    pub(crate) fn has_strategy(&self, name: &str) -> bool {
        self.strategies.is_empty() || self.strategies.iter().any(|asked| asked == name)
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

/// `3` or `1-5`.
fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("expected seeds as 3 or 1-5, found {text:?}")),
    }
}
