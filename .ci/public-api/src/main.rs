//! Prints each public item of a crate on a line of its own, as rustdoc's JSON has it.
//!
//! The argument is the path of that JSON.

use std::{env, process::ExitCode};

/// Traits of the compiler's own, which nobody can name on stable and which come and go with it.
const UNNAMEABLE: [&str; 3] = ["Freeze", "StructuralPartialEq", "UnsafeUnpin"];

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("expected the path of the JSON that rustdoc has written");
        return ExitCode::from(2);
    };
    // What every type has in common is left out; `Send` and its like are not, for they are promises.
    let api = public_api::Builder::from_rustdoc_json(path)
        .omit_blanket_impls(true)
        .build();
    match api {
        Ok(api) => {
            let lines = api.items().map(ToString::to_string);
            for line in lines.filter(|line| !is_unnameable(line)) {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn is_unnameable(line: &str) -> bool {
    UNNAMEABLE
        .iter()
        .any(|name| line.contains(&format!("core::marker::{name} for ")))
}
