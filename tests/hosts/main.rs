//! What servers on real sockets see of each host's requests, and what the host's own types show of the
//! answers.

mod common;
mod host;
mod reqwest;
mod reqwest_middleware;
mod server;
