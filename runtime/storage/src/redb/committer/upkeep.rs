//! What the committer does beside its groups: room for a full disk, the second copy of the rows, and damaged
//! rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Committer, Request, all, full};
use crate::StorageError;
use crate::redb::group::Job;
use crate::redb::index::RowsState;
use crate::redb::log::Position;
use crate::redb::shared::{Rows, closed};
use crate::redb::snapshot;
use crate::redb::snapshots::Ended;

/// How long a thread waits before it tries again to tell something to a committer whose queue is full.
const TELL_PAUSE: Duration = Duration::from_millis(10);

impl Committer<'_> {
    /// Sets room aside if it is not, and says so to those who would fill it.
    pub(super) fn set_aside(&mut self) {
        let held = self.reserve.hold(&*self.shared.files, self.log.octets());
        self.shared.full.store(!held, Ordering::Relaxed);
    }

    /// On a full disk, refuses what would not make room.
    pub(super) fn admit(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        let log = self.log.octets();
        let (admitted, refused): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| self.reserve.admits(&job.work, log));
        if !refused.is_empty() {
            let members = all(&refused, &full());
            self.answer(refused, members);
        }
        admitted
    }

    /// Lets the reserve go, and the second copy of the rows with the log that is kept for it: on a full
    /// disk what is there has to make room for itself. False: all that has been done before.
    pub(super) fn make_room(&mut self) -> bool {
        let let_go = self.reserve.let_go(&*self.shared.files, self.log.octets());
        let has_copy = !self.snapshots.has_none();
        self.shared.full.store(true, Ordering::Relaxed);
        if has_copy {
            self.give_up_snapshot();
            // The next checkpoint gives back what was kept for it.
            self.unlinking = true;
        }
        let_go || has_copy
    }

    /// Whether the rows have failed because the disk had no room for them.
    pub(super) fn met_full(&self) -> bool {
        matches!(&*self.shared.rows(), Rows::Open(index) if index.met_full())
    }

    pub(super) fn give_up_snapshot(&mut self) {
        self.snapshots.stop();
        self.snapshots.lost();
        if let Err(error) = snapshot::remove(&*self.shared.files) {
            tracing::error!(%error, "the snapshot cannot be removed");
        }
        // So that it does not come back without the log that belongs to it. In vain is no loss: then it is
        // found out when it is needed.
        let _ = self.shared.files.sync_names();
    }

    /// Whether a checkpoint would give room back that is needed.
    pub(super) fn wants_room(&self) -> bool {
        self.reserve.is_gone() && self.unlinking && !self.log.is_paused()
    }

    /// The rows as they are at the end of the log, durable.
    pub(super) fn state(&mut self) -> Result<(RowsState, Position), StorageError> {
        if !self.make_durable() {
            let _ = self.revive();
            return Err(StorageError::Unavailable("the rows cannot be made durable".to_owned()));
        }
        match &*self.shared.rows() {
            Rows::Open(index) => Ok((index.state()?, self.log.end())),
            Rows::Failed(why) => Err(StorageError::Unavailable(why.clone())),
            Rows::Closed => Err(closed()),
        }
    }

    /// Takes a snapshot now, for those who want one. They hear of it when it has ended.
    pub(super) fn renew(&mut self, mut renewing: Vec<oneshot::Sender<bool>>) {
        if renewing.is_empty() {
            return;
        }
        self.snapshots.stop();
        self.snapshots.hurry();
        self.checkpoint();
        if self.snapshots.is_running() {
            self.renewing.append(&mut renewing);
        }
        for renewed in renewing {
            let _ = renewed.send(false);
        }
    }

    pub(super) fn is_snapshot_due(&self) -> bool {
        let segments = &self.shared.segments;
        self.snapshots.is_due(self.log.octets(), (segments.in_log(), segments.full()))
    }

    /// Whether there is no second copy of the rows although there could be.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.snapshots.has_none()
            && !self.reserve.is_gone()
            && self.log.end().groups > 0
            && self.is_snapshot_due()
    }

    /// Begins a snapshot if it is time. The rows are durable up to the end of the log.
    pub(super) fn take_snapshot(&mut self) {
        let (at, log) = (self.log.end(), self.log.octets());
        if !self.is_snapshot_due() || at.groups == 0 || self.reserve.is_gone() {
            return;
        }
        let state = match &*self.shared.rows() {
            Rows::Open(index) if !index.has_failed() => index.state(),
            Rows::Open(_) | Rows::Failed(_) | Rows::Closed => return,
        };
        let tell = self.tell.clone();
        match state {
            Ok(rows) => {
                self.snapshots.start(self.shared, rows, (at, log), move |ended| told(&tell, ended));
            }
            Err(error) => tracing::warn!(%error, "a snapshot of the rows cannot be begun"),
        }
    }

    pub(super) fn snapshot_ended(&mut self, ended: &Ended) {
        let (current, upto) = self.snapshots.ended(ended);
        if !current {
            return;
        }
        for renewed in self.renewing.drain(..) {
            let _ = renewed.send(upto.is_some());
        }
        match (upto, &ended.outcome) {
            (Some(at), _) => self.release(at.segment),
            (None, Err(snapshot::Failure::Damaged(_))) => drop(self.heal()),
            (None, Err(snapshot::Failure::Full(_))) => {
                // The old one and the log since then would only grow.
                self.give_up_snapshot();
                self.checkpoint();
            }
            (None, _) => {}
        }
    }

    /// The log before this segment of it is not needed any more.
    pub(super) fn release(&self, segment: u64) {
        let released = self.shared.segments.release_before(segment);
        if !released.is_empty() {
            self.bodies.thinned(released);
        }
    }

    /// Looks at all rows; makes them anew if one is damaged. True: that has been done.
    pub(super) fn heal(&mut self) -> bool {
        if self.heal_not_before.is_some_and(|then| Instant::now() < then) {
            return false;
        }
        let verified = match &*self.shared.rows() {
            Rows::Open(index) if !index.has_failed() => {
                index.state().and_then(|rows| rows.verify(&AtomicBool::new(false)))
            }
            Rows::Open(_) | Rows::Failed(_) | Rows::Closed => return false,
        };
        match verified {
            Err(StorageError::Damaged(why)) => return self.make_anew(&why),
            Err(error) => tracing::warn!(%error, "the rows cannot be looked at"),
            Ok(_) => {}
        }
        self.heal_not_before = Some(Instant::now() + self.heal_pause);
        false
    }

    pub(super) fn rebuilds(&self) -> u64 {
        self.shared.counters.rebuilds()
    }

    /// Makes damaged rows anew. False: that does not go, or did not a short while ago.
    pub(super) fn make_anew(&mut self, why: &str) -> bool {
        if self.heal_not_before.is_some_and(|then| Instant::now() < then) {
            return false;
        }
        tracing::error!(error = why, "rows are damaged: they are made anew");
        self.snapshots.stop();
        match self.shared.rebuild(self.log.end()) {
            Ok(()) => {
                self.log.checked();
                true
            }
            Err(error) => {
                tracing::error!(%error, "damaged rows cannot be made anew");
                self.heal_not_before = Some(Instant::now() + self.heal_pause);
                false
            }
        }
    }
}

/// Tells the committer what became of a snapshot. Not by waiting for room in its queue: it may be waiting for
/// this thread.
fn told(committer: &mpsc::WeakSender<Request>, ended: Ended) {
    let mut request = Request::Snapshot(ended);
    // Nobody is there any more when the engine has been closed meanwhile.
    while let Some(committer) = committer.upgrade() {
        request = match committer.try_send(request) {
            Err(mpsc::error::TrySendError::Full(request)) => request,
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
        };
        if let Request::Snapshot(ended) = &request
            && ended.stopped.load(Ordering::Relaxed)
        {
            return;
        }
        drop(committer);
        std::thread::sleep(TELL_PAUSE);
    }
}
