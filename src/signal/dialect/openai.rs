//! [OpenAI]: what of its error codes no wait cures. Its header fields are those of everybody.
//!
//! [OpenAI]: https://platform.openai.com/docs/guides/error-codes

use super::Dialect;

pub(super) const DIALECT: Dialect = Dialect {
    terminal_codes: &[
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "organization_usage_limit_exceeded",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
    ],
    // With the code of an ordinary refusal, `rate_limit_exceeded`.
    terminal_messages: &["Request too large"],
    ..Dialect::SILENT
};
