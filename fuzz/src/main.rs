//! Mutates known responses and reads them, without nightly and libFuzzer.
//!
//! ```sh
//! cargo run --release                            # a million responses, from a random seed
//! cargo run --release -- --seed 7 --count 5000   # the same again
//! cargo run --release -- crash-0123              # what libFuzzer has found
//! cargo run --release -- --corpus corpus/response
//! ```

#[path = "../../tests/mutated/response.rs"]
mod response;

use std::{error::Error, fs, path::PathBuf};

use fastrand::Rng;
use lexopt::prelude::*;

const VECTORS: &str = include_str!("../../tests/data/responses.json");

fn main() -> Result<(), Box<dyn Error>> {
    let (mut seed, mut count) = (fastrand::u64(..), 1_000_000);
    let mut files = Vec::new();
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("seed") => seed = args.value()?.parse()?,
            Long("count") => count = args.value()?.parse()?,
            Long("corpus") => return write_corpus(args.value()?.into()),
            Value(file) => files.push(PathBuf::from(file)),
            arg => return Err(arg.unexpected().into()),
        }
    }
    if files.is_empty() {
        mutate(seed, count);
    }
    for file in files {
        response::check(&fs::read(file)?);
    }
    Ok(())
}

fn mutate(seed: u64, count: u64) {
    println!("--seed {seed} --count {count}");
    let vectors = response::vectors(VECTORS);
    let mut rng = Rng::with_seed(seed);
    for _ in 0..count {
        let mut bytes = vectors[rng.usize(0..vectors.len())].clone();
        response::mutate(&mut bytes, &vectors, &mut rng);
        response::check(&bytes);
    }
}

/// Each known response in a file of its own.
fn write_corpus(directory: PathBuf) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&directory)?;
    for (index, bytes) in response::vectors(VECTORS).iter().enumerate() {
        fs::write(directory.join(format!("{index:03}")), bytes)?;
    }
    Ok(())
}
