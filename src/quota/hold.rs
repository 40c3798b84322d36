//! What holds callers back, and what refusals are put down to: the words that people see.

use std::{fmt, sync::Arc};

/// What holds a caller back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hold {
    /// A refusal closed the partition.
    Pause,
    /// A dimension that the server has announced by this name has too little left.
    Dimension(Arc<str>),
    /// So many are under way that may yet be refused: nothing is known, or a pause is over.
    Opening,
    /// The rate that refusals have taught.
    Rate,
    /// The number in flight that refusals have taught.
    Concurrency,
    /// A quota that the program declared, of what is here named (`requests` or `tokens`), has too
    /// little left.
    Declared(&'static str),
}

impl Hold {
    /// The name of the dimension, or of whatever else it is.
    pub fn name(&self) -> &str {
        match self {
            Self::Pause => "pause",
            Self::Dimension(name) => name,
            Self::Declared(unit) => unit,
            Self::Opening => "opening",
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared(unit) => write!(f, "declared {unit}"),
            hold => f.write_str(hold.name()),
        }
    }
}

/// What a refusal was put down to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCause {
    /// A dimension that the server has announced by this name has too little left.
    Dimension(Arc<str>),
    /// Too many were in flight.
    Concurrency,
    /// Nothing else explains it, so the quota was used up; or the server is out of order.
    Rate,
    /// It concerns this request alone: it is larger than what is left, or the server's reason is one
    /// that no wait cures.
    Request,
    /// Of so many causes this one is not told apart.
    Others,
}

impl RefusalCause {
    /// The name of the dimension, or of whatever else it is.
    pub fn name(&self) -> &str {
        match self {
            Self::Dimension(name) => name,
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Request => "request",
            Self::Others => "others",
        }
    }
}

impl fmt::Display for RefusalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_name_that_people_see() {
        let tokens: Arc<str> = "tokens".into();
        for (hold, name, shown) in [
            (Hold::Pause, "pause", "pause"),
            (Hold::Dimension(Arc::clone(&tokens)), "tokens", "tokens"),
            (Hold::Declared("requests"), "requests", "declared requests"),
            (Hold::Opening, "opening", "opening"),
            (Hold::Rate, "rate", "rate"),
            (Hold::Concurrency, "concurrency", "concurrency"),
        ] {
            assert_eq!((hold.name(), hold.to_string().as_str()), (name, shown));
        }
        for (cause, name) in [
            (RefusalCause::Dimension(tokens), "tokens"),
            (RefusalCause::Concurrency, "concurrency"),
            (RefusalCause::Rate, "rate"),
            (RefusalCause::Request, "request"),
            (RefusalCause::Others, "others"),
        ] {
            assert_eq!((cause.name(), cause.to_string().as_str()), (name, name));
        }
    }
}
