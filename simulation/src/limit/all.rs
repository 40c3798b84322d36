//! Several limits at once.

use tokio::time::Instant;

use super::{Limit, Opening, Standing};

/// Admits what all of its limits admit; what one refuses is charged by none.
#[derive(Debug)]
pub struct All(Vec<Box<dyn Limit>>);

impl All {
    /// All of these.
    pub fn new(limits: Vec<Box<dyn Limit>>) -> Self {
        Self(limits)
    }
}

impl Limit for All {
    fn admit(&mut self, tokens: u32, now: Instant) -> bool {
        let admits = self.opening(tokens, now).is_now(now);
        if admits {
            for limit in &mut self.0 {
                limit.admit(tokens, now);
            }
        }
        admits
    }

    fn leave(&mut self) {
        for limit in &mut self.0 {
            limit.leave();
        }
    }

    fn opening(&self, tokens: u32, now: Instant) -> Opening {
        let openings = self.0.iter().map(|limit| limit.opening(tokens, now));
        openings.fold(Opening::At(now), Opening::and)
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        self.0
            .iter()
            .flat_map(|limit| limit.standings(now))
            .collect()
    }
}
