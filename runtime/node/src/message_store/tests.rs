//! The message store over the memory engine and the plainest store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use postroom_core::calls::{Call, NewMessage, Recipient, Reply, Secret, Selected, Want};
use postroom_core::error::StoreError;
use postroom_core::search::Query;
use postroom_core::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, ModSeq, SystemFlag, Timestamp, Uid,
    UidSet,
};

use super::{Config, DirectoryMode, MessageStore, NewUser, SessionHandle};
use crate::guest::native_plain::Plain;
use crate::storage::MemoryEngine;

/// A message store and what lies under it.
struct Bench {
    store: MessageStore,
    engine: Arc<MemoryEngine>,
    plain: Arc<Plain>,
}

impl Bench {
    fn new() -> Self {
        Self::over(Arc::new(MemoryEngine::new()), 1, DirectoryMode::Dev { password: secret("pw") })
    }

    fn strict() -> Self {
        Self::over(Arc::new(MemoryEngine::new()), 1, DirectoryMode::Strict)
    }

    fn over(engine: Arc<MemoryEngine>, generation: u64, directory: DirectoryMode) -> Self {
        let (stores, plain) = Plain::stores();
        let config = Config { node: "test".into(), generation, directory };
        let store = MessageStore::new(config, stores, engine.clone());
        Self { store, engine, plain }
    }

    /// The same storage after a restart.
    async fn restart(self) -> Self {
        self.store.close().await;
        Self::over(self.engine, 2, DirectoryMode::Dev { password: secret("pw") })
    }

    async fn alice(&self) -> Client<'_> {
        self.client("alice").await
    }

    async fn client(&self, user: &str) -> Client<'_> {
        let session = self.store.session_of(user).await.unwrap();
        Client { store: &self.store, session }
    }
}

/// A session that makes calls.
struct Client<'a> {
    store: &'a MessageStore,
    session: SessionHandle,
}

impl Client<'_> {
    async fn call(&self, call: Call) -> Result<Reply, StoreError> {
        self.store.call(&self.session, self.store.transaction(), call).await
    }

    async fn done(&self, call: Call) {
        let what = format!("{call:?}");
        self.call(call).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    async fn select(&self, name: &str) -> Selected {
        let select = Call::Select { name: mailbox(name), read_write: true };
        match self.call(select).await {
            Ok(Reply::Selected(selected)) => *selected,
            other => panic!("{other:?}"),
        }
    }

    async fn append(&self, name: &str, text: &str) -> Uid {
        self.append_with(name, text, Flags::default()).await.unwrap()
    }

    async fn append_with(&self, name: &str, text: &str, flags: Flags) -> Result<Uid, StoreError> {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let message = NewMessage { flags, internal_date: Some(Timestamp::utc(7)), body };
        let append = Call::Append { mailbox: mailbox(name), messages: vec![message] };
        match self.call(append).await? {
            Reply::Appended { uids, .. } => Ok(uids[0]),
            other => panic!("{other:?}"),
        }
    }

    async fn flag(&self, uids: &UidSet, flag: SystemFlag) {
        let change =
            FlagChange { kind: FlagChangeKind::Add, flags: Flags::of([Flag::System(flag)]) };
        self.done(Call::Store { uids: uids.clone(), change, unchanged_since: None }).await;
    }

    async fn fetch(&self, uids: UidSet, want: Want) -> Vec<postroom_core::calls::FetchedMessage> {
        match self.call(Call::Fetch { uids, want }).await {
            Ok(Reply::Messages { messages, more: false }) => messages,
            other => panic!("{other:?}"),
        }
    }

    async fn body(&self, uid: Uid) -> Option<Bytes> {
        let want = Want { body: true, ..Want::default() };
        let mut messages = self.fetch(UidSet::range(uid, uid), want).await;
        messages.pop().and_then(|message| message.body)
    }

    async fn changes(&self, since: ModSeq, released: ModSeq) -> postroom_core::calls::Changes {
        match self.call(Call::Changes { since, released }).await {
            Ok(Reply::Changes(changes)) => changes,
            other => panic!("{other:?}"),
        }
    }
}

fn secret(text: &str) -> Secret {
    Secret(text.to_owned())
}

fn mailbox(name: &str) -> MailboxName {
    MailboxName::new(name).unwrap()
}

fn all() -> UidSet {
    UidSet::range(Uid::MIN, Uid::MAX)
}

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

#[tokio::test]
async fn a_message_comes_back_as_it_was_appended() {
    let bench = Bench::new();
    let client = bench.alice().await;
    let text = "Subject: hello\r\n\r\nworld\r\n";
    let first = client.append("INBOX", text).await;
    let selected = client.select("INBOX").await;
    assert_eq!(selected.uids, [first]);
    assert_eq!(selected.recent.to_string(), "1");
    let messages = client.fetch(all(), Want { derived: true, body: true }).await;
    assert_eq!(messages[0].body.as_deref(), Some(text.as_bytes()));
    assert_eq!(messages[0].size, text.len() as u64);
    let derived = messages[0].derived.as_ref().unwrap();
    assert_eq!(derived.envelope.subject.as_ref().map(|s| s.to_vec()), Some(b"hello".to_vec()));
}

