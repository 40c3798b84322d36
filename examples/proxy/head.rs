//! What of a head is meant for the next recipient only, and what a gateway adds.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// Fields of one connection, by name: RFC 9110, section 7.6.1.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what concerns only the connection that the message came by, and all that its
/// `Connection` field names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
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
    let version = if version == Version::HTTP_2 {
        "2"
    } else {
        "1.1"
    };
    let via = HeaderValue::try_from(format!("{version} {pseudonym}"));
    headers.append(header::VIA, via.expect("letters, digits and hyphens"));
}

/// Whether the request has been here before: it would go round for ever.
pub(super) fn has_passed(headers: &HeaderMap, pseudonym: &str) -> bool {
    let mut passed = headers.get_all(header::VIA).iter();
    passed.any(|via| via.to_str().is_ok_and(|via| via.contains(pseudonym)))
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
