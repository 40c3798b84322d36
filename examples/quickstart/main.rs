//! A thousand chat requests at once, to an API that lets 700 of them through and
//! the others by the minute: as most programs send them, then through the layer.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! The API is a simulated OpenAI on this machine, or the real one (with 20
//! requests) if `OPENAI_API_KEY` is set. `--help` says what else can be set.

mod args;
mod chat;
mod run;
mod table;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use indicatif::HumanCount;
use simulation::{OpenAi, Server, Simulated};
use tower::ServiceBuilder;
use tower::limit::{ConcurrencyLimit, ConcurrencyLimitLayer};
use tower_rate_limit_retry::{RateLimitRetry, RateLimitRetryLayer, partition};

use args::{Settings, Target};
use chat::Endpoint;
use run::{Counts, Run, send_all};
use table::Table;

/// What this example is about: the layer, put once around a client, for all
/// that it sends.
fn with_the_layer<S>(client: S, concurrency: usize) -> RateLimitRetry<ConcurrencyLimit<S>> {
    ServiceBuilder::new()
        // OpenAI's limits are per model: no model waits for another one's quota.
        .layer(RateLimitRetryLayer::new().partition_by(partition::by_model))
        // Below the layer, where a request that waits for quota holds no permit.
        .layer(ConcurrencyLimitLayer::new(concurrency))
        .service(client)
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match args::parse() {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let last_run = match &settings.target {
        Target::Simulation => ask_the_simulation(&settings).await,
        Target::Real { endpoint, model } => ask(endpoint, model, &settings).await,
    };
    match last_run {
        Ok(run) if run.failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The models of the simulation, and how many of ten requests go to each.
const MODELS: [(&str, usize); 2] = [
    ("gpt-4o-mini", 7),
    ("ft:gpt-4o-mini:acme:support:AbC123", 3),
];

/// Sends everything twice, to a server with all of its quota each time.
async fn ask_the_simulation(settings: &Settings) -> Result<Run, String> {
    let ten = MODELS.map(|(model, share)| vec![model; share]).concat();
    let models: Vec<&str> = ten.into_iter().cycle().take(settings.requests).collect();
    let allowed = introduce(&models);

    let (_server, endpoint) = simulated().await.map_err(|e| e.to_string())?;
    let counts = Counts::default();
    let client = counts.count(http_client(true));
    let bare = send_all("bare", client, &endpoint, &models, &counts).await?;

    let (_server, endpoint) = simulated().await.map_err(|e| e.to_string())?;
    let counts = Counts::default();
    let client = with_the_layer(counts.count(http_client(true)), settings.concurrency);
    let layered = send_all("with the layer", client, &endpoint, &models, &counts).await?;

    print!(
        "{}",
        Table(&[(&bare, Some(allowed)), (&layered, Some(allowed))])
    );
    print!("{}", layered.notes());
    Ok(layered)
}

/// Sends everything through the layer only: failing on purpose would cost quota
/// that others may need.
async fn ask(endpoint: &Endpoint, model: &str, settings: &Settings) -> Result<Run, String> {
    let requests = settings.requests;
    println!("{} chat requests to {model}", HumanCount(requests as u64));
    println!("at {}.\n", endpoint.url());

    let counts = Counts::default();
    let client = with_the_layer(counts.count(http_client(false)), settings.concurrency);
    let models = vec![model; requests];
    let run = send_all("with the layer", client, endpoint, &models, &counts).await?;
    print!("{}", Table(&[(&run, None)]));
    print!("{}", run.notes());
    Ok(run)
}

/// Says what will be sent and what the quota allows; gives back the latter.
fn introduce(models: &[&str]) -> Duration {
    let api = OpenAi::new();
    let total = HumanCount(models.len() as u64);
    println!("{total} chat requests at once, to a simulated OpenAI on this machine:");
    let mut allowed = Duration::ZERO;
    for (model, _) in MODELS {
        let requests = models.iter().filter(|name| **name == model).count();
        let limits = api.limits(model).expect("a model of the simulation");
        let per_minute = limits.requests();
        print!("{requests:>7} to {model}, which allows {per_minute} a minute");
        match limits.max_concurrent() {
            Some(at_once) => println!(", {at_once} at once"),
            None => println!(),
        }
        allowed = allowed.max(limits.time_for(requests as u32, chat::TOKENS));
    }
    println!("This takes about {} s.\n", allowed.as_secs() + 1);
    allowed
}

async fn simulated() -> io::Result<(Server, Endpoint)> {
    let server = Server::simulate(&Simulated::new(OpenAi::new())).await?;
    let endpoint = Endpoint::new(&format!("{}/v1", server.url()), OpenAi::KEY);
    let endpoint = endpoint.expect("the server's own address is an http URL");
    Ok((server, endpoint))
}

/// An ordinary HTTP client. With `http2_only`, a thousand requests at once share
/// one connection, as they do with the real API, and need no file descriptor each.
fn http_client<B>(http2_only: bool) -> Client<HttpsConnector<HttpConnector>, B>
where
    B: Body<Data = Bytes> + Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .http2_only(http2_only)
        .build(connector)
}
