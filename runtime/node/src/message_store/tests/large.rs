//! Operations on more messages than one commit takes.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use postroom_core::calls::{Call, NewMessage, Reply, Want};
use postroom_core::mailbox::limits::{MAX_APPEND_MESSAGES, MAX_BATCH_MESSAGES};
use postroom_core::search::{Needle, Query};
use postroom_core::types::{
    Flag, FlagChange, FlagChangeKind, Flags, ModSeq, SystemFlag, Timestamp, UidSet,
};

use super::super::limits::MAX_HEAVY_READS;
use super::{Bench, Client, all, mailbox};
use crate::mailbox::limits::MIN_RECENT_OCTETS;

/// A few more than fit one commit.
const MANY: usize = MAX_BATCH_MESSAGES + 616;

async fn fill(client: &Client<'_>, count: usize) {
    let mut left = count;
    while left > 0 {
        let page = left.min(MAX_APPEND_MESSAGES);
        let message = |n: usize| NewMessage {
            flags: Flags::default(),
            internal_date: Some(Timestamp::utc(n as i64)),
            body: Bytes::from(format!("message {n}")),
        };
        let messages = (0..page).map(message).collect();
        client.done(Call::Append { mailbox: mailbox("INBOX"), messages }).await;
        left -= page;
    }
}

#[tokio::test]
async fn long_operations_go_on_in_further_commits() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.done(Call::Create { name: mailbox("old"), special_use: None }).await;
    fill(&client, MANY).await;
    client.select("INBOX").await;

    let flags = Flags::of([Flag::System(SystemFlag::Seen)]);
    let change = FlagChange { kind: FlagChangeKind::Add, flags };
    let store = Call::Store { uids: all(), change, unchanged_since: None };
    let Ok(Reply::Stored { rows, modified }) = client.call(store).await else { panic!() };
    assert_eq!((rows.len(), modified.is_empty()), (MANY, true));
    assert!(rows.iter().all(|row| row.flags.has(SystemFlag::Seen)));

    let moved = client.call(Call::Move { uids: all(), to: mailbox("old") }).await;
    let Ok(Reply::Copied(Some(copied))) = moved else { panic!("{moved:?}") };
    let everything = UidSet::range(super::uid(1), super::uid(MANY as u32));
    assert_eq!((copied.from, copied.to), (everything.clone(), everything));

    client.select("old").await;
    client.flag(&all(), SystemFlag::Deleted).await;
    let expunged = client.call(Call::Expunge { uids: None }).await;
    let Ok(Reply::Expunged { uids, .. }) = expunged else { panic!("{expunged:?}") };
    assert_eq!(uids.len() as usize, MANY);
    assert_eq!(client.select("old").await.status.messages, 0);
}

#[tokio::test]
async fn a_large_body_that_is_fetched_again_is_not_read_again() {
    let bench = Bench::new();
    let client = bench.alice().await;
    let large = "x".repeat(MIN_RECENT_OCTETS);
    let uids = [client.append("INBOX", &large).await, client.append("INBOX", "small").await];
    client.select("INBOX").await;
    assert_eq!(client.body(uids[0]).await.as_deref(), Some(large.as_bytes()));
    assert_eq!(client.body(uids[1]).await.as_deref(), Some(&b"small"[..]));
    // Whoever asks the store component now is answered with another body.
    bench.plain.lies.store(1, Ordering::SeqCst);
    assert_eq!(client.body(uids[0]).await.as_deref(), Some(large.as_bytes()));
    assert_eq!(bench.plain.lies.load(Ordering::SeqCst), 1);
    // The small one is asked for, found to be another one, and left out.
    assert_eq!(client.body(uids[1]).await, None);

    client.flag(&all(), SystemFlag::Deleted).await;
    client.done(Call::Expunge { uids: None }).await;
    let told = client.changes(ModSeq(0), ModSeq(0)).await.upto;
    client.changes(told, told).await;
    assert_eq!(client.body(uids[0]).await, None, "what is remembered is still gone");
}

