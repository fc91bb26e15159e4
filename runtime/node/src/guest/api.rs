//! What the layers above ask of a store component, whatever it is made of. Implemented by the pool
//! of WebAssembly instances, and by native twins in benchmarks and tests.

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::hook::{Delivered, Delivery, Verdict};
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, UserRow};
use postroom_core::types::{AccountId, MailboxId, TransactionId};
use serde::{Deserialize, Serialize};

use super::manifest::Medium;
use super::round::Round;
use crate::storage::{Body, Txn, View};

/// What every call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallInfo {
    /// Whose records; the zero id for the directory.
    pub account: AccountId,
    /// Follows the call from the client to storage and back.
    pub transaction: TransactionId,
    /// In which schema rows are written; `None`: the component's own choice.
    pub schema: Option<u32>,
    /// Whether a check brings rows of other schemas to that one.
    pub migrate: bool,
}

impl CallInfo {
    /// A call about an account's records (of the zero id: the directory's).
    pub fn new(account: AccountId, transaction: TransactionId) -> Self {
        Self { account, transaction, schema: None, migrate: false }
    }
}

/// A page of a list: rows in order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page<R> {
    /// The rows.
    pub rows: Vec<R>,
    /// Whether more follow the last one.
    pub more: bool,
}

/// One finding of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The record.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// A page of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckPage {
    /// Records looked at.
    pub checked: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Where to go on; `None`: done.
    pub next: Option<String>,
}

/// Octets of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Octets that the guest returned: the range that was asked for.
    Octets(Bytes),
    /// A body handle: the whole body, of which the host takes the range itself.
    Body(Body),
}

/// The verbs of one kind of record (ErlMail's create, drop, insert, update, delete, select, list,
/// check). `R` is the record, `N` its name.
#[async_trait]
pub trait Records<R: Send + 'static, N: Send + 'static>: Send + Sync {
    /// In which round the schema of its rows is; `None`: there is only one.
    fn round(&self) -> Option<Round> {
        None
    }
    /// Prepares the space. Repeatable.
    async fn create(&self, call: CallInfo, txn: &Txn) -> Result<(), StoreError>;
    /// Removes every record of this kind from the space. Repeatable.
    async fn drop_all(&self, call: CallInfo, txn: &Txn) -> Result<(), StoreError>;
    /// Adds records that are not there.
    async fn insert(&self, call: CallInfo, txn: &Txn, rows: Vec<R>) -> Result<(), StoreError>;
    /// Puts records that are there: a blind put of the state after the change.
    async fn update(&self, call: CallInfo, txn: &Txn, rows: Vec<R>) -> Result<(), StoreError>;
    /// Removes records; ones that are not there are passed over.
    async fn delete(&self, call: CallInfo, txn: &Txn, names: Vec<N>) -> Result<(), StoreError>;
    /// The records of these names, in their order; `None` for ones that are not there.
    async fn select(
        &self,
        call: CallInfo,
        view: &View,
        names: Vec<N>,
    ) -> Result<Vec<Option<R>>, StoreError>;
    /// Records after a name in order of names, at most `limit`.
    async fn list(
        &self,
        call: CallInfo,
        view: &View,
        after: Option<N>,
        limit: u32,
    ) -> Result<Page<R>, StoreError>;
    /// Checks (and, where `repair`, mends) records after a cursor.
    async fn check(
        &self,
        call: CallInfo,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage, StoreError>;
}

/// A message's place: what `select` and `delete` name. Order: mailbox, then UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessagePlace {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The UID in it.
    pub uid: postroom_core::types::Uid,
}

