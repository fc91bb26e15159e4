//! Long runs of random operations against a model of maps, with the host failing now and then, and
//! stored octets being damaged.

use std::collections::BTreeMap;

use super::{Host, MessageSubject, Native, RecordSubject, failing, short_scans};
use crate::error::{Result, StoreError};
use crate::records::{CheckPage, Id, Message, MessagePlace};
use crate::testing::{Rng, Sample, change, message};

/// Numbers of different records in a run: few, so that operations meet.
const NAMES: u32 = 12;
const BOXES: [Id; 3] = [Id::from_u128(1), Id::from_u128(2), Id::from_u128(3)];

/// Runs `steps` random operations on records.
pub async fn records<R: Sample, S: RecordSubject<R>>(subject: &S, rng: &mut Rng, steps: u32) {
    let mut model: BTreeMap<R::Name, R> = BTreeMap::new();
    for step in 0..steps {
        let (txn, mut next) = (subject.begin(), model.clone());
        let failing_at = rng.below(30);
        subject.set(failing(failing_at));
        let outcome = record_step(subject, &txn, &mut next, rng).await;
        subject.set(short_scans(1 + rng.below(6)));
        match outcome {
            Ok(true) => {
                subject.commit(txn).await;
                model = next;
            }
            Ok(false) | Err(StoreError::Unavailable(_)) => drop(txn),
            Err(other) => panic!("step {step}: {other:?}"),
        }
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = subject.list(None, after, 1 + rng.below(5)).await.expect("list");
            after = page.rows.last().map(R::name);
            all.extend(page.rows);
            if !page.more {
                break;
            }
        }
        assert_eq!(all, model.values().cloned().collect::<Vec<_>>(), "after step {step}");
    }
}

/// One to three calls; whether they are to be committed.
async fn record_step<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    txn: &S::Txn,
    model: &mut BTreeMap<R::Name, R>,
    rng: &mut Rng,
) -> Result<bool> {
    for _ in 0..=rng.below(3) {
        let mut numbers: Vec<u32> = (0..1 + rng.below(3)).map(|_| rng.below(NAMES)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let rows: Vec<R> = numbers.iter().map(|n| R::sample(*n).changed(rng.below(99))).collect();
        let there = rows.iter().filter(|row| model.contains_key(&row.name())).count();
        match rng.below(8) {
            0..3 => match subject.insert(txn, rows.clone()).await {
                Err(StoreError::AlreadyExists(_)) if there > 0 => return Ok(false),
                outcome => {
                    outcome?;
                    assert_eq!(there, 0, "inserted over a row");
                    model.extend(rows.into_iter().map(|row| (row.name(), row)));
                }
            },
            3..5 => match subject.update(txn, rows.clone()).await {
                Err(StoreError::NotFound(_)) if there < rows.len() => return Ok(false),
                outcome => {
                    outcome?;
                    assert_eq!(there, rows.len(), "updated what is not there");
                    model.extend(rows.into_iter().map(|row| (row.name(), row)));
                }
            },
            5..7 => {
                let names: Vec<_> = rows.iter().map(R::name).collect();
                subject.delete(txn, names.clone()).await?;
                names.iter().for_each(|name| drop(model.remove(name)));
            }
            _ if rng.below(10) == 0 => {
                subject.drop(txn).await?;
                model.clear();
            }
            _ => {
                let names: Vec<_> = rows.iter().map(R::name).collect();
                let found = subject.select(Some(txn), names.clone()).await?;
                let expected: Vec<_> = names.iter().map(|name| model.get(name).cloned()).collect();
                assert_eq!(found, expected);
            }
        }
    }
    Ok(true)
}

/// Runs `steps` random operations on messages.
pub async fn messages<S: MessageSubject>(subject: &S, rng: &mut Rng, steps: u32) {
    let mut model: BTreeMap<MessagePlace, Message> = BTreeMap::new();
    let mut uid = 0;
    for step in 0..steps {
        let (txn, mut next) = (subject.begin(), model.clone());
        subject.set(failing(rng.below(60)));
        let outcome = message_step(subject, &txn, &mut next, &mut uid, rng).await;
        subject.set(short_scans(1 + rng.below(6)));
        match outcome {
            Ok(()) if rng.below(8) > 0 => {
                subject.commit(txn).await;
                model = next;
            }
            Ok(()) | Err(StoreError::Unavailable(_)) => drop(txn),
            Err(other) => panic!("step {step}: {other:?}"),
        }
        for mailbox in BOXES {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page =
                    subject.list(None, mailbox, after, 1 + rng.below(5)).await.expect("list");
                after = page.rows.last().map(|row| row.uid);
                all.extend(page.rows);
                if !page.more {
                    break;
                }
            }
            let expected: Vec<_> =
                model.values().filter(|row| row.mailbox == mailbox).cloned().collect();
            assert_eq!(all, expected, "after step {step}");
        }
    }
}

