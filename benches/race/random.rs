//! Races in random worlds: what was tuned on a few servers shall hold in all.

mod build;
mod describe;
mod draw;

use std::sync::Arc;

use crate::{
    args::Args,
    oracle,
    outcome::{Outcome, quantile},
    parallel, run,
    strategy::Strategy,
};

/// How one world went.
struct Raced {
    number: usize,
    world: String,
    outcome: Outcome,
}

/// Races through so many worlds, and prints the typical and the worst.
pub(crate) fn race(args: &Args, worlds: usize) {
    let numbers = match args.world {
        Some(number) => number..number + 1,
        None => 0..worlds,
    };
    let numbers: Vec<usize> = numbers.collect();
    for strategy in &Strategy::ALL {
        if args.has_random_strategy(strategy.name) {
            let mut races = Vec::new();
            let one = |number: &usize| one(args, strategy, *number);
            parallel::in_order(args.threads(), &numbers, one, |_, raced| races.push(raced));
            report(strategy, &races);
        }
    }
}

fn one(args: &Args, strategy: &Strategy, number: usize) -> Raced {
    let (world, workload) = build::world(args.seed, number);
    let seed = build::seed(args.seed, number);
    let ideal = oracle::ideal(&world, &workload, seed);
    let workload = Arc::new(workload);
    let outcome = run::run(&world, &workload, strategy, seed, ideal, args.is_traced);
    Raced {
        number,
        world: world.name,
        outcome,
    }
}

type Measure = fn(&Raced) -> f64;

/// What the worlds are ranked by.
const MEASURES: [(&str, Measure); 3] = [
    ("time over ideal", |raced| raced.outcome.time),
    ("sent per success", |raced| raced.outcome.sent),
    ("CPU seconds", |raced| raced.outcome.cpu_seconds),
];

fn report(strategy: &Strategy, races: &[Raced]) {
    let starves = |raced: &&Raced| raced.outcome.starved() > 0.0;
    let (starved, fed): (Vec<_>, Vec<_>) = races.iter().partition(starves);
    println!(
        "\n{}: {} random worlds, {} of them starved; in the others:\n",
        strategy.name,
        races.len(),
        starved.len()
    );
    for (name, measure) in MEASURES {
        let values: Vec<f64> = fed.iter().map(|raced| measure(raced)).collect();
        println!(
            "{name:>18}: median {:.3}, nine of ten up to {:.3}, at the most {:.3}",
            quantile(values.clone(), 0.5),
            quantile(values.clone(), 0.9),
            quantile(values, 1.0),
        );
    }
    println!("\nstarved:");
    starved.into_iter().take(10).for_each(print);
    for (name, measure) in MEASURES {
        println!("\nworst by {name}:");
        let mut worst = fed.clone();
        worst.sort_by(|a, b| measure(b).total_cmp(&measure(a)));
        worst.into_iter().take(10).for_each(print);
    }
}

fn print(raced: &Raced) {
    let Raced {
        number,
        world,
        outcome,
    } = raced;
    println!(
        "  #{number:<4} time {:<6.3} sent {:<6.3} starved {:<3} of {:<5} {:5.1} s CPU | {world}",
        outcome.time,
        outcome.sent,
        outcome.starved(),
        outcome.calls,
        outcome.cpu_seconds,
    );
}
