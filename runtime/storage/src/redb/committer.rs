//! The one thread that writes commits. It takes whatever waits for it, without a timer, makes it
//! durable as one group, and answers all of it: while one group waits for the medium, the next one
//! gathers by itself.

mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::directory::OpenError;
use super::group::{self, Done, Failure, Job, Members, Work};
use super::index::RowsState;
use super::log::{Log, Position};
use super::reserve::Reserve;
use super::shared::{Rows, Shared, closed};
use super::snapshots::{Ended, Snapshots};
use crate::body::writer;
use crate::{Space, StorageError};

/// Most jobs that wait; more than sessions that a node serves at a time can have in flight, since
/// each account has one.
pub const MAX_WAITING_JOBS: usize = 4096;
/// Most octets that wait: bounds memory when the medium is slower than the callers.
const MAX_WAITING_OCTETS: usize = 256 << 20;
/// Most jobs in one group: enough to share a sync, few enough that the first need not wait long.
const MAX_GROUP_JOBS: usize = 512;
/// Most octets in one group, unless one job alone has more: some 50 ms of a plain disk.
const MAX_GROUP_OCTETS: usize = 8 << 20;

/// What the committer is asked.
pub enum Request {
    /// To write.
    Job(Job),
    /// To forget new bodies that nothing handed over after this will link.
    GiveUp(Space, Vec<[u8; 16]>),
    /// To try whether a failed medium is back, or room on a full one, and to say when it has tried.
    Revive(oneshot::Sender<()>),
    /// To look for damaged rows and to make them anew; to say whether that has been done since so many
    /// times.
    Heal(u64, oneshot::Sender<bool>),
    /// To note what became of a snapshot.
    Snapshot(Ended),
    /// To take a snapshot now, and to say whether there is a new one.
    Renew(oneshot::Sender<bool>),
    /// To say how the rows are at the end of the log.
    State(oneshot::Sender<Result<(RowsState, Position), StorageError>>),
    /// To finish, and to say when it has.
    Close(oneshot::Sender<()>),
}

/// The way to the committer.
#[derive(Clone)]
pub struct Queue {
    requests: mpsc::Sender<Request>,
    octets: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue and the end that the committer reads.
    pub fn new() -> (Self, mpsc::Receiver<Request>, Arc<AtomicUsize>) {
        let (requests, receiver) = mpsc::channel(MAX_WAITING_JOBS);
        let octets = Arc::new(AtomicUsize::new(0));
        (Self { requests, octets: octets.clone() }, receiver, octets)
    }

    /// Hands work over and waits for its outcome. Dropping the future does not take it back.
    pub async fn perform(&self, work: Work, octets: usize) -> Result<Done, StorageError> {
        let waiting = self.octets.fetch_add(octets, Ordering::Relaxed);
        let (reply, outcome) = oneshot::channel();
        // One job is let in whatever its size: it may be larger than everything that may wait.
        let full = waiting > 0 && waiting + octets > MAX_WAITING_OCTETS;
        let sent =
            match full {
                true => Err(busy("octets")),
                false => self.requests.try_send(Request::Job(Job { work, octets, reply })).map_err(
                    |error| match error {
                        mpsc::error::TrySendError::Full(_) => busy("commits"),
                        mpsc::error::TrySendError::Closed(_) => closed(),
                    },
                ),
            };
        if let Err(error) = sent {
            self.octets.fetch_sub(octets, Ordering::Relaxed);
            return Err(error);
        }
        // The committer answers every job, or has died in the middle of one.
        outcome.await.unwrap_or_else(|_| {
            Err(StorageError::UnknownOutcome("the committer has stopped".to_owned()))
        })
    }

    /// As [`perform`](Self::perform), for the writer of bodies, which must not keep the committer
    /// alive: `None` when this has ended.
    pub fn downgrade(&self) -> WeakQueue {
        WeakQueue { requests: self.requests.downgrade() }
    }

    /// The way for the committer's own threads, which must not keep it alive.
    pub fn tell(&self) -> mpsc::WeakSender<Request> {
        self.requests.downgrade()
    }

    /// Forgets new bodies, after all commits that were handed over before and may link them. When
    /// too much waits they are forgotten in time.
    pub fn give_up(&self, space: Space, bodies: Vec<[u8; 16]>) {
        let _ = self.requests.try_send(Request::GiveUp(space, bodies));
    }

    /// Comes back after the rows have been tried to be opened again, if they have failed, and room has been
    /// looked for, if there was none.
    pub async fn revive(&self) {
        let (done, tried) = oneshot::channel();
        // A full queue means that commits wait, each of which tries the same.
        if self.requests.try_send(Request::Revive(done)).is_ok() {
            let _ = tried.await;
        }
    }

