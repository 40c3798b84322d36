//! The errors of a request body.

use std::{error::Error, fmt};

/// Any error that can be sent to another thread: the error of [`ReplayBody`](crate::ReplayBody).
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The error of an attempt whose body has passed to a later attempt.
#[derive(Debug)]
pub(super) struct Superseded;

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request is to be sent again: its body belongs to the next attempt now")
    }
}

impl Error for Superseded {}

/// The error of an attempt whose body is gone, as it panicked.
#[derive(Debug)]
pub(super) struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body panicked when it was read: its rest is lost")
    }
}

impl Error for Lost {}
