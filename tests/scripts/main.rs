//! Scripts by chance, played on the whole layer in virtual time: whoever calls whenever, whatever the
//! server says to it, and whatever becomes of the futures, some things hold.
//!
//! `PROPTEST_CASES` says how many scripts each property is tried with.

mod log;
mod play;
mod script;
mod server;

use play::play;
use proptest::prelude::*;
use script::{
    Call, Fate, Ms, Reply, Says, Script, call_at, idle_scripts, reply, scripts, willing_scripts,
};
use server::Limited;
use simulation::limit::{FixedWindow, TokenBucket, Unit};
use simulation::{Fields, Hints};
use std::{
    env,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};
use tokio::time::Instant;
use tower_rate_limit_retry::{Quota, RateLimitRetryLayer};

/// How many scripts each property is tried with, if nothing is said.
const CASES: u32 = 100;

fn config() -> ProptestConfig {
    let cases = env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        // What was found becomes a test of its own.
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(CASES))
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn pauses_and_the_order_of_arrival_are_kept_and_all_calls_end(script in scripts()) {
        let outcome = play(&script, &RateLimitRetryLayer::new(), || None);
        outcome.assert_over();
        outcome.log.assert_pauses_are_kept();
        if script.is_smooth() {
            outcome.log.assert_order_is_kept(&script);
        }
    }

    #[test]
    fn a_declared_quota_is_never_overdrawn(
        script in scripts(),
        requests in 1..5_u64,
        tokens in 30..60_u64,
        span in 1..3_000_u64,
    ) {
        let span = Duration::from_millis(span);
        let layer = RateLimitRetryLayer::new()
            .quota(Quota::requests(NonZeroU64::new(requests).unwrap()).per(span))
            .quota(Quota::tokens(NonZeroU64::new(tokens).unwrap()).per(2 * span));
        let outcome = play(&script, &layer, || None);
        outcome.assert_over();
        outcome.log.assert_pauses_are_kept();
        outcome.log.assert_quota_is_kept(requests, span, |_, _| 1);
        // A refusal has used no tokens.
        outcome.log.assert_quota_is_kept(tokens, 2 * span, |id, says| {
            let is_refused = matches!(says, Some(Says::Refused(_) | Says::Unavailable(_)));
            if is_refused { 0 } else { script.calls[id].tokens }
        });
        if script.is_smooth() {
            outcome.log.assert_order_is_kept(&script);
        }
    }

    #[test]
    fn an_announced_bucket_is_never_overdrawn(
        script in willing_scripts(),
        capacity in 1..6_u32,
        interval in prop::sample::select(vec![100, 200, 500, 1_000, 3_000, 10_000]),
    ) {
        // In whole milliseconds, for so it is announced.
        let per_minute = NonZeroU32::new(60_000 / interval).unwrap();
        let limited = || {
            let limit = TokenBucket::new(Unit::Requests, capacity, per_minute, Instant::now());
            Some(Limited::new(limit, Hints::OPENAI))
        };
        let outcome = play(&script, &RateLimitRetryLayer::new(), limited);
        outcome.assert_over();
        prop_assert_eq!(outcome.over_limit, 0, "{:?}", outcome.log);
    }

    #[test]
    fn an_announced_window_is_never_overdrawn(
        script in idle_scripts(),
        limit in 1..6_u32,
        seconds in 1..10_u64,
    ) {
        let limited = || {
            let length = Duration::from_secs(seconds);
            let limit = FixedWindow::new(Unit::Requests, limit, length, Instant::now());
            let hints = Hints { fields: Some(Fields::Structured), ..Hints::default() };
            Some(Limited::new(limit, hints))
        };
        let outcome = play(&script, &RateLimitRetryLayer::new(), limited);
        outcome.assert_over();
        prop_assert_eq!(outcome.over_limit, 0, "{:?}", outcome.log);
    }
}

/// Found by chance: the concurrency had been found to be the cause, so a refusal that named no time
/// would not have been a pause.
#[test]
fn a_refusal_whose_reader_goes_away_holds_all_back_for_the_time_it_names() {
    let refused = |wait| Says::Refused(Some(Ms(wait)));
    let script = Script {
        calls: vec![
            call_at(900, Fate::Polled),
            Call {
                head_start: Ms(1_890),
                ..call_at(2_780, Fate::Cancelled { at: Ms(230) })
            },
            Call {
                head_start: Ms(700),
                ..call_at(2_020, Fate::Dropped { polls: 4 })
            },
            call_at(1_030, Fate::Cancelled { at: Ms(2_620) }),
            call_at(1_330, Fate::Polled),
            call_at(1_330, Fate::Polled),
            call_at(120, Fate::Polled),
        ],
        replies: vec![
            reply(780, refused(1_020)),
            reply(160, refused(1_360)),
            reply(40, Says::Breaks),
            reply(720, refused(0)),
            reply(300, Says::Fails),
            Reply {
                body_after: Ms(120),
                ..reply(10, refused(1_000))
            },
            reply(360, Says::Ok),
            reply(130, refused(910)),
            reply(620, Says::Ok),
        ],
        steps: Vec::new(),
        room: None,
    };
    let outcome = play(&script, &RateLimitRetryLayer::new(), || None);
    outcome.assert_over();
    outcome.log.assert_pauses_are_kept();
}

/// Two are admitted one after the other while there is room for none, and then find it at once.
#[test]
fn what_was_admitted_long_before_there_is_room_overdraws_no_declared_quota() {
    let refused = |wait| Says::Refused(Some(Ms(wait)));
    let script = Script {
        calls: vec![
            call_at(1_520, Fate::Polled),
            call_at(890, Fate::Polled),
            call_at(520, Fate::Polled),
            call_at(890, Fate::Polled),
            call_at(890, Fate::Polled),
        ],
        replies: vec![
            reply(180, refused(820)),
            reply(690, Says::Unavailable(Ms(0))),
            reply(860, Says::Fails),
        ],
        steps: Vec::new(),
        room: Some(1),
    };
    let span = Duration::from_millis(11);
    let one = Quota::requests(NonZeroU64::MIN);
    for quota in [one.per(span), one.per(span).burst(NonZeroU64::MIN)] {
        let outcome = play(&script, &RateLimitRetryLayer::new().quota(quota), || None);
        outcome.log.assert_quota_is_kept(1, span, |_, _| 1);
    }
}
