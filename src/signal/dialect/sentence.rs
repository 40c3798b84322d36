//! Waits in the sentence that an error body says to people: "Please try again in 11.054s." is all
//! that some refusals say.

use std::time::Duration;

use super::Dialect;
use crate::signal::{body::Body, instant::Clock, prose};

pub(super) const DIALECT: Dialect = Dialect {
    wait: Some(wait),
    ..Dialect::SILENT
};

fn wait(body: &Body<'_>, _: &Clock<'_>) -> Option<Duration> {
    body.messages()
        .chain(body.json()["description"].as_str())
        .find_map(prose::wait)
}
