//! A reverse proxy on this machine that sends everything on to one API, through the layer: so that
//! programs in any language keep to that API's limits, all of them together.
//!
//! ```text
//! cargo run --release --example proxy -- --upstream https://api.openai.com
//! export OPENAI_BASE_URL=http://127.0.0.1:8080/v1
//! ```
//!
//! `--help` says what else can be set. Credentials are those of the programs: they are passed on,
//! and neither kept nor logged.

mod args;
mod forward;
mod head;
mod log;
mod problem;
mod serve;
mod signals;
mod upload;
pub(crate) mod upstream;

use std::env;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use tokio::net::TcpListener;
use tower_rate_limit_retry::{RateLimitRetryLayer, partition};

pub(crate) use args::{Options, Settings};
pub(crate) use forward::Forward;
pub(crate) use log::subscriber;
pub(crate) use serve::{accept, finish};

fn main() -> ExitCode {
    ExitCode::from(run(env::args_os().skip(1)))
}

/// Does what the arguments say, until a signal ends it. The exit code: 0 if everything was
/// finished, 1 if not, 2 if the arguments are wrong.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let settings = match Settings::parse(args) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            print!("{}", args::HELP);
            return 0;
        }
        Err(message) => {
            eprintln!("error: {message}");
            return 2;
        }
    };
    match run_until_told(&settings) {
        Ok(true) => 0,
        Ok(false) => {
            eprintln!("error: what was not finished was cut off");
            1
        }
        Err(message) => {
            eprintln!("error: {message}");
            1
        }
    }
}

/// What this example is about: one layer for all that passes through.
pub(crate) fn layer(options: &Options) -> RateLimitRetryLayer {
    let mut layer = RateLimitRetryLayer::new()
        // OpenAI's limits are per model: no model waits for another one's quota.
        .partition_by(partition::by_model)
        .max_delay(options.max_delay)
        .max_replay(options.max_replay);
    if let Some(deadline) = options.deadline {
        layer = layer.deadline(deadline);
    }
    let quotas = options.quotas.iter().copied();
    quotas.fold(layer, RateLimitRetryLayer::quota)
}

#[tokio::main]
async fn run_until_told(settings: &Settings) -> Result<bool, String> {
    let Settings { upstream, options } = settings;
    // It fails only if there is one already, which will do as well.
    let _ = tracing::subscriber::set_global_default(subscriber(options.quiet, io::stderr));
    let mut signals = signals::Signals::new().map_err(|e| format!("no signals: {e}"))?;
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.map_err(|e| format!("cannot listen on {}: {e}", options.listen))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    tracing::info!(target: log::TARGET, %upstream, "listening on http://{address}");

    let forward = Forward::new(upstream.clone(), &layer(options), options.max_replay);
    let connections = accept(listener, forward, signals.next()).await;
    let grace = options.grace.as_secs();
    tracing::info!(target: log::TARGET, "finishing what is under way, for {grace} s at most");
    Ok(finish(connections, options.grace, signals.next()).await)
}
