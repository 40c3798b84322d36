//! One dimension of a partition's quota, in the form in which the server last announced it.

use super::{Cost, Hold, Unit, bucket::Bucket, window::Window};
use crate::{
    signal::RateLimit,
    snapshot::{DimensionSnapshot, Source},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(super) struct Dimension {
    form: Form,
    /// When it was last announced.
    announced_at: Instant,
    /// How often the forms changed that it had before.
    former_changes: u32,
}

#[derive(Clone, Debug)]
enum Form {
    /// Refills steadily.
    Bucket(Bucket),
    /// Is renewed at once.
    Window(Window),
}

/// What is known of an answer that has announced limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) now: Instant,
    /// When the answered request was sent.
    pub(super) sent_at: Instant,
    /// What it cost.
    pub(super) cost: Cost,
    /// What the server may not have counted then, of all that is under way.
    pub(super) uncounted: Cost,
    /// Whether the request was refused, so that nothing was used.
    pub(super) is_refused: bool,
    /// How long a request is on its way at most, by all round trips until now.
    pub(super) on_the_way: Duration,
}

/// What is there of a dimension at an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// When all of it is there, as far as is known.
    pub(super) full_at: Option<Instant>,
    /// The time in which one unit flows in, if it does so steadily.
    pub(super) interval: Option<Duration>,
}

impl Dimension {
    /// `None` when the announcement does not say enough.
    pub(super) fn new(answer: &Answer, announced: &RateLimit) -> Option<Self> {
        Form::new(answer, announced).map(|form| Self {
            form,
            announced_at: answer.now,
            former_changes: 0,
        })
    }

    pub(super) fn is(&self, name: &str) -> bool {
        *self.name() == *name
    }

    pub(super) fn name(&self) -> Arc<str> {
        match &self.form {
            Form::Bucket(bucket) => bucket.dimension(),
            Form::Window(window) => window.dimension(),
        }
    }

    /// How often what it is charged by was found to be another.
    pub(super) fn changes(&self) -> u32 {
        self.former_changes.wrapping_add(self.form.changes())
    }

    pub(super) fn unit(&self) -> Unit {
        match &self.form {
            Form::Bucket(bucket) => bucket.unit(),
            Form::Window(window) => window.unit(),
        }
    }

    /// Whether all of it is there, as of one that is not known yet.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        match &self.form {
            Form::Bucket(bucket) => bucket.is_full(now),
            Form::Window(window) => window.is_over(now),
        }
    }

    /// Whether the answer to what was sent then would have spoken of it, if any answer but a refusal
    /// did.
    pub(super) fn is_unspoken(&self, sent_at: Instant) -> bool {
        match &self.form {
            Form::Bucket(_) => false,
            Form::Window(window) => window.is_unspoken(sent_at),
        }
    }

    /// What is to be seen of it.
    pub(super) fn snapshot(&self, now: Instant) -> DimensionSnapshot {
        let standing = match &self.form {
            Form::Bucket(bucket) => bucket.standing(now),
            Form::Window(window) => window.standing(now),
        };
        let until = |at: Instant| at.saturating_duration_since(now);
        DimensionSnapshot {
            source: Source::Announced,
            hold: Hold::Dimension(self.name()),
            limit: standing.limit,
            remaining: standing.remaining,
            reset: standing.full_at.map(until),
            interval: standing.interval,
            age: Some(now.saturating_duration_since(self.announced_at)),
        }
    }

    /// When there is room for `cost`, after `ahead`.
    pub(super) fn opens_at(
        &self,
        now: Instant,
        ahead: Cost,
        cost: Cost,
        cushion: Duration,
    ) -> Instant {
        match &self.form {
            Form::Bucket(bucket) => bucket.opens_at(now, ahead, cost, cushion),
            Form::Window(window) => window.opens_at(now, ahead, cost),
        }
    }

    pub(super) fn reserve(&mut self, now: Instant, cost: Cost) {
        match &mut self.form {
            Form::Bucket(bucket) => bucket.reserve(now, cost),
            Form::Window(window) => window.reserve(now, cost),
        }
    }

    pub(super) fn give_back(&mut self, cost: Cost) {
        match &mut self.form {
            Form::Bucket(bucket) => bucket.give_back(cost),
            Form::Window(window) => window.give_back(cost),
        }
    }

    /// An answer has announced it again, in this form or in the other, which then takes its place.
    pub(super) fn announced(&mut self, answer: &Answer, announced: &RateLimit) {
        self.announced_at = answer.now;
        match &mut self.form {
            Form::Bucket(bucket) if announced.refills_continuously() => {
                bucket.announced(answer.now, answer.sent_at, answer.uncounted, announced);
            }
            Form::Window(window) if !announced.refills_continuously() => {
                window.announced(answer, announced);
            }
            form => {
                if let Some(new) = Form::new(answer, announced) {
                    self.former_changes = self.former_changes.wrapping_add(form.changes());
                    *form = new;
                }
            }
        }
    }
}

