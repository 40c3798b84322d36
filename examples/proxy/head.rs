//! What of a head is meant for the next recipient only, and what a gateway adds.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

/// Fields of one connection, by name: RFC 9110, section 7.6.1.
///
/// `Proxy-Authorization` is for the first proxy (section 11.7.2), which is this one.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what concerns only the connection that the message came by, and all that its
/// `Connection` field names. A `Content-Length` beside a `Transfer-Encoding` is overridden by it, and
/// is removed with it: RFC 9112, section 6.3.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The name by which this process goes in `Via`: RFC 9110, section 7.6.3. Another one's differs.
pub(super) fn pseudonym() -> String {
    format!("rate-limit-retry-{:08x}", fastrand::u32(..))
}

/// Adds the proxy to the list of those that the request has passed.
pub(super) fn append_via(headers: &mut HeaderMap, version: Version, pseudonym: &str) {
    let version = match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    let via = HeaderValue::try_from(format!("{version} {pseudonym}"));
    headers.append(header::VIA, via.expect("letters, digits and hyphens"));
}

/// Whether the request has been here before: it would go round for ever.
pub(super) fn has_passed(headers: &HeaderMap, pseudonym: &str) -> bool {
    // Bytes, as a comment that another proxy has added in the same field need not be text.
    let contains = |via: &HeaderValue| {
        let mut windows = via.as_bytes().windows(pseudonym.len());
        windows.any(|window| window == pseudonym.as_bytes())
    };
    headers.get_all(header::VIA).iter().any(contains)
}

/// Counts down how often a TRACE or OPTIONS may still be passed on; whether it may be at all. With any
/// other method `Max-Forwards` says nothing: RFC 9110, section 7.6.2.
pub(super) fn count_forward(method: &Method, headers: &mut HeaderMap) -> bool {
    const MAX_FORWARDS: HeaderName = HeaderName::from_static("max-forwards");
    if method != Method::TRACE && method != Method::OPTIONS {
        return true;
    }
    let Some(max) = headers.get(&MAX_FORWARDS).map(HeaderValue::as_bytes) else {
        return true;
    };
    if max.is_empty() || !max.iter().all(u8::is_ascii_digit) {
        return true;
    }
    // The largest that is told apart stands for all that are larger.
    let digits = max.iter().map(|digit| u32::from(digit - b'0'));
    let max = digits.fold(0_u32, |max, digit| {
        max.saturating_mul(10).saturating_add(digit)
    });
    let Some(left) = max.checked_sub(1) else {
        return false;
    };
    headers.insert(MAX_FORWARDS, left.into());
    true
}

/// Makes one field of several, as HTTP/1.1 needs it: RFC 9113, section 8.2.3.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let cookies = headers.get_all(header::COOKIE).iter();
    let cookies: Vec<&[u8]> = cookies.map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1 {
        let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
        headers.insert(header::COOKIE, joined.expect("made of valid values"));
    }
}

/// Whether the body is, or may be, JSON: RFC 6839, section 3.1, has the suffix.
pub(super) fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let essence = content_type.as_bytes().split(|&byte| byte == b';').next();
    let essence = essence
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    essence.ends_with(b"/json") || essence.ends_with(b"+json")
}