    /// Comes back after all rows have been looked at because one was damaged when they had been made anew
    /// so many times. True: they have been since. False also when nobody could look, or has in vain not
    /// long ago.
    pub async fn heal(&self, rebuilds: u64) -> bool {
        let (done, healed) = oneshot::channel();
        let asked = self.requests.try_send(Request::Heal(rebuilds, done)).is_ok();
        asked && healed.await.unwrap_or(false)
    }

    /// The rows as they are at the end of the log, durable, and where that is.
    pub async fn state(&self) -> Result<(RowsState, Position), StorageError> {
        let (reply, state) = oneshot::channel();
        self.requests.send(Request::State(reply)).await.map_err(|_| closed())?;
        state.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Finishes what waits, closes the rows and comes back. Later work is refused.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // It is dropped without an answer when somebody else closed first.
            let _ = closed.await;
        }
    }
}

/// The way to a committer that may have ended.
pub struct WeakQueue {
    requests: mpsc::WeakSender<Request>,
}

impl WeakQueue {
    /// As [`Queue::heal`].
    pub async fn heal(&self, rebuilds: u64) -> bool {
        let (done, healed) = oneshot::channel();
        let Some(requests) = self.requests.upgrade() else { return false };
        let asked = requests.send(Request::Heal(rebuilds, done)).await.is_ok();
        drop(requests);
        asked && healed.await.unwrap_or(false)
    }

    /// Has a snapshot taken now. Whether there is a new one.
    pub async fn renew(&self) -> bool {
        let (done, renewed) = oneshot::channel();
        let Some(requests) = self.requests.upgrade() else { return false };
        let asked = requests.send(Request::Renew(done)).await.is_ok();
        drop(requests);
        asked && renewed.await.unwrap_or(false)
    }

    /// Hands work over and waits for its outcome, outside any task.
    pub fn perform_blocking(&self, work: Work) -> Result<Done, StorageError> {
        let (reply, outcome) = oneshot::channel();
        let Some(requests) = self.requests.upgrade() else { return Err(closed()) };
        let job = Request::Job(Job { work, octets: 0, reply });
        requests.blocking_send(job).map_err(|_| closed())?;
        // Not while waiting: the committer ends when nobody is left who could ask.
        drop(requests);
        outcome.blocking_recv().unwrap_or_else(|_| Err(closed()))
    }
}

fn busy(what: &str) -> StorageError {
    StorageError::Unavailable(format!("too many {what} wait for the disk"))
}

/// Runs until it is told to close, or until nobody is left who could ask.
pub fn run(
    shared: &Shared,
    bodies: &writer::Queue,
    keeping: Keeping,
    (tell, mut requests): (mpsc::WeakSender<Request>, mpsc::Receiver<Request>),
    waiting_octets: &AtomicUsize,
) {
    let Keeping { log, snapshots, reserve, heal_pause } = keeping;
    let (heal_not_before, unlinking) = (None, false);
    let mut committer = Committer {
        shared,
        bodies,
        log,
        snapshots,
        reserve,
        heal_pause,
        heal_not_before,
        tell,
        unlinking,
        renewing: Vec::new(),
    };
    let mut closing = Vec::new();
    shared.groups.store(committer.log.end().groups, Ordering::Relaxed);
    committer.set_aside();
    // Nothing has been replayed that is not durable, unless that failed.
    if !committer.log.is_ahead() {
        committer.take_snapshot();
    }
    while closing.is_empty() {
        let Some(first) = requests.blocking_recv() else { break };
        let group = gather(first, &mut requests);
        closing = committer.serve(group, waiting_octets);
        if committer.log.is_due() || committer.wants_room() || committer.wants_snapshot() {
            committer.checkpoint();
        }
    }
    requests.close();
    // What had been handed over before the close is still performed.
    while let Some(first) = requests.blocking_recv() {
        let group = gather(first, &mut requests);
        closing.extend(committer.serve(group, waiting_octets));
    }
    committer.snapshots.stop();
    // In vain is no harm: the log has what the rows have not.
    if committer.log.is_ahead() {
        committer.make_durable();
    }
    shared.close();
    for closed in closing {
        let _ = closed.send(());
    }
}

/// What is done at once.
#[derive(Default)]
struct Group {
    jobs: Vec<Job>,
    octets: usize,
    /// New bodies to forget once the jobs are done.
    given_up: Vec<(Space, Vec<[u8; 16]>)>,
    /// Whom to tell that the rows have been tried.
    reviving: Vec<oneshot::Sender<()>>,
    /// Whom to tell whether damaged rows have been made anew.
    healing: Vec<(u64, oneshot::Sender<bool>)>,
    /// What became of snapshots.
    snapshots: Vec<Ended>,
    /// Who wants a new one.
    renewing: Vec<oneshot::Sender<bool>>,
    /// Who wants to know how the rows are.
    states: Vec<oneshot::Sender<Result<(RowsState, Position), StorageError>>>,
    /// Whom to tell that all is closed.
    closing: Vec<oneshot::Sender<()>>,
}

