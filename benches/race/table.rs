//! The outcomes as a Markdown table.

use crate::outcome::{Finish, Outcome};

/// How one strategy fared against one server.
pub(crate) struct Row {
    pub(crate) server: String,
    pub(crate) strategy: &'static str,
    pub(crate) outcome: Outcome,
}

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
    print_cells(&TITLES.map(str::to_owned));
    let rules = WIDTHS.map(|width| "-".repeat(width - 1) + ":");
    let [mut server, mut strategy, ..] = rules.clone();
    for rule in [&mut server, &mut strategy] {
        *rule = rule.replace(':', "-");
    }
    let [_, _, rest @ ..] = rules;
    print_cells(&[&[server, strategy], &rest[..]].concat());
}

pub(crate) fn print_row(row: &Row) {
    let outcome = &row.outcome;
    print_cells(&[
        row.server.clone(),
        row.strategy.to_owned(),
        format!("{} of {}", outcome.succeeded, outcome.calls),
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

/// A line for each server: time over ideal and sent per success, of all who raced.
pub(crate) fn print_summary(rows: &[Row]) {
    println!("\nTime over ideal / sent per success:\n");
    let servers: Vec<&[Row]> = rows
        .chunk_by(|one, next| one.server == next.server)
        .collect();
    let strategies: Vec<&str> = servers
        .first()
        .into_iter()
        .flat_map(|rows| rows.iter().map(|row| row.strategy))
        .collect();
    println!("| server | {} |", strategies.join(" | "));
    println!("| --- |{}", " --- |".repeat(strategies.len()));
    for rows in servers {
        let cells: Vec<String> = rows.iter().map(|row| summary(&row.outcome)).collect();
        println!("| {} | {} |", rows[0].server, cells.join(" | "));
    }
}

fn summary(outcome: &Outcome) -> String {
    match outcome.finish() {
        Finish::AllSucceeded => format!("{:.3} / {:.2}", outcome.time, outcome.sent),
        Finish::Starved => format!("{} starved", outcome.starved()),
        Finish::OutOfRequests => "out of requests".to_owned(),
    }
}

fn print_cells(cells: &[String]) {
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
