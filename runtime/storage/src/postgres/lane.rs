//! A lane writes the commits of its share of the spaces: it takes whatever waits, without a timer, and
//! writes it as one group. While one lane waits for the database to make a group durable, the others
//! plan theirs.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadpool_postgres::Object;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::connect::{COMMIT_TIME, Failure, READ_TIME, is_useless_after, why};
use super::group::{self, Planned, Unplanned, Unwritten};
use super::locked::{self, Locked};
use super::shared::{Shared, closed};
use crate::{Commit, Committed, Fence, Space, StorageError, key};

/// Most commits that wait in a lane; more than sessions that a node serves at a time can have in
/// flight, since each account has one.
const MAX_WAITING_JOBS: usize = 4096;
/// Most octets that wait in a lane: bounds memory when the database is slower than the callers.
const MAX_WAITING_OCTETS: usize = 256 << 20;
/// Most commits in one group: enough to share a wait for the disk, few enough that the first need not
/// wait long.
const MAX_GROUP_JOBS: usize = 256;
/// Most octets in one group, unless one commit alone has more.
const MAX_GROUP_OCTETS: usize = 4 << 20;
/// How often a group is planned and written before its members are told to come again: each time
/// somebody else has moved a head, taken a claim, or a connection was lost before anything was sent.
const MAX_ATTEMPTS: u32 = 16;

/// After so many attempts each member is tried by itself: one that never goes must not take others
/// along.
const ALONE_AFTER: u32 = 6;

/// What members behind a lock are told.
const LOCKED: &str = "somebody has a lock in the database for too long";

/// What a lane is asked.
pub enum Request {
    /// To write.
    Job(Job),
    /// To see to it that nothing that was sent before takes effect on this space any more.
    Resolve(Space, oneshot::Sender<Result<(), StorageError>>),
    /// To forget new bodies that nothing handed over after this will link.
    GiveUp(Space, Vec<[u8; 16]>),
    /// To finish, and to say when it has.
    Close(oneshot::Sender<()>),
}

/// A commit with whom to answer.
pub struct Job {
    commit: Commit,
    octets: usize,
    reply: oneshot::Sender<Result<Committed, StorageError>>,
    /// Whether it is there to find out what became of another one.
    resolves: bool,
}

/// The way to a lane.
pub struct Lane {
    requests: mpsc::Sender<Request>,
    octets: Arc<AtomicUsize>,
    shared: Arc<Shared>,
}

/// Whoever waits for a commit. When it goes away before the answer the outcome is unknown: what still waits
/// in the lane is not written any more, and who reads the space's head waits for what is under way.
struct Waits<'a> {
    shared: &'a Shared,
    space: Space,
    fence: Option<Fence>,
    answered: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.unknown(self.space, self.fence);
        }
    }
}

impl Lane {
    /// Starts one. It ends when it is told to, or when nobody is left who could ask.
    pub fn start(shared: Arc<Shared>) -> Self {
        let (requests, inbox) = mpsc::channel(MAX_WAITING_JOBS);
        let octets = Arc::new(AtomicUsize::new(0));
        let lane = Self { requests, octets: octets.clone(), shared: shared.clone() };
        tokio::spawn(run(shared, inbox, octets));
        lane
    }

    /// Hands a commit over and waits for its outcome. Dropping the future leaves an unknown outcome.
    pub async fn perform(&self, commit: Commit, octets: usize) -> Result<Committed, StorageError> {
        let waiting = self.octets.fetch_add(octets, Ordering::Relaxed);
        let (reply, outcome) = oneshot::channel();
        let (space, fence) = (commit.space, commit.fence);
        // One is let in whatever its size: it may be larger than everything that may wait.
        let full = waiting > 0 && waiting + octets > MAX_WAITING_OCTETS;
        let sent = match full {
            true => Err(busy("octets")),
            false => {
                let job = Request::Job(Job { commit, octets, reply, resolves: false });
                self.requests.try_send(job).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => busy("commits"),
                    mpsc::error::TrySendError::Closed(_) => closed(),
                })
            }
        };
        if let Err(error) = sent {
            self.octets.fetch_sub(octets, Ordering::Relaxed);
            return Err(error);
        }
        let mut waits = Waits { shared: &self.shared, space, fence, answered: false };
        // The lane answers every job, or has died in the middle of one.
        let outcome = outcome.await.unwrap_or_else(|_| {
            Err(StorageError::UnknownOutcome("the committer has stopped".to_owned()))
        });
        waits.answered = true;
        outcome
    }

    /// Comes back when nothing that was sent before takes effect on this space any more.
    pub async fn resolve(&self, space: Space) -> Result<(), StorageError> {
        let (reply, outcome) = oneshot::channel();
        self.requests.send(Request::Resolve(space, reply)).await.map_err(|_| closed())?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Forgets new bodies, after all commits that were handed over before and may link them. When too
    /// much waits they are forgotten in time.
    pub fn give_up(&self, space: Space, bodies: Vec<[u8; 16]>) {
        let _ = self.requests.try_send(Request::GiveUp(space, bodies));
    }

    /// Finishes what waits and comes back. Later work is refused.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // It is dropped without an answer when somebody else closed first.
            let _ = closed.await;
        }
    }
}

