//! One batch: planned on a draft, carried out in one transaction, committed, then seen.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger;
use postroom_core::mailbox::{Context, Draft, Op, Outcome, Planned, Settled, Step};
use postroom_core::types::{MailboxId, TransactionId};
use tracing::{Instrument, debug, debug_span, warn};

use crate::storage::{Commit, Fence, Idempotency, StorageError, Txn};

use super::actor::{Actor, WriteJob};
use super::error::{guest, read, storage_error};
use super::limits::RESOLVE_PAUSES;
use super::mint::{now, random};
use super::perform::Performer;
use super::settle::SettlePage;

/// How often a batch is planned anew because the account was not as it was in memory.
const MAX_ATTEMPTS: usize = 3;

/// What became of an operation before the commit.
type Found = Result<(Outcome, Option<Op>), StoreError>;

/// A batch on its way: operations with what was found, and what will be committed.
struct Drafted {
    draft: Draft,
    txn: Txn,
    /// Of the first so many jobs of the batch.
    found: Vec<Found>,
    settle: Option<SettlePage>,
}

/// Why a batch was not committed.
pub(super) enum Failed {
    /// One of several operations cannot be carried out: each is tried alone.
    Together(StoreError),
    /// The account was read again: the batch can be planned anew.
    Stale,
    /// A body or a name of a body was not as it should be; the account is read again.
    Conflict,
    /// The page of settling that was taken along has failed, or may have: the batch goes on without.
    Page(StoreError),
    /// One transaction had its effect before.
    AlreadyDone(Idempotency),
    /// It is not known what became of it; whether this node gave up waiting, so that it may still
    /// happen.
    Unknown { gave_up: bool },
    /// Certainly without effect, for all of them.
    All(StoreError),
}

impl Actor {
    /// Reads the account unless it is in memory; makes it when it is new.
    pub(super) async fn ensure_loaded(&mut self) -> Result<(), StoreError> {
        if self.account.with(|shared| shared.state.is_some()) {
            return Ok(());
        }
        let transaction = TransactionId(random());
        let span = debug_span!("load", account = %self.id(), %transaction);
        self.load(transaction).instrument(span).await
    }

    /// The fence that this node has for the account now. None for an account that was given up: another one
    /// may stand in its place under the same claim.
    pub(super) async fn present_fence(&self) -> Result<Fence, StoreError> {
        let fence = self.account.env.claims.fence(self.slot()).await?;
        match self.account.abandoned.is_cancelled() {
            true => Err(StoreError::Fenced),
            false => Ok(fence),
        }
    }

    async fn load(&mut self, transaction: TransactionId) -> Result<(), StoreError> {
        self.fence = Some(self.present_fence().await?);
        // After the claim: whoever begins a round later takes the slot over, or is heard.
        let stores = &self.account.env.stores;
        let rounds = [stores.mailboxes.round(), stores.messages.round()];
        super::current(&self.account.env.engine, rounds).await?;
        for _ in 0..MAX_ATTEMPTS {
            // Before anything is read: a guard whose outcome was unknown may come to be in between.
            if self.must_be_guarded().await? {
                match self.guard(transaction).await {
                    Ok(()) | Err(Failed::Stale | Failed::Conflict) => continue,
                    Err(failed) => return Err(failed.error()),
                }
            }
            let mut loaded = self.account.load(transaction).await?;
            self.head = loaded.head;
            self.settling = loaded.settling;
            if loaded.state.is_empty() {
                let draft = Draft::new(&loaded.state);
                match self.make_account(draft, transaction).await {
                    Ok(draft) => loaded.state = draft.into_account().0,
                    Err(Failed::Stale | Failed::Conflict) => continue,
                    Err(failed) => return Err(failed.error()),
                }
            }
            self.reopen(&mut loaded.state, transaction).await?;
            self.account.with(|shared| shared.install_read(loaded.state));
            debug!(head = self.head, "read");
            return Ok(());
        }
        Err(StoreError::Busy("the account changes all the time".into()))
    }