/// The store of messages. `insert` takes bodies besides, `list` stays within one mailbox.
#[async_trait]
pub trait Messages: Send + Sync {
    /// In which round the schema of its rows is; `None`: there is only one.
    fn round(&self) -> Option<Round> {
        None
    }
    /// Whether the octets live in the host's storage or elsewhere. Only a store whose medium is
    /// outside is told of operations after their commit.
    fn medium(&self) -> Medium {
        Medium::Host
    }
    /// Prepares the account. Repeatable.
    async fn create(&self, call: CallInfo, txn: &Txn) -> Result<(), StoreError>;
    /// Removes the records of a mailbox. Repeatable.
    async fn drop_mailbox(
        &self,
        call: CallInfo,
        txn: &Txn,
        mailbox: MailboxId,
    ) -> Result<(), StoreError>;
    /// Adds messages; `bodies` correspond to `rows`.
    async fn insert(
        &self,
        call: CallInfo,
        txn: &Txn,
        rows: Vec<MessageRow>,
        bodies: Vec<Body>,
    ) -> Result<(), StoreError>;
    /// Changes messages that are there; nothing else of them changes.
    async fn update(
        &self,
        call: CallInfo,
        txn: &Txn,
        changes: Vec<MessageChange>,
    ) -> Result<(), StoreError>;
    /// Removes messages; their bodies stay readable by name until settled.
    async fn delete(
        &self,
        call: CallInfo,
        txn: &Txn,
        places: Vec<MessagePlace>,
    ) -> Result<(), StoreError>;
    /// The messages at these places, in their order.
    async fn select(
        &self,
        call: CallInfo,
        view: &View,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<MessageRow>>, StoreError>;
    /// Messages of a mailbox after a UID, ascending, at most `limit`.
    async fn list(
        &self,
        call: CallInfo,
        view: &View,
        mailbox: MailboxId,
        after: Option<postroom_core::types::Uid>,
        limit: u32,
    ) -> Result<Page<MessageRow>, StoreError>;
    /// Octets of a message from `at`, at most `max`; also of a deleted one that is not settled. Fewer
    /// mean nothing, none the end.
    async fn fetch(
        &self,
        call: CallInfo,
        view: &View,
        mailbox: MailboxId,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Part>, StoreError>;
    /// Operations on these messages are committed: they were written, or deleted and nobody reads
    /// them any more. A store over an outside medium brings it into line with what `view` shows.
    /// Repeatable.
    async fn settle(
        &self,
        call: CallInfo,
        view: &View,
        mailbox: MailboxId,
        names: Vec<String>,
    ) -> Result<(), StoreError>;
    /// Checks (and, where `repair`, mends) records after a cursor.
    async fn check(
        &self,
        call: CallInfo,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage, StoreError>;
}

/// Asked before and told after deliveries (E18).
#[async_trait]
pub trait Hook: Send + Sync {
    /// What it is called in logs and metrics.
    fn name(&self) -> &str;
    /// What becomes of a delivery; nothing of it is kept yet. `message` are its octets, `view` is what
    /// they are read through. Repeatable. Any error: it is to be put off.
    async fn before_delivery(
        &self,
        call: CallInfo,
        view: &View,
        delivery: &Delivery,
        message: Body,
    ) -> Result<Verdict, StoreError>;
    /// A delivery is committed. Not repeated: an error changes nothing.
    async fn after_delivery(
        &self,
        call: CallInfo,
        view: &View,
        delivered: &Delivered,
    ) -> Result<(), StoreError>;
}

/// Hooks in the order in which they are asked.
pub type Hooks = Vec<std::sync::Arc<dyn Hook>>;

/// The store components of a node, one per kind of record (E16); they may all be the same one.
#[derive(Clone)]
pub struct Stores {
    /// Keeps domains.
    pub domains: std::sync::Arc<dyn Records<DomainRow, String>>,
    /// Keeps users.
    pub users: std::sync::Arc<dyn Records<UserRow, String>>,
    /// Keeps mailboxes.
    pub mailboxes: std::sync::Arc<dyn Records<MailboxRow, MailboxId>>,
    /// Keeps messages.
    pub messages: std::sync::Arc<dyn Messages>,
}
