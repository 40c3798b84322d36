//! The layer under `octocrab`.

use std::error::Error;
use std::sync::Arc;

use http::{HeaderValue, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use octocrab::service::middleware::auth_header::AuthHeaderLayer;
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::service::middleware::extra_headers::ExtraHeadersLayer;
use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use serde_json::{Value, json};
use tower::Layer;
use tower_rate_limit_retry::RateLimitRetryLayer;

/// A client whose requests all go through the layer.
///
/// The default builder of octocrab sends again by itself, up to three times and at once, and takes
/// no layers. The empty one does nothing by itself; so what the other adds is added here.
///
/// # Errors
///
/// If the token cannot stand in a header field.
pub fn client(api: &Uri, token: &str) -> Result<Octocrab, Box<dyn Error>> {
    // With TLS: a client with the connector of `hyper-rustls`.
    let http = Client::builder(TokioExecutor::new()).build_http();

    let user_agent = (header::USER_AGENT, HeaderValue::from_static("example"));
    let mut token = HeaderValue::try_from(format!("Bearer {token}"))?;
    token.set_sensitive(true);

    let github = OctocrabBuilder::new_empty()
        .with_service(RateLimitRetryLayer::new().layer(http))
        // What comes later is further out: ours sees whose token it is, and keeps the limits of
        // several apart.
        .with_layer(&ExtraHeadersLayer::new(Arc::new(vec![user_agent])))
        .with_layer(&BaseUriLayer::new(api.clone()))
        .with_layer(&AuthHeaderLayer::new(Some(token), api.clone(), api.clone()))
        .with_auth(AuthState::None) // the layer above has done it
        .build()?;
    Ok(github)
}

/// Comments on an issue.
///
/// # Errors
///
/// What GitHub says, if it does not like it: [`octocrab::Error::GitHub`].
pub async fn comment(github: &Octocrab, text: &str) -> octocrab::Result<Value> {
    let comment = json!({ "body": text });
    let path = "/repos/acme/rocket/issues/1/comments";
    github.post(path, Some(&comment)).await
}
