//! The layer under a client of `kube`.

use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::ConfigExt;
use kube::{Api, Client, Config};
use tower::{BoxError, ServiceBuilder};
use tower_rate_limit_retry::RateLimitRetryLayer;

/// A client whose requests all go through the layer, which lies at the bottom of its stack.
///
/// Around the stack that kube makes by itself the layer fits as well, over a buffer; then
/// `config.default_retry` has to be `false`, or kube retries up to 15 times below it.
///
/// # Errors
///
/// If the credentials of `config` cannot be used.
pub fn client(config: &Config) -> kube::Result<Client> {
    // With TLS: a client with the connector of `config.rustls_https_connector()`.
    let http = HyperClient::builder(TokioExecutor::new()).build_http();
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(RateLimitRetryLayer::new())
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(stack, config.default_namespace.clone()))
}

/// Makes an empty config map.
///
/// # Errors
///
/// What Kubernetes says, if it does not like it: [`kube::Error::Api`].
pub async fn create(client: &Client, name: &str) -> kube::Result<ConfigMap> {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    maps.create(&kube::api::PostParams::default(), &map).await
}
