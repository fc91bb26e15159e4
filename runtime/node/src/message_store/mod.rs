//! The message store: the only door through which a front end reaches mail (E1).
//!
//! A front end registers a [`SessionHandle`] for each connection and makes [`Call`]s for it; the
//! mail rules that every back end shares (addresses, passwords, delivery, derived data, search) are
//! applied here, everything that concerns one account goes on through the router. Commands and the
//! admin API use the functions below [`MessageStore::call`].

use std::sync::Arc;

use bytes::Bytes;
use postroom_core::calls::{
    Call, MailboxInfo, MailboxStatus, NewMessage, Principal, Reply, Secret,
};
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, UserRow};
use postroom_core::types::{
    Flags, MailboxName, MessageId, SessionId, Timestamp, TransactionId, Uid,
};

use crate::guest::{Page, Stores};
use crate::storage::Engine;

/// Who may log in, and for whom mail is accepted.
#[derive(Clone, Debug)]
pub enum DirectoryMode {
    /// Any user name logs in with this one password, and any recipient is accepted; accounts appear
    /// on first use. Only for trying things on a loopback address.
    Dev {
        /// The password.
        password: Secret,
    },
    /// Users and domains must exist.
    Strict,
}

/// What a message store is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's id, durable across restarts.
    pub node: String,
    /// Strictly rising with each start of this node.
    pub generation: u64,
    /// Who may log in.
    pub directory: DirectoryMode,
}

/// The message store of this node. Cheap to clone.
#[derive(Clone)]
pub struct MessageStore {
    inner: Arc<Inner>,
}

struct Inner {
    _config: Config,
    _stores: Stores,
    _engine: Arc<dyn Engine>,
}

/// One client connection (or command), as the message store knows it. Dropping it leaves its active
/// mailbox; calls that it has made go on to their end.
pub struct SessionHandle {
    id: SessionId,
}

/// What a user is made from.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// `local@domain`, or `local` where there is no domain.
    pub name: String,
    /// `None`: cannot log in.
    pub password: Option<Secret>,
    /// Another user to whom this name's mail goes.
    pub alias_of: Option<String>,
    /// Most octets of mail; `None`: no limit.
    pub quota_octets: Option<u64>,
}

/// A message on its way out of the store.
#[derive(Clone, Debug)]
pub struct ExportedMessage {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// EMAILID.
    pub message_id: MessageId,
    /// Its octets as they were appended.
    pub body: Bytes,
}

/// The messages of one mailbox, one after the other, without holding them in memory.
pub struct Export {
    _private: (),
}

impl Export {
    /// The next message by UID; `None` after the last one. `Damaged` concerns one message only: the
    /// next call goes on with the one after it.
    pub async fn next(&mut self) -> Option<Result<ExportedMessage, StoreError>> {
        None
    }

