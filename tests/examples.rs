//! The examples do what they say.

#[allow(dead_code, reason = "its `main` is not run here")]
#[path = "../examples/hyper.rs"]
mod hyper;

#[tokio::test]
async fn hypers_client_is_refused_nothing() {
    let sent = hyper::run().await.unwrap();
    assert_eq!(sent, 31, "one request for each answer");
}
