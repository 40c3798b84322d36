//! Servers that die, and come back.

use crate::{
    case::{Case, End, VICTIM, check_all},
    client::{Host, VERSIONS, in_time, refuse_once, request},
    content::{Digest, content, known},
    server::{Asked, Received, Reply, Server, Then},
};
use hyper_util::client::legacy::Error;
use std::time::Duration;
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::RateLimitRetryLayer;

const WAIT: Duration = Duration::from_millis(600);

#[tokio::test]
async fn what_is_no_answer_is_the_clients_error_and_nothing_else() {
    let cases = [
        ("a reset instead of an answer", Then::ResetsFirst),
        ("no HTTP", Then::Babbles),
    ];
    let cases = cases.map(|(name, then)| Case::new(name, Reply::ok().then(then), End::Fails));
    check_all(cases.into()).await;
}

#[tokio::test]
async fn a_server_that_is_back_by_the_end_of_the_wait_gets_the_whole_body() {
    for version in VERSIONS {
        let mut host = Host::start(version, &RateLimitRetryLayer::new(), rule);
        let bytes = content(VICTIM, 20_000);
        let call = host.post(VICTIM, known(&bytes));
        let life = async {
            let dead = after_the_refusal(&host.server).await;
            sleep(WAIT / 4).await;
            dead
        };
        let revive = async { life.await.revive() };
        let (answer, revived) = tokio::join!(call, revive);
        assert_eq!(answer.unwrap().status, 200);
        let log = revived.log();
        assert_eq!(log.len(), 2);
        let whole = Received::Whole(Digest::of(&bytes));
        assert!(log.iter().all(|sent| sent.received == whole));
        host.server = revived;
        host.assert_next_call_is_unharmed().await;
    }
}

#[tokio::test]
async fn a_server_that_is_gone_at_the_end_of_the_wait_is_the_clients_error() {
    for version in VERSIONS {
        let mut host = Host::start(version, &RateLimitRetryLayer::new(), rule);
        let bytes = content(VICTIM, 20_000);
        let call = host.post(VICTIM, known(&bytes));
        let (answer, dead) = tokio::join!(call, after_the_refusal(&host.server));
        answer.unwrap_err();
        host.server = dead.revive();
        host.assert_next_call_is_unharmed().await;
        let of_victim = |sent: &&crate::server::Sent| sent.id == VICTIM;
        assert_eq!(host.server.log().iter().filter(of_victim).count(), 1);
    }
}

#[tokio::test]
async fn a_server_that_comes_back_later_is_found_by_who_retries_connecting() {
    for version in VERSIONS {
        let layer = RateLimitRetryLayer::new();
        let mut host = Host::start(version, &layer, rule);
        let bytes = content(VICTIM, 20_000);
        let mut request = request(&host.server, VICTIM, known(&bytes));
        let key = http::HeaderValue::from_static("once");
        request.headers_mut().insert("idempotency-key", key);
        let retrying = layer.retry_error(|error: &Error| error.is_connect());
        let call = in_time(retrying.layer(host.client.clone()).oneshot(request));
        let revive = async {
            let dead = after_the_refusal(&host.server).await;
            sleep(2 * WAIT).await;
            dead.revive()
        };
        let (answer, revived) = tokio::join!(call, revive);
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        drop(answer);
        let log = revived.log();
        assert_eq!(log.len(), 2);
        let whole = Received::Whole(Digest::of(&bytes));
        assert!(log.iter().all(|sent| sent.received == whole));
        host.server = revived;
        host.assert_next_call_is_unharmed().await;
    }
}

/// The first attempt is refused for [`WAIT`].
fn rule(asked: Asked) -> Reply {
    match (asked.id, asked.before) {
        (VICTIM, 0) => Reply::refusal(WAIT),
        (VICTIM, _) => Reply::ok(),
        _ => refuse_once(asked),
    }
}

/// The server dies when the client has had the time to see the refusal.
async fn after_the_refusal(server: &Server) -> crate::server::Dead {
    while server.log().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(WAIT / 4).await;
    server.die().await
}
