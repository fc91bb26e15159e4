//! A node's own clocks: one that never goes back, runs at its own pace and may leap ahead, and the one
//! on the wall, which may be set to anything.

use std::time::Duration;

/// The second that every run starts in on an honest wall clock.
const START: i64 = 1_800_000_000;
const MILLION: i128 = 1_000_000;

#[derive(Clone, Debug)]
pub struct Clock {
    /// At this true time …
    truly: Duration,
    /// … it showed this.
    shown: Duration,
    /// By how many millionths it runs too fast.
    fast: i64,
    wall: i64,
}

impl Clock {
    pub fn new(now: Duration, shown: Duration, fast: i64, wall: i64) -> Self {
        Self { truly: now, shown, fast, wall }
    }

    /// What it shows at a true time.
    pub fn at(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.truly).as_nanos() as i128;
        self.shown + nanos(passed * (MILLION + i128::from(self.fast)) / MILLION)
    }

    /// The true time at which it will show this at the earliest.
    pub fn when(&self, shown: Duration) -> Duration {
        let ahead = shown.saturating_sub(self.shown).as_nanos() as i128;
        self.truly + nanos(ahead * MILLION / (MILLION + i128::from(self.fast)) + 1)
    }

    /// Seconds since the Unix epoch, as far as it knows.
    pub fn wall(&self, now: Duration) -> i64 {
        START + self.wall + self.at(now).as_secs() as i64
    }

    /// It has stood still since a moment, and goes on now.
    pub fn stood_still(&mut self, since: Duration, now: Duration) {
        (self.shown, self.truly) = (self.at(since), now);
    }

    pub fn leap(&mut self, now: Duration, by: Duration) {
        (self.shown, self.truly) = (self.at(now) + by, now);
    }

    pub fn set_wall(&mut self, by: i64) {
        self.wall += by;
    }
}

fn nanos(number: i128) -> Duration {
    Duration::from_nanos(number.clamp(0, i128::from(u64::MAX)) as u64)
}
