//! Calls with `tonic`, to a service that pushes back.
//!
//! ```text
//! cargo run -p example-tonic
//! ```
//!
//! The service is in this process.

use std::num::NonZeroU32;
use std::time::Instant;

use example_tonic::client;
use example_tonic::server::{Server, push_back};
use simulation::Bucket;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;

const CALLS: u32 = 12;
/// Four a second, and as many at once.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(240).unwrap();
const AT_ONCE: u32 = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut bucket = Bucket::new(AT_ONCE, PER_MINUTE, tokio::time::Instant::now());
    let server = Server::start(move || {
        let now = tokio::time::Instant::now();
        if bucket.try_take(1, now) {
            return Ok(());
        }
        // Says until when; trailers-only, as there was no answer yet.
        Err(push_back(bucket.time_until(1, now)))
    })
    .await?;
    let channel = Endpoint::from_shared(server.url())?.connect().await?;
    // Clones of a client share what the layer knows.
    let limited = client(channel);

    println!("{CALLS} calls at once, to a service that takes {AT_ONCE}, and four a second:");
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for number in 1..=CALLS {
        let mut limited = limited.clone();
        calls.spawn(async move {
            let service = format!("service-{number}");
            limited.check(HealthCheckRequest { service }).await?;
            Ok::<_, Status>(number)
        });
    }
    while let Some(answer) = calls.join_next().await {
        let number = answer??;
        let elapsed = start.elapsed().as_secs_f64();
        println!("{elapsed:6.1} s  call {number} is answered");
    }
    let sent = server.received().len();
    println!(
        "{sent} requests sent: {} refused, {CALLS} answered.",
        sent - CALLS as usize
    );
    Ok(())
}
