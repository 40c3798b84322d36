//! [Shopify]'s call limit, `32/40`: how many calls are in the bucket, and how many it holds.
//!
//! [Shopify]: https://shopify.dev/docs/api/admin-rest/usage/rate-limits

use super::{Dialect, Field, Heard};
use crate::signal::{
    limits::{DEFAULT_DIMENSION, Precedence},
    value,
};

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    ..Dialect::SILENT
};

fn hear(field: &Field<'_>, heard: &mut Heard<'_>) -> bool {
    let "x-shopify-shop-api-call-limit" = field.name else {
        return false;
    };
    if let Some((used, limit)) = used_and_limit(field.value) {
        let (dimension, by) = (DEFAULT_DIMENSION, Precedence::Shopify);
        let left = limit.saturating_sub(used);
        heard.limits.hear_limit(dimension, by, Some(limit));
        heard.limits.hear_remaining(dimension, by, Some(left));
    }
    true
}

fn used_and_limit(text: &[u8]) -> Option<(u64, u64)> {
    let slash = text.iter().position(|&byte| byte == b'/')?;
    let (used, limit) = (text.get(..slash)?, text.get(slash + 1..)?);
    Some((value::limit(used)?, value::limit(limit)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use std::time::SystemTime;

    #[test]
    fn a_call_limit_is_a_limit_and_what_remains_of_it() {
        let field = (
            HeaderName::from_static("x-shopify-shop-api-call-limit"),
            HeaderValue::from_static("32/40"),
        );
        let headers = HeaderMap::from_iter([field]);
        let heard = signal::read(StatusCode::OK, &headers, None, SystemTime::now());
        let [calls] = heard.limits() else {
            panic!("one dimension: {heard:?}");
        };
        assert_eq!((calls.limit(), calls.remaining()), (Some(40), Some(8)));
    }

    #[test]
    fn a_call_limit_is_two_counts() {
        for (text, expected) in [
            ("32/40", Some((32, 40))),
            (" 0 / 40 ", Some((0, 40))),
            ("41/40", Some((41, 40))),
            ("41/40/1", None),
            ("40", None),
            ("/40", None),
            ("1/", None),
            ("-1/40", None),
            ("0.5/40", None),
        ] {
            assert_eq!(used_and_limit(text.as_bytes()), expected, "{text}");
        }
    }
}