    /// Messages in the mailbox when the export began: for a progress bar.
    pub fn total(&self) -> u64 {
        0
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CheckFinding {
    /// `domain`, `user`, `mailbox`, `message` or `ledger`.
    pub kind: String,
    /// The account; `None` for the directory.
    pub account: Option<String>,
    /// Which record.
    pub name: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// What a check says while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckEvent {
    /// So many records were looked at since the last event.
    Progress {
        /// Records.
        checked: u64,
    },
    /// Something is wrong.
    Finding(CheckFinding),
}

impl SessionHandle {
    /// Its number, for logs.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// From now on calls are made for this user.
    pub fn log_in(&self, principal: Principal) {
        let _ = principal;
    }

    /// Resolves when the active mailbox has news that this session has not been woken for yet; never
    /// while none is active. Cancel-safe; at most one waiter at a time.
    pub async fn changed(&self) {
        std::future::pending().await
    }
}

impl MessageStore {
    /// A message store over these components and this engine.
    pub fn new(config: Config, stores: Stores, engine: Arc<dyn Engine>) -> Self {
        let inner = Inner { _config: config, _stores: stores, _engine: engine };
        Self { inner: Arc::new(inner) }
    }

    /// Registers a session.
    pub fn session(&self) -> SessionHandle {
        let _ = &self.inner;
        SessionHandle { id: SessionId(0) }
    }

    /// Carries out a call for a session. Cancel-safe: a write that has begun goes on to its end
    /// when the future is dropped. The same write under the same `transaction` has its effect once.
    pub async fn call(
        &self,
        session: &SessionHandle,
        transaction: TransactionId,
        call: Call,
    ) -> Result<Reply, StoreError> {
        let _ = (session, transaction, call);
        Err(unfinished())
    }

    /// A fresh transaction id.
    pub fn transaction(&self) -> TransactionId {
        TransactionId([0; 16])
    }

    /// Domains by name, after a name.
    pub async fn domains(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<DomainRow>, StoreError> {
        let _ = (after, limit);
        Err(unfinished())
    }

    /// Makes a domain, or an alias of another domain.
    pub async fn create_domain(
        &self,
        name: &str,
        alias_of: Option<&str>,
    ) -> Result<DomainRow, StoreError> {
        let _ = (name, alias_of);
        Err(unfinished())
    }

    /// Removes a domain without users.
    pub async fn remove_domain(&self, name: &str) -> Result<(), StoreError> {
        let _ = name;
        Err(unfinished())
    }

    /// Users by name, after a name.
    pub async fn users(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<UserRow>, StoreError> {
        let _ = (after, limit);
        Err(unfinished())
    }

    /// Makes a user with a new account, or an alias.
    pub async fn create_user(&self, user: NewUser) -> Result<UserRow, StoreError> {
        let _ = user;
        Err(unfinished())
    }

    /// Sets a user's password.
    pub async fn set_password(&self, user: &str, password: Secret) -> Result<(), StoreError> {
        let _ = (user, password);
        Err(unfinished())
    }

    /// Removes a user from the directory. Its account's mail stays in storage, out of reach.
    pub async fn remove_user(&self, user: &str) -> Result<(), StoreError> {
        let _ = user;
        Err(unfinished())
    }

    /// The user of this name (aliases resolved; in dev mode it appears), without a password: for
    /// commands of the operator.
    pub async fn principal(&self, user: &str) -> Result<Principal, StoreError> {
        let _ = user;
        Err(unfinished())
    }

    /// A user's mailboxes by name, with their counts.
    pub async fn mailboxes_of(
        &self,
        user: &str,
    ) -> Result<Vec<(MailboxInfo, MailboxStatus)>, StoreError> {
        let _ = user;
        Err(unfinished())
    }

    /// Makes a mailbox (and missing levels above) if it is not there.
    pub async fn ensure_mailbox(&self, user: &str, name: &MailboxName) -> Result<(), StoreError> {
        let _ = (user, name);
        Err(unfinished())
    }

    /// Adds messages to a user's mailbox, all or none.
    pub async fn import(
        &self,
        user: &str,
        mailbox: &MailboxName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Uid>, StoreError> {
        let _ = (user, mailbox, messages);
        Err(unfinished())
    }

    /// Reads a user's mailbox out.
    pub async fn export(&self, user: &str, mailbox: &MailboxName) -> Result<Export, StoreError> {
        let _ = (user, mailbox);
        Err(unfinished())
    }

    /// Checks everything that is stored (E15), calling `event` as it goes; with `repair`, mends what
    /// can be mended. Goes on after damage.
    pub async fn check(
        &self,
        repair: bool,
        event: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<(), StoreError> {
        let _ = (repair, event);
        Err(unfinished())
    }

    /// Accepts no more calls, finishes those under way, leaves every mailbox.
    pub async fn close(&self) -> Result<(), StoreError> {
        Err(unfinished())
    }
}

fn unfinished() -> StoreError {
    StoreError::Unsupported("not there yet".into())
}
