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
/// Most segments that are kept for the log beyond those that are full. Each restart begins one, however
/// short it stays.
pub const MOST_SEGMENTS: u64 = 12;

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
    /// Attempts so far.
    number: u64,
    /// Somebody wants one now.
    hurried: bool,
}

struct Running {
    number: u64,
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    begun_at: u64,
}

/// One attempt, as the thread that makes it tells of it.
pub struct Ended {
    /// Which.
    number: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Nobody waits for it any more.
    pub stopped: Arc<AtomicBool>,
}

impl Snapshots {
    /// `taken_at` is how much had been appended to the log when the last one, of so many octets, was
    /// begun. One that fails is tried again after `pause`.
    pub fn new(least: u64, pause: Duration, taken_at: Option<u64>, octets: u64) -> Self {
        Self {
            least,
            pause,
            not_before: None,
            taken_at,
            octets,
            running: None,
            number: 0,
            hurried: false,
        }
    }

    /// Whether it is time for the next one, after so many octets of log, which are in so many segments of
    /// which a full one has `full` octets.
    pub fn is_due(&self, log: u64, (segments, full): (usize, u64)) -> bool {
        let paused = self.not_before.is_some_and(|then| Instant::now() < then);
        let least = self.least.max(LOG_OF_SNAPSHOT * self.octets);
        let since = log.saturating_sub(self.taken_at.unwrap_or(0));
        let short = segments as u64 > MOST_SEGMENTS + since / full.max(1);
        let due = self.hurried || short || self.taken_at.is_none() || since >= least;
        due && !paused && self.running.is_none()
    }

    /// Begins one of the rows as they are at a place of the log, after so many octets of it. `tell` hears
    /// what became of it.
    pub fn start(
        &mut self,
        shared: &Shared,
        rows: RowsState,
        (at, log): (Position, u64),
        tell: impl FnOnce(Ended) + Send + 'static,
    ) {
        let stop = Arc::new(AtomicBool::new(false));
        self.number += 1;
        let number = self.number;
        let (files, directory) = (shared.files.clone(), shared.directory);
        let (counters, stopping) = (shared.counters.clone(), stop.clone());
        let work = move || {
            let outcome = rows.write_snapshot((&*files, directory), at, &counters, &stopping);
            // Before anybody hears of it: whoever closes the rows must find nobody reading them.
            drop(rows);
            tell(Ended { number, outcome, stopped: stopping });
        };
        match thread::Builder::new().name("storage-snapshot".to_owned()).spawn(work) {
            Ok(thread) => {
                self.running = Some(Running { number, thread, stop, begun_at: log });
                self.hurried = false;
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot of the rows cannot be begun");
                self.not_before = Some(Instant::now() + self.pause);
            }
        }
    }

    /// Notes what became of one; false: it is one that was stopped. Says up to where the log is not needed
    /// any more.
    pub fn ended(&mut self, ended: &Ended) -> (bool, Option<Position>) {
        let Some(running) = self.running.take_if(|running| running.number == ended.number) else {
            return (false, None);
        };
        // It has told already.
        let _ = running.thread.join();
        (true, self.note(running.begun_at, &ended.outcome))
    }

    fn note(&mut self, begun_at: u64, outcome: &Outcome) -> Option<Position> {
        match outcome {
            Ok(snapshot) => {
                (self.taken_at, self.octets) = (Some(begun_at), snapshot.octets);
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
        (self.hurried, self.not_before) = (true, None);
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
