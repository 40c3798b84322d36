//! X: the problem type with which it refuses for the rest of the month.

use super::Dialect;
use crate::signal::body::Body;

pub(super) const DIALECT: Dialect = Dialect {
    is_terminal: Some(is_capped),
    ..Dialect::SILENT
};

/// The host in front has changed with the company's name.
fn is_capped(body: &Body<'_>) -> bool {
    body.codes().any(|code| code.ends_with("/usage-capped"))
}
