//! When storage, a store component or a caller fails.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use postroom_core::calls::{Call, NewMessage, Reply, Want};
use postroom_core::error::StoreError;
use postroom_core::types::{
    Flag, Flags, Keyword, ModSeq, SessionId, Slot, SystemFlag, Timestamp, TransactionId, UidSet,
};

use super::super::CheckEvent;
use super::{Bench, Client, all, mailbox, uid};
use crate::mailbox::{Ask, CheckStep, Request};
use crate::storage::memory::Outage;
use crate::storage::{Claimant, Engine, Space, StorageError};

pub(super) fn append(name: &str, text: &'static str) -> Call {
    let body = Bytes::from_static(text.as_bytes());
    let internal_date = Some(Timestamp::utc(1));
    let message = NewMessage { flags: Flags::default(), internal_date, body };
    Call::Append { mailbox: mailbox(name), messages: vec![message] }
}

pub(super) async fn count(client: &Client<'_>, name: &str) -> u32 {
    match client.call(Call::Status { name: mailbox(name) }).await {
        Ok(Reply::Status(status)) => status.messages,
        other => panic!("{other:?}"),
    }
}

/// Makes a call twice under one id; both answers, in words.
async fn twice(bench: &Bench, client: &Client<'_>, call: Call) -> (String, String) {
    let id = bench.store.transaction();
    let first = bench.store.call(&client.session, id, call.clone()).await;
    let second = bench.store.call(&client.session, id, call).await;
    (format!("{first:?}"), format!("{second:?}"))
}

#[tokio::test]
async fn a_repeated_write_has_its_effect_once_and_the_same_answer() {
    let bench = Bench::new();
    let client = bench.alice().await;
    let create = Call::Create { name: mailbox("box"), special_use: None };
    let calls = [
        create,
        append("box", "one"),
        Call::Copy { uids: all(), to: mailbox("INBOX") },
        Call::Move { uids: all(), to: mailbox("INBOX") },
        Call::Rename { from: mailbox("box"), to: mailbox("bag") },
        Call::Delete { name: mailbox("bag") },
    ];
    for call in calls {
        let text = format!("{call:?}");
        if matches!(call, Call::Copy { .. } | Call::Move { .. }) {
            client.select("box").await;
        }
        let (first, second) = twice(&bench, &client, call).await;
        assert!(first.starts_with("Ok"), "{text}: {first}");
        assert_eq!(first, second, "{text}");
    }
    assert_eq!(count(&client, "INBOX").await, 2);
}

#[tokio::test]
async fn an_unknown_outcome_is_found_out_before_the_answer() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    client.select("INBOX").await;
    bench.engine.faults().next_commits([Some(Outage::UnknownWithEffect)]);
    assert_eq!(client.append("INBOX", "with effect").await, uid(2));
    bench.engine.faults().next_commits([Some(Outage::UnknownWithoutEffect)]);
    let result = client.call(append("INBOX", "without")).await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    assert_eq!(client.append("INBOX", "after").await, uid(3));
    assert_eq!(count(&client, "INBOX").await, 3);
    assert_eq!(client.body(uid(3)).await.as_deref(), Some(&b"after"[..]));
}

#[tokio::test]
async fn removals_in_an_unknown_outcome_reach_who_still_sees_them() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    for text in ["one", "two"] {
        a.append("INBOX", text).await;
    }
    a.select("INBOX").await;
    a.flag(&all(), SystemFlag::Deleted).await;
    let at = b.select("INBOX").await.status.highest_modseq;
    let one = UidSet::range(uid(1), uid(1));
    a.done(Call::Expunge { uids: Some(one) }).await;
    bench.engine.faults().next_commits([Some(Outage::UnknownWithEffect)]);
    a.done(Call::Expunge { uids: None }).await;
    b.session.changed().await;
    for (number, text) in [(1, "one"), (2, "two")] {
        assert_eq!(b.body(uid(number)).await.as_deref(), Some(text.as_bytes()));
    }
    assert_eq!(b.changes(at, at).await.expunged.to_string(), "1:2");
}

