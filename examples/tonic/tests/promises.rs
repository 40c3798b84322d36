//! What holds for calls that go through the layer, seen from both ends.

use std::collections::VecDeque;
use std::process::Command;
use std::time::Duration;

use example_tonic::client;
use example_tonic::server::{Server, push_back};
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::ServiceExt;

const WAIT: Duration = Duration::from_millis(300);

#[test]
fn the_example_runs() {
    let mut example = Command::new(env!("CARGO_BIN_EXE_example-tonic"));
    let output = example.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains(" 12 answered."), "{said}");
}

#[tokio::test]
async fn a_call_that_is_pushed_back_twice_is_answered_and_never_comes_early() {
    let refusal = || push_back(Some(WAIT));
    let server = refusing([refusal(), refusal()]).await;
    let answer = check(&server).await.unwrap();
    assert_eq!(answer.into_inner().status, 1); // serving

    let received = server.received();
    assert_eq!(received.len(), 3);
    let (_, body) = &received[0];
    assert!(body.ends_with(b"hello"), "{body:?}");
    for pair in received.windows(2) {
        assert_eq!(pair[1].1, body);
        let waited = pair[1].0 - pair[0].0;
        assert!(waited >= WAIT, "{waited:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_trailers_only() {
    let server = refusing([push_back(Some(WAIT))]).await;
    let request = http::Request::post("/grpc.health.v1.Health/Check");
    let request = request.header("content-type", "application/grpc");
    let request = request.body(Body::new("\0\0\0\0\0".to_owned())).unwrap();
    let response = channel(&server).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "8");
    assert_eq!(response.headers()["grpc-retry-pushback-ms"], "300");
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers(), None);
    assert_eq!(body.to_bytes(), "");
}

#[tokio::test]
async fn a_service_that_says_never_comes_out_at_once_as_a_status() {
    let server = refusing([push_back(None)]).await;
    let status = check(&server).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "too many calls");
    assert_eq!(
        status.metadata().get("grpc-retry-pushback-ms").unwrap(),
        "-1"
    );
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_shortage_without_push_back_comes_out_at_once_as_a_status() {
    let server = refusing([Status::resource_exhausted("out of disk")]).await;
    let status = check(&server).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "out of disk");
    assert_eq!(server.received().len(), 1);
}

/// A server that answers so, and then serves.
async fn refusing<const N: usize>(refusals: [Status; N]) -> Server {
    let mut refusals = VecDeque::from(refusals);
    let rule = move || refusals.pop_front().map_or(Ok(()), Err);
    Server::start(rule).await.unwrap()
}

fn channel(server: &Server) -> Channel {
    Endpoint::from_shared(server.url()).unwrap().connect_lazy()
}

async fn check(server: &Server) -> Result<Response<HealthCheckResponse>, Status> {
    let service = "hello".to_owned();
    let mut limited = client(channel(server));
    limited.check(HealthCheckRequest { service }).await
}
