//! How long until a higher rate is tried.
//!
//! That is counted in admissions, for what a higher rate is worth grows with them. A rate that is new
//! or has fallen is tried after a few, one that has just risen after very few; then ever more rarely,
//! as long as it is found to be what it was, and far more slowly so if it was higher once. Only who has
//! tried has found that. A refusal that no probe provoked, and that comes long before one would, says
//! that others use the quota; and as they come they go, so a higher rate is tried the sooner.

use super::nanoseconds;
use std::time::Duration;

/// Admissions from one probe to the next: while the rate is new or has fallen, when it has just
/// risen, and at most; and by what they grow, as long as the rate has not fallen and when it has.
const NEW: f64 = 12.0;
const RISEN: f64 = 3.0;
const MOST: f64 = 200.0;
const GROWTH: f64 = 1.25;
const FALLEN: f64 = 1.03;

#[derive(Debug)]
pub(super) struct Patience {
    admissions: f64,
    /// Whether the rate was higher before: it may be so again.
    has_fallen: bool,
}

impl Patience {
    /// That with a rate which so many admissions have told.
    pub(super) fn new(admitted: f64) -> Self {
        Self {
            admissions: NEW.min(admitted),
            has_fallen: false,
        }
    }

    /// The rate is another one, as so many admissions have told.
    pub(super) fn changed(&mut self, has_fallen: bool, admitted: f64) {
        self.has_fallen = has_fallen;
        let admissions = if has_fallen { NEW } else { RISEN };
        self.admissions = admissions.min(admitted);
    }

    /// A higher rate was tried, and the rate is what it was.
    pub(super) fn confirmed(&mut self) {
        if self.admissions < NEW {
            self.admissions = (self.admissions * 2.0).min(NEW);
        } else {
            let growth = if self.has_fallen { FALLEN } else { GROWTH };
            self.admissions = (self.admissions * growth).min(MOST);
        }
    }

    /// No higher one was tried, and yet one was refused after so many admissions.
    pub(super) fn disturbed(&mut self, admitted: f64) {
        if self.admissions < RISEN {
            self.admissions = (self.admissions * 2.0).min(RISEN);
        } else if admitted < self.admissions / 2.0 {
            self.admissions = (self.admissions / 2.0).max(RISEN);
        }
    }

    /// The rate may be another one by now.
    pub(super) fn doubt(&mut self) {
        self.admissions = self.admissions.min(NEW);
    }

    /// From the end of a pause to the first probe: as long as the admissions take that it is worth,
    /// and no sooner than refusals would be noticed. Where a refusal costs a whole `pause` of quota,
    /// so long that at most a tenth is lost, once the rate is known well.
    pub(super) fn first(
        &self,
        interval: f64,
        pause: Option<Duration>,
        refusal_time: Duration,
    ) -> Duration {
        let round_trips = if self.admissions > RISEN { 20 } else { 3 };
        let pauses = if self.admissions > NEW { 10 } else { 1 };
        nanoseconds(self.admissions * interval)
            .max(refusal_time.saturating_mul(round_trips))
            .max(pause.unwrap_or_default().saturating_mul(pauses))
    }

    /// From one rise of the pace to the next. A rate that has proved to be higher by more than it was
    /// likely to be wrong may be far higher.
    pub(super) fn next(&self, interval: f64, is_far_off: bool) -> Duration {
        let most = if is_far_off { RISEN } else { MOST };
        nanoseconds(self.admissions.min(most) * interval)
    }
}
