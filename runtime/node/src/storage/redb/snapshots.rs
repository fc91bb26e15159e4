//! When a snapshot of the rows is taken, and the thread that takes it while everything goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::index::RowsState;
use super::log::Position;
use super::shared::Shared;
use super::snapshot::{Failure, Snapshot};

/// Octets of commit log after which a snapshot is taken, unless the engine is opened with another number,
/// or the last snapshot was so large that it would be written too often.
pub const SNAPSHOT_OCTETS: u64 = 64 << 20;
/// How many times its own size the log has to grow before a snapshot is taken again: at most half an
/// octet is written to snapshots for each octet of log.
const LOG_OF_SNAPSHOT: u64 = 2;
/// Most segments that are kept for the log alone. Each restart begins one, however short it stays.
const MOST_SEGMENTS: usize = 12;

/// What became of an attempt.
pub type Outcome = Result<Snapshot, Failure>;

/// The snapshots of one engine.
pub struct Snapshots {
    least: u64,
    pause: Duration,
    not_before: Option<Instant>,
    /// Octets that had ever been appended to the log when the last one was begun; `None`: there is none,
    /// and the log does not reach back to the first group.
    taken_at: Option<u64>,
    /// Octets of the last one.
    octets: u64,
    running: Option<Running>,
}

struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    begun_at: u64,
}

impl Snapshots {
    /// `taken_at` is how much had been appended to the log when the last one, of so many octets, was
    /// begun. One that fails is tried again after `pause`.
    pub fn new(least: u64, pause: Duration, taken_at: Option<u64>, octets: u64) -> Self {
        Self { least, pause, not_before: None, taken_at, octets, running: None }
    }

    /// Whether it is time for the next one, after so many octets of log, which is in so many segments.
    pub fn is_due(&self, log: u64, segments: usize) -> bool {
        let paused = self.not_before.is_some_and(|then| Instant::now() < then);
        let least = self.least.max(LOG_OF_SNAPSHOT * self.octets);
        let due = segments > MOST_SEGMENTS
            || self.taken_at.is_none_or(|taken_at| log.saturating_sub(taken_at) >= least);
        due && !paused && self.running.is_none()
    }

    /// Begins one of the rows as they are at a place of the log, after so many octets of it. `tell` hears
    /// what became of it.
    pub fn start(
        &mut self,
        shared: &Shared,
        rows: RowsState,
        (at, log): (Position, u64),
        tell: impl FnOnce(Outcome) + Send + 'static,
    ) {
        let stop = Arc::new(AtomicBool::new(false));
        let (files, directory) = (shared.files.clone(), shared.directory);
        let (counters, stopping) = (shared.counters.clone(), stop.clone());
        let work = move || {
            let outcome = rows.write_snapshot((&*files, directory), at, &counters, &stopping);
            // Before anybody hears of it: whoever closes the rows must find nobody reading them.
            drop(rows);
            tell(outcome);
        };
        match thread::Builder::new().name("storage-snapshot".to_owned()).spawn(work) {
            Ok(thread) => self.running = Some(Running { thread, stop, begun_at: log }),
            Err(error) => {
                tracing::error!(%error, "a snapshot of the rows cannot be begun");
                self.not_before = Some(Instant::now() + self.pause);
            }
        }
    }

    /// Notes what became of the one that was begun last. Says up to where the log is not needed any more.
    pub fn ended(&mut self, outcome: &Outcome) -> Option<Position> {
        let running = self.running.take()?;
        let _ = running.thread.join();
        match outcome {
            Ok(snapshot) => {
                (self.taken_at, self.octets) = (Some(running.begun_at), snapshot.octets);
                self.not_before = None;
                tracing::debug!(octets = snapshot.octets, "the rows have a new snapshot");
                Some(snapshot.at)
            }
            Err(error) => {
                tracing::warn!(%error, "the rows have no new snapshot");
                self.not_before = Some(Instant::now() + self.pause);
                None
            }
        }
    }

    /// Whether there is none that the log reaches back to.
    pub fn has_none(&self) -> bool {
        self.taken_at.is_none()
    }

    /// The next one is due.
    pub fn hurry(&mut self) {
        (self.taken_at, self.not_before) = (None, None);
    }

    /// Whether one is being taken.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The last one is gone.
    pub fn lost(&mut self) {
        self.taken_at = None;
        self.not_before = Some(Instant::now() + self.pause);
    }

    /// Ends one that is being taken; comes back when nothing reads the rows for it any more.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.store(true, Ordering::Relaxed);
            let _ = running.thread.join();
        }
    }
}
