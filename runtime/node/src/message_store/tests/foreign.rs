//! Users whom others keep: a store component over a directory outside, which has no account ids, or
//! some of its own, and may be away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::calls::{Call, Principal, Recipient, Reply, Want};
use postroom_core::error::StoreError;
use postroom_core::records::UserRow;
use postroom_core::types::{AccountId, Flags, MailboxName, SystemFlag, TransactionId};

use super::super::{Config, DirectoryMode, MessageStore};
use super::{Client, all};
use crate::guest::native_plain::Plain;
use crate::guest::{CallInfo, CheckPage, Page, Records};
use crate::storage::memory::Outage;
use crate::storage::{MemoryEngine, Txn, View};

/// The directory outside.
#[derive(Default)]
struct Foreign {
    users: Mutex<BTreeMap<String, UserRow>>,
    /// It is away.
    away: AtomicBool,
    /// How often it was asked for users.
    asked: AtomicUsize,
}

impl Foreign {
    fn set(&self, name: &str, change: impl FnOnce(&mut UserRow)) {
        let mut row = UserRow {
            name: name.to_owned(),
            account: None,
            alias_of: None,
            password: None,
            quota_octets: None,
            extra: Vec::new(),
        };
        change(&mut row);
        self.users.lock().unwrap().insert(name.to_owned(), row);
    }

    /// Users without account ids.
    fn add(&self, names: &[&str]) {
        names.iter().for_each(|name| self.set(name, |_| {}));
    }

    /// A user with an account id of the directory's own.
    fn give(&self, name: &str, account: u128) {
        self.set(name, |row| row.account = Some(AccountId::from_u128(account)));
    }

    fn remove(&self, name: &str) {
        self.users.lock().unwrap().remove(name);
    }
}

fn unsupported() -> Result<(), StoreError> {
    Err(StoreError::Unsupported("users are changed elsewhere".into()))
}

#[async_trait]
impl Records<UserRow, String> for Foreign {
    async fn create(&self, _: CallInfo, _: &Txn) -> Result<(), StoreError> {
        unsupported()
    }

    async fn drop_all(&self, _: CallInfo, _: &Txn) -> Result<(), StoreError> {
        unsupported()
    }

    async fn insert(&self, _: CallInfo, _: &Txn, _: Vec<UserRow>) -> Result<(), StoreError> {
        unsupported()
    }

    async fn update(&self, _: CallInfo, _: &Txn, _: Vec<UserRow>) -> Result<(), StoreError> {
        unsupported()
    }

    async fn delete(&self, _: CallInfo, _: &Txn, _: Vec<String>) -> Result<(), StoreError> {
        unsupported()
    }

    async fn select(
        &self,
        _: CallInfo,
        _: &View,
        names: Vec<String>,
    ) -> Result<Vec<Option<UserRow>>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("the directory is away".into()));
        }
        let users = self.users.lock().unwrap();
        Ok(names.iter().map(|name| users.get(name).cloned()).collect())
    }

    async fn list(
        &self,
        _: CallInfo,
        _: &View,
        _: Option<String>,
        _: u32,
    ) -> Result<Page<UserRow>, StoreError> {
        Ok(Page { rows: self.users.lock().unwrap().values().cloned().collect(), more: false })
    }

    async fn check(
        &self,
        _: CallInfo,
        _: &Txn,
        _: Option<String>,
        _: bool,
    ) -> Result<CheckPage, StoreError> {
        Ok(CheckPage::default())
    }
}

/// A node over the directory outside.
struct Node {
    store: MessageStore,
    foreign: Arc<Foreign>,
    engine: Arc<MemoryEngine>,
}

impl Node {
    fn new() -> Self {
        Self::over(Arc::default(), Arc::new(MemoryEngine::new()), 1)
    }

    fn over(foreign: Arc<Foreign>, engine: Arc<MemoryEngine>, generation: u64) -> Self {
        let (mut stores, _) = Plain::stores();
        stores.users = foreign.clone();
        let directory = DirectoryMode::Strict;
        let config = Config { node: "test".into(), generation, directory };
        let store = MessageStore::new(config, stores, engine.clone());
        Self { store, foreign, engine }
    }

    /// The same directory and storage in the next life of the node.
    async fn restart(self) -> Self {
        self.store.close().await;
        Self::over(self.foreign, self.engine, 2)
    }

    async fn account(&self, user: &str) -> Result<AccountId, StoreError> {
        self.store.principal(user).await.map(|principal| principal.account)
    }