#[tokio::test]
async fn a_full_disk_is_a_temporary_error_and_leaves_nothing() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    bench.engine.faults().next_commits([Some(Outage::Unavailable)]);
    let result = client.call(append("INBOX", "lost")).await;
    assert!(matches!(&result, Err(error) if error.is_temporary()), "{result:?}");
    assert_eq!(client.append("INBOX", "after").await, uid(2));
}

#[tokio::test]
async fn calls_that_wait_for_the_next_batch_keep_their_order() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.done(Call::Create { name: mailbox("box"), special_use: None }).await;
    drop(client);
    let bench = bench.restart().await;
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    // The second needs a mailbox opened, which waits for the first; the third does not.
    let keyword = Flags::of([Flag::Keyword(Keyword::new("red").unwrap())]);
    let (one, two, three) = tokio::join!(
        client.append("INBOX", "one"),
        client.append_with("box", "two", keyword),
        client.append("box", "three"),
    );
    assert_eq!((one, two, three), (uid(2), Ok(uid(1)), uid(2)));
}

#[tokio::test]
async fn settling_that_fails_costs_no_call() {
    let refusals = [
        StorageError::Damaged("a link".into()),
        StorageError::Limit("octets".into()),
        StorageError::Conflict,
    ];
    for refusal in refusals {
        let bench = Bench::new();
        let client = bench.alice().await;
        for text in ["one", "two"] {
            client.append("INBOX", text).await;
        }
        client.select("INBOX").await;
        client.flag(&UidSet::range(uid(1), uid(1)), SystemFlag::Deleted).await;
        client.done(Call::Expunge { uids: None }).await;
        let upto = client.changes(ModSeq(0), ModSeq(0)).await.upto;
        client.changes(upto, upto).await;
        bench.engine.faults().refuse_unlinks(refusal);
        assert_eq!(client.append_with("INBOX", "three", Flags::default()).await, Ok(uid(3)));
        assert_eq!(client.append_with("INBOX", "four", Flags::default()).await, Ok(uid(4)));
        assert_eq!(bench.plain.settled.load(Ordering::SeqCst), 1, "it was tried, and then not");
    }
}

#[tokio::test]
async fn a_damaged_mailbox_costs_its_own_sessions_only() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.done(Call::Create { name: mailbox("old"), special_use: None }).await;
    a.append("INBOX", "before").await;
    b.append("old", "x").await;
    b.select("old").await;
    bench.plain.lies.store(1_000, Ordering::SeqCst);
    bench.engine.faults().next_commits([Some(Outage::UnknownWithEffect)]);
    assert_eq!(a.append_with("INBOX", "after", Flags::default()).await, Ok(uid(2)));
    let fetch = Call::Fetch { uids: all(), want: Default::default() };
    let result = b.call(fetch).await;
    assert!(matches!(result, Err(StoreError::Damaged(_))), "{result:?}");
    bench.plain.lies.store(0, Ordering::SeqCst);
    assert_eq!(b.body(uid(1)).await.as_deref(), Some(&b"x"[..]), "nothing was missed");
}

#[tokio::test]
async fn who_missed_a_removal_while_the_mailbox_was_damaged_does_not_go_on() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.append("INBOX", "x").await;
    a.select("INBOX").await;
    a.append("INBOX", "y").await;
    let at = b.select("INBOX").await.status.highest_modseq;
    a.flag(&UidSet::range(uid(1), uid(1)), SystemFlag::Deleted).await;
    bench.plain.lies.store(1_000, Ordering::SeqCst);
    bench.engine.faults().next_commits([Some(Outage::UnknownWithEffect)]);
    a.done(Call::Expunge { uids: None }).await;
    bench.plain.lies.store(0, Ordering::SeqCst);
    let result = b.call(Call::Changes { since: at, known: Some(uid(2)), released: at }).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    assert_eq!(b.select("INBOX").await.uids, [uid(2)]);
}

