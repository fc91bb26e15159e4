//! Transactions' buffers and views over an engine.

use super::*;
use crate::{MAX_COMMIT_OCTETS, MAX_GET_OCTETS, MAX_KEY_OCTETS, MAX_VALUE_OCTETS, WRITE_OCTETS};

/// Keys of a scan as one word, with a `+` when more follow.
async fn scanned(view: &View, start: &'static str, end: &'static str, items: usize) -> String {
    let limit = ScanLimit { items, octets: 1 << 20 };
    let page = view.scan(Area::Message, start.into(), end.into(), limit).await.unwrap();
    let keys: Vec<u8> = page.items.iter().flat_map(|(key, _)| key.to_vec()).collect();
    format!("{}{}", String::from_utf8(keys).unwrap(), if page.more { "+" } else { "" })
}

async fn committed(engine: Arc<dyn Engine>, keys: &'static [&'static str]) -> Subject {
    let subject = Subject::new(engine).await;
    subject.write(keys.iter().map(|k| put(message(k), "old")).collect()).await.unwrap();
    subject
}

pub async fn a_view_of_a_transaction_shows_its_own_writes(engine: Arc<dyn Engine>) {
    let subject = committed(engine, &["a", "b", "c"]).await;
    let txn = subject.txn();
    let view = txn.view();
    for write in [put(message("b"), "new"), Write::Delete(message("c")), put(message("d"), "new")] {
        txn.write(write).unwrap();
    }
    let keys = ["a", "b", "c", "d", "e"].map(message).to_vec();
    let values = view.get_many(keys).await.unwrap();
    let expected = [Some("old"), Some("new"), None, Some("new"), None];
    assert_eq!(values, expected.map(|value| value.map(Bytes::from)));
    assert_eq!(scanned(&view, "", "", 10).await, "abd");
    assert_eq!(scanned(&view, "b", "d", 10).await, "b");
}

pub async fn a_view_without_a_transaction_shows_committed_state_only(engine: Arc<dyn Engine>) {
    let subject = committed(engine.clone(), &["a"]).await;
    let view = View::new(engine, subject.space());
    subject.txn().write(put(message("b"), "new")).unwrap();
    assert_eq!(scanned(&view, "", "", 10).await, "a");
}

pub async fn a_transaction_takes_its_writes_in_order_and_is_empty_afterwards(
    engine: Arc<dyn Engine>,
) {
    let subject = committed(engine, &["a"]).await;
    let (txn, writes) = (subject.txn(), vec![put(message("b"), "1"), delete_range("a", "c")]);
    let clone = txn.clone();
    writes.iter().for_each(|write| clone.write(write.clone()).unwrap());
    assert_eq!(scanned(&txn.view(), "", "", 10).await, "");
    assert_eq!(txn.take(), writes);
    assert_eq!(txn.take(), []);
    assert_eq!(scanned(&txn.view(), "", "", 10).await, "a");
}

pub async fn a_transaction_over_its_limit_refuses_and_keeps_what_it_has(engine: Arc<dyn Engine>) {
    let subject = committed(engine, &[]).await;
    let txn = subject.txn();
    let value = Bytes::from(vec![0; MAX_VALUE_OCTETS]);
    let refuse = |write| assert!(matches!(txn.write(write), Err(StorageError::Limit(_))));
    refuse(put(message("k"), vec![0; MAX_VALUE_OCTETS + 1]));
    refuse(put(key(Area::Message, vec![0; MAX_KEY_OCTETS]), "v"));
    let fit = MAX_COMMIT_OCTETS / (MAX_VALUE_OCTETS + WRITE_OCTETS + 2);
    for n in 0..fit {
        txn.write(put(key(Area::Message, vec![n as u8]), value.clone())).unwrap();
    }
    refuse(put(message("one too many"), value));
    let writes = txn.take();
    assert_eq!(writes.len(), fit);
    assert!(subject.write(writes).await.is_ok(), "what a transaction holds can be committed");
    assert!(txn.write(put(message("k"), "v")).is_ok());
}

pub async fn a_scan_over_a_deleted_range_goes_on_behind_it(engine: Arc<dyn Engine>) {
    let subject = committed(engine, &["a", "b", "c", "d", "e", "f"]).await;
    let txn = subject.txn();
    let view = txn.view();
    txn.write(delete_range("b", "e")).unwrap();
    assert_eq!(scanned(&view, "", "", 10).await, "aef");
    assert_eq!(scanned(&view, "c", "", 1).await, "e+");
    txn.write(put(message("c"), "new")).unwrap();
    assert_eq!(scanned(&view, "", "", 10).await, "acef");
    assert_eq!(scanned(&view, "b", "d", 10).await, "c");
    txn.write(delete_range("e", "")).unwrap();
    assert_eq!(scanned(&view, "", "", 10).await, "ac");
    assert_eq!(scanned(&view, "d", "", 10).await, "");
    txn.write(put(message("z"), "new")).unwrap();
    assert_eq!(scanned(&view, "d", "", 10).await, "z");
    txn.write(delete_range("", "")).unwrap();
    assert_eq!(scanned(&view, "", "", 10).await, "");
}

