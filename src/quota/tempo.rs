//! How long answers take, and within which time a refusal would be known.
//!
//! Refusals come within a round trip; answers may take seconds, or minutes. So what has not been
//! refused in the time that refusals take has most probably been admitted, and nobody has to wait
//! for its answer to know. That time is estimated as TCP estimates when a segment must be lost
//! ([RFC 6298, section 2]): the smoothed round trip and some times its mean deviation; three and not
//! four, for a refusal that comes later does little harm. Answers within a second stand for refusals
//! if they come sooner, or none has been seen; until anything has come, 100 ms do.
//!
//! Of a burst that is refused the answers come in the order of how long they took, and the last ones
//! are those that were lost on the way: they are no measure of what came back long before.
//!
//! [RFC 6298, section 2]: https://www.rfc-editor.org/rfc/rfc6298.html#section-2

use std::time::Duration;
use tokio::time::Instant;

/// About a round trip between continents: what stands for a round trip that nobody has measured.
pub(super) const UNMEASURED: Duration = Duration::from_millis(100);

/// Timers are no finer than a millisecond, and threads are late by a few.
const SHORTEST: Duration = Duration::from_millis(10);

/// Whatever takes longer than this tells of the server's work, and not of a round trip: twice around
/// the earth, with the handshakes.
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Tempo {
    refusals: Option<RoundTrip>,
    answers: Option<RoundTrip>,
    /// What the two tell, kept because it is asked for far more often than they change.
    refusal_time: Duration,
    /// When the last of those was sent whose refusals have been taken for a measure.
    measured_at: Option<Instant>,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            refusals: None,
            answers: None,
            refusal_time: UNMEASURED,
            measured_at: None,
        }
    }
}

impl Tempo {
    /// A request was served after so long.
    #[inline]
    pub(super) fn served(&mut self, took: Duration) {
        self.answers = Some(RoundTrip::with(self.answers, took));
        self.measure();
    }

    /// A request that was sent at `sent_at` was refused.
    pub(super) fn refused(&mut self, now: Instant, sent_at: Instant) {
        let took = now.saturating_duration_since(sent_at);
        let is_last = self.measured_at < Some(sent_at);
        if !is_last && self.refusals.is_some_and(|known| known.is_late(took)) {
            return;
        }
        self.measured_at = self.measured_at.max(Some(sent_at));
        self.refusals = Some(RoundTrip::with(self.refusals, took));
        self.measure();
    }

    /// The same for one that is sent after all others.
    #[cfg(test)]
    pub(super) fn refused_after(&mut self, took: Duration) {
        let last = self.measured_at.unwrap_or_else(Instant::now);
        let sent_at = last + Duration::from_nanos(1);
        self.refused(sent_at + took, sent_at);
    }

    /// Whether nothing tells how long a round trip takes.
    pub(super) fn is_unknown(&self) -> bool {
        self.refusals.or(self.prompt_answers()).is_none()
    }

    /// How long an answer usually takes, if one has come.
    pub(super) fn usual_answer(&self) -> Option<Duration> {
        self.answers.map(RoundTrip::at_most)
    }

    /// What has not been refused for this long has been admitted.
    pub(super) fn refusal_time(&self) -> Duration {
        self.refusal_time
    }

    /// Whether refusals have been seen, and do not take longer than that.
    pub(super) fn is_told_by_refusals(&self) -> bool {
        let takes = self.refusals.map(RoundTrip::at_most);
        takes.is_some_and(|takes| takes <= self.refusal_time)
    }

    fn measure(&mut self) {
        let measured = [self.refusals, self.prompt_answers()].into_iter().flatten();
        let least = measured.map(RoundTrip::at_most).min();
        self.refusal_time = least.map_or(UNMEASURED, |least| least.max(SHORTEST));
    }

    /// How long answers take, if they can be taken for round trips.
    fn prompt_answers(&self) -> Option<RoundTrip> {
        self.answers.filter(|answers| answers.mean() < LONGEST)
    }

    /// By how much the network usually blurs the moment of an arrival.
    pub(super) fn jitter(&self) -> Duration {
        let measured = self.refusals.or(self.answers);
        measured.map_or(Duration::ZERO, |measured| {
            measured.deviation().min(UNMEASURED)
        })
    }
}

/// A smoothed round trip and its mean deviation, in nanoseconds: it is measured by each answer.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    mean: u64,
    deviation: u64,
}

impl RoundTrip {
    fn with(known: Option<Self>, took: Duration) -> Self {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let Some(known) = known.filter(|known| took >= known.mean / 2) else {
            return Self {
                mean: took,
                deviation: took / 4,
            };
        };
        let took = took.min(known.most());
        Self {
            mean: known.mean.saturating_mul(7).saturating_add(took) / 8,
            deviation: known
                .deviation
                .saturating_mul(3)
                .saturating_add(known.mean.abs_diff(took))
                / 4,
        }
    }

    /// Whether one that took so long was lost on the way: seconds where the others take milliseconds.
    /// Those that take no longer than a usual round trip are none of these, though the first had come
    /// from a cache.
    fn is_late(self, took: Duration) -> bool {
        took > Duration::from_nanos(self.most()).max(UNMEASURED)
    }

