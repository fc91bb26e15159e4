//! Whose account is which: the host's own rows in the directory. They decide, and never what a store
//! component answers, so that no answer of a component brings one user to another's mail.
//!
//! | key | value |
//! |---|---|
//! | `n` name | the account of the user of this name |
//! | `a` account | the name of the user who has this account, or had it |
//!
//! A user claims an account in one commit of both rows, when it is made here or seen for the first
//! time. An account is claimed once: its `a` row stays for good, so that nobody else is ever given it.
//! Names are those of users, aliases followed: an alias has no rows. What a component answers is held
//! against them:
//!
//! - no account, from a directory outside that has nowhere to keep one: the one that the name has, or
//!   a new one;
//! - the account that the name has: that one;
//! - an account that nobody has claimed, for a name that has none: the name claims it. That is a
//!   directory that was filled before these rows were kept, or one that has ids of its own;
//! - anything else is another's account, or one that was given up: refused as `Broken`.
//!
//! So a user is a name. One that is renamed outside is a new user: it gets a new account, or is
//! refused when its old one comes along. A name that is given to somebody else outside keeps its
//! account until it is removed here as well, which gives the account up.

use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger;
use postroom_core::records::UserRow;
use postroom_core::types::AccountId;

use crate::mailbox::error::{read, storage_error};
use crate::storage::{Area, Key, Space, Txn, Write};

use super::Directory;
use super::change::Change;

/// An account for a user who has none yet.
pub struct Claim {
    /// The user's name.
    pub name: String,
    /// The account, if the store component has answered one.
    pub answered: Option<AccountId>,
    /// The account.
    pub account: AccountId,
}

fn name_key(name: &str) -> Key {
    Key { area: Area::Ledger, octets: [b"n", name.as_bytes()].concat().into() }
}

fn owner_key(account: AccountId) -> Key {
    Key { area: Area::Ledger, octets: [&b"a"[..], &account.0].concat().into() }
}

/// Writes that a user has an account from now on.
pub fn keep(txn: &Txn, name: &str, account: AccountId) -> Result<(), StoreError> {
    let rows =
        [(name_key(name), ledger::encode(&account)), (owner_key(account), ledger::encode(&name))];
    rows.into_iter()
        .try_for_each(|(key, row)| txn.write(Write::Put(key, row)))
        .map_err(storage_error)
}

/// Writes that a name has no account any more. Nobody is given the one that it had.
pub fn give_up(txn: &Txn, name: &str) -> Result<(), StoreError> {
    txn.write(Write::Delete(name_key(name))).map_err(storage_error)
}

impl Directory {
    /// The account of a user whose row the store component has answered with this account, if any.
    ///
    /// # Errors
    /// `Broken` when it is another's.
    pub(super) async fn account(
        &self,
        name: &str,
        answered: Option<AccountId>,
    ) -> Result<AccountId, StoreError> {
        if let Some(known) = self.claimed(name, answered).await? {
            return Ok(known);
        }
        let account = answered.unwrap_or_else(|| AccountId(self.mint.next()));
        let claim = Claim { name: name.to_owned(), answered, account };
        self.change(&Change::ClaimAccount(claim)).await?;
        // Somebody else may have been quicker, with another new account.
        let gone = || StoreError::Unavailable("the user is being removed".into());
        self.claimed(name, answered).await?.ok_or_else(gone)
    }

    /// Plans a claim, unless the name has an account by now.
    pub(super) async fn plan_claim(&self, claim: &Claim, txn: &Txn) -> Result<(), StoreError> {
        match self.claimed(&claim.name, claim.answered).await? {
            Some(_) => Ok(()),
            None => keep(txn, &claim.name, claim.account),
        }
    }

    /// The account that a name has, which must be the one that was answered, if any; `None`: none,
    /// and it may claim the one that was answered.
    async fn claimed(
        &self,
        name: &str,
        answered: Option<AccountId>,
    ) -> Result<Option<AccountId>, StoreError> {
        if answered == Some(AccountId::NONE) {
            return Err(StoreError::Broken(format!(
                "the user store answered account 0 for {name}"
            )));
        }
        let keys = [Some(name_key(name)), answered.map(owner_key)].into_iter().flatten().collect();
        let mut rows = read(self.engine.get_many(Space::Directory, keys)).await?.into_iter();
        let known = rows.next().flatten().map(|row| ledger::decode(&row)).transpose()?;
        let taken = rows.next().flatten().is_some();
        match (known, answered) {
            (Some(known), None) => Ok(Some(known)),
            (Some(known), Some(answered)) if known == answered => Ok(Some(known)),
            (None, _) if !taken => Ok(None),
            (Some(_) | None, _) => Err(StoreError::Broken(format!(
                "the user store answered an account for {name} that is not this user's"
            ))),
        }
    }

    /// Whether a name has an account.
    pub(super) async fn has_account(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.claimed(name, None).await?.is_some())
    }

    /// Fills in the accounts that the store component does not keep, as far as they are known.
    pub(super) async fn fill_in(&self, rows: &mut [UserRow]) -> Result<(), StoreError> {
        let lacks = |row: &&mut UserRow| row.account.is_none() && row.alias_of.is_none();
        let lacking: Vec<&mut UserRow> = rows.iter_mut().filter(lacks).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let keys = lacking.iter().map(|row| name_key(&row.name)).collect();
        let known = read(self.engine.get_many(Space::Directory, keys)).await?;
        for (row, known) in lacking.into_iter().zip(known) {
            row.account = known.map(|known| ledger::decode(&known)).transpose()?;
        }
        Ok(())
    }
}
