//! What a layer knows and does, live: of each quota what is left, who waits, what holds it back and
//! for how long.
//!
//! ```text
//! cargo run --example watch
//! ```
//!
//! The traffic is a thousand chat requests at once to a simulated OpenAI, and a hundred to another API
//! that says nothing of its limit before it refuses. All that is shown comes from
//! `layer.limits().snapshot()`.

mod frame;
mod traffic;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use tokio::time::{Instant, MissedTickBehavior, interval};

use traffic::Traffic;

const HELP: &str = "\
Shows what tower-rate-limit-retry knows and does, while it holds requests back.

Usage: cargo run --example watch -- [OPTIONS]

Options:
  --requests N     how many chat requests are sent at once (1,000), and a tenth
                   as many to an API that says nothing before it refuses
  --plain          one line per second, as if standard output were no terminal
  --help           this text

It needs a terminal of 80 columns and 24 lines. Ctrl-C ends it.
";

#[tokio::main]
async fn main() -> ExitCode {
    let (requests, view) = match parse(lexopt::Parser::from_env()) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let stop = async {
        // Without a handler the signal ends the program by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    match watch(Traffic::start(requests), view, &mut io::stdout(), stop).await {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Drawn over what was drawn before, five times a second.
    Live,
    /// One line each second.
    Plain,
}

impl View {
    fn interval(self) -> Duration {
        match self {
            Self::Live => Duration::from_millis(200),
            Self::Plain => Duration::from_secs(1),
        }
    }
}

/// The number of requests and the view, or `None` if the help is asked for.
///
/// # Errors
///
/// What is wrong, in one line.
fn parse(mut parser: lexopt::Parser) -> Result<Option<(usize, View)>, String> {
    const MAX: usize = 100_000;
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    let mut view = if io::stdout().is_terminal() && !is_dumb {
        View::Live
    } else {
        View::Plain
    };
    let mut requests = 1_000;
    let one_line = |error: lexopt::Error| format!("{error}; --help lists what there is");
    while let Some(arg) = parser.next().map_err(one_line)? {
        match arg {
            Long("requests") => {
                let value = parser.value().map_err(one_line)?;
                let number = value.to_str().and_then(|value| value.parse().ok());
                requests = number.filter(|n| (1..=MAX).contains(n)).ok_or_else(|| {
                    format!("--requests: expected a number from 1 to {MAX}, found {value:?}")
                })?;
            }
            Long("plain") => view = View::Plain,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(one_line(arg.unexpected())),
        }
    }
    Ok(Some((requests, view)))
}

/// Shows the traffic until it is over or `stop` is, and then what was counted.
async fn watch(
    mut traffic: Traffic,
    view: View,
    out: &mut impl Write,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let start = Instant::now();
    let mut ticks = interval(view.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(stop);
    // How many lines are to be drawn over.
    let mut drawn = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            call = traffic.calls.join_next() => match call {
                Some(ended) => ended.map_err(io::Error::other)?,
                None => break,
            },
            _ = ticks.tick() => draw(&traffic, view, start.elapsed(), &mut drawn, out)?,
        }
    }
    draw(&traffic, view, start.elapsed(), &mut drawn, out)?;
    let totals = traffic.limits.snapshot();
    let summary = frame::summary(totals.totals(), traffic.served(), start.elapsed());
    write!(out, "\n{summary}")?;
    out.flush()
}

fn draw(
    traffic: &Traffic,
    view: View,
    elapsed: Duration,
    drawn: &mut usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let snapshot = traffic.limits.snapshot();
    let text = match view {
        View::Plain => frame::line(&snapshot, elapsed),
        View::Live => {
            let frame = frame::frame(&snapshot, elapsed, frame::WIDTH);
            let over = over(*drawn);
            *drawn = frame.lines().count();
            over + &frame
        }
    };
    // At once, or a terminal shows half of it.
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Moves to the first of so many lines and clears them.
fn over(lines: usize) -> String {
    match lines {
        0 => String::new(),
        lines => format!("\x1b[{lines}F\x1b[J"),
    }
}

#[cfg(test)]
mod tests;
