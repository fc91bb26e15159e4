//! What a check mends: rows that one side has lost are made again from the other, counters from what
//! they count. A message whose octets are gone is left for a person to decide about.

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::Step;
use postroom_core::mailbox::ledger::{self, AccountRow, BodyRow, CountersRow, LedgerWrite};
use postroom_core::mailbox::limits::MAX_MESSAGE_OCTETS;
use postroom_core::mime::{self, thread};
use postroom_core::records::MessageRow;
use postroom_core::types::{
    Flags, MailboxId, MessageId, SessionId, ThreadId, Timestamp, TransactionId, Uid,
};

use crate::guest::{CallInfo, MessagePlace, Part};
use crate::storage::{Body, Txn, View};

use super::account::{Account, Asker};
use super::ask::Tally;
use super::check::{Findings, Pair};
use super::error::{guest, read};
use super::mint::now;
use super::perform::Performer;

/// One step's way to mend.
pub(super) struct Mending<'a> {
    pub(super) account: &'a Account,
    pub(super) txn: &'a Txn,
    pub(super) transaction: TransactionId,
    /// Otherwise nothing is written.
    pub(super) repair: bool,
}

impl Mending<'_> {
    pub(super) fn call(&self) -> CallInfo {
        self.account.call(self.transaction)
    }

    /// Puts a row into the ledger, if something is to be mended at all.
    pub(super) fn put(&self, key: Bytes, row: Bytes) -> Result<(), StoreError> {
        if !self.repair {
            return Ok(());
        }
        self.performer().ledger(&[LedgerWrite::Put(key, row)])
    }

    fn performer(&self) -> Performer<'_> {
        Performer { account: self.account, txn: self.txn, call: self.call() }
    }

    fn mint(&self) -> [u8; 16] {
        self.account.env.mint.next()
    }

    /// Holds a message's two sides and its octets against each other; the row as it is afterwards.
    pub(super) async fn message(
        &self,
        mailbox: MailboxId,
        (uid, row, body): Pair,
        findings: &mut Findings,
    ) -> Result<Option<MessageRow>, StoreError> {
        let name = format!("{mailbox}/{uid}");
        match (row, body) {
            (Some(row), Some(body)) => self.both(&name, row, &body, findings).await.map(Some),
            (Some(row), None) => {
                let mended = self.know(&row).await?;
                findings.add("ledger", name, "the message was not in the ledger", mended);
                Ok(Some(row))
            }
            (None, Some(body)) => {
                let row = self.recover(mailbox, uid, &body).await?;
                let mended = row.is_some() && self.repair;
                findings.add("message", name, "the store has lost this message", mended);
                Ok(row.filter(|_| mended))
            }
            (None, None) => Ok(None),
        }
    }

    async fn both(
        &self,
        name: &str,
        mut row: MessageRow,
        body: &BodyRow,
        findings: &mut Findings,
    ) -> Result<MessageRow, StoreError> {
        if row.name != body.name {
            let problem = format!("the store calls it {}, the ledger {}", row.name, body.name);
            findings.add("message", name, problem, false);
        }
        let (transaction, session) = (self.transaction, SessionId(0));
        let asker = Asker { session, transaction, quota: None };
        // Not by the size that the row has: that may be what is wrong.
        match self.account.octets(asker, row.mailbox, body, MAX_MESSAGE_OCTETS).await {
            Ok(octets) if octets.len() as u64 == row.size => {}
            Ok(octets) => {
                let problem = format!("its size is {}, not {}", octets.len(), row.size);
                findings.add("message", name, problem, self.repair);
                row.size = octets.len() as u64;
                row = self.replace(row, body).await?;
            }
            Err(StoreError::Damaged(problem)) => findings.add("message", name, problem, false),
            Err(error) => return Err(error),
        }
        Ok(row)
    }

    /// Takes a message that only the store has into the ledger, with the digest of its octets as
    /// they are now. Whether that could be done.
    async fn know(&self, row: &MessageRow) -> Result<bool, StoreError> {
        let view = View::new(self.account.env.engine.clone(), self.account.space());
        let (mailbox, name) = (row.mailbox, row.name.clone());
        let whole = self.account.whole(self.call(), &view, mailbox, &name, MAX_MESSAGE_OCTETS);
        let digest = match whole.await? {
            None => return Ok(false),
            Some(Part::Body(body)) => body.digest(),
            Some(Part::Octets(octets)) => super::read::digest(octets).await?,
        };
        let key = ledger::body_key(mailbox, row.uid);
        self.put(key, ledger::encode(&BodyRow { name, digest }))?;
        Ok(self.repair)
    }

    /// Makes the row of a message again that the store has lost, from its octets if they are linked
    /// in storage. Flags and dates are lost.
    async fn recover(
        &self,
        mailbox: MailboxId,
        uid: Uid,
        body: &BodyRow,
    ) -> Result<Option<MessageRow>, StoreError> {
        let engine = &self.account.env.engine;
        let stored = read(engine.body(self.account.space(), &body.name)).await?;
        let Some(stored) = stored.filter(|stored| stored.digest == body.digest) else {
            return Ok(None);
        };
        let octets = read(engine.read_body(self.account.space(), &stored, 0, stored.size)).await;
        let octets = match octets {
            Err(StoreError::Damaged(_)) => return Ok(None),
            octets => octets?,
        };
        let row = self.row(mailbox, uid, &octets);
        self.put_back(row, body, Body::Stored(stored)).await.map(Some)
    }

    /// Puts a row in the place of the one that the store has: `update` may leave everything but
    /// flags as it was inserted.
    async fn replace(&self, row: MessageRow, old: &BodyRow) -> Result<MessageRow, StoreError> {
        if !self.repair {
            return Ok(row);
        }
        let body = self.performer().body(&self.txn.view(), row.mailbox, old, row.size).await?;
        let places = vec![MessagePlace { mailbox: row.mailbox, uid: row.uid }];
        guest(self.account.env.stores.messages.delete(self.call(), self.txn, places)).await?;
        self.put_back(row, old, body).await
    }

    /// Inserts a message at the place at which it was, under a new name: the old one is in use by
    /// the link that goes.
    async fn put_back(
        &self,
        row: MessageRow,
        old: &BodyRow,
        body: Body,
    ) -> Result<MessageRow, StoreError> {
        if !self.repair {
            return Ok(row);
        }
        let row = MessageRow { name: hex::encode(self.mint()), ..row };
        self.performer().insert(vec![row.clone()], &[body]).await?;
        self.performer().perform(Step::Unlink(vec![old.name.clone()]), &[]).await?;
        Ok(row)
    }

    /// A row without a name yet.
    fn row(&self, mailbox: MailboxId, uid: Uid, octets: &Bytes) -> MessageRow {
        let derived = mime::derive(octets);
        let oldest = thread::candidates(&derived).first().map(|id| thread::thread_of(id));
        MessageRow {
            name: String::new(),
            mailbox,
            uid,
            modseq: Default::default(),
            flags: Flags::default(),
            internal_date: Timestamp::utc(now()),
            save_date: now(),
            size: octets.len() as u64,
            message_id: MessageId(self.mint()),
            thread_id: oldest.unwrap_or_else(|| ThreadId(self.mint())),
            from: Vec::new(),
            to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Sets a mailbox's counters right.
    pub(super) fn counters(
        &self,
        mailbox: MailboxId,
        counted: &CountersRow,
        tally: &Tally,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let after_last = Uid::new(tally.last.saturating_add(1)).unwrap_or(Uid::MAX);
        let right = CountersRow {
            uid_next: counted.uid_next.max(after_last),
            highest_modseq: counted.highest_modseq.max(postroom_core::types::ModSeq(tally.modseq)),
            messages: tally.messages,
            unseen: tally.unseen,
            deleted: tally.deleted,
            size: tally.size,
            recent: tally.recent,
            ..*counted
        };
        if right != *counted {
            self.put(ledger::counters_key(mailbox), ledger::encode(&right))?;
            let problem = format!("counted {counted:?}, there are {right:?}");
            findings.add("ledger", mailbox, problem, self.repair);
        }
        Ok(())
    }

    /// Sets the account's counters right.
    pub(super) fn account_row(&self, row: &AccountRow) -> Result<(), StoreError> {
        self.put(ledger::account_key(), ledger::encode(row))
    }
}
