//! What the documents say of tests is true: each that they name exists.

use std::{collections::BTreeSet, fs, path::Path};

const DOCUMENTS: [(&str, &str); 2] = [
    ("SECURITY.md", include_str!("../SECURITY.md")),
    ("src/contract.md", include_str!("../src/contract.md")),
];

#[test]
fn each_test_that_is_named_exists() {
    for (document, text) in DOCUMENTS {
        let named: BTreeSet<_> = named(text).collect();
        assert!(named.len() > 25, "{document}: {}", named.len());
        let missing: Vec<_> = named.into_iter().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{document}: {missing:#?}");
    }
}

#[test]
fn a_test_that_does_not_exist_is_found_out() {
    let text = "| `retry::waits_as_long_as_the_server_asked`, `http::Request`, `a::b` |";
    let named: Vec<_> = named(text).collect();
    assert_eq!(named, ["retry::waits_as_long_as_the_server_asked", "a::b"]);
    assert!(exists(named[0]));
    assert!(!exists(named[1]));
    assert!(!exists("retry::waits"), "a part of a name");
    assert!(!exists("retry::report"), "a function, and no test");
}

/// Paths in backticks whose last part is the name of a function, in lines of tables.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|code| code.contains("::"))
        .filter(|code| {
            code.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c))
        })
}

/// Whether there is a test of that name in a file of that path.
fn exists(name: &str) -> bool {
    let (path, test) = name.rsplit_once("::").expect("a path has two parts");
    let path = path.replace("::", "/");
    let function = format!("fn {test}(");
    ["tests", "src"]
        .iter()
        .flat_map(|root| {
            ["", "/main", "/mod", "/tests"].map(|end| format!("{root}/{path}{end}.rs"))
        })
        .filter_map(|file| {
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
        })
        .any(|source| {
            source.match_indices(&function).any(|(at, _)| {
                // The attribute stands on the line before, or a few before it.
                let before = source[..at].trim_end_matches("async ").trim_end();
                let attributes = before.rsplit("\n\n").next().unwrap_or_default();
                attributes.contains("#[test]") || attributes.contains("#[tokio::test")
            })
        })
}
