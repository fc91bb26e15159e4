//! Faults that a test puts into the memory engine.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Commit, Space, StorageError, Write};

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// No effect, and the caller is told so.
    Unavailable,
    /// The commit takes effect, but the caller is not told.
    UnknownWithEffect,
    /// The commit does not take effect, and the caller is not told.
    UnknownWithoutEffect,
    /// Nobody is told anything, and the commit takes effect when the test lets it
    /// ([`land`](super::MemoryEngine::land)).
    Late,
}

/// What the engine does wrong from now on. Every method acts at once.
pub struct Faults {
    plan: Mutex<Plan>,
    /// Before commits are looked at.
    commits: Gate,
    /// Between the effect of a commit and its answer.
    answers: Gate,
}

#[derive(Default)]
struct Plan {
    /// For the next commits, in order; `None`: that one goes well.
    commits: VecDeque<Option<Outage>>,
    /// How many reads fail from now on.
    reads: usize,
    /// Commits that have not landed.
    late: Vec<Commit>,
    /// How commits that take links of bodies away are refused.
    unlinks: Option<StorageError>,
    /// Spaces with an outcome that nobody has resolved yet.
    unresolved: HashSet<Space>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { plan: Mutex::default(), commits: Gate::new(), answers: Gate::new() }
    }
}

impl Faults {
    /// The next commits of which none is planned yet end like this, in order; `None` goes well.
    pub fn next_commits(&self, ends: impl IntoIterator<Item = Option<Outage>>) {
        self.lock().commits.extend(ends);
    }

    /// Commits that take links of bodies away are refused like this from now on.
    pub fn refuse_unlinks(&self, error: StorageError) {
        self.lock().unlinks = Some(error);
    }

    /// The next reads get `Unavailable`.
    pub fn next_reads(&self, how_many: usize) {
        self.lock().reads = how_many;
    }

    /// Lets commits wait from now on, until [`release`](Self::release).
    pub fn hold_commits(&self) {
        self.commits.hold();
    }

    /// Lets commits take effect and their answers wait, until [`release`](Self::release).
    pub fn hold_answers(&self) {
        self.answers.hold();
    }

    /// Lets whatever waits go on.
    pub fn release(&self) {
        self.commits.release();
        self.answers.release();
    }

    /// Comes back when at least this many commits are held.
    pub async fn held_commits(&self, at_least: usize) {
        self.commits.held(at_least).await;
    }

    /// Comes back when at least this many commits have had their effect and are not answered.
    pub async fn held_answers(&self, at_least: usize) {
        self.answers.held(at_least).await;
    }

    pub(super) async fn may_look(&self) {
        self.commits.pass().await;
    }

    pub(super) async fn may_answer(&self) {
        self.answers.pass().await;
    }

    /// What is planned for this commit. `Err`: it is not even looked at.
    pub(super) fn on_commit(&self, commit: &Commit) -> Result<Option<Outage>, StorageError> {
        let mut plan = self.lock();
        if plan.unresolved.contains(&commit.space) {
            return Err(unknown("an earlier commit to this space is unresolved"));
        }
        let unlinks = |write: &Write| matches!(write, Write::UnlinkBody { .. });
        if let Some(error) = plan.unlinks.clone().filter(|_| commit.writes.iter().any(unlinks)) {
            return Err(error);
        }
        match plan.commits.pop_front().flatten() {
            Some(Outage::Unavailable) => Err(StorageError::Unavailable("as planned".to_owned())),
            outage => Ok(outage),
        }
    }

    pub(super) fn on_read(&self) -> Result<(), StorageError> {
        let mut plan = self.lock();
        match plan.reads {
            0 => Ok(()),
            _ => {
                plan.reads -= 1;
                Err(StorageError::Unavailable("as planned".to_owned()))
            }
        }
    }

    pub(super) fn keep_late(&self, commit: Commit) {
        self.lock().late.push(commit);
    }

    pub(super) fn take_late(&self) -> Vec<Commit> {
        std::mem::take(&mut self.lock().late)
    }

    pub(super) fn unknown(&self, space: Space) -> StorageError {
        self.lock().unresolved.insert(space);
        unknown("as planned")
    }

    pub(super) fn resolved(&self, space: Space) {
        self.lock().unresolved.remove(&space);
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(why: &str) -> StorageError {
    StorageError::UnknownOutcome(why.to_owned())
}

/// A place where commits can be made to wait.
struct Gate {
    held: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    fn new() -> Self {
        Self { held: watch::Sender::new(false), waiting: watch::Sender::new(0) }
    }

    fn hold(&self) {
        self.held.send_replace(true);
    }

    fn release(&self) {
        self.held.send_replace(false);
    }

    async fn held(&self, at_least: usize) {
        // It fails only when the sender is gone, which `self` keeps.
        let _ = self.waiting.subscribe().wait_for(|held| *held >= at_least).await;
    }

    async fn pass(&self) {
        let mut held = self.held.subscribe();
        if !*held.borrow() {
            return;
        }
        let _waits = Waiting::new(&self.waiting);
        let _ = held.wait_for(|held| !held).await;
    }
}

/// Counts a held commit, also when its future is dropped meanwhile.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
