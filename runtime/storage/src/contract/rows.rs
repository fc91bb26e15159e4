//! Keys, values, scans.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{MAX_COMMIT_OCTETS, MAX_GET_OCTETS, MAX_KEY_OCTETS, MAX_VALUE_OCTETS};

pub async fn values_come_back_under_their_keys(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    subject.write(vec![put(message("b"), "2"), put(message("a"), "1")]).await.unwrap();
    let keys = vec![message("b"), message("none"), message("a"), message("b")];
    let values = engine.get_many(subject.space(), keys).await.unwrap();
    assert_eq!(values, [Some("2".into()), None, Some("1".into()), Some("2".into())]);
    assert_eq!(engine.get_many(subject.space(), vec![]).await, Ok(vec![]));
}

pub async fn later_writes_to_a_key_win(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let k = || message("k");
    subject.write(vec![put(k(), "1"), put(k(), "2")]).await.unwrap();
    assert_eq!(subject.get(k()).await, Ok(Some("2".into())));
    subject.write(vec![put(k(), "3"), Write::Delete(k())]).await.unwrap();
    assert_eq!(subject.get(k()).await, Ok(None));
    subject.write(vec![Write::Delete(k()), put(k(), "4")]).await.unwrap();
    assert_eq!(subject.get(k()).await, Ok(Some("4".into())));
    subject.write(vec![put(k(), "5"), delete_range("k", "l")]).await.unwrap();
    assert_eq!(subject.get(k()).await, Ok(None));
    subject.write(vec![delete_range("", ""), put(k(), "6")]).await.unwrap();
    assert_eq!(subject.get(k()).await, Ok(Some("6".into())));
}

pub async fn a_range_delete_stops_at_its_bounds(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let letters = ["a", "b", "bb", "c", "d"];
    subject.write(letters.map(|k| put(message(k), k)).to_vec()).await.unwrap();
    subject.write(vec![delete_range("b", "c"), delete_range("d", "a")]).await.unwrap();
    let left: Vec<_> = subject.all(Area::Message).await.into_iter().map(|(k, _)| k).collect();
    assert_eq!(left, ["a", "c", "d"]);
}

pub async fn an_empty_end_is_the_end_of_the_area(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let top = key(Area::Mailbox, vec![255; MAX_KEY_OCTETS - 1]);
    let writes = vec![put(top, "top"), put(key(Area::Mailbox, ""), "first"), put(message(""), "m")];
    subject.write(writes).await.unwrap();
    assert_eq!(subject.all(Area::Mailbox).await.len(), 2);
    let all = Write::DeleteRange { area: Area::Mailbox, start: Bytes::new(), end: Bytes::new() };
    subject.write(vec![all]).await.unwrap();
    assert_eq!(subject.all(Area::Mailbox).await, []);
    assert_eq!(subject.all(Area::Message).await, [("".into(), "m".into())]);
}

pub async fn areas_and_spaces_do_not_see_each_other(engine: Arc<dyn Engine>) {
    let one = Subject::new(engine.clone()).await;
    let other = Subject::of_account(engine, AccountId([8; 16])).await;
    let areas = [Area::Ledger, Area::Domain, Area::User, Area::Mailbox, Area::Message];
    one.write(areas.map(|area| put(key(area, "k"), format!("{area:?}"))).to_vec()).await.unwrap();
    for area in areas {
        assert_eq!(one.all(area).await, [("k".into(), format!("{area:?}").into())]);
        assert_eq!(other.all(area).await, []);
    }
    let everything = |area| Write::DeleteRange { area, start: Bytes::new(), end: Bytes::new() };
    other.write(areas.map(everything).to_vec()).await.unwrap();
    assert_eq!(one.all(Area::Message).await.len(), 1);
}

pub async fn a_scan_pages_by_items_and_octets(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let keys = ["a", "b", "c", "d"];
    subject.write(keys.map(|k| put(message(k), "123456789")).to_vec()).await.unwrap();
    let scan = |start: &'static str, end: &'static str, items, octets| {
        let limit = ScanLimit { items, octets };
        engine.scan(subject.space(), Area::Message, start.into(), end.into(), limit)
    };
    for (start, end, items, octets, expected, more) in [
        ("", "", 10, 1000, "abcd", false),
        ("", "", 4, 1000, "abcd", false),
        ("", "", 3, 1000, "abc", true),
        ("", "d", 3, 1000, "abc", false),
        ("b", "c", 3, 1000, "b", false),
        ("aa", "", 1, 1000, "b", true),
        ("", "", 10, 20, "ab", true),
        ("", "", 10, 19, "a", true),
        ("", "", 10, 0, "a", true),
        ("", "", 0, 1000, "a", true),
        ("d", "", 0, 0, "d", false),
        ("e", "", 10, 1000, "", false),
    ] {
        let page = scan(start, end, items, octets).await.unwrap();
        let found: Vec<u8> = page.items.iter().flat_map(|(key, _)| key.to_vec()).collect();
        assert_eq!(found, expected.as_bytes(), "{start:?} {end:?} {items} {octets}");
        assert_eq!(page.more, more, "{start:?} {end:?} {items} {octets}");
    }
}