    /// The first commit of an account: its spaces and its INBOX.
    async fn make_account(
        &mut self,
        mut draft: Draft,
        transaction: TransactionId,
    ) -> Result<Draft, Failed> {
        let txn = Txn::new(self.account.env.engine.clone(), self.account.space());
        let stores = self.account.env.stores.clone();
        let call = self.account.call(transaction);
        guest(stores.mailboxes.create(call, &txn)).await.map_err(Failed::All)?;
        guest(stores.messages.create(call, &txn)).await.map_err(Failed::All)?;
        let planned = self.plan(&mut draft, &Op::EnsureInbox, None).map_err(Failed::All)?;
        self.perform(&txn, transaction, planned.steps, &[]).await.map_err(Failed::All)?;
        let performer = Performer { account: &self.account, txn: &txn, call };
        performer.ledger(self.guarded().as_slice()).map_err(Failed::All)?;
        self.commit(&draft, &txn, Vec::new()).await?;
        Ok(draft)
    }

    /// Opens again what sessions have active, with what they may still see of removed messages.
    async fn reopen(
        &mut self,
        state: &mut postroom_core::mailbox::Account,
        transaction: TransactionId,
    ) -> Result<(), StoreError> {
        let (active, previous) = self.account.with(|shared| {
            let active: Vec<_> = shared.sessions.mailboxes().collect();
            (
                active.into_iter().map(|id| (id, shared.sessions.told(id))).collect::<Vec<_>>(),
                shared.previous.clone(),
            )
        });
        for (id, told) in active {
            let Some(mailbox) = state.mailbox(id).cloned() else { continue };
            let opened = self.account.load_mailbox(&mailbox, transaction).await;
            let mut opened = match opened {
                // It stays closed, and only who has it active hears of it.
                Err(error @ StoreError::Damaged(_)) => {
                    warn!(account = %self.id(), mailbox = %id, %error, "cannot be opened");
                    continue;
                }
                opened => opened?,
            };
            let before = previous.as_ref().and_then(|state| state.mailbox(id)?.open.clone());
            match (&mut opened.open, before, told) {
                (Some(open), Some(before), Some(told)) => {
                    let upto = mailbox.counters.highest_modseq;
                    let tombstones = self.account.tombstones(id, told, upto).await?;
                    open.inherit(&before, &tombstones);
                }
                _ => self.evict_unless_told(&mailbox),
            }
            state.replace(opened);
        }
        Ok(())
    }

    /// A mailbox is in memory again of whose removed messages nothing is known any more: sessions
    /// that were not told of them all cannot go on.
    fn evict_unless_told(&self, mailbox: &postroom_core::mailbox::Mailbox) {
        let id = mailbox.row.id;
        self.account.with(|shared| {
            if shared.sessions.told(id).is_some_and(|told| told < mailbox.counters.removed) {
                shared.evict(id);
            }
        });
    }

    /// Brings a mailbox's index into memory.
    pub(super) async fn open(&mut self, id: MailboxId) -> Result<(), StoreError> {
        self.ensure_loaded().await?;
        let mailbox = self.account.with(|s| s.state.as_ref()?.mailbox(id).cloned());
        let Some(mailbox) = mailbox else {
            return Err(StoreError::NotFound("the mailbox".into()));
        };
        if mailbox.open.is_some() {
            return Ok(());
        }
        let transaction = TransactionId(random());
        let span = debug_span!("open", account = %self.id(), mailbox = %id, %transaction);
        let opened = self.account.load_mailbox(&mailbox, transaction).instrument(span).await?;
        self.evict_unless_told(&mailbox);
        self.account.with(|shared| {
            if let Some(state) = &mut shared.state {
                state.replace(opened);
                shared.used(id);
            }
            shared.close_idle(super::limits::MAX_IDLE_MAILBOXES);
        });
        Ok(())
    }

