//! What a backup cannot know: UIDs that were announced after it was made. Before an account of a restored
//! node is used for the first time, each of its mailboxes gets a new UIDVALIDITY, so that no UID which a
//! client remembers means another message (RFC 9051 §2.3.1.1).

use std::num::NonZeroU32;

use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, AccountRow, LedgerWrite, RestoredRow};
use postroom_core::mailbox::limits::MAX_MAILBOXES;
use postroom_core::types::{TransactionId, UidValidity};

use crate::storage::{Commit, Txn};

use super::actor::Actor;
use super::batch::Failed;
use super::error::{guest, read};
use super::limits::GUEST_PAGE;
use super::mint::now;
use super::perform::Performer;

impl Actor {
    /// Whether UIDs of the account may have been announced for other messages: it was there before a
    /// restore, and has not been guarded since.
    pub(super) async fn must_be_guarded(&self) -> Result<bool, StoreError> {
        let times = self.account.env.engine.restored();
        if times == 0 {
            return Ok(false);
        }
        let row: Option<RestoredRow> = self.account.ledger_row(ledger::restored_key()).await?;
        let behind = row.unwrap_or_default().times < times;
        Ok(behind && self.account.account_row().await?.is_some())
    }

    /// What notes that the account needs no guard any more; for its first commit too.
    pub(super) fn guarded(&self) -> Option<LedgerWrite> {
        let times = self.account.env.engine.restored();
        let row = || ledger::encode(&RestoredRow { times });
        (times > 0).then(|| LedgerWrite::Put(ledger::restored_key(), row()))
    }

    /// Gives all mailboxes a new UIDVALIDITY, in one commit. The account must not be loaded.
    pub(super) async fn guard(&mut self, transaction: TransactionId) -> Result<(), Failed> {
        let commit = self.plan_guard(transaction).await.map_err(Failed::All)?;
        match self.account.env.commit(commit).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.refused(error)),
            None => Err(Failed::Unknown { gave_up: true }),
        }
    }

    async fn plan_guard(&self, transaction: TransactionId) -> Result<Commit, StoreError> {
        let account = &self.account;
        let head = read(account.env.engine.head(account.space())).await?;
        let mut row = account.account_row().await?.unwrap_or_default();
        let mut mailboxes = account.mailbox_rows(transaction).await?;
        let highest = mailboxes.iter().map(|mailbox| mailbox.uid_validity.0.get()).max();
        row.uid_validity = row.uid_validity.max(highest.unwrap_or(0)).max(ahead());
        for mailbox in &mut mailboxes {
            mailbox.uid_validity = next_validity(&mut row)?;
        }
        let txn = Txn::new(account.env.engine.clone(), account.space());
        let count = mailboxes.len();
        let call = account.call(transaction);
        for page in mailboxes.chunks(GUEST_PAGE as usize) {
            let update = account.env.stores.mailboxes.update(call, &txn, page.to_vec());
            guest(update).await?;
        }
        let performer = Performer { account, txn: &txn, call };
        performer.ledger(&[LedgerWrite::Put(ledger::account_key(), ledger::encode(&row))])?;
        performer.ledger(self.guarded().as_slice())?;
        tracing::info!(account = %self.id(), mailboxes = count, "restored: new UIDVALIDITY");
        Ok(Commit {
            space: account.space(),
            fence: self.fence,
            expected_head: Some(head),
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes: txn.take(),
            now: now(),
        })
    }
}

/// Above all that was given away after the backup was made: each was at most so far above the time as an
/// account can make mailboxes within a second.
fn ahead() -> u32 {
    let most = now().saturating_add(MAX_MAILBOXES as i64);
    most.clamp(0, i64::from(u32::MAX) - 2 * MAX_MAILBOXES as i64) as u32
}

/// A UIDVALIDITY above all that there ever were, and not below the time (E13).
pub(super) fn next_validity(account: &mut AccountRow) -> Result<UidValidity, StoreError> {
    let above = account.uid_validity.checked_add(1).and_then(NonZeroU32::new);
    let above = above.ok_or_else(|| StoreError::Limit("UIDVALIDITY is used up".into()))?;
    let time = now().clamp(1, i64::from(u32::MAX)) as u32;
    let next = NonZeroU32::new(time).map_or(above, |time| time.max(above));
    account.uid_validity = next.get();
    Ok(UidValidity(next))
}
