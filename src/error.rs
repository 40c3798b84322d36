//! Errors of configuration.

use std::{error::Error, fmt, time::Duration};

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    kind: ConfigErrorKind,
}

/// What is wrong with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// A backoff that begins with zero would never grow.
    ZeroBackoff,
    /// A backoff whose maximum is below its beginning.
    BackoffOrder {
        /// What it was to begin with.
        initial: Duration,
        /// What it was to end with.
        max: Duration,
    },
    /// A threshold that no usage ever crosses, or that each does: not above zero, or above one.
    UsageThreshold,
}

impl ConfigError {
    pub(crate) fn zero_backoff() -> Self {
        Self {
            kind: ConfigErrorKind::ZeroBackoff,
        }
    }

    pub(crate) fn backoff_order(initial: Duration, max: Duration) -> Self {
        Self {
            kind: ConfigErrorKind::BackoffOrder { initial, max },
        }
    }

    pub(crate) fn usage_threshold() -> Self {
        Self {
            kind: ConfigErrorKind::UsageThreshold,
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> ConfigErrorKind {
        self.kind
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ConfigErrorKind::ZeroBackoff => {
                f.write_str("expected an initial backoff above zero, found zero")
            }
            ConfigErrorKind::BackoffOrder { initial, max } => {
                write!(
                    f,
                    "expected a maximum backoff of at least {initial:?}, found {max:?}"
                )
            }
            ConfigErrorKind::UsageThreshold => {
                f.write_str("expected a usage threshold above 0.0 and of at most 1.0")
            }
        }
    }
}

impl Error for ConfigError {}
