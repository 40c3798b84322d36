//! What a call costs that is answered at once, beside `tower::retry`, which has to keep the request as
//! well: machine instructions, counted by valgrind, for they are the same on every machine and under
//! any load; and beside them the time, the median of several processes, for where the memory of one
//! happens to lie makes a difference of some percent.
//!
//! ```console
//! cargo bench --bench overhead
//! ```
//!
//! A call is all from the making of its request, with ten header fields and a body of bytes, to the
//! dropping of its answer. Two runs of different length are compared, so that what comes before does
//! not count. What a call costs that waits: `cargo bench --bench queue`.
//!
//! Then how many calls a second two threads get through one limiter, on one partition and on one for
//! each: calls of the smallest request there is and a service that does nothing, so that the limiter is
//! most of it.

use std::{
    convert::Infallible,
    env,
    error::Error,
    future::{Ready, ready},
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{Empty, Full};
use tower::{
    Layer, Service,
    retry::{Policy, RetryLayer},
    service_fn,
};
use tower_rate_limit_retry::RateLimitRetryLayer;

/// How many are called in the two runs that are compared.
const SHORT: u64 = 1_000;
const LONG: u64 = 3_000;

/// How many are called in a row to take the time, and how often, in turn with the other stacks; the
/// fastest counts.
const TIMED: u32 = 500;
const ROUNDS: usize = 400;

/// How many processes take the time.
const PROCESSES: usize = 9;

/// The argument of one that does.
const TIMES: &str = "times";

/// How long the spans are in which the calls of two threads are counted, and how many; the busiest
/// counts, as others may use the machine.
const SPAN: Duration = Duration::from_millis(20);
const SPANS: usize = 150;

/// How many calls are counted at once.
const STEP: u64 = 50;

/// What else is in the head of a request.
const TELLING: [(&str, &str); 6] = [
    ("x-stainless-lang", "python"),
    ("x-stainless-os", "Linux"),
    ("x-stainless-arch", "x64"),
    ("x-stainless-runtime", "CPython"),
    ("x-stainless-runtime-version", "3.13.1"),
    ("x-stainless-retry-count", "0"),
];

/// What is in the head of every answer.
const ANSWER: [(&str, &str); 4] = [
    ("content-type", "application/json"),
    ("date", "Tue, 02 Jun 2026 12:00:00 GMT"),
    ("server", "cloudflare"),
    ("x-request-id", "req_0123456789abcdef"),
];

/// The two dimensions that `OpenAI` announces with every answer.
const OPENAI: [(&str, &str); 6] = [
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999980"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-reset-tokens", "1ms"),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments[..] {
        [stack, calls] if STACKS.contains(&stack.as_str()) => {
            let mut call = stack_of(stack);
            let calls = calls.parse().expect("a number of calls");
            (0..calls).for_each(|_: u64| call());
            return ExitCode::SUCCESS;
        }
        [argument] if argument == TIMES => {
            for nanos in times() {
                println!("{nanos}");
            }
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if let Err(error) = compare() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    println!("\n| two threads on | calls a second |\n| --- | ---: |");
    println!(
        "| one partition | {:.0} |",
        threads(["http://a/", "http://a/"])
    );
    println!("| one each | {:.0} |", threads(["http://a/", "http://b/"]));
    ExitCode::SUCCESS
}

const STACKS: [&str; 6] = [
    "bare service",
    "tower::retry",
    "this layer",
    "bare service, OpenAI's fields",
    "tower::retry, OpenAI's fields",
    "this layer, OpenAI's fields",
];

fn stack_of(name: &str) -> Box<dyn FnMut()> {
    let fields = name.ends_with("fields");
    if name.starts_with("bare") {
        calls(service_fn(move |_: Request<_>| answer(fields)))
    } else if name.starts_with("tower") {
        calls(RetryLayer::new(Refusals).layer(service_fn(move |_: Request<_>| answer(fields))))
    } else {
        let layer = RateLimitRetryLayer::new();
        calls(layer.layer(service_fn(move |_: Request<_>| answer(fields))))
    }
}

fn calls<S>(mut service: S) -> Box<dyn FnMut()>
where
    S: Service<Request<Full<Bytes>>, Error = Infallible> + 'static,
{
    Box::new(move || {
        drop(at_once(&mut service, request()));
    })
}

/// As the client libraries send it, with the fields by which they tell what they are.
fn request() -> Request<Full<Bytes>> {
    let body = r#"{"model":"gpt-4o","max_tokens":20,"messages":[]}"#;
    let mut request = Request::post("https://api.openai.com/v1/chat/completions")
        .header(
            "authorization",
            "Bearer sk-proj-0123456789abcdefghijklmnopqrstuv",
        )
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", "OpenAI/Python 2.8.0");
    for (name, value) in TELLING {
        request = request.header(name, value);
    }
    request
        .body(Full::from(body))
        .expect("a request of fixed parts")
}

/// The answer of a service that is ready and answers at once.
fn at_once<R, S: Service<R, Error = Infallible>>(service: &mut S, request: R) -> S::Response {
    let ready = std::future::poll_fn(|cx| service.poll_ready(cx));
    ready
        .now_or_never()
        .expect("it is always ready")
        .unwrap_or_else(|never| match never {});
    let answer = service.call(request).now_or_never();
    answer
        .expect("an answer at once")
        .unwrap_or_else(|never| match never {})
}

fn answer(fields: bool) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    let mut response = Response::new(Full::from("ok"));
    let limits = OPENAI.iter().filter(|_| fields);
    for (name, value) in ANSWER.iter().chain(limits) {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(*name, value);
    }
    ready(Ok(response))
}

/// Prints what each stack costs.
fn compare() -> Result<(), Box<dyn Error>> {
    println!("| stack | instructions | × tower::retry | ns | × tower::retry |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let instructions = STACKS.iter().map(|stack| per_call(stack));
    let instructions = instructions.collect::<Result<Vec<_>, _>>()?;
    let times = (0..PROCESSES).map(|_| times_of_a_process());
    let times = times.collect::<Result<Vec<_>, _>>()?;
    for (index, stack) in STACKS.iter().enumerate() {
        let retry = index / 3 * 3 + 1;
        let (count, others) = (instructions[index], instructions[retry]);
        println!(
            "| {stack} | {count} | {:.2} | {:.0} | {:.2} |",
            count as f64 / others as f64,
            median(times.iter().map(|nanos| nanos[index])),
            median(times.iter().map(|nanos| nanos[index] / nanos[retry])),
        );
    }
    Ok(())
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// What [`times`] are in a process of their own.
fn times_of_a_process() -> Result<Vec<f64>, Box<dyn Error>> {
    let output = Command::new(env::current_exe()?).arg(TIMES).output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("a process that takes the time: {}: {told}", output.status).into());
    }
    let told = String::from_utf8(output.stdout)?;
    let times = told
        .lines()
        .map(str::parse)
        .collect::<Result<Vec<_>, _>>()?;
    if times.len() != STACKS.len() {
        return Err(format!("not {} times: {told}", STACKS.len()).into());
    }
    Ok(times)
}

/// The nanoseconds of one call of each.
fn times() -> [f64; STACKS.len()] {
    let mut stacks = STACKS.map(stack_of);
    let mut fastest = [Duration::MAX; STACKS.len()];
    for _ in 0..ROUNDS {
        for (call, fastest) in stacks.iter_mut().zip(&mut fastest) {
            let began = Instant::now();
            (0..TIMED).for_each(|_| call());
            *fastest = began.elapsed().min(*fastest);
        }
    }
    fastest.map(|time| time.as_secs_f64() * 1e9 / f64::from(TIMED))
}

/// The instructions of one call.
fn per_call(stack: &str) -> Result<u64, Box<dyn Error>> {
    let more = instructions(stack, LONG)?.saturating_sub(instructions(stack, SHORT)?);
    Ok(more / (LONG - SHORT))
}

/// Counts the instructions of a run.
fn instructions(stack: &str, calls: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([stack, &calls.to_string()])
        .output()
        .map_err(|error| format!("instructions are counted by valgrind: {error}"))?;
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

/// How many calls a second all get through one limiter, a thread for each of these targets.
fn threads(targets: [&str; 2]) -> f64 {
    let layer = RateLimitRetryLayer::new();
    let (is_over, counts) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 2]);
    thread::scope(|scope| {
        for (target, count) in targets.iter().zip(&counts) {
            let (layer, is_over) = (&layer, &is_over);
            scope.spawn(move || call_until(is_over, layer, target, count));
        }
        let spans = (0..SPANS).map(|_| calls_a_second(&counts));
        let busiest = spans.fold(0.0, f64::max);
        is_over.store(true, Ordering::Relaxed);
        busiest
    })
}

