//! Responses that no server has sent yet.

mod response;

use fastrand::Rng;

/// A million where it takes seconds.
const RESPONSES: u32 = if cfg!(debug_assertions) {
    50_000
} else {
    1_000_000
};

#[test]
fn what_must_hold_holds_of_a_million_responses() {
    let vectors = response::vectors(include_str!("../data/responses.json"));
    for vector in &vectors {
        response::check(vector);
    }
    let mut rng = Rng::with_seed(9_110);
    for _ in 0..RESPONSES {
        let mut bytes = vectors[rng.usize(0..vectors.len())].clone();
        response::mutate(&mut bytes, &vectors, &mut rng);
        // What is left in the output when it panics can be given to the fuzzer.
        let printed = Printed(&bytes);
        response::check(&bytes);
        drop(printed);
    }
}

/// Prints the response that is being checked, should that panic.
struct Printed<'a>(&'a [u8]);

impl Drop for Printed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("\"{}\"", self.0.escape_ascii());
        }
    }
}
