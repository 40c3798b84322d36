//! What a call costs that waits among many: machine instructions, counted by valgrind, for they are
//! the same on every machine and under any load.
//!
//! ```console
//! cargo bench --bench queue
//! ```
//!
//! A call's way through the queue is from its arrival to its answer, with all polls on the way, and
//! with the runtime's task and timer: whenever one is answered, another arrives, and so as many wait
//! all the time. Two runs of different length are compared, so that what comes before does not count.

use std::{
    convert::Infallible,
    env,
    error::Error,
    future::ready,
    num::NonZero,
    process::{Command, ExitCode},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::{runtime::Builder, task::JoinSet};
use tower::{Layer, ServiceExt, service_fn};
use tower_rate_limit_retry::{Quota, RateLimitRetryLayer, ReplayBody};

/// How many wait.
const FEW: u64 = 1_000;
const MANY: u64 = 100_000;

/// How many go in the two runs that are compared.
const SHORT: u64 = 500;
const LONG: u64 = 5_500;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    if let [waiting, admissions] = arguments[..] {
        run(waiting, admissions);
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions are counted by valgrind: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<(), Box<dyn Error>> {
    let [few, many] = [per_call(FEW)?, per_call(MANY)?];
    println!("| waiting | instructions a call |\n| ---: | ---: |");
    println!("| {FEW} | {few} |\n| {MANY} | {many} |");
    println!("\nratio: {:.2}", many as f64 / few as f64);
    Ok(())
}

/// The instructions of one call's way through the queue while so many wait.
fn per_call(waiting: u64) -> Result<u64, Box<dyn Error>> {
    let more = instructions(waiting, LONG)?.saturating_sub(instructions(waiting, SHORT)?);
    Ok(more / (LONG - SHORT))
}

/// Counts the instructions of a run.
fn instructions(waiting: u64, admissions: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([waiting, admissions].map(|number| number.to_string()))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let (_, collected) = told
        .split_once("Collected : ")
        .ok_or("expected its count")?;
    let number = collected.split_whitespace().next().unwrap_or_default();
    Ok(number.parse()?)
}

/// So many wait all the time, until so many have gone.
fn run(waiting: u64, admissions: u64) {
    fastrand::seed(1);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime that needs nothing of the system");
    runtime.block_on(async {
        let one = NonZero::<u64>::MIN;
        let quota = Quota::requests(one)
            .per(Duration::from_millis(1))
            .burst(one);
        let layer = RateLimitRetryLayer::new()
            .quota(quota)
            .max_waiting(usize::MAX);
        let service = layer.layer(service_fn(|_: Request<ReplayBody<Empty<Bytes>>>| {
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        }));
        let call = || {
            let request = Request::get("http://api.example.com/").body(Empty::new());
            let request = request.expect("a request of fixed parts");
            service.clone().oneshot(request)
        };
        let mut calls: JoinSet<_> = (0..waiting).map(|_| call()).collect();
        for _ in 0..admissions {
            let answer = calls.join_next().await.expect("somebody always waits");
            assert!(answer.is_ok_and(|answer| answer.is_ok()), "all are served");
            calls.spawn(call());
        }
    });
}
