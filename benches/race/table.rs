//! The outcomes as a Markdown table.

use crate::outcome::{Finish, Outcome};

const TITLES: [&str; 11] = [
    "server",
    "strategy",
    "succeeded",
    "time/ideal",
    "sent",
    "429s",
    "p50",
    "p99",
    "longest",
    "order kept",
    "CPU",
];
const WIDTHS: [usize; 11] = [25, 13, 16, 15, 8, 8, 9, 9, 9, 10, 8];

pub(crate) fn print_head(workload: &str) {
    println!("\n### {workload}\n");
    print_row(&TITLES.map(str::to_owned));
    let rules = WIDTHS.map(|width| "-".repeat(width - 1) + ":");
    let [mut server, mut strategy, ..] = rules.clone();
    for rule in [&mut server, &mut strategy] {
        *rule = rule.replace(':', "-");
    }
    let [_, _, rest @ ..] = rules;
    print_row(&[&[server, strategy], &rest[..]].concat());
}

pub(crate) fn print_outcome(server: &str, strategy: &str, outcome: &Outcome) {
    let Outcome {
        calls, succeeded, ..
    } = outcome;
    print_row(&[
        server.to_owned(),
        strategy.to_owned(),
        format!("{succeeded} of {calls}"),
        match outcome.finish() {
            Finish::AllSucceeded => format!("{:.3}", outcome.time),
            Finish::Starved => "starved".to_owned(),
            Finish::OutOfRequests => "out of requests".to_owned(),
        },
        format!("{:.3}", outcome.sent),
        format!("{:.3}", outcome.refusals),
        format!("{:.2} s", outcome.latency.median),
        format!("{:.2} s", outcome.latency.p99),
        format!("{:.2} s", outcome.latency.longest),
        format!("{:.4}", outcome.order),
        format!("{:.0} ms", outcome.cpu_seconds * 1_000.0),
    ]);
}

fn print_row(cells: &[String]) {
    let padded = cells
        .iter()
        .zip(WIDTHS)
        .enumerate()
        .map(|(column, (cell, width))| {
            if column < 2 {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
    println!("| {} |", padded.collect::<Vec<_>>().join(" | "));
}
