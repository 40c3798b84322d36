//! The layer's own answer: a 429 for a call that could not be sent.

use crate::{
    body::ResponseBody,
    limiter::GivenUp,
    partition::Partition,
    refusal::Moment,
    report::{RetryReport, StopReason},
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// The problem type of the IETF `RateLimit` draft, section "Problem Types".
const PROBLEM_TYPE: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// A 429 in the form of `application/problem+json` (RFC 9457), with the member `error` for clients
/// that expect the form of `OpenAI`'s errors. `refused` is the status of a refusal or a failure
/// that came before and was too large or too slow to be kept.
pub(crate) fn too_many_requests<B: Body>(
    partition: &Partition,
    given_up: &GivenUp,
    refused: Option<StatusCode>,
    now: Moment,
    report: RetryReport,
) -> Response<ResponseBody<B>> {
    let opens_in = given_up.opens_at.saturating_duration_since(now.at);
    let detail = detail(partition, given_up, refused, opens_in);
    let held_by = given_up
        .hold
        .as_ref()
        .map_or_else(|| "queue".to_owned(), ToString::to_string);
    let problem = json!({
        "type": PROBLEM_TYPE,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": StatusCode::TOO_MANY_REQUESTS.as_u16(),
        "detail": detail,
        "partition": partition.as_str(),
        "reason": given_up.reason.as_str(),
        "held-by": held_by,
        "end": now.on.checked_add(opens_in).and_then(|end| Timestamp::try_from(end).ok()).map(|end| end.to_string()),
        "error": { "message": detail, "type": "rate_limit_error", "param": null, "code": "rate_limit_exceeded" },
    });
    let mut response = Response::new(ResponseBody::own(Bytes::from(problem.to_string())));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(
        header::RETRY_AFTER,
        HeaderValue::from(whole_seconds(opens_in)),
    );
    response
        .extensions_mut()
        .insert(report.stopped(given_up.reason).local());
    response
}

fn detail(
    partition: &Partition,
    given_up: &GivenUp,
    refused: Option<StatusCode>,
    opens_in: Duration,
) -> String {
    let sent = match refused {
        None => "the request was not sent".to_owned(),
        Some(status) => format!(
            "the request was answered with status {}, whose body was too large or too slow to be kept, and was not sent again",
            status.as_u16()
        ),
    };
    let seconds = opens_in.as_secs_f64();
    let why = match given_up.reason {
        StopReason::MaxWaiting => "as many calls as may are waiting already".to_owned(),
        StopReason::BodyNotReplayable => "its body cannot be sent again".to_owned(),
        StopReason::Deadline if opens_in.is_zero() => "its deadline has passed".to_owned(),
        StopReason::Deadline => {
            format!("its turn would come in {seconds:.3} s, after its deadline")
        }
        _ => format!("its turn would come in {seconds:.3} s, later than the maximum delay allows"),
    };
    format!("{sent}: {why} (partition {partition})")
}

/// Rounded up: who comes back then is not early.
fn whole_seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
}
