//! Long runs of random operations against a model of maps, with or without faults in between.

use std::collections::BTreeMap;
use std::pin::pin;

use super::messages::{self as of_messages, pages as message_pages, sorted};
use super::records::{self as of_records, pages as record_pages};
use super::until_held;
use crate::error::{Result, StoreError};
use crate::records::{Id, Message, MessagePlace, Page};
use crate::rng::Rng;
use crate::sample::{Sample, change, message};
use crate::subject::{Fault, Host, Knobs, MessageSubject, RecordSubject};
use crate::verdict::{Broken, Stop, Verdict, done, holds, same_rows};

/// Operations of a case.
pub const STEPS: u32 = 200;
/// Numbers of different records in a run: few, so that operations meet.
const NAMES: u32 = 12;
const BOXES: [Id; 3] = [Id::from_u128(1), Id::from_u128(2), Id::from_u128(3)];
/// Where the rows are wrong afterwards, this is what is broken.
const KEPT: &str = "store.rule.7";
const FAILS: &str = "storage.storage-error.1";

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing.
    None,
    /// Capability calls fail, operations are given up, instances are lost.
    Any,
}

/// How an operation ended before its end.
enum End {
    /// With an error that it had to answer, or because it is to be forgotten.
    Refused,
    /// The store says that something is away.
    Unavailable,
    /// With the case.
    Stop(Stop),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl End {
    /// An error that no rule asks for.
    fn of(call: &str, error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            error => match done::<()>(KEPT, call, Err(error)) {
                Err(stop) => Self::Stop(stop),
                Ok(()) => Self::Refused,
            },
        }
    }
}

type Step<T = ()> = std::result::Result<T, End>;

fn answered<T>(call: &str, outcome: Result<T>) -> Step<T> {
    outcome.map_err(|error| End::of(call, error))
}

/// Makes the host difficult for the next operation.
fn make_difficult<S: Host>(subject: &S, rng: &mut Rng, faults: Faults) {
    // Mostly early: an operation has few capability calls.
    let most = 1 << rng.below(6);
    let calls = rng.below(most);
    let fault = match (faults, rng.below(4)) {
        (Faults::None, _) => None,
        (Faults::Any, 0) => Some((calls, Fault::Hold)),
        (Faults::Any, _) => Some((calls, Fault::Fail)),
    };
    subject.set(Knobs { scan_items: 1 + rng.below(6), fault });
}

/// Judges how an operation ended; commits it where it is to be kept. Whether it was.
async fn ended<S: Host>(
    subject: &S,
    rng: &mut Rng,
    txn: S::Txn,
    outcome: Option<Step>,
) -> Verdict<bool> {
    let met = subject.met();
    if met && outcome.is_none() && rng.below(2) == 0 {
        done("store.rule.1", "a fresh instance", subject.restart().await)?;
    }
    subject.set(Knobs::short_scans(1 + rng.below(6)));
    match outcome {
        Some(Err(End::Stop(Stop::Broken(broken)))) if met => {
            let what = format!("a capability call failed, and then: {}", broken.what);
            return Err(Stop::Broken(Broken { promise: FAILS, what }));
        }
        Some(Err(End::Stop(stop))) => return Err(stop),
        Some(Err(End::Unavailable)) => {
            holds(FAILS, met, || "a call answers unavailable, and nothing has failed".into())?;
        }
        Some(Ok(()) | Err(End::Refused)) if met => {
            let what = "a capability call failed, and the operation does not say so".to_owned();
            return Err(Stop::Broken(Broken { promise: FAILS, what }));
        }
        Some(Ok(())) if rng.below(8) > 0 => {
            done(KEPT, "the commit", subject.commit(txn).await)?;
            return Ok(true);
        }
        Some(Ok(()) | Err(End::Refused)) | None => {}
    }
    drop(txn);
    Ok(false)
}

/// A first page shows the beginning of what is there, and says whether that is all.
fn begins<R: PartialEq + std::fmt::Debug>(page: &Page<R>, all: &[R]) -> Verdict {
    let count = page.rows.len().min(all.len());
    let expected = if page.more { &all[..count] } else { all };
    same_rows("storage.view.2", "list in the transaction", &page.rows, expected)
}

