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
mod random;
mod records;
mod run;
mod strategy;
mod table;
mod wire;
mod workload;
mod world;

use std::{process::ExitCode, sync::Arc};

use args::Args;
use outcome::Outcome;
use strategy::Strategy;
use workload::{Pace, Workload};
use world::World;

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

/// Against the named servers.
fn race(args: &Args) {
    let paces = match &args.workloads[..] {
        [] => &Pace::ALL,
        asked => asked,
    };
    for pace in paces {
        table::print_head(&pace.name());
        for (number, world) in (1..).zip(named::worlds()) {
            if !args.has_server(number, &world.name) {
                continue;
            }
            let strategies = Strategy::ALL.iter();
            for strategy in strategies.filter(|strategy| args.has_strategy(strategy.name)) {
                let outcome = median(&world, *pace, strategy, args);
                let server = format!("{number} {}", world.name);
                table::print_outcome(&server, strategy.name, &outcome);
            }
        }
    }
}

/// Of all seeds.
fn median(world: &World, pace: Pace, strategy: &Strategy, args: &Args) -> Outcome {
    let outcomes = args.seeds.clone().map(|seed| {
        let workload = Arc::new(Workload::new(world, pace, seed));
        let ideal = oracle::ideal(world, &workload, seed);
        run::run(world, &workload, strategy, seed, ideal, args.is_traced)
    });
    Outcome::median(&outcomes.collect::<Vec<_>>())
}
