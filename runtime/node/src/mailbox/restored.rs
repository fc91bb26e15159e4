//! What a backup cannot know: UIDs that were announced after it was made. Before an account of a restored
//! node is used for the first time, each of its mailboxes gets a new UIDVALIDITY, so that no UID which a
//! client remembers means another message (RFC 9051 §2.3.1.1).

use std::num::NonZeroU32;

use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, AccountRow, RestoredRow};
use postroom_core::types::{TransactionId, UidValidity};

use crate::storage::{Area, Commit, Key, Txn, Write};

use super::actor::Actor;
use super::error::{guest, read, storage_error};
use super::mint::now;

impl Actor {
    /// Whether what the account's mailboxes are called may have been announced with other messages.
    pub(super) async fn must_be_guarded(&self) -> Result<bool, StoreError> {
        let engine = &self.account.env.engine;
        if engine.restored() == 0 {
            return Ok(false);
        }
        let keys = vec![Key { area: Area::Ledger, octets: ledger::restored_key() }];
        let mut found = read(engine.get_many(self.account.space(), keys)).await?;
        let row: Option<RestoredRow> =
            found.pop().flatten().map(|row| ledger::decode(&row)).transpose()?;
        Ok(row.unwrap_or_default().times < engine.restored())
    }

    /// What notes that the account needs no guard any more; for its first commit too.
    pub(super) fn guarded(&self) -> Option<Write> {
        let times = self.account.env.engine.restored();
        let key = Key { area: Area::Ledger, octets: ledger::restored_key() };
        (times > 0).then(|| Write::Put(key, ledger::encode(&RestoredRow { times })))
    }

    /// Gives all mailboxes a new UIDVALIDITY, in one commit. The account must not be loaded.
    pub(super) async fn guard(&self, transaction: TransactionId) -> Result<(), StoreError> {
        let account = &self.account;
        let head = read(account.env.engine.head(account.space())).await?;
        let mut row = account.account_row().await?.unwrap_or_default();
        let mut mailboxes = account.mailbox_rows(transaction).await?;
        let highest = mailboxes.iter().map(|mailbox| mailbox.uid_validity.0.get()).max();
        row.uid_validity = row.uid_validity.max(highest.unwrap_or(0));
        for mailbox in &mut mailboxes {
            mailbox.uid_validity = next_validity(&mut row)?;
        }
        let txn = Txn::new(account.env.engine.clone(), account.space());
        let count = mailboxes.len();
        let call = account.call(transaction);
        guest(account.env.stores.mailboxes.update(call, &txn, mailboxes)).await?;
        let mut writes = txn.take();
        let key = Key { area: Area::Ledger, octets: ledger::account_key() };
        writes.push(Write::Put(key, ledger::encode(&row)));
        writes.extend(self.guarded());
        let commit = Commit {
            space: account.space(),
            fence: self.fence,
            expected_head: Some(head),
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes,
            now: now(),
        };
        tracing::info!(account = %self.id(), mailboxes = count, "restored: new UIDVALIDITY");
        match account.env.commit(commit).await {
            Some(committed) => committed.map(|_| ()).map_err(storage_error),
            None => Err(StoreError::UnknownOutcome),
        }
    }
}

/// A UIDVALIDITY above all that there ever were, and not below the time (E13): what was given away after
/// the backup was made is not above the time.
pub(super) fn next_validity(account: &mut AccountRow) -> Result<UidValidity, StoreError> {
    let above = account.uid_validity.checked_add(1).and_then(NonZeroU32::new);
    let above = above.ok_or_else(|| StoreError::Limit("UIDVALIDITY is used up".into()))?;
    let time = now().clamp(1, i64::from(u32::MAX)) as u32;
    let next = NonZeroU32::new(time).map_or(above, |time| time.max(above));
    account.uid_validity = next.get();
    Ok(UidValidity(next))
}