    fn most(self) -> u64 {
        let most = self.mean.saturating_mul(2);
        let most = most.saturating_add(self.deviation.saturating_mul(8));
        // One that took no time at all, as from a cache, would bound all others for ever.
        most.max(SHORTEST.as_nanos() as u64)
    }

    fn mean(self) -> Duration {
        Duration::from_nanos(self.mean)
    }

    fn deviation(self) -> Duration {
        Duration::from_nanos(self.deviation)
    }

    fn at_most(self) -> Duration {
        let most = self.deviation.saturating_mul(3);
        Duration::from_nanos(self.mean.saturating_add(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_hundred_milliseconds_stand_for_what_nobody_has_measured() {
        let mut tempo = Tempo::default();
        assert!(tempo.is_unknown());
        assert_eq!(tempo.refusal_time(), ms(100));
        tempo.served(ms(20));
        assert_eq!(
            tempo.refusal_time(),
            ms(35),
            "the first, and thrice the quarter of it that its deviation begins with"
        );
        assert!(!tempo.is_unknown());
    }

    #[test]
    fn refusals_tell_better_than_answers_how_long_refusals_take() {
        let mut tempo = Tempo::default();
        tempo.served(ms(8_000));
        for _ in 0..100 {
            tempo.refused_after(ms(40));
        }
        assert_eq!(tempo.refusal_time(), ms(40));
        assert_eq!(tempo.usual_answer(), Some(ms(14_000)));
    }

    #[test]
    fn steady_round_trips_leave_no_deviation_and_spread_ones_do() {
        let [mut steady, mut spread] = [Tempo::default(), Tempo::default()];
        for i in 0..1_000_u64 {
            steady.refused_after(ms(50));
            spread.refused_after(ms(40 + i % 3 * 10));
        }
        assert_eq!(steady.jitter(), Duration::ZERO);
        assert!((ms(5)..ms(12)).contains(&spread.jitter()), "{spread:?}");
        let most = spread.refusal_time();
        assert!((ms(60)..ms(100)).contains(&most), "{most:?}");
    }

    #[test]
    fn one_that_was_lost_on_the_way_is_not_the_measure() {
        let mut tempo = Tempo::default();
        for i in 0..100_u64 {
            tempo.refused_after(ms(50 + i % 3));
        }
        let usual = tempo.refusal_time();
        tempo.refused_after(ms(60_000));
        assert!(tempo.refusal_time() < 2 * usual, "{tempo:?}");
        tempo.refused_after(ms(10));
        assert!(
            tempo.refusal_time() < ms(20),
            "nor are all before one that is so much faster"
        );
    }

    #[test]
    fn the_last_ones_of_a_burst_are_not_the_measure() {
        let [mut at_once, mut later] = [Tempo::default(), Tempo::default()];
        let sent_at = Instant::now();
        for i in 0..100 {
            at_once.refused(sent_at + ms(50 + i % 3), sent_at);
            later.refused(sent_at + ms(50 + i % 3), sent_at);
        }
        let usual = at_once.refusal_time();
        for i in 1..100 {
            let now = sent_at + ms(5_000 + i);
            at_once.refused(now, sent_at);
            later.refused(now, sent_at + ms(i));
        }
        assert_eq!(at_once.refusal_time(), usual);
        assert!(later.refusal_time() > ms(2_000), "{later:?}");
        at_once.refused(sent_at + ms(60), sent_at);
        assert!(at_once.refusal_time() > usual, "but near ones are");
    }

    #[test]
    fn a_first_refusal_that_took_no_time_makes_no_others_of_its_burst_late() {
        let mut tempo = Tempo::default();
        let sent_at = Instant::now();
        tempo.refused(sent_at, sent_at);
        for _ in 1..100 {
            tempo.refused(sent_at + ms(90), sent_at);
        }
        assert!(tempo.refusal_time() > ms(80), "{tempo:?}");
    }

    #[test]
    fn a_network_that_becomes_slower_is_noticed() {
        let mut tempo = Tempo::default();
        for i in 0..200_u64 {
            let base = if i < 100 { 50 } else { 500 };
            tempo.refused_after(ms(base + i % 3));
        }
        assert!(tempo.refusal_time() >= ms(500), "{tempo:?}");
    }

    #[test]
    fn answers_that_take_seconds_tell_nothing_of_round_trips() {
        let mut tempo = Tempo::default();
        tempo.served(ms(1_000));
        assert!(tempo.is_unknown());
        assert_eq!(tempo.refusal_time(), ms(100));
        assert_eq!(tempo.usual_answer(), Some(ms(1_750)));
        tempo.refused_after(ms(40));
        assert!(!tempo.is_unknown());
    }

    #[test]
    fn what_took_no_time_is_not_the_measure() {
        let mut tempo = Tempo::default();
        for took in [ms(0); 1].into_iter().chain([ms(500); 50]) {
            tempo.refused_after(took);
            tempo.served(took);
        }
        assert!(tempo.refusal_time() > ms(450), "{tempo:?}");
        assert!(tempo.usual_answer() > Some(ms(450)), "{tempo:?}");
    }

    #[test]
    fn never_overflows() {
        let mut tempo = Tempo::default();
        for _ in 0..10 {
            tempo.served(super::super::CEILING);
            tempo.refused_after(Duration::ZERO);
        }
        assert_eq!(tempo.refusal_time(), SHORTEST);
    }
}
