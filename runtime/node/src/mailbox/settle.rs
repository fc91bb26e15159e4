//! Brings what lies beside the rows into line with what is committed. Bodies of removed messages that
//! every session has been told of, and everything of deleted mailboxes, are let go of; an outside
//! medium is told of messages that were written. First the store component hears of it, then the
//! links and the ledger's rows go, in one commit; all of it may be repeated.

use std::collections::VecDeque;

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::Settled;
use postroom_core::mailbox::ledger::{self, BodyRow, LedgerWrite, RowKind, UnsettledRow};
use postroom_core::mailbox::limits::MAX_TOMBSTONES;
use postroom_core::types::{MailboxId, ModSeq, TransactionId};

use crate::storage::{Area, Key, Txn, View};

use super::account::Account;
use super::error::{guest, read};
use super::limits::SETTLE_PAGE;
use super::load::after;

/// What there is to settle in one account.
#[derive(Default)]
pub(super) struct Settling {
    /// Deleted mailboxes.
    dropped: VecDeque<MailboxId>,
    /// Where the settling of one mailbox's removals goes on, while a page did not finish it.
    cursor: Option<(MailboxId, Bytes)>,
    /// Whether the ledger may have messages of which an outside medium was not told.
    written: bool,
    /// Which kind comes first: each in its turn, so that none waits for ever behind the others.
    turn: Kind,
}

/// What can be settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Messages that were written, in an outside medium.
    #[default]
    Written,
    /// Removals that every session was told of.
    Removed,
    /// Deleted mailboxes.
    Dropped,
}

impl Kind {
    fn next(self) -> Self {
        match self {
            Self::Written => Self::Removed,
            Self::Removed => Self::Dropped,
            Self::Dropped => Self::Written,
        }
    }
}

/// A piece of settling, ready for a commit.
pub(super) struct SettlePage {
    pub(super) settled: Settled,
    /// Why a part of it is left.
    pub(super) left: Option<StoreError>,
    kind: Kind,
    /// Once it is committed.
    then: Then,
}

enum Then {
    Nothing,
    GoOnAt(MailboxId, Bytes),
    Dropped(MailboxId),
    AllTold,
}

impl Settling {
    /// After the account was read: its deleted mailboxes, and whether there are messages of which an
    /// outside medium was not told.
    pub(super) fn new(dropped: Vec<MailboxId>, written: bool) -> Self {
        Self { dropped: dropped.into(), written, ..Self::default() }
    }

    /// A mailbox was deleted.
    pub(super) fn dropped(&mut self, id: MailboxId) {
        self.dropped.push_back(id);
    }

    /// Something was committed that an outside medium may have to be told of.
    pub(super) fn written(&mut self) {
        self.written = true;
    }

    /// Whether a page is due.
    pub(super) fn is_due(&self, account: &Account) -> bool {
        self.written
            || !self.dropped.is_empty()
            || account.with(|shared| shared.next_settleable()).is_some()
    }

    /// The next page of what is to be settled, of which the store component knows already. It is to
    /// be committed with what is in `txn`.
    pub(super) async fn page(
        &mut self,
        account: &Account,
        txn: &Txn,
        transaction: TransactionId,
    ) -> Result<Option<SettlePage>, StoreError> {
        let first = self.turn;
        // The one that fails is not the first next time.
        self.turn = first.next();
        for kind in [first, first.next(), first.next().next()] {
            let page = match kind {
                Kind::Written => self.unsettled(account, txn, transaction).await?,
                Kind::Removed => match account.with(|shared| shared.next_settleable()) {
                    Some(due) => Some(self.removed(account, transaction, due).await?),
                    None => None,
                },
                Kind::Dropped => match self.dropped.front() {
                    Some(id) => Some(dropped_page(account, transaction, *id).await?),
                    None => None,
                },
            };
            if page.is_some() {
                return Ok(page);
            }
        }
        Ok(None)
    }

    /// Notes that a page is committed.
    pub(super) fn committed(&mut self, page: SettlePage) {
        self.turn = page.kind.next();
        match page.then {
            Then::Nothing if page.kind == Kind::Removed => self.cursor = None,
            Then::Nothing => {}
            Then::GoOnAt(id, key) => self.cursor = Some((id, key)),
            Then::Dropped(id) => self.dropped.retain(|dropped| *dropped != id),
            Then::AllTold => self.written = false,
        }
    }

