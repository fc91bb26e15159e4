//! Calls through a healthy component.

use futures::future::join_all;

use super::gate::Gate;
use super::*;

async fn keyed() -> Bench {
    Bench::new(default_store(), Limits::default()).await
}

#[tokio::test]
async fn an_inserted_mailbox_is_listed_in_its_transaction_and_after_the_commit() {
    let bench = keyed().await;
    let (stores, txn) = (Stores::all(bench.component.clone()), bench.txn(1));
    let rows = vec![mailbox(3, "Sent"), mailbox(2, "INBOX")];
    stores.mailboxes.create(call(1), &txn).await.unwrap();
    stores.mailboxes.insert(call(1), &txn, rows.clone()).await.unwrap();

    let all = Page { rows: vec![rows[1].clone(), rows[0].clone()], more: false };
    let nothing = Page { rows: Vec::new(), more: false };
    let list = async |account: u128, view: &View| {
        stores.mailboxes.list(call(account), view, None, 10).await.unwrap()
    };
    assert_eq!(list(1, &txn.view()).await, all);
    assert_eq!(list(1, &bench.view(1)).await, nothing);
    bench.commit(1, &txn).await;
    assert_eq!(list(1, &bench.view(1)).await, all);
    assert_eq!(list(2, &bench.view(2)).await, nothing);
}

#[tokio::test]
async fn a_message_comes_back_as_it_was_inserted_and_its_body_by_handle() {
    let bench = keyed().await;
    let stores = Stores::all(bench.component.clone());
    for (uid, size) in [(1, 5), (2, 300_000)] {
        let (txn, row) = (bench.txn(1), message(4, uid, size));
        let octets = bytes::Bytes::from(vec![b'x'; size]);
        let body = bench.engine.new_body(space(1), octets.clone()).await.unwrap();
        stores.messages.insert(call(1), &txn, vec![row.clone()], vec![body]).await.unwrap();
        bench.commit(1, &txn).await;

        let view = bench.view(1);
        let place = MessagePlace { mailbox: row.mailbox, uid: row.uid };
        let selected = stores.messages.select(call(1), &view, vec![place]).await.unwrap();
        assert_eq!(selected, [Some(row.clone())]);
        let name = row.name.clone();
        let part = stores.messages.fetch(call(1), &view, row.mailbox, name, 0, 10).await.unwrap();
        let Some(Part::Body(body)) = part else { panic!("no body handle: {part:?}") };
        assert_eq!(view.read_body(&body, 0, u64::MAX).await.unwrap(), octets);
    }
}

#[tokio::test]
async fn every_verb_of_messages_reaches_the_guest() {
    let bench = keyed().await;
    let (messages, txn) = (&*bench.component as &dyn Messages, bench.txn(1));
    let mut rows: Vec<_> = (1..=3).map(|uid| message(4, uid, 1)).collect();
    let body = bench.engine.new_body(space(1), "x".into()).await.unwrap();
    messages.create(call(1), &txn).await.unwrap();
    messages.insert(call(1), &txn, rows.clone(), vec![body; 3]).await.unwrap();
    let row = &mut rows[1];
    (row.modseq, row.flags) = (ModSeq(9), Flags::default());
    row.extra = vec![Property { name: "note".into(), value: vec![0, 255] }];
    let change = MessageChange {
        mailbox: row.mailbox,
        uid: row.uid,
        modseq: row.modseq,
        flags: row.flags.clone(),
        extra: row.extra.clone(),
    };
    messages.update(call(1), &txn, vec![change]).await.unwrap();
    let first = MessagePlace { mailbox: rows[0].mailbox, uid: rows[0].uid };
    messages.delete(call(1), &txn, vec![first]).await.unwrap();

    let view = txn.view();
    let list = |after, limit| messages.list(call(1), &view, rows[0].mailbox, after, limit);
    let page = list(None, 1).await.unwrap();
    assert_eq!(page, Page { rows: vec![rows[1].clone()], more: true });
    let page = list(Some(rows[1].uid), 1).await.unwrap();
    assert_eq!(page, Page { rows: vec![rows[2].clone()], more: false });
    let page = messages.check(call(1), &txn, None, false).await.unwrap();
    assert_eq!((page.findings, page.next), (vec![], None));
    messages.settle(call(1), &view, first.mailbox, vec![rows[0].name.clone()]).await.unwrap();
    messages.drop_mailbox(call(1), &txn, first.mailbox).await.unwrap();
    assert_eq!(list(None, 10).await.unwrap().rows, []);
}

