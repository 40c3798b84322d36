//! A race of client strategies against simulated rate-limited servers.
//!
//! It runs in virtual time: hours pass in seconds, and one seed has one outcome, bit for bit, but
//! for the CPU time. The yardstick is an ideal server that lets wait whom others refuse: no client
//! can be faster than that.
//!
//! Run with `cargo bench --bench race`; `-- --help` tells what else there is.

mod args;
mod named;
mod oracle;
mod outcome;
mod parallel;
mod random;
mod records;
mod run;
mod strategy;
mod table;
mod wire;
mod workload;
mod world;

use std::{ops::RangeInclusive, process::ExitCode, sync::Arc};

use args::Args;
use outcome::Outcome;
use strategy::Strategy;
use workload::{Pace, Workload};

fn main() -> ExitCode {
    match Args::parse() {
        Ok(Some(args)) => {
            match args.random {
                Some(worlds) => random::race(&args, worlds),
                None => race(&args),
            }
            ExitCode::SUCCESS
        }
        Ok(None) => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{}", args::HELP);
            ExitCode::FAILURE
        }
    }
}

/// One row of a table.
struct Entry {
    pace: Pace,
    /// The place of the server among all.
    server: usize,
    strategy: Strategy,
    seeds: RangeInclusive<u64>,
}

/// Against the named servers.
fn race(args: &Args) {
    let mut head = None;
    let done = |entry: &Entry, (name, outcome): (String, Outcome)| {
        if head.replace(entry.pace) != Some(entry.pace) {
            table::print_head(&entry.pace.name());
        }
        let server = format!("{} {name}", entry.server + 1);
        table::print_outcome(&server, entry.strategy.name, &outcome);
    };
    let entries = entries(args);
    parallel::in_order(args.threads(), &entries, |entry| median(entry, args), done);
}

fn entries(args: &Args) -> Vec<Entry> {
    let mut entries = Vec::new();
    for &pace in args.paces() {
        for (server, world) in named::worlds().iter().enumerate() {
            if !args.has_server(server + 1, &world.name) {
                continue;
            }
            for strategy in Strategy::ALL {
                if args.has_strategy(strategy.name) {
                    entries.push(Entry {
                        pace,
                        server,
                        seeds: args.seeds(&strategy),
                        strategy,
                    });
                }
            }
        }
    }
    entries
}

/// The name of the server, and the median outcome of all seeds.
fn median(entry: &Entry, args: &Args) -> (String, Outcome) {
    let world = named::worlds().swap_remove(entry.server);
    let outcomes = entry.seeds.clone().map(|seed| {
        let workload = Arc::new(Workload::new(&world, entry.pace, seed));
        let ideal = oracle::ideal(&world, &workload, seed);
        let strategy = &entry.strategy;
        run::run(&world, &workload, strategy, seed, ideal, args.is_traced)
    });
    let outcome = Outcome::median(&outcomes.collect::<Vec<_>>());
    (world.name, outcome)
}
