//! What the command line and the environment ask for.

use std::env::{self, VarError};

use lexopt::prelude::*;

use crate::chat::Endpoint;

pub(crate) const HELP: &str = "\
Sends chat requests to a rate-limited API, through tower-rate-limit-retry.

Usage: cargo run --release --example quickstart -- [OPTIONS]

Options:
  --requests N     how many to send (1,000 to the simulation, 20 to a real API)
  --concurrency N  how many at most are under way at once, with the layer (16)
  --simulation     ask the simulation, even if OPENAI_API_KEY is set
  --help           this text

Environment:
  OPENAI_API_KEY   asks this API instead of the simulation; its tokens cost money
  OPENAI_BASE_URL  where the API is (https://api.openai.com/v1)
  OPENAI_MODEL     which of its models is asked (gpt-4o-mini)
";

pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) requests: usize,
    pub(crate) concurrency: usize,
}

pub(crate) enum Target {
    Simulation,
    Real { endpoint: Endpoint, model: String },
}

/// The settings, or `None` if the help is asked for.
///
/// # Errors
///
/// What is wrong, in one line.
pub(crate) fn parse() -> Result<Option<Settings>, String> {
    let (mut requests, mut concurrency, mut simulation) = (None, 16, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next().map_err(|e| one_line(&e))? {
        match arg {
            Long("requests") => requests = Some(number(&mut parser, "--requests", 100_000)?),
            Long("concurrency") => concurrency = number(&mut parser, "--concurrency", 1_000)?,
            Long("simulation") => simulation = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(one_line(&arg.unexpected())),
        }
    }
    let target = match variable("OPENAI_API_KEY")? {
        Some(key) if !simulation => real(&key)?,
        _ => Target::Simulation,
    };
    let default = match target {
        Target::Simulation => 1_000,
        Target::Real { .. } => 20,
    };
    Ok(Some(Settings {
        target,
        requests: requests.unwrap_or(default),
        concurrency,
    }))
}

fn real(key: &str) -> Result<Target, String> {
    let url = variable("OPENAI_BASE_URL")?;
    let url = url.as_deref().unwrap_or("https://api.openai.com/v1");
    let model = variable("OPENAI_MODEL")?;
    Ok(Target::Real {
        endpoint: Endpoint::new(url, key)?,
        model: model.unwrap_or_else(|| "gpt-4o-mini".to_owned()),
    })
}

/// The value of an environment variable; one that is set must not be empty.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) if value.trim().is_empty() => Err(format!("{name} is set, but empty")),
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

fn number(parser: &mut lexopt::Parser, option: &str, max: usize) -> Result<usize, String> {
    let value = parser.value().map_err(|e| one_line(&e))?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.filter(|n| (1..=max).contains(n)).ok_or_else(|| {
        let found = value.to_string_lossy();
        format!("{option}: expected a number from 1 to {max}, found {found:?}")
    })
}

fn one_line(error: &lexopt::Error) -> String {
    format!("{error}; --help lists what there is")
}
