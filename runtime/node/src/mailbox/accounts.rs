//! The accounts that are in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, SessionId, Slot};
use tokio_util::task::TaskTracker;

use crate::guest::Stores;
use crate::storage::{Commit, Committed, Engine, StorageError};

use super::account::Account;
use super::actor::{self, Job};
use super::limits::MAX_OPEN_ACCOUNTS;
use super::{Answer, Claims, Mint, RecentBodies, Request};

/// What every account of a node is made from.
pub struct Env {
    /// Where everything is committed.
    pub engine: Arc<dyn Engine>,
    /// Who lays records out.
    pub stores: Stores,
    /// The slots of this node.
    pub claims: Arc<Claims>,
    /// Names and ids.
    pub mint: Arc<Mint>,
    /// Large bodies that were read a moment ago.
    pub recent: RecentBodies,
    /// How long a commit may take.
    pub commit_deadline: Duration,
}

impl Env {
    /// Commits; `None` when nobody waits for it any longer: it can still take effect.
    pub(super) async fn commit(&self, commit: Commit) -> Option<Result<Committed, StorageError>> {
        tokio::time::timeout(self.commit_deadline, self.engine.commit(commit)).await.ok()
    }
}

/// The open accounts of this node. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    registry: Arc<Registry>,
}

pub(super) struct Registry {
    pub(super) env: Arc<Env>,
    open: Mutex<Open>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Open {
    accounts: HashMap<AccountId, Arc<Account>>,
    closing: bool,
}

impl Registry {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing that holds it leaves it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an account out when nobody uses it: callers get theirs under the same lock.
    pub(super) fn retire(&self, account: &Arc<Account>) -> bool {
        let mut open = self.open();
        // One reference is the registry's, one the writer's.
        let there = open.accounts.get(&account.id());
        if !there.is_some_and(|there| Arc::ptr_eq(there, account)) {
            return true;
        }
        let unused = Arc::strong_count(account) == 2 && account.with(|s| s.sessions.is_empty());
        if unused {
            open.accounts.remove(&account.id());
        }
        unused
    }

    /// Takes an account out whatever it was doing: its writer has ended.
    pub(super) fn remove(&self, account: &Arc<Account>) {
        let mut open = self.open();
        if open.accounts.get(&account.id()).is_some_and(|there| Arc::ptr_eq(there, account)) {
            open.accounts.remove(&account.id());
        }
    }
}

impl Accounts {
    /// None open.
    pub fn new(env: Env) -> Self {
        let registry =
            Registry { env: Arc::new(env), open: Mutex::default(), tasks: TaskTracker::new() };
        Self { registry: Arc::new(registry) }
    }

    /// What accounts are made from.
    pub fn env(&self) -> &Arc<Env> {
        &self.registry.env
    }

    /// Carries out a call on this node.
    ///
    /// # Errors
    /// Those of the call; `Busy` when too many accounts or calls are in memory; `Unavailable` once
    /// the node shuts down.
    pub async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let account = self.account(request.account)?;
        account.ask(request).await
    }

    /// Leaves the session's active mailbox.
    pub fn leave(&self, account: AccountId, session: SessionId) {
        let account = self.registry.open().accounts.get(&account).cloned();
        if let Some(account) = account {
            account.leave(session);
        }
    }

    /// How many accounts are open.
    pub fn len(&self) -> usize {
        self.registry.open().accounts.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn account(&self, id: AccountId) -> Result<Arc<Account>, StoreError> {
        let mut open = self.registry.open();
        if open.closing {
            return Err(StoreError::Unavailable("this node is shutting down".into()));
        }
        if let Some(account) = open.accounts.get(&id) {
            return Ok(account.clone());
        }
        if open.accounts.len() >= MAX_OPEN_ACCOUNTS {
            let idle = open.accounts.values().filter(|account| Arc::strong_count(account) == 2);
            idle.take(64).for_each(|account| account.nudge(Job::Retire));
            return Err(StoreError::Busy("too many accounts are open".into()));
        }
        let (account, queue) = Account::new(id, self.registry.env.clone());
        open.accounts.insert(id, account.clone());
        let actor = actor::run(account.clone(), queue, Arc::downgrade(&self.registry));
        self.registry.tasks.spawn(actor);
        Ok(account)
    }

    /// How many accounts of each slot are open.
    pub fn slots(&self) -> BTreeMap<Slot, usize> {
        let mut slots = BTreeMap::new();
        for account in self.registry.open().accounts.keys() {
            *slots.entry(Slot::of(*account)).or_default() += 1;
        }
        slots
    }

    /// Takes a slot's accounts out of memory, as they should be: what is queued is carried out, what is in
    /// memory only is written. The caller lets no call in meanwhile.
    pub async fn close_slot(&self, slot: Slot) {
        for account in self.of_slot(slot) {
            account.close().await;
            account.ended().await;
        }
    }

    /// Takes a slot's accounts out of memory at once: another claim holds the slot, and nothing that they
    /// write has an effect any more.
    pub fn abandon_slot(&self, slot: Slot) {
        for account in self.of_slot(slot) {
            self.registry.remove(&account);
            account.abandoned.cancel();
        }
    }

    fn of_slot(&self, slot: Slot) -> Vec<Arc<Account>> {
        let open = self.registry.open();
        open.accounts.values().filter(|account| Slot::of(account.id()) == slot).cloned().collect()
    }

    /// Accepts no more calls, carries out those that wait, writes what is in memory only.
    pub async fn close(&self) {
        let accounts: Vec<Arc<Account>> = {
            let mut open = self.registry.open();
            open.closing = true;
            open.accounts.values().cloned().collect()
        };
        for account in accounts {
            account.close().await;
        }
        self.registry.tasks.close();
        self.registry.tasks.wait().await;
    }
}
