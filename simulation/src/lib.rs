//! Simulated rate-limited APIs, for the tests, examples and benches of
//! `tower-rate-limit-retry`.
//!
//! An API is a pure model, [`Api`]: its state, a request and the time give the
//! answer. [`Simulated`] shares one between callers and lets each success take
//! its time, on tokio's clock, which a test can pause. [`Server`] puts it, or
//! any handler, on a real socket.
//!
//! Where only the limits matter, and no API, there are models of those: [`limit`].
//! A [`Script`] answers as it is told, and keeps what it was asked.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use simulation::{OpenAi, Server, Simulated};
//!
//! let api = Simulated::new(OpenAi::new());
//! let server = Server::simulate(&api).await?;
//! println!("POST {}/v1/chat/completions", server.url());
//! assert_eq!(api.lock().counts("gpt-4o-mini").completed, 0);
//! # Ok(())
//! # }
//! ```

mod bucket;
mod hint;
pub mod limit;
pub mod openai;
mod script;
mod server;
mod simulated;

pub use bucket::Bucket;
pub use hint::{Fields, Hints, Reset, RetryAfter, WallClock};
pub use limit::{Limit, Opening};
pub use openai::{Limits, OpenAi};
pub use script::Script;
pub use server::Server;
pub use simulated::{Api, Simulated};
