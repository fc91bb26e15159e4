//! A store whose medium is outside hears of what was committed: after the commit, and until it has
//! taken it in, whatever happens to the node meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use postroom_core::calls::Call;
use postroom_core::mailbox::ledger::{self, RowKind};
use postroom_core::types::{Flag, Flags, ModSeq, SystemFlag, UidSet};

use super::{Bench, Client, all, mailbox, uid};
use crate::guest::native_outside::{Files, Outside};
use crate::storage::{Area, Key, MemoryEngine, Write};

fn bench() -> (Bench, Arc<Outside>) {
    let bench = Bench::outside(Arc::new(MemoryEngine::new()), 1, Files::default());
    let outside = bench.outside.clone().unwrap();
    (bench, outside)
}

/// A message in place, with these flags.
fn in_place(text: &str, flags: &[SystemFlag]) -> (String, Option<Flags>) {
    let flags = Flags::of(flags.iter().copied().map(Flag::System));
    (text.to_owned(), Some(flags))
}

/// A message that others do not see yet.
fn new(text: &str) -> (String, Option<Flags>) {
    (text.to_owned(), None)
}

/// How many messages the medium was not told of.
async fn untold(bench: &Bench) -> usize {
    bench.ledger(ledger::range_of(RowKind::Unsettled)).await.len()
}

/// Tells the session's client of everything.
async fn tell(client: &Client<'_>) {
    let upto = client.changes(ModSeq(0), ModSeq(0)).await.upto;
    client.changes(upto, upto).await;
}

#[tokio::test]
async fn what_was_written_is_put_in_place_after_its_commit() {
    let (bench, outside) = bench();
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    client.append("INBOX", "two").await;
    assert_eq!(outside.holds(), [in_place("one", &[]), new("two")], "with the next commit");
    client.select("INBOX").await;
    client.flag(&UidSet::range(uid(1), uid(1)), SystemFlag::Seen).await;
    drop(client);
    bench.store.close().await;
    assert_eq!(outside.holds(), [in_place("one", &[SystemFlag::Seen]), in_place("two", &[])]);
    assert_eq!(untold(&bench).await, 0);
}

#[tokio::test]
async fn a_message_that_is_written_again_while_the_medium_hears_of_it_is_told_again() {
    let (bench, outside) = bench();
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    client.select("INBOX").await;
    // This commit takes along that the medium was told of the message as it was before.
    client.flag(&all(), SystemFlag::Flagged).await;
    assert_eq!(outside.holds(), [in_place("one", &[])]);
    assert_eq!(untold(&bench).await, 1);
    drop(client);
    bench.store.close().await;
    assert_eq!(outside.holds(), [in_place("one", &[SystemFlag::Flagged])]);
}

#[tokio::test]
async fn what_the_medium_was_not_told_of_before_a_crash_it_is_told_of_afterwards() {
    let (bench, outside) = bench();
    outside.failing_settles.store(usize::MAX, Ordering::SeqCst);
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    client.select("INBOX").await;
    client.flag(&all(), SystemFlag::Seen).await;
    client.append("INBOX", "two").await;
    drop(client);
    assert_eq!(outside.holds(), [new("one"), new("two")]);
    let bench = bench.start_again();
    bench.alice().await.select("INBOX").await;
    bench.store.close().await;
    assert_eq!(outside.holds(), [in_place("one", &[SystemFlag::Seen]), in_place("two", &[])]);
    assert_eq!(untold(&bench).await, 0);
}

#[tokio::test]
async fn a_removed_message_is_not_named_while_somebody_reads_it() {
    let (bench, outside) = bench();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.append("INBOX", "one").await;
    a.select("INBOX").await;
    b.select("INBOX").await;
    // One commit in which the message is written a last time and removed.
    let first = UidSet::range(uid(1), uid(1));
    tokio::join!(a.flag(&first, SystemFlag::Deleted), a.done(Call::Expunge { uids: None }));
    tell(&a).await;
    for text in ["two", "three"] {
        a.append("INBOX", text).await;
    }
    assert_eq!(b.body(uid(1)).await.as_deref(), Some(&b"one"[..]));
    tell(&b).await;
    drop((a, b));
    bench.store.close().await;
    assert_eq!(outside.holds(), [in_place("two", &[]), in_place("three", &[])]);
}

#[tokio::test]
async fn the_medium_follows_copies_moves_and_deleted_mailboxes() {
    let (bench, outside) = bench();
    let client = bench.alice().await;
    for name in ["kept", "old"] {
        client.done(Call::Create { name: mailbox(name), special_use: None }).await;
    }
    for (name, text) in [("INBOX", "one"), ("INBOX", "two"), ("old", "three")] {
        client.append(name, text).await;
    }
    client.select("INBOX").await;
    let first = UidSet::range(uid(1), uid(1));
    client.done(Call::Copy { uids: first, to: mailbox("old") }).await;
    client.done(Call::Move { uids: all(), to: mailbox("kept") }).await;
    client.done(Call::Delete { name: mailbox("old") }).await;
    drop(client);
    bench.store.close().await;
    assert_eq!(outside.holds(), [in_place("one", &[]), in_place("two", &[])]);
    assert_eq!(untold(&bench).await, 0);
}

#[tokio::test]
async fn a_lost_file_keeps_no_other_message_back() {
    let (bench, outside) = bench();
    outside.failing_settles.store(usize::MAX, Ordering::SeqCst);
    let client = bench.alice().await;
    client.append("INBOX", "lost").await;
    outside.files.lock().unwrap().clear();
    client.append("INBOX", "kept").await;
    drop(client);
    let bench = bench.restart().await;
    bench.alice().await.select("INBOX").await;
    bench.store.close().await;
    assert_eq!(outside.holds(), [in_place("kept", &[])]);
    assert_eq!(untold(&bench).await, 1, "it is told again, in case the file comes back");
}

#[tokio::test]
async fn a_store_over_the_hosts_storage_pays_nothing() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    client.select("INBOX").await;
    client.flag(&all(), SystemFlag::Seen).await;
    assert_eq!(untold(&bench).await, 0);
    drop(client);
    bench.store.close().await;
    assert_eq!(bench.plain.settled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_message_is_put_together_from_whatever_parts_the_store_gives() {
    let (bench, outside) = bench();
    let text = "Subject: parts\r\n\r\nsome octets";
    let client = bench.alice().await;
    let inbox = client.select("INBOX").await.status.mailbox;
    client.append("INBOX", text).await;
    client.append("INBOX", "").await;
    outside.part_octets.store(3, Ordering::SeqCst);
    assert_eq!(client.body(uid(1)).await, Some(Bytes::from(text)));
    assert_eq!(client.body(uid(2)).await, Some(Bytes::new()));
    client.done(Call::Copy { uids: all(), to: mailbox("INBOX") }).await;
    assert_eq!(client.body(uid(3)).await, Some(Bytes::from(text)));
    drop(client);
    bench.store.close().await;
    // Nor does a repair take a part for the whole.
    let octets = ledger::body_key(inbox, uid(1));
    bench.alter(vec![Write::Delete(Key { area: Area::Ledger, octets })]).await;
    let bench = bench.start_again();
    bench.outside.as_ref().unwrap().part_octets.store(3, Ordering::SeqCst);
    let found = bench.check(true).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let client = bench.alice().await;
    client.select("INBOX").await;
    assert_eq!(client.body(uid(1)).await, Some(Bytes::from(text)));
}