/// What stands beside the rows, to be kept in order while they are written.
pub struct Keeping {
    /// The commit log.
    pub log: Log,
    /// The second copy of the rows.
    pub snapshots: Snapshots,
    /// Room for a full disk.
    pub reserve: Reserve,
    /// After looking for damaged rows in vain, it is not done again for so long.
    pub heal_pause: Duration,
}

/// Takes what waits, within the limits of a group.
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>) -> Group {
    let mut group = Group::default();
    let mut next = Some(first);
    while let Some(request) = next {
        match request {
            Request::Job(job) => {
                group.octets += job.octets;
                group.jobs.push(job);
            }
            Request::GiveUp(space, bodies) => group.given_up.push((space, bodies)),
            Request::Revive(tried) => group.reviving.push(tried),
            Request::Heal(rebuilds, healed) => group.healing.push((rebuilds, healed)),
            Request::Snapshot(ended) => group.snapshots.push(ended),
            Request::Renew(renewed) => group.renewing.push(renewed),
            Request::State(state) => group.states.push(state),
            Request::Close(closed) => group.closing.push(closed),
        }
        let length = group.jobs.len() + group.given_up.len();
        let full = length >= MAX_GROUP_JOBS || group.octets >= MAX_GROUP_OCTETS;
        next = if full { None } else { requests.try_recv().ok() };
    }
    group
}

/// What the thread works with.
struct Committer<'a> {
    shared: &'a Shared,
    bodies: &'a writer::Queue,
    log: Log,
    snapshots: Snapshots,
    reserve: Reserve,
    heal_pause: Duration,
    /// When it may be looked for damaged rows again.
    heal_not_before: Option<Instant>,
    /// The way to itself, for the thread that takes snapshots.
    tell: mpsc::WeakSender<Request>,
    /// Links have been taken away since the last checkpoint.
    unlinking: bool,
    /// Who wants to hear of the snapshot that is being taken.
    renewing: Vec<oneshot::Sender<bool>>,
}

