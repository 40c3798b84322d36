//! What is to be seen of a layer, as plain text: no clock, no terminal and no escape codes, so that a
//! test sees what a person sees.

use std::time::Duration;

use indicatif::HumanCount;
use tower_rate_limit_retry::{
    DimensionSnapshot, PartitionSnapshot, PauseSnapshot, Snapshot, Source, Totals,
};

/// What any terminal has at least; a frame that is larger could not be drawn over.
pub(crate) const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// What a line of a dimension takes besides the gauge itself.
const BESIDE_GAUGE: usize = 62;

/// All that is known at one instant: the totals, then partition by partition as many as there is room
/// for.
pub(crate) fn frame(snapshot: &Snapshot, elapsed: Duration, width: usize) -> String {
    let width = width.min(WIDTH);
    let mut lines = vec![format!(
        "{:>7}   {}",
        time(elapsed),
        counts(snapshot.totals())
    )];
    let partitions = snapshot.partitions();
    for (shown, partition) in partitions.iter().enumerate() {
        let block = block(partition, width);
        // The cursor rests on a line of its own, and what is left out needs one.
        if lines.len() + block.len() + 2 > HEIGHT {
            lines.push(format!("and {} more", partitions.len() - shown));
            break;
        }
        lines.extend(block);
    }
    lines.iter().map(|line| clip(line, width) + "\n").collect()
}

/// The same in a single line, for a log.
pub(crate) fn line(snapshot: &Snapshot, elapsed: Duration) -> String {
    let partitions = snapshot.partitions();
    let waiting: usize = partitions.iter().map(PartitionSnapshot::waiting).sum();
    let in_flight: usize = partitions.iter().map(PartitionSnapshot::in_flight).sum();
    let totals = snapshot.totals();
    let line = format!(
        "{:>7}  sent {:>6}  waiting {:>6}  in flight {:>3}  refused {:>3}",
        time(elapsed),
        count(totals.attempts()),
        count(waiting as u64),
        count(in_flight as u64),
        count(totals.refusals()),
    );
    let pauses = partitions.iter().filter_map(PartitionSnapshot::pause);
    let paused = match pauses.map(PauseSnapshot::ends_in).max() {
        Some(longest) => format!("  paused {}", time(longest)),
        None => String::new(),
    };
    // Half a number would be another one.
    let room = WIDTH.saturating_sub(line.len());
    let paused = Some(paused).filter(|paused| paused.len() <= room);
    let line = line + &paused.unwrap_or_default();
    clip(&line, WIDTH) + "\n"
}

/// What was counted until the end.
pub(crate) fn summary(totals: &Totals, served: u64, elapsed: Duration) -> String {
    let mut lines = vec![format!(
        "{} of {} calls served in {}, {} sent, {} refused, {} given back",
        count(served),
        count(totals.calls()),
        time(elapsed),
        count(totals.attempts()),
        count(totals.refusals()),
        count(totals.given_back()),
    )];
    if served > 0 {
        let sent = totals.attempts() as f64 / served as f64;
        let waited = totals.waited() / u32::try_from(served).unwrap_or(u32::MAX);
        lines.push(format!(
            "{sent:.3} sent for each that was served; held back for {} on the average",
            time(waited)
        ));
    }
    lines.iter().map(|line| clip(line, WIDTH) + "\n").collect()
}

fn block(partition: &PartitionSnapshot, width: usize) -> Vec<String> {
    let mut lines = vec![String::new(), cut(partition.partition().as_str(), width)];
    let dimensions = partition.dimensions().iter();
    lines.extend(dimensions.map(|dimension| gauge(dimension, width)));
    if let Some(pause) = partition.pause() {
        let cause = match pause.cause() {
            Some(cause) => format!("put down to {}", cut(cause.name(), 20)),
            None => "a refusal is being read".to_owned(),
        };
        let (ends_in, refusals) = (time(pause.ends_in()), pause.refusals());
        lines.push(format!(
            "  paused for {ends_in} more; refusals in a row: {refusals}; {cause}"
        ));
    }
    let next = match partition.held_by() {
        Some(hold) => format!(
            "next in {}, held by {}",
            time(partition.opens_in()),
            cut(&hold.to_string(), 20)
        ),
        None => "open".to_owned(),
    };
    lines.push(format!(
        "  waiting {}, admitted {}, in flight {}; {next}",
        count(partition.waiting() as u64),
        count(partition.admitted() as u64),
        count(partition.in_flight() as u64),
    ));
    lines.push(format!("  {}", counts(partition.totals())));
    lines
}

