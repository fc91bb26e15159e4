//! The message store over the memory engine and the plainest store.

mod basics;

mod check;

mod directory;

mod faults;

mod large;

mod model;

use std::sync::Arc;

use bytes::Bytes;
use postroom_core::calls::{
    Call, Changes, FetchedMessage, NewMessage, Reply, Secret, Selected, Want,
};
use postroom_core::error::StoreError;
use postroom_core::records::MessageRow;
use postroom_core::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxId, MailboxName, ModSeq, SystemFlag, Timestamp,
    Uid, UidSet,
};

use super::{Config, DirectoryMode, MessageStore, SessionHandle};
use crate::guest::native_plain::Plain;
use crate::guest::{CallInfo, Messages};
use crate::storage::{MemoryEngine, Space, View};

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

    /// The rows of alice's messages in a mailbox, as the store has them.
    async fn rows(&self, mailbox: MailboxId) -> Vec<MessageRow> {
        let account = self.store.principal("alice").await.unwrap().account;
        let view = View::new(self.engine.clone(), Space::Account(account));
        let call = CallInfo { account, transaction: self.store.transaction() };
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

    async fn changes(&self, since: ModSeq, released: ModSeq) -> Changes {
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