impl Form {
    fn new(answer: &Answer, announced: &RateLimit) -> Option<Self> {
        if announced.refills_continuously() {
            Bucket::new(answer.now, answer.sent_at, answer.uncounted, announced).map(Self::Bucket)
        } else {
            Window::new(answer, announced).map(Self::Window)
        }
    }

    fn changes(&self) -> u32 {
        match self {
            Self::Bucket(bucket) => bucket.changes(),
            Self::Window(window) => window.changes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use std::time::SystemTime;

    const ONE: Cost = Cost {
        requests: 1,
        tokens: 10,
    };

    /// Of 100 so many remain until a reset: a bucket's if it has a unit, else a window's.
    fn announcement(dimension: &str, remaining: u64, reset: &str) -> RateLimit {
        let mut headers = HeaderMap::new();
        let remaining = remaining.to_string();
        for (field, value) in [
            ("limit", "100"),
            ("remaining", &remaining),
            ("reset", reset),
        ] {
            let name = HeaderName::try_from(format!("x-ratelimit-{field}-{dimension}")).unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let signal = signal::read(StatusCode::OK, &headers, None, SystemTime::UNIX_EPOCH);
        signal.limits()[0].clone()
    }

    fn answer(now: Instant) -> Answer {
        Answer {
            now,
            sent_at: now,
            cost: ONE,
            uncounted: Cost::NONE,
            is_refused: false,
            on_the_way: Duration::from_millis(100),
        }
    }

    #[test]
    fn either_form_holds_back_by_what_is_left_and_lets_go_of_what_is_given_back() {
        let now = Instant::now();
        for (name, unit, reset) in [
            ("requests", Unit::Requests, "100s"),
            ("requests", Unit::Requests, "100"),
            ("tokens", Unit::Tokens, "100s"),
            ("tokens", Unit::Tokens, "100"),
        ] {
            let left = ONE.count(unit);
            let announced = announcement(name, left, reset);
            let mut dimension = Dimension::new(&answer(now), &announced).unwrap();
            assert!(dimension.is(name) && !dimension.is("other") && *dimension.name() == *name);
            assert_eq!(dimension.unit(), unit);
            let later = now + Duration::from_millis(1);
            let waits = |dimension: &Dimension| {
                let opens_at = dimension.opens_at(later, Cost::NONE, ONE, Duration::ZERO);
                // What is rounded off is less.
                opens_at > later + Duration::from_micros(1)
            };
            dimension.announced(&answer(later), &announcement(name, left, reset));
            assert!(!waits(&dimension), "{name} {reset}");
            dimension.reserve(later, ONE);
            assert!(waits(&dimension), "{name} {reset}");
            dimension.give_back(ONE);
            assert!(!waits(&dimension), "{name} {reset}");
            let used_up = announcement(name, 0, &format!("1{reset}"));
            dimension.announced(&answer(later), &used_up);
            assert!(waits(&dimension), "{name} {reset}");
            let until = now + Duration::from_secs(1_100);
            assert!(!dimension.is_full(until) && dimension.is_full(until + Duration::from_secs(2)));
            let seen = dimension.snapshot(later);
            assert_eq!(
                (seen.name(), seen.limit(), seen.remaining()),
                (name, 100, 0)
            );
            assert_eq!(seen.source(), Source::Announced);
            assert_eq!(seen.age(), Some(Duration::ZERO));
            assert_eq!(seen.interval().is_some(), reset.ends_with('s'));
            let reset = seen.reset().unwrap().as_secs();
            assert!((1_099..=1_101).contains(&reset), "{reset}");
        }
    }

    #[test]
    fn the_other_form_takes_the_place_of_the_one_before() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let [bucket, window] = ["50s", "50"].map(|reset| announcement("requests", 50, reset));
        let [sooner, window_sooner] =
            ["25s", "25"].map(|reset| announcement("requests", 50, reset));
        for [first, again, second] in [
            [&bucket, &sooner, &window],
            [&window, &window_sooner, &bucket],
        ] {
            let mut dimension = Dimension::new(&answer(now), first).unwrap();
            for (announced, changes) in
                [(first, 1), (again, 2), (second, 3), (second, 3), (first, 4)]
            {
                dimension.announced(&answer(later), announced);
                assert_eq!(dimension.changes(), changes);
                let is_steady = dimension.snapshot(later).interval().is_some();
                assert_eq!(is_steady, announced.refills_continuously());
            }
        }
    }

    #[test]
    fn a_window_that_no_answer_speaks_of_is_unspoken_and_a_bucket_never() {
        let now = Instant::now();
        let over_at = now + Duration::from_secs(60);
        for (reset, is_unspoken) in [("50s", false), ("50", true)] {
            let announced = announcement("requests", 50, reset);
            let mut dimension = Dimension::new(&answer(now), &announced).unwrap();
            assert!(!dimension.is_unspoken(over_at));
            dimension.reserve(over_at, ONE);
            assert_eq!(dimension.is_unspoken(over_at), is_unspoken);
        }
    }
}
