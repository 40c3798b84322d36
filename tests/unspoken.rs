//! Servers that announce their limits in refusals alone.

mod support;

use futures_util::future::join_all;
use support::{Server, call, ms, ok, request, status};
use tower::Layer;
use tower_rate_limit_retry::RateLimitRetryLayer;

type Fields = &'static [(&'static str, &'static str)];

#[tokio::test(start_paused = true)]
async fn a_window_of_which_only_a_refusal_has_spoken_holds_nobody_back_when_it_is_over() {
    let of_refusals: [Fields; 4] = [
        &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "2")],
        &[
            ("x-ratelimit-limit", "100"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "2"),
        ],
        &[("ratelimit", "\"default\";r=0;t=2")],
        &[("ratelimit", "\"default\";r=0;t=2"), ("retry-after", "2")],
    ];
    for fields in of_refusals {
        let server = Server::new(move |sent| match sent.index {
            0 => fields.iter().fold(status(429), |reply, &(name, value)| {
                reply.header(name, value)
            }),
            _ => ok(),
        });
        let mut service = RateLimitRetryLayer::new().layer(server.clone());
        for id in 0..10 {
            let answer = call(&mut service, request(id)).await.await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        let times = server.times();
        assert!(times[1] >= 2_000, "{times:?}");
        assert_eq!(times[2..], [times[1]; 9], "{fields:?}");
    }
}

/// Such as of a cache, or of another endpoint.
#[tokio::test(start_paused = true)]
async fn a_window_that_is_on_holds_though_another_answer_does_not_speak_of_it() {
    let server = Server::new(|sent| match sent.index {
        0 => ok()
            .header("x-ratelimit-limit", "100")
            .header("x-ratelimit-remaining", "0")
            .header("x-ratelimit-reset", "60")
            .after(ms(50)),
        _ => ok().after(ms(100)),
    });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    let first = call(&mut service, request(0)).await;
    let second = call(&mut service, request(1)).await;
    join_all([first, second]).await;
    call(&mut service, request(2)).await.await.unwrap();
    let times = server.times();
    assert_eq!(times[..2], [0, 0]);
    assert!(times[2] >= 60_000, "{times:?}");
}
