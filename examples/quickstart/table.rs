//! The numbers of the runs, side by side.

use std::fmt;
use std::time::Duration;

use indicatif::HumanCount;

use crate::run::Run;

/// Runs, and the time that the quota allows for each, if it is known.
pub(crate) struct Table<'a>(pub(crate) &'a [(&'a Run, Option<Duration>)]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |cells: [&str; 7]| {
            let [name, succeeded, failed, refused, sent, wall_time, allowed] = cells;
            let line = format!(
                "{name:<14}{succeeded:>11}{failed:>8}{refused:>8}{sent:>10}{wall_time:>10}{allowed:>11}"
            );
            writeln!(f, "{}", line.trim_end())
        };
        line(["", "", "", "429s", "sent per", "", "the quota"])?;
        line([
            "",
            "succeeded",
            "failed",
            "seen",
            "success",
            "wall time",
            "allows",
        ])?;
        for (run, allowed) in self.0 {
            let sent = run.sent as f64 / run.succeeded as f64;
            line([
                run.name,
                &count(run.succeeded),
                &count(run.failed),
                &HumanCount(run.refused).to_string(),
                &if run.succeeded > 0 {
                    format!("{sent:.3}")
                } else {
                    "-".to_owned()
                },
                &seconds(run.wall_time),
                &allowed.map_or("unknown".to_owned(), seconds),
            ])?;
        }
        Ok(())
    }
}

fn count(requests: usize) -> String {
    HumanCount(requests as u64).to_string()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