    /// Lets what was read of a user grow old.
    fn later(&self, user: &str) {
        self.store.inner.directory.grow_old(user);
    }

    /// A session of a user.
    async fn client(&self, user: &str) -> Client<'_> {
        Client { store: &self.store, session: self.store.session_of(user).await.unwrap() }
    }
}

#[tokio::test]
async fn users_without_account_ids_have_an_account_each_and_keep_it() {
    let node = Node::new();
    node.foreign.add(&["anna", "bob"]);
    node.foreign.set("office", |row| row.alias_of = Some("anna".to_owned()));
    let anna = node.account("anna").await.unwrap();
    assert_eq!(node.account("office").await, Ok(anna), "an alias has none of its own");
    assert_ne!(node.account("bob").await, Ok(anna));
    assert_ne!(anna, AccountId::NONE);
    node.client("anna").await.append("INBOX", "for anna").await;
    assert_eq!(node.client("bob").await.select("INBOX").await.status.messages, 0);
    let node = node.restart().await;
    assert_eq!(node.account("anna").await, Ok(anna));
    assert_eq!(node.client("anna").await.select("INBOX").await.status.messages, 1);
    let listed = node.store.users(None, 10).await.unwrap().rows;
    let accounts = listed.iter().map(|row| (row.name.as_str(), row.account)).collect::<Vec<_>>();
    let bob = node.account("bob").await.ok();
    assert_eq!(accounts, [("anna", Some(anna)), ("bob", bob), ("office", None)]);
}

#[tokio::test]
async fn nodes_that_see_a_user_at_the_same_time_find_one_account() {
    let one = Node::new();
    let two = Node::over(one.foreign.clone(), one.engine.clone(), 2);
    one.foreign.add(&["anna"]);
    one.engine.faults().hold_commits();
    let both = async {
        one.engine.faults().held_commits(2).await;
        one.engine.faults().release();
    };
    let (first, second, ()) = tokio::join!(one.account("anna"), two.account("anna"), both);
    assert!(first.is_ok());
    assert_eq!(first, second);
}

#[tokio::test]
async fn an_account_that_is_another_users_is_refused() {
    let node = Node::new();
    node.foreign.give("anna", 7);
    node.foreign.give("bob", 7);
    node.foreign.set("office", |row| row.alias_of = Some("bob".to_owned()));
    assert_eq!(node.account("anna").await, Ok(AccountId::from_u128(7)));
    for name in ["bob", "office"] {
        let refused = node.account(name).await;
        assert!(matches!(refused, Err(StoreError::Broken(_))), "{name}: {refused:?}");
        let resolve = Call::ResolveRecipient { address: name.to_owned() };
        let session = node.store.session();
        let refused = node.store.call(&session, TransactionId([1; 16]), resolve).await;
        assert!(matches!(refused, Err(StoreError::Broken(_))), "{name}: {refused:?}");
    }
    // Nor does it help to have had one of one's own before.
    node.foreign.add(&["cleo"]);
    node.account("cleo").await.unwrap();
    for account in [7, 8] {
        node.foreign.give("cleo", account);
        node.later("cleo");
        let refused = node.account("cleo").await;
        assert!(matches!(refused, Err(StoreError::Broken(_))), "{account}: {refused:?}");
    }
    assert_eq!(node.account("anna").await, Ok(AccountId::from_u128(7)));
}

#[tokio::test]
async fn an_account_of_zero_is_refused() {
    let node = Node::new();
    node.foreign.give("anna", 0);
    let refused = node.account("anna").await;
    assert!(matches!(refused, Err(StoreError::Broken(_))), "{refused:?}");
}

#[tokio::test]
async fn a_user_who_is_renamed_outside_is_a_new_one() {
    let node = Node::new();
    node.foreign.add(&["anna"]);
    node.foreign.give("bob", 7);
    let anna = node.account("anna").await.unwrap();
    node.account("bob").await.unwrap();
    for (old, new) in [("anna", "anne"), ("bob", "robert")] {
        let row = node.foreign.users.lock().unwrap().remove(old).unwrap();
        node.foreign.set(new, |renamed| renamed.account = row.account);
    }
    let anne = node.account("anne").await.unwrap();
    assert_ne!(anne, anna);
    let refused = node.account("robert").await;
    assert!(matches!(refused, Err(StoreError::Broken(_))), "it has bob's account: {refused:?}");
}

