//! About how long those take that take long, of some kind.

use std::time::Duration;

/// What has been out so many times as long as the long ones take is not going to end.
const FAR: u32 = 4;

/// Whatever has begun counts for this long in any case. A model writes for longer, but where programs
/// keep what they do not read, it is also how long each of them may hold back the next.
pub(super) const LEAST: Duration = Duration::from_secs(10);

/// The older a long one, the less it tells: by this share with each that is shorter.
const DECAY: u32 = 8;

/// About how long those take that take long; it follows a longer one at once, and shorter ones slowly.
#[derive(Debug, Default)]
pub(super) struct Longest {
    longest: Option<Duration>,
}

impl Longest {
    /// One has taken so long.
    #[inline]
    pub(super) fn took(&mut self, took: Duration) {
        let longest = self.longest.unwrap_or_default();
        // One that was kept in a drawer for hours does not tell how long all take.
        let took = took.min(longest.max(LEAST).saturating_mul(2));
        self.longest = Some(took.max(longest.saturating_sub(longest.saturating_sub(took) / DECAY)));
    }

    /// What they take, if one has ended.
    pub(super) fn known(&self) -> Option<Duration> {
        self.longest
    }

    /// Far longer than they take, if one has ended.
    #[inline]
    pub(super) fn far(&self) -> Option<Duration> {
        let far = |longest: Duration| longest.saturating_mul(FAR).max(LEAST);
        self.longest.map(far)
    }
}
