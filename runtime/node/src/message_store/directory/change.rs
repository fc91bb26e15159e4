//! Changes of the directory. It has no owner: each change is planned on what was read and committed
//! only if nothing else was committed since, otherwise planned anew.

use std::sync::{Mutex, PoisonError};

use postroom_core::calls::Secret;
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, UserRow};
use postroom_core::types::AccountId;
use tokio::sync::SemaphorePermit;

use crate::guest::{CallInfo, CheckPage, Stores};
use crate::mailbox::error::{guest, read, storage_error};
use crate::mailbox::{Swept, current, now};
use crate::storage::{Commit, Space, StorageError, Txn, Write};

use super::super::NewUser;
use super::super::limits::{LIST_PAGE, MAX_DIRECTORY_ATTEMPTS};
use super::accounts::{self, Claim};
use super::address::{Address, domain_name};
use super::{Directory, Kind};

/// A change of the directory, as what is to be true afterwards. Data and not a closure, so that it
/// can be planned again on what somebody else has committed meanwhile.
pub(super) enum Change {
    InsertDomain(DomainRow),
    RemoveDomain(String),
    InsertUser(Address, UserRow),
    SetPassword {
        user: String,
        password: String,
    },
    RemoveUser(String),
    ClaimAccount(Claim),
    /// The store component's own check of a page of its records, which may mend them; what it
    /// found at the last attempt is left in `page`.
    Check {
        kind: Kind,
        after: Option<String>,
        repair: bool,
        page: Mutex<CheckPage>,
    },
    /// The store component brings a page of its records to the schema that is written in a round; what
    /// came of it at the last attempt is left in `swept`.
    Sweep {
        kind: Kind,
        after: Option<String>,
        round: u64,
        swept: Mutex<Swept>,
    },
}

impl Change {
    /// Whether it may write.
    fn may_write(&self) -> bool {
        !matches!(self, Self::Check { repair: false, .. })
    }

    /// The record that it is about.
    fn name(&self) -> &str {
        match self {
            Self::InsertDomain(row) => &row.name,
            Self::InsertUser(_, row) => &row.name,
            Self::RemoveDomain(name) | Self::RemoveUser(name) => name,
            Self::SetPassword { user, .. } => user,
            Self::ClaimAccount(claim) => &claim.name,
            Self::Check { .. } | Self::Sweep { .. } => "",
        }
    }
}

impl Directory {
    /// Makes a domain, or an alias of another one.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` (what it is an alias of), `Invalid`.
    pub async fn create_domain(
        &self,
        name: &str,
        alias_of: Option<&str>,
    ) -> Result<DomainRow, StoreError> {
        let name = domain_name(name)?;
        let alias_of = alias_of.map(domain_name).transpose()?;
        if alias_of.as_ref() == Some(&name) {
            return Err(StoreError::Invalid("a domain cannot be an alias of itself".into()));
        }
        let row = DomainRow { name, alias_of, extra: Vec::new() };
        self.change(&Change::InsertDomain(row.clone())).await?;
        Ok(row)
    }

    /// Removes a domain without users.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (while it has users).
    pub async fn remove_domain(&self, name: &str) -> Result<(), StoreError> {
        self.change(&Change::RemoveDomain(domain_name(name)?)).await
    }