impl Committer<'_> {
    /// Does a group, whatever it is made of; returns who waits for the end.
    fn serve(&mut self, group: Group, waiting_octets: &AtomicUsize) -> Vec<oneshot::Sender<()>> {
        if self.shared.has_failed() {
            let _ = self.revive();
        }
        if self.reserve.is_gone() && !(group.reviving.is_empty() && group.jobs.is_empty()) {
            self.set_aside();
        }
        for tried in group.reviving {
            let _ = tried.send(());
        }
        for ended in group.snapshots {
            self.snapshot_ended(&ended);
        }
        if !group.jobs.is_empty() {
            let jobs = self.admit(group.jobs);
            self.perform(jobs, true);
        }
        for state in group.states {
            let _ = state.send(self.state());
        }
        self.renew(group.renewing);
        for (rebuilds, healed) in group.healing {
            let _ = healed.send(self.rebuilds() > rebuilds || self.heal());
        }
        waiting_octets.fetch_sub(group.octets, Ordering::Relaxed);
        let mut thinned = Vec::new();
        for (space, given_up) in group.given_up {
            thinned.append(&mut self.shared.unlinked.forget(space, &given_up));
        }
        if !thinned.is_empty() {
            self.bodies.thinned(thinned);
        }
        group.closing
    }

    /// Makes a group durable and answers it.
    fn perform(&mut self, mut jobs: Vec<Job>, may_heal: bool) {
        if jobs.is_empty() {
            return;
        }
        let outcome = match &*self.shared.rows() {
            Rows::Open(index) => group::write(index, self.shared, &mut self.log, &jobs),
            Rows::Failed(why) => Ok(all(&jobs, &StorageError::Unavailable(why.clone()))),
            Rows::Closed => Ok(all(&jobs, &closed())),
        };
        let members = match outcome {
            Ok(members) => members,
            Err(Failure::Damage(number, why)) => {
                tracing::error!(error = %why, commits = jobs.len(), "a commit meets damaged rows");
                let rebuilds = self.rebuilds();
                if self.shared.has_failed() {
                    let _ = self.revive();
                }
                if may_heal && (self.rebuilds() > rebuilds || self.heal()) {
                    return self.perform(jobs, false);
                }
                if jobs.len() > 1 {
                    // Damage is its owner's alone: nothing of the group was done, the others go on.
                    let damaged = jobs.remove(number);
                    self.perform(vec![damaged], false);
                    return self.perform(jobs, false);
                }
                all(&jobs, &StorageError::Damaged(why))
            }
            Err(Failure::Full(why)) => {
                if self.make_room() {
                    let jobs = self.admit(jobs);
                    return self.perform(jobs, may_heal);
                }
                tracing::warn!(error = %why, commits = jobs.len(), "the disk is full");
                all(&jobs, &full())
            }
            Err(Failure::Before(why)) => {
                tracing::error!(error = %why, commits = jobs.len(), "commits cannot be written");
                let full = self.met_full();
                if self.shared.has_failed() {
                    let _ = self.revive();
                }
                if full && self.make_room() {
                    let jobs = self.admit(jobs);
                    return self.perform(jobs, may_heal);
                }
                all(&jobs, &StorageError::Unavailable(why))
            }
            Err(Failure::During(why, members)) => {
                let full = self.met_full();
                let members = self.after_failure(&jobs, why, members);
                if full {
                    self.make_room();
                }
                members
            }
        };
        let is_damaged = |member: &Result<Done, _>| matches!(member, Err(StorageError::Damaged(_)));
        if may_heal && members.iter().any(is_damaged) && self.heal() {
            // Those that met damage had no effect: they are tried once more.
            let (again, done): (Vec<_>, Vec<_>) =
                jobs.into_iter().zip(members).partition(|(_, member)| is_damaged(member));
            let (jobs, members) = done.into_iter().unzip();
            self.answer(jobs, members);
            return self.perform(again.into_iter().map(|(job, _)| job).collect(), false);
        }
        self.shared.groups.store(self.log.end().groups, Ordering::Relaxed);
        self.answer(jobs, members);
    }

    /// Opens the rows again and finds out what became of the group.
    fn after_failure(&mut self, jobs: &[Job], why: String, members: Members) -> Members {
        tracing::error!(error = %why, commits = jobs.len(), "writing commits failed");
        let took_effect = match self.revive() {
            Ok(()) => self.shared.read(|rows| group::took_effect(rows, jobs, &members)).ok(),
            Err(()) => None,
        };
        match took_effect {
            Some(true) => members,
            Some(false) => all(jobs, &StorageError::Unavailable(why)),
            None => {
                let spaces = jobs.iter().filter_map(|job| job.work.space());
                spaces.for_each(|space| self.shared.unknown(space));
                all(jobs, &StorageError::UnknownOutcome(why))
            }
        }
    }

    /// Sees to it that the log ends where it is known to end, and opens the rows again.
    fn revive(&mut self) -> Result<(), ()> {
        if let Err(error) = self.log.settle(&self.shared.segments) {
            tracing::error!(%error, "the commit log cannot go on");
            self.shared.fail(error.to_string());
            return Err(());
        }
        match self.shared.reopen(self.log.end()) {
            Ok(()) => Ok(()),
            Err(OpenError::Damaged(why)) if self.make_anew(&why) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "the rows cannot be opened again");
                Err(())
            }
        }
    }

    /// Makes the rows durable, and does what can only be done then.
    fn checkpoint(&mut self) {
        if !self.make_durable() {
            let full = self.met_full();
            let _ = self.revive();
            if full {
                self.make_room();
            }
            return;
        }
        if self.snapshots.has_none() {
            // The log can bring back what it has not lost anyway.
            self.release(self.log.end().segment);
        }
        self.take_snapshot();
    }

    /// A restart need not read the log before here. False: the rows have failed.
    fn make_durable(&mut self) -> bool {
        let at = self.log.end();
        let checked = match &*self.shared.rows() {
            Rows::Open(index) if !index.has_failed() => index.checkpoint(at),
            Rows::Open(_) | Rows::Failed(_) => return false,
            Rows::Closed => return true,
        };
        match checked {
            Ok(()) => {
                self.log.checked();
                self.unlinking = false;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the rows cannot be made durable; the log has them");
                self.log.not_checked();
                false
            }
        }
    }

    fn answer(&mut self, jobs: Vec<Job>, members: Members) {
        let commits = members.iter().filter(|member| member.is_ok()).count() as u64;
        let refused = members.len() as u64 - commits;
        match commits {
            0 => self.shared.counters.refused(refused),
            _ => self.shared.counters.group(commits, refused),
        }
        let mut thinned = Vec::new();
        for (job, mut member) in jobs.into_iter().zip(members) {
            if let Ok(done) = &mut member {
                self.unlinking |= job.work.unlinks();
                thinned.append(&mut done.thinned);
                if let Some(space) = job.work.space() {
                    self.shared.unlinked.forget(space, &done.linked);
                }
            }
            // Whoever has gone away need not be told.
            let _ = job.reply.send(member);
        }
        if !thinned.is_empty() {
            self.bodies.thinned(thinned);
        }
    }
}

fn full() -> StorageError {
    StorageError::Unavailable("the disk is full: mail can only be removed".to_owned())
}

fn all(jobs: &[Job], error: &StorageError) -> Members {
    jobs.iter().map(|_| Err(error.clone())).collect()
}
