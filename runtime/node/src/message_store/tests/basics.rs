//! What every mail client relies on.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use postroom_core::calls::{Call, Reply, Want};
use postroom_core::records::{MessageRow, Property};
use postroom_core::search::Query;
use postroom_core::types::{Flag, Flags, SystemFlag, UidSet};

use super::super::limits::MAX_KEPT_HEADER;
use super::{Bench, all, mailbox, uid};

#[tokio::test]
async fn a_message_comes_back_as_it_was_appended() {
    let bench = Bench::new();
    let client = bench.alice().await;
    let text = "Subject: hello\r\n\r\nworld\r\n";
    let first = client.append("INBOX", text).await;
    let selected = client.select("INBOX").await;
    assert_eq!(selected.uids, [first]);
    assert_eq!(selected.recent.to_string(), "1");
    let want = Want { derived: true, header: true, body: true };
    let messages = client.fetch(all(), want).await;
    assert_eq!(messages[0].body.as_deref(), Some(text.as_bytes()));
    assert_eq!(messages[0].header.as_deref(), Some(&b"Subject: hello\r\n\r\n"[..]));
    assert_eq!(messages[0].size, text.len() as u64);
    let derived = messages[0].derived.as_ref().unwrap();
    assert_eq!(derived.envelope.subject.as_ref().map(|s| s.to_vec()), Some(b"hello".to_vec()));
}

#[tokio::test]
async fn headers_and_structures_are_answered_from_memory_once_they_were_read() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "Subject: hello\r\n\r\nworld\r\n").await;
    client.select("INBOX").await;
    let derived = Want { derived: true, ..Want::default() };
    let header = Want { header: true, ..Want::default() };
    let both = Want { header: true, ..derived };
    // One that is derived from already is read once more for its header, and none of them again.
    for (want, reads) in [(derived, 1), (derived, 0), (header, 1), (header, 0), (both, 0)] {
        let before = bench.plain.fetches.load(Ordering::SeqCst);
        let messages = client.fetch(all(), want).await;
        assert_eq!(bench.plain.fetches.load(Ordering::SeqCst) - before, reads, "{want:?}");
        let expected = want.header.then_some(&b"Subject: hello\r\n\r\n"[..]);
        assert_eq!(messages[0].header.as_deref(), expected);
        assert_eq!((messages[0].derived.is_some(), &messages[0].body), (want.derived, &None));
    }
}

#[tokio::test]
async fn a_header_that_is_too_large_to_be_kept_comes_whole_each_time() {
    let bench = Bench::new();
    let client = bench.alice().await;
    let header = format!("Subject: {}\r\n\r\n", "x".repeat(MAX_KEPT_HEADER));
    client.append("INBOX", &format!("{header}body")).await;
    client.select("INBOX").await;
    for _ in 0..2 {
        let before = bench.plain.fetches.load(Ordering::SeqCst);
        let messages = client.fetch(all(), Want { header: true, ..Want::default() }).await;
        assert_eq!(messages[0].header.as_deref(), Some(header.as_bytes()));
        assert_eq!(bench.plain.fetches.load(Ordering::SeqCst) - before, 1);
    }
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
        client
            .done(Call::Deliver { recipient, sender: None, body: Bytes::from_static(b"x") })
            .await;
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
async fn a_flag_change_reads_nothing_and_keeps_what_a_later_version_left() {
    let bench = Bench::new();
    let client = bench.alice().await;
    *bench.plain.edit_inserted.lock().unwrap() = Some(|row| {
        let value = row.name.clone().into_bytes();
        row.extra.push(Property { name: "later".into(), value });
    });
    client.append("INBOX", "one").await;
    *bench.plain.edit_inserted.lock().unwrap() = None;
    client.append("INBOX", "two").await;
    drop(client);
    let bench = bench.restart().await;
    let client = bench.alice().await;
    let inbox = client.select("INBOX").await.status.mailbox;
    let before = bench.rows(inbox).await;
    assert_eq!(before.iter().map(|row| row.extra.len()).collect::<Vec<_>>(), [1, 0]);

    let reads = bench.plain.reads.load(Ordering::SeqCst);
    client.flag(&all(), SystemFlag::Seen).await;
    client.flag(&all(), SystemFlag::Deleted).await;
    client.done(Call::Expunge { uids: Some(UidSet::range(uid(2), uid(2))) }).await;
    assert_eq!(bench.plain.reads.load(Ordering::SeqCst), reads);

    let flags = Flags::of([SystemFlag::Seen, SystemFlag::Deleted].map(Flag::System));
    let after = bench.rows(inbox).await;
    let modseq = after[0].modseq;
    assert!(modseq > before[0].modseq);
    assert_eq!(after, [MessageRow { flags, modseq, ..before[0].clone() }]);
}