#[tokio::test]
async fn a_failing_store_costs_its_own_call_only() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    // One commit is held, so that the next two wait and form a batch.
    bench.engine.faults().hold_commits();
    let gate = async {
        bench.engine.faults().held_commits(1).await;
        bench.plain.failing_writes.store(1, Ordering::SeqCst);
        bench.engine.faults().release();
    };
    let (first, ()) = tokio::join!(client.call(append("INBOX", "one")), gate);
    assert!(first.is_ok());
    let (two, three) =
        tokio::join!(client.call(append("INBOX", "two")), client.call(append("INBOX", "three")));
    assert!(two.is_ok() && three.is_ok(), "tried again alone: {two:?} {three:?}");
    bench.plain.failing_writes.store(1, Ordering::SeqCst);
    let alone = client.call(append("INBOX", "four")).await;
    assert!(matches!(alone, Err(StoreError::Unavailable(_))), "{alone:?}");
    assert_eq!(count(&client, "INBOX").await, 4);
}

#[tokio::test]
async fn nothing_is_seen_before_it_is_durable_and_reads_do_not_wait() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.append("INBOX", "before").await;
    let at = b.select("INBOX").await.status.highest_modseq;
    bench.engine.faults().hold_commits();
    let look = async {
        bench.engine.faults().held_commits(1).await;
        assert_eq!(count(&b, "INBOX").await, 1);
        assert!(b.changes(at, at).await.changed.is_empty());
        assert_eq!(b.body(uid(1)).await.as_deref(), Some(&b"before"[..]));
        bench.engine.faults().release();
    };
    let (appended, ()) = tokio::join!(a.append("INBOX", "after"), look);
    assert_eq!(appended, uid(2));
    b.session.changed().await;
    assert_eq!(b.changes(at, at).await.changed.len(), 1);
}

#[tokio::test]
async fn a_message_stays_readable_while_its_removal_is_durable_and_not_yet_seen() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.append("INBOX", "wanted").await;
    a.select("INBOX").await;
    b.select("INBOX").await;
    a.flag(&all(), SystemFlag::Deleted).await;
    bench.engine.faults().hold_answers();
    // The removal has its effect; the reader meets it; only then the writer hears of it.
    let look = async {
        bench.engine.faults().held_answers(1).await;
        let release = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            bench.engine.faults().release();
        };
        tokio::join!(b.body(uid(1)), release).0
    };
    let (_, body) = tokio::join!(a.done(Call::Expunge { uids: None }), look);
    assert_eq!(body.as_deref(), Some(&b"wanted"[..]));
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_break_its_write() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    bench.engine.faults().hold_commits();
    let held = bench.engine.faults().held_commits(1);
    tokio::select! {
        _ = client.call(append("INBOX", "gone")) => panic!("it is held"),
        () = held => {}
    }
    bench.engine.faults().release();
    assert_eq!(client.append("INBOX", "after").await, uid(3), "the one before took UID 2");
}

#[tokio::test]
async fn another_claim_of_the_slot_is_noticed_by_the_commit() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    client.select("INBOX").await;
    let slot = Slot::of(bench.store.principal("alice").await.unwrap().account);
    let (epoch, _) = bench.engine.claimed(slot).await.unwrap().unwrap();
    let thief = Claimant { node: "other".into(), generation: 1, nonce: [7; 16] };
    bench.engine.claim(slot, thief, Some(epoch)).await.unwrap();
    let result = client.call(append("INBOX", "late")).await;
    assert!(matches!(result, Err(StoreError::Fenced)), "{result:?}");
    // This node takes the slot again, by a claim of its own, and the session goes on.
    assert_eq!(client.append("INBOX", "after").await, uid(2));
    assert_eq!(client.body(uid(2)).await.as_deref(), Some(&b"after"[..]));
}

#[tokio::test]
async fn a_store_that_answers_with_other_octets_is_found_out_and_the_others_come() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "mine").await;
    client.append("INBOX", "too").await;
    client.select("INBOX").await;
    let want = Want { body: true, derived: true, header: true };
    bench.plain.lies.store(1, Ordering::SeqCst);
    let messages = client.fetch(all(), want).await;
    assert_eq!(messages.iter().map(|m| m.uid).collect::<Vec<_>>(), [uid(1), uid(2)]);
    let [lost, whole] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&lost.body, &lost.header, lost.derived.is_some()), (&None, &None, false));
    assert_eq!((lost.size, whole.body.as_deref()), (4, Some(&b"too"[..])));
    assert!(whole.derived.is_some() && whole.header.is_some());
    assert_eq!(client.body(uid(1)).await.as_deref(), Some(&b"mine"[..]), "it lied once");
}

