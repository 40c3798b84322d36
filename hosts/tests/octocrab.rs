//! `octocrab`: the builder without a service of its own, and so without its own retries.

mod common;

use common::{Api, hyper, layer};
use octocrab::{AuthState, OctoBody, OctocrabBuilder, service::middleware::base_uri::BaseUriLayer};
use tower::Layer;
use tower_rate_limit_retry::{ReplayBody, ReqwestService};

#[tokio::test]
async fn under_the_layers_of_octocrab() {
    let api = Api::start(r#"{"number": 1}"#).await;
    let github = OctocrabBuilder::new_empty()
        .with_service(tower::Layer::layer(
            &layer(),
            hyper::<ReplayBody<OctoBody>>(),
        ))
        .with_layer(&BaseUriLayer::new(api.url().parse().unwrap()))
        .with_auth(AuthState::None)
        .build()
        .unwrap();
    post(&github, &api).await;
}

#[tokio::test]
async fn as_one_of_the_layers_of_octocrab() {
    let api = Api::start(r#"{"number": 1}"#).await;
    let github = OctocrabBuilder::new_empty()
        .with_service(hyper::<OctoBody>())
        .with_layer(&layer().map_body(OctoBody::new::<ReplayBody<OctoBody>>))
        .with_layer(&BaseUriLayer::new(api.url().parse().unwrap()))
        .with_auth(AuthState::None)
        .build()
        .unwrap();
    post(&github, &api).await;
}

#[tokio::test]
async fn over_reqwest() {
    let api = Api::start(r#"{"number": 1}"#).await;
    let client = ReqwestService::new(reqwest::Client::new());
    let github = OctocrabBuilder::new_empty()
        .with_service(layer().layer(client))
        .with_layer(&BaseUriLayer::new(api.url().parse().unwrap()))
        .with_auth(AuthState::None)
        .build()
        .unwrap();
    post(&github, &api).await;
}

async fn post(github: &octocrab::Octocrab, api: &Api) {
    let issue = serde_json::json!({"title": "bug"});
    let answer: serde_json::Value = github.post("/issues", Some(&issue)).await.unwrap();
    assert_eq!(answer["number"], 1);
    assert_eq!(api.body(), issue.to_string());
}
