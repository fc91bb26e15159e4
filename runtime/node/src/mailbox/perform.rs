//! Carries the steps of a plan out: store components fill the host's transaction, the host adds its
//! ledger. Nothing is committed here.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, BodyRow, LedgerWrite, UnsettledRow};
use postroom_core::mailbox::{CopyRow, Step};
use postroom_core::records::{MessageChange, MessageRow};
use postroom_core::types::{MailboxId, ModSeq, Uid};

use crate::guest::{CallInfo, MessagePlace, Part};
use crate::storage::{Area, Body, Key, Txn, View, Write};

use super::account::Account;
use super::error::{guest, read, storage_error};
use super::limits::{GUEST_PAGE, PARALLEL_READS};
use super::read::digest;

/// One operation's way into a transaction.
pub(super) struct Performer<'a> {
    pub(super) account: &'a Account,
    pub(super) txn: &'a Txn,
    pub(super) call: CallInfo,
}

impl Performer<'_> {
    /// Carries out one step. `bodies` are those of the operation, in the order of its messages.
    pub(super) async fn perform(&self, step: Step, bodies: &[Body]) -> Result<(), StoreError> {
        let (call, txn, stores) = (self.call, self.txn, &self.account.env.stores);
        match step {
            Step::InsertMailboxes(rows) => guest(stores.mailboxes.insert(call, txn, rows)).await,
            Step::UpdateMailboxes(rows) => guest(stores.mailboxes.update(call, txn, rows)).await,
            Step::DropMailbox(id) => {
                guest(stores.messages.drop_mailbox(call, txn, id)).await?;
                guest(stores.mailboxes.delete(call, txn, vec![id])).await
            }
            Step::Insert(rows) => self.insert(rows, bodies).await,
            Step::Reflag(changes) => self.reflag(changes).await,
            Step::Copy { from, copies } => self.copy(from, &copies).await,
            Step::Remove { mailbox, uids, modseq } => self.remove(mailbox, &uids, modseq).await,
            Step::Unlink(names) => {
                names.into_iter().try_for_each(|name| self.write(Write::UnlinkBody { name }))
            }
            Step::Ledger(writes) => self.ledger(&writes),
        }
    }

    /// Writes rows of the ledger.
    pub(super) fn ledger(&self, writes: &[LedgerWrite]) -> Result<(), StoreError> {
        let key = |octets: &Bytes| Key { area: Area::Ledger, octets: octets.clone() };
        writes.iter().try_for_each(|write| {
            self.write(match write {
                LedgerWrite::Put(at, value) => Write::Put(key(at), value.clone()),
                LedgerWrite::Delete(at) => Write::Delete(key(at)),
                LedgerWrite::DeleteRange(start, end) => Write::DeleteRange {
                    area: Area::Ledger,
                    start: start.clone(),
                    end: end.clone(),
                },
            })
        })
    }

    fn write(&self, write: Write) -> Result<(), StoreError> {
        self.txn.write(write).map_err(storage_error)
    }

    fn put_body_row(&self, row: &MessageRow, digest: [u8; 32]) -> Result<(), StoreError> {
        let body = BodyRow { name: row.name.clone(), digest };
        let key = ledger::body_key(row.mailbox, row.uid);
        self.ledger(&[LedgerWrite::Put(key, ledger::encode(&body))])
    }

    /// Notes in the same commit that an outside medium is to be told of a message; for a store over
    /// the host's storage there is nothing to note.
    fn put_unsettled(
        &self,
        mailbox: MailboxId,
        uid: Uid,
        name: String,
        modseq: ModSeq,
    ) -> Result<(), StoreError> {
        if !self.account.is_outside() {
            return Ok(());
        }
        let (key, row) = (ledger::unsettled_key(mailbox, uid), UnsettledRow { name, modseq });
        self.ledger(&[LedgerWrite::Put(key, ledger::encode(&row))])
    }

    /// Adds messages with their bodies.
    pub(super) async fn insert(
        &self,
        rows: Vec<MessageRow>,
        bodies: &[Body],
    ) -> Result<(), StoreError> {
        for (row, body) in rows.iter().zip(bodies) {
            self.put_body_row(row, body.digest())?;
            self.put_unsettled(row.mailbox, row.uid, row.name.clone(), row.modseq)?;
        }
        let messages = &self.account.env.stores.messages;
        for (rows, bodies) in pages(rows).zip(bodies.chunks(GUEST_PAGE as usize)) {
            guest(messages.insert(self.call, self.txn, rows, bodies.to_vec())).await?;
        }
        Ok(())
    }

    /// The rows of messages as the transaction has them so far.
    async fn rows(
        &self,
        mailbox: MailboxId,
        uids: impl Iterator<Item = Uid>,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let places: Vec<MessagePlace> = uids.map(|uid| MessagePlace { mailbox, uid }).collect();
        let view = self.txn.view();
        let select = self.account.env.stores.messages.select(self.call, &view, places.clone());
        let rows = guest(select).await?;
        if rows.len() != places.len() {
            return Err(StoreError::Broken("the store answered another number of rows".into()));
        }
        let there = |(row, place): (Option<MessageRow>, MessagePlace)| match row {
            Some(row) if row.mailbox == mailbox && row.uid == place.uid => Ok(row),
            Some(_) => Err(StoreError::Broken("the store answered another message".into())),
            None => Err(StoreError::Damaged(format!("the store has lost UID {}", place.uid))),
        };
        rows.into_iter().zip(places).map(there).collect()
    }

    /// Nothing is read for it: what changes is known whole.
    async fn reflag(&self, changes: Vec<MessageChange>) -> Result<(), StoreError> {
        if self.account.is_outside() {
            self.reflagged(&changes).await?;
        }
        for page in pages(changes) {
            guest(self.account.env.stores.messages.update(self.call, self.txn, page)).await?;
        }
        Ok(())
    }

    /// Notes that an outside medium is to be told of other flags.
    async fn reflagged(&self, changes: &[MessageChange]) -> Result<(), StoreError> {
        let runs = changes.chunk_by(|one, next| one.mailbox == next.mailbox);
        for page in runs.flat_map(|run| run.chunks(GUEST_PAGE as usize)) {
            let (mailbox, uids) = (page[0].mailbox, page.iter().map(|change| change.uid));
            let names = self.body_rows(mailbox, &uids.collect::<Vec<Uid>>()).await?;
            for (change, row) in page.iter().zip(names) {
                self.put_unsettled(mailbox, change.uid, row.name, change.modseq)?;
            }
        }
        Ok(())
    }

    /// The ledger's rows of messages' bodies, as the transaction has them so far.
    async fn body_rows(
        &self,
        mailbox: MailboxId,
        uids: &[Uid],
    ) -> Result<Vec<BodyRow>, StoreError> {
        let key = |uid: &Uid| Key { area: Area::Ledger, octets: ledger::body_key(mailbox, *uid) };
        let found = read(self.txn.view().get_many(uids.iter().map(key).collect())).await?;
        let row = |(row, uid): (Option<Bytes>, &Uid)| match row {
            Some(row) => ledger::decode(&row),
            None => Err(StoreError::Damaged(format!("the ledger has no row for UID {uid}"))),
        };
        found.into_iter().zip(uids).map(row).collect()
    }

    async fn copy(&self, from: MailboxId, copies: &[CopyRow]) -> Result<(), StoreError> {
        let view = self.txn.view();
        for page in copies.chunks(GUEST_PAGE as usize) {
            let uids: Vec<Uid> = page.iter().map(|copy| copy.source).collect();
            let rows = self.rows(from, uids.iter().copied()).await?;
            let names = self.body_rows(from, &uids).await?;
            let sources = futures::stream::iter(names.iter().zip(&rows));
            let body = |(name, row): (&BodyRow, &MessageRow)| {
                let (name, size, view) = (name.clone(), row.size, view.clone());
                async move { self.body(&view, from, &name, size).await }
            };
            let bodies: Vec<Body> =
                sources.map(body).buffered(PARALLEL_READS).try_collect().await?;
            let rows: Vec<MessageRow> = rows.into_iter().zip(page).map(copied).collect();
            self.insert(rows, &bodies).await?;
            self.txn.give_up_unlinked();
        }
        Ok(())
    }

    /// The body of a message: the one linked in storage, or, from a store that keeps octets itself,
    /// a new one of the same octets.
    pub(super) async fn body(
        &self,
        view: &View,
        mailbox: MailboxId,
        row: &BodyRow,
        size: u64,
    ) -> Result<Body, StoreError> {
        if let Some(body) = read(view.body(&row.name)).await?
            && body.digest() == row.digest
        {
            return Ok(body);
        }
        let octets = match self.account.whole(self.call, view, mailbox, &row.name, size).await? {
            None => return Err(StoreError::Damaged(format!("message {} is lost", row.name))),
            Some(Part::Body(body)) => read(view.read_body(&body, 0, body.size())).await?,
            Some(Part::Octets(octets)) => octets,
        };
        if digest(octets.clone()).await? != row.digest {
            let text = format!("the store answered message {} with other octets", row.name);
            return Err(StoreError::Damaged(text));
        }
        read(self.txn.new_body(octets)).await
    }

    async fn remove(
        &self,
        mailbox: MailboxId,
        uids: &[Uid],
        modseq: ModSeq,
    ) -> Result<(), StoreError> {
        for page in uids.chunks(GUEST_PAGE as usize) {
            let rows = self.body_rows(mailbox, page).await?;
            for (uid, row) in page.iter().zip(rows) {
                let tombstone = ledger::tombstone_key(mailbox, modseq, *uid);
                self.ledger(&[
                    LedgerWrite::Delete(ledger::body_key(mailbox, *uid)),
                    LedgerWrite::Put(tombstone, ledger::encode(&row)),
                ])?;
                if self.account.is_outside() {
                    // From now on it is the tombstone that says when the medium may be told.
                    self.ledger(&[LedgerWrite::Delete(ledger::unsettled_key(mailbox, *uid))])?;
                }
            }
            let places = page.iter().map(|uid| MessagePlace { mailbox, uid: *uid }).collect();
            guest(self.account.env.stores.messages.delete(self.call, self.txn, places)).await?;
        }
        Ok(())
    }
}

/// In pieces that one call of a store component takes.
fn pages<T>(all: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut left = all.into_iter();
    std::iter::from_fn(move || {
        let page: Vec<T> = left.by_ref().take(GUEST_PAGE as usize).collect();
        (!page.is_empty()).then_some(page)
    })
}

fn copied((row, copy): (MessageRow, &CopyRow)) -> MessageRow {
    MessageRow {
        name: copy.name.clone(),
        mailbox: copy.mailbox,
        uid: copy.uid,
        modseq: copy.modseq,
        flags: copy.flags.clone(),
        save_date: copy.save_date,
        ..row
    }
}
