//! Random operations against plain maps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// Random sequences that each engine is tried with.
const CASES: usize = 40;

type Model = BTreeMap<(u8, Vec<u8>), Bytes>;

/// Few areas and short keys, so that writes meet each other.
fn area(number: u8) -> Area {
    if number == 0 { Area::Mailbox } else { Area::Message }
}

fn key_octets() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..4, 0..4)
}

fn write() -> impl Strategy<Value = Write> {
    let key = || (0u8..2, key_octets()).prop_map(|(of, octets)| super::key(area(of), octets));
    prop_oneof![
        4 => (key(), key_octets()).prop_map(|(at, value)| Write::Put(at, value.into())),
        2 => key().prop_map(Write::Delete),
        1 => (0u8..2, key_octets(), key_octets()).prop_map(|(of, start, end)| {
            Write::DeleteRange { area: area(of), start: start.into(), end: end.into() }
        }),
    ]
}

fn apply(model: &mut Model, write: &Write) {
    match write {
        Write::Put(at, value) => {
            model.insert((at.area as u8, at.octets.to_vec()), value.clone());
        }
        Write::Delete(at) => drop(model.remove(&(at.area as u8, at.octets.to_vec()))),
        Write::DeleteRange { area, start, end } => model.retain(|(of, key), _| {
            let inside = *of == *area as u8 && key[..] >= start[..];
            !(inside && (end.is_empty() || key[..] < end[..]))
        }),
        Write::LinkBody { .. } | Write::UnlinkBody { .. } => unreachable!("no bodies here"),
    }
}

fn expected(model: &Model, of: Area, start: &[u8], end: &[u8]) -> Vec<(Bytes, Bytes)> {
    model
        .iter()
        .filter(|((area, key), _)| {
            *area == of as u8 && key[..] >= *start && (end.is_empty() || key[..] < *end)
        })
        .map(|((_, key), value)| (Bytes::copy_from_slice(key), value.clone()))
        .collect()
}

/// Pages through a range; every page but the last must have more behind it, truly.
async fn paged(
    view: &View,
    of: Area,
    range: (&[u8], &[u8]),
    limit: ScanLimit,
) -> Vec<(Bytes, Bytes)> {
    let (mut items, mut start) = (Vec::new(), Bytes::copy_from_slice(range.0));
    loop {
        let end = Bytes::copy_from_slice(range.1);
        let page = view.scan(of, start, end, limit).await.unwrap();
        assert!(page.items.len() <= limit.items);
        assert!(!page.more || !page.items.is_empty());
        items.extend(page.items);
        let Some((last, _)) = items.last().filter(|_| page.more) else { return items };
        start = [last, &b"\0"[..]].concat().into();
        let rest = view.scan(of, start.clone(), Bytes::copy_from_slice(range.1), LOTS).await;
        assert!(!rest.unwrap().items.is_empty(), "more was promised after {last:?}");
    }
}

fn draw<S: Strategy>(runner: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(runner).expect("these strategies refuse nothing").current()
}

/// A generator whose seed is printed, and taken from `POSTROOM_SEED` (64 hexadecimal digits).
fn seeded() -> TestRunner {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng};
    let mut seed = [0; 32];
    match std::env::var("POSTROOM_SEED") {
        Ok(text) => hex::decode_to_slice(text, &mut seed).expect("POSTROOM_SEED has 64 digits"),
        Err(_) => getrandom::fill(&mut seed).expect("the system gives random numbers"),
    }
    println!("POSTROOM_SEED={}", hex::encode(seed));
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

pub async fn random_commits_leave_what_a_plain_map_has(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let (mut runner, mut model) = (seeded(), Model::new());
    for _ in 0..CASES {
        let writes = draw(&mut runner, prop::collection::vec(write(), 0..20));
        writes.iter().for_each(|write| apply(&mut model, write));
        subject.write(writes).await.unwrap();
        for of in [Area::Mailbox, Area::Message] {
            assert_eq!(subject.all(of).await, expected(&model, of, b"", b""));
        }
    }
}

pub async fn random_transactions_show_what_they_would_commit(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let (mut runner, mut model) = (seeded(), Model::new());
    for _ in 0..CASES {
        let txn = subject.txn();
        let view = txn.view();
        for write in draw(&mut runner, prop::collection::vec(write(), 0..12)) {
            apply(&mut model, &write);
            txn.write(write).unwrap();
            let (start, end) = draw(&mut runner, (key_octets(), key_octets()));
            let (items, octets, of) = draw(&mut runner, (1usize..5, 0usize..40, 0u8..2));
            let range = (&start[..], &end[..]);
            let found = paged(&view, area(of), range, ScanLimit { items, octets }).await;
            let empty = !end.is_empty() && start >= end;
            let expected = if empty { vec![] } else { expected(&model, area(of), &start, &end) };
            assert_eq!(found, expected, "{start:?} {end:?}");
            let at = super::key(area(of), start.clone());
            let value = view.get_many(vec![at]).await.unwrap().remove(0);
            assert_eq!(value, model.get(&(area(of) as u8, start)).cloned());
        }
        subject.write(txn.take()).await.unwrap();
    }
}
