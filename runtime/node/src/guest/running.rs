//! The calls in one instance: since when, on whose account, and what of its CPU time is theirs.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::cpu::{Inside, Spent};
use super::host::OpenCall;
use super::quarantine::Suspect;

/// The calls in an instance, in the order in which they came.
#[derive(Default)]
pub(super) struct Running {
    calls: Mutex<Calls>,
    spent: Arc<Spent>,
}

#[derive(Default)]
struct Calls {
    running: BTreeMap<u64, RunningCall>,
    /// The one that the instance failed on, where that is known.
    failed: Option<Suspect>,
}

struct RunningCall {
    since: Instant,
    /// [`Spent::share`] at its beginning.
    share: Duration,
    suspect: Suspect,
    call: Weak<OpenCall>,
}

/// A call's place among the running ones.
pub(super) struct RunningEntry {
    running: Arc<Running>,
    number: u64,
}

/// The call that has been there longest.
pub(super) struct Oldest {
    /// For how long.
    pub(super) time: Duration,
    /// Whom to hold it against; `None`: it waits for the host.
    pub(super) suspect: Option<Suspect>,
}

impl Running {
    /// Of a fresh instance.
    pub(super) fn new(spent: Arc<Spent>) -> Self {
        Self { calls: Mutex::default(), spent }
    }

    /// A call comes in.
    pub(super) fn enter(
        self: &Arc<Self>,
        number: u64,
        suspect: Suspect,
        call: &Arc<OpenCall>,
    ) -> RunningEntry {
        let (since, share) = (Instant::now(), self.spent.share());
        let call = RunningCall { since, share, suspect, call: Arc::downgrade(call) };
        self.lock().running.insert(number, call);
        RunningEntry { running: self.clone(), number }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().running.len()
    }

    /// The oldest.
    pub(super) fn oldest(&self) -> Option<Oldest> {
        let calls = self.lock();
        let (_, oldest) = calls.running.first_key_value()?;
        let waits = oldest.call.upgrade().is_some_and(|call| call.waits_for_host());
        let suspect = (!waits).then_some(oldest.suspect);
        Some(Oldest { time: oldest.since.elapsed(), suspect })
    }

    /// What the meter has to know.
    pub(super) fn inside(&self) -> Inside {
        let calls = self.lock();
        let oldest = calls.running.first_key_value().map(|(_, oldest)| oldest.share);
        Inside { calls: calls.running.len(), oldest }
    }

    /// Whom the loss of the instance may be held against: the one that it failed on, where that is
    /// known, or all that are in it. One of each operation.
    pub(super) fn suspects(&self) -> Vec<Suspect> {
        let calls = self.lock();
        if let Some(failed) = calls.failed {
            return vec![failed];
        }
        let mut seen = HashSet::new();
        let all = calls.running.values().map(|call| call.suspect);
        all.filter(|suspect| seen.insert(suspect.operation)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningEntry {
    /// The instance fails on this very call.
    pub(super) fn fails(&self) {
        let mut calls = self.running.lock();
        let suspect = calls.running.get(&self.number).map(|call| call.suspect);
        calls.failed = calls.failed.or(suspect);
    }
}

impl Drop for RunningEntry {
    fn drop(&mut self) {
        self.running.lock().running.remove(&self.number);
        self.running.spent.end_run();
    }
}
