//! [GitHub]'s secondary limits: a 403 that only its message tells from a lack of permission. Its
//! header fields are those of everybody.
//!
//! [GitHub]: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api

use http::StatusCode;

use super::Dialect;
use crate::signal::body::Body;

const PHRASE: &[u8] = b"secondary rate";

pub(super) const DIALECT: Dialect = Dialect {
    refuses: Some(refuses),
    ..Dialect::SILENT
};

fn refuses(status: StatusCode, body: &Body<'_>) -> bool {
    status == StatusCode::FORBIDDEN
        && body.messages().any(|message| {
            let mut parts = message.as_bytes().windows(PHRASE.len());
            parts.any(|part| part.eq_ignore_ascii_case(PHRASE))
        })
}
