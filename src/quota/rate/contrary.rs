//! Samples in a row that say that the rate is another one.
//!
//! A rate that has changed shows in every sample from then on; one odd sample, as that of a single
//! request which another process has left over, says little. So those that are off in the same
//! direction are put together, and taken for the rate when they are of a few admissions; until then
//! they only count towards the mean.

use super::{
    cycle::{BLUR, CHANGE, Sample},
    pace::FEW,
};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contrary {
    is_slower: bool,
    admitted: f64,
    nanoseconds: f64,
}

/// What a sample says of the rate that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is about that.
    Same,
    /// It may be another one.
    Doubtful,
    /// It is another one: so many nanoseconds from one request to the next, as the mean of so many
    /// admissions.
    Changed { interval: f64, admitted: f64 },
}

impl Contrary {
    /// A sample, where the rate was taken to be one request in `known` nanoseconds.
    pub(super) fn hear(&mut self, sample: &Sample, known: f64) -> Verdict {
        let Sample {
            interval, admitted, ..
        } = *sample;
        let expected = interval * admitted / known;
        let off = (admitted - expected).abs();
        if off <= BLUR || off <= CHANGE * expected {
            *self = Self::default();
            return Verdict::Same;
        }
        let is_slower = interval > known;
        if is_slower != self.is_slower {
            *self = Self::default();
        }
        self.is_slower = is_slower;
        self.admitted += admitted;
        self.nanoseconds += interval * admitted;
        if self.admitted < FEW {
            return Verdict::Doubtful;
        }
        let Self {
            admitted,
            nanoseconds,
            ..
        } = std::mem::take(self);
        Verdict::Changed {
            interval: nanoseconds / admitted,
            admitted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(interval: f64, admitted: f64) -> Sample {
        Sample {
            interval,
            admitted,
            is_least: false,
        }
    }

    #[test]
    fn a_few_admissions_are_believed_and_one_is_not() {
        let mut contrary = Contrary::default();
        for _ in 1..8 {
            assert_eq!(contrary.hear(&sample(600.0, 1.0), 1.0), Verdict::Doubtful);
        }
        let changed = Verdict::Changed {
            interval: 600.0,
            admitted: 8.0,
        };
        assert_eq!(contrary.hear(&sample(600.0, 1.0), 1.0), changed);
    }

    #[test]
    fn what_contradicts_itself_is_not_added_up() {
        let mut contrary = Contrary::default();
        assert_eq!(contrary.hear(&sample(600.0, 1.0), 1.0), Verdict::Doubtful);
        let faster = Verdict::Changed {
            interval: 0.5,
            admitted: 10.0,
        };
        assert_eq!(contrary.hear(&sample(0.5, 10.0), 1.0), faster);
        assert_eq!(contrary.hear(&sample(600.0, 4.0), 1.0), Verdict::Doubtful);
        assert_eq!(contrary.hear(&sample(1.1, 10.0), 1.0), Verdict::Same);
        assert_eq!(contrary.hear(&sample(600.0, 4.0), 1.0), Verdict::Doubtful);
    }
}
