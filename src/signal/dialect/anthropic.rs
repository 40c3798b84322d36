//! [Anthropic]: what of its errors no wait cures.
//!
//! [Anthropic]: https://docs.anthropic.com/en/api/errors

use super::Dialect;

pub(super) const DIALECT: Dialect = Dialect {
    terminal_codes: &["enforced_spend_limit_reached"],
    // Both with the type of an ordinary error.
    terminal_messages: &["Extra usage is required", "credit balance is too low"],
    ..Dialect::SILENT
};