#[tokio::test]
async fn a_fetch_ends_when_the_store_is_away() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "mine").await;
    client.select("INBOX").await;
    bench.engine.faults().next_reads(1);
    let want = Want { body: true, ..Want::default() };
    let result = client.call(Call::Fetch { uids: all(), want }).await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
}

#[tokio::test]
async fn a_store_that_loses_messages_is_found_out_before_anybody_sees_it() {
    let bench = Bench::new();
    let client = bench.alice().await;
    for text in ["one", "two"] {
        client.append("INBOX", text).await;
    }
    drop(client);
    let bench = bench.restart().await;
    let client = bench.alice().await;
    bench.plain.lies.store(1, Ordering::SeqCst);
    let select = Call::Select { name: mailbox("INBOX"), read_write: true };
    let result = client.call(select.clone()).await;
    assert!(matches!(result, Err(StoreError::Damaged(_))), "{result:?}");
    assert!(client.call(select).await.is_ok(), "it lied once");
}

#[tokio::test]
async fn bodies_go_when_the_last_session_was_told() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    for text in ["one", "two"] {
        a.append("INBOX", text).await;
    }
    a.select("INBOX").await;
    b.select("INBOX").await;
    a.flag(&all(), SystemFlag::Deleted).await;
    a.done(Call::Expunge { uids: None }).await;
    let changes = a.changes(ModSeq(0), ModSeq(0)).await;
    a.changes(changes.upto, changes.upto).await;
    // A commit takes settling along, if there is any.
    a.append("INBOX", "three").await;
    assert_eq!(bench.plain.settled.load(Ordering::SeqCst), 0, "b was not told");
    let upto = changes.upto;
    b.changes(upto, upto).await;
    a.append("INBOX", "four").await;
    assert_eq!(bench.plain.settled.load(Ordering::SeqCst), 2);
    assert_eq!(a.body(uid(4)).await.as_deref(), Some(&b"four"[..]));
}

#[tokio::test]
async fn what_was_removed_before_a_stop_is_settled_when_the_node_stops() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.done(Call::Create { name: mailbox("old"), special_use: None }).await;
    for name in ["INBOX", "old", "old"] {
        client.append(name, "x").await;
    }
    client.select("INBOX").await;
    client.flag(&all(), SystemFlag::Deleted).await;
    client.done(Call::Expunge { uids: None }).await;
    client.done(Call::Delete { name: mailbox("old") }).await;
    drop(client);
    bench.store.close().await;
    assert_eq!(bench.plain.settled.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_deleted_mailbox_is_gone_for_those_who_had_it_selected() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.done(Call::Create { name: mailbox("old"), special_use: None }).await;
    b.append("old", "x").await;
    let at = b.select("old").await.status.highest_modseq;
    a.done(Call::Delete { name: mailbox("old") }).await;
    b.session.changed().await;
    let changes = Call::Changes { since: at, known: None, released: at };
    for call in [changes, Call::Expunge { uids: None }] {
        let result = b.call(call).await;
        assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    }
    assert_eq!(b.select("INBOX").await.status.messages, 0);
}

#[tokio::test]
async fn a_refused_append_leaves_no_body_waiting_for_a_commit() {
    let bench = Bench::new();
    let client = bench.alice().await;
    let large = "x".repeat(100_000);
    client.append("INBOX", &large).await;
    client.select("INBOX").await;
    assert_eq!(client.body(uid(1)).await.map(|body| body.len()), Some(large.len()));
    let refuse = async |mailbox: &str| {
        let refused = client.append_with(mailbox, &large, Flags::default()).await;
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(bench.engine.waiting_bodies(), 0, "after {refused:?}");
    };
    refuse("nowhere").await;
    bench.plain.failing_writes.store(1, Ordering::SeqCst);
    refuse("INBOX").await;
    for outage in [Outage::Unavailable, Outage::UnknownWithoutEffect] {
        bench.engine.faults().next_commits([Some(outage)]);
        refuse("INBOX").await;
    }
    bench.engine.faults().next_commits([Some(Outage::UnknownWithEffect)]);
    assert_eq!(client.append("INBOX", &large).await, uid(2));
    assert_eq!(client.body(uid(2)).await.map(|body| body.len()), Some(large.len()));
    assert_eq!(bench.engine.waiting_bodies(), 0);
}

