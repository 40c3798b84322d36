//! Comments on an issue with `octocrab`, through both of GitHub's limits.
//!
//! ```text
//! cargo run -p example-octocrab
//! ```
//!
//! GitHub is a server in this process.

mod github;

use std::time::Instant;

use example_octocrab::{client, comment};
use github::GitHub;
use simulation::{Server, Simulated};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let api = Simulated::new(GitHub::new());
    let server = Server::simulate(&api).await?;
    let github = client(&server.url().parse()?, "ghp_example")?;

    println!("Five comments, when no quota is left and two of them are too many at once:");
    let start = Instant::now();
    for number in 1..=5 {
        let answer = comment(&github, &format!("Comment {number}")).await?;
        let elapsed = start.elapsed().as_secs_f64();
        println!("{elapsed:6.1} s  comment {}", answer["id"]);
    }
    let counts = api.lock().counts();
    println!(
        "{} requests sent: {} refused by the primary limit, {} by the secondary, 5 accepted.",
        server.requests(),
        counts.primary,
        counts.secondary,
    );
    Ok(())
}