fn busy(what: &str) -> StorageError {
    StorageError::Unavailable(format!("too many {what} wait for the database"))
}

async fn run(shared: Arc<Shared>, mut requests: mpsc::Receiver<Request>, octets: Arc<AtomicUsize>) {
    let mut closing = Vec::new();
    let mut locked = Locked::default();
    while let Some(first) = requests.recv().await {
        let mut gathered = gather(first, &mut requests);
        closing.append(&mut gathered.closing);
        gathered.serve(&shared, &octets, &mut locked).await;
        if !closing.is_empty() {
            // What had been handed over before the close is still performed.
            requests.close();
        }
    }
    for closed in closing {
        let _ = closed.send(());
    }
}

/// What is done at once.
#[derive(Default)]
struct Gathered {
    jobs: Vec<Job>,
    octets: usize,
    resolving: Vec<(Space, oneshot::Sender<Result<(), StorageError>>)>,
    /// New bodies to forget once the jobs are done.
    given_up: Vec<(Space, Vec<[u8; 16]>)>,
    closing: Vec<oneshot::Sender<()>>,
}

/// Takes what waits, within the limits of a group.
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>) -> Gathered {
    let mut gathered = Gathered::default();
    let mut next = Some(first);
    while let Some(request) = next {
        match request {
            Request::Job(job) => {
                gathered.octets += job.octets;
                gathered.jobs.push(job);
            }
            Request::Resolve(space, reply) => gathered.resolving.push((space, reply)),
            Request::GiveUp(space, bodies) => gathered.given_up.push((space, bodies)),
            Request::Close(closed) => gathered.closing.push(closed),
        }
        let length = gathered.jobs.len() + gathered.given_up.len() + gathered.resolving.len();
        let full = length >= MAX_GROUP_JOBS || gathered.octets >= MAX_GROUP_OCTETS;
        next = if full { None } else { requests.try_recv().ok() };
    }
    gathered
}

impl Gathered {
    async fn serve(self, shared: &Shared, waiting: &AtomicUsize, locked: &mut Locked) {
        write(shared, self.jobs, locked).await;
        waiting.fetch_sub(self.octets, Ordering::Relaxed);
        for (space, reply) in self.resolving {
            let _ = reply.send(resolve(shared, space, locked).await);
        }
        for (space, bodies) in self.given_up {
            shared.unlinked.forget(space, &bodies);
        }
    }
}

/// Moves the head by a commit of nothing, under the fence of the one whose outcome is unknown: if that
/// one has not taken effect by then, it cannot any more. Nor can it when the claim is another's.
async fn resolve(shared: &Shared, space: Space, locked: &mut Locked) -> Result<(), StorageError> {
    let Some(fence) = shared.unresolved(space) else { return Ok(()) };
    let commit = Commit {
        space,
        fence,
        expected_head: None,
        preconditions: Vec::new(),
        transactions: Vec::new(),
        writes: Vec::new(),
        now: 0,
    };
    let (reply, mut outcome) = oneshot::channel();
    let job = Job { commit, octets: 0, reply, resolves: true };
    write(shared, vec![job], locked).await;
    let outcome = outcome.try_recv().unwrap_or_else(|_| Err(closed()));
    match outcome {
        Ok(_) | Err(StorageError::Fenced) => {
            // Only now: whoever asks meanwhile has to wait too.
            shared.resolved(space);
            Ok(())
        }
        Err(error @ (StorageError::Damaged(_) | StorageError::WentBack(_))) => Err(error),
        Err(other) => Err(StorageError::Unavailable(other.to_string())),
    }
}

/// Jobs that are written together, and how often that was tried.
struct Group {
    jobs: Vec<Job>,
    attempts: u32,
    /// Whether all of them have waited for a lock in vain once.
    waited: bool,
}

