//! The one place that waits for a real process: bounded, and with a reason when it fails.

use std::time::{Duration, Instant};

/// How long a real process may take: generous, because the machine may be starved.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until there is an answer; panics after [`PATIENCE`].
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "did not happen within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
