//! Says what a response means, in terms of rate limits: paste it on standard input.
//!
//! ```sh
//! curl -i https://api.github.com/users/octocat | cargo run --example explain
//! ```
//!
//! What is no HTTP response ends it with exit code 2.

use std::{
    fmt,
    io::{self, Read, Write},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tower_rate_limit_retry::signal::{self, RateLimit, Signal};

/// Far more than what is pasted by hand, and an end to what is piped by mistake.
const MAX_LENGTH: u64 = 1024 * 1024;

fn main() -> ExitCode {
    match explain(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("explain: {error}");
            ExitCode::from(2)
        }
    }
}

fn explain(input: &mut impl Read, output: &mut impl Write) -> Result<(), Error> {
    let mut text = Vec::new();
    input.take(MAX_LENGTH).read_to_end(&mut text)?;
    let response = Response::parse(&text)?;
    let Response {
        status,
        headers,
        body,
    } = &response;
    let signal = signal::read(*status, headers, Some(body), SystemTime::now());
    match write!(output, "{}", Explanation(*status, &signal)) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// What a person wants to know.
struct Explanation<'a>(StatusCode, &'a Signal);

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status, signal) = self;
        let class = if signal.is_throttle() {
            "refused because of a limit; the same request can succeed later"
        } else if signal.is_terminal() {
            "refused for good; no wait will help"
        } else if status.is_client_error() || status.is_server_error() {
            "an error, but nothing says that it is about a limit"
        } else {
            "not refused"
        };
        writeln!(f, "{status}: {class}")?;
        match signal.wait() {
            Some(Duration::ZERO) => writeln!(f, "wait: none, it may be sent again at once")?,
            Some(wait) => writeln!(f, "wait: {wait:?}")?,
            None => writeln!(f, "wait: not announced")?,
        }
        if signal.limits().is_empty() {
            writeln!(f, "limits: not announced")?;
        }
        let mut limits = signal.limits().iter();
        limits.try_for_each(|limit| writeln!(f, "limit of {}", Facts(limit)))
    }
}

/// `requests: 59 of 60 left, renewed in 1s`
struct Facts<'a>(&'a RateLimit);

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.dimension())?;
        match (self.0.remaining(), self.0.limit()) {
            (Some(left), Some(limit)) => write!(f, "{left} of {limit} left")?,
            (Some(left), None) => write!(f, "{left} left")?,
            (None, Some(limit)) => write!(f, "{limit} in all")?,
            (None, None) => write!(f, "how much is not said")?,
        }
        match self.0.reset() {
            Some(reset) => write!(f, ", renewed in {reset:?}"),
            None => Ok(()),
        }
    }
}

/// A response as `curl -i` prints it.
struct Response<'a> {
    status: StatusCode,
    headers: HeaderMap,
    body: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads the last of several heads: before it come interim answers, those of proxies, and
    /// redirections that were followed.
    fn parse(text: &'a [u8]) -> Result<Self, Error> {
        let mut rest = skip_empty_lines(text);
        if rest.is_empty() {
            return Err(Error::Syntax("expected a response, found nothing".into()));
        }
        loop {
            let response = Self::parse_one(rest)?;
            if !is_status_line(response.body) {
                return Ok(response);
            }
            rest = response.body;
        }
    }

    fn parse_one(text: &'a [u8]) -> Result<Self, Error> {
        let (line, mut rest) = split_line(text);
        let status = status(line)?;
        let mut headers = HeaderMap::new();
        let body = loop {
            let (line, after) = split_line(rest);
            if line.is_empty() {
                break after;
            }
            let (name, value) = field(line)?;
            headers.append(name, value);
            rest = after;
        };
        Ok(Self {
            status,
            headers,
            body,
        })
    }
}

/// `HTTP/1.1 429 Too Many Requests`, `HTTP/2 429`
fn status(line: &[u8]) -> Result<StatusCode, Error> {
    let wrong = || Error::Syntax(format!("expected a status line, found {}", shown(line)));
    if !is_status_line(line) {
        return Err(wrong());
    }
    let words = line.split(|&byte| byte == b' ');
    let code = words.filter(|word| !word.is_empty()).nth(1);
    code.and_then(|code| StatusCode::from_bytes(code).ok())
        .ok_or_else(wrong)
}

fn is_status_line(text: &[u8]) -> bool {
    text.starts_with(b"HTTP/")
}

/// `Retry-After: 20`
fn field(line: &[u8]) -> Result<(HeaderName, HeaderValue), Error> {
    let field = || {
        // HTTP/2 has names that begin with a colon, and none of them is ours.
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        let name = HeaderName::from_bytes(name.trim_ascii()).ok()?;
        Some((name, HeaderValue::from_bytes(value.trim_ascii()).ok()?))
    };
    field().ok_or_else(|| Error::Syntax(format!("expected a header field, found {}", shown(line))))
}

/// Without its end, CRLF or LF.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| byte == b'\n');
    let (line, rest) = match end {
        Some(end) => text.split_at(end + 1),
        None => (text, &[][..]),
    };
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

fn skip_empty_lines(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    text
}

/// The beginning of a line, in quotes, and nothing that could trouble a terminal.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    format!("{:?}", text.chars().take(60).collect::<String>())
}

#[derive(Debug)]
enum Error {
    Read(io::Error),
    Syntax(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Syntax(message) => f.write_str(message),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str) -> String {
        let mut output = Vec::new();
        match explain(&mut text.as_bytes(), &mut output) {
            Ok(()) => String::from_utf8(output).unwrap(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_refusal_is_explained() {
        let text = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 20\r\n\
            x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 0\r\n\
            x-ratelimit-reset-requests: 1s\r\n\r\n{\"error\": {}}\r\n";
        let expected = "429 Too Many Requests: refused because of a limit; \
            the same request can succeed later\nwait: 20s\n\
            limit of requests: 0 of 60 left, renewed in 1s\n";
        assert_eq!(explained(text), expected);
        assert_eq!(explained(&text.replace('\r', "")), expected);
        let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        assert_eq!(explained(&format!("\r\n{hint}{hint}{text}")), expected);
    }

    #[test]
    fn a_body_is_not_needed() {
        let nothing = "wait: not announced\nlimits: not announced\n";
        for text in [
            "HTTP/2 200",
            "HTTP/2 200 \n",
            "HTTP/2 200\r\ndate: today\r\n\r\n",
        ] {
            assert_eq!(
                explained(text),
                format!("200 OK: not refused\n{nothing}"),
                "{text}"
            );
        }
        let unpaid = "HTTP/2 429\n\n{\"error\": {\"code\": \"insufficient_quota\"}}";
        assert!(explained(unpaid).contains("no wait will help"));
    }

    #[test]
    fn what_is_no_response_is_told_in_one_line() {
        for (text, expected) in [
            ("", "expected a response, found nothing"),
            (" \r\n", "expected a response, found nothing"),
            ("{}", "expected a status line, found \"{}\""),
            (
                "HTTP/1.1 OK",
                "expected a status line, found \"HTTP/1.1 OK\"",
            ),
            ("HTTP/1.1", "expected a status line, found \"HTTP/1.1\""),
            (
                "HTTP/2 200\nhello",
                "expected a header field, found \"hello\"",
            ),
            (
                "HTTP/2 200\n\u{1b}: 1",
                "expected a header field, found \"\\u{1b}: 1\"",
            ),
        ] {
            assert_eq!(explained(text), format!("error: {expected}"));
        }
    }
}
