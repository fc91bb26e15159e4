//! The directory of domains and users: who may log in, and to whom an address means mail.
//!
//! Reads are remembered for a few seconds; changes made here are seen at once.

mod address;

mod accounts;

mod change;

mod password;

use std::sync::Arc;
use std::time::Instant;

use postroom_core::calls::{Principal, Secret};
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, UserRow};
use postroom_core::types::{AccountId, MailboxName, TransactionId};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::guest::{CallInfo, Page, Stores};
use crate::mailbox::{Mint, error::guest};
use crate::storage::{Engine, Space, View};

use super::limits::{DIRECTORY_CACHE, DIRECTORY_FRESH, MAX_ALIAS_DEPTH, Patience};
use super::{DirectoryMode, NewUser};
use address::Address;
use password::Passwords;

/// A record and when it was read; `None`: there is none.
type Remembered<R> = (Option<Arc<R>>, Instant);

/// The directory.
pub struct Directory {
    mode: DirectoryMode,
    engine: Arc<dyn Engine>,
    stores: Stores,
    mint: Arc<Mint>,
    users: Cache<String, Remembered<Named>>,
    domains: Cache<String, Remembered<DomainRow>>,
    passwords: Passwords,
    /// One change at a time on this node; other nodes' are met by the commit.
    changing: Semaphore,
    patience: Patience,
}

/// The kinds of record in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Domains.
    Domains,
    /// Users.
    Users,
}

impl Kind {
    /// One of them, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Domains => "domain",
            Self::Users => "user",
        }
    }
}

/// What a name in the directory stands for.
enum Named {
    /// Another name, whose user gets its mail.
    Alias(String),
    /// A user.
    User(Arc<User>),
}

/// A user, with the account that the host knows to be this user's ([`accounts`]).
pub struct User {
    /// The name.
    pub name: String,
    /// The account.
    pub account: AccountId,
    /// Most octets of mail in the account; `None`: no limit.
    pub quota_octets: Option<u64>,
    /// What a password is verified against; `None`: cannot log in by password.
    password: Option<String>,
}

/// Whose mail an address means.
pub struct Resolved {
    /// The user, aliases followed.
    pub user: Arc<User>,
    /// The folder of a sub-address.
    pub folder: Option<MailboxName>,
}

impl Directory {
    /// A directory over these components.
    pub fn new(
        mode: DirectoryMode,
        engine: Arc<dyn Engine>,
        stores: Stores,
        mint: Arc<Mint>,
        patience: Patience,
    ) -> Self {
        Self {
            mode,
            engine,
            stores,
            mint,
            users: Cache::new(DIRECTORY_CACHE),
            domains: Cache::new(DIRECTORY_CACHE),
            passwords: Passwords::new(),
            changing: Semaphore::new(1),
            patience,
        }
    }

    fn call(&self) -> CallInfo {
        CallInfo::new(AccountId::NONE, TransactionId(self.mint.next()))
    }

    fn view(&self) -> View {
        View::new(self.engine.clone(), Space::Directory)
    }

    /// Checks a password.
    ///
    /// # Errors
    /// `AuthenticationFailed`, whatever is wrong; `Busy`.
    pub async fn log_in(&self, user: &str, password: Secret) -> Result<Principal, StoreError> {
        let failed = StoreError::AuthenticationFailed;
        if let DirectoryMode::Dev { password: right } = &self.mode {
            // Compared by digest: in the same time whatever differs.
            let same = blake3::hash(password.0.as_bytes()) == blake3::hash(right.0.as_bytes());
            return match same {
                true => self.principal(user).await,
                false => Err(failed),
            };
        }
        let found = match Address::parse(user) {
            Ok(address) => self.find(&address).await?,
            Err(_) => None,
        };
        let found = found.filter(|found| found.folder.is_none()).map(|found| found.user);
        let stored = found.as_ref().and_then(|user| user.password.clone());
        match (self.passwords.verify(password, stored).await?, found) {
            (true, Some(user)) => Ok(principal(&user)),
            _ => Err(failed),
        }
    }

