//! Makes config maps with `kube`, while the API server has too much to do.
//!
//! ```text
//! cargo run -p example-kube
//! ```
//!
//! The API server is a list of answers in this process.

use std::time::Instant;

use example_kube::{client, create};
use http::Response;
use kube::Config;
use simulation::{Script, Server, Simulated};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let busy = || {
        // As API priority and fairness refuses.
        let head = Response::builder().status(429).header("retry-after", "1");
        head.body("Too many requests, please try again later.\n".into())
    };
    let created = r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "example"}}"#;
    let created = || Response::builder().status(201).body(created.into());
    let api = Simulated::new(Script::new([busy()?, busy()?, created()?]));
    let server = Server::simulate(&api).await?;
    let kubernetes = client(&Config::new(server.url().parse()?))?;

    println!("Three config maps, while the first two requests are too many:");
    let start = Instant::now();
    for number in 1..=3 {
        create(&kubernetes, &format!("example-{number}")).await?;
        let elapsed = start.elapsed().as_secs_f64();
        println!("{elapsed:6.1} s  map {number} is made");
    }
    println!("{} requests sent: 2 refused, 3 served.", server.requests());
    Ok(())
}
