//! A Maildir under the node's own mailbox layer: its files follow what mail clients do, also across
//! a stop of the node.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use postroom_contract::{component, load, run};
use postroom_core::calls::{Call, NewMessage, Reply, Secret, Want};
use postroom_core::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, SystemFlag, Uid, UidSet,
};
use postroom_node::guest::{DirectoryGrant, Grants, Stores};
use postroom_node::message_store::{Config, DirectoryMode, MessageStore, SessionHandle};
use postroom_node::storage::MemoryEngine;

/// More than the store answers with one call.
const LARGE: usize = (2 << 20) + 5;

/// A node in one of its lives, its messages' octets in a directory.
async fn node(engine: &Arc<MemoryEngine>, generation: u64, directory: &Path) -> MessageStore {
    let keyed = load(component("keyed"), &Grants::default()).await.expect("it loads");
    let path = directory.to_owned();
    let grant = DirectoryGrant { name: "mail".into(), path, write: true };
    let grants = Grants { directories: vec![grant], ..Grants::default() };
    let maildir = load(component("maildir"), &grants).await.expect("it loads");
    let stores = Stores { messages: maildir, ..Stores::all(keyed) };
    let mode = DirectoryMode::Dev { password: Secret("pw".into()) };
    let config = Config { node: "test".into(), generation, directory: mode };
    MessageStore::new(config, stores, engine.clone())
}

async fn call(store: &MessageStore, session: &SessionHandle, call: Call) -> Reply {
    store.call(session, store.transaction(), call).await.expect("the call is carried out")
}

async fn select(store: &MessageStore) -> SessionHandle {
    let session = store.session_of("alice").await.expect("a user");
    let inbox = Call::Select { name: MailboxName::inbox(), read_write: true };
    call(store, &session, inbox).await;
    session
}

fn append(octets: Bytes) -> Call {
    let message = NewMessage { flags: Flags::default(), internal_date: None, body: octets };
    Call::Append { mailbox: MailboxName::inbox(), messages: vec![message] }
}

fn flag(number: u32, flag: SystemFlag) -> Call {
    let uid = Uid::new(number).expect("not zero");
    let change = FlagChange { kind: FlagChangeKind::Add, flags: Flags::of([Flag::System(flag)]) };
    Call::Store { uids: UidSet::range(uid, uid), change, unchanged_since: None }
}

/// Folder, flags and size of each file, ascending by size.
fn files(directory: &Path) -> Vec<(String, String, u64)> {
    let mut found = Vec::new();
    let entries = |path: &Path| {
        let entries = std::fs::read_dir(path).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    for mailbox in entries(directory) {
        for folder in entries(&mailbox) {
            for file in entries(&folder) {
                let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
                let flags = name(&file).split_once(":2,").map(|(_, flags)| flags.to_owned());
                let size = file.metadata().expect("a file").len();
                found.push((name(&folder), flags.unwrap_or_default(), size));
            }
        }
    }
    found.sort_by_key(|(_, _, size)| *size);
    found
}

fn file(flags: &str, size: usize) -> (String, String, u64) {
    ("cur".to_owned(), flags.to_owned(), size as u64)
}

#[test]
fn files_follow_what_mail_clients_do_and_a_large_message_comes_back_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (engine, path) = (Arc::new(MemoryEngine::new()), directory.path());
    let large: Bytes = (0..LARGE).map(|at| (at / 7) as u8).collect();
    run(async {
        let store = node(&engine, 1, path).await;
        let session = select(&store).await;
        call(&store, &session, append(Bytes::from_static(b"small"))).await;
        call(&store, &session, append(large.clone())).await;
        call(&store, &session, flag(2, SystemFlag::Seen)).await;
        let (uids, want) =
            (UidSet::range(Uid::MIN, Uid::MAX), Want { body: true, ..Want::default() });
        match call(&store, &session, Call::Fetch { uids, want }).await {
            Reply::Messages { messages, .. } => {
                assert_eq!(messages[1].body.as_ref(), Some(&large));
            }
            other => panic!("{other:?}"),
        }
        drop(session);
        store.close().await;
        assert_eq!(files(path), [file("", 5), file("S", LARGE)]);

        let store = node(&engine, 2, path).await;
        let session = select(&store).await;
        call(&store, &session, flag(1, SystemFlag::Deleted)).await;
        call(&store, &session, flag(2, SystemFlag::Flagged)).await;
        call(&store, &session, Call::Expunge { uids: None }).await;
        drop(session);
        store.close().await;
        assert_eq!(files(path), [file("FS", LARGE)]);
    });
}
