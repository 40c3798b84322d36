//! `tonic`: the layer around a channel.

mod common;

use common::{Api, hyper, layer};
use http_body_util::BodyExt;
use tonic::{body::Body, client::GrpcService, transport::Endpoint};
use tower::{Layer, ServiceExt};

fn is_grpc_service<S: GrpcService<Body> + Clone + Send>(_: &S) {}

#[tokio::test]
async fn a_channel_in_the_layer_is_one_for_generated_clients() {
    let api = Api::start("served").await;
    let channel = Endpoint::from_shared(api.url()).unwrap().connect_lazy();
    let limited = layer().map_body(Body::new).layer(channel);
    is_grpc_service(&limited);
    is_grpc_service(&layer().layer(hyper()));

    let body = Body::new("hello".to_owned());
    let request = http::Request::post(api.url()).body(body).unwrap();
    let response = limited.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "served"
    );
    assert_eq!(api.body(), "hello");
}