/// Runs `steps` random operations on records.
pub async fn records<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    rng: &mut Rng,
    steps: u32,
    faults: Faults,
) -> Verdict {
    let first = R::sample(0);
    of_records::holding(subject, KEPT, vec![first.clone()]).await?;
    let mut model = BTreeMap::from([(first.name(), first)]);
    for step in 0..steps {
        let (txn, mut next) = (subject.begin(), model.clone());
        make_difficult(subject, rng, faults);
        let outcome = until_held(subject, pin!(record_step(subject, &txn, &mut next, rng))).await;
        if ended(subject, rng, txn, outcome).await? {
            model = next;
        }
        let all = record_pages(subject, None, None, 1 + rng.below(5)).await?;
        let expected: Vec<_> = model.values().cloned().collect();
        same_rows(KEPT, &format!("list after step {step}"), &all, &expected)?;
    }
    subject.set(Knobs::EASY);
    Ok(())
}

/// One to three calls.
async fn record_step<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    txn: &S::Txn,
    model: &mut BTreeMap<R::Name, R>,
    rng: &mut Rng,
) -> Step {
    for _ in 0..=rng.below(3) {
        let mut numbers: Vec<u32> = (0..1 + rng.below(3)).map(|_| rng.below(NAMES)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let rows: Vec<R> = numbers.iter().map(|n| R::sample(*n).changed(rng.below(99))).collect();
        let names: Vec<_> = rows.iter().map(R::name).collect();
        let there = names.iter().filter(|name| model.contains_key(name)).count();
        match rng.below(9) {
            0..3 => match subject.insert(txn, rows.clone()).await {
                Err(StoreError::AlreadyExists(_)) if there > 0 => return Err(End::Refused),
                outcome => {
                    answered("insert", outcome)?;
                    holds("insert.1", there == 0, || "inserted over a row that is there".into())?;
                    model.extend(names.into_iter().zip(rows));
                }
            },
            3..5 => match subject.update(txn, rows.clone()).await {
                Err(StoreError::NotFound(_)) if there < rows.len() => return Err(End::Refused),
                outcome => {
                    answered("update", outcome)?;
                    holds("update.2", there == rows.len(), || "updated a missing row".into())?;
                    model.extend(names.into_iter().zip(rows));
                }
            },
            5..7 => {
                answered("delete", subject.delete(txn, names.clone()).await)?;
                names.iter().for_each(|name| drop(model.remove(name)));
            }
            _ if rng.below(10) == 0 => {
                answered("drop", subject.drop(txn).await)?;
                model.clear();
            }
            _ => record_reads(subject, txn, model, names, 1 + rng.below(9)).await?,
        }
    }
    Ok(())
}

/// A select and a list in the transaction.
async fn record_reads<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    txn: &S::Txn,
    model: &BTreeMap<R::Name, R>,
    names: Vec<R::Name>,
    limit: u32,
) -> Step {
    let expected: Vec<_> = names.iter().map(|name| model.get(name).cloned()).collect();
    let found = answered("select", subject.select(Some(txn), names).await)?;
    same_rows("select.1", "select in the transaction", &found, &expected)?;
    let page = answered("list", subject.list(Some(txn), None, limit).await)?;
    begins(&page, &model.values().cloned().collect::<Vec<_>>())?;
    Ok(())
}