/// One to three calls.
async fn message_step<S: MessageSubject>(
    subject: &S,
    txn: &S::Txn,
    model: &mut BTreeMap<MessagePlace, Message>,
    last_uid: &mut u32,
    rng: &mut Rng,
) -> Result<()> {
    for _ in 0..=rng.below(3) {
        let mailbox = BOXES[rng.below(3) as usize];
        let picked = |rng: &mut Rng| -> Vec<MessagePlace> {
            model.keys().filter(|_| rng.below(4) == 0).copied().collect()
        };
        match rng.below(8) {
            0..3 => {
                let count = 1 + rng.below(3);
                let rows: Vec<_> = (1..=count).map(|n| message(mailbox, *last_uid + n)).collect();
                // Never used again, also when the operation comes to nothing.
                *last_uid += count;
                let new = rows.iter().map(|row| (row.clone(), Vec::new())).collect();
                subject.insert(txn, new).await?;
                model.extend(rows.into_iter().map(|row| (row.place(), row)));
            }
            3..5 => {
                let (flags, modseq) = (vec![format!("k{}", rng.below(9))], rng.number() >> 1);
                let extra = message(mailbox, rng.below(9)).extra;
                let after = |place| {
                    let (flags, extra) = (flags.clone(), extra.clone());
                    Message { modseq, flags, extra, ..model[&place].clone() }
                };
                let rows: Vec<Message> = picked(rng).into_iter().map(after).collect();
                subject.update(txn, rows.iter().map(change).collect()).await?;
                model.extend(rows.into_iter().map(|row| (row.place(), row)));
            }
            5..7 => {
                let mut places = picked(rng);
                places.push(MessagePlace { mailbox, uid: 1 + rng.below(*last_uid + 5) });
                places.dedup();
                subject.delete(txn, places.clone()).await?;
                places.iter().for_each(|place| drop(model.remove(place)));
            }
            _ if rng.below(10) == 0 => {
                subject.drop(txn, mailbox).await?;
                model.retain(|place, _| place.mailbox != mailbox);
            }
            _ => {
                let places = picked(rng);
                let found = subject.select(Some(txn), places.clone()).await?;
                let expected: Vec<_> = places.iter().map(|p| model.get(p).cloned()).collect();
                assert_eq!(found, expected);
            }
        }
    }
    Ok(())
}

/// Damages what is stored: a flipped bit, a cut, a row taken away or put under another key.
fn damage<S>(subject: &Native<S>, rng: &mut Rng) {
    subject.space.edit(|rows| {
        let Some((key, value)) = (!rows.is_empty()).then(|| {
            let at = rng.below(rows.len() as u32) as usize;
            let (key, value) = rows.iter().nth(at).expect("below the length");
            (key.clone(), value.clone())
        }) else {
            return;
        };
        let at = rng.below(value.len().max(1) as u32) as usize;
        match rng.below(5) {
            0 => drop(rows.remove(&key)),
            1 => drop(rows.insert(key, value[..at].to_vec())),
            2 => drop(rows.insert(key.into_iter().rev().collect(), value)),
            3 => drop(rows.insert(key, [value, vec![0]].concat())),
            _ => {
                let mut value = value;
                if let Some(octet) = value.get_mut(at) {
                    *octet ^= 1 << rng.below(8);
                }
                rows.insert(key, value);
            }
        }
    });
}