#[tokio::test]
async fn a_name_keeps_its_account_until_the_user_is_removed_here() {
    let node = Node::new();
    node.foreign.add(&["anna"]);
    node.foreign.give("bob", 7);
    let anna = node.account("anna").await.unwrap();
    node.account("bob").await.unwrap();
    node.foreign.remove("anna");
    node.later("anna");
    assert!(matches!(node.account("anna").await, Err(StoreError::NotFound(_))));
    node.foreign.add(&["anna"]);
    node.later("anna");
    assert_eq!(node.account("anna").await, Ok(anna), "she was away");

    let refused = node.store.remove_user("anna").await;
    assert!(matches!(refused, Err(StoreError::Unsupported(_))), "others keep her: {refused:?}");
    for name in ["anna", "bob"] {
        node.foreign.remove(name);
        node.store.remove_user(name).await.unwrap();
        let refused = node.store.remove_user(name).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))), "{name}: {refused:?}");
    }
    node.foreign.add(&["anna"]);
    node.foreign.give("bob", 7);
    let new = node.account("anna").await.unwrap();
    assert_ne!(new, anna, "somebody else has the name now");
    let refused = node.account("bob").await;
    assert!(matches!(refused, Err(StoreError::Broken(_))), "it was given up: {refused:?}");
}

#[tokio::test]
async fn a_first_sight_of_unknown_outcome_leaves_one_account() {
    for outage in [Outage::UnknownWithEffect, Outage::UnknownWithoutEffect, Outage::Unavailable] {
        let node = Node::new();
        node.foreign.add(&["anna"]);
        node.engine.faults().next_commits([Some(outage)]);
        let first = node.account("anna").await;
        assert!(matches!(&first, Err(error) if error.is_temporary()), "{outage:?}: {first:?}");
        let anna = node.account("anna").await.unwrap();
        let node = node.restart().await;
        assert_eq!(node.account("anna").await, Ok(anna), "{outage:?}");
    }
}

/// Anna with a quota of 100 octets, of which 60 are used, after which the directory is away.
async fn without_directory(node: &Node) -> Client<'_> {
    node.foreign.set("anna", |row| row.quota_octets = Some(100));
    let client = node.client("anna").await;
    client.append("INBOX", &"x".repeat(60)).await;
    node.foreign.away.store(true, Ordering::SeqCst);
    node.later("anna");
    client
}

#[tokio::test]
async fn whoever_reads_mail_does_not_depend_on_the_directory() {
    let node = Node::new();
    let client = without_directory(&node).await;
    let asked = node.foreign.asked.load(Ordering::SeqCst);
    client.select("INBOX").await;
    let want = Want { body: true, derived: true, ..Want::default() };
    assert_eq!(client.fetch(all(), want).await.len(), 1);
    client.flag(&all(), SystemFlag::Seen).await;
    client.done(Call::Create { name: super::mailbox("old"), special_use: None }).await;
    client.done(Call::Move { uids: all(), to: super::mailbox("old") }).await;
    assert_eq!(node.foreign.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn the_last_known_quota_holds_while_the_directory_is_away() {
    let node = Node::new();
    let client = without_directory(&node).await;
    client.select("INBOX").await;
    let append = async |octets| {
        client.append_with("INBOX", &"x".repeat(octets), Flags::default()).await.map(|_| ())
    };
    let deliver = async |user: &str, octets| {
        let Principal { account, .. } = client.session.principal().unwrap();
        let recipient = Recipient { account, user: user.to_owned(), folder: None };
        let body = Bytes::from("x".repeat(octets));
        client.call(Call::Deliver { recipient, sender: None, body }).await.map(|_| ())
    };
    let copy = || client.call(Call::Copy { uids: all(), to: MailboxName::inbox() });
    assert_eq!(append(41).await, Err(StoreError::OverQuota));
    assert_eq!(deliver("anna", 41).await, Err(StoreError::OverQuota));
    assert!(matches!(copy().await, Err(StoreError::OverQuota)));
    assert_eq!(append(20).await, Ok(()));
    assert_eq!(deliver("anna", 20).await, Ok(()));
    // Of somebody who was never seen nothing is known.
    let refused = deliver("bob", 1).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    node.foreign.away.store(false, Ordering::SeqCst);
    node.foreign.set("anna", |row| row.quota_octets = Some(1_000));
    assert!(matches!(copy().await, Ok(Reply::Copied(Some(_)))));
}