    /// Messages that were written since an outside medium was last told of them.
    async fn unsettled(
        &mut self,
        account: &Account,
        txn: &Txn,
        transaction: TransactionId,
    ) -> Result<Option<SettlePage>, StoreError> {
        if !self.written {
            return Ok(None);
        }
        let (start, end) = ledger::range_of(RowKind::Unsettled);
        let page = account.ledger_page(start, end, SETTLE_PAGE).await?;
        if page.items.is_empty() {
            self.written = false;
            return Ok(None);
        }
        let (told, left) = tell_of_rows(account, transaction, &page.items).await?;
        let then = match page.more || left.is_some() {
            true => Then::Nothing,
            false => Then::AllTold,
        };
        let ledger = unchanged(txn, told).await?;
        let settled = Settled { ledger, ..Settled::default() };
        Ok(Some(SettlePage { settled, left, kind: Kind::Written, then }))
    }

    async fn removed(
        &self,
        account: &Account,
        transaction: TransactionId,
        (id, settled, upto): (MailboxId, ModSeq, ModSeq),
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
        Ok(SettlePage { settled, left: None, kind: Kind::Removed, then })
    }
}

/// Rows of messages in a ledger's page: key and value.
type Rows = Vec<(Bytes, Bytes)>;

/// Tells an outside medium of messages, and says of which it has heard, and why not of the others.
/// Damage of one message keeps none but itself back.
async fn tell_of_rows(
    account: &Account,
    transaction: TransactionId,
    rows: &[(Bytes, Bytes)],
) -> Result<(Rows, Option<StoreError>), StoreError> {
    let (mut told, mut left) = (Vec::new(), None);
    for of_one in rows.chunk_by(|(a, _), (b, _)| a.get(..17) == b.get(..17)) {
        let mailbox = ledger::unsettled_in(&of_one[0].0)?;
        let name = |(_, row): &(Bytes, Bytes)| Ok(ledger::decode::<UnsettledRow>(row)?.name);
        let names: Vec<String> = of_one.iter().map(name).collect::<Result<_, StoreError>>()?;
        match tell(account, transaction, mailbox, &names).await {
            Ok(()) => told.extend_from_slice(of_one),
            Err(StoreError::Damaged(_)) => {
                for (row, name) in of_one.iter().zip(names) {
                    match tell(account, transaction, mailbox, &[name]).await {
                        Ok(()) => told.push(row.clone()),
                        Err(error @ StoreError::Damaged(_)) => left = Some(error),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    match (told.is_empty(), left) {
        (true, Some(error)) => Err(error),
        (_, left) => Ok((told, left)),
    }
}

/// What takes rows away that are in a transaction as they were read: one that it writes again, or
/// takes away itself, is left as it has it.
async fn unchanged(txn: &Txn, rows: Rows) -> Result<Vec<LedgerWrite>, StoreError> {
    let key = |(key, _): &(Bytes, Bytes)| Key { area: Area::Ledger, octets: key.clone() };
    let now = read(txn.view().get_many(rows.iter().map(key).collect())).await?;
    let same = rows.into_iter().zip(now).filter(|((_, row), now)| now.as_ref() == Some(row));
    Ok(same.map(|((key, _), _)| LedgerWrite::Delete(key)).collect())
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
    let page = |settled, then| SettlePage { settled, left: None, kind: Kind::Dropped, then };
    let everything = ledger::tombstones_of(id, ModSeq(0), ModSeq(u64::MAX - 1));
    for (start, end) in [ledger::bodies_of(id), everything] {
        let rows = account.ledger_page(start.clone(), end, SETTLE_PAGE).await?;
        if let Some((key, _)) = rows.items.last() {
            let names = names(&rows.items)?;
            tell(account, transaction, id, &names).await?;
            let ledger = vec![LedgerWrite::DeleteRange(start, after(key))];
            return Ok(page(Settled { names, ledger, ..Settled::default() }, Then::Nothing));
        }
    }
    let ledger = vec![LedgerWrite::Delete(ledger::dropped_key(id))];
    Ok(page(Settled { ledger, ..Settled::default() }, Then::Dropped(id)))
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