/// Checks to the end; the findings.
async fn check_all<S: Host, F: Future<Output = Result<CheckPage>>>(
    subject: &S,
    check: impl Fn(std::rc::Rc<S::Txn>, Option<String>) -> F,
) -> usize {
    let (mut after, mut found) = (None, 0);
    loop {
        let txn = std::rc::Rc::new(subject.begin());
        let page = check(txn.clone(), after).await.expect("a check never fails for what it finds");
        found += page.findings.len();
        if let Some(txn) = std::rc::Rc::into_inner(txn) {
            subject.commit(txn).await;
        }
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

/// `[*.check.1]`, `[*.check.2]`, `[*.check.4]`: whatever is damaged, reads say `damaged` at most, and
/// after a repair they succeed and nothing more is found.
pub async fn damaged_records<R: Sample, S>(subject: &Native<S>, rng: &mut Rng)
where
    Native<S>: RecordSubject<R, Txn = crate::testing::SpaceTxn>,
{
    let txn = subject.begin();
    let rows: Vec<R> = (0..8).map(R::sample).collect();
    subject.insert(&txn, rows.clone()).await.expect("insert");
    subject.commit(txn).await;
    damage(subject, rng);
    let names: Vec<_> = rows.iter().map(R::name).collect();
    let read = subject.select(None, names).await.err();
    assert!(matches!(read, None | Some(StoreError::Damaged(_))), "{read:?}");
    let check = |repair| {
        check_all(subject, move |txn, after| async move {
            RecordSubject::<R>::check(subject, &*txn, after, repair).await
        })
    };
    let first = check(false).await;
    let unchanged = check(true).await;
    assert_eq!(first, unchanged, "a check without repair changed something");
    assert_eq!(check(true).await, 0, "a repair left something");
    assert!(read.is_none() || first > 0, "a read failed, and a check found nothing");
    subject.list(None, None, 4096).await.expect("list after a repair");
}

/// `[messages.check.1]`, `[messages.check.2]`, `[messages.check.4]`: as [`damaged_records`].
pub async fn damaged_messages<S>(subject: &Native<S>, rng: &mut Rng)
where
    Native<S>: MessageSubject<Txn = crate::testing::SpaceTxn>,
{
    let txn = subject.begin();
    let new = |uid| (message(BOXES[uid as usize % 2], uid), Vec::new());
    subject.insert(&txn, (1..9).map(new).collect()).await.expect("insert");
    subject.commit(txn).await;
    match rng.below(8) {
        0 => subject.space.unlink(&message(BOXES[1], 3).name),
        _ => damage(subject, rng),
    }
    let places = (1..9).map(|uid| message(BOXES[uid as usize % 2], uid).place()).collect();
    let read = subject.select(None, places).await.err();
    assert!(matches!(read, None | Some(StoreError::Damaged(_))), "{read:?}");
    let check = |repair| {
        check_all(subject, move |txn, after| async move {
            MessageSubject::check(subject, &*txn, after, repair).await
        })
    };
    let first = check(false).await;
    let unchanged = check(true).await;
    assert_eq!(first, unchanged, "a check without repair changed something");
    assert_eq!(check(true).await, 0, "a repair left something");
    assert!(read.is_none() || first > 0, "a read failed, and a check found nothing");
    for mailbox in BOXES {
        subject.list(None, mailbox, None, 4096).await.expect("list after a repair");
    }
}