    /// Fails when a domain has users. Their names start with the local part, so all are looked at:
    /// removing a domain is rare, and a directory small beside its mail.
    async fn in_use(&self, domain: &str) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.users(after, LIST_PAGE).await?;
            let of = |row: &&UserRow| row.name.rsplit_once('@').is_some_and(|(_, d)| d == domain);
            if let Some(user) = page.rows.iter().find(of) {
                return Err(StoreError::Invalid(format!("the domain has users: {}", user.name)));
            }
            match page.rows.last() {
                Some(last) if page.more => after = Some(last.name.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Makes a user with an account of its own, or an alias.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` (its domain, or what it is an alias of), `Invalid`.
    pub async fn create_user(&self, user: NewUser) -> Result<UserRow, StoreError> {
        let address = Address::parse(&user.name)?;
        let name = Address::user(&address.local, address.domain.as_deref());
        let alias_of = user.alias_of.as_deref().map(Address::parse).transpose()?;
        let alias_of = alias_of.map(|to| Address::user(&to.local, to.domain.as_deref()));
        if alias_of.as_ref() == Some(&name) {
            return Err(StoreError::Invalid("a user cannot be an alias of itself".into()));
        }
        let password = match user.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let account = match alias_of {
            Some(_) => None,
            None => Some(AccountId(self.mint.next())),
        };
        let quota_octets = user.quota_octets;
        let extra = Vec::new();
        let row = UserRow { name, account, alias_of, password, quota_octets, extra };
        self.change(&Change::InsertUser(address, row.clone())).await?;
        Ok(row)
    }

    /// Sets a user's password.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_password(&self, user: &str, password: Secret) -> Result<(), StoreError> {
        let user = self.name(user)?;
        let password = self.passwords.hash(password).await?;
        self.change(&Change::SetPassword { user, password }).await
    }

    /// Removes a user from the directory, and gives its account up for good: also of a user whom the
    /// store component does not know any more.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` when others keep the users and this one is still there.
    pub async fn remove_user(&self, user: &str) -> Result<(), StoreError> {
        self.change(&Change::RemoveUser(self.name(user)?)).await
    }

    /// Lets the store component check a page of its records.
    ///
    /// # Errors
    /// `Damaged` when it cannot read them; `Broken` when it writes without `repair`.
    pub async fn check(
        &self,
        kind: Kind,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage, StoreError> {
        let page = Mutex::default();
        let change = Change::Check { kind, after, repair, page };
        self.change(&change).await?;
        match change {
            Change::Check { page, .. } => Ok(page.into_inner().unwrap_or_default()),
            _ => Ok(CheckPage::default()),
        }
    }

    /// Lets the store component bring a page of its records to the schema that is written.
    ///
    /// # Errors
    /// `Unavailable` when that is not the one of this round.
    pub async fn sweep(
        &self,
        kind: Kind,
        after: Option<String>,
        round: u64,
    ) -> Result<Swept, StoreError> {
        let change = Change::Sweep { kind, after, round, swept: Mutex::default() };
        self.change(&change).await?;
        match change {
            Change::Sweep { swept, .. } => Ok(swept.into_inner().unwrap_or_default()),
            _ => Ok(Swept::default()),
        }
    }

    async fn plan_sweep(
        &self,
        kind: Kind,
        after: Option<String>,
        round: u64,
        txn: &Txn,
    ) -> Result<Swept, StoreError> {
        let call = CallInfo { migrate: true, ..self.call() };
        let Stores { domains, users, .. } = &self.stores;
        let known = match kind {
            Kind::Domains => domains.round(),
            Kind::Users => users.round(),
        };
        // Captured before the component is called, which is told no earlier one then.
        let known = known.map(|known| known.known.borrow().round);
        if known != Some(round) {
            return Err(StoreError::Unavailable(format!(
                "the sweep is of round {round}, this node is in {}",
                known.unwrap_or(0)
            )));
        }
        let page = match kind {
            Kind::Domains => guest(domains.check(call, txn, after, false)).await,
            Kind::Users => guest(users.check(call, txn, after, false)).await,
        }?;
        let problem = page.findings.first();
        Ok(Swept {
            records: page.checked,
            rewritten: 0,
            problem: problem.map(|found| format!("{}: {}", found.name, found.problem)),
            next: page.next,
        })
    }

    fn name(&self, user: &str) -> Result<String, StoreError> {
        let address = Address::parse(user)?;
        Ok(Address::user(&address.local, address.domain.as_deref()))
    }

    async fn row(&self, txn: &Txn, name: &str) -> Result<UserRow, StoreError> {
        let names = vec![name.to_owned()];
        let rows = guest(self.stores.users.select(self.call(), &txn.view(), names)).await?;
        let row = rows.into_iter().next().flatten();
        row.ok_or_else(|| StoreError::NotFound(format!("user {name}")))
    }

    /// Plans a change on what is committed at the moment, into a transaction.
    async fn plan(&self, change: &Change, txn: &Txn) -> Result<(), StoreError> {
        match change {
            Change::InsertDomain(row) => self.plan_domain(row, txn).await,
            Change::RemoveDomain(name) => self.plan_domain_removal(name, txn).await,
            Change::InsertUser(address, row) => self.plan_user(address, row, txn).await,
            Change::SetPassword { user, password } => {
                let row = self.row(txn, user).await?;
                let row = UserRow { password: Some(password.clone()), ..row };
                guest(self.stores.users.update(self.call(), txn, vec![row])).await
            }
            Change::Check { kind, after, repair, page } => {
                let (call, after) = (self.call(), after.clone());
                let found = match kind {
                    Kind::Domains => {
                        guest(self.stores.domains.check(call, txn, after, *repair)).await
                    }
                    Kind::Users => guest(self.stores.users.check(call, txn, after, *repair)).await,
                }?;
                *page.lock().unwrap_or_else(PoisonError::into_inner) = found;
                Ok(())
            }
            Change::Sweep { kind, after, round, swept } => {
                let found = self.plan_sweep(*kind, after.clone(), *round, txn).await?;
                *swept.lock().unwrap_or_else(PoisonError::into_inner) = found;
                Ok(())
            }
            Change::RemoveUser(name) => self.plan_user_removal(name, txn).await,
            Change::ClaimAccount(claim) => self.plan_claim(claim, txn).await,
        }
    }

    async fn plan_domain(&self, row: &DomainRow, txn: &Txn) -> Result<(), StoreError> {
        let names = row.alias_of.clone().into_iter().collect();
        let view = txn.view();
        let targets = self.stores.domains.select(self.call(), &view, names);
        if guest(targets).await?.iter().any(Option::is_none) {
            return Err(StoreError::NotFound("the domain that it is an alias of".into()));
        }
        guest(self.stores.domains.insert(self.call(), txn, vec![row.clone()])).await
    }

    async fn plan_domain_removal(&self, name: &str, txn: &Txn) -> Result<(), StoreError> {
        self.in_use(name).await?;
        let domains = &self.stores.domains;
        let names = vec![name.to_owned()];
        let there = guest(domains.select(self.call(), &txn.view(), names.clone())).await?;
        match there.iter().any(Option::is_some) {
            true => guest(domains.delete(self.call(), txn, names)).await,
            false => Err(StoreError::NotFound(format!("domain {name}"))),
        }
    }

    async fn plan_user(
        &self,
        address: &Address,
        row: &UserRow,
        txn: &Txn,
    ) -> Result<(), StoreError> {
        if let Some(domain) = &address.domain {
            let names = vec![domain.clone()];
            let view = txn.view();
            let domains = self.stores.domains.select(self.call(), &view, names);
            match guest(domains).await?.into_iter().next().flatten() {
                None => return Err(StoreError::NotFound(format!("domain {domain}"))),
                Some(DomainRow { alias_of: Some(real), .. }) => {
                    return Err(StoreError::Invalid(format!("{domain} is an alias of {real}")));
                }
                Some(_) => {}
            }
        }
        let users = &self.stores.users;
        let names = [Some(row.name.clone()), row.alias_of.clone()];
        let names: Vec<String> = names.into_iter().flatten().collect();
        let found = guest(users.select(self.call(), &txn.view(), names)).await?;
        match found.as_slice() {
            [Some(_), ..] => Err(StoreError::AlreadyExists(format!("user {}", row.name))),
            [None, None] => Err(StoreError::NotFound("the user that it is an alias of".into())),
            _ => {
                guest(users.insert(self.call(), txn, vec![row.clone()])).await?;
                row.account.map_or(Ok(()), |account| accounts::keep(txn, &row.name, account))
            }
        }
    }

    async fn plan_user_removal(&self, name: &str, txn: &Txn) -> Result<(), StoreError> {
        match self.row(txn, name).await {
            Ok(_) => {
                let names = vec![name.to_owned()];
                guest(self.stores.users.delete(self.call(), txn, names)).await?;
            }
            Err(StoreError::NotFound(_)) if self.has_account(name).await? => {}
            Err(error) => return Err(error),
        }
        accounts::give_up(txn, name)
    }

    /// Lets the store components prepare the directory. One that others keep may have nothing to
    /// prepare.
    async fn prepare(&self, txn: &Txn) -> Result<(), StoreError> {
        let as_far_as_it_does = |done| match done {
            Err(StoreError::Unsupported(_)) => Ok(()),
            done => done,
        };
        as_far_as_it_does(guest(self.stores.domains.create(self.call(), txn)).await)?;
        as_far_as_it_does(guest(self.stores.users.create(self.call(), txn)).await)
    }

    /// What a change comes to on what is committed at the moment.
    async fn writes(&self, change: &Change, head: u64) -> Result<Vec<Write>, StoreError> {
        let txn = Txn::new(self.engine.clone(), Space::Directory);
        if head == 0 {
            if !change.may_write() {
                // There is nothing yet, and looking makes nothing.
                return Ok(Vec::new());
            }
            self.prepare(&txn).await?;
        }
        let rounds = [self.stores.domains.round(), self.stores.users.round()];
        current(&self.engine, rounds).await?;
        self.plan(change, &txn).await?;
        let writes = txn.take();
        if let Change::Sweep { swept, .. } = change {
            let mut swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
            swept.rewritten = writes.len() as u64;
        }
        match change.may_write() || writes.is_empty() {
            true => Ok(writes),
            false => Err(StoreError::Broken("the store wrote in a check without repair".into())),
        }
    }

    /// Carries out a change on what is committed at that moment.
    pub(super) async fn change(&self, change: &Change) -> Result<(), StoreError> {
        let _one = self.turn().await?;
        for _ in 0..MAX_DIRECTORY_ATTEMPTS {
            let head = read(self.engine.head(Space::Directory)).await?;
            let writes = self.writes(change, head).await?;
            if writes.is_empty() {
                return Ok(());
            }
            let commit = Commit {
                space: Space::Directory,
                fence: None,
                expected_head: Some(head),
                preconditions: Vec::new(),
                transactions: Vec::new(),
                writes,
                now: now(),
            };
            let commit = self.engine.commit(commit);
            let committed = tokio::time::timeout(self.patience.commit, commit).await;
            // Also when it is not known whether it is another one now.
            self.users.remove(change.name());
            self.domains.remove(change.name());
            match committed {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(StorageError::HeadMoved { .. } | StorageError::Conflict)) => continue,
                Ok(Err(error)) => return Err(storage_error(error)),
                Err(_) => return Err(StoreError::UnknownOutcome),
            }
        }
        Err(StoreError::Busy("the directory changes all the time".into()))
    }

    /// A turn among those who change the directory.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let busy = || StoreError::Busy("the directory is being changed".into());
        let closed = |_| StoreError::Unavailable("this node is shutting down".into());
        let turn = tokio::time::timeout(self.patience.directory, self.changing.acquire()).await;
        turn.map_err(|_| busy())?.map_err(closed)
    }
}
