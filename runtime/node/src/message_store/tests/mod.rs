//! The message store over the plainest store, and the memory engine unless power is lost.

mod basics;

mod check;

mod directory;

mod faults;

mod crash;

mod faulty;

mod foreign;

mod hooks;

mod hook_guests;

mod large;

mod late;

mod model;

mod outside;

mod schemas;

use std::sync::Arc;

use bytes::Bytes;
use postroom_core::calls::{
    Call, Changes, FetchedMessage, NewMessage, Reply, Secret, Selected, Want,
};
use postroom_core::error::StoreError;
use postroom_core::records::MessageRow;
use postroom_core::types::{
    AccountId, Flag, FlagChange, FlagChangeKind, Flags, MailboxId, MailboxName, ModSeq, Slot,
    SystemFlag, Timestamp, Uid, UidSet,
};

use super::limits::Patience;
use super::{
    CheckEvent, CheckFinding, Config, DirectoryMode, MessageStore, NewUser, SessionHandle,
};
use crate::guest::native_outside::{Files, Outside};
use crate::guest::native_plain::Plain;
use crate::guest::{CallInfo, Hooks, Messages};
use crate::storage::{Area, Commit, Engine, Fence, MemoryEngine, ScanLimit, Space, View, Write};

/// A message store and what lies under it.
struct Bench {
    store: MessageStore,
    engine: Arc<MemoryEngine>,
    plain: Arc<Plain>,
    /// Where the octets of messages are, when that is outside.
    outside: Option<Arc<Outside>>,
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
        Self { store, engine, plain, outside: None }
    }

    /// With less patience. Commits that nothing holds are not waited for, so that only those that
    /// never come can take too long.
    fn with(patience: Patience) -> Self {
        let (stores, plain) = Plain::stores();
        let engine = Arc::new(MemoryEngine::new());
        let directory = DirectoryMode::Dev { password: secret("pw") };
        let config = Config { node: "test".into(), generation: 1, directory };
        let store = MessageStore::with(config, stores, Hooks::new(), engine.clone(), patience);
        Self { store, engine, plain, outside: None }
    }

    /// With the octets of messages in an outside medium.
    fn outside(engine: Arc<MemoryEngine>, generation: u64, files: Files) -> Self {
        let (stores, plain, outside) = Outside::stores(files);
        let directory = DirectoryMode::Dev { password: secret("pw") };
        let config = Config { node: "test".into(), generation, directory };
        let store = MessageStore::new(config, stores, engine.clone());
        Self { store, engine, plain, outside: Some(outside) }
    }

    /// The same storage after a restart.
    async fn restart(self) -> Self {
        self.store.close().await;
        self.start_again()
    }

    /// The same storage in the next life of the node.
    fn start_again(self) -> Self {
        match self.outside {
            Some(outside) => Self::outside(self.engine, 2, outside.files.clone()),
            None => Self::over(self.engine, 2, DirectoryMode::Dev { password: secret("pw") }),
        }
    }

    /// Alice's account.
    async fn account(&self) -> AccountId {
        self.store.principal("alice").await.unwrap().account
    }

    /// Changes what is stored of alice's account, behind everybody's back.
    async fn alter(&self, writes: Vec<Write>) {
        let account = self.account().await;
        let slot = Slot::of(account);
        let (epoch, claimant) = self.engine.claimed(slot).await.unwrap().unwrap();
        let commit = Commit {
            space: Space::Account(account),
            fence: Some(Fence { slot, epoch, nonce: claimant.nonce }),
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes,
            now: 0,
        };
        self.engine.commit(commit).await.unwrap();
    }

    /// Rows of a kind in the ledger of alice's account.
    async fn ledger(&self, (start, end): (Bytes, Bytes)) -> Vec<(Bytes, Bytes)> {
        let space = Space::Account(self.account().await);
        let limit = ScanLimit { items: 1_000, octets: 1 << 20 };
        let page = self.engine.scan(space, Area::Ledger, start, end, limit).await.unwrap();
        page.items
    }

    async fn alice(&self) -> Client<'_> {
        self.client("alice").await
    }

    /// The rows of alice's messages in a mailbox, as the store has them.
    async fn rows(&self, mailbox: MailboxId) -> Vec<MessageRow> {
        let account = self.store.principal("alice").await.unwrap().account;
        let view = View::new(self.engine.clone(), Space::Account(account));
        let call = CallInfo::new(account, self.store.transaction());
        let messages: &dyn Messages = &*self.plain;
        messages.list(call, &view, mailbox, None, 100).await.unwrap().rows
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

    async fn fetch(&self, uids: UidSet, want: Want) -> Vec<FetchedMessage> {
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

    /// Asks for changes of messages that the session knows.
    async fn changes(&self, since: ModSeq, released: ModSeq) -> Changes {
        let known = Some(Uid::MAX);
        match self.call(Call::Changes { since, known, released }).await {
            Ok(Reply::Changes(changes)) => changes,
            other => panic!("{other:?}"),
        }
    }
}

/// The outcome of what must come soon, however slow the machine is.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let patience = std::time::Duration::from_secs(25);
    tokio::time::timeout(patience, future).await.unwrap_or_else(|_| panic!("not soon: {what}"))
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

/// A number that the environment sets.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// SplitMix64: the same numbers from the same seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}