/// Writes jobs, and answers all of them.
async fn write(shared: &Shared, jobs: Vec<Job>, locked: &mut Locked) {
    let jobs = without_locked(shared, jobs, locked).await;
    let mut groups = VecDeque::from([Group { jobs, attempts: 0, waited: false }]);
    while let Some(mut group) = groups.pop_front() {
        // A group before this one may have left outcomes unknown.
        let jobs = std::mem::take(&mut group.jobs);
        let (jobs, refused) = jobs.into_iter().partition(|job| accepts(shared, job).is_ok());
        group.jobs = jobs;
        for job in refused {
            shared.counters.refused(1);
            let error = accepts(shared, &job).err().unwrap_or_else(closed);
            let _ = job.reply.send(Err(error));
        }
        if !group.jobs.is_empty() {
            group.write(shared, &mut groups, locked).await;
        }
    }
}

/// Refuses jobs that are behind a lock for which others have waited in vain, as long as it is there: each
/// would keep all of its group waiting.
async fn without_locked(shared: &Shared, jobs: Vec<Job>, locked: &mut Locked) -> Vec<Job> {
    let (suspects, mut rest): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| locked.concerns(&job.commit));
    if suspects.is_empty() {
        return rest;
    }
    let commits: Vec<_> = suspects.iter().map(|job| &job.commit).collect();
    // What keeps this from being found out shows again when they are written.
    if let Ok(client) = shared.connections.to_commit().await {
        match timeout(READ_TIME, locked.look_again(&client, &commits)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if !is_useless_after(&error) => {}
            Ok(Err(_)) | Err(_) => drop(Object::take(client)),
        }
    }
    let (refused, free) = suspects.into_iter().partition(|job| locked.concerns(&job.commit));
    Group { jobs: refused, attempts: 0, waited: true }.fail(shared, LOCKED);
    rest.extend(free);
    rest
}

fn accepts(shared: &Shared, job: &Job) -> Result<(), StorageError> {
    if job.resolves {
        return Ok(());
    }
    if shared.unresolved(job.commit.space).is_some() {
        let why = "an earlier commit to this space: read it again";
        return Err(StorageError::UnknownOutcome(why.to_owned()));
    }
    match shared.has_too_many_unresolved() {
        true => Err(StorageError::Unavailable("too many outcomes are unknown".to_owned())),
        false => Ok(()),
    }
}

impl Group {
    /// Writes it. What has to wait for another try is put into `groups`.
    async fn write(mut self, shared: &Shared, groups: &mut VecDeque<Group>, locked: &mut Locked) {
        let mut before: Option<Planned> = None;
        loop {
            self.attempts += 1;
            if self.attempts > MAX_ATTEMPTS {
                return self.fail(shared, "other nodes are in the way");
            }
            if self.attempts > ALONE_AFTER && self.jobs.len() > 1 {
                let waited = self.waited;
                let alone = |job| Group { jobs: vec![job], attempts: ALONE_AFTER, waited };
                groups.extend(self.jobs.into_iter().map(alone));
                return;
            }
            let client = match shared.connections.to_commit().await {
                Ok(client) => client,
                Err(error) => return self.fail(shared, &error.to_string()),
            };
            let commits: Vec<_> = self.jobs.iter().map(|job| &job.commit).collect();
            let planning = group::plan(&client, shared, &commits);
            let planned = match timeout(READ_TIME, planning).await {
                Ok(Ok(planned)) => planned,
                Ok(Err(Unplanned::Sql(error))) => {
                    if is_useless_after(&error) {
                        drop(Object::take(client));
                        continue;
                    }
                    return self.fail(shared, &why(&error));
                }
                Ok(Err(Unplanned::Endless)) => return self.fail(shared, "it reads without an end"),
                Err(_) => {
                    drop(Object::take(client));
                    return self.fail(shared, "the database took too long");
                }
            };
            // Whoever is in the way of others is tried without them, and they without it.
            if let Some(before) = before.take()
                && let Some(moved) = self.take_moved(&before, &planned)
            {
                groups.push_back(Group { jobs: moved, ..self.like() });
                continue;
            }
            if planned.members.iter().all(Result::is_err) {
                return self.answer(shared, planned, None);
            }
            let commits: Vec<_> = self.jobs.iter().map(|job| &job.commit).collect();
            let (failure, text) =
                match timeout(COMMIT_TIME, group::write(&client, &planned, &commits)).await {
                    Ok(Ok(octets)) => {
                        shared.counters.wrote_rows(octets);
                        return self.answer(shared, planned, None);
                    }
                    Ok(Err(Unwritten::Before(error))) if is_useless_after(&error) => {
                        drop(Object::take(client));
                        continue;
                    }
                    Ok(Err(Unwritten::Before(error))) => (Failure::NoEffect, why(&error)),
                    Ok(Err(Unwritten::During(error))) => {
                        let failure = Failure::of(&error);
                        if failure == Failure::Locked {
                            let held = locked::found(client, &commits).await;
                            return self.part(shared, groups, locked, held);
                        }
                        if is_useless_after(&error) {
                            drop(Object::take(client));
                        }
                        (failure, why(&error))
                    }
                    Err(_) => {
                        drop(Object::take(client));
                        (Failure::Lost, "the database took too long".to_owned())
                    }
                };
            match failure {
                Failure::Refused => before = Some(planned),
                Failure::InTheWay => {}
                Failure::Locked | Failure::NoEffect => return self.fail(shared, &text),
                Failure::Lost => {
                    tracing::warn!(error = text, "the outcome of a group of commits is unknown");
                    return self.answer(shared, planned, Some(text));
                }
            }
        }
    }

