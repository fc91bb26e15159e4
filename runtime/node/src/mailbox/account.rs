//! One open account as its callers have it: reads are answered here, writes go to its writer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use postroom_core::calls::Reply;
use postroom_core::error::StoreError;
use postroom_core::mailbox::{Arrival, MoveMessages, Op, StoreFlags, Target};
use postroom_core::types::{AccountId, MailboxId, SessionId, TransactionId, UidSet};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::guest::{CallInfo, Medium};
use crate::storage::{FreshBodies, Space};

use super::actor::{Job, WriteJob};
use super::limits::{CALL_DEADLINE, MAX_QUEUED_CALLS, PARALLEL_READS};
use super::shared::Shared;
use super::{Answer, Ask, Env, Request, Write, error};

/// An open account.
pub struct Account {
    id: AccountId,
    pub(super) env: Arc<Env>,
    queue: mpsc::Sender<Job>,
    shared: Mutex<Shared>,
    /// Cancelled when another claim holds the slot: the writer ends at once, and reads nothing anew.
    pub(super) abandoned: CancellationToken,
    /// Cancelled when the writer has ended.
    pub(super) over: CancellationToken,
}

/// Who asks: what the parts of a request have in common.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub(super) session: SessionId,
    pub(super) transaction: TransactionId,
    pub(super) quota: Option<u64>,
}

impl Account {
    pub(super) fn new(id: AccountId, env: Arc<Env>) -> (Arc<Self>, mpsc::Receiver<Job>) {
        let (queue, receiver) = mpsc::channel(MAX_QUEUED_CALLS);
        let account = Self {
            id,
            env,
            queue,
            shared: Mutex::default(),
            abandoned: CancellationToken::new(),
            over: CancellationToken::new(),
        };
        (Arc::new(account), receiver)
    }

    pub(super) fn id(&self) -> AccountId {
        self.id
    }

    pub(super) fn space(&self) -> Space {
        Space::Account(self.id)
    }

    pub(super) fn call(&self, transaction: TransactionId) -> CallInfo {
        CallInfo::new(self.id, transaction)
    }

