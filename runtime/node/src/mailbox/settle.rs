//! Lets go of what nobody sees any more: bodies of removed messages that every session has been told
//! of, and everything of deleted mailboxes. First the store component (an outside medium removes
//! its files), then the links and the ledger's rows, in one commit; all of it may be repeated.

use std::collections::VecDeque;

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::Settled;
use postroom_core::mailbox::ledger::{self, BodyRow, LedgerWrite};
use postroom_core::mailbox::limits::MAX_TOMBSTONES;
use postroom_core::types::{MailboxId, ModSeq, TransactionId};

use crate::storage::View;

use super::account::Account;
use super::error::guest;
use super::limits::SETTLE_PAGE;
use super::load::after;

/// What there is to settle in one account.
#[derive(Default)]
pub(super) struct Settling {
    /// Deleted mailboxes.
    dropped: VecDeque<MailboxId>,
    /// Where the settling of one mailbox's removals goes on, while a page did not finish it.
    cursor: Option<(MailboxId, Bytes)>,
}

/// A piece of settling, ready for a commit.
pub(super) struct SettlePage {
    pub(super) settled: Settled,
    /// Once it is committed.
    then: Then,
}

enum Then {
    Nothing,
    GoOnAt(MailboxId, Bytes),
    Dropped(MailboxId),
}

impl Settling {
    /// After the account was read.
    pub(super) fn new(dropped: Vec<MailboxId>) -> Self {
        Self { dropped: dropped.into(), cursor: None }
    }

    /// A mailbox was deleted.
    pub(super) fn dropped(&mut self, id: MailboxId) {
        self.dropped.push_back(id);
    }

    /// Whether a page is due.
    pub(super) fn is_due(&self, account: &Account) -> bool {
        !self.dropped.is_empty() || account.with(|shared| shared.next_settleable()).is_some()
    }

    /// The next page of what is to be settled, of which the store component knows already.
    pub(super) async fn page(
        &self,
        account: &Account,
        transaction: TransactionId,
    ) -> Result<Option<SettlePage>, StoreError> {
        if let Some((id, settled, upto)) = account.with(|shared| shared.next_settleable()) {
            return self.removed(account, transaction, id, settled, upto).await.map(Some);
        }
        match self.dropped.front() {
            Some(id) => dropped_page(account, transaction, *id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Notes that a page is committed.
    pub(super) fn committed(&mut self, page: SettlePage) {
        match page.then {
            Then::Nothing => self.cursor = None,
            Then::GoOnAt(id, key) => self.cursor = Some((id, key)),
            Then::Dropped(id) => self.dropped.retain(|dropped| *dropped != id),
        }
    }

    async fn removed(
        &self,
        account: &Account,
        transaction: TransactionId,
        id: MailboxId,
        settled: ModSeq,
        upto: ModSeq,
    ) -> Result<SettlePage, StoreError> {
        let (mut start, end) = ledger::tombstones_of(id, settled, upto);
        // A page can end among the removals of one mod-sequence, which is settled only as a whole.
        if let Some((_, key)) = self.cursor.as_ref().filter(|cursor| cursor.0 == id) {
            start = start.max(key.clone());
        }
        let page = account.ledger_page(start, end, SETTLE_PAGE).await?;
        let names = names(&page.items)?;
        tell(account, transaction, id, &names).await?;
        let last = page.items.last().map(|(key, _)| ledger::tombstone_in(key)).transpose()?;
        let (settled, then) = match (last, page.items.last()) {
            (Some((modseq, _)), Some((key, _))) if page.more => {
                (ModSeq(modseq.0 - 1), Then::GoOnAt(id, after(key)))
            }
            _ => (upto, Then::Nothing),
        };
        let (ledger, pruned) = prune(account, id).await?;
        let settled = Settled { names, ledger, settled: Some((id, settled)), pruned };
        Ok(SettlePage { settled, then })
    }
}

/// Tombstones beyond their number: the oldest go, if their bodies went before.
async fn prune(
    account: &Account,
    id: MailboxId,
) -> Result<(Vec<LedgerWrite>, Option<(MailboxId, ModSeq, u64)>), StoreError> {
    let counters = account
        .with(|shared| Some(shared.state.as_ref()?.mailbox(id)?.counters))
        .filter(|counters| counters.tombstones > MAX_TOMBSTONES);
    let Some(counters) = counters else { return Ok((Vec::new(), None)) };
    let (start, end) = ledger::tombstones_of(id, ModSeq(0), counters.settled);
    let page = account.ledger_page(start.clone(), end, SETTLE_PAGE).await?;
    let Some((key, _)) = page.items.last() else { return Ok((Vec::new(), None)) };
    let (low_water, _) = ledger::tombstone_in(key)?;
    let writes = vec![LedgerWrite::DeleteRange(start, after(key))];
    Ok((writes, Some((id, low_water, page.items.len() as u64))))
}

/// Some of a deleted mailbox's messages; when there are none left, of its tombstones; then its mark.
async fn dropped_page(
    account: &Account,
    transaction: TransactionId,
    id: MailboxId,
) -> Result<SettlePage, StoreError> {
    let everything = ledger::tombstones_of(id, ModSeq(0), ModSeq(u64::MAX - 1));
    for (start, end) in [ledger::bodies_of(id), everything] {
        let page = account.ledger_page(start.clone(), end, SETTLE_PAGE).await?;
        if let Some((key, _)) = page.items.last() {
            let names = names(&page.items)?;
            tell(account, transaction, id, &names).await?;
            let ledger = vec![LedgerWrite::DeleteRange(start, after(key))];
            let settled = Settled { names, ledger, ..Settled::default() };
            return Ok(SettlePage { settled, then: Then::Nothing });
        }
    }
    let ledger = vec![LedgerWrite::Delete(ledger::dropped_key(id))];
    let settled = Settled { ledger, ..Settled::default() };
    Ok(SettlePage { settled, then: Then::Dropped(id) })
}

fn names(rows: &[(Bytes, Bytes)]) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|(_, row)| Ok(ledger::decode::<BodyRow>(row)?.name)).collect()
}

async fn tell(
    account: &Account,
    transaction: TransactionId,
    mailbox: MailboxId,
    names: &[String],
) -> Result<(), StoreError> {
    if names.is_empty() {
        return Ok(());
    }
    let view = View::new(account.env.engine.clone(), account.space());
    let (call, messages) = (account.call(transaction), &account.env.stores.messages);
    guest(messages.settle(call, &view, mailbox, names.to_vec())).await
}
