//! An account as storage keeps it: rows, head, remembered transactions. What a commit does to it is
//! held against what must never happen there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, AccountRow, BodyRow, LedgerWrite, RowKind};
use postroom_core::mailbox::{Account, Open, Step};
use postroom_core::records::{MailboxRow, MessageRow};
use postroom_core::types::{MailboxId, ModSeq, TransactionId, Uid};

#[derive(Clone, Default)]
pub struct Disk {
    pub head: u64,
    pub mailboxes: BTreeMap<MailboxId, MailboxRow>,
    pub messages: BTreeMap<(MailboxId, Uid), MessageRow>,
    pub ledger: BTreeMap<Bytes, Bytes>,
    /// What remembered transactions came to.
    pub done: BTreeMap<TransactionId, Bytes>,
}

impl Disk {
    /// Carries a step out. The error is a broken promise: two rows in one place, or none.
    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::InsertMailboxes(rows) | Step::UpdateMailboxes(rows) => {
                self.mailboxes.extend(rows.iter().map(|row| (row.id, row.clone())));
            }
            Step::DropMailbox(id) => {
                self.mailboxes.remove(id).ok_or("a mailbox is dropped twice")?;
                self.messages.retain(|(mailbox, _), _| mailbox != id);
            }
            Step::Insert(rows) => rows.iter().try_for_each(|row| self.insert(row))?,
            Step::Reflag(changes) => {
                for change in changes {
                    let row = self.messages.get_mut(&(change.mailbox, change.uid));
                    let row = row.ok_or("a message that is not there gets flags")?;
                    (row.modseq, row.flags) = (change.modseq, change.flags.clone());
                }
            }
            Step::Remove { mailbox, uids, modseq } => {
                for uid in uids {
                    let gone = self.messages.remove(&(*mailbox, *uid));
                    gone.ok_or("a message that is not there is removed")?;
                    let row = self.ledger.remove(&ledger::body_key(*mailbox, *uid));
                    let row = row.ok_or("a message without a row in the ledger")?;
                    self.ledger.insert(ledger::tombstone_key(*mailbox, *modseq, *uid), row);
                }
            }
            Step::Ledger(writes) => self.write(writes),
            Step::Copy { .. } | Step::Unlink(_) => {
                return Err("a step that no client asks for".into());
            }
        }
        Ok(())
    }

    fn insert(&mut self, row: &MessageRow) -> Result<(), String> {
        let place = (row.mailbox, row.uid);
        let body = BodyRow { name: row.name.clone(), digest: [0; 32] };
        let key = ledger::body_key(row.mailbox, row.uid);
        self.ledger.insert(key, ledger::encode(&body));
        match self.messages.insert(place, row.clone()) {
            Some(_) => Err(format!("two messages have UID {}", row.uid)),
            None => Ok(()),
        }
    }

    pub fn write(&mut self, writes: &[LedgerWrite]) {
        for write in writes {
            match write {
                LedgerWrite::Put(key, value) => {
                    drop(self.ledger.insert(key.clone(), value.clone()))
                }
                LedgerWrite::Delete(key) => drop(self.ledger.remove(key)),
                LedgerWrite::DeleteRange(start, end) => {
                    self.ledger.retain(|key, _| key < start || key >= end);
                }
            }
        }
    }

    pub fn row(&self) -> AccountRow {
        let row = self.ledger.get(&ledger::account_key());
        row.and_then(|row| ledger::decode(row).ok()).unwrap_or_default()
    }

    fn rows(&self, kind: RowKind) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let (start, end) = ledger::range_of(kind);
        self.ledger.range(start..end)
    }

    /// The account as whoever opens it finds it, all mailboxes open.
    pub fn read(&self) -> Result<Account, StoreError> {
        let mut mailboxes = Vec::new();
        for (key, value) in self.rows(RowKind::Counters) {
            let id = ledger::mailbox_in(key)?;
            let row = self.mailboxes.get(&id).cloned();
            let row =
                row.ok_or_else(|| StoreError::Damaged("counters without a mailbox".into()))?;
            mailboxes.push((row, ledger::decode(value)?));
        }
        let ids: Vec<MailboxId> = mailboxes.iter().map(|(row, _)| row.id).collect();
        let mut account = Account::from_rows(self.row(), mailboxes, BTreeSet::new())?;
        for id in ids {
            let mut open = Open::default();
            for row in self.messages.range((id, Uid::MIN)..=(id, Uid::MAX)).map(|(_, row)| row) {
                open.add(row)?;
            }
            if let Some(opened) = account.mailbox(id).map(|mailbox| mailbox.opened(open)) {
                account.replace(opened?);
            }
        }
        Ok(account)
    }

    /// Removals from a mailbox after one mod-sequence up to another.
    pub fn tombstones(&self, id: MailboxId, after: ModSeq, upto: ModSeq) -> Vec<(ModSeq, Uid)> {
        let (start, end) = ledger::tombstones_of(id, after, upto);
        let keys = if start < end { Some(self.ledger.range(start..end)) } else { None };
        keys.into_iter().flatten().filter_map(|(key, _)| ledger::tombstone_in(key).ok()).collect()
    }
}
