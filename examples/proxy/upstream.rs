//! Where requests go.

use std::fmt;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// The API's scheme and host, and the path that stands before those of requests.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or begins with a slash and does not end with one.
    prefix: String,
}

impl Upstream {
    /// # Errors
    ///
    /// What is wrong with the URL, in one line.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        Self::try_parse(url).ok_or_else(|| {
            // Not what was found: a URL with a password is one of the mistakes.
            "--upstream: expected http(s)://host[:port][/path], without user or query".to_owned()
        })
    }

    fn try_parse(url: &str) -> Option<Self> {
        let parts = url.parse::<Uri>().ok()?.into_parts();
        let scheme = parts.scheme?;
        let is_http = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        let authority = parts.authority?;
        let names_a_host = !authority.host().is_empty() && !authority.as_str().contains('@');
        // A port that is empty or beyond 65535 is none to `http`, and would become the default one.
        let has_no_wrong_port =
            authority.port().is_some() || authority.as_str().ends_with(authority.host());
        let path = parts.path_and_query?;
        (is_http && names_a_host && has_no_wrong_port && path.query().is_none()).then(|| Self {
            scheme,
            authority,
            prefix: path.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Where the request for `target` goes: never to another host, whatever the target says.
    /// `None` if it has no path.
    pub(super) fn target(&self, target: &Uri) -> Option<Uri> {
        let path = target.path_and_query()?.as_str();
        if !path.starts_with('/') {
            return None;
        }
        let path: PathAndQuery = format!("{}{path}", self.prefix).parse().ok()?;
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .ok()
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}
