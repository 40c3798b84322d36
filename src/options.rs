//! What a single request asks of the layer.

use crate::partition::Partition;
use std::time::Duration;

/// Settings of a single request, put into its [`http::Extensions`]; what is not set is as the layer
/// has it.
///
/// ```
/// use std::time::Duration;
/// use tower_rate_limit_retry::RequestOptions;
///
/// let request = http::Request::post("https://api.example.com/v1/chat/completions")
///     .extension(RequestOptions::new().deadline(Duration::from_secs(20)).tokens(1_200))
///     .body(())
///     .unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    pub(crate) deadline: Option<Duration>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) head_start: Duration,
    pub(crate) tokens: Option<u64>,
    pub(crate) partition: Option<Partition>,
}

impl RequestOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// No attempt starts later than this after `call`; zero: nothing is waited for.
    ///
    /// The default is the layer's deadline.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    /// How many times the request is sent again at the most, after refusals and failures; zero: they
    /// are given back.
    ///
    /// The default is what the layer has.
    pub fn max_retries(self, max_retries: u32) -> Self {
        Self {
            max_retries: Some(max_retries),
            ..self
        }
    }

    /// The call counts as having arrived this much earlier.
    ///
    /// It is the only priority there is: one with a head start of ten seconds goes before all that
    /// came in the last ten seconds, and after all that have been waiting for longer; so nobody
    /// starves. The default is zero.
    pub fn head_start(self, head_start: Duration) -> Self {
        Self { head_start, ..self }
    }

    /// What the request costs where the server counts tokens, input and output together.
    ///
    /// The default is an estimate: a quarter of the body's bytes, or `max_tokens`,
    /// `max_completion_tokens` or `max_output_tokens` of a JSON body if one of those is larger and
    /// tokens are known to count, as the server announces or a [`Quota`](crate::Quota) declares. A
    /// body that is a stream counts as none.
    pub fn tokens(self, tokens: u64) -> Self {
        Self {
            tokens: Some(tokens),
            ..self
        }
    }

    /// Which quota the request counts against, whatever the layer would say.
    pub fn partition(self, partition: Partition) -> Self {
        Self {
            partition: Some(partition),
            ..self
        }
    }
}
