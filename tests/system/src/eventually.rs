//! The one place that waits for a real process: bounded, and with a reason when it fails.

use std::time::{Duration, Instant};

/// How long a real process may take: generous, because the machine may be starved.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a wait is longer than its time at most.
const LEAST: Duration = Duration::from_micros(100);

/// Asks again until there is an answer; panics after [`PATIENCE`].
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    let answer = within(PATIENCE, ask);
    answer.unwrap_or_else(|| panic!("did not happen within {PATIENCE:?}: {what}"))
}

/// Asks again until there is an answer, for so long at most.
pub fn within<T>(limit: Duration, ask: impl FnMut() -> Option<T>) -> Option<T> {
    every(LOOK, limit, ask)
}

/// As [`within`], with so long between two looks: where asking costs something, or many wait.
pub fn every<T>(look: Duration, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        let elapsed = start.elapsed();
        if elapsed > limit {
            return None;
        }
        // One look at its very end.
        std::thread::sleep(look.min(limit - elapsed + LEAST));
    }
}
