//! What a check mends, and what it must not do while it mends.

use std::time::Duration;

use postroom_core::calls::Call;
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger;
use postroom_core::records::MessageRow;
use postroom_core::types::{MailboxId, SessionId, SystemFlag, TransactionId, UidSet};

use super::{Bench, CheckEvent, CheckFinding, Patience, all, mailbox, soon, uid};
use crate::guest::{CallInfo, MessagePlace, Messages};
use crate::mailbox::{Ask, CheckStep, Request};
use crate::storage::{Area, Body, Engine, Key, Space, Txn, View, Write};

impl Bench {
    /// Checks everything; what was found.
    pub(super) async fn check(&self, repair: bool) -> Vec<CheckFinding> {
        let mut found = Vec::new();
        let mut event = |event| match event {
            CheckEvent::Finding(finding) => found.push(finding),
            CheckEvent::Progress { .. } => {}
        };
        self.store.check(repair, &mut event).await.unwrap();
        found
    }

    /// One step of the check of alice's account, which mends.
    async fn mend(&self, step: CheckStep) {
        let request = Request {
            account: self.account().await,
            session: SessionId(0),
            transaction: self.store.transaction(),
            quota: None,
            ask: Ask::Check { step, repair: true },
        };
        self.store.inner.router.call(request).await.unwrap();
    }

    async fn forget_counters(&self, id: MailboxId) {
        let octets = ledger::counters_key(id);
        self.alter(vec![Write::Delete(Key { area: Area::Ledger, octets })]).await;
    }
}

#[tokio::test]
async fn a_mailbox_that_was_not_counted_is_counted_whole_before_mail_can_come_into_it() {
    let bench = Bench::new();
    let client = bench.alice().await;
    for text in ["one", "two", "three"] {
        client.append("INBOX", text).await;
    }
    let before = client.select("INBOX").await.status;
    client.flag(&UidSet::range(uid(1), uid(1)), SystemFlag::Seen).await;
    client.flag(&UidSet::range(uid(3), uid(3)), SystemFlag::Deleted).await;
    client.done(Call::Expunge { uids: None }).await;
    drop(client);
    bench.store.close().await;
    bench.forget_counters(before.mailbox).await;
    let bench = bench.start_again();
    let client = bench.alice().await;
    let result = client.call(Call::Status { name: mailbox("INBOX") }).await;
    assert!(matches!(result, Err(StoreError::Damaged(_))), "{result:?}");
    bench.mend(CheckStep::Pairs).await;
    assert_eq!(client.append("INBOX", "four").await, uid(4), "UID 3 was another message's");
    let after = client.select("INBOX").await.status;
    assert_eq!((after.messages, after.unseen, after.size), (3, 2, 10));
    assert!(after.uid_validity > before.uid_validity);
    assert!(after.highest_modseq > before.highest_modseq);
    assert_eq!(bench.check(false).await, []);
    drop(client);
    bench.store.close().await;
    assert_eq!(bench.ledger(ledger::bodies_of(after.mailbox)).await.len(), 3);
}

#[tokio::test]
async fn a_check_that_mends_goes_through_a_mailbox_that_it_has_counted() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    let inbox = client.select("INBOX").await.status.mailbox;
    drop(client);
    bench.store.close().await;
    bench.forget_counters(inbox).await;
    let octets = ledger::body_key(inbox, uid(1));
    bench.alter(vec![Write::Delete(Key { area: Area::Ledger, octets })]).await;
    let bench = bench.start_again();
    let found = bench.check(true).await;
    assert!(found.len() == 2 && found.iter().all(|finding| finding.repaired), "{found:?}");
    assert_eq!(bench.check(true).await, []);
}

#[tokio::test]
async fn sessions_do_not_live_through_another_uid_validity() {
    let bench = Bench::new();
    let (a, b) = (bench.alice().await, bench.alice().await);
    a.append("INBOX", "one").await;
    let selected = b.select("INBOX").await.status;
    bench.forget_counters(selected.mailbox).await;
    bench.mend(CheckStep::Pairs).await;
    soon("b is woken", b.session.changed()).await;
    let since = selected.highest_modseq;
    let result = b.call(Call::Changes { since, known: None, released: since }).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    assert_eq!(b.select("INBOX").await.uids, [uid(1)]);
}