pub async fn a_scan_says_exactly_whether_more_follows(engine: Arc<dyn Engine>) {
    let subject = committed(engine, &["a", "c", "e", "g"]).await;
    let txn = subject.txn();
    let view = txn.view();
    assert_eq!(scanned(&view, "", "", 4).await, "aceg");
    txn.write(Write::Delete(message("g"))).unwrap();
    assert_eq!(scanned(&view, "", "", 3).await, "ace");
    assert_eq!(scanned(&view, "", "", 2).await, "ac+");
    txn.write(put(message("h"), "new")).unwrap();
    assert_eq!(scanned(&view, "", "", 3).await, "ace+");
    assert_eq!(scanned(&view, "", "h", 3).await, "ace");
    txn.write(put(message("b"), "new")).unwrap();
    assert_eq!(scanned(&view, "", "", 2).await, "ab+");
    assert_eq!(scanned(&view, "", "b", 1).await, "a");
}

pub async fn a_body_made_for_a_transaction_goes_with_it(engine: Arc<dyn Engine>) {
    let subject = committed(engine.clone(), &[]).await;
    let link =
        |name: &str, body: &Body| Write::LinkBody { name: name.to_owned(), body: body.clone() };
    let txn = subject.txn();
    let mut bodies = Vec::new();
    for seed in 1..=3 {
        bodies.push(txn.new_body(octets(seed, 100_000)).await.unwrap());
    }
    txn.write(link("one", &bodies[0])).unwrap();
    txn.give_up_unlinked();
    // It may be done together with the next commit.
    subject.write(vec![]).await.unwrap();
    let refused = subject.write(vec![link("two", &bodies[1])]).await;
    assert_eq!(refused, Err(StorageError::Conflict), "nothing linked it when it was asked");
    subject.write(txn.take()).await.unwrap();
    let last = txn.new_body(octets(4, 100_000)).await.unwrap();
    drop(txn);
    subject.write(vec![]).await.unwrap();
    let refused = subject.write(vec![link("four", &last)]).await;
    assert_eq!(refused, Err(StorageError::Conflict), "its transaction is over");
    let one = engine.body(subject.space(), "one").await.unwrap().unwrap();
    let read = engine.read_body(subject.space(), &one, 0, u64::MAX).await;
    assert_eq!(read, Ok(octets(1, 100_000)), "it was committed");
}

pub async fn pending_values_count_in_what_one_look_up_returns(engine: Arc<dyn Engine>) {
    let subject = committed(engine, &[]).await;
    let txn = subject.txn();
    let value = Bytes::from(vec![0; MAX_VALUE_OCTETS]);
    subject.write(vec![put(message("committed"), value.clone())]).await.unwrap();
    txn.write(put(message("pending"), value)).unwrap();
    let fit = MAX_GET_OCTETS / MAX_VALUE_OCTETS;
    let get = async |pending, committed| {
        let mut keys = vec![message("pending"); pending];
        keys.extend(vec![message("committed"); committed]);
        txn.view().get_many(keys).await.map(|values| values.len())
    };
    assert_eq!(get(fit - 1, 1).await, Ok(fit));
    for (pending, committed) in [(fit + 1, 0), (4096, 0), (fit, 1), (1, fit)] {
        let refused = get(pending, committed).await;
        assert!(matches!(refused, Err(StorageError::Limit(_))), "{pending} {committed}");
    }
}

pub async fn a_pending_body_is_seen_by_its_name(engine: Arc<dyn Engine>) {
    let subject = committed(engine.clone(), &[]).await;
    let small = engine.new_body(subject.space(), octets(1, 100)).await.unwrap();
    let txn = subject.txn();
    let view = txn.view();
    assert_eq!(view.body("name").await, Ok(None));
    txn.write(Write::LinkBody { name: "name".to_owned(), body: small.clone() }).unwrap();
    assert_eq!(view.body("name").await, Ok(Some(small.clone())));
    assert_eq!(view.read_body(&small, 90, 100).await, Ok(octets(1, 100).slice(90..)));
    assert_eq!(view.read_body(&small, 200, 100).await, Ok(Bytes::new()));
    subject.write(txn.take()).await.unwrap();
    let stored = view.body("name").await.unwrap().unwrap();
    assert!(matches!(stored, Body::Stored(_)));
    assert_eq!(view.read_body(&stored, 0, 1000).await, Ok(octets(1, 100)));
    txn.write(Write::UnlinkBody { name: "name".to_owned() }).unwrap();
    assert_eq!(view.body("name").await, Ok(None));
}
