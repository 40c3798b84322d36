//! Servers on real sockets that mean harm, or are broken, over HTTP/1.1 and HTTP/2.
//!
//! Each case is one call that the server does something odd to; see [`case`] for what must hold of
//! every one of them.

mod bodies;
mod case;
mod client;
mod content;
mod dates;
mod deaths;
mod early;
mod headers;
mod load;
mod memory;
mod server;
