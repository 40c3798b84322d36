//! Which requests count against the same quota.
//!
//! By default a partition is an origin (the URI's authority, else the `Host` field) and a
//! credential: servers count by API key, and a layer may serve many. What is kept of the credential
//! is a hash of 64 bits under a key that is drawn at random for each layer; the credential itself
//! is kept nowhere.
//!
//! The credential is the `authorization` field if its scheme is `Bearer`, `Basic`, `Token` or
//! `Key`, else the first of `x-api-key`, `api-key`, `x-goog-api-key`, `private-token` and
//! `x-auth-token`; beside it count `openai-organization` and `openai-project`. Fields of other
//! schemes (AWS's `SigV4`, Digest, `OAuth` 1, …) change with every request, and so count as none.
//! So does a key in the query.
//!
//! Where a server counts by more than that, give the layer a function:
//!
//! ```
//! use tower_rate_limit_retry::{RateLimitRetryLayer, partition};
//!
//! // OpenAI's limits are per model.
//! let layer = RateLimitRetryLayer::new().partition_by(partition::by_model);
//! # let _ = layer;
//! // One quota for reading and another for writing.
//! let layer = RateLimitRetryLayer::new().partition_by(|request| {
//!     let kind = if request.method().is_safe() { "read" } else { "write" };
//!     partition::by_credential(request).and(kind)
//! });
//! # let _ = layer;
//! ```

use crate::payload::Payload;
use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, header, request::Parts,
    uri::Authority,
};
use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::Arc,
};

/// Names a quota: requests with equal partitions count against the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    label: Arc<str>,
}

impl Partition {
    /// A partition of this name. Put nothing secret into it: it appears in logs and in local
    /// answers.
    pub fn new(label: impl Into<Arc<str>>) -> Self {
        Self {
            label: label.into(),
        }
    }

    /// The name, as it was given.
    pub fn as_str(&self) -> &str {
        &self.label
    }

    /// The part of this one that is named `part`.
    pub fn and(&self, part: impl fmt::Display) -> Self {
        Self::new(format!("{self} {part}"))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// What a request is told apart by.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    head: &'a Parts,
    body: Option<&'a Bytes>,
    keyed: &'a Keyed,
}

impl<'a> Request<'a> {
    pub(crate) fn new(head: &'a Parts, body: Option<&'a Bytes>, keyed: &'a Keyed) -> Self {
        Self { head, body, keyed }
    }

    /// The method.
    pub fn method(&self) -> &'a Method {
        &self.head.method
    }

    /// The target.
    pub fn uri(&self) -> &'a Uri {
        &self.head.uri
    }

    /// The header fields.
    pub fn headers(&self) -> &'a HeaderMap {
        &self.head.headers
    }

    /// The extensions.
    pub fn extensions(&self) -> &'a Extensions {
        &self.head.extensions
    }

    /// The body, if all of it is known before it is sent: so it is for bytes and strings, but not
    /// for a stream.
    pub fn body(&self) -> Option<&'a Bytes> {
        self.body
    }
}

/// Says nothing of the request but its method: a target and header fields may be secret.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.head.method)
            .finish_non_exhaustive()
    }
}

/// By origin and credential: what the layer does without
/// [`partition_by`](crate::RateLimitRetryLayer::partition_by).
pub fn by_credential(request: &Request<'_>) -> Partition {
    label(request.head, request.keyed)
}

/// A longer name of a model than this is none: no server has one, and labels go into logs.
const MAX_MODEL: usize = 128;

/// By origin, credential, and the `model` of a JSON body that is known before it is sent.
///
/// A body that is a stream, is no JSON object or names no model (or one of more than 128 bytes)
/// counts as [`by_credential`] has it.
pub fn by_model(request: &Request<'_>) -> Partition {
    let partition = by_credential(request);
    match request.body.and_then(|body| Payload::read(body).model) {
        Some(model) if model.len() <= MAX_MODEL => partition.and(model.escape_debug()),
        _ => partition,
    }
}

/// By origin alone: for servers that count by address, or for a layer that has only one credential.
pub fn by_origin(request: &Request<'_>) -> Partition {
    Partition::new(origin(request.head))
}