#[tokio::test]
async fn an_error_of_the_guest_keeps_its_meaning() {
    let bench = keyed().await;
    let (domains, txn) = (&*bench.component as &dyn Records<DomainRow, String>, bench.txn(0));
    let rows = vec![domain("example.org")];
    domains.insert(call(0), &txn, rows.clone()).await.unwrap();
    let again = domains.insert(call(0), &txn, rows).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists(_))), "{again:?}");
    let absent = domains.update(call(0), &txn, vec![domain("example.net")]).await;
    assert!(matches!(absent, Err(StoreError::NotFound(_))), "{absent:?}");
}

#[tokio::test]
async fn a_thousand_calls_are_in_flight_at_a_time() {
    let gate = Gate::closed();
    let bench = Bench::over(gate.clone(), guest("unruly"), Limits::default()).await;
    let calls = (1..=1000).map(|account| {
        let bench = &bench;
        async move { bench.ask(account, &["example.org"]).await }
    });
    let limits = Limits::default();
    // Accounts are spread by hash: some instances have more of them than they have places.
    let held = (limits.instances * limits.calls) as usize * 9 / 10;
    let release = async {
        gate.reached(held).await;
        assert!(bench.component.load().calls >= held);
        gate.open();
    };
    let (answers, ()) = tokio::join!(join_all(calls), release);
    assert!(answers.iter().all(|answer| *answer == Ok(vec![None])), "{answers:?}");
}

#[tokio::test]
async fn a_sync_lift_takes_calls_one_by_one_and_loses_none() {
    let bench = Bench::new(guest("onebyone"), one_instance()).await;
    assert_eq!(bench.component.inspection().lift, Lift::Sync);
    let txn = bench.txn(0);
    bench.add(0, &txn, &["a", "b"]).await.unwrap();
    bench.commit(0, &txn).await;
    let answers = join_all((0..200).map(|_| bench.ask(0, &["b", "c", "a"]))).await;
    let expected = vec![Some(domain("b")), None, Some(domain("a"))];
    assert!(answers.into_iter().all(|answer| answer.unwrap() == expected));
}

#[tokio::test]
async fn a_kind_that_the_component_does_not_keep_is_unsupported() {
    let bench = Bench::new(guest("onebyone"), one_instance()).await;
    let stores = Stores::all(bench.component.clone());
    let listed = stores.mailboxes.list(call(1), &bench.view(1), None, 1).await;
    assert!(matches!(listed, Err(StoreError::Unsupported(_))), "{listed:?}");
    let created = stores.messages.create(call(1), &bench.txn(1)).await;
    assert!(matches!(created, Err(StoreError::Unsupported(_))), "{created:?}");
}

#[tokio::test]
async fn bodies_that_do_not_match_their_messages_are_refused() {
    let bench = keyed().await;
    let messages: &dyn Messages = &*bench.component;
    let refused = messages.insert(call(1), &bench.txn(1), vec![message(4, 1, 1)], vec![]).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn more_bodies_than_an_instance_has_handles_are_refused() {
    let limits = Limits { handles: 4, ..one_instance() };
    let bench = Bench::new(default_store(), limits).await;
    let messages: &dyn Messages = &*bench.component;
    let body = bench.engine.new_body(space(1), "x".into()).await.unwrap();
    let insert = async |last| {
        let rows: Vec<_> = (1..=last).map(|uid| message(4, uid, 1)).collect();
        let bodies = vec![body.clone(); rows.len()];
        messages.insert(call(1), &bench.txn(1), rows, bodies).await
    };
    assert_eq!(insert(2).await, Ok(()));
    let refused = insert(3).await;
    assert!(matches!(refused, Err(StoreError::Limit(_))), "{refused:?}");
}
