//! Responses as bytes, what must hold of any of them, and how one becomes another. Shared with the
//! fuzzer.

use std::time::{Duration, SystemTime};

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use tower_rate_limit_retry::signal::{self, RateLimit, Signal};

/// What the signal's docs promise for a wait and for a count.
const MAX_WAIT: Duration = Duration::from_secs(1 << 31);
const MAX_COUNT: u64 = (1 << 53) - 1;

/// 2026-06-02 12:00:00 UTC.
const NOW: Duration = Duration::from_secs(1_780_401_600);

/// Pieces with which servers say things, and numbers at which arithmetic ends.
const PIECES: [&[u8]; 28] = [
    b"0",
    b"-1",
    b"1e400",
    b"2147483648",
    b"99999999999999999999",
    b"9007199254740992",
    b"0.0000000001",
    b"1h2m3.5s",
    b"\xC2\xB5s",
    b", ",
    b";r=0;t=7",
    b"\"",
    b"limit=1, remaining=0, reset=9",
    b"\nretry-after: ",
    b"\nratelimit: ",
    b"\nratelimit-policy: \"a\";q=1",
    b"\nx-ratelimit-reset: ",
    b"\nx-ratelimit-remaining: 0",
    b"\ngrpc-retry-pushback-ms: ",
    b"Fri, 31 Dec 9999 23:59:59 GMT",
    b"2026-06-02T12:00:60.5+23:59",
    b"\n\n",
    b"{\"error\": ",
    b"\"retry_after\": ",
    b"\"details\": [{\"retryDelay\": \"1s\"}]",
    b"Please try again in ",
    b"<Code>SlowDown</Code>",
    b"[[[[[[[[",
];

/// The vectors as bytes: a line with the status, a line for each header field, an empty line, the
/// body.
pub(crate) fn vectors(json: &str) -> Vec<Vec<u8>> {
    let vectors: Vec<Value> = serde_json::from_str(json).expect("a list of vectors");
    vectors.iter().map(to_bytes).collect()
}

fn to_bytes(vector: &Value) -> Vec<u8> {
    let mut bytes = vector["status"].to_string().into_bytes();
    for field in vector["headers"].as_array().into_iter().flatten() {
        let text = |index: usize| field[index].as_str().expect("a name and a value");
        // A character of a value stands for a byte.
        let value = text(1)
            .chars()
            .map(|char| u8::try_from(u32::from(char)).expect("ISO-8859-1"));
        bytes.push(b'\n');
        bytes.extend(text(0).bytes().chain(*b": ").chain(value));
    }
    bytes.extend(b"\n\n");
    bytes.extend(vector["body"].as_str().unwrap_or_default().bytes());
    bytes
}

/// Reads a response and checks what must hold of any.
///
/// # Panics
///
/// If it does not.
pub(crate) fn check(bytes: &[u8]) {
    let Some((status, mut fields, body)) = parse(bytes) else {
        return;
    };
    let now = SystemTime::UNIX_EPOCH + NOW;
    let headers = collect(&fields);
    let whole = signal::read(status, &headers, Some(body), now);
    check_ranges(&whole);
    let head = signal::read(status, &headers, None, now);
    check_ranges(&head);
    assert_eq!(head.limits(), whole.limits(), "the body has no limits");
    let _ = signal::might_refuse(status, &headers);

    // The order of fields does not matter, that of one field's lines may.
    fields.sort_by(|(one, _), (next, _)| next.as_str().cmp(one.as_str()));
    let sorted = signal::read(status, &collect(&fields), Some(body), now);
    assert_eq!(sorted, whole, "in another order");
}

fn check_ranges(signal: &Signal) {
    assert!(signal.wait().is_none_or(|wait| wait <= MAX_WAIT));
    assert!(!(signal.is_throttle() && signal.is_terminal()));
    assert!(signal.limits().len() <= 32);
    let names = signal.limits().iter().map(RateLimit::dimension);
    assert!(names.is_sorted_by(|one, next| one < next));
    for limit in signal.limits() {
        assert!(limit.reset().is_none_or(|reset| reset <= MAX_WAIT));
        let counts = [limit.limit(), limit.remaining()].into_iter().flatten();
        assert!(counts.max().is_none_or(|count| count <= MAX_COUNT));
    }
}

type Fields = Vec<(HeaderName, HeaderValue)>;

fn parse(bytes: &[u8]) -> Option<(StatusCode, Fields, &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((bytes, &b""[..]), |end| (&bytes[..end], &bytes[end + 2..]));
    let mut lines = head.split(|&byte| byte == b'\n');
    let status = StatusCode::from_bytes(lines.next()?).ok()?;
    let field = |line: &[u8]| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?))
    };
    Some((status, lines.filter_map(field).collect(), body))
}

fn collect(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, value.clone());
    }
    headers
}

/// Makes one response of others, by one to four changes.
pub(crate) fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut Rng) {
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(0..=bytes.len());
        let end = bytes.len().min(at + rng.usize(0..=16));
        match rng.u8(0..6) {
            0 => bytes.splice(at..end, []).for_each(drop),
            1 => bytes.splice(at..end, [rng.u8(..)]).for_each(drop),
            2 => {
                let again = bytes[at..end].repeat(rng.usize(1..=8));
                bytes.splice(at..at, again).for_each(drop);
            }
            3 => {
                let other = &others[rng.usize(0..others.len())];
                let from = rng.usize(0..=other.len());
                let to = other.len().min(from + rng.usize(0..=64));
                bytes
                    .splice(at..end, other[from..to].iter().copied())
                    .for_each(drop);
            }
            4 => {
                let other = &others[rng.usize(0..others.len())];
                bytes.truncate(at);
                bytes.extend(&other[rng.usize(0..=other.len())..]);
            }
            _ => {
                let piece = PIECES[rng.usize(0..PIECES.len())];
                bytes.splice(at..end, piece.iter().copied()).for_each(drop);
            }
        }
    }
}