pub async fn a_scan_of_an_inverted_range_is_empty(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    subject.write(vec![put(message("b"), "v")]).await.unwrap();
    for (start, end) in [("c", "a"), ("b", "b"), ("c", "b")] {
        let page =
            engine.scan(subject.space(), Area::Message, start.into(), end.into(), LOTS).await;
        assert_eq!(page, Ok(Default::default()), "{start} {end}");
    }
}

pub async fn the_longest_key_and_an_empty_value_are_data(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let longest = key(Area::Message, vec![0; MAX_KEY_OCTETS - 1]);
    let largest = vec![1; MAX_VALUE_OCTETS];
    let writes = vec![put(longest.clone(), ""), put(message(""), largest.clone())];
    subject.write(writes).await.unwrap();
    assert_eq!(subject.get(longest).await, Ok(Some("".into())));
    assert_eq!(subject.get(message("")).await, Ok(Some(largest.into())));
}

pub async fn keys_and_values_over_the_limit_are_refused(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let long = || key(Area::Message, vec![0; MAX_KEY_OCTETS]);
    for write in [
        put(long(), "v"),
        Write::Delete(long()),
        put(message("k"), vec![0; MAX_VALUE_OCTETS + 1]),
        Write::DeleteRange {
            area: Area::Message,
            start: Bytes::new(),
            end: vec![0; MAX_KEY_OCTETS + 1].into(),
        },
    ] {
        let refused = subject.write(vec![put(message("other"), "v"), write]).await;
        assert!(matches!(refused, Err(StorageError::Limit(_))), "{refused:?}");
    }
    assert_eq!(subject.all(Area::Message).await, []);
}

pub async fn a_commit_over_the_limit_is_refused(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let value = Bytes::from(vec![0; MAX_VALUE_OCTETS]);
    let writes = (0..=MAX_COMMIT_OCTETS / MAX_VALUE_OCTETS)
        .map(|n| put(key(Area::Message, vec![n as u8]), value.clone()))
        .collect();
    assert!(matches!(subject.write(writes).await, Err(StorageError::Limit(_))));
    assert_eq!(subject.all(Area::Message).await, []);
}

pub async fn one_look_up_returns_no_more_than_its_limit(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    subject.write(vec![put(message("k"), vec![0; MAX_VALUE_OCTETS])]).await.unwrap();
    subject.write(vec![put(message("one"), "1")]).await.unwrap();
    let get = async |mut keys: Vec<Key>| {
        keys.insert(0, message("none"));
        engine.get_many(subject.space(), keys).await.map(|values| values.len())
    };
    let fit = MAX_GET_OCTETS / MAX_VALUE_OCTETS;
    assert_eq!(get(vec![message("k"); fit]).await, Ok(fit + 1));
    let refused = get([vec![message("k"); fit], vec![message("one")]].concat()).await;
    assert!(matches!(refused, Err(StorageError::Limit(_))), "{refused:?}");
}

pub async fn spaces_are_listed_in_order_and_in_pages(engine: Arc<dyn Engine>) {
    assert_eq!(engine.spaces(None, 10).await, Ok(vec![]));
    let mut expected = Vec::new();
    for id in [255, 0, 3] {
        let subject = Subject::of_account(engine.clone(), AccountId([id; 16])).await;
        subject.write(vec![put(message("k"), "v")]).await.unwrap();
        expected.push(subject.space());
        let commit = Commit { space: Space::Directory, fence: None, ..subject.commit_of(vec![]) };
        engine.commit(commit).await.unwrap();
    }
    expected.push(Space::Directory);
    expected.sort();
    assert_eq!(engine.spaces(None, 10).await.as_ref(), Ok(&expected));
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = engine.spaces(after, 1).await.unwrap();
        let Some(space) = page.first() else { break };
        after = Some(*space);
        found.extend(page);
    }
    assert_eq!(found, expected);
}

/// States of a writer that a reader beside it sees before it has seen enough.
const STATES: usize = 20;

pub async fn a_read_never_sees_half_a_commit(engine: Arc<dyn Engine>) {
    let subject = Arc::new(Subject::new(engine.clone()).await);
    let enough = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (subject, enough) = (subject.clone(), enough.clone());
        async move {
            let mut n = 0u64;
            while !enough.load(Ordering::SeqCst) {
                n += 1;
                let value = Bytes::from(n.to_be_bytes().to_vec());
                let writes = (0..20u8).map(|k| put(key(Area::Message, vec![k]), value.clone()));
                subject.write(writes.collect()).await.unwrap();
            }
        }
    });
    let mut seen = BTreeSet::new();
    while seen.len() < STATES && !writer.is_finished() {
        let values: Vec<_> = subject.all(Area::Message).await.into_iter().map(|(_, v)| v).collect();
        assert!(values.is_empty() || values.len() == 20);
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
        seen.extend(values.into_iter().next());
        tokio::task::yield_now().await;
    }
    enough.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert_eq!(seen.len(), STATES, "they ran beside each other");
}