    /// Whether the messages' octets are where the host commits nothing.
    pub(super) fn is_outside(&self) -> bool {
        self.env.stores.messages.medium() == Medium::Outside
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic under it leaves a committed state or none: both can be gone on from.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at (or changes) what is shared. Short: nothing in here waits.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Shared) -> T) -> T {
        look(&mut self.lock())
    }

    /// Carries out a call.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let Request { session, transaction, quota, .. } = request;
        let asker = Asker { session, transaction, quota };
        match request.ask {
            Ask::Mailboxes => Ok(Answer::Mailboxes(self.committed().await?.list())),
            Ask::Status(name) => Ok(Answer::Status(self.status(&name).await?)),
            Ask::Used => Ok(Answer::Used(self.committed().await?.row.used_octets)),
            Ask::Select { name, read_write } => {
                let (selected, watch) = self.select(session, &name, read_write).await?;
                Ok(Answer::Selected(Box::new(selected), watch))
            }
            Ask::Attach { mailbox, uid_validity, read_write, released } => {
                let which = (mailbox, uid_validity);
                Ok(Answer::Attached(self.attach(session, which, read_write, released).await?))
            }
            Ask::Changes { since, known, released } => {
                Ok(Answer::Changes(self.changes(session, since, known, released).await?))
            }
            Ask::Seen { uids, limit } => {
                let (seen, more) = self.seen(session, &uids, limit).await?;
                Ok(Answer::Seen(seen, more))
            }
            Ask::Body(uid) => Ok(Answer::Body(self.body(asker, uid).await?)),
            Ask::Write(write) => Ok(Answer::Done(self.write(asker, write).await?)),
            Ask::Check { step, repair } => {
                let lost = StoreError::Unavailable("the check took too long".into());
                let job = |answer| Job::Check { step, repair, answer };
                Ok(Answer::Checked(self.queued(job, lost).await?))
            }
            Ask::Sweep(step) => {
                let lost = StoreError::Unavailable("the sweep took too long".into());
                let job = |answer| Job::Sweep { step, answer };
                Ok(Answer::Swept(self.queued(job, lost).await?))
            }
        }
    }

    /// Leaves the session's active mailbox.
    pub(super) fn leave(&self, session: SessionId) {
        let left = self.with(|shared| {
            let left = shared.sessions.deselect(session);
            left.inspect(|id| shared.forget_told(*id))
        });
        if left.is_some() {
            self.nudge(Job::Tend);
        }
    }

    /// Wakes the writer. When its queue is full it is awake.
    pub(super) fn nudge(&self, job: Job) {
        let _ = self.queue.try_send(job);
    }

    /// Ends the writer after everything that is queued.
    pub(super) async fn close(&self) {
        // When it has ended already there is nobody to receive it.
        let _ = self.queue.send(Job::Close).await;
    }

    /// Comes back when the writer has ended.
    pub(super) async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// Queues a job for the writer and waits for its answer.
    pub(super) async fn queued<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
        lost: StoreError,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(job(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                StoreError::Busy("too many calls for one account".into())
            }
            mpsc::error::TrySendError::Closed(_) => {
                StoreError::Unavailable("the account was closed meanwhile".into())
            }
        })?;
        match tokio::time::timeout(CALL_DEADLINE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(lost),
        }
    }

    async fn write(&self, asker: Asker, write: Write) -> Result<Reply, StoreError> {
        let (op, bodies) = self.op(asker.session, write).await?;
        let job = |answer| {
            let (transaction, quota) = (asker.transaction, asker.quota);
            Job::Write(WriteJob { op, bodies, transaction, quota, answer, alone: false })
        };
        self.queued(job, StoreError::UnknownOutcome).await
    }

    /// The operation that a write means, with its bodies stored where they are large.
    async fn op(&self, session: SessionId, write: Write) -> Result<(Op, FreshBodies), StoreError> {
        let op = match write {
            Write::Create { name, special_use } => Op::Create { name, special_use },
            Write::Delete(name) => Op::Delete { name },
            Write::Rename { from, to } => Op::Rename { from, to },
            Write::Subscribe { name, on } => Op::Subscribe { name, on },
            Write::Append { target, messages } => return self.append(target, messages).await,
            Write::Store { uids, change, unchanged_since } => Op::Store(StoreFlags {
                mailbox: self.writable(session).await?,
                uids,
                change,
                unchanged_since,
                done: UidSet::default(),
                modified: UidSet::default(),
            }),
            Write::Expunge { uids } => {
                let mailbox = self.writable(session).await?;
                Op::Expunge { mailbox, uids, done: UidSet::default() }
            }
            Write::Copy { uids, to } => {
                let from = self.active(session).await?.active.mailbox;
                Op::Copy { from, uids, to }
            }
            Write::Move { uids, to } => {
                let from = self.writable(session).await?;
                Op::Move(MoveMessages { from, uids, to, done: None, rename: false })
            }
        };
        Ok((op, FreshBodies::none(self.env.engine.clone(), self.space())))
    }

    async fn writable(&self, session: SessionId) -> Result<MailboxId, StoreError> {
        let active = self.active(session).await?.active;
        match active.read_write {
            true => Ok(active.mailbox),
            false => Err(StoreError::Denied("the mailbox is selected read-only".into())),
        }
    }

    async fn append(
        &self,
        target: Target,
        messages: Vec<(Arrival, Bytes)>,
    ) -> Result<(Op, FreshBodies), StoreError> {
        let (messages, octets): (Vec<Arrival>, Vec<Bytes>) = messages.into_iter().unzip();
        let engine = &self.env.engine;
        let store = |octets| error::read(FreshBodies::store(engine.clone(), self.space(), octets));
        let mut stored = futures::stream::iter(octets).map(store).buffered(PARALLEL_READS);
        let mut bodies = FreshBodies::none(engine.clone(), self.space());
        while let Some(next) = stored.try_next().await? {
            bodies.append(next);
        }
        Ok((Op::Append { target, messages }, bodies))
    }
}
