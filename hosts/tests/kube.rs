//! `kube`: the layer at the bottom of an own stack, and around the default one.

mod common;

use common::{Api, hyper, layer};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use tower::{BoxError, ServiceBuilder, buffer::BufferLayer};
use tower_rate_limit_retry::ReplayBody;

#[tokio::test]
async fn at_the_bottom_of_a_stack() {
    let api = Api::start(r#"{"kind": "Pod"}"#).await;
    let config = Config::new(api.url().parse().unwrap());
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().unwrap())
        .layer(layer())
        .map_err(BoxError::from)
        .service(hyper::<ReplayBody<Body>>());
    post(Client::new(stack, "default"), &api).await;
}

#[tokio::test]
async fn around_the_default_stack() {
    let api = Api::start(r#"{"kind": "Pod"}"#).await;
    let mut config = Config::new(api.url().parse().unwrap());
    config.default_retry = false; // or it retries up to 15 times below us
    let known = |body: ReplayBody<Body>| {
        Body::from(
            body.known_bytes()
                .expect("the bodies of kube's requests are bytes"),
        )
    };
    let client = ClientBuilder::try_from(config)
        .unwrap()
        .with_layer(&BufferLayer::new(8)) // it is not `Clone`
        .with_layer(&layer().map_body(known))
        .build();
    post(client, &api).await;
}

async fn post(client: Client, api: &Api) {
    let request = http::Request::post("/api/v1/pods")
        .body(b"{}".to_vec())
        .unwrap();
    let pod: serde_json::Value = client.request(request).await.unwrap();
    assert_eq!(pod["kind"], "Pod");
    assert_eq!(api.body(), "{}");
}
