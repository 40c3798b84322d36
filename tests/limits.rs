//! What the program tells while the layer is in use.

mod support;

use futures_util::future::join_all;
use http::Request;
use std::{num::NonZero, time::Duration};
use support::{Answer, Body, Server, call, ms, ok, poll_once, refuse, request, status};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{
    Limits, Partition, Quota, RateLimitRetryLayer, RequestOptions, RetryReport, StopReason,
};

const YEARS: Duration = Duration::from_secs(100_000_000);
const PARTITION: &str = "api.example.com";

#[tokio::test(start_paused = true)]
async fn what_an_answer_has_cost_corrects_what_it_was_charged_with() {
    for quota in quotas() {
        for (estimate, cost) in [(900, 100), (100, 900), (500, 500)] {
            let (layer, server) = (
                RateLimitRetryLayer::new().quota(quota),
                Server::new(|_| ok()),
            );
            let answer = send(&layer, &server, 0, estimate).await;
            layer.limits().settle(answer.extensions(), cost);
            assert_left(&layer, &server, 1_000 - cost).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_word_counts() {
    for quota in quotas() {
        let (layer, server) = (
            RateLimitRetryLayer::new().quota(quota),
            Server::new(|_| ok()),
        );
        let answer = send(&layer, &server, 0, 500).await;
        let copy = answer.extensions().clone();
        for cost in [100, 800, 100, 300] {
            layer.limits().settle(answer.extensions(), cost);
            layer.limits().settle(&copy, cost);
        }
        assert_left(&layer, &server, 700).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_the_limit_is_corrected_by_what_it_has_taken() {
    for quota in quotas() {
        let (layer, server) = (
            RateLimitRetryLayer::new().quota(quota),
            Server::new(|_| ok()),
        );
        send(&layer, &server, 0, 300).await;
        let answer = send(&layer, &server, 1, 5_000).await;
        layer.limits().settle(answer.extensions(), 100);
        assert_left(&layer, &server, 600).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_longer_counts_is_not_given_back() {
    for quota in quotas() {
        let (layer, server) = (
            RateLimitRetryLayer::new().quota(quota),
            Server::new(|_| ok()),
        );
        let answer = send(&layer, &server, 0, 900).await;
        sleep(Duration::from_secs(3_600)).await;
        send(&layer, &server, 1, 900).await;
        layer.limits().settle(answer.extensions(), 0);
        assert_left(&layer, &server, 100).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_answers_that_were_charged_are_corrected() {
    let server = Server::new(|sent| if sent.id == 7 { refuse("3600") } else { ok() });
    let [with, without] = [Some(quotas()[0]), None].map(|quota| {
        let layer = RateLimitRetryLayer::new();
        quota.map_or_else(|| layer.clone(), |quota| layer.clone().quota(quota))
    });
    let uncharged = send(&without, &server, 0, 900).await;
    assert!(uncharged.extensions().is_empty());
    let refused = send(&with, &server, 7, 10).await;
    assert_eq!(report(&refused).stop_reason(), Some(StopReason::MaxDelay));
    let local = send(&with, &server, 8, 10).await;
    assert!(report(&local).answered_locally());
    with.limits().forget(&Partition::new(PARTITION));
    sleep(Duration::from_secs(60)).await;
    let charged = send(&with, &server, 1, 900).await;
    for answer in [&uncharged, &refused, &local] {
        with.limits().settle(answer.extensions(), 0);
    }
    without.limits().settle(charged.extensions(), 0);
    assert_left(&with, &server, 100).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_have_used_is_charged() {
    for quota in quotas() {
        let (layer, server) = (
            RateLimitRetryLayer::new().quota(quota),
            Server::new(|_| ok()),
        );
        send(&layer, &server, 0, 100).await;
        let limits = layer.limits();
        limits.charge(&Partition::new(PARTITION), 700);
        limits.charge(&Partition::new("unknown"), 700);
        assert_left(&layer, &server, 200).await;
    }
}

#[tokio::test(start_paused = true)]
async fn however_much_is_charged_a_span_makes_up_for_it() {
    for quota in quotas() {
        let (layer, server) = (
            RateLimitRetryLayer::new().quota(quota),
            Server::new(|_| ok()),
        );
        send(&layer, &server, 0, 100).await;
        let began = Instant::now();
        layer.limits().charge(&Partition::new(PARTITION), u64::MAX);
        assert_eq!(send(&layer, &server, 1, 0).await.status(), 200);
        assert!(began.elapsed() <= ms(60_001), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_in_vain_for_what_is_charged_are_told_at_once() {
    let (layer, server) = (
        RateLimitRetryLayer::new().quota(quotas()[0]),
        Server::new(|_| ok()),
    );
    send(&layer, &server, 0, 900).await;
    let options = RequestOptions::new().tokens(200).deadline(ms(70_000));
    let hurried = tokio::spawn(layer.layer(server.clone()).oneshot(with(1, options)));
    sleep(ms(30_000)).await;
    let began = Instant::now();
    layer.limits().charge(&Partition::new(PARTITION), 2_000);
    let answer = hurried.await.unwrap().unwrap();
    assert_eq!(report(&answer).stop_reason(), Some(StopReason::Deadline));
    assert_eq!(began.elapsed(), ms(0));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_forgotten_lets_those_who_wait_go_in_order() {
    let (layer, server, limits) = paused_for_years().await;
    let waiting = (1..=10).map(|id| tokio::spawn(layer.layer(server.clone()).oneshot(request(id))));
    let waiting: Vec<_> = waiting.collect();
    sleep(ms(5_000)).await;
    limits.forget(&Partition::new("unknown"));
    sleep(ms(5_000)).await;
    assert_eq!(server.times(), [0]);
    limits.forget(&Partition::new(PARTITION));
    for answer in join_all(waiting).await {
        assert_eq!(answer.unwrap().unwrap().status(), 200);
    }
    assert_eq!(server.ids(), (0..=10).collect::<Vec<_>>());
    assert_eq!(server.times()[1..], [10_000; 10]);
}

#[tokio::test(start_paused = true)]
async fn a_held_front_does_not_keep_the_others_from_what_is_forgotten() {
    let (layer, server, limits) = paused_for_years().await;
    let mut held = call(&mut layer.layer(server.clone()), request(1)).await;
    assert!(poll_once(&mut held).await.is_pending());
    let behind = tokio::spawn(layer.layer(server.clone()).oneshot(request(2)));
    sleep(ms(1_000)).await;
    limits.forget(&Partition::new(PARTITION));
    behind.await.unwrap().unwrap();
    assert_eq!(server.ids(), [0, 2]);
    assert!(server.times()[1] <= 1_200, "{:?}", server.times());
}

#[tokio::test(start_paused = true)]
async fn what_was_announced_is_forgotten_too() {
    let server = Server::new(|sent| match sent.index {
        0 => ok()
            .header("x-ratelimit-limit-requests", "1")
            .header("x-ratelimit-remaining-requests", "0")
            .header("x-ratelimit-reset-requests", "200s"),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new();
    send(&layer, &server, 0, 0).await;
    let waiting = tokio::spawn(layer.layer(server.clone()).oneshot(request(1)));
    sleep(ms(1_000)).await;
    layer.limits().forget(&Partition::new(PARTITION));
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(report(&answer).waited(), ms(1_000));
    assert_eq!(report(&answer).partition(), &Partition::new(PARTITION));
}

#[tokio::test(start_paused = true)]
async fn what_was_declared_is_not_forgotten() {
    let (layer, server) = (
        RateLimitRetryLayer::new().quota(quotas()[0]),
        Server::new(|_| ok()),
    );
    send(&layer, &server, 0, 900).await;
    layer.limits().forget(&Partition::new(PARTITION));
    assert_left(&layer, &server, 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_that_is_news_again() {
    let server = Server::new(|sent| match sent.id {
        0 => refuse("3600"),
        1 => status(429).after(ms(1_500)),
        2 => refuse("3"),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new().max_retries(0);
    let early = tokio::spawn(layer.layer(server.clone()).oneshot(request(1)));
    sleep(ms(1)).await;
    let refusal = send(&layer, &server, 0, 0).await;
    layer.limits().forget(report(&refusal).partition());
    send(&layer, &server, 2, 0).await;
    send(&layer, &server, 3, 0).await;
    assert_eq!(server.times(), [0, 1, 1, 3_001]);
    early.await.unwrap().unwrap();
}

#[test]
fn a_handle_can_be_kept_anywhere() {
    fn keeps<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: T) {}
    keeps(RateLimitRetryLayer::new().limits());
}

/// A thousand tokens a minute, by both kinds of accounts.
fn quotas() -> [Quota; 2] {
    let thousand = NonZero::new(1_000).unwrap();
    let quota = Quota::tokens(thousand).per_minute();
    [quota, quota.burst(thousand)]
}

/// A layer that would wait for years, whose only partition is paused for so long.
async fn paused_for_years() -> (RateLimitRetryLayer, Server, Limits) {
    let server = Server::new(|sent| {
        if sent.id == 0 {
            refuse("99999999")
        } else {
            ok()
        }
    });
    let layer = RateLimitRetryLayer::new().max_delay(YEARS).max_retries(0);
    let refused = layer
        .layer(server.clone())
        .oneshot(request(0))
        .await
        .unwrap();
    assert_eq!(report(&refused).stop_reason(), Some(StopReason::MaxRetries));
    let limits = layer.limits();
    (layer, server, limits)
}

fn report(answer: &Answer) -> &RetryReport {
    answer.extensions().get().expect("an answer with a report")
}

fn with(id: usize, options: RequestOptions) -> Request<Body> {
    let mut request = request(id);
    request.extensions_mut().insert(options);
    request
}

async fn send(layer: &RateLimitRetryLayer, server: &Server, id: usize, tokens: u64) -> Answer {
    let request = with(id, RequestOptions::new().tokens(tokens));
    layer.layer(server.clone()).oneshot(request).await.unwrap()
}

/// So much is left for a request that cannot wait, and one more token is not.
async fn assert_left(layer: &RateLimitRetryLayer, server: &Server, tokens: u64) {
    let hurried = |tokens| {
        let options = RequestOptions::new()
            .tokens(tokens)
            .deadline(Duration::ZERO);
        layer.layer(server.clone()).oneshot(with(99, options))
    };
    // Of a bucket, what flows in during the cushion of a millisecond is left over.
    let cushion = 1;
    let [more, all] = [tokens + 1, tokens - cushion].map(hurried);
    assert_eq!(more.await.unwrap().status(), 429, "{tokens} and one more");
    assert_eq!(all.await.unwrap().status(), 200, "{tokens}");
}