/// Runs `steps` random operations on messages.
pub async fn messages<S: MessageSubject>(
    subject: &S,
    rng: &mut Rng,
    steps: u32,
    faults: Faults,
) -> Verdict {
    let (first, mut uid) = (of_messages::row(BOXES[0], 1), 1);
    of_messages::holding(subject, KEPT, BOXES[0], [1]).await?;
    let mut model = BTreeMap::from([(first.place(), first)]);
    for step in 0..steps {
        let (txn, mut next) = (subject.begin(), model.clone());
        make_difficult(subject, rng, faults);
        let operation = message_step(subject, &txn, &mut next, &mut uid, rng);
        let outcome = until_held(subject, pin!(operation)).await;
        if ended(subject, rng, txn, outcome).await? {
            model = next;
        }
        for mailbox in BOXES {
            let all = message_pages(subject, None, mailbox, None, 1 + rng.below(5)).await?;
            let here = model.values().filter(|row| row.mailbox == mailbox);
            let expected: Vec<_> = here.cloned().map(sorted).collect();
            same_rows(KEPT, &format!("list after step {step}"), &all, &expected)?;
        }
    }
    subject.set(Knobs::EASY);
    Ok(())
}

/// One to three calls.
async fn message_step<S: MessageSubject>(
    subject: &S,
    txn: &S::Txn,
    model: &mut BTreeMap<MessagePlace, Message>,
    last_uid: &mut u32,
    rng: &mut Rng,
) -> Step {
    for _ in 0..=rng.below(3) {
        let mailbox = BOXES[rng.below(3) as usize];
        match rng.below(9) {
            0..3 => {
                let count = 1 + rng.below(3);
                let rows: Vec<_> = (1..=count).map(|n| message(mailbox, *last_uid + n)).collect();
                // Never used again, also when the operation comes to nothing.
                *last_uid += count;
                let new = rows.iter().map(|row| (row.clone(), Vec::new())).collect();
                answered("insert", subject.insert(txn, new).await)?;
                model.extend(rows.into_iter().map(|row| (row.place(), row)));
            }
            3..5 => {
                let rows = changed(model, mailbox, rng);
                let changes = rows.iter().map(change).collect();
                answered("update", subject.update(txn, changes).await)?;
                model.extend(rows.into_iter().map(|row| (row.place(), row)));
            }
            5..7 => {
                let mut places = picked(model, rng);
                places.push(MessagePlace { mailbox, uid: 1 + rng.below(*last_uid + 5) });
                places.sort_unstable();
                places.dedup();
                answered("delete", subject.delete(txn, places.clone()).await)?;
                places.iter().for_each(|place| drop(model.remove(place)));
            }
            _ if rng.below(10) == 0 => {
                answered("drop", subject.drop(txn, mailbox).await)?;
                model.retain(|place, _| place.mailbox != mailbox);
            }
            _ => {
                let (places, limit) = (picked(model, rng), 1 + rng.below(9));
                message_reads(subject, txn, model, places, mailbox, limit).await?;
            }
        }
    }
    Ok(())
}

/// A select and a list in the transaction.
async fn message_reads<S: MessageSubject>(
    subject: &S,
    txn: &S::Txn,
    model: &BTreeMap<MessagePlace, Message>,
    places: Vec<MessagePlace>,
    mailbox: Id,
    limit: u32,
) -> Step {
    let expected: Vec<_> = places.iter().map(|place| model.get(place).cloned()).collect();
    let found = answered("select", subject.select(Some(txn), places).await)?;
    same_rows("select.1", "select in the transaction", &found, &expected)?;
    let page = answered("list", subject.list(Some(txn), mailbox, None, limit).await)?;
    let here = model.values().filter(|row| row.mailbox == mailbox);
    begins(&page, &here.cloned().collect::<Vec<_>>())?;
    Ok(())
}

/// About a quarter of the places.
fn picked(model: &BTreeMap<MessagePlace, Message>, rng: &mut Rng) -> Vec<MessagePlace> {
    model.keys().filter(|_| rng.below(4) == 0).copied().collect()
}

/// Some messages with other flags and properties.
fn changed(model: &BTreeMap<MessagePlace, Message>, mailbox: Id, rng: &mut Rng) -> Vec<Message> {
    let (flags, modseq) = (vec![format!("k{}", rng.below(9))], rng.number() >> 1);
    let extra = message(mailbox, rng.below(9)).extra;
    let after = |place: MessagePlace| {
        let (flags, extra) = (flags.clone(), extra.clone());
        Message { modseq, flags, extra, ..model[&place].clone() }
    };
    picked(model, rng).into_iter().map(after).collect()
}
