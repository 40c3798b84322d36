//! Bodies that can be sent again, and bodies that can be read again.
//!
//! Nothing here knows of limits, time or retries: a [`Replayer`] hands out the body of each
//! attempt, a [`RefusalBody`] is read for what it says and given back as it came, and a [`Watcher`] is
//! told when the body of an answer has ended.

mod error;
mod exchange;
mod kept;
mod map;
mod reading;
mod refusal;
mod replay;
mod replayer;
mod response;
mod source;
#[cfg(test)]
mod testing;
mod watched;

pub use self::{
    error::BoxError,
    map::{Identity, MapBody, MapFn},
    replay::ReplayBody,
    response::ResponseBody,
};
pub(crate) use self::{
    refusal::{Refusal, RefusalBody},
    replayer::Replayer,
    watched::{Watched, Watcher},
};

use bytes::{Buf, Bytes};

/// All that is left in `data`, without a copy if it is [`Bytes`].
fn into_bytes(mut data: impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}
