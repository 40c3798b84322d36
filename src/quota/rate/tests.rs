//! What refusals say of the rate, and what is made of it.

mod cycles;
mod paces;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// What a server says in a refusal.
#[derive(Clone, Copy, Debug)]
enum Hint {
    Exact,
    /// Rounded up.
    WholeSeconds,
    /// One second, whatever the limit.
    Second,
    /// None; the client backs off by itself.
    Nothing,
}

/// A bucket that is known exactly, at the end of a network without a delay; and one who sends as
/// soon as the rate lets it.
struct World {
    rate: Rate,
    tempo: Tempo,
    now: Instant,
    /// From one unit to the next, and how many units the bucket holds.
    interval: Duration,
    burst: u32,
    hint: Hint,
    /// When the bucket will be full.
    full_at: Instant,
    /// Before this all are refused, and told to wait so long.
    out_until: Instant,
    waits: bool,
    refusals_in_a_row: u32,
    /// When each was admitted, and when refused.
    admitted: Vec<Instant>,
    refused: Vec<Instant>,
}

impl World {
    fn new(interval: Duration, burst: u32, hint: Hint) -> Self {
        let now = Instant::now() + 1_000 * SECOND;
        let mut tempo = Tempo::default();
        for _ in 0..100 {
            tempo.served(SECOND / 10);
            tempo.refused_after(SECOND / 10);
        }
        Self {
            rate: Rate::default(),
            tempo,
            now,
            interval,
            burst,
            hint,
            full_at: now,
            out_until: now,
            waits: true,
            refusals_in_a_row: 0,
            admitted: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// How long until the server admits another.
    fn wait(&self) -> Duration {
        if self.out_until > self.now {
            return (self.out_until - self.now).min(5 * SECOND);
        }
        let room = self.interval * (self.burst - 1);
        let full_at = self.full_at.max(self.now);
        (full_at - self.now).saturating_sub(room)
    }

    /// Sends as many at this instant as come, until the first of them is refused.
    fn send(&mut self, burst: u32) {
        let mut turns = Vec::new();
        for _ in 0..burst {
            let turn = self.rate.reserve(self.now, self.waits, &self.tempo);
            let wait = self.wait();
            turns.push((turn, wait));
            if wait.is_zero() {
                self.full_at = self.full_at.max(self.now) + self.interval;
                self.admitted.push(self.now);
            } else {
                self.refused.push(self.now);
            }
        }
        let mut longest = Duration::ZERO;
        for (turn, wait) in turns {
            if wait.is_zero() {
                self.rate.opened(&self.tempo);
                self.refusals_in_a_row = 0;
                continue;
            }
            let said = match self.hint {
                Hint::Exact => Some(wait),
                Hint::WholeSeconds => Some(Duration::from_secs(wait.as_secs_f64().ceil() as u64)),
                Hint::Second => Some(SECOND),
                Hint::Nothing => None,
            };
            self.rate.blame();
            self.rate.refused(turn, self.now, said);
            let row = i32::try_from(self.refusals_in_a_row).unwrap();
            let initial = self.rate.interval().unwrap_or(SECOND / 2);
            longest = longest.max(said.unwrap_or_else(|| initial.mul_f64(1.5_f64.powi(row))));
        }
        self.refusals_in_a_row += u32::from(!longest.is_zero());
        self.now += longest;
    }

    /// Sends the next as soon as it may go.
    fn step(&mut self) {
        self.now = self
            .rate
            .opens_at(0, true)
            .unwrap_or(self.now)
            .max(self.now);
        self.send(1);
    }

    fn admit(&mut self, requests: usize) {
        let end = self.admitted.len() + requests;
        while self.admitted.len() < end {
            self.step();
        }
    }

    /// By which ratio the learned interval is off.
    fn error(&self) -> f64 {
        let learned = self.rate.interval().expect("a rate is known");
        learned.as_secs_f64() / self.interval.as_secs_f64() - 1.0
    }

    fn assert_learned(&self, tolerance: f64) {
        let error = self.error();
        assert!(error.abs() <= tolerance, "off by {error:.3}");
    }

    /// Until so many have been refused, one at a time.
    fn until_refused(&mut self, refusals: usize) {
        let end = self.refused.len() + refusals;
        while self.refused.len() < end {
            self.step();
        }
    }

    /// Until it is known how fast the quota flows.
    fn learned(mut self) -> Self {
        while !self.rate.is_known() {
            self.step();
        }
        self
    }
}

#[test]
fn nothing_is_known_and_nobody_is_held_back_before_the_second_refusal() {
    let mut world = World::new(SECOND / 10, 20, Hint::WholeSeconds);
    world.admit(20);
    assert_eq!(
        (world.rate.opens_at(0, true), world.rate.interval()),
        (None, None)
    );
    world.until_refused(1);
    world.admit(1);
    assert!(world.rate.is_to_blame());
    assert_eq!(
        (world.rate.opens_at(0, true), world.rate.interval()),
        (None, None)
    );
}

#[test]
fn what_was_admitted_between_two_refusals_over_the_time_between_is_the_rate() {
    let cases = [
        (0.1, 20),
        (0.25, 9),
        (1.0, 1),
        (7.0, 5),
        (0.5, 100),
        (90.0, 1),
    ];
    for (interval, burst) in cases {
        for hint in [Hint::Exact, Hint::WholeSeconds] {
            let world = World::new(seconds(interval), burst, hint).learned();
            assert_eq!(world.refused.len(), 2, "{interval} {burst} {hint:?}");
            world.assert_learned(0.02);
        }
    }
}

#[test]
fn the_rate_is_met_and_hardly_anybody_refused_from_then_on() {
    for (interval, burst) in [(0.1, 20), (1.0, 1), (7.0, 5), (0.5, 100)] {
        for hint in [Hint::Exact, Hint::WholeSeconds] {
            let mut world = World::new(seconds(interval), burst, hint);
            world.admit(burst as usize + 500);
            let (began, refused) = (*world.admitted.last().unwrap(), world.refused.len());
            for _ in 0..1_500 {
                world.admit(1);
                // Where one may be had at once, a higher one is tried by a small step.
                world.assert_learned(if burst == 1 { 0.09 } else { 0.05 });
            }
            let took = world.now - began;
            let ideal = world.interval * 1_500;
            assert!(
                took <= ideal.mul_f64(1.05),
                "{interval} {burst} {hint:?}: {took:?} of {ideal:?}"
            );
            let refused = world.refused.len() - refused;
            assert!(
                refused <= 30,
                "{interval} {burst} {hint:?}: {refused} refused"
            );
        }
    }
}

#[test]
fn the_refusals_of_one_burst_count_once() {
    let mut worlds = [1, 30, 300].map(|burst| {
        let mut world = World::new(SECOND / 10, 20, Hint::WholeSeconds);
        world.send(20);
        world.send(burst);
        while !world.rate.is_known() {
            world.send(burst);
        }
        world
    });
    let learned = worlds.each_mut().map(|world| world.rate.interval());
    assert_eq!(learned, [Some(SECOND / 10); 3]);
    assert!(worlds[2].refused.len() > 100 * worlds[0].refused.len());
}

#[test]
fn a_server_that_names_no_time_is_asked_until_it_opens_and_its_rate_is_met() {
    for (interval, burst) in [(1.0, 1), (7.0, 1)] {
        let mut world = World::new(seconds(interval), burst, Hint::Nothing);
        world.admit(200);
        let (began, refused) = (world.now, world.refused.len());
        world.admit(1_000);
        let (took, ideal) = (world.now - began, world.interval * 1_000);
        assert!(took <= ideal.mul_f64(1.08), "{took:?} of {ideal:?}");
        let refused = world.refused.len() - refused;
        assert!(refused <= 50, "{refused} of a thousand refused");
    }
}

#[test]
fn an_outage_is_not_a_rate() {
    let cases = [
        (0.1, 20),
        (0.1, 100),
        (1.0, 1),
        (1.0, 10),
        (7.0, 1),
        (7.0, 5),
    ];
    for (interval, burst) in cases {
        let mut world = World::new(seconds(interval), burst, Hint::WholeSeconds);
        world.admit(1_000);
        world.out_until = world.now + 60 * SECOND;
        let refused = world.refused.len();
        world.admit(1);
        let refused = world.refused.len() - refused;
        assert!(refused >= 10, "asked only {refused} times in a minute");
        for _ in 0..300 {
            world.admit(1);
            assert!(world.error() <= 0.05, "slower by {}", world.error());
        }
        world.assert_learned(0.05);
    }
}

#[test]
fn an_outage_of_a_server_that_names_no_time_is_not_a_rate() {
    for (interval, burst) in [(0.1, 10), (0.1, 100), (1.0, 1), (7.0, 1)] {
        for (seconds_out, slower) in [(20, 1.1), (40, 1.1), (1_200, 0.1)] {
            let mut world = World::new(seconds(interval), burst, Hint::Nothing);
            world.admit(600);
            world.out_until = world.now + seconds_out * SECOND;
            world.admit(1);
            // One that is no longer than the cycle before it counts once, and makes that twice as long.
            let error = world.error();
            let case = format!("{seconds_out} s of {interval} s and {burst}");
            assert!((-0.1..=slower).contains(&error), "{case}: {error}");
            world.admit(400);
            let error = world.error();
            assert!((-0.1..=0.1).contains(&error), "{case}: {error}");
        }
    }
}

#[test]
fn a_server_that_names_no_time_and_becomes_slower_is_believed_all_the_same() {
    for burst in [1, 20, 100] {
        for times in [2, 5, 100] {
            let mut world = World::new(SECOND / 10, burst, Hint::Nothing);
            world.admit(600);
            world.interval *= times;
            world.admit(450);
            world.assert_learned(0.11);
        }
    }
}

#[test]
fn who_sends_less_than_may_be_sent_learns_no_lower_rate() {
    let mut world = World::new(SECOND / 10, 20, Hint::WholeSeconds);
    world.admit(1_000);
    for _ in 0..10 {
        // One a second for a minute, and then a hundred that wait.
        world.waits = false;
        for _ in 0..60 {
            world.now += SECOND;
            world.step();
        }
        world.waits = true;
        world.admit(100);
        assert!(world.error() <= 0.02, "slower by {}", world.error());
    }
}

#[test]
fn a_rate_that_falls_is_learned_anew() {
    let mut world = World::new(SECOND / 2, 20, Hint::WholeSeconds);
    world.admit(1_000);
    world.interval *= 3;
    world.admit(500);
    world.assert_learned(0.03);
}

#[test]
fn one_that_others_have_left_over_is_not_taken_for_the_rate() {
    // Another client uses the quota up as soon as it opens, and leaves one.
    let mut world = World::new(SECOND / 10, 20, Hint::Nothing);
    world.admit(500);
    world.until_refused(1);
    world.step();
    world.full_at = world.now + 60 * SECOND;
    let before = world.rate.interval().unwrap();
    world.until_refused(1);
    world.admit(1);
    let learned = world.rate.interval().unwrap();
    assert!(learned < 10 * before, "{before:?} -> {learned:?}");
}

#[test]
fn a_server_that_says_the_same_whatever_the_limit_is_asked_less_and_less() {
    // One in seven seconds; "1", it says each time.
    let mut world = World::new(7 * SECOND, 5, Hint::Second);
    world.admit(100);
    let (began, refused) = (world.now, world.refused.len());
    world.admit(500);
    let (took, ideal) = (world.now - began, world.interval * 500);
    assert!(took <= ideal.mul_f64(1.08), "{took:?} of {ideal:?}");
    let refused = world.refused.len() - refused;
    assert!(refused <= 15, "{refused} of five hundred refused");
}

#[test]
fn who_is_idle_for_a_moment_learns_the_rate_from_a_long_block_all_the_same() {
    let mut world = World::new(seconds(0.18), 300, Hint::Nothing);
    world.waits = false;
    // At first it comes back somewhat sooner.
    for blocked in [30, 54] {
        world.full_at = world.now;
        world.send(300 - u32::from(world.rate.is_known()));
        world.full_at = world.now + world.interval * 299 + blocked * SECOND;
        world.send(1);
        world.admit(1);
    }
    // It opened somewhere in the last third of the time, and is taken to have half-way.
    world.assert_learned(1.0 / 6.0);
}

#[test]
fn a_rate_that_rises_is_found() {
    let mut world = World::new(SECOND / 10, 20, Hint::WholeSeconds);
    world.admit(1_000);
    world.interval /= 2;
    world.full_at = world.now;
    world.admit(700);
    world.assert_learned(0.03);
}

#[test]
fn what_was_learned_in_a_busy_hour_is_doubted_after_idleness() {
    for is_idle in [false, true] {
        let mut world = World::new(SECOND, 5, Hint::WholeSeconds);
        world.admit(2_000);
        if is_idle {
            world.now += 3_600 * SECOND;
        }
        // From now on all are admitted.
        world.interval = Duration::ZERO;
        world.full_at = world.now;
        let began = world.now;
        world.admit(30);
        let took = world.now - began;
        assert_eq!(took < 10 * SECOND, is_idle, "{took:?}");
    }
}

#[test]
fn tries_one_more_and_another_until_one_is_refused() {
    let mut world = World::new(10 * SECOND, 5, Hint::Exact);
    world.admit(100);
    world.until_refused(1);
    world.step();
    assert!(!world.rate.is_probing());
    // From now on all are admitted.
    let interval = std::mem::take(&mut world.interval);
    let patience = world.now;
    while !world.rate.is_probing() {
        world.step();
    }
    let probed = world.now;
    assert!(probed > patience + 2 * interval, "it takes its time");
    while world.now <= probed + SECOND / 2 {
        world.step();
    }
    let since = |at: &Instant| at.checked_duration_since(probed);
    let sent: Vec<_> = world.admitted.iter().filter_map(since).collect();
    // Refusals would come within 100 ms.
    let by = |trips| sent.iter().filter(|&&at| at <= SECOND / 10 * trips).count();
    // One that is due, and one that is not. So few were admitted since the pause that no more are
    // risked at once.
    assert_eq!([0, 1, 2, 3, 4].map(by), [2, 3, 4, 5, 6]);
    world.interval = interval;
    world.full_at = world.now + 5 * interval;
    world.send(1);
    assert_eq!(world.refused.last(), Some(&(world.now - interval)));
    world.step();
    assert!(!world.rate.is_probing());
}

#[test]
fn one_after_another_in_steps_of_the_interval() {
    let world = World::new(7 * SECOND, 1, Hint::Exact).learned();
    let opens_at = |ahead| world.rate.opens_at(ahead, true).unwrap();
    let interval = world.rate.interval().unwrap();
    let (next, hundredth) = (opens_at(20), opens_at(120));
    assert_eq!(hundredth - next, interval * 100);
    assert!((0..200).is_sorted_by_key(opens_at));
    assert!(opens_at(u64::MAX) > opens_at(1_000_000));
}

#[test]
fn what_was_not_used_leaves_its_place_to_the_next() {
    let mut world = World::new(7 * SECOND, 1, Hint::Exact);
    world.admit(1_000);
    let next = world.rate.opens_at(0, true).unwrap();
    for _ in 0..3 {
        let turn = world.rate.reserve(next, true, &world.tempo);
        assert!(world.rate.opens_at(0, true).unwrap() > next);
        world.rate.give_back(turn);
        assert_eq!(world.rate.opens_at(0, true), Some(next));
    }
}

#[test]
fn the_first_after_a_pause_always_may_go_and_the_second_when_that_was_admitted() {
    let mut world = World::new(7 * SECOND, 1, Hint::Exact);
    world.admit(50);
    world.until_refused(1);
    assert_eq!(world.rate.opens_at(0, true), None);
    let turn = world.rate.reserve(world.now, true, &world.tempo);
    world.rate.opened(&world.tempo);
    assert!(world.rate.opens_at(0, true) > Some(world.now + SECOND));
    assert_eq!(world.rate.refused(turn, world.now, None), Some(0));
}

#[test]
fn it_is_full_once_as_many_are_due_as_can_be_had_at_once_and_more_than_one() {
    let world = World::new(SECOND / 10, 20, Hint::Exact).learned();
    let pace = world.rate.pace.as_ref().unwrap();
    let (full_at, burst) = (pace.full_at(), pace.burst());
    assert!(burst > 10, "{burst}");
    let before = full_at - Duration::from_nanos(1);
    assert!(!world.rate.is_full(before) && world.rate.is_full(full_at));
    let world = World::new(SECOND / 10, 1, Hint::Exact).learned();
    assert_eq!(world.rate.pace.as_ref().map(Pace::burst), Some(1));
    assert!(!world.rate.is_full(world.now + 100 * SECOND));
    assert!(Rate::default().is_full(world.now), "it is not known");
}

#[test]
fn what_went_since_the_refused_one_has_taken_what_flowed_in() {
    let mut world = World::new(SECOND / 10, 5, Hint::Exact).learned();
    let (rate, refused_at) = (&mut world.rate, world.now);
    let turn = rate.reserve(refused_at, true, &world.tempo);
    let mut now = refused_at;
    for _ in 0..20 {
        now = rate.opens_at(0, true).unwrap().max(now);
        assert_eq!(rate.reserve(now, true, &world.tempo), turn);
    }
    rate.refused(turn, refused_at, Some(Duration::from_millis(5)));
    now += Duration::from_millis(5);
    rate.reserve(now, true, &world.tempo);
    rate.opened(&world.tempo);
    assert!(rate.opens_at(0, true) > Some(now), "{rate:?}");
    assert!(rate.interval() > Some(SECOND / 20), "{:?}", rate.interval());
}

#[test]
fn a_refusal_from_before_the_pause_says_nothing_new() {
    let mut world = World::new(7 * SECOND, 1, Hint::Exact);
    world.admit(50);
    let late = world.rate.reserve(world.now, true, &world.tempo);
    world.until_refused(1);
    world.step();
    let before = (world.rate.interval(), world.rate.opens_at(0, true));
    assert_eq!(world.rate.refused(late, world.now, Some(SECOND)), None);
    world.rate.give_back(late);
    assert_eq!(
        (world.rate.interval(), world.rate.opens_at(0, true)),
        before
    );
}

/// Ten go at once, the last of them is refused, with a wait that is shorter than refusals take, and
/// then the next one goes; the turn of the ten.
fn refused_for_moments(rate: &mut Rate, now: Instant, tempo: &Tempo) -> Turn {
    let mut turns = (0..10).map(|_| rate.reserve(now, true, tempo));
    let turn = turns.next().unwrap();
    assert!(turns.all(|another| another == turn));
    rate.refused(turn, now, Some(Duration::from_millis(5)));
    rate.reserve(now + Duration::from_millis(20), true, tempo);
    turn
}

#[test]
fn a_refusal_that_comes_when_the_next_cycle_has_begun_counts_in_its_own() {
    let (mut rate, tempo) = (Rate::default(), Tempo::default());
    let now = Instant::now();
    let turn = refused_for_moments(&mut rate, now, &tempo);
    for _ in 0..4 {
        rate.refused(turn, now, Some(Duration::from_millis(5)));
    }
    let closed = rate.closed.as_ref().map(|(_, closed)| closed.admitted());
    assert_eq!(closed, Some(5));
    assert_eq!(rate.cycle.as_ref().map(Cycle::admitted), Some(1));
}

#[test]
fn nothing_is_learned_before_all_refusals_can_have_come() {
    let (mut rate, tempo) = (Rate::default(), Tempo::default());
    let mut now = Instant::now();
    for _ in 0..4 {
        refused_for_moments(&mut rate, now, &tempo);
        rate.opened(&tempo);
        now += Duration::from_millis(20);
    }
    assert!(!rate.is_known(), "five hundred a second: {rate:?}");
}
