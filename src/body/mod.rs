//! Bodies that can be sent again.
//!
//! Nothing here knows of limits, time or retries: a [`Replayer`] hands out the body of each
//! attempt.

mod error;
mod exchange;
mod kept;
mod map;
mod reading;
mod replay;
mod replayer;
mod source;
#[cfg(test)]
mod testing;

pub(crate) use self::replayer::Replayer;
pub use self::{
    error::BoxError,
    map::{Identity, MapBody, MapFn},
    replay::ReplayBody,
};

use bytes::{Buf, Bytes};

/// All that is left in `data`, without a copy if it is [`Bytes`].
fn into_bytes(mut data: impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}