    /// Carries out a batch and answers its callers.
    pub(super) async fn run_batch(&mut self, mut jobs: Vec<WriteJob>) {
        let mut stale = 0;
        while !jobs.is_empty() && stale < MAX_ATTEMPTS {
            if let Err(error) = self.ensure_loaded().await {
                return answer_all(jobs, &error);
            }
            let failed = match self.attempt(&mut jobs).await {
                Ok(drafted) => return self.announce(jobs, drafted),
                Err(failed) => failed,
            };
            match failed {
                Failed::Stale | Failed::Conflict => stale += 1,
                Failed::Page(error) => {
                    self.pause_settling(&error);
                    stale += 1;
                }
                Failed::AlreadyDone(before) => {
                    // Not one of ours would be an engine's mistake: not for ever, then.
                    stale += usize::from(!self.answer_done(&mut jobs, &before).await);
                }
                Failed::Together(error) if jobs.len() > 1 => {
                    debug!(%error, "each operation of the batch is tried alone");
                    return self.try_alone(jobs);
                }
                Failed::Unknown { gave_up } => return self.resolve(jobs, gave_up).await,
                Failed::Together(error) | Failed::All(error) => return answer_all(jobs, &error),
            }
        }
        answer_all(jobs, &StoreError::Unavailable("the account changes all the time".into()));
    }

    fn try_alone(&mut self, jobs: Vec<WriteJob>) {
        for job in jobs.into_iter().rev() {
            self.backlog.push_front(WriteJob { alone: true, ..job });
        }
    }

    /// Plans, performs and commits. Jobs that need a mailbox opened after others of the batch have
    /// changed something go back to the backlog.
    async fn attempt(&mut self, jobs: &mut Vec<WriteJob>) -> Result<Drafted, Failed> {
        let mut drafted = self.draft(jobs).await?;
        for job in jobs.drain(drafted.found.len()..).rev() {
            self.backlog.push_front(job);
        }
        if !drafted.draft.has_changes() {
            return Ok(drafted);
        }
        if jobs.iter().all(|job| !job.alone) {
            drafted.settle = self.settle_along(&mut drafted.draft, &drafted.txn).await?;
        }
        let found = jobs.iter().zip(&drafted.found);
        let transactions = found.filter_map(|(job, found)| match found {
            Ok((outcome, None)) => {
                Some(Idempotency { transaction: job.transaction, result: ledger::encode(outcome) })
            }
            Ok((_, Some(_))) | Err(_) => None,
        });
        let transactions = transactions.collect();
        let committed = self.commit(&drafted.draft, &drafted.txn, transactions).await;
        match drafted.settle {
            Some(_) => committed.map_err(Failed::perhaps_of_page)?,
            None => committed?,
        }
        Ok(drafted)
    }

