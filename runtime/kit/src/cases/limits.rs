//! Cases about what is large or odd, within what a host may ask: calls of as many rows as there may be,
//! rows that are large together, one that is too large, names of every form.

use super::messages::{self as of_messages, BOX, flagged, octets, place, taken};
use super::records as of_records;
use crate::error::{Result, StoreError};
use crate::records::{Message, Property};
use crate::sample::{Sample, change, message};
use crate::subject::{Host, MessageSubject, RecordSubject};
use crate::verdict::{Verdict, done, same_rows};

/// Most rows of one call.
const MOST: u32 = 4096;
/// Octets of a large row, nearly.
const LARGE: usize = 200_000;
/// As many of them come to more than one `get-many` of the host answers, and to a few of its scans.
const MANY: u32 = 88;
/// Octets of a row that one value of the host does not hold.
const TOO_LARGE: usize = (4 << 20) - 16;
const CARRIED: &str = "store.rule.10";
const KEPT: &str = "store.rule.7";
const LETTERS: &str = "store.rule.11";

fn filled(octets: usize) -> Vec<Property> {
    vec![Property { name: "filled".into(), value: (0..octets).map(|n| n as u8).collect() }]
}

/// A call of as many rows as there may be, in an operation of its own.
async fn one_call<S: Host>(
    subject: &S,
    promise: &'static str,
    what: &str,
    call: impl AsyncFnOnce(&S::Txn) -> Result<()>,
) -> Verdict {
    let txn = subject.begin();
    done(promise, what, call(&txn).await)?;
    done(promise, "the commit", subject.commit(txn).await)
}

/// Of each function that takes rows or names.
pub async fn calls_of_4096_rows_are_carried_out<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    of_records::holding(subject, CARRIED, vec![R::sample(MOST)]).await?;
    let (rows, last) = (of_records::samples::<R>(0..MOST), R::sample(MOST));
    let insert = async |txn: &S::Txn| subject.insert(txn, rows.clone()).await;
    one_call(subject, CARRIED, "insert of 4,096 rows", insert).await?;
    let changed: Vec<R> = (0..MOST).map(|n| R::sample(n).changed(n)).collect();
    let update = async |txn: &S::Txn| subject.update(txn, changed.clone()).await;
    one_call(subject, CARRIED, "update of 4,096 rows", update).await?;
    let names = of_records::names(&changed);
    let expected: Vec<_> = changed.iter().cloned().map(Some).collect();
    of_records::expect_selected(subject, None, CARRIED, names.clone(), &expected).await?;
    of_records::expect(subject, CARRIED, &[&changed[..], std::slice::from_ref(&last)].concat())
        .await?;
    let delete = async |txn: &S::Txn| subject.delete(txn, names).await;
    one_call(subject, CARRIED, "delete of 4,096 names", delete).await?;
    of_records::expect(subject, CARRIED, &[last]).await
}

/// More than the host answers at once, though no more than it may be asked for.
pub async fn rows_that_are_large_together_come_back<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    let large = |n: u32| R::sample(n).with(filled(LARGE + n as usize));
    of_records::holding(subject, KEPT, vec![large(0)]).await?;
    let mut count = 1;
    while count < MANY {
        let rows = (count..count + 3).map(large).collect();
        if !fits(subject, async |txn: &S::Txn| subject.insert(txn, rows).await).await? {
            break;
        }
        count += 3;
    }
    let rows: Vec<R> = (0..count).map(large).collect();
    let expected: Vec<_> = rows.iter().cloned().map(Some).collect();
    let names = of_records::names(&rows);
    of_records::expect_selected(subject, None, "select.1", names, &expected).await?;
    of_records::expect(subject, "list.3", &rows).await
}