    /// The user of a name, without a password; in dev mode it appears.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn principal(&self, user: &str) -> Result<Principal, StoreError> {
        let resolved = self.resolve(user).await?;
        match resolved.folder {
            None => Ok(principal(&resolved.user)),
            Some(_) => Err(StoreError::NotFound(format!("user {user}"))),
        }
    }

    /// Whose mail an address means.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (no address, or aliases in a circle).
    pub async fn resolve(&self, text: &str) -> Result<Resolved, StoreError> {
        let address = Address::parse(text)?;
        match (self.find(&address).await?, &self.mode) {
            (Some(found), _) => Ok(found),
            (None, DirectoryMode::Dev { .. }) => self.appear(&address).await,
            (None, DirectoryMode::Strict) => Err(StoreError::NotFound(format!("user {text}"))),
        }
    }

    /// A user of an address that exists: as it stands first, then without its folder. In dev mode
    /// users have no domain, whatever the address says, unless one was made with it.
    async fn find(&self, address: &Address) -> Result<Option<Resolved>, StoreError> {
        let domain = match &address.domain {
            Some(domain) => self.real_domain(domain).await?,
            None => None,
        };
        let strict = matches!(self.mode, DirectoryMode::Strict);
        if strict && address.domain.is_some() && domain.is_none() {
            return Ok(None);
        }
        let domain = domain.or_else(|| address.domain.clone());
        let mut domains = vec![domain.as_deref()];
        if !strict && domain.is_some() {
            domains.push(None);
        }
        let detail = address.detail();
        let plain = (address.local.clone(), None);
        let parted = detail.map(|(user, folder)| (user, Some(folder)));
        for (local, folder) in [Some(plain), parted].into_iter().flatten() {
            for domain in &domains {
                if let Some(user) = self.real_user(&Address::user(&local, *domain)).await? {
                    let folder = folder.and_then(|name| MailboxName::new(name).ok());
                    return Ok(Some(Resolved { user, folder }));
                }
            }
        }
        Ok(None)
    }

    /// In dev mode: makes the user that an address means.
    async fn appear(&self, address: &Address) -> Result<Resolved, StoreError> {
        let detail = address.detail();
        let (name, folder) = match &detail {
            Some((user, folder)) => (user.clone(), MailboxName::new(folder).ok()),
            None => (address.local.clone(), None),
        };
        let user =
            NewUser { name: name.clone(), password: None, alias_of: None, quota_octets: None };
        match self.create_user(user).await {
            Ok(_) | Err(StoreError::AlreadyExists(_)) => {}
            Err(error) => return Err(error),
        }
        let user = self.real_user(&name).await?;
        let user = user.ok_or_else(|| StoreError::NotFound(format!("user {name}")))?;
        Ok(Resolved { user, folder })
    }

    /// The domain that this one means, aliases followed; `None` when there is none.
    async fn real_domain(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut name = name.to_owned();
        for _ in 0..MAX_ALIAS_DEPTH {
            match self.domain(&name).await? {
                None => return Ok(None),
                Some(domain) => match &domain.alias_of {
                    None => return Ok(Some(name)),
                    Some(target) => name = target.clone(),
                },
            }
        }
        Err(StoreError::Invalid(format!("aliases of domain {name} go in a circle or too deep")))
    }

    /// The user that this name means, aliases followed; `None` when there is none.
    async fn real_user(&self, name: &str) -> Result<Option<Arc<User>>, StoreError> {
        let mut name = name.to_owned();
        for _ in 0..MAX_ALIAS_DEPTH {
            match self.named(&name).await?.as_deref() {
                None => return Ok(None),
                Some(Named::User(user)) => return Ok(Some(user.clone())),
                Some(Named::Alias(target)) => name = target.clone(),
            }
        }
        Err(StoreError::Invalid(format!("aliases of user {name} go in a circle or too deep")))
    }

    /// The domain of this very name.
    pub async fn domain(&self, name: &str) -> Result<Option<Arc<DomainRow>>, StoreError> {
        if let Some(known) = fresh(self.domains.get(name)) {
            return Ok(known);
        }
        let names = vec![name.to_owned()];
        let view = self.view();
        let rows = guest(self.stores.domains.select(self.call(), &view, names)).await?;
        let row = rows.into_iter().next().flatten().filter(|row| row.name == name).map(Arc::new);
        self.domains.insert(name.to_owned(), (row.clone(), Instant::now()));
        Ok(row)
    }

    /// What this very name stands for; `None`: nothing.
    async fn named(&self, name: &str) -> Result<Option<Arc<Named>>, StoreError> {
        if let Some(known) = fresh(self.users.get(name)) {
            return Ok(known);
        }
        let names = vec![name.to_owned()];
        let view = self.view();
        let rows = guest(self.stores.users.select(self.call(), &view, names)).await?;
        let named = match rows.into_iter().next().flatten().filter(|row| row.name == name) {
            None => None,
            Some(UserRow { alias_of: Some(target), .. }) => Some(Named::Alias(target)),
            Some(row) => {
                let account = self.account(name, row.account).await?;
                let UserRow { name, quota_octets, password, .. } = row;
                Some(Named::User(Arc::new(User { name, account, quota_octets, password })))
            }
        };
        let named = named.map(Arc::new);
        self.users.insert(name.to_owned(), (named.clone(), Instant::now()));
        Ok(named)
    }

    /// The quota of a user. While the store of users is away it is the one that was read last, however
    /// old: mail goes on as long as the user is remembered.
    ///
    /// # Errors
    /// When the user can neither be read nor is remembered.
    pub async fn quota(&self, user: &str) -> Result<Option<u64>, StoreError> {
        let named = match self.named(user).await {
            Err(error) if error.is_temporary() => {
                let Some((known, _)) = self.users.get(user) else { return Err(error) };
                warn!(user, %error, "the quota is the one that was read last");
                known
            }
            named => named?,
        };
        Ok(match named.as_deref() {
            Some(Named::User(user)) => user.quota_octets,
            Some(Named::Alias(_)) | None => None,
        })
    }

    /// As if a user had been read so long ago that it is read again.
    #[cfg(test)]
    pub fn grow_old(&self, user: &str) {
        let old = Instant::now().checked_sub(DIRECTORY_FRESH);
        if let (Some((known, _)), Some(old)) = (self.users.get(user), old) {
            self.users.insert(user.to_owned(), (known, old));
        }
    }

    /// Domains by name.
    pub async fn domains(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<DomainRow>, StoreError> {
        guest(self.stores.domains.list(self.call(), &self.view(), after, limit)).await
    }

    /// Users by name.
    pub async fn users(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<UserRow>, StoreError> {
        let mut page =
            guest(self.stores.users.list(self.call(), &self.view(), after, limit)).await?;
        self.fill_in(&mut page.rows).await?;
        Ok(page)
    }
}

fn principal(user: &User) -> Principal {
    Principal { user: user.name.clone(), account: user.account }
}

fn fresh<R>(remembered: Option<Remembered<R>>) -> Option<Option<Arc<R>>> {
    remembered.filter(|(_, at)| at.elapsed() < DIRECTORY_FRESH).map(|(row, _)| row)
}
