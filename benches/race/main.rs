//! A race of client strategies against simulated rate-limited servers.
//!
//! It runs in virtual time: hours pass in seconds, and one seed has one outcome, bit for bit, but
//! for the CPU time. The yardstick is an ideal server that lets wait whom others refuse: no client
//! can be faster than that.
//!
//! Run with `cargo bench --bench race`; `-- --help` tells what else there is. The columns:
//!
//! - *succeeded*: the calls that ended with a success.
//! - *time/ideal*: the time until the last success, over that of the ideal server; or why it was
//!   not reached: some calls starved (their client gave up, or fifty times the ideal time and ten
//!   minutes had passed), or so many requests were sent that the race was stopped.
//! - *sent*, *429s*: the requests that the network saw, and those of them that were refused, for
//!   each success.
//! - *p50*, *p99*, *longest*: how long the calls took that succeeded.
//! - *order kept*: the share of first attempts that left in the order of their calls.
//! - *CPU*: the time of the thread, for all of it: client, network and server.

mod args;
mod named;
mod oracle;
mod outcome;
mod parallel;
mod plot;
mod random;
mod records;
mod run;
mod strategy;
mod table;
mod wire;
mod workload;
mod world;

use std::{error::Error, ops::RangeInclusive, process::ExitCode, sync::Arc};

use args::Args;
use outcome::Outcome;
use strategy::Strategy;
use table::Row;
use workload::{Pace, Workload};

fn main() -> ExitCode {
    match Args::parse().map_err(Box::from).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\n\n{}", args::HELP);
            ExitCode::FAILURE
        }
    }
}

fn run(args: Option<Args>) -> Result<(), Box<dyn Error>> {
    let Some(args) = args else {
        print!("{}", args::HELP);
        return Ok(());
    };
    match args.random {
        Some(worlds) => {
            random::race(&args, worlds);
            Ok(())
        }
        None => race(&args),
    }
}

/// What becomes one row of a table.
struct Entry {
    pace: Pace,
    /// The place of the server among all.
    server: usize,
    strategy: Strategy,
    seeds: RangeInclusive<u64>,
}

/// Against the named servers.
fn race(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut head = None;
    let mut at_once = Vec::new();
    let done = |entry: &Entry, row: Row| {
        if head.replace(entry.pace) != Some(entry.pace) {
            table::print_head(&entry.pace.name());
        }
        table::print_row(&row);
        if entry.pace == Pace::AtOnce {
            at_once.push(row);
        }
    };
    let entries = entries(args);
    parallel::in_order(args.threads(), &entries, |entry| median(entry, args), done);
    if !at_once.is_empty() {
        table::print_summary(&at_once);
    }
    match &args.plot {
        Some(file) => Ok(plot::draw(file, &at_once)?),
        None => Ok(()),
    }
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

/// The median outcome of all seeds.
fn median(entry: &Entry, args: &Args) -> Row {
    let world = named::worlds().swap_remove(entry.server);
    let outcomes = entry.seeds.clone().map(|seed| {
        let workload = Arc::new(Workload::new(&world, entry.pace, seed));
        let ideal = oracle::ideal(&world, &workload, seed);
        let strategy = &entry.strategy;
        run::run(&world, &workload, strategy, seed, ideal, args.is_traced)
    });
    Row {
        server: format!("{} {}", entry.server + 1, world.name),
        strategy: entry.strategy.name,
        outcome: Outcome::median(&outcomes.collect::<Vec<_>>()),
    }
}