/// Inserts in an operation of its own; whether a maximum of the store has been passed.
async fn fits<S: Host>(
    subject: &S,
    insert: impl AsyncFnOnce(&S::Txn) -> Result<()>,
) -> Verdict<bool> {
    let txn = subject.begin();
    match insert(&txn).await {
        Err(StoreError::Limit(_)) => Ok(false),
        outcome => {
            done(KEPT, "insert", outcome)?;
            done(KEPT, "the commit", subject.commit(txn).await)?;
            Ok(true)
        }
    }
}

/// Never cut.
pub async fn a_row_that_is_too_large_is_refused_or_kept_whole<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    of_records::holding(subject, KEPT, vec![R::sample(1)]).await?;
    let row = R::sample(2).with(filled(TOO_LARGE));
    let insert = vec![row.clone()];
    let kept = fits(subject, async |txn: &S::Txn| subject.insert(txn, insert).await).await?;
    let rows = if kept { vec![R::sample(1), row] } else { vec![R::sample(1)] };
    of_records::expect(subject, KEPT, &rows).await
}

/// As each is the longest prefix, or another way to write, of one beside it.
pub async fn names_of_every_form_are_told_apart<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    let rows = R::odd();
    let backwards = rows.iter().rev().cloned().collect();
    of_records::insert(subject, LETTERS, backwards).await?;
    let expected: Vec<_> = rows.iter().cloned().map(Some).collect();
    let names = of_records::names(&rows);
    of_records::expect_selected(subject, None, LETTERS, names, &expected).await?;
    of_records::expect(subject, "list.1", &rows).await?;
    for (at, row) in rows.iter().enumerate() {
        let after = of_records::pages(subject, None, Some(row.name()), 3).await?;
        same_rows("list.1", "list after a name", &after, &rows[at + 1..])?;
        let changed = row.changed(at as u32);
        let change = vec![changed.clone()];
        one_call(subject, LETTERS, "update", async |txn: &S::Txn| {
            subject.update(txn, change).await
        })
        .await?;
        let mut expected = rows.clone();
        expected[at] = changed;
        of_records::expect(subject, LETTERS, &expected).await?;
        let gone = vec![row.name()];
        one_call(subject, LETTERS, "delete", async |txn: &S::Txn| subject.delete(txn, gone).await)
            .await?;
        expected.remove(at);
        of_records::expect(subject, LETTERS, &expected).await?;
        let again = vec![row.clone()];
        one_call(subject, LETTERS, "insert", async |txn: &S::Txn| subject.insert(txn, again).await)
            .await?;
    }
    of_records::expect(subject, LETTERS, &rows).await
}

/// As of records: rows of thousands of addresses.
pub async fn messages_that_are_large_together_come_back<S: MessageSubject>(subject: &S) -> Verdict {
    let large = |uid: u32| {
        let to = (0..5000).map(|n| format!("recipient number {n} <r{n}.{uid}@example.org>"));
        let size = octets(uid).len() as u64;
        (Message { to: to.collect(), size, ..message(BOX, uid) }, octets(uid))
    };
    of_messages::holding(subject, KEPT, BOX, [1]).await?;
    let mut last = 1;
    while last < MANY {
        let messages = (last + 1..=last + 3).map(large).collect();
        if !fits(subject, async |txn: &S::Txn| subject.insert(txn, messages).await).await? {
            break;
        }
        last += 3;
    }
    let mut rows = vec![of_messages::row(BOX, 1)];
    rows.extend((2..=last).map(|uid| large(uid).0));
    let expected: Vec<_> = rows.iter().cloned().map(Some).collect();
    let places = rows.iter().map(Message::place).collect();
    of_messages::expect_selected(subject, "select.1", places, &expected).await?;
    of_messages::expect(subject, "list.3", BOX, &rows).await
}