    /// Parts those behind a lock from the others, who go on at once. They are tried once more, and
    /// refused then.
    fn part(
        self,
        shared: &Shared,
        groups: &mut VecDeque<Group>,
        locked: &mut Locked,
        held: Locked,
    ) {
        let like = self.like();
        let (behind, free): (Vec<_>, Vec<_>) =
            self.jobs.into_iter().partition(|job| held.concerns(&job.commit));
        match (behind.is_empty(), like.waited) {
            (false, false) => {
                groups.push_back(Group { jobs: free, ..like });
                groups.push_back(Group { jobs: behind, waited: true, ..like });
            }
            (false, true) => {
                groups.push_back(Group { jobs: free, ..like });
                locked.add(held);
                Group { jobs: behind, ..like }.fail(shared, LOCKED);
            }
            // The lock has gone, or it is on another kind of row.
            (true, waited) if free.len() == 1 => match waited {
                true => Group { jobs: free, ..like }.fail(shared, LOCKED),
                false => groups.push_back(Group { jobs: free, waited: true, ..like }),
            },
            (true, _) => {
                let mut half = free;
                let other = half.split_off(half.len() / 2);
                groups.push_back(Group { jobs: half, ..like });
                groups.push_back(Group { jobs: other, ..like });
            }
        }
    }

    /// A group of nobody with the same past.
    fn like(&self) -> Group {
        Group { jobs: Vec::new(), ..*self }
    }

    /// Takes out the jobs whose space has moved between two plans, unless all have.
    fn take_moved(&mut self, before: &Planned, now: &Planned) -> Option<Vec<Job>> {
        let moved = |job: &Job| {
            let head = key::head(job.commit.space);
            before.known.rows.get(&head[..]) != now.known.rows.get(&head[..])
        };
        let some = self.jobs.iter().any(&moved) && !self.jobs.iter().all(&moved);
        if !some {
            return None;
        }
        let (moved, steady) = std::mem::take(&mut self.jobs).into_iter().partition(moved);
        self.jobs = steady;
        Some(moved)
    }

    /// Answers all members: those that were to be written with success, or that nobody knows.
    fn answer(self, shared: &Shared, planned: Planned, unknown: Option<String>) {
        let (mut written, mut refused) = (0, 0);
        let mut answers = Vec::with_capacity(self.jobs.len());
        // Spaces that a member of unknown outcome was to write: what was planned after it, a refusal as well,
        // was planned over rows that may not be there.
        let mut uncertain = HashSet::new();
        for (job, member) in self.jobs.into_iter().zip(planned.members) {
            let space = job.commit.space;
            let outcome = match (member, &unknown) {
                (Ok(plan), None) => {
                    shared.unlinked.forget(space, &plan.linked);
                    shared.heads.acknowledged(space, plan.head);
                    written += 1;
                    Ok(Committed { head: plan.head })
                }
                (Ok(_), Some(why)) => {
                    shared.unknown(space, job.commit.fence);
                    uncertain.insert(space);
                    refused += 1;
                    Err(StorageError::UnknownOutcome(why.clone()))
                }
                (Err(_), Some(why)) if uncertain.contains(&space) => {
                    refused += 1;
                    Err(StorageError::UnknownOutcome(why.clone()))
                }
                (Err(refusal), _) => {
                    refused += 1;
                    Err(refusal)
                }
            };
            answers.push((job.reply, outcome));
        }
        match written {
            0 => shared.counters.refused(refused),
            _ => shared.counters.group(written, refused),
        }
        for (reply, outcome) in answers {
            let _ = reply.send(outcome);
        }
    }

    /// Tells all members that nothing was done.
    fn fail(self, shared: &Shared, why: &str) {
        shared.counters.refused(self.jobs.len() as u64);
        for job in self.jobs {
            let _ = job.reply.send(Err(StorageError::Unavailable(why.to_owned())));
        }
    }
}