/// `  tokens      announced [###############...]  12,345 of  20,000  full in  1.4 s`
fn gauge(dimension: &DimensionSnapshot, width: usize) -> String {
    let source = match dimension.source() {
        // The name says what was learned.
        Source::LearnedRate | Source::LearnedConcurrency => "learned",
        source => source.as_str(),
    };
    let (remaining, limit) = (dimension.remaining(), dimension.limit());
    let room = width.saturating_sub(BESIDE_GAUGE).max(4);
    // A limit of nothing is an empty gauge, and more than the limit a full one.
    let share = remaining.min(limit) as f64 / limit.max(1) as f64;
    let full = (share * room as f64) as usize;
    let reset = dimension
        .reset()
        .map(|reset| format!("full in {:>7}", time(reset)));
    let line = format!(
        "  {:<11} {source:<9} [{}{}] {:>7} of {:>7}  {}",
        cut(dimension.name(), 11),
        "#".repeat(full),
        ".".repeat(room - full),
        count(remaining),
        count(limit),
        reset.unwrap_or_default(),
    );
    line.trim_end().to_owned()
}

fn counts(totals: &Totals) -> String {
    let counts = format!(
        "calls {}, sent {}, retries {}, given back {}, refused {}",
        count(totals.calls()),
        count(totals.attempts()),
        count(totals.retries()),
        count(totals.given_back()),
        count(totals.refusals()),
    );
    let causes = totals.refusals_by_cause();
    let causes: Vec<String> = causes
        .map(|(cause, refusals)| format!("{} {}", cut(cause.name(), 20), count(refusals)))
        .collect();
    if causes.is_empty() {
        return counts;
    }
    format!("{counts} ({})", causes.join(", "))
}

/// In at most seven columns.
fn count(number: u64) -> String {
    const UNITS: [&str; 5] = ["M", "G", "T", "P", "E"];
    if number < 1_000_000 {
        return HumanCount(number).to_string();
    }
    let (mut scaled, mut unit) = (number as f64 / 1e6, 0);
    while scaled >= 999.95 && unit + 1 < UNITS.len() {
        scaled /= 1e3;
        unit += 1;
    }
    format!("{scaled:.1}{}", UNITS[unit])
}

/// In at most seven columns, rounded upwards: what is over is zero, and nothing else is.
fn time(time: Duration) -> String {
    let tenths = time.as_nanos().div_ceil(100_000_000);
    match tenths {
        0..6_000 => format!("{}.{} s", tenths / 10, tenths % 10),
        6_000..360_000 => format!("{} min", tenths.div_ceil(600)),
        360_000..8_640_000 => format!("{} h", tenths.div_ceil(36_000)),
        _ => format!("{} d", tenths.div_ceil(864_000).min(99_999)),
    }
}

/// At most so many columns of a name, for which the middle is left out: a partition begins with its
/// host, and ends with what tells it from the others of that host.
///
/// Names come from servers and users. What may not be exactly one column wide, or a control code,
/// is shown as a question mark.
fn cut(name: &str, columns: usize) -> String {
    const GAP: &str = "...";
    let name = printable(name);
    if name.len() <= columns {
        return name;
    }
    let kept = columns.saturating_sub(GAP.len());
    let (head, tail) = (kept / 3, kept - kept / 3);
    format!("{}{GAP}{}", &name[..head], &name[name.len() - tail..])
}

fn clip(line: &str, columns: usize) -> String {
    printable(line).chars().take(columns).collect()
}

fn printable(text: &str) -> String {
    let is_plain = |c: &char| *c == ' ' || c.is_ascii_graphic();
    text.chars()
        .map(|c| if is_plain(&c) { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests;
