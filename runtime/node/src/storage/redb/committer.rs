//! The one thread that writes commits. It takes whatever waits for it, without a timer, makes it
//! durable as one group, and answers all of it: while one group waits for the medium, the next one
//! gathers by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::group::{self, Done, Failure, Job, Members, Work};
use super::log::Log;
use super::shared::{Rows, Shared, closed};
use crate::storage::body::writer;
use crate::storage::{Space, StorageError};

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
    /// To try whether a failed medium is back, and to say when it has tried.
    Revive(oneshot::Sender<()>),
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

    /// Forgets new bodies, after all commits that were handed over before and may link them. When
    /// too much waits they are forgotten in time.
    pub fn give_up(&self, space: Space, bodies: Vec<[u8; 16]>) {
        let _ = self.requests.try_send(Request::GiveUp(space, bodies));
    }

    /// Comes back after the rows have been tried to be opened again, if they have failed.
    pub async fn revive(&self) {
        let (done, tried) = oneshot::channel();
        // A full queue means that commits wait, each of which tries the same.
        if self.requests.try_send(Request::Revive(done)).is_ok() {
            let _ = tried.await;
        }
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
    log: Log,
    mut requests: mpsc::Receiver<Request>,
    waiting_octets: &AtomicUsize,
) {
    let mut committer = Committer { shared, bodies, log };
    let mut closing = Vec::new();
    while closing.is_empty() {
        let Some(first) = requests.blocking_recv() else { break };
        let group = gather(first, &mut requests);
        closing = committer.serve(group, waiting_octets);
        if committer.log.is_due() {
            match committer.checkpoint() {
                Some(released) if !released.is_empty() => bodies.thinned(released),
                Some(_) => {}
                None => {
                    let _ = committer.revive();
                }
            }
        }
    }
    requests.close();
    // What had been handed over before the close is still performed.
    while let Some(first) = requests.blocking_recv() {
        let group = gather(first, &mut requests);
        closing.extend(committer.serve(group, waiting_octets));
    }
    // In vain is no harm: the log has what the rows have not.
    if committer.log.is_ahead() {
        committer.checkpoint();
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
    /// Whom to tell that all is closed.
    closing: Vec<oneshot::Sender<()>>,
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
}

impl Committer<'_> {
    /// Does a group, whatever it is made of; returns who waits for the end.
    fn serve(&mut self, group: Group, waiting_octets: &AtomicUsize) -> Vec<oneshot::Sender<()>> {
        if self.shared.has_failed() {
            let _ = self.revive();
        }
        for tried in group.reviving {
            let _ = tried.send(());
        }
        if !group.jobs.is_empty() {
            self.perform(group.jobs);
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
    fn perform(&mut self, mut jobs: Vec<Job>) {
        let outcome = match &*self.shared.rows() {
            Rows::Open(index) => group::write(index, self.shared, &mut self.log, &jobs),
            Rows::Failed(why) => Ok(all(&jobs, &StorageError::Unavailable(why.clone()))),
            Rows::Closed => Ok(all(&jobs, &closed())),
        };
        let members = match outcome {
            Ok(members) => members,
            Err(Failure::Damage(number, why)) => {
                tracing::error!(error = %why, commits = jobs.len(), "a commit meets damaged rows");
                if self.shared.has_failed() {
                    let _ = self.revive();
                }
                if jobs.len() > 1 {
                    // Damage is its owner's alone: nothing of the group was done, the others go on.
                    let damaged = jobs.remove(number);
                    self.perform(vec![damaged]);
                    return self.perform(jobs);
                }
                all(&jobs, &StorageError::Damaged(why))
            }
            Err(Failure::Before(why)) => {
                tracing::error!(error = %why, commits = jobs.len(), "commits cannot be written");
                if self.shared.has_failed() {
                    let _ = self.revive();
                }
                all(&jobs, &StorageError::Unavailable(why))
            }
            Err(Failure::During(why, members)) => self.after_failure(&jobs, why, members),
        };
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
        let reopened = self.shared.reopen(self.log.end());
        reopened.map_err(|error| tracing::error!(%error, "the rows cannot be opened again"))
    }

    /// Makes the rows durable: a restart need not read the log before here. Returns the segments that
    /// it does not read any more; `None`: the rows have failed.
    fn checkpoint(&mut self) -> Option<Vec<u64>> {
        let at = self.log.end();
        let checked = match &*self.shared.rows() {
            Rows::Open(index) if !index.has_failed() => index.checkpoint(at),
            Rows::Open(_) | Rows::Failed(_) => return None,
            Rows::Closed => return Some(Vec::new()),
        };
        match checked {
            Ok(()) => {
                self.log.checked();
                Some(self.shared.segments.checked(at.segment))
            }
            Err(error) => {
                tracing::error!(%error, "the rows cannot be made durable; the log has them");
                self.log.not_checked();
                None
            }
        }
    }

    fn answer(&self, jobs: Vec<Job>, members: Members) {
        let commits = members.iter().filter(|member| member.is_ok()).count() as u64;
        let refused = members.len() as u64 - commits;
        match commits {
            0 => self.shared.counters.refused(refused),
            _ => self.shared.counters.group(commits, refused),
        }
        let mut thinned = Vec::new();
        for (job, mut member) in jobs.into_iter().zip(members) {
            if let Ok(done) = &mut member {
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

fn all(jobs: &[Job], error: &StorageError) -> Members {
    jobs.iter().map(|_| Err(error.clone())).collect()
}