/// A function that names a request's partition.
pub(crate) type PartitionBy = Arc<dyn Fn(&Request<'_>) -> Partition + Send + Sync>;

/// What stands for a partition in the table: the keyed hash of its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey(u64);

/// Hashes keys to themselves: they are hashes already, and nobody can choose them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyHasher(u64);

/// Makes such hashers for a map.
pub(crate) type ByKey = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        // Keys are written as numbers.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The random key under which credentials and labels are hashed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyed(RandomState);

impl Keyed {
    /// The key of the partition of this name, be it the user's or a [`label`].
    pub(crate) fn key(&self, partition: &Partition) -> PartitionKey {
        let (origin, fingerprint) = split_label(partition.as_str());
        self.key_of(origin, fingerprint)
    }

    /// The key of the partition that a request has by default: that of its [`label`], without the
    /// making of it.
    #[inline]
    pub(crate) fn default_key(&self, head: &Parts) -> PartitionKey {
        self.key_of(&origin(head), self.fingerprint(&head.headers))
    }

    #[inline]
    fn key_of(&self, origin: &str, fingerprint: Option<u64>) -> PartitionKey {
        let mut hasher = self.0.build_hasher();
        if let Some(fingerprint) = fingerprint {
            // No text begins with this byte.
            let mut prefix = [0xFF; 9];
            prefix[1..].copy_from_slice(&fingerprint.to_ne_bytes());
            hasher.write(&prefix);
        }
        hasher.write(origin.as_bytes());
        PartitionKey(hasher.finish())
    }

    /// A keyed hash of the credential that a request carries, if it carries any.
    #[inline]
    fn fingerprint(&self, headers: &HeaderMap) -> Option<u64> {
        let mut hasher = self.0.build_hasher();
        let mut is_any = false;
        let mut add = |index: usize, value: &HeaderValue| {
            is_any = true;
            // No value is that long.
            hasher.write_usize(index << (usize::BITS - 8) | value.len());
            hasher.write(value.as_bytes());
        };
        if let Some((index, value)) = credential(headers) {
            add(index, value);
        }
        for (index, name) in (FIELDS.len() + 1..).zip(&BESIDE) {
            if let Some(value) = headers.get(name) {
                add(index, value);
            }
        }
        is_any.then(|| hasher.finish())
    }
}

/// The name of the partition that a request has by default.
pub(crate) fn label(head: &Parts, keyed: &Keyed) -> Partition {
    let origin = origin(head);
    Partition::new(match keyed.fingerprint(&head.headers) {
        Some(fingerprint) => format!("{origin}#{fingerprint:016x}"),
        None => origin.into_owned(),
    })
}

/// A label's origin and fingerprint, as [`label`] has joined them; else all of it.
fn split_label(label: &str) -> (&str, Option<u64>) {
    let parts = label.rsplit_once('#').filter(|(_, hex)| {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        hex.len() == 16 && hex.bytes().all(is_digit)
    });
    let parts = parts.and_then(|(origin, hex)| Some((origin, u64::from_str_radix(hex, 16).ok()?)));
    parts.map_or((label, None), |(origin, fingerprint)| {
        (origin, Some(fingerprint))
    })
}

/// Names that need not be parsed for each request.
static FIELDS: [HeaderName; 5] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("private-token"),
    HeaderName::from_static("x-auth-token"),
];
static BESIDE: [HeaderName; 2] = [
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
];

/// The credential of a request, and which of the fields it is from.
#[inline]
fn credential(headers: &HeaderMap) -> Option<(usize, &HeaderValue)> {
    let authorization = headers
        .get(header::AUTHORIZATION)
        .filter(|value| is_constant(value));
    authorization.map(|value| (0, value)).or_else(|| {
        let mut fields = FIELDS.iter().zip(1..);
        fields.find_map(|(name, index)| Some((index, headers.get(name)?)))
    })
}

/// Whether the scheme is one whose value is the same in every request.
fn is_constant(authorization: &HeaderValue) -> bool {
    let value = authorization.as_bytes();
    ["bearer", "basic", "token", "key"].iter().any(|known| {
        let (scheme, rest) = value.split_at(known.len().min(value.len()));
        rest.first().is_none_or(|&byte| byte == b' ')
            && scheme.eq_ignore_ascii_case(known.as_bytes())
    })
}