/// How many calls a second are counted from now on.
fn calls_a_second(counts: &[AtomicU64; 2]) -> f64 {
    let count = || counts.iter().map(|count| count.load(Ordering::Relaxed));
    let (began, before) = (Instant::now(), count().sum::<u64>());
    thread::sleep(SPAN);
    let calls = count().sum::<u64>() - before;
    calls as f64 / began.elapsed().as_secs_f64()
}

fn call_until(is_over: &AtomicBool, layer: &RateLimitRetryLayer, target: &str, count: &AtomicU64) {
    let mut service = layer.layer(service_fn(|_: Request<_>| {
        ready(Ok::<_, Infallible>(
            Response::new(Empty::<Bytes>::default()),
        ))
    }));
    let target: Uri = target.parse().expect("a target of fixed parts");
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..STEP {
            let mut request = Request::new(Empty::<Bytes>::default());
            *request.uri_mut() = target.clone();
            drop(at_once(&mut service, request));
        }
        count.fetch_add(STEP, Ordering::Relaxed);
    }
}

/// Keeps every request as if it were to be sent again, and sends it again after a 429.
#[derive(Clone)]
struct Refusals;

impl<B, E> Policy<Request<Full<Bytes>>, Response<B>, E> for Refusals {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        result: &mut Result<Response<B>, E>,
    ) -> Option<Self::Future> {
        let is_refused = result.as_ref().is_ok_and(|answer| answer.status() == 429);
        is_refused.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}
