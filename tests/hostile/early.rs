//! Refusals that come before the request's body was read.

use crate::{
    case::{Case, End, check_all, refusal},
    server::{Reads, Then},
};

/// As much as can be sent again by default, and far more than sockets take.
const LARGE: usize = 1024 * 1024;

#[tokio::test]
async fn a_refusal_that_does_not_read_the_body_is_followed_by_the_whole_body() {
    let mut cases = Vec::new();
    for length in [1, 20_000, LARGE] {
        for (reads, then) in [
            (Reads::Behind, Then::GoesOn),
            (Reads::Behind, Then::Closes),
            (Reads::Never, Then::GoesOn),
            (Reads::Never, Then::Closes),
        ] {
            if (reads, then) == (Reads::Never, Then::GoesOn) && length < LARGE {
                // The client has sent all of it, and would wait for ever on a connection that nobody
                // reads: that is for a timeout below.
                continue;
            }
            let name = format!("{length} bytes, {reads:?}, {then:?}");
            let reply = refusal().reads(reads).then(then);
            cases.push(Case::new(name, reply, End::Served).length(length));
        }
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_refusal_that_may_be_lost_with_its_connection_does_no_harm() {
    let mut cases = Vec::new();
    for length in [1, 20_000, LARGE] {
        for reads in [Reads::First, Reads::Behind, Reads::Never] {
            let name = format!("{length} bytes, {reads:?}");
            let reply = refusal().reads(reads).then(Then::Resets);
            cases.push(Case::new(name, reply, End::ServedOrFails).length(length));
        }
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_connection_that_says_close_is_not_used_again() {
    let reply = refusal().field("connection", "close").then(Then::Closes);
    let cases = [Case::new("close", reply, End::Served)];
    check_all(cases.into()).await;
}