/// Never cut.
pub async fn a_message_that_is_too_large_is_refused_or_kept_whole<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    of_messages::holding(subject, KEPT, BOX, [1]).await?;
    let (row, octets) = of_messages::new(BOX, 2);
    let row = Message { extra: filled(TOO_LARGE), ..row };
    let insert = vec![(row.clone(), octets)];
    let kept = fits(subject, async |txn: &S::Txn| subject.insert(txn, insert).await).await?;
    let mut rows = vec![of_messages::row(BOX, 1)];
    rows.extend(kept.then_some(row));
    of_messages::expect(subject, KEPT, BOX, &rows).await
}

/// STORE 1:* in calls of 4,096 rows under one transaction, and EXPUNGE.
pub async fn ten_thousand_flags_change_in_one_operation<S: MessageSubject>(subject: &S) -> Verdict {
    const COUNT: u32 = 10_000;
    let all: Vec<u32> = (1..=COUNT).collect();
    let (first, then) =
        (subject.begin(), |uid: &u32| flagged(of_messages::row(BOX, *uid), &["\\Seen"]));
    for uids in all.chunks(MOST as usize) {
        let messages = uids.iter().map(|uid| of_messages::new(BOX, *uid)).collect();
        taken(subject, CARRIED, subject.insert(&first, messages).await).await?;
    }
    done(CARRIED, "the commit", subject.commit(first).await)?;
    let txn = subject.begin();
    for uids in all.chunks(MOST as usize) {
        let changes = uids.iter().map(|uid| change(&then(uid))).collect();
        done(CARRIED, "update", subject.update(&txn, changes).await)?;
    }
    done(CARRIED, "the commit", subject.commit(txn).await)?;
    let rows = all.iter().map(then).collect::<Vec<_>>();
    of_messages::expect(subject, CARRIED, BOX, &rows).await?;
    let (some, rest) = rows.split_at(MOST as usize);
    let places: Vec<_> = some.iter().map(Message::place).collect();
    let expected: Vec<_> = some.iter().cloned().map(Some).collect();
    of_messages::expect_selected(subject, CARRIED, places.clone(), &expected).await?;
    let delete = async |txn: &S::Txn| subject.delete(txn, places).await;
    one_call(subject, CARRIED, "delete of 4,096 places", delete).await?;
    of_messages::expect(subject, CARRIED, BOX, rest).await
}

/// All that a host's generator may make, also such as differ in one letter, or in its case.
pub async fn names_of_every_form_have_their_own_octets<S: MessageSubject>(subject: &S) -> Verdict {
    let longest = "Zz".repeat(32);
    let names = ["a", "A", "0", "_", "-", "a.", "a..b", "a-b", "a_b", "a.b", "aB", "ab", &longest];
    let row = |(at, name): (usize, &str)| {
        let (row, octets) = of_messages::new(BOX, at as u32 + 1);
        (Message { name: name.to_owned(), ..row }, octets)
    };
    let messages: Vec<_> = names.into_iter().enumerate().map(row).collect();
    of_messages::holding(subject, LETTERS, BOX, []).await?;
    let txn = subject.begin();
    taken(subject, LETTERS, subject.insert(&txn, messages.clone()).await).await?;
    done(LETTERS, "the commit", subject.commit(txn).await)?;
    let rows: Vec<_> = messages.iter().map(|(row, _)| row.clone()).collect();
    of_messages::expect(subject, LETTERS, BOX, &rows).await?;
    for (row, octets) in &messages {
        of_messages::expect_octets(subject, LETTERS, row, Some(octets.clone())).await?;
    }
    let gone = async |txn: &S::Txn| subject.delete(txn, vec![place(BOX, 1)]).await;
    one_call(subject, LETTERS, "delete", gone).await?;
    done("settle.1", "settle", subject.settle(BOX, vec!["a".to_owned()], true).await)?;
    of_messages::expect_octets(subject, "fetch.4", &rows[0], None).await?;
    for (row, octets) in &messages[1..] {
        of_messages::expect_octets(subject, LETTERS, row, Some(octets.clone())).await?;
    }
    Ok(())
}