#[tokio::test]
async fn fetch_answers_in_pages_that_fit() {
    let bench = Bench::new();
    let client = bench.alice().await;
    fill(&client, 10).await;
    let large = "x".repeat(3 << 20);
    for _ in 0..3 {
        client.append("INBOX", &large).await;
    }
    client.select("INBOX").await;
    let (mut uids, mut pages, mut seen) = (all(), 0, 0);
    loop {
        let want = Want { body: true, derived: true, ..Want::default() };
        let fetched = client.call(Call::Fetch { uids: uids.clone(), want }).await;
        let Ok(Reply::Messages { messages, more }) = fetched else { panic!("{fetched:?}") };
        pages += 1;
        seen += messages.len();
        let last = messages.last().unwrap().uid;
        if !more {
            break;
        }
        uids = UidSet::range(last.next().unwrap(), postroom_core::types::Uid::MAX);
    }
    assert_eq!((pages, seen), (3, 13));
}

/// A client with so many messages of 3 MiB in its mailbox, each with its number as subject.
async fn heavy(bench: &Bench, count: usize) -> Client<'_> {
    let client = bench.alice().await;
    for number in 0..count {
        let body = "x".repeat(3 << 20);
        client.append("INBOX", &format!("Subject: {number}\r\n\r\n{body}")).await;
    }
    client.select("INBOX").await;
    client
}

#[tokio::test]
async fn bodies_that_do_not_fit_the_answer_are_not_read() {
    let bench = Bench::new();
    let client = heavy(&bench, 4).await;
    let want = Want { body: true, ..Want::default() };
    let fetched = client.call(Call::Fetch { uids: all(), want }).await;
    let Ok(Reply::Messages { messages, more: true }) = fetched else { panic!("{fetched:?}") };
    assert_eq!(messages.len(), 1);
    assert_eq!(bench.plain.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn headers_of_large_messages_come_in_one_answer() {
    let bench = Bench::new();
    let client = heavy(&bench, 4).await;
    let want = Want { header: true, derived: true, ..Want::default() };
    let messages = client.fetch(all(), want).await;
    let headers: Vec<_> = messages.iter().map(|message| message.header.as_deref()).collect();
    let expected = ["0", "1", "2", "3"].map(|number| format!("Subject: {number}\r\n\r\n"));
    assert_eq!(headers, expected.iter().map(|text| Some(text.as_bytes())).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_search_finds_what_lies_in_large_messages() {
    let bench = Bench::new();
    let client = heavy(&bench, 3).await;
    client.append("INBOX", "Subject: small\r\n\r\nwanted").await;
    client.append("INBOX", &format!("Subject: 5\r\n\r\n{}wanted", "x".repeat(3 << 20))).await;
    let query = Query::Body(Needle::new("wanted"));
    let Ok(Reply::Found(found)) = client.call(Call::Search { query }).await else { panic!() };
    assert_eq!(found.iter().map(|(uid, _)| uid.get()).collect::<Vec<_>>(), [4, 5]);
}

#[tokio::test]
async fn what_is_read_at_a_time_is_counted_in_octets() {
    let bench = Bench::new();
    let client = heavy(&bench, 1).await;
    client.append("INBOX", "Subject: small\r\n\r\nbody").await;
    // Others read all but two MiB of what can be read at a time.
    let others = bench.store.inner.heavy.acquire_many(MAX_HEAVY_READS - 2).await.unwrap();
    let body = |number| {
        let uids = UidSet::range(super::uid(number), super::uid(number));
        Call::Fetch { uids, want: Want { body: true, ..Want::default() } }
    };
    assert!(client.call(body(2)).await.is_ok());
    let read = bench.plain.fetches.load(Ordering::SeqCst);
    let calls = [body(1), Call::Search { query: Query::Body(Needle::new("body")) }];
    for call in &calls {
        let patience = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            result = client.call(call.clone()) => panic!("it did not wait: {result:?}"),
            () = patience => {}
        }
        assert_eq!(bench.plain.fetches.load(Ordering::SeqCst), read, "{call:?}");
    }
    drop(others);
    for call in calls {
        assert!(client.call(call).await.is_ok());
    }
}
