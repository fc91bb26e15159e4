//! Mailboxes of which the store and the ledger do not both know: one that was not counted is counted
//! whole, before anything can come into it; one that the store has lost gets a row again. Either way
//! it has a new UIDVALIDITY: what clients remember of it cannot be relied on.

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, AccountRow, CountersRow};
use postroom_core::records::MailboxRow;
use postroom_core::types::{MailboxId, MailboxName, ModSeq, Uid, UidValidity};

use crate::storage::View;

use super::ask::Tally;
use super::check::count;
use super::error::guest;
use super::limits::{GUEST_PAGE, LEDGER_PAGE};
use super::load::after;
use super::mend::Mending;
use super::restored::next_validity;

/// Where mailboxes go whose names are lost.
const RECOVERED: &str = "Recovered";

/// One step's way to mend mailboxes.
pub(super) struct Recount<'a> {
    mending: &'a Mending<'a>,
    /// The mailboxes that the store has.
    rows: &'a [MailboxRow],
    /// The account's own counters, from when they are first needed on.
    account: Option<AccountRow>,
}

/// What there is of a mailbox on both sides.
#[derive(Default)]
struct Found {
    /// Of the store's rows.
    tally: Tally,
    /// The largest UID in any row.
    last: u32,
    tombstones: u64,
    /// The mod-sequence of the last removal.
    removed: ModSeq,
}

impl<'a> Recount<'a> {
    pub(super) fn new(mending: &'a Mending<'a>, rows: &'a [MailboxRow]) -> Self {
        Self { mending, rows, account: None }
    }

    /// Counts a mailbox of the store that the ledger does not know.
    ///
    /// # Errors
    /// `Damaged` when its rows cannot be read; it stays uncounted, and the account closed.
    pub(super) async fn mailbox(&mut self, row: &MailboxRow) -> Result<(), StoreError> {
        if !self.mending.repair {
            return Ok(());
        }
        let found = self.found(row.id).await?;
        let mut account = self.account().await?;
        account.modseq = account.modseq.max(ModSeq(found.tally.modseq)).max(found.removed);
        let uid_validity = self.renew(&mut account)?;
        let uid_next = Uid::new(found.last.saturating_add(1)).unwrap_or(Uid::MAX);
        let counters = CountersRow {
            uid_next,
            highest_modseq: account.modseq,
            messages: found.tally.messages,
            unseen: found.tally.unseen,
            deleted: found.tally.deleted,
            size: found.tally.size,
            recent_mark: uid_next,
            recent: 0,
            tombstones: found.tombstones,
            low_water: account.modseq,
            removed: found.removed,
            // Which bodies were let go is not known; that can be done again.
            settled: ModSeq(0),
        };
        let (call, txn) = (self.mending.call(), self.mending.txn);
        let rows = vec![MailboxRow { uid_validity, ..row.clone() }];
        guest(self.mending.account.env.stores.mailboxes.update(call, txn, rows)).await?;
        self.mending.put(ledger::counters_key(row.id), ledger::encode(&counters))?;
        self.mending.account_row(&account)
    }

    /// Makes a row again for a mailbox that the store has lost, under a name that says so.
    pub(super) async fn recover(&mut self, id: MailboxId) -> Result<(), StoreError> {
        if !self.mending.repair {
            return Ok(());
        }
        let name = MailboxName::new(&format!("{RECOVERED} {id}"));
        let name = name.map_err(|error| StoreError::Invalid(error.to_string()))?;
        let mut account = self.account().await?;
        let uid_validity = self.renew(&mut account)?;
        let row = MailboxRow { id, name, uid_validity, special_use: None, extra: Vec::new() };
        let (call, txn) = (self.mending.call(), self.mending.txn);
        guest(self.mending.account.env.stores.mailboxes.insert(call, txn, vec![row])).await?;
        self.mending.account_row(&account)
    }

    /// The account's counters as this step has them so far.
    async fn account(&mut self) -> Result<AccountRow, StoreError> {
        match self.account {
            Some(account) => Ok(account),
            None => Ok(self.mending.account.account_row().await?.unwrap_or_default()),
        }
    }

    /// A UIDVALIDITY above all that there ever were (E13).
    fn renew(&mut self, account: &mut AccountRow) -> Result<UidValidity, StoreError> {
        let highest = self.rows.iter().map(|row| row.uid_validity.0.get()).max().unwrap_or(0);
        account.uid_validity = account.uid_validity.max(highest);
        let next = next_validity(account)?;
        self.account = Some(*account);
        Ok(next)
    }

    async fn found(&self, id: MailboxId) -> Result<Found, StoreError> {
        let mut found = Found { tally: self.tally(id).await?, ..Found::default() };
        let mut last = found.tally.last;
        self.each_key(ledger::bodies_of(id), |key| {
            last = last.max(ledger::uid_in(key)?.get());
            Ok(())
        })
        .await?;
        let all = ledger::tombstones_of(id, ModSeq(0), ModSeq(u64::MAX - 1));
        self.each_key(all, |key| {
            let (modseq, uid) = ledger::tombstone_in(key)?;
            found.tombstones += 1;
            found.removed = found.removed.max(modseq);
            last = last.max(uid.get());
            Ok(())
        })
        .await?;
        Ok(Found { last, ..found })
    }

    /// The messages that the store has; none of them is recent.
    async fn tally(&self, id: MailboxId) -> Result<Tally, StoreError> {
        let account = self.mending.account;
        let view = View::new(account.env.engine.clone(), account.space());
        let (mut tally, mut last) = (Tally::default(), None);
        loop {
            let list = &account.env.stores.messages;
            let list = list.list(self.mending.call(), &view, id, last, GUEST_PAGE);
            let page = guest(list).await?;
            page.rows.iter().for_each(|row| count(&mut tally, row, Uid::MAX));
            let end = page.rows.last().map(|row| row.uid).filter(|end| Some(*end) > last);
            if !page.more || end.is_none() {
                return Ok(tally);
            }
            last = end;
        }
    }

    /// Shows each key of a range of the ledger, of which there may be many.
    async fn each_key(
        &self,
        (mut start, end): (Bytes, Bytes),
        mut show: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            let page = self.mending.account.ledger_page(start, end.clone(), LEDGER_PAGE).await?;
            page.items.iter().try_for_each(|(key, _)| show(key))?;
            match page.items.last() {
                Some((key, _)) if page.more => start = after(key),
                _ => return Ok(()),
            }
        }
    }
}
