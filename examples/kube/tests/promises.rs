//! What holds for requests that go through the layer, seen from both ends.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config, Error};
use simulation::{Script, Server, Simulated};
use tower::buffer::BufferLayer;
use tower_rate_limit_retry::{RateLimitRetryLayer, ReplayBody};

const BUSY: &str = "Too many requests, please try again later.\n";
const CREATED: &str = r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}"#;

#[test]
fn the_example_runs() {
    let mut example = Command::new(env!("CARGO_BIN_EXE_example-kube"));
    let output = example.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("2 refused, 3 served."), "{said}");
}

#[tokio::test]
async fn a_map_that_is_refused_twice_is_made_and_never_comes_early() {
    let (api, config) = start([busy("1"), busy("1"), created()]).await;
    make(&example_kube::client(&config).unwrap()).await.unwrap();
    assert_same_bytes_three_times(&api.0);
    for pair in api.0.lock().received().windows(2) {
        let waited = pair[1].0 - pair[0].0;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_comes_out_at_once_as_the_error_of_the_api() {
    let (api, config) = start([busy("3600")]).await;
    let client = example_kube::client(&config).unwrap();
    let Err(Error::Api(status)) = make(&client).await else {
        panic!("expected an error of the API");
    };
    assert_eq!((status.code, status.message.as_str()), (429, BUSY.trim()));
    assert_eq!(api.1.requests(), 1);
}

#[tokio::test]
async fn the_layer_fits_around_the_stack_of_kube() {
    let (api, mut config) = start([busy("0"), busy("0"), created()]).await;
    config.default_retry = false; // or it retries up to 15 times below us
    let known = |body: ReplayBody<Body>| {
        let bytes = body.known_bytes();
        Body::from(bytes.expect("the bodies of kube's requests are bytes"))
    };
    let client = ClientBuilder::try_from(config)
        .unwrap()
        .with_layer(&BufferLayer::new(8)) // it is not `Clone`
        .with_layer(&RateLimitRetryLayer::new().map_body(known))
        .build();
    make(&client).await.unwrap();
    assert_same_bytes_three_times(&api.0);
}

type Running = (Simulated<Script>, Server);

async fn start<const N: usize>(answers: [Response<Bytes>; N]) -> (Running, Config) {
    let api = Simulated::new(Script::new(answers));
    let server = Server::simulate(&api).await.unwrap();
    let config = Config::new(server.url().parse().unwrap());
    ((api, server), config)
}

async fn make(client: &Client) -> kube::Result<()> {
    let map = example_kube::create(client, "a").await?;
    assert_eq!(map.metadata.name.as_deref(), Some("a"));
    Ok(())
}

fn busy(retry_after: &str) -> Response<Bytes> {
    let head = Response::builder().status(429);
    let head = head.header("retry-after", retry_after);
    head.body(BUSY.into()).unwrap()
}

fn created() -> Response<Bytes> {
    let head = Response::builder().status(201);
    head.body(CREATED.into()).unwrap()
}

#[track_caller]
fn assert_same_bytes_three_times(api: &Simulated<Script>) {
    let api = api.lock();
    let received = api.received();
    assert_eq!(received.len(), 3);
    for (_, request) in received {
        assert_eq!(request.body(), received[0].1.body());
        let map: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(map["metadata"]["name"], "a");
    }
}
