//! Reading an account and its mailboxes: the ledger from storage, records from store components,
//! each held against the other.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, AccountRow, CountersRow, RowKind};
use postroom_core::mailbox::limits::MAX_MAILBOXES;
use postroom_core::mailbox::{Account as State, Mailbox, Open};
use postroom_core::records::MailboxRow;
use postroom_core::types::{MailboxId, MailboxName, ModSeq, TransactionId, Uid};
use serde::de::DeserializeOwned;

use crate::storage::{Area, Key, ScanLimit, View};

use super::account::Account;
use super::error::{guest, read};
use super::limits::{GUEST_PAGE, LEDGER_PAGE, LEDGER_PAGE_OCTETS};
use super::settle::Settling;

/// An account as it was read.
pub(super) struct Loaded {
    pub(super) state: State,
    /// The number of its commits.
    pub(super) head: u64,
    /// What is to be settled.
    pub(super) settling: Settling,
}

impl Account {
    /// Reads the account; all mailboxes closed. The head is read first: whatever is committed after
    /// it shows when the next commit is refused.
    pub(super) async fn load(&self, transaction: TransactionId) -> Result<Loaded, StoreError> {
        let head = read(self.env.engine.head(self.space())).await?;
        let row = self.account_row().await?;
        let mut counters: BTreeMap<MailboxId, CountersRow> = BTreeMap::new();
        for (key, value) in self.rows(ledger::range_of(RowKind::Counters)).await? {
            counters.insert(ledger::mailbox_in(&key)?, ledger::decode(&value)?);
        }
        let mut subscriptions: BTreeSet<MailboxName> = BTreeSet::new();
        for (key, _) in self.rows(ledger::range_of(RowKind::Subscriptions)).await? {
            subscriptions.insert(ledger::subscription_in(&key)?);
        }
        let mut dropped = Vec::new();
        for (key, _) in self.rows(ledger::range_of(RowKind::Dropped)).await? {
            dropped.push(ledger::mailbox_in(&key)?);
        }
        let mailboxes = match row {
            Some(_) => self.mailbox_rows(transaction).await?,
            None => Vec::new(),
        };
        let paired = paired(mailboxes, counters)?;
        let state = State::from_rows(row.unwrap_or_default(), paired, subscriptions)?;
        let settling = Settling::new(dropped, self.has_unsettled().await?);
        Ok(Loaded { state, head, settling })
    }

    /// Whether an outside medium was not told of every message.
    async fn has_unsettled(&self) -> Result<bool, StoreError> {
        if !self.is_outside() {
            return Ok(false);
        }
        let (start, end) = ledger::range_of(RowKind::Unsettled);
        Ok(!self.ledger_page(start, end, 1).await?.items.is_empty())
    }

    pub(super) async fn account_row(&self) -> Result<Option<AccountRow>, StoreError> {
        self.ledger_row(ledger::account_key()).await
    }

    /// One committed row of the ledger.
    pub(super) async fn ledger_row<T: DeserializeOwned>(
        &self,
        octets: Bytes,
    ) -> Result<Option<T>, StoreError> {
        let keys = vec![Key { area: Area::Ledger, octets }];
        let mut found = read(self.env.engine.get_many(self.space(), keys)).await?;
        found.pop().flatten().map(|row| ledger::decode(&row)).transpose()
    }

    /// All committed rows of a range of the ledger: only for ranges whose length a limit bounds.
    pub(super) async fn rows(
        &self,
        range: (Bytes, Bytes),
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        rows_in(&View::new(self.env.engine.clone(), self.space()), range).await
    }

    pub(super) async fn ledger_page(
        &self,
        start: Bytes,
        end: Bytes,
        items: usize,
    ) -> Result<crate::storage::ScanPage, StoreError> {
        let limit = ScanLimit { items, octets: LEDGER_PAGE_OCTETS };
        read(self.env.engine.scan(self.space(), Area::Ledger, start, end, limit)).await
    }

    pub(super) async fn mailbox_rows(
        &self,
        transaction: TransactionId,
    ) -> Result<Vec<MailboxRow>, StoreError> {
        let view = View::new(self.env.engine.clone(), self.space());
        let mut rows: Vec<MailboxRow> = Vec::new();
        loop {
            let last = rows.last().map(|row| row.id);
            let call = self.call(transaction);
            let list = self.env.stores.mailboxes.list(call, &view, last, GUEST_PAGE);
            let page = guest(list).await?;
            let ascends = page.rows.first().is_none_or(|row| last.is_none_or(|last| row.id > last));
            let empty = page.rows.is_empty();
            rows.extend(page.rows);
            if !ascends || rows.len() > MAX_MAILBOXES || (empty && page.more) {
                return Err(StoreError::Broken("the store's list of mailboxes is none".into()));
            }
            if !page.more {
                return Ok(rows);
            }
        }
    }

    /// Reads the messages of a mailbox.
    ///
    /// # Errors
    /// `Damaged` when they are not what the host has counted.
    pub(super) async fn load_mailbox(
        &self,
        mailbox: &Mailbox,
        transaction: TransactionId,
    ) -> Result<Mailbox, StoreError> {
        let id = mailbox.row.id;
        let view = View::new(self.env.engine.clone(), self.space());
        let mut open = Open::default();
        let mut last: Option<Uid> = None;
        loop {
            let call = self.call(transaction);
            let list = self.env.stores.messages.list(call, &view, id, last, GUEST_PAGE);
            let page = guest(list).await?;
            if page.rows.iter().any(|row| row.mailbox != id) {
                return Err(StoreError::Broken("the store listed another mailbox".into()));
            }
            page.rows.iter().try_for_each(|row| open.add(row))?;
            if page.rows.is_empty() || !page.more {
                return mailbox.opened(open);
            }
            last = page.rows.last().map(|row| row.uid);
        }
    }

    /// Messages removed from a mailbox after a mod-sequence: at most as many as tombstones are kept.
    pub(super) async fn tombstones(
        &self,
        mailbox: MailboxId,
        after: ModSeq,
        upto: ModSeq,
    ) -> Result<Vec<(ModSeq, Uid)>, StoreError> {
        let rows = self.rows(ledger::tombstones_of(mailbox, after, upto)).await?;
        rows.iter().map(|(key, _)| ledger::tombstone_in(key)).collect()
    }
}

/// All rows of a range of the ledger in a view: only for ranges whose length a limit bounds.
pub(super) async fn rows_in(
    view: &View,
    range: (Bytes, Bytes),
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let (mut start, end) = range;
    let mut rows = Vec::new();
    loop {
        let limit = ScanLimit { items: LEDGER_PAGE, octets: LEDGER_PAGE_OCTETS };
        let page = read(view.scan(Area::Ledger, start, end.clone(), limit)).await?;
        let last = page.items.last().map(|(key, _)| after(key));
        rows.extend(page.items);
        match last {
            Some(last) if page.more => start = last,
            _ => return Ok(rows),
        }
    }
}

/// The least key after this one.
pub(super) fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

fn paired(
    rows: Vec<MailboxRow>,
    mut counters: BTreeMap<MailboxId, CountersRow>,
) -> Result<Vec<(MailboxRow, CountersRow)>, StoreError> {
    let mut pairs = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(counted) = counters.remove(&row.id) else {
            return Err(StoreError::Damaged(format!("mailbox {} is not in the ledger", row.id)));
        };
        pairs.push((row, counted));
    }
    match counters.keys().next() {
        Some(lost) => Err(StoreError::Damaged(format!("the store has lost mailbox {lost}"))),
        None => Ok(pairs),
    }
}
