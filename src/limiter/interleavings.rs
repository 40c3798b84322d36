//! Every order in which threads may take the locks, as far as it is tried: callers of each kind meet
//! at one partition, and `shuttle` chooses who goes next wherever one of them is about to take a lock.
//!
//! Nothing here waits for real. [`Clock`] is tokio's paused clock; it steps to the next alarm when
//! everybody sleeps, so that a wake-up that was lost shows as time that was lost.
//!
//! `SCHEDULES` says how many schedules each scenario is tried with, and `SCHEDULE` names a single one
//! to be tried again: what a failure prints.

mod actor;
mod clock;

use super::{Caller, Lesson, Limiter, gate::Gate, queue::GRACE, state::Look, sync::explore};
use crate::{
    partition::Partition,
    quota::{Quota, Refused},
};
use actor::{Kind, Stage, visit};
use clock::Clock;
use shuttle::{
    Config, FailurePersistence, MaxSteps,
    rand::Rng,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler},
};
use std::{env, num::NonZero, sync::Arc, time::Duration};

/// Half of them by chance, half with few changes of who goes first (PCT).
const SCHEDULES: usize = 150;

/// In how many places a schedule of the latter kind departs from that order.
const DEPARTURES: usize = 4;

const SPAN: Duration = Duration::from_secs(1);

/// How long the server takes.
const SERVICE: Duration = Duration::from_millis(10);

/// How much later than the quota allows it a request may go until the first answer has told how even
/// the network is.
const CUSHION: Duration = Duration::from_millis(100);

#[test]
fn a_declared_quota_is_used_up_in_order_and_never_overdrawn() {
    explored(|| {
        let stage = Stage::new(&[quota(2)]);
        stage.play([Kind::Patient; 5]);
        stage.assert_over();
        stage.assert_kept(2);
        stage.assert_steady(SPAN);
        stage.assert_in_order();
    });
}

#[test]
fn nobody_is_sent_in_a_pause_and_all_are_sent_behind_it() {
    explored(|| {
        let stage = Stage::new(&[]);
        stage.play([
            Kind::Refused,
            Kind::Refused,
            Kind::Patient,
            Kind::Patient,
            Kind::Patient,
        ]);
        stage.assert_over();
        stage.assert_prompt();
    });
}

#[test]
fn who_goes_away_in_any_state_leaves_nothing_behind_and_passes_the_turn_on() {
    explored(|| {
        let stage = Stage::new(&[quota(1)]);
        stage.play([
            Kind::Cancelled,
            Kind::Cancelled,
            Kind::Patient,
            Kind::Cancelled,
            Kind::Patient,
        ]);
        stage.assert_over();
        stage.assert_kept(1);
        stage.assert_steady(SPAN + CUSHION);
    });
}

#[test]
fn who_goes_away_while_others_are_refused_or_rest_leaves_nothing_behind() {
    explored(|| {
        let stage = Stage::new(&[]);
        stage.play([
            Kind::Refused,
            Kind::Cancelled,
            Kind::Rests,
            Kind::Cancelled,
            Kind::Patient,
        ]);
        stage.assert_over();
    });
}

#[test]
fn who_is_not_polled_costs_the_others_no_more_than_its_turn() {
    explored(|| {
        let stage = Stage::new(&[quota(1)]);
        stage.play([
            Kind::Held,
            Kind::Held,
            Kind::Patient,
            Kind::Patient,
            Kind::Patient,
        ]);
        stage.assert_over();
        stage.assert_kept(1);
        // Each of those that are held may let one turn lapse, and take another one later.
        let last = stage.sent_by(Kind::Patient).max();
        let latest = 6 * (SPAN + CUSHION) + GRACE;
        assert!(last < Some(latest), "{:?}", stage.sent());
    });
}

#[test]
fn an_admission_lapses_while_its_service_is_not_ready_and_is_asked_for_anew() {
    explored(|| {
        let stage = Stage::new(&[quota(2)]);
        stage.play([
            Kind::Unready,
            Kind::Unready,
            Kind::Patient,
            Kind::Refused,
            Kind::Patient,
        ]);
        stage.assert_over();
        stage.assert_kept(2);
    });
}

#[test]
fn a_head_start_passes_those_who_wait_and_nobody_else() {
    explored(|| {
        let stage = Stage::new(&[quota(1)]);
        stage.play([
            Kind::Patient,
            Kind::Patient,
            Kind::Ahead,
            Kind::Patient,
            Kind::Ahead,
        ]);
        stage.assert_over();
        stage.assert_kept(1);
        stage.assert_in_order();
    });
}

#[test]
fn time_may_pass_between_any_two_steps() {
    explored(|| {
        let stage = Stage::new(&[quota(2)]);
        stage.play([
            Kind::Thief,
            Kind::Refused,
            Kind::Patient,
            Kind::Held,
            Kind::Cancelled,
            Kind::Unready,
        ]);
        stage.assert_over();
    });
}

#[test]
fn a_partition_that_is_held_is_not_forgotten_and_nothing_is_counted_twice() {
    explored(|| {
        let (limiter, clock) = (Arc::new(Limiter::default()), Clock::new());
        let called = visit(&limiter, &clock, 3);
        clock.join();
        assert_eq!(limiter.snapshot().totals().calls(), called);
    });
}

fn quota(requests: u64) -> Quota {
    let requests = NonZero::new(requests).expect("at least one");
    Quota::requests(requests).per(SPAN)
}

/// Plays the scenario under as many schedules as are to be tried.
fn explored(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime that needs nothing of the system");
    let _entered = runtime.enter();
    let mut config = Config::new();
    // What is not optimized takes more of the stack than shuttle reckons with.
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.failure_persistence = FailurePersistence::Print;
    if let Ok(schedule) = env::var("SCHEDULE") {
        explore(
            ReplayScheduler::new_from_encoded(&schedule),
            config,
            scenario,
        );
        return;
    }
    let schedules = env::var("SCHEDULES").map_or(SCHEDULES, |schedules| {
        schedules.parse().expect("a number of schedules")
    });
    let by_chance = schedules.div_ceil(2);
    let random = RandomScheduler::new(by_chance);
    assert_eq!(explore(random, config.clone(), scenario), by_chance);
    let ordered = PctScheduler::new(DEPARTURES, schedules - by_chance);
    assert_eq!(explore(ordered, config, scenario), schedules - by_chance);
}