/// Where a request goes, without user and password, in lower case, and without a port that is the
/// scheme's.
#[inline]
fn origin(head: &Parts) -> Cow<'_, str> {
    let (authority, host) = (head.uri.authority(), || {
        head.headers.get(header::HOST)?.to_str().ok()
    });
    let text = authority.map_or_else(|| host().unwrap_or("-"), Authority::as_str);
    // Most have none of these, and every call comes here.
    if !text
        .bytes()
        .any(|byte| matches!(byte, b':' | b'@' | b'A'..=b'Z'))
    {
        return text.into();
    }
    let text: Cow<'_, str> = authority.map_or(text.into(), |authority| {
        let default = match head.uri.scheme_str() {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        };
        let host = authority.host();
        let port = authority.port();
        match port.filter(|port| Some(port.as_u16()) != default) {
            None => host.into(),
            Some(port)
                if port
                    .as_str()
                    .starts_with(|first| matches!(first, '1'..='9')) =>
            {
                text.rsplit_once('@')
                    .map_or(text, |(_, after)| after)
                    .into()
            }
            // It has leading zeros, or a sign.
            Some(port) => format!("{host}:{}", port.as_u16()).into(),
        }
    });
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn labels(keyed: &Keyed, heads: &[Parts]) -> Vec<String> {
        let label = |head| label(head, keyed).to_string();
        heads.iter().map(label).collect()
    }

    #[test]
    fn an_origin_is_its_host_and_the_port_that_is_not_the_schemes() {
        let cases = [
            ("https://api.example.com/v1?key=secret", "api.example.com"),
            ("https://API.Example.com:443/", "api.example.com"),
            ("http://api.example.com:443/", "api.example.com:443"),
            ("http://api.example.com:80/", "api.example.com"),
            (
                "http://user:password@api.example.com:8080/",
                "api.example.com:8080",
            ),
            ("http://[::1]:8080/", "[::1]:8080"),
            ("http://api.example.com:08080/", "api.example.com:8080"),
            ("http://user@api.example.com:+8080/", "api.example.com:8080"),
            ("http://api.example.com:0/", "api.example.com:0"),
            ("http://api.example.com:080/", "api.example.com"),
            ("http://api.example.com:/", "api.example.com"),
            ("/v1/models", "-"),
        ];
        for (uri, expected) in cases {
            assert_eq!(
                labels(&Keyed::default(), &[head(uri, &[])]),
                [expected],
                "{uri}"
            );
        }
        let by_host = head("/v1/models", &[("host", "Api.Example.com:8080")]);
        assert_eq!(
            labels(&Keyed::default(), &[by_host]),
            ["api.example.com:8080"]
        );
    }

    #[test]
    fn credentials_tell_partitions_apart() {
        let same = |a: &[(&'static str, &str)], b: &[(&'static str, &str)]| {
            let keyed = Keyed::default();
            let (a, b) = (head("http://a/1", a), head("http://a/2", b));
            assert_eq!(
                keyed.default_key(&a) == keyed.default_key(&b),
                label(&a, &keyed) == label(&b, &keyed),
                "key and label agree"
            );
            label(&a, &keyed) == label(&b, &keyed)
        };
        assert!(same(&[], &[("accept", "text/plain")]));
        for name in [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "private-token",
            "x-auth-token",
            "openai-organization",
            "openai-project",
        ] {
            assert!(same(&[(name, "Bearer a")], &[(name, "Bearer a")]), "{name}");
            assert!(
                !same(&[(name, "Bearer a")], &[(name, "Bearer b")]),
                "{name}"
            );
            assert!(!same(&[(name, "Bearer a")], &[]), "{name}");
        }
        for scheme in ["Basic", "bEARER", "token", "Key"] {
            let [a, b] = ["a", "b"].map(|value| format!("{scheme} {value}"));
            assert!(
                !same(&[("authorization", &a)], &[("authorization", &b)]),
                "{scheme}"
            );
        }
        let project = |name| [("authorization", "Bearer a"), ("openai-project", name)];
        assert!(!same(&project("one"), &project("two")));
        assert!(
            !same(&[("x-api-key", "a")], &[("api-key", "a")]),
            "another field, another key"
        );
        let beside = |key| [("authorization", "AWS4-HMAC-SHA256 x"), ("x-api-key", key)];
        assert!(!same(&beside("a"), &beside("b")), "the first that counts");
    }

    #[test]
    fn a_signature_that_changes_with_each_request_is_no_credential() {
        let keyed = Keyed::default();
        let keys: std::collections::HashSet<_> = (0..1_000)
            .map(|i| {
                let signature = format!("AWS4-HMAC-SHA256 Credential=AKIA/x, Signature={i:064x}");
                keyed
                    .default_key(&head(
                        "https://sqs.example.com/",
                        &[("authorization", &signature)],
                    ))
                    .0
            })
            .collect();
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn a_label_names_neither_the_credential_nor_the_query() {
        let secret = head(
            "https://user:hunter2@a.example.com/x?key=hunter2",
            &[
                ("authorization", "Bearer hunter2"),
                ("x-api-key", "hunter2"),
            ],
        );
        let keyed = Keyed::default();
        let body = Bytes::from_static(br#"{"model":"gpt-4o-mini","messages":"hunter2"}"#);
        let request = Request::new(&secret, Some(&body), &keyed);
        let shown = [
            by_credential(&request).to_string(),
            by_model(&request).to_string(),
            by_origin(&request).to_string(),
            format!("{request:?}"),
        ];
        assert!(
            shown.iter().all(|shown| !shown.contains("hunter2")),
            "{shown:?}"
        );
        assert_eq!(shown[2], "a.example.com");
        assert_eq!(shown[1], format!("{} gpt-4o-mini", shown[0]));
    }

    #[test]
    fn a_label_stays_on_its_line_and_within_bounds() {
        let head = head("http://a/", &[]);
        let keyed = Keyed::default();
        let by_model = |model: &str| {
            let body = Bytes::from(serde_json::json!({ "model": model }).to_string());
            by_model(&Request::new(&head, Some(&body), &keyed)).to_string()
        };
        assert_eq!(
            by_model("a\nERROR fake\u{1b}[2J"),
            "a a\\nERROR fake\\u{1b}[2J"
        );
        assert_eq!(by_model(&"m".repeat(128)).len(), 130);
        assert_eq!(by_model(&"m".repeat(129)), "a");
    }

    #[test]
    fn a_key_belongs_to_one_layer() {
        let head = head("http://a/", &[("authorization", "Bearer a")]);
        assert_ne!(
            label(&head, &Keyed::default()),
            label(&head, &Keyed::default())
        );
    }

    #[test]
    fn a_label_has_the_key_of_its_requests() {
        let keyed = Keyed::default();
        let key = |name: &str| keyed.key(&Partition::new(name));
        for (uri, fields) in [
            ("http://a/", &[][..]),
            ("/", &[("host", "A.example.com:8080")]),
            ("https://User@API.example.com:8443/", &[]),
            ("http://a/", &[("authorization", "Bearer a")]),
            ("/", &[("x-api-key", "a"), ("openai-project", "b")]),
        ] {
            let head = head(uri, fields);
            let label = label(&head, &keyed);
            assert_eq!(keyed.key(&label), keyed.default_key(&head), "{label}");
            assert_ne!(key(&label.as_str().to_ascii_uppercase()), keyed.key(&label));
        }
        let names = ["a", "a#", "a#0", "a#+000000000000001", "a#000000000000000A"];
        let others = [
            "a#000000000000000a",
            "a#000000000000000b",
            "a##000000000000000a",
        ];
        let keys: std::collections::HashSet<_> = names.into_iter().chain(others).map(key).collect();
        assert_eq!(keys.len(), 8);
    }

    #[test]
    fn a_body_without_a_model_counts_by_credential() {
        let head = head("http://a/", &[]);
        let keyed = Keyed::default();
        for body in [None, Some("no json"), Some("{}"), Some(r#"{"model":7}"#)] {
            let body = body.map(Bytes::from);
            let request = Request::new(&head, body.as_ref(), &keyed);
            assert_eq!(by_model(&request), by_credential(&request));
        }
    }
}
