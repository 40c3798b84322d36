//! What the command line asks for.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;
use tower_rate_limit_retry::Quota;

use super::upstream::Upstream;

pub(super) const HELP: &str = "\
Forwards requests to a rate-limited API, through tower-rate-limit-retry: programs
in any language then keep to its limits together, and see no 429 that a wait can cure.

Usage: cargo run --release --example proxy -- --upstream URL [OPTIONS]

Options:
  --upstream URL           the API, such as https://api.openai.com; a path is put before
                           that of each request
  --listen ADDRESS         where to listen (127.0.0.1:8080); port 0 is any that is free
  --deadline SECONDS       answer with a 429 what cannot be sent so soon after it came;
                           less than what the programs wait for (no deadline)
  --max-delay SECONDS      the longest single wait that is sat out (300)
  --max-replay BYTES       the largest request body that is kept, to be sent again (1048576)
  --requests-per-minute N  a limit that is known, kept from the first request on
  --tokens-per-minute N    the same, in tokens
  --grace SECONDS          how long to finish what is under way, once told to end (30)
  --quiet                  say when a quota is paused, and not what becomes of each request
  --help                   this text

Quotas are told apart by the credential and the model of a request, limits that are
declared here too. Credentials are passed on, and neither kept nor logged. JSON is read
whole before it is sent, up to --max-replay, for its model; everything else, and every
answer, is passed on as it comes. Upgrades (WebSockets) are not.

Ctrl-C or SIGTERM ends it when all is answered, a second one at once. Exit codes: 0 when
all was finished, 1 when not or when it cannot listen, 2 when the arguments are wrong.
";

/// What the proxy does.
pub(crate) struct Settings {
    pub(crate) upstream: Upstream,
    pub(crate) options: Options,
}

/// What has a default.
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) deadline: Option<Duration>,
    pub(crate) max_delay: Duration,
    pub(crate) max_replay: usize,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) grace: Duration,
    pub(crate) quiet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            deadline: None,
            max_delay: Duration::from_secs(300),
            max_replay: 1024 * 1024,
            quotas: Vec::new(),
            grace: Duration::from_secs(30),
            quiet: false,
        }
    }
}

impl Settings {
    /// The settings, or `None` if the help is asked for.
    ///
    /// # Errors
    ///
    /// What is wrong, in one line.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, String> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut parser = lexopt::Parser::from_args(args);
        let (mut upstream, mut options) = (None, Options::default());
        while let Some(arg) = parser.next().map_err(|e| one_line(&e))? {
            match arg {
                Long("upstream") => upstream = Some(Upstream::parse(&text(&mut parser)?)?),
                Long("listen") => {
                    let expected = "an address and a port such as 127.0.0.1:8080";
                    options.listen = value(&mut parser, "--listen", expected)?;
                }
                Long("deadline") => {
                    options.deadline = Some(seconds(&mut parser, "--deadline")?);
                }
                Long("max-delay") => options.max_delay = seconds(&mut parser, "--max-delay")?,
                Long("max-replay") => {
                    options.max_replay = value(&mut parser, "--max-replay", "a number of bytes")?;
                }
                Long("requests-per-minute") => {
                    let count = count(&mut parser, "--requests-per-minute")?;
                    options.quotas.push(Quota::requests(count).per_minute());
                }
                Long("tokens-per-minute") => {
                    let count = count(&mut parser, "--tokens-per-minute")?;
                    options.quotas.push(Quota::tokens(count).per_minute());
                }
                Long("grace") => options.grace = seconds(&mut parser, "--grace")?,
                Long("quiet") => options.quiet = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(one_line(&arg.unexpected())),
            }
        }
        let upstream = upstream
            .ok_or_else(|| "--upstream is missing; --help lists what there is".to_owned())?;
        Ok(Some(Self { upstream, options }))
    }
}

fn seconds(parser: &mut lexopt::Parser, option: &str) -> Result<Duration, String> {
    value::<u32>(parser, option, "a whole number of seconds")
        .map(|seconds| Duration::from_secs(seconds.into()))
}

fn count(parser: &mut lexopt::Parser, option: &str) -> Result<NonZeroU64, String> {
    value(parser, option, "a number from 1 on")
}

fn value<T: FromStr>(
    parser: &mut lexopt::Parser,
    option: &str,
    expected: &str,
) -> Result<T, String> {
    let found = text(parser)?;
    found
        .parse()
        .map_err(|_| format!("{option}: expected {expected}, found {found:?}"))
}

fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|e| one_line(&e))?;
    Ok(value.to_string_lossy().into_owned())
}

fn one_line(error: &lexopt::Error) -> String {
    format!("{error}; --help lists what there is")
}