/// Checks everything; the problems that were found, and whether they were mended.
async fn check(bench: &Bench, repair: bool) -> Result<Vec<(String, bool)>, StoreError> {
    let mut found = Vec::new();
    let mut listen = |event| {
        if let CheckEvent::Finding(finding) = event {
            found.push((finding.problem, finding.repaired));
        }
    };
    bench.store.check(repair, &mut listen).await?;
    Ok(found)
}

#[tokio::test]
async fn what_a_check_without_repair_writes_is_refused_as_broken() {
    let bench = Bench::strict();
    bench.store.create_domain("example.org", None).await.unwrap();
    let head = bench.engine.head(Space::Directory).await;
    bench.plain.writing_checks.store(1, Ordering::SeqCst);
    let checked = check(&bench, false).await;
    assert!(matches!(checked, Err(StoreError::Broken(_))), "{checked:?}");
    assert_eq!(bench.engine.head(Space::Directory).await, head);

    let bench = Bench::new();
    bench.alice().await.append("INBOX", "x").await;
    let account = bench.store.principal("alice").await.unwrap().account;
    let head = bench.engine.head(Space::Account(account)).await;
    for step in [CheckStep::Mailboxes(None), CheckStep::Messages(None)] {
        bench.plain.writing_checks.store(1, Ordering::SeqCst);
        let ask = Ask::Check { step, repair: false };
        let (session, transaction) = (SessionId(0), bench.store.transaction());
        let request = Request { account, session, transaction, quota: None, ask };
        let checked = bench.store.inner.router.call(request).await;
        assert!(matches!(checked, Err(StoreError::Broken(_))), "{checked:?}");
    }
    assert_eq!(bench.engine.head(Space::Account(account)).await, head);
}

#[tokio::test]
async fn a_check_of_a_directory_that_is_empty_makes_nothing() {
    let bench = Bench::strict();
    assert_eq!(check(&bench, false).await, Ok(vec![]));
    assert_eq!(bench.engine.head(Space::Directory).await, Ok(0));
}

#[tokio::test]
async fn what_a_check_wrote_before_it_met_damage_is_not_kept() {
    let bench = Bench::new();
    bench.alice().await.append("INBOX", "x").await;
    let space = Space::Account(bench.store.principal("alice").await.unwrap().account);
    let heads =
        async || (bench.engine.head(space).await, bench.engine.head(Space::Directory).await);
    let before = heads().await;
    bench.plain.writing_checks.store(4, Ordering::SeqCst);
    bench.plain.damaged_checks.store(4, Ordering::SeqCst);
    let found = check(&bench, true).await.unwrap();
    let damage = ("the test wants it so".to_owned(), false);
    assert_eq!(found, vec![damage; 4], "two of the directory, two of the account");
    assert_eq!(heads().await, before);
    assert_eq!(check(&bench, true).await, Ok(vec![]));
}

#[tokio::test]
async fn too_many_calls_for_one_account_are_refused_as_busy() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    bench.engine.faults().hold_commits();
    let calls = (0..400).map(|_| client.call(append("INBOX", "many")));
    let release = async {
        bench.engine.faults().held_commits(1).await;
        bench.engine.faults().release();
    };
    let (results, ()) = tokio::join!(futures::future::join_all(calls), release);
    let busy = results.iter().filter(|r| matches!(r, Err(StoreError::Busy(_)))).count();
    let done = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(busy + done, 400);
    assert!(busy > 0, "the queue has an end");
    assert_eq!(count(&client, "INBOX").await as usize, done + 1);
}

#[tokio::test]
async fn a_call_without_login_is_denied() {
    let bench = Bench::new();
    let session = bench.store.session();
    let result = bench.store.call(&session, TransactionId([1; 16]), Call::Mailboxes).await;
    assert!(matches!(result, Err(StoreError::Denied(_))), "{result:?}");
}
