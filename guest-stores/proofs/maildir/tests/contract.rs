//! The contract of the WIT, over a Maildir in a temporary directory.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use maildir::Store;
use postroom_guest::testing::contract::{Host, MessageSubject, Native};
use postroom_guest::testing::{Space, block_on, change, message};
use postroom_guest::{Id, Message, message_contract};
use tempfile::TempDir;

/// A store with its directory.
struct Subject {
    native: Native<Store>,
    directory: TempDir,
}

impl Deref for Subject {
    type Target = Native<Store>;

    fn deref(&self) -> &Native<Store> {
        &self.native
    }
}

fn subject() -> Subject {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store { root: directory.path().to_owned() };
    Subject { native: Native { store, space: Space::default() }, directory }
}

message_contract!(messages, block_on, *subject());

const BOX: Id = Id::from_u128(5);

/// The files of `BOX`, as `folder/name`.
fn files(subject: &Subject) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["cur", "new", "tmp"] {
        let path: PathBuf = subject.directory.path().join(BOX.to_string()).join(folder);
        let Ok(entries) = fs::read_dir(path) else { continue };
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        found.extend(names.map(|name| format!("{folder}/{}", name.to_string_lossy())));
    }
    found.sort();
    found
}

fn row(flags: &[&str]) -> Message {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Message { name: "m1".into(), size: 2, flags, ..message(BOX, 1) }
}

fn commit<F: AsyncFnOnce(&<Native<Store> as Host>::Txn)>(subject: &Subject, operation: F) {
    let txn = subject.begin();
    block_on(operation(&txn));
    block_on(subject.commit(txn)).expect("a commit");
}

fn settle(subject: &Subject) {
    block_on(subject.settle(BOX, vec!["m1".into()], false)).expect("settle");
}

#[test]
fn files_follow_the_rows_when_settled() {
    let subject = subject();
    let attempt = subject.begin();
    block_on(subject.insert(&attempt, vec![(row(&[]), b"hello".to_vec())])).expect("insert");
    drop(attempt);
    assert_eq!(files(&subject), ["tmp/m1"], "an attempt is seen by nobody");

    commit(&subject, async |txn| {
        subject.insert(txn, vec![(row(&[]), b"hi".to_vec())]).await.expect("insert");
    });
    settle(&subject);
    assert_eq!(files(&subject), ["cur/m1:2,"]);

    commit(&subject, async |txn| {
        let flags = ["\\Seen", "\\Answered", "keyword", "\\Draft"];
        subject.update(txn, vec![change(&row(&flags))]).await.expect("update");
        assert_eq!(files(&subject), ["cur/m1:2,"], "an update leaves the medium as it is");
    });
    settle(&subject);
    settle(&subject);
    assert_eq!(files(&subject), ["cur/m1:2,DRS"]);

    commit(&subject, async |txn| {
        subject.delete(txn, vec![row(&[]).place()]).await.expect("delete");
        assert_eq!(files(&subject), ["cur/m1:2,DRS"], "a delete leaves the medium as it is");
    });
    settle(&subject);
    settle(&subject);
    assert_eq!(files(&subject), [""; 0]);
}

#[test]
fn a_name_that_leaves_the_directory_is_refused() {
    for name in ["../m1", "", ".", "..", "a/b", ".m1", "a\0b"] {
        let found = block_on(subject().fetch(None, BOX, name.into(), 0, 1));
        assert!(found.is_err(), "{name:?}");
    }
}
