//! The dialects in which servers talk about limits, one file each.
//!
//! All of them are listened to at once: no response says in which it speaks, and many use several.
//! To add one, write its file with a [`Dialect`] that states what is particular to it, and list it
//! in [`DIALECTS`]; if it has header fields, see that [`may_be_ours`] lets their names pass.

mod anthropic;
mod aws;
mod github;
mod google;
mod graphql;
mod grpc;
mod json_rpc;
mod openai;
mod openrouter;
mod rate_limit;
mod retry_after;
mod sentence;
mod shopify;
mod should_retry;
mod slack;
mod structured;
mod x;

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::{body::Body, few::Few, instant::Clock, limits::Limits, wait::Announced};
use crate::signal::RateLimit;

/// Every dialect. The order counts where several announce a wait in the same body: the first that
/// does is believed. And the sooner a header field is recognised, the cheaper it is.
const DIALECTS: [Dialect; 17] = [
    rate_limit::DIALECT,
    structured::DIALECT,
    // First of those whose bodies announce a wait.
    google::DIALECT,
    retry_after::DIALECT,
    anthropic::DIALECT,
    should_retry::DIALECT,
    grpc::DIALECT,
    shopify::DIALECT,
    aws::DIALECT,
    github::DIALECT,
    graphql::DIALECT,
    slack::DIALECT,
    json_rpc::DIALECT,
    openai::DIALECT,
    openrouter::DIALECT,
    x::DIALECT,
    // What is written for people is less exact than what is written for programs.
    sentence::DIALECT,
];

/// What is particular to one dialect.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    /// Hears a header field; false if it is none of this dialect's.
    hear: Option<fn(&Field<'_>, &mut Heard<'_>) -> bool>,
    /// What stands as `code`, `type` or `reason` in the body of a refusal that no wait cures: the
    /// account has to be paid for or raised, or the day has to end.
    ///
    /// Compared exactly. Quota words in prose prove nothing: the links in ordinary refusals contain
    /// them.
    terminal_codes: &'static [&'static str],
    /// How such a code ends, where its beginning varies.
    terminal_endings: &'static [&'static str],
    /// What the message of such a refusal contains if its code is that of an ordinary one.
    terminal_messages: &'static [&'static str],
    /// Whether such a refusal is known by anything else in its body.
    is_terminal: Option<fn(&Body<'_>) -> bool>,
    /// Whether the body is that of a refusal, though the status is not.
    refuses: Option<fn(StatusCode, &Body<'_>) -> bool>,
    /// The wait that the body of a refusal announces.
    wait: Option<fn(&Body<'_>, &Clock<'_>) -> Option<Duration>>,
}

impl Dialect {
    const SILENT: Self = Self {
        hear: None,
        terminal_codes: &[],
        terminal_endings: &[],
        terminal_messages: &[],
        is_terminal: None,
        refuses: None,
        wait: None,
    };
}

/// One header field.
struct Field<'a> {
    /// In lower case.
    name: &'a str,
    value: &'a [u8],
    /// All of the response's, for those that speak in several lines.
    headers: &'a HeaderMap,
    clock: &'a Clock<'a>,
}

/// What the header fields of a response say, while they are read.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) announced: Announced,
    pub(super) limits: Limits<'a>,
    /// Whether the server says that it makes sense to send the request again; `false` wins.
    pub(super) should_retry: Option<bool>,
    /// Whether the server pushes back only for a while; `false` wins.
    pub(super) push_back: Option<bool>,
    /// Whether the error is one of throttling, though the status does not say so.
    pub(super) is_throttled: bool,
    structured: structured::Heard,
}

impl<'a> Heard<'a> {
    /// Listens to all header fields.
    ///
    /// One pass over all of them, and not one look-up for each that could be there: most responses
    /// have a dozen, and none of ours.
    pub(super) fn listen(
        headers: &HeaderMap,
        clock: &Clock<'_>,
        limits: &'a mut Few<RateLimit>,
    ) -> Self {
        let mut heard = Self {
            announced: Announced::default(),
            limits: Limits::within(limits),
            should_retry: None,
            push_back: None,
            is_throttled: false,
            structured: structured::Heard::default(),
        };
        for (name, value) in headers {
            let name = name.as_str();
            if may_be_ours(name) {
                heard.hear(&Field {
                    name,
                    value: value.as_bytes(),
                    headers,
                    clock,
                });
            }
        }
        heard
    }

    fn hear(&mut self, field: &Field<'_>) {
        let mut hearers = DIALECTS.iter().filter_map(|dialect| dialect.hear);
        hearers.any(|hear| hear(field, self));
    }
}

/// Whether any header field can concern any dialect: a glance, since most responses have none.
pub(super) fn may_concern(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| may_be_ours(name.as_str()))
}

/// Whether a header field of this name, in lower case, can be one of any dialect's. Costs next to
/// nothing, and spares nearly all others the rest.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a call for each header field costs more than it does"
)]
fn may_be_ours(name: &str) -> bool {
    let name = name.as_bytes();
    let is_long = name.len() >= SHORTEST_NAME.len();
    is_long && matches!(name[0], b'a' | b'g' | b'r' | b's' | b'x') && begins_as_ours(name)
}

const SHORTEST_NAME: &str = "ratelimit";

fn begins_as_ours(name: &[u8]) -> bool {
    let begins = |rest: &[u8], beginnings: &[&str]| {
        let mut beginnings = beginnings.iter();
        beginnings.any(|beginning| rest.starts_with(beginning.as_bytes()))
    };
    match name {
        [b'a', rest @ ..] => begins(rest, &["nthropic-ratelimit-"]),
        [b'g', rest @ ..] => begins(rest, &["rpc-retry"]),
        [b'r', rest @ ..] => begins(rest, &["atelimit", "ate-limit", "etry-after"]),
        [b's', rest @ ..] => begins(rest, &["tripe-should"]),
        [b'x', b'-', b'a', rest @ ..] => begins(rest, &["mz-retry", "mzn-errortype"]),
        [b'x', b'-', b'm', rest @ ..] => begins(rest, &["s-retry"]),
        [b'x', b'-', b'r', rest @ ..] => begins(rest, &["atelimit-", "ate-limit-"]),
        [b'x', b'-', b's', rest @ ..] => begins(rest, &["hould-retry", "hopify-shop"]),
        _ => false,
    }
}

/// Whether the same request is refused however long one waits.
pub(super) fn is_terminal(body: &Body<'_>) -> bool {
    let mut codes = body.codes();
    let is_coded = codes.any(|code| {
        DIALECTS.iter().any(|dialect| {
            let mut endings = dialect.terminal_endings.iter();
            dialect.terminal_codes.contains(&code) || endings.any(|end| code.ends_with(end))
        })
    });
    let mut messages = body.messages();
    is_coded
        || messages.any(|message| {
            let mut parts = DIALECTS.iter().flat_map(|it| it.terminal_messages);
            parts.any(|part| message.contains(part))
        })
        || DIALECTS
            .iter()
            .filter_map(|dialect| dialect.is_terminal)
            .any(|is_terminal| is_terminal(body))
}

/// Whether the body is that of a refusal, though the status is not.
pub(super) fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    DIALECTS
        .iter()
        .filter_map(|dialect| dialect.refuses)
        .any(|refuses| refuses(status, body))
}

/// The wait that the body of a refusal announces.
pub(super) fn wait(body: &Body<'_>, clock: &Clock<'_>) -> Option<Duration> {
    DIALECTS
        .iter()
        .filter_map(|dialect| dialect.wait)
        .find_map(|wait| wait(body, clock))
}