#[tokio::test]
async fn a_wrong_size_is_mended_also_where_an_update_writes_flags_only() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    let inbox = client.select("INBOX").await.status.mailbox;
    drop(client);
    bench.store.close().await;
    let account = bench.account().await;
    let (space, call) = (Space::Account(account), CallInfo::new(account, TransactionId([7; 16])));
    let view = View::new(bench.engine.clone(), space);
    let page = Messages::list(&*bench.plain, call, &view, inbox, None, 10).await.unwrap();
    let row = page.rows[0].clone();
    let body = bench.engine.body(space, &row.name).await.unwrap().unwrap();
    let txn = Txn::new(bench.engine.clone(), space);
    let places = vec![MessagePlace { mailbox: inbox, uid: uid(1) }];
    Messages::delete(&*bench.plain, call, &txn, places).await.unwrap();
    txn.write(Write::UnlinkBody { name: row.name.clone() }).unwrap();
    let (rows, bodies) = (vec![MessageRow { size: 99, ..row }], vec![Body::Stored(body)]);
    Messages::insert(&*bench.plain, call, &txn, rows, bodies).await.unwrap();
    bench.alter(txn.take()).await;
    let bench = bench.start_again();
    let found = bench.check(true).await;
    assert!(found.len() == 1 && found[0].repaired, "{found:?}");
    assert_eq!(bench.check(true).await, []);
    let client = bench.alice().await;
    assert_eq!(client.select("INBOX").await.status.size, 3);
    assert_eq!(client.body(uid(1)).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(client.fetch(all(), Default::default()).await[0].size, 3);
}

#[tokio::test]
async fn a_repair_whose_commit_hangs_is_given_up() {
    let commit = Duration::from_millis(20);
    let bench = Bench::with(Patience { commit, ..Patience::default() });
    let client = bench.alice().await;
    client.append("INBOX", "one").await;
    let inbox = client.select("INBOX").await.status.mailbox;
    let octets = ledger::body_key(inbox, uid(1));
    bench.alter(vec![Write::Delete(Key { area: Area::Ledger, octets })]).await;
    bench.engine.faults().hold_commits();
    let mut event = |_| {};
    let checked = soon("the check ends", bench.store.check(true, &mut event)).await;
    assert_eq!(checked, Err(StoreError::UnknownOutcome));
    bench.engine.faults().release();
    assert_eq!(bench.check(true).await.len(), 1);
    assert_eq!(client.body(uid(1)).await.as_deref(), Some(&b"one"[..]));
}

#[tokio::test]
async fn a_row_with_another_size_is_put_right_and_its_flags_stay() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "whole").await;
    *bench.plain.edit_inserted.lock().unwrap() = Some(|row| row.size += 3);
    client.append("INBOX", "wrong").await;
    *bench.plain.edit_inserted.lock().unwrap() = None;
    let inbox = client.select("INBOX").await.status.mailbox;
    client.flag(&all(), SystemFlag::Flagged).await;
    let before = bench.rows(inbox).await;
    drop(client);
    let bench = bench.restart().await;
    let client = bench.alice().await;
    let select = Call::Select { name: mailbox("INBOX"), read_write: true };
    let refused = client.call(select).await;
    assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");

    for (repair, found) in [(false, 1), (true, 1), (true, 0), (false, 0)] {
        let findings = bench.check(repair).await;
        assert_eq!(findings.len(), found, "{findings:?}");
        assert!(findings.iter().all(|finding| finding.repaired == repair), "{findings:?}");
    }

    let after = bench.rows(inbox).await;
    assert_eq!(after[0], before[0]);
    let mended = MessageRow { name: after[1].name.clone(), size: 5, ..before[1].clone() };
    assert_eq!(after[1], mended);
    assert_eq!(client.select("INBOX").await.status.size, 10);
    assert_eq!(client.body(uid(2)).await.as_deref(), Some(&b"wrong"[..]));
}
