//! Commits that are not answered in time, and take effect late or never.

use std::time::Duration;

use bytes::Bytes;
use postroom_core::calls::{Call, Reply};
use postroom_core::error::StoreError;
use postroom_core::mailbox::{Arrival, Target};
use postroom_core::types::{Flags, ThreadId, Timestamp, TransactionId, Uid};

use super::faults::{append, count};
use super::{Bench, Client, NewUser, Patience, mailbox, soon, uid};
use crate::mailbox::{Answer, Ask, Request, Write};
use crate::storage::memory::Outage;

const SHORT: Duration = Duration::from_millis(20);

/// Gives a commit up soon.
fn hasty() -> Bench {
    Bench::with(Patience { commit: SHORT, ..Patience::default() })
}

fn user(name: &str) -> NewUser {
    NewUser { name: name.to_owned(), password: None, alias_of: None, quota_octets: None }
}

impl Client<'_> {
    /// Asks alice's account to add a message to INBOX: nobody repeats it.
    async fn add(&self, text: &'static str) -> Result<Uid, StoreError> {
        self.add_as(self.store.transaction(), text).await
    }

    async fn add_as(&self, id: TransactionId, text: &'static str) -> Result<Uid, StoreError> {
        let request = Request {
            account: self.store.principal("alice").await?.account,
            session: self.session.id(),
            transaction: id,
            quota: None,
            ask: Ask::Write(message(text)),
        };
        match self.store.inner.router.call(request).await? {
            Answer::Done(Reply::Appended { uids, .. }) => Ok(uids[0]),
            other => panic!("{other:?}"),
        }
    }
}

fn message(text: &'static str) -> Write {
    let arrival = Arrival {
        flags: Flags::default(),
        internal_date: Timestamp::utc(1),
        size: text.len() as u64,
        thread_id: ThreadId([1; 16]),
        from: Vec::new(),
        to: Vec::new(),
        cc: Vec::new(),
        bcc: Vec::new(),
    };
    let target = Target::Mailbox(mailbox("INBOX"));
    Write::Append { target, messages: vec![(arrival, Bytes::from_static(text.as_bytes()))] }
}

#[tokio::test]
async fn a_commit_that_lands_late_is_seen_by_everybody_before_it_is_acknowledged() {
    let bench = hasty();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.append("INBOX", "before").await;
    let at = b.select("INBOX").await.status.highest_modseq;
    bench.engine.faults().next_commits([Some(Outage::Late)]);
    let id = bench.store.transaction();
    assert_eq!(a.add_as(id, "late").await, Err(StoreError::UnknownOutcome));
    assert_eq!(count(&b, "INBOX").await, 1);
    // The account was read again meanwhile, and then it lands.
    assert!(matches!(bench.engine.land()[..], [Ok(_)]));
    assert_eq!(a.add_as(id, "late").await, Ok(uid(2)));
    assert_eq!(count(&b, "INBOX").await, 2);
    soon("b is woken", b.session.changed()).await;
    let changes = b.call(Call::Changes { since: at, known: Some(uid(1)), released: at }).await;
    match changes {
        Ok(Reply::Changes(changes)) => assert_eq!(changes.changed[0].uid, uid(2)),
        other => panic!("{other:?}"),
    }
    assert_eq!(b.body(uid(2)).await.as_deref(), Some(&b"late"[..]));
}

#[tokio::test]
async fn a_write_is_repeated_until_its_outcome_is_known() {
    let bench = hasty();
    let client = bench.alice().await;
    client.append("INBOX", "before").await;
    let late = Some(Outage::Late);
    bench.engine.faults().next_commits([late, late, late]);
    assert_eq!(client.append("INBOX", "after").await, uid(2));
    // None of them can have its effect once more.
    assert!(matches!(bench.engine.land()[..], [Err(_), Err(_), Err(_)]));
    assert_eq!(count(&client, "INBOX").await, 2);
}

#[tokio::test]
async fn a_write_is_answered_before_its_caller_gives_up() {
    let bench = Bench::with(Patience { write: SHORT, ..Patience::default() });
    let client = bench.alice().await;
    assert_eq!(client.add("before").await, Ok(uid(1)));
    bench.engine.faults().hold_commits();
    let result = soon("an answer comes", client.call(append("INBOX", "after"))).await;
    assert!(matches!(result, Err(StoreError::UnknownOutcome)), "{result:?}");
    bench.engine.faults().release();
    assert_eq!(client.add("last").await, Ok(uid(3)), "it went on");
}

#[tokio::test]
async fn a_change_of_the_directory_waits_neither_for_a_commit_nor_for_others_without_end() {
    let bench = hasty();
    bench.engine.faults().hold_commits();
    let result = soon("an answer comes", bench.store.create_user(user("alice"))).await;
    assert_eq!(result, Err(StoreError::UnknownOutcome));
    bench.engine.faults().release();
    assert!(bench.store.create_user(user("alice")).await.is_ok());

    let bench = Bench::with(Patience { directory: SHORT, ..Patience::default() });
    bench.engine.faults().hold_commits();
    let second = async {
        bench.engine.faults().held_commits(1).await;
        let result = soon("an answer comes", bench.store.create_user(user("bob"))).await;
        bench.engine.faults().release();
        result
    };
    let (first, second) = tokio::join!(bench.store.create_user(user("alice")), second);
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Err(StoreError::Busy(_))), "{second:?}");
}
