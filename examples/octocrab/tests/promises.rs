//! What holds for requests that go through the layer, seen from both ends.

use std::process::Command;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::{AuthState, Error, GitHubError, OctoBody, Octocrab, OctocrabBuilder};
use serde_json::{Value, json};
use simulation::{Script, Server, Simulated};
use tower::Layer;
use tower_rate_limit_retry::{RateLimitRetryLayer, ReplayBody, ReqwestService};

const SECONDARY: &str = r#"{"message": "You have exceeded a secondary rate limit."}"#;
const PRIMARY: &str = r#"{"message": "API rate limit exceeded for user ID 1."}"#;

#[test]
fn the_example_runs() {
    let mut example = Command::new(env!("CARGO_BIN_EXE_example-octocrab"));
    let output = example.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains(" 5 accepted."), "{said}");
}

#[tokio::test]
async fn a_comment_that_the_secondary_limit_refuses_twice_is_made_and_never_comes_early() {
    let refusal = || answer(refused().header("retry-after", "1"), SECONDARY);
    let (api, server) = start([refusal(), refusal(), created()]).await;
    assert_eq!(comment(&server).await.unwrap()["id"], 1);

    assert_same_bytes_three_times(&api);
    for pair in api.lock().received().windows(2) {
        let waited = pair[1].0 - pair[0].0;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }
}

#[tokio::test]
async fn a_comment_that_the_primary_limit_refuses_waits_until_the_reset() {
    let reset = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let reset = reset.unwrap().as_secs() + 2;
    let refusal = nothing_remains(reset);
    let (api, server) = start([refusal, created()]).await;
    assert_eq!(comment(&server).await.unwrap()["id"], 1);

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    assert!(now.unwrap() >= Duration::from_secs(reset));
    assert_eq!(api.lock().received().len(), 2);
}

#[tokio::test]
async fn a_reset_that_is_too_far_off_comes_out_at_once_as_the_error_of_github() {
    let reset = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let reset = reset.unwrap().as_secs() + 3_600;
    let (_, server) = start([nothing_remains(reset)]).await;
    let error = refused_by_github(comment(&server).await);
    assert_eq!(error.message, "API rate limit exceeded for user ID 1.");
    assert_eq!(error.rate_limit_reset, Some(reset));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_lack_of_permission_comes_out_at_once_as_the_error_of_github() {
    let refusal = refused().header("x-ratelimit-remaining", "4999");
    let body = r#"{"message": "Resource not accessible by integration", "documentation_url": "https://docs.github.com"}"#;
    let (_, server) = start([answer(refusal, body)]).await;
    let error = refused_by_github(comment(&server).await);
    assert_eq!(error.status_code, 403);
    assert_eq!(error.message, "Resource not accessible by integration");
    assert_eq!(
        error.documentation_url.as_deref(),
        Some("https://docs.github.com")
    );
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn the_layer_can_be_one_of_those_of_octocrab() {
    let refusal = || answer(refused().header("retry-after", "0"), SECONDARY);
    let (api, server) = start([refusal(), refusal(), created()]).await;
    let layer = RateLimitRetryLayer::new().map_body(OctoBody::new::<ReplayBody<OctoBody>>);
    let http = Client::builder(TokioExecutor::new()).build_http::<OctoBody>();
    let github = OctocrabBuilder::new_empty()
        .with_service(http)
        .with_layer(&layer)
        .with_layer(&BaseUriLayer::new(server.url().parse().unwrap()))
        .with_auth(AuthState::None)
        .build()
        .unwrap();
    say_hello(&github).await.unwrap();
    assert_same_bytes_three_times(&api);
}

#[tokio::test]
async fn a_client_of_reqwest_can_lie_at_the_bottom() {
    let refusal = || answer(refused().header("retry-after", "0"), SECONDARY);
    let (api, server) = start([refusal(), refusal(), created()]).await;
    let http = ReqwestService::new(reqwest::Client::new());
    let github = OctocrabBuilder::new_empty()
        .with_service(RateLimitRetryLayer::new().layer(http))
        .with_layer(&BaseUriLayer::new(server.url().parse().unwrap()))
        .with_auth(AuthState::None)
        .build()
        .unwrap();
    say_hello(&github).await.unwrap();
    assert_same_bytes_three_times(&api);
}

async fn start<const N: usize>(answers: [Response<Bytes>; N]) -> (Simulated<Script>, Server) {
    let api = Simulated::new(Script::new(answers));
    let server = Server::simulate(&api).await.unwrap();
    (api, server)
}

async fn comment(server: &Server) -> octocrab::Result<Value> {
    let github = example_octocrab::client(&server.url().parse().unwrap(), "token");
    say_hello(&github.unwrap()).await
}

async fn say_hello(github: &Octocrab) -> octocrab::Result<Value> {
    example_octocrab::comment(github, "Hello").await
}

fn refused() -> response::Builder {
    let head = Response::builder().status(403);
    head.header("content-type", "application/json; charset=utf-8")
}

fn nothing_remains(reset: u64) -> Response<Bytes> {
    let head = refused().header("x-ratelimit-limit", "5000");
    let head = head.header("x-ratelimit-remaining", "0");
    answer(head.header("x-ratelimit-reset", reset), PRIMARY)
}

fn created() -> Response<Bytes> {
    answer(Response::builder().status(201), r#"{"id": 1}"#)
}

fn answer(head: response::Builder, body: &'static str) -> Response<Bytes> {
    head.body(body.into()).unwrap()
}

#[track_caller]
fn refused_by_github(answer: octocrab::Result<Value>) -> GitHubError {
    match answer {
        Err(Error::GitHub { source, .. }) => *source,
        other => panic!("expected an error of GitHub, found {other:?}"),
    }
}

#[track_caller]
fn assert_same_bytes_three_times(api: &Simulated<Script>) {
    let api = api.lock();
    let bodies = api.received().iter().map(|(_, request)| request.body());
    let comment = json!({ "body": "Hello" }).to_string();
    assert!(bodies.eq([&comment; 3]));
}