#[tokio::test]
async fn flags_and_removals_reach_another_session() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    for text in ["one", "two", "three"] {
        a.append("INBOX", text).await;
    }
    let at = a.select("INBOX").await.status.highest_modseq;
    b.select("INBOX").await;
    a.flag(&UidSet::range(uid(2), uid(3)), SystemFlag::Deleted).await;
    a.done(Call::Expunge { uids: Some(UidSet::range(uid(2), uid(2))) }).await;
    b.session.changed().await;
    assert_eq!(b.body(uid(2)).await.as_deref(), Some(&b"two"[..]), "b still sees it");
    let changes = b.changes(at, at).await;
    assert_eq!(changes.expunged.to_string(), "2");
    assert_eq!(changes.changed.iter().map(|row| row.uid).collect::<Vec<_>>(), [uid(3)]);
    assert!(changes.changed[0].flags.has(SystemFlag::Deleted));
    b.changes(changes.upto, changes.upto).await;
    assert_eq!(b.body(uid(2)).await, None, "b was told");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.done(Call::Create { name: mailbox("a/b"), special_use: None }).await;
    client.append("a/b", "kept").await;
    let before = client.select("a/b").await;
    drop(client);
    let bench = bench.restart().await;
    let client = bench.alice().await;
    let after = client.select("a/b").await;
    assert_eq!(after.status, before.status);
    assert_eq!(client.body(uid(1)).await.as_deref(), Some(&b"kept"[..]));
    assert!(after.recent.is_empty(), "it was claimed before");
}

#[tokio::test]
async fn mail_for_a_folder_goes_there_and_otherwise_to_inbox() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.done(Call::Create { name: mailbox("lists"), special_use: None }).await;
    for (address, name) in [("alice+lists@x.org", "lists"), ("Alice+no@x.org", "INBOX")] {
        let resolve = Call::ResolveRecipient { address: address.to_owned() };
        let Ok(Reply::Recipient(recipient)) = client.call(resolve).await else { panic!() };
        client.done(Call::Deliver { recipient, body: Bytes::from_static(b"x") }).await;
        let selected = client.select(name).await;
        assert_eq!(selected.status.messages, 1, "{address}");
    }
}

#[tokio::test]
async fn reads_that_the_index_answers_do_not_enter_the_store() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    client.select("INBOX").await;
    let before = bench.plain.reads.load(Ordering::SeqCst);
    client.fetch(all(), Want::default()).await;
    client.done(Call::Status { name: mailbox("INBOX") }).await;
    let seen = Query::Not(Box::new(Query::Flag(Flag::System(SystemFlag::Seen))));
    let Ok(Reply::Found(found)) = client.call(Call::Search { query: seen }).await else { panic!() };
    assert_eq!(found.len(), 1);
    assert_eq!(bench.plain.reads.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn users_log_in_with_their_own_password_only() {
    let bench = Bench::strict();
    bench.store.create_domain("example.org", None).await.unwrap();
    bench.store.create_domain("example.net", Some("example.org")).await.unwrap();
    let user = |name: &str, alias: Option<&str>| NewUser {
        name: name.to_owned(),
        password: alias.is_none().then(|| secret("right")),
        alias_of: alias.map(str::to_owned),
        quota_octets: None,
    };
    let alice = bench.store.create_user(user("Alice@example.org", None)).await.unwrap();
    bench
        .store
        .create_user(user("postmaster@example.org", Some("alice@example.org")))
        .await
        .unwrap();
    let session = bench.store.session();
    let log_in = async |name: &str, password: &str| {
        let (user, password) = (name.to_owned(), secret(password));
        bench.store.call(&session, bench.store.transaction(), Call::Login { user, password }).await
    };
    for name in
        ["alice@example.org", "ALICE@Example.Org", "alice@example.net", "postmaster@example.net"]
    {
        match log_in(name, "right").await {
            Ok(Reply::Principal(principal)) => assert_eq!(principal.account, alice.account),
            other => panic!("{name}: {other:?}"),
        }
    }
    for (name, password) in [("alice@example.org", "wrong"), ("bob@example.org", "right"), ("", "")]
    {
        let result = log_in(name, password).await;
        assert!(matches!(result, Err(StoreError::AuthenticationFailed)), "{name}: {result:?}");
    }
    let nobody = Call::ResolveRecipient { address: "bob@example.org".into() };
    let result = bench.store.call(&session, bench.store.transaction(), nobody).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))));
    let _: Option<Recipient> = None;
}
