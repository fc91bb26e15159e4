//! Reads: answered from a snapshot of what is committed, beside the writer, never through it.

use bytes::Bytes;
use postroom_core::calls::{Changes, MailboxStatus, Selected};
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, BodyRow};
use postroom_core::mailbox::{Account as State, Seen};
use postroom_core::types::{MailboxId, MailboxName, ModSeq, SessionId, Uid, UidSet, UidValidity};
use tokio::sync::watch;

use crate::guest::Part;
use crate::storage::{Area, Body, Key, View};

use super::account::{Account, Asker};
use super::actor::Job;
use super::ask::News;
use super::error::read;
use super::shared::ActiveMailbox;

/// How often a read starts over because the account changed under it.
const MAX_ATTEMPTS: usize = 5;
/// Octets from which a digest is computed off the async threads.
const LARGE_BODY: usize = 256 << 10;

impl Account {
    /// What is committed, read first if need be.
    pub(super) async fn committed(&self) -> Result<State, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(state) = self.with(|shared| shared.state.clone()) {
                return Ok(state);
            }
            let lost = StoreError::Unavailable("the account cannot be read".into());
            self.queued(|answer| Job::Load { answer }, lost).await?;
        }
        Err(moving())
    }

    pub(super) async fn status(&self, name: &MailboxName) -> Result<MailboxStatus, StoreError> {
        let account = self.committed().await?;
        account.find(name).map(|mailbox| mailbox.status()).ok_or_else(|| not_found(name))
    }

    /// The session's active mailbox, open.
    pub(super) async fn active(&self, session: SessionId) -> Result<ActiveMailbox, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            self.committed().await?;
            let active = self.with(|shared| shared.active(session)).ok_or_else(gone)?;
            match active.mailbox.open {
                Some(_) => return Ok(active),
                None => self.open(active.active.mailbox).await?,
            }
        }
        Err(moving())
    }

    async fn open(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        let lost = StoreError::Unavailable("the mailbox cannot be read".into());
        self.queued(|answer| Job::Open { mailbox, answer }, lost).await
    }

    pub(super) async fn select(
        &self,
        session: SessionId,
        name: &MailboxName,
        read_write: bool,
    ) -> Result<(Selected, watch::Receiver<News>), StoreError> {
        self.leave(session);
        for _ in 0..MAX_ATTEMPTS {
            let account = self.committed().await?;
            let id = account.find(name).ok_or_else(|| not_found(name))?.row.id;
            let selected = self.with(|shared| shared.select(session, id, read_write));
            if let Some((mailbox, recent, watch)) = selected {
                return Ok((mailbox.selected(recent, read_write), watch));
            }
            self.open(id).await?;
        }
        Err(moving())
    }

    /// Goes on with a mailbox that the session had active where the account was open before.
    ///
    /// # Errors
    /// `NotFound` when it has been deleted meanwhile, or too much was removed from it since to be told.
    pub(super) async fn attach(
        &self,
        session: SessionId,
        (id, uid_validity): (MailboxId, UidValidity),
        read_write: bool,
        released: ModSeq,
    ) -> Result<watch::Receiver<News>, StoreError> {
        self.leave(session);
        for _ in 0..MAX_ATTEMPTS {
            let account = self.committed().await?;
            let mailbox = account.mailbox(id).ok_or_else(gone)?;
            if mailbox.row.uid_validity != uid_validity {
                return Err(gone());
            }
            let counters = mailbox.counters;
            if released > counters.highest_modseq {
                // What was announced is not there: storage is older than it was.
                return Err(StoreError::Damaged(format!("mailbox {id} has gone back")));
            }
            let removals = match released < counters.removed {
                true if released < counters.low_water => return Err(gone()),
                true => self.tombstones(id, released, counters.removed).await?,
                false => Vec::new(),
            };
            let upto = (released, counters.removed);
            let attached =
                self.with(|shared| shared.attach(session, id, read_write, upto, &removals));
            match attached {
                Some(watch) => return Ok(watch),
                None => self.open(id).await?,
            }
        }
        Err(moving())
    }

    pub(super) async fn changes(
        &self,
        session: SessionId,
        since: ModSeq,
        known: Option<Uid>,
        released: ModSeq,
    ) -> Result<Changes, StoreError> {
        self.active(session).await?;
        let (active, recent, settleable) = self.with(|shared| {
            shared.sessions.release(session, released);
            let id = shared.sessions.active(session).ok_or_else(gone)?.mailbox;
            shared.forget_told(id);
            let read_write = shared.sessions.active(session).is_some_and(|a| a.read_write);
            let recent = shared.recent(id, read_write);
            let active = shared.active(session).ok_or_else(gone)?;
            Ok::<_, StoreError>((active, recent, shared.settleable(id).is_some()))
        })?;
        if settleable {
            self.nudge(Job::Tend);
        }
        let changes = active.mailbox.changes(since, known);
        Ok(Changes { recent, ..changes })
    }

    pub(super) async fn seen(
        &self,
        session: SessionId,
        uids: &UidSet,
        limit: usize,
    ) -> Result<(Vec<Seen>, bool), StoreError> {
        let ActiveMailbox { active, mailbox } = self.active(session).await?;
        let open = mailbox.open.as_ref().ok_or_else(moving)?;
        Ok(open.visible(uids, active.released, limit))
    }

    /// A message's octets, which are what the ledger says they must be.
    pub(super) async fn body(&self, asker: Asker, uid: Uid) -> Result<Option<Bytes>, StoreError> {
        let one = UidSet::range(uid, uid);
        for _ in 0..MAX_ATTEMPTS {
            let ActiveMailbox { active, mailbox } = self.active(asker.session).await?;
            let open = mailbox.open.as_ref().ok_or_else(moving)?;
            let seen = open.visible(&one, active.released, 1).0.into_iter().next();
            let Some(seen) = seen else { return Ok(None) };
            let mailbox = active.mailbox;
            if let Some(row) = self.body_row(mailbox, &seen).await? {
                if let Some(octets) = self.env.recent.get(self.id(), row.digest) {
                    return Ok(Some(octets));
                }
                let octets = self.octets(asker, mailbox, &row, seen.facts.size).await;
                return match octets {
                    // Bodies of a mailbox that goes away may be gone before it is asked again.
                    Err(StoreError::Damaged(_)) if !self.is_there(mailbox).await? => Err(gone()),
                    Err(error) => Err(error),
                    Ok(octets) => {
                        self.env.recent.put(self.id(), row.digest, &octets);
                        Ok(Some(octets))
                    }
                };
            }
            // Its removal is durable but not yet seen in memory: the tombstone's key is known when
            // the writer has done with the batch in its hands.
            self.writer_is_done(mailbox).await?;
        }
        Err(StoreError::Damaged(format!("the ledger has no row for UID {uid}")))
    }

    /// Comes back when whatever was committed before is seen. The writer takes its jobs in order,
    /// and this one is idle, because the mailbox is open.
    async fn writer_is_done(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        match self.open(mailbox).await {
            // Deleted meanwhile: the next look says so in its own words.
            Ok(()) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn is_there(&self, mailbox: MailboxId) -> Result<bool, StoreError> {
        Ok(self.committed().await?.mailbox(mailbox).is_some())
    }

    async fn body_row(
        &self,
        mailbox: MailboxId,
        seen: &Seen,
    ) -> Result<Option<BodyRow>, StoreError> {
        let uid = seen.facts.uid;
        let octets = match seen.removed {
            Some(modseq) => ledger::tombstone_key(mailbox, modseq, uid),
            None => ledger::body_key(mailbox, uid),
        };
        let keys = vec![Key { area: Area::Ledger, octets }];
        let mut found = read(self.env.engine.get_many(self.space(), keys)).await?;
        found.pop().flatten().map(|row| ledger::decode(&row)).transpose()
    }

    /// The octets of a message of at most this size, verified.
    pub(super) async fn octets(
        &self,
        asker: Asker,
        mailbox: MailboxId,
        row: &BodyRow,
        size: u64,
    ) -> Result<Bytes, StoreError> {
        let view = View::new(self.env.engine.clone(), self.space());
        let call = self.call(asker.transaction);
        let octets = match self.whole(call, &view, mailbox, &row.name, size).await? {
            None => return Err(StoreError::Damaged(format!("message {} is lost", row.name))),
            Some(Part::Octets(octets)) => octets,
            // Storage verifies what it reads as a whole; which body it is, is verified here.
            Some(Part::Body(body)) if body.digest() == row.digest => match body {
                Body::Inline { octets, .. } => octets,
                Body::Stored(stored) => {
                    let whole = self.env.engine.read_body(self.space(), &stored, 0, stored.size);
                    return read(whole).await;
                }
            },
            Some(Part::Body(_)) => return Err(another_body(&row.name)),
        };
        match digest(octets.clone()).await? == row.digest {
            true => Ok(octets),
            false => Err(another_body(&row.name)),
        }
    }
}

/// BLAKE3, off the async threads when it takes long.
pub(super) async fn digest(octets: Bytes) -> Result<[u8; 32], StoreError> {
    if octets.len() < LARGE_BODY {
        return Ok(blake3::hash(&octets).into());
    }
    let hashed = tokio::task::spawn_blocking(move || blake3::hash(&octets).into()).await;
    hashed.map_err(|_| StoreError::Unavailable("this node is shutting down".into()))
}

fn another_body(name: &str) -> StoreError {
    StoreError::Damaged(format!("the store answered message {name} with other octets"))
}

fn not_found(name: &MailboxName) -> StoreError {
    StoreError::NotFound(format!("mailbox {name}"))
}

fn gone() -> StoreError {
    StoreError::NotFound("the selected mailbox".into())
}

fn moving() -> StoreError {
    StoreError::Busy("the account is being opened and closed".into())
}
