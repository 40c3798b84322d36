//! X: the problem type with which it refuses for the rest of the month.

use super::Dialect;

pub(super) const DIALECT: Dialect = Dialect {
    // The host in front has changed with the company's name.
    terminal_endings: &["/usage-capped"],
    ..Dialect::SILENT
};
