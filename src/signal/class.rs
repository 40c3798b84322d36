//! What kind of answer a response is: the rule that weighs the status, the header fields and the
//! body.

use http::StatusCode;

use super::{
    body::Body,
    dialect::{self, Heard},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    /// No refusal, or one that is not about limits.
    #[default]
    Unrelated,
    Throttle,
    Terminal,
}

impl Class {
    /// Of an error.
    pub(super) fn of(status: StatusCode, heard: &Heard<'_>, body: Option<&Body>) -> Self {
        match heard.should_retry {
            Some(true) => return Self::Throttle,
            Some(false) => return Self::Terminal,
            None => {}
        }
        if body.is_some_and(dialect::is_terminal) {
            return Self::Terminal;
        }
        let asks_to_wait = || heard.announced.wait().is_some();
        let is_throttle = match status.as_u16() {
            // RFC 6585, section 4, and "overloaded", as some APIs say
            429 | 529 => true,
            // RFC 9110, sections 15.5.14 and 15.6.4: without a wait, too large, or an outage.
            413 | 503 => asks_to_wait(),
            // GitHub refuses so when the quota is used up, but more often for want of a permission.
            403 => asks_to_wait() || heard.limits.is_exhausted(),
            _ => false,
        };
        if is_throttle {
            Self::Throttle
        } else {
            Self::Unrelated
        }
    }
}