    async fn draft(&mut self, jobs: &[WriteJob]) -> Result<Drafted, Failed> {
        let mut draft = Draft::new(&self.state()?);
        let txn = Txn::new(self.account.env.engine.clone(), self.account.space());
        let mut found = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.open_for(&draft, &job.op).await {
                Ok(Opened::Nothing) => {}
                Ok(Opened::Some) => draft = Draft::new(&self.state()?),
                Ok(Opened::Later) => break,
                Err(error) => {
                    found.push(Err(error));
                    continue;
                }
            }
            found.push(self.plan_and_perform(&mut draft, &txn, job).await?);
        }
        Ok(Drafted { draft, txn, found, settle: None })
    }

    fn state(&self) -> Result<postroom_core::mailbox::Account, Failed> {
        self.account.with(|shared| shared.state.clone()).ok_or(Failed::Stale)
    }

    /// Opens what an operation needs. Only while the batch has changed nothing: what is read is what
    /// is committed.
    async fn open_for(&mut self, draft: &Draft, op: &Op) -> Result<Opened, StoreError> {
        let mut opened = Opened::Nothing;
        let mut closed = draft.must_open(op);
        while !closed.is_empty() {
            if draft.has_changes() {
                return Ok(Opened::Later);
            }
            for id in closed {
                self.open(id).await?;
            }
            opened = Opened::Some;
            let Ok(state) = self.state() else { return Ok(opened) };
            closed = Draft::new(&state).must_open(op);
        }
        Ok(opened)
    }

    /// What an operation comes to. A call that is repeated may find nothing left to do, or a state
    /// in which it makes no sense: then what it did the first time is its answer.
    async fn plan_and_perform(
        &mut self,
        draft: &mut Draft,
        txn: &Txn,
        job: &WriteJob,
    ) -> Result<Found, Failed> {
        let planned = self.plan(draft, &job.op, job.quota);
        let idle = planned.as_ref().map_or(true, |planned| planned.steps.is_empty());
        if idle && let Some(outcome) = self.remembered(job.transaction).await {
            return match self.is_behind().await.map_err(Failed::All)? {
                // The effect is not in the state from which the answer would be taken.
                true => {
                    self.account.with(|shared| shared.drop_state());
                    Err(Failed::Stale)
                }
                false => Ok(Ok((outcome, None))),
            };
        }
        match planned {
            Err(error) => Ok(Err(error)),
            Ok(planned) => {
                let Planned { steps, outcome, rest } = planned;
                let performed = self.perform(txn, job.transaction, steps, &job.bodies).await;
                performed.map_err(Failed::Together)?;
                Ok(Ok((outcome, rest)))
            }
        }
    }

    fn plan(&self, draft: &mut Draft, op: &Op, quota: Option<u64>) -> Result<Planned, StoreError> {
        let mint = self.account.env.mint.clone();
        let mut context = Context { now: now(), quota, mint: &mut || mint.next() };
        draft.plan(op, &mut context)
    }

    async fn perform(
        &self,
        txn: &Txn,
        transaction: TransactionId,
        steps: Vec<Step>,
        bodies: &[crate::storage::Body],
    ) -> Result<(), StoreError> {
        let call = self.account.call(transaction);
        let performer = Performer { account: &self.account, txn, call };
        let span = debug_span!("perform", %transaction);
        let steps = async {
            for step in steps {
                performer.perform(step, bodies).await?;
            }
            Ok(())
        };
        steps.instrument(span).await
    }

    /// What a transaction came to when it had its effect before. When that cannot be read it is
    /// taken as new: the commit asks again.
    async fn remembered(&self, transaction: TransactionId) -> Option<Outcome> {
        let result = self.account.env.engine.transaction(self.account.space(), transaction);
        let result = read(result).await.ok().flatten()?;
        ledger::decode(&result).ok()
    }

    /// Whether something was committed that is not in memory: a commit that this node gave up
    /// waiting for can land late.
    async fn is_behind(&self) -> Result<bool, StoreError> {
        let head = read(self.account.env.engine.head(self.account.space())).await?;
        Ok(head != self.head)
    }

    /// Sees to it that what is committed is in memory, and that watchers hear of it: before an
    /// answer that was remembered is given.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.is_behind().await? {
            self.account.with(|shared| shared.drop_state());
        }
        self.ensure_loaded().await
    }

    async fn commit(
        &mut self,
        draft: &Draft,
        txn: &Txn,
        transactions: Vec<Idempotency>,
    ) -> Result<(), Failed> {
        let call = self.account.call(TransactionId([0; 16]));
        let performer = Performer { account: &self.account, txn, call };
        performer.ledger(&draft.ledger()).map_err(Failed::Together)?;
        let commit = Commit {
            space: self.account.space(),
            fence: self.fence,
            expected_head: Some(self.head),
            preconditions: Vec::new(),
            transactions,
            writes: txn.take(),
            now: now(),
        };
        metrics::histogram!("postroom_batch_operations").record(commit.transactions.len() as f64);
        let began = Instant::now();
        let committed = self.account.env.commit(commit).await;
        metrics::histogram!("postroom_commit_seconds").record(began.elapsed().as_secs_f64());
        match committed {
            Some(Ok(committed)) => {
                self.head = committed.head;
                Ok(())
            }
            Some(Err(error)) => Err(self.refused(error)),
            None => {
                self.account.with(|shared| shared.drop_state());
                Err(Failed::Unknown { gave_up: true })
            }
        }
    }

    /// What a commit without (known) effect means for what is in memory.
    pub(super) fn refused(&mut self, error: StorageError) -> Failed {
        match error {
            StorageError::AlreadyDone(before) => Failed::AlreadyDone(before),
            StorageError::HeadMoved { .. } => {
                self.account.with(|shared| shared.drop_state());
                Failed::Stale
            }
            StorageError::Conflict => {
                self.account.with(|shared| shared.drop_state());
                Failed::Conflict
            }
            StorageError::Fenced => {
                warn!(account = %self.id(), "another claim holds the slot");
                self.account.with(|shared| shared.drop_state());
                if let Some(fence) = self.fence.take() {
                    self.account.env.claims.refused(fence);
                }
                Failed::All(StoreError::Fenced)
            }
            StorageError::UnknownOutcome(error) => {
                warn!(account = %self.id(), %error, "the outcome of a commit is unknown");
                self.account.with(|shared| shared.drop_state());
                Failed::Unknown { gave_up: false }
            }
            StorageError::Limit(_) => Failed::Together(storage_error(error)),
            StorageError::WentBack(_) => {
                self.account.with(|shared| shared.drop_state());
                Failed::All(storage_error(error))
            }
            StorageError::Unavailable(_) | StorageError::Damaged(_) => {
                Failed::All(storage_error(error))
            }
        }
    }

    /// Puts the draft in place of the state, tells the watchers, answers the callers.
    fn announce(&mut self, jobs: Vec<WriteJob>, drafted: Drafted) {
        let changed = drafted.draft.has_changes();
        let state = self.install(drafted.draft, drafted.settle);
        if changed && self.account.is_outside() {
            self.settling.written();
        }
        for (job, found) in jobs.into_iter().zip(drafted.found) {
            match found {
                Ok((outcome, None)) => job.answer(Ok(outcome.reply(&state))),
                Ok((_, Some(rest))) => self.backlog.push_front(WriteJob { op: rest, ..job }),
                Err(error) => job.answer(Err(error)),
            }
        }
    }

    fn install(
        &mut self,
        draft: Draft,
        settled: Option<SettlePage>,
    ) -> postroom_core::mailbox::Account {
        let changed = draft.has_changes();
        let (state, touched) = draft.into_account();
        if !changed {
            return state;
        }
        for id in touched.iter().filter(|id| state.mailbox(**id).is_none()) {
            self.settling.dropped(*id);
        }
        let written: BTreeSet<MailboxId> = touched.clone();
        let state = self.account.with(|shared| {
            let marks = |id: &MailboxId| Some(state.mailbox(*id)?.counters.recent_mark);
            let marks: Vec<_> = written.iter().map(|id| (*id, marks(id))).collect();
            shared.install(state, &touched);
            for (id, mark) in marks {
                // A claim made meanwhile is still in memory only.
                let now = shared.state.as_ref().and_then(|state| state.mailbox(id));
                if now.map(|mailbox| mailbox.counters.recent_mark) == mark {
                    shared.claimed.remove(&id);
                }
            }
            shared.state.clone().unwrap_or_default()
        });
        if let Some(page) = settled {
            self.settling.committed(page);
        }
        state
    }

    /// Answers the call that had its effect before; the others go on.
    async fn answer_done(&mut self, jobs: &mut Vec<WriteJob>, before: &Idempotency) -> bool {
        let at = jobs.iter().position(|job| job.transaction == before.transaction);
        let Some(at) = at else { return false };
        let job = jobs.remove(at);
        let caught_up = self.catch_up().await;
        // Once more, now that nothing is under way: storage may have said so of a commit that it lost then.
        let space = self.account.space();
        let there = read(self.account.env.engine.transaction(space, before.transaction)).await;
        let answer = match (caught_up, there) {
            (Ok(()), Ok(Some(result))) => self.outcome_of(&result),
            // It is done, but its caller could not see that: it asks again.
            _ => Err(StoreError::UnknownOutcome),
        };
        job.answer(answer);
        true
    }

    fn outcome_of(&self, result: &Bytes) -> Result<postroom_core::calls::Reply, StoreError> {
        let outcome: Outcome = ledger::decode(result)?;
        let state = self.account.with(|shared| shared.state.clone());
        Ok(outcome.reply(&state.unwrap_or_default()))
    }

    /// Finds out what became of a commit, by the transactions that it carried.
    async fn resolve(&mut self, jobs: Vec<WriteJob>, gave_up: bool) {
        let mut loaded = false;
        for pause in RESOLVE_PAUSES {
            tokio::time::sleep(pause).await;
            loaded = self.ensure_loaded().await.is_ok();
            if loaded {
                break;
            }
        }
        let mut results = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let space = self.account.space();
            let result = self.account.env.engine.transaction(space, job.transaction);
            results.push(read(result).await);
        }
        // Only now: what was found may have landed after the account was read.
        let caught_up = self.catch_up().await.is_ok();
        for (job, result) in jobs.into_iter().zip(results) {
            job.answer(match result {
                Ok(Some(result)) if caught_up => self.outcome_of(&result),
                Ok(None) if loaded && !gave_up => {
                    Err(StoreError::Unavailable("storage failed; nothing was done".into()))
                }
                Ok(_) | Err(_) => Err(StoreError::UnknownOutcome),
            });
        }
    }

    /// A page of settling in a commit that is made anyway. When the page itself fails the batch goes
    /// on without.
    async fn settle_along(
        &mut self,
        draft: &mut Draft,
        txn: &Txn,
    ) -> Result<Option<SettlePage>, Failed> {
        if self.settling_pauses() || !self.settling.is_due(&self.account) {
            return Ok(None);
        }
        let transaction = TransactionId(random());
        let page = match self.settling.page(&self.account, txn, transaction).await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.pause_settling(&error);
                return Ok(None);
            }
        };
        if let Some(error) = &page.left {
            self.pause_settling(error);
        }
        let op = Op::Settle(page.settled.clone());
        let planned = self.plan(draft, &op, None).map_err(Failed::Page)?;
        let performed = self.perform(txn, transaction, planned.steps, &[]).await;
        performed.map_err(Failed::Page)?;
        Ok(Some(page))
    }

    /// A page of settling in a commit of its own.
    pub(super) async fn settle_alone(&mut self) {
        let settled = match self.ensure_loaded().await {
            Ok(()) => self.try_settle().await.map_err(Failed::error),
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            self.pause_settling(&error);
        }
    }

    async fn try_settle(&mut self) -> Result<(), Failed> {
        let mut draft = Draft::new(&self.state()?);
        let txn = Txn::new(self.account.env.engine.clone(), self.account.space());
        let page = self.settle_along(&mut draft, &txn).await?;
        if page.is_some() {
            self.commit(&draft, &txn, Vec::new()).await?;
            self.install(draft, page);
        }
        Ok(())
    }

    /// Writes claims of what is recent that are in memory only.
    pub(super) async fn flush_claims(&mut self) {
        let claimed: Vec<MailboxId> =
            self.account.with(|shared| shared.claimed.iter().copied().collect());
        if claimed.is_empty() || self.ensure_loaded().await.is_err() {
            return;
        }
        if let Err(failed) = self.try_flush(&claimed).await {
            let error = failed.error();
            warn!(account = %self.id(), %error, "messages may be recent once more");
        }
    }

    async fn try_flush(&mut self, claimed: &[MailboxId]) -> Result<(), Failed> {
        let state = self.state()?;
        let mut draft = Draft::new(&state);
        for mailbox in claimed.iter().filter_map(|id| state.mailbox(*id)) {
            let settled = Some((mailbox.row.id, mailbox.counters.settled));
            let op = Op::Settle(Settled { settled, ..Settled::default() });
            self.plan(&mut draft, &op, None).map_err(Failed::All)?;
        }
        if draft.has_changes() {
            let txn = Txn::new(self.account.env.engine.clone(), self.account.space());
            self.commit(&draft, &txn, Vec::new()).await?;
            self.install(draft, None);
        }
        Ok(())
    }
}

/// Whether mailboxes were opened for an operation.
enum Opened {
    /// All that it needs were open.
    Nothing,
    /// Some were: a draft made before does not have them.
    Some,
    /// They can be only after the batch is committed.
    Later,
}

impl Failed {
    pub(super) fn error(self) -> StoreError {
        match self {
            Self::Together(error) | Self::All(error) | Self::Page(error) => error,
            Self::Stale | Self::Conflict => {
                StoreError::Unavailable("the account changed meanwhile".into())
            }
            Self::AlreadyDone(_) | Self::Unknown { .. } => StoreError::UnknownOutcome,
        }
    }

    /// Of a commit that had a page of settling in it: what can be the page's fault is taken for it.
    fn perhaps_of_page(self) -> Self {
        match self {
            Self::Together(error)
            | Self::All(error @ (StoreError::Damaged(_) | StoreError::Limit(_))) => {
                Self::Page(error)
            }
            Self::Conflict => Self::Page(self.error()),
            Self::Stale
            | Self::Page(_)
            | Self::AlreadyDone(_)
            | Self::Unknown { .. }
            | Self::All(_) => self,
        }
    }
}

fn answer_all(jobs: Vec<WriteJob>, error: &StoreError) {
    jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
}
