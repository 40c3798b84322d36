//! How unevenly requests arrive that are sent evenly.

use std::time::Duration;

/// What is allowed for until the first answer, and at the most: the latency of usual networks
/// spreads by 30 to 100 ms. What varies more is the work of the server, which has counted the
/// request before.
const LARGEST: Duration = Duration::from_millis(100);

/// What is allowed for at the least: a server's clock and ours tick in milliseconds at best.
const SMALLEST: Duration = Duration::from_millis(1);

/// How many of the last answers the means look back on: the answers to one burst come in the order
/// of their round trips, and a burst is what they are to tell of.
const MEMORY: u32 = 16;

/// The mean of the round trips, and their mean deviation from it: as RFC 6298, section 2 has it, but
/// of more of them.
#[derive(Debug, Default)]
pub(super) struct Spread {
    means: Option<Means>,
}

#[derive(Debug)]
struct Means {
    round_trip: Duration,
    deviation: Duration,
}

impl Spread {
    /// An answer came so long after its request was sent.
    pub(super) fn heard(&mut self, round_trip: Duration) {
        let Some(means) = &mut self.means else {
            self.means = Some(Means {
                round_trip,
                deviation: round_trip / 2,
            });
            return;
        };
        let deviation = round_trip.abs_diff(means.round_trip);
        means.deviation = moved(means.deviation, deviation);
        means.round_trip = moved(means.round_trip, round_trip);
    }

    /// By how much later than another a request may arrive that was sent at the same time.
    pub(super) fn cushion(&self) -> Duration {
        self.means.as_ref().map_or(LARGEST, |means| {
            means.deviation.saturating_mul(4).clamp(SMALLEST, LARGEST)
        })
    }
}

/// The mean, with one more in it.
fn moved(mean: Duration, sample: Duration) -> Duration {
    mean.saturating_sub(mean / MEMORY)
        .saturating_add(sample / MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(round_trips: impl IntoIterator<Item = u64>) -> Duration {
        let mut spread = Spread::default();
        round_trips
            .into_iter()
            .for_each(|ms| spread.heard(Duration::from_millis(ms)));
        spread.cushion()
    }

    #[test]
    fn is_cautious_until_answers_have_come() {
        assert_eq!(after([]), LARGEST);
        assert_eq!(after([80]), LARGEST);
        assert_eq!(after([20]), Duration::from_millis(40));
    }

    #[test]
    fn is_four_times_the_mean_deviation() {
        let cushion = after((0..1_000).map(|n| if n % 2 == 0 { 70 } else { 90 }));
        assert!(
            (Duration::from_millis(38)..Duration::from_millis(42)).contains(&cushion),
            "{cushion:?}"
        );
    }

    #[test]
    fn has_bounds_whatever_the_server_does() {
        assert_eq!(after([5; 1_000]), SMALLEST);
        assert_eq!(after((0..1_000).map(|n| n % 7 * 2_000)), LARGEST);
        assert_eq!(after([0, u64::MAX, 0, u64::MAX]), LARGEST);
    }
}
