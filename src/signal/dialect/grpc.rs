//! [gRPC]'s push-back: how many milliseconds to wait, or, if that is negative or no number, not to
//! come again.
//!
//! It comes with status 200, where a call was refused before it had an answer.
//!
//! [gRPC]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback

use std::str;

use super::{Dialect, Field, Heard};
use crate::signal::number;

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    ..Dialect::SILENT
};

fn hear(field: &Field<'_>, heard: &mut Heard<'_>) -> bool {
    let "grpc-retry-pushback-ms" = field.name else {
        return false;
    };
    let millis = millis(number::trim(field.value));
    if let Some(millis) = millis {
        heard.announced.hear_push_back(millis);
    }
    let may_retry = millis.is_some() && heard.push_back != Some(false);
    heard.push_back = Some(may_retry);
    true
}

/// A number of 31 bits, since it is an `int32`, and without a sign.
fn millis(text: &[u8]) -> Option<u32> {
    let digits = text.iter().all(u8::is_ascii_digit).then_some(text)?;
    let millis: i32 = str::from_utf8(digits).ok()?.parse().ok()?;
    u32::try_from(millis).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_positive_int32_is_a_no() {
        for (text, expected) in [
            ("0", Some(0)),
            ("250", Some(250)),
            ("2147483647", Some(2_147_483_647)),
            ("2147483648", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(millis(text.as_bytes()), expected, "{text}");
        }
    }
}
