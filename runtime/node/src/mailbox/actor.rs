//! An account's writer: takes jobs one after another, gathers writes into batches, settles and
//! closes what is idle.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use postroom_core::calls::Reply;
use postroom_core::error::StoreError;
use postroom_core::mailbox::Op;
use postroom_core::types::{AccountId, MailboxId, Slot, TransactionId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::storage::{Body, Fence, FreshBodies};

use super::account::Account;
use super::accounts::Registry;
use super::ask::{CheckStep, Checked, SweepStep, Swept};
use super::limits::{
    IDLE_ACCOUNT, MAX_BATCH_OCTETS, MAX_BATCH_OPS, MAX_IDLE_MAILBOXES, SETTLE_AFTER, SETTLE_PAUSE,
};
use super::settle::Settling;

/// What a writer is asked for.
pub(super) enum Job {
    /// An operation.
    Write(WriteJob),
    /// The account's state.
    Load {
        /// When it is there.
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    /// The index of a mailbox.
    Open {
        /// Which.
        mailbox: MailboxId,
        /// When it is there.
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    /// A step of a check.
    Check {
        /// Which.
        step: CheckStep,
        /// Whether to mend.
        repair: bool,
        /// What it came to.
        answer: oneshot::Sender<Result<Checked, StoreError>>,
    },
    /// A step of a sweep.
    Sweep {
        /// Which.
        step: SweepStep,
        /// What it came to.
        answer: oneshot::Sender<Result<Swept, StoreError>>,
    },
    /// A session has left, or has been told of removals: look what can be closed and settled.
    Tend,
    /// End, when nobody uses the account.
    Retire,
    /// End, when everything queued before is done.
    Close,
}

/// An operation and whom to answer.
pub(super) struct WriteJob {
    pub(super) op: Op,
    /// Of its messages; given up with the operation where no commit has linked them.
    pub(super) bodies: FreshBodies,
    pub(super) transaction: TransactionId,
    pub(super) quota: Option<u64>,
    pub(super) answer: oneshot::Sender<Result<Reply, StoreError>>,
    /// In a batch of its own: together with others it failed.
    pub(super) alone: bool,
}

impl WriteJob {
    fn octets(&self) -> u64 {
        self.bodies.iter().map(Body::size).sum()
    }

    /// Tells the caller, if it is still there.
    pub(super) fn answer(self, result: Result<Reply, StoreError>) {
        debug!(transaction = %self.transaction, ok = result.is_ok(), "answered");
        drop(self.bodies);
        let _ = self.answer.send(result);
    }
}

/// The writer.
pub(super) struct Actor {
    pub(super) account: Arc<Account>,
    queue: mpsc::Receiver<Job>,
    /// Writes taken from the queue that wait for the next batch.
    pub(super) backlog: VecDeque<WriteJob>,
    /// A job that is no write, taken from the queue after writes.
    next: Option<Job>,
    pub(super) fence: Option<Fence>,
    /// The number of commits of the account.
    pub(super) head: u64,
    pub(super) settling: Settling,
    /// Settling has failed: until when it is not tried again.
    settle_pause: Option<Instant>,
}

/// Takes the account out of the registry however the writer ends: also when it panics, which is a
/// broken invariant and costs this account its calls under way, nothing else.
struct Leave {
    /// Weak, because the registry counts who uses the account.
    account: Weak<Account>,
    registry: Weak<Registry>,
    over: CancellationToken,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let (Some(registry), Some(account)) = (self.registry.upgrade(), self.account.upgrade()) {
            registry.remove(&account);
        }
        self.over.cancel();
    }
}

/// Runs an account's writer to its end.
pub(super) async fn run(
    account: Arc<Account>,
    queue: mpsc::Receiver<Job>,
    registry: Weak<Registry>,
) {
    let over = account.over.clone();
    let _leave = Leave { account: Arc::downgrade(&account), registry: registry.clone(), over };
    let mut actor = Actor {
        account,
        queue,
        backlog: VecDeque::new(),
        next: None,
        fence: None,
        head: 0,
        settling: Settling::default(),
        settle_pause: None,
    };
    actor.serve(&registry).await;
}

impl Actor {
    pub(super) fn id(&self) -> AccountId {
        self.account.id()
    }

    pub(super) fn slot(&self) -> Slot {
        Slot::of(self.id())
    }

    async fn serve(&mut self, registry: &Weak<Registry>) {
        loop {
            match self.job().await {
                Some(Job::Write(write)) => {
                    // Where it came from, when that is the backlog: calls keep their order.
                    self.backlog.push_front(write);
                    let batch = self.gather();
                    self.run_batch(batch).await;
                }
                Some(Job::Load { answer }) => {
                    let loaded = self.ensure_loaded().await;
                    let _ = answer.send(loaded);
                }
                Some(Job::Open { mailbox, answer }) => {
                    let opened = self.open(mailbox).await;
                    let _ = answer.send(opened);
                }
                Some(Job::Check { step, repair, answer }) => {
                    let checked = self.check(step, repair).await;
                    let _ = answer.send(checked);
                }
                Some(Job::Sweep { step, answer }) => {
                    let swept = self.sweep(step).await;
                    let _ = answer.send(swept);
                }
                Some(Job::Tend) => self.account.with(|s| s.close_idle(MAX_IDLE_MAILBOXES)),
                Some(Job::Retire) => {
                    if self.retire(registry).await {
                        return;
                    }
                }
                // Who waits in the queue is told by the absence of an answer.
                None if self.account.abandoned.is_cancelled() => return,
                Some(Job::Close) | None => return self.flush().await,
            }
        }
    }

    /// The next thing to do, `None` when there will be none; settling and retiring when nothing else came for long enough.
    async fn job(&mut self) -> Option<Job> {
        loop {
            if self.account.abandoned.is_cancelled() {
                return None;
            }
            if let Some(write) = self.backlog.pop_front() {
                return Some(Job::Write(write));
            }
            if let Some(job) = self.next.take() {
                return Some(job);
            }
            let settle = self.settling.is_due(&self.account);
            // Cancel-safe both: a job that is not received stays in the queue.
            let next = tokio::time::timeout(self.patience(settle), self.queue.recv());
            let next = tokio::select! {
                biased;
                () = self.account.abandoned.cancelled() => return None,
                next = next => next,
            };
            match next {
                Ok(job) => return job,
                Err(_) if settle => self.settle_alone().await,
                Err(_) => return Some(Job::Retire),
            }
        }
    }

    fn patience(&self, settle: bool) -> Duration {
        let pause = self.settle_pause.map(|until| until.saturating_duration_since(Instant::now()));
        match settle {
            true => SETTLE_AFTER.max(pause.unwrap_or_default()),
            false => IDLE_ACCOUNT,
        }
    }

    /// Settling has failed.
    pub(super) fn pause_settling(&mut self, error: &StoreError) {
        warn!(account = %self.id(), %error, "not everything can be settled now");
        self.settle_pause = Some(Instant::now() + SETTLE_PAUSE);
    }

    /// Whether settling has failed not long ago.
    pub(super) fn settling_pauses(&self) -> bool {
        self.settle_pause.is_some_and(|until| Instant::now() < until)
    }

    /// As many writes as fit one batch, without waiting for more.
    fn gather(&mut self) -> Vec<WriteJob> {
        let mut batch: Vec<WriteJob> = Vec::new();
        let mut octets = 0;
        while batch.len() < MAX_BATCH_OPS {
            let job = match self.backlog.pop_front() {
                Some(job) => job,
                // That one came first.
                None if self.next.is_some() => break,
                None => match self.queue.try_recv() {
                    Ok(Job::Write(job)) => job,
                    Ok(other) => {
                        self.next = Some(other);
                        break;
                    }
                    Err(_) => break,
                },
            };
            octets += job.octets();
            let alone = job.alone || batch.first().is_some_and(|first| first.alone);
            // Two under one id are never in one commit: the second is answered like the first.
            let same = batch.iter().any(|other| other.transaction == job.transaction);
            let full = octets > MAX_BATCH_OCTETS;
            if !batch.is_empty() && (alone || same || full) {
                self.backlog.push_front(job);
                break;
            }
            batch.push(job);
        }
        batch
    }

    /// Ends when nobody uses the account and nothing is in memory only.
    async fn retire(&mut self, registry: &Weak<Registry>) -> bool {
        let Some(registry) = registry.upgrade() else { return true };
        self.flush_claims().await;
        registry.retire(&self.account)
    }

    /// Writes what is in memory only and settles what can be.
    async fn flush(&mut self) {
        self.queue.close();
        while let Some(job) = self.queue.recv().await {
            match job {
                Job::Write(write) => self.backlog.push_back(write),
                Job::Load { answer } | Job::Open { answer, .. } => {
                    let text = "this node is shutting down".into();
                    let _ = answer.send(Err(StoreError::Unavailable(text)));
                }
                // Whoever waits is told by its absence.
                Job::Check { .. } | Job::Sweep { .. } | Job::Tend | Job::Retire | Job::Close => {}
            }
        }
        while let Some(write) = self.backlog.pop_front() {
            self.backlog.push_front(write);
            let batch = self.gather();
            self.run_batch(batch).await;
        }
        self.flush_claims().await;
        while !self.settling_pauses() && self.settling.is_due(&self.account) {
            self.settle_alone().await;
        }
        if self.settling_pauses() {
            warn!(account = %self.id(), "the rest is settled at the next start");
        }
    }
}
