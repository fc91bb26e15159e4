//! The one bounded wait of these tests.

use std::time::{Duration, Instant};

/// Longer than any recovery of a server takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "did not happen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
