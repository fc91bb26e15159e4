//! Cases for stores of messages, while nothing goes wrong. What each does and covers stands in the
//! [table](super::table).

use std::convert::Infallible;

use super::random::{self, Faults};
use super::{MAX_PAGES, MAX_ROWS, check_to_the_end};
use crate::error::{Result, StoreError};
use crate::records::{Id, Message, MessagePlace, Property};
use crate::sample::{change, message};
use crate::subject::{Knobs, MAX_FETCH, MessageSubject};
use crate::verdict::{Verdict, broken, done, holds, only_reads, same, same_rows, shown};

message_cases!([table] { CASES, run, [S: MessageSubject], S });

/// The mailbox of most cases.
pub(super) const BOX: Id = Id::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0fff);
/// Its octets follow those of `BOX`.
pub(super) const NEXT: Id = Id::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_1000);

/// The octets of the message of this UID.
pub(super) fn octets(uid: u32) -> Vec<u8> {
    format!("Subject: {uid}\r\n\r\n{}\r\n", "x".repeat(uid as usize % 50)).into_bytes()
}

/// A message with its octets.
pub(super) fn new(mailbox: Id, uid: u32) -> (Message, Vec<u8>) {
    let octets = octets(uid);
    (Message { size: octets.len() as u64, ..message(mailbox, uid) }, octets)
}

/// The row of this message.
pub(super) fn row(mailbox: Id, uid: u32) -> Message {
    new(mailbox, uid).0
}

/// The rows of these messages.
pub(super) fn rows(mailbox: Id, uids: impl IntoIterator<Item = u32>) -> Vec<Message> {
    uids.into_iter().map(|uid| row(mailbox, uid)).collect()
}

/// Where a message is.
pub(super) fn place(mailbox: Id, uid: u32) -> MessagePlace {
    MessagePlace { mailbox, uid }
}

/// The row after a flag change.
pub(super) fn flagged(row: Message, flags: &[&str]) -> Message {
    let modseq = row.modseq + 1;
    Message { modseq, flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..row }
}

/// Flags are a set: brings them into one order.
pub(super) fn sorted(mut row: Message) -> Message {
    row.flags.sort();
    row
}

/// Prepares the account and inserts these messages, which are there then: where that fails already,
/// the promise of the case is not to blame.
pub(super) async fn holding<S: MessageSubject>(
    subject: &S,
    promise: &'static str,
    mailbox: Id,
    uids: impl IntoIterator<Item = u32>,
) -> Verdict {
    let messages: Vec<_> = uids.into_iter().map(|uid| new(mailbox, uid)).collect();
    if messages.is_empty() {
        return prepare(subject, promise).await;
    }
    let rows: Vec<_> = messages.iter().map(|(row, _)| row.clone()).collect();
    let txn = subject.begin();
    let created = subject.create(&txn).await;
    let inserted = subject.insert(&txn, messages).await;
    taken(subject, promise, inserted).await?;
    done("create.1", "create", created)?;
    done(promise, "the commit", subject.commit(txn).await)?;
    let places = rows.iter().map(Message::place).collect();
    let expected: Vec<_> = rows.iter().cloned().map(Some).collect();
    expect_selected(subject, "store.rule.7", places, &expected).await?;
    let listed = pages(subject, None, mailbox, None, 4096).await?;
    let lost = rows.iter().find(|row| !listed.contains(row));
    holds("list.1", lost.is_none(), || format!("list does not answer {}", shown(&lost)))
}

/// Prepares the account. Mail that others keep is there already.
async fn prepare<S: MessageSubject>(subject: &S, promise: &'static str) -> Verdict {
    let txn = subject.begin();
    match subject.create(&txn).await {
        Err(StoreError::Unsupported(_)) => Ok(()),
        outcome => {
            done(promise, "create", outcome)?;
            done(promise, "the commit", subject.commit(txn).await)
        }
    }
}

/// The answer to the first insert. Where the store only reads, the case ends here.
pub(super) async fn taken<S: MessageSubject>(
    subject: &S,
    promise: &'static str,
    inserted: Result<()>,
) -> Verdict {
    match &inserted {
        Err(StoreError::Unsupported(why)) => match refuses_writes(subject, why).await? {},
        _ => done(promise, "insert", inserted),
    }
}

/// A store that refuses inserts for this reason refuses all writes. Of a mailbox that is not there,
/// because the messages are somebody's.
async fn refuses_writes<S: MessageSubject>(subject: &S, why: &str) -> Verdict<Infallible> {
    let (txn, nobody) = (subject.begin(), row(Id::from_u128(u128::MAX / 3), 1));
    let update = subject.update(&txn, vec![change(&nobody)]).await;
    let delete = subject.delete(&txn, vec![nobody.place()]).await;
    let dropped = subject.drop(&txn, nobody.mailbox).await;
    let (update, delete) = (("update.1", "update", update), ("delete.1", "delete", delete));
    only_reads(why, [update, delete, ("drop.1", "drop", dropped)])
}

/// All messages of a mailbox, page by page; each page keeps its promises, and they come to an end.
pub(super) async fn pages<S: MessageSubject>(
    subject: &S,
    txn: Option<&S::Txn>,
    mailbox: Id,
    mut after: Option<u32>,
    limit: u32,
) -> Verdict<Vec<Message>> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = done("list.1", "list", subject.list(txn, mailbox, after, limit).await)?;
        let count = page.rows.len();
        holds("list.3", count <= limit as usize, || format!("{count} rows, the limit is {limit}"))?;
        holds("page.1", !page.more || count > 0, || "more to come, and nothing here".into())?;
        for row in &page.rows {
            holds("list.1", after.is_none_or(|last| last < row.uid), || {
                format!("list answers UID {} after {}", row.uid, shown(&after))
            })?;
            after = Some(row.uid);
        }
        all.extend(page.rows.into_iter().map(sorted));
        if !page.more {
            return Ok(all);
        }
        if all.len() > MAX_ROWS {
            break;
        }
    }
    broken("list.1", format!("the list never ends: it has more than {} messages", all.len()))
}

/// Compares a mailbox as it is committed with what it should be.
pub(super) async fn expect<S: MessageSubject>(
    subject: &S,
    promise: &'static str,
    mailbox: Id,
    rows: &[Message],
) -> Verdict {
    let all = pages(subject, None, mailbox, None, 4096).await?;
    let expected: Vec<_> = rows.iter().cloned().map(sorted).collect();
    same_rows(promise, "list", &all, &expected)
}

/// Compares what a select answers with what it should.
pub(super) async fn expect_selected<S: MessageSubject>(
    subject: &S,
    promise: &'static str,
    places: Vec<MessagePlace>,
    expected: &[Option<Message>],
) -> Verdict {
    let found = done(promise, "select", subject.select(None, places).await)?;
    let found: Vec<_> = found.into_iter().map(|row| row.map(sorted)).collect();
    same_rows(promise, "select", &found, expected)
}

/// A range of the octets of a message; it ends, and has no more octets than were asked for.
async fn fetched<S: MessageSubject>(
    subject: &S,
    txn: Option<&S::Txn>,
    promise: &'static str,
    row: &Message,
    (at, max): (u64, u64),
) -> Verdict<Option<Vec<u8>>> {
    let found = subject.fetch(txn, row.mailbox, row.name.clone(), at, max).await;
    let found = done(promise, "fetch", found)?;
    let count = found.as_ref().map_or(0, |octets| octets.len() as u64);
    holds("fetch.1", count <= max, || format!("{count} octets, at most {max} were asked for"))?;
    holds("fetch.1", count <= MAX_FETCH, || {
        format!("fetch from {at} never ends: {count} octets, and no message has as many")
    })?;
    Ok(found)
}

/// Compares the octets of a message with what they should be.
pub(super) async fn expect_octets<S: MessageSubject>(
    subject: &S,
    promise: &'static str,
    row: &Message,
    octets: Option<Vec<u8>>,
) -> Verdict {
    let found = fetched(subject, None, promise, row, (0, u64::MAX)).await?;
    holds(promise, found == octets, || match (&found, &octets) {
        (None, Some(_)) => format!("fetch does not find message {}", row.name),
        (Some(_), None) => format!("fetch still finds message {}", row.name),
        _ => format!("fetch answers other octets of message {}", row.name),
    })
}

/// Checks to the end; how many messages were looked at and what was found.
pub(super) async fn check_all<S: MessageSubject>(
    subject: &S,
    promise: &'static str,
    repair: bool,
) -> Verdict<(u64, Vec<String>)> {
    let check = async |txn: &S::Txn, after| subject.check(txn, after, repair).await;
    check_to_the_end(subject, promise, check).await
}

/// Before anything is written.
pub async fn reads_answer_whatever_is_there<S: MessageSubject>(subject: &S) -> Verdict {
    prepare(subject, "create.1").await?;
    let nowhere = Id::from_u128(u128::MAX / 3);
    expect_selected(subject, "store.rule.13", vec![place(nowhere, 1)], &[None]).await?;
    expect(subject, "list.4", nowhere, &[]).await?;
    expect_octets(subject, "fetch.4", &row(nowhere, 1), None).await?;
    let (_, found) = check_all(subject, "check.3", false).await?;
    same("check.3", "what a check finds where nothing was written", &found, &Vec::new())
}

/// Reading what is not there is no error.
pub async fn a_new_account_holds_nothing<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "list.4", BOX, []).await?;
    expect(subject, "list.4", BOX, &[]).await?;
    expect_selected(subject, "store.rule.13", vec![place(BOX, 1)], &[None]).await?;
    expect_octets(subject, "fetch.4", &row(BOX, 1), None).await
}

/// Nothing in, nothing out.
pub async fn empty_lists_change_nothing<S: MessageSubject>(subject: &S) -> Verdict {
    const RULE: &str = "store.rule.8";
    holding(subject, RULE, BOX, [1]).await?;
    let txn = subject.begin();
    done(RULE, "insert", subject.insert(&txn, Vec::new()).await)?;
    done(RULE, "update", subject.update(&txn, Vec::new()).await)?;
    done(RULE, "delete", subject.delete(&txn, Vec::new()).await)?;
    done(RULE, "the commit", subject.commit(txn).await)?;
    expect_selected(subject, RULE, Vec::new(), &[]).await?;
    expect(subject, RULE, BOX, &rows(BOX, [1])).await
}

/// A second `create` does no harm.
pub async fn create_keeps_what_is_there<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "create.1", BOX, [1]).await?;
    let txn = subject.begin();
    done("create.1", "create", subject.create(&txn).await)?;
    done("create.1", "the commit", subject.commit(txn).await)?;
    expect(subject, "create.1", BOX, &rows(BOX, [1])).await
}

/// Of the first to the last UID.
pub async fn insert_keeps_every_field_and_octet<S: MessageSubject>(subject: &S) -> Verdict {
    const RULE: &str = "store.rule.7";
    let uids = [1, 2, 700, u32::MAX - 1, u32::MAX];
    let mut messages: Vec<_> = uids.iter().map(|uid| new(BOX, *uid)).collect();
    messages[1].0.flags = vec!["\\Seen".into(), "$Forwarded".into(), "\\Answered".into()];
    messages[1].0.modseq = u64::MAX >> 1;
    let rows: Vec<_> = messages.iter().map(|(row, _)| sorted(row.clone())).collect();
    prepare(subject, "insert.4").await?;
    let txn = subject.begin();
    taken(subject, "insert.4", subject.insert(&txn, messages).await).await?;
    let seen = pages(subject, Some(&txn), BOX, None, 2).await?;
    same_rows("insert.2", "list in the transaction", &seen, &rows)?;
    let found = fetched(subject, Some(&txn), "insert.2", &rows[2], (0, u64::MAX)).await?;
    same("insert.2", "what the transaction fetches", &found, &Some(octets(700)))?;
    done("insert.1", "the commit", subject.commit(txn).await)?;
    expect(subject, RULE, BOX, &rows).await?;
    let expected: Vec<_> = rows.iter().cloned().map(Some).collect();
    let places = uids.iter().map(|uid| place(BOX, *uid)).collect();
    expect_selected(subject, RULE, places, &expected).await?;
    for (row, uid) in rows.iter().zip(uids) {
        expect_octets(subject, "fetch.5", row, Some(octets(uid))).await?;
    }
    Ok(())
}

/// Of a message that is changed twice in one operation, the last change holds.
pub async fn update_changes_flags_and_leaves_the_rest<S: MessageSubject>(subject: &S) -> Verdict {
    const UPDATE: &str = "update.1";
    holding(subject, UPDATE, BOX, 1..6).await?;
    let mut rows = rows(BOX, 1..6);
    rows[1] = flagged(rows[1].clone(), &["\\Deleted", "\\Draft", "\\Flagged", "\\Seen", "odd["]);
    rows[3] = flagged(rows[3].clone(), &[]);
    rows[3].extra = vec![Property { name: "note".into(), value: vec![0; 3000] }];
    rows[4].extra.clear();
    let txn = subject.begin();
    let before = flagged(row(BOX, 4), &["old"]);
    done(UPDATE, "update", subject.update(&txn, vec![change(&before)]).await)?;
    let changes = [&rows[3], &rows[1], &rows[4]].map(change).to_vec();
    done(UPDATE, "update", subject.update(&txn, changes).await)?;
    rows[1] = sorted(rows[1].clone());
    let seen = pages(subject, Some(&txn), BOX, None, 4096).await?;
    same_rows(UPDATE, "list in the transaction", &seen, &rows)?;
    done(UPDATE, "the commit", subject.commit(txn).await)?;
    expect(subject, UPDATE, BOX, &rows).await?;
    expect_octets(subject, UPDATE, &rows[1], Some(octets(2))).await
}

/// Also places of another mailbox.
pub async fn delete_passes_over_what_is_not_there<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "delete.1", BOX, 1..5).await?;
    for _ in 0..2 {
        let txn = subject.begin();
        let places = vec![place(BOX, 3), place(BOX, 99), place(NEXT, 1), place(BOX, 1)];
        done("delete.1", "delete", subject.delete(&txn, places).await)?;
        done("delete.1", "the commit", subject.commit(txn).await)?;
        expect(subject, "delete.1", BOX, &rows(BOX, [2, 4])).await?;
    }
    Ok(())
}

/// Out of order, twice, missing.
pub async fn select_answers_in_the_order_asked<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "select.1", BOX, 1..4).await?;
    holding(subject, "select.1", NEXT, [2]).await?;
    let places = |asked: &[(Id, u32)]| asked.iter().map(|(m, u)| place(*m, *u)).collect();
    let (three, one) = (Some(row(BOX, 3)), Some(row(BOX, 1)));
    let asked = places(&[(BOX, 3), (NEXT, 3), (NEXT, 2), (BOX, 1)]);
    let expected = [three.clone(), None, Some(row(NEXT, 2)), one.clone()];
    expect_selected(subject, "select.1", asked, &expected).await?;
    let asked = places(&[(BOX, 3), (BOX, 1), (BOX, 3)]);
    expect_selected(subject, "select.2", asked, &[three.clone(), one, three]).await
}

/// Octet order of little-endian or decimal keys would betray itself here.
pub async fn list_pages_in_order_of_uid_whatever_the_limits<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    let uids = [1, 2, 9, 10, 11, 255, 256, 257, 65_535, 65_536, 1 << 24, u32::MAX];
    holding(subject, "list.1", BOX, uids.into_iter().rev()).await?;
    let all = rows(BOX, uids);
    for scan in [1, 3, 4096] {
        subject.set(Knobs::short_scans(scan));
        for limit in [1, 2, 11, 12, 13, 4096] {
            let found = pages(subject, None, BOX, None, limit).await?;
            same_rows("list.1", &format!("list by {limit}"), &found, &all)?;
        }
        for (index, uid) in uids.into_iter().enumerate() {
            let rest = pages(subject, None, BOX, Some(uid), 5).await?;
            same_rows("list.1", "list after a message", &rest, &all[index + 1..])?;
        }
    }
    subject.set(Knobs::EASY);
    Ok(())
}

/// The UID to go on after need not be there.
pub async fn list_goes_on_after_a_uid_that_is_gone<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "list.2", BOX, [3, 5]).await?;
    for (after, rest) in [(0, &[3, 5][..]), (2, &[3, 5]), (4, &[5]), (u32::MAX, &[])] {
        let found = pages(subject, None, BOX, Some(after), 10).await?;
        same_rows("list.2", "list", &found, &rows(BOX, rest.iter().copied()))?;
    }
    Ok(())
}

/// The list of a mailbox ends with it.
pub async fn mailboxes_are_apart<S: MessageSubject>(subject: &S) -> Verdict {
    let ends = [Id::from_u128(1), BOX, NEXT, Id::from_u128(u128::MAX)];
    for mailbox in ends {
        holding(subject, "list.1", mailbox, [1, u32::MAX]).await?;
    }
    for mailbox in ends {
        expect(subject, "list.1", mailbox, &rows(mailbox, [1, u32::MAX])).await?;
    }
    Ok(())
}

/// Also the mailbox with the last id there is.
pub async fn drop_removes_one_mailbox_and_may_be_repeated<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    let last = Id::from_u128(u128::MAX);
    for mailbox in [BOX, NEXT, last] {
        holding(subject, "drop.1", mailbox, [1, 2, u32::MAX]).await?;
    }
    let drops = [(BOX, "drop.1"), (BOX, "drop.2"), (last, "drop.1"), (Id::from_u128(77), "drop.2")];
    for (mailbox, promise) in drops {
        let txn = subject.begin();
        done(promise, "drop", subject.drop(&txn, mailbox).await)?;
        done(promise, "the commit", subject.commit(txn).await)?;
        expect(subject, promise, mailbox, &[]).await?;
        expect(subject, "drop.1", NEXT, &rows(NEXT, [1, 2, u32::MAX])).await?;
    }
    expect_octets(subject, "drop.3", &row(BOX, 2), Some(octets(2))).await?;
    holding(subject, "drop.1", BOX, [9]).await?;
    expect(subject, "drop.1", BOX, &rows(BOX, [9])).await
}

/// All pairs of a few beginnings and lengths.
pub async fn fetch_gives_the_range_asked_for<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "fetch.1", BOX, [40]).await?;
    let (row, all) = new(BOX, 40);
    let length = all.len() as u64;
    let ends = [0, 1, 5, length - 1, length, length + 1, u64::MAX];
    for at in ends {
        let promise = if at < length { "fetch.1" } else { "fetch.3" };
        for max in ends {
            let start = at.min(length) as usize;
            let end = at.saturating_add(max).min(length) as usize;
            let found = fetched(subject, None, promise, &row, (at, max)).await?;
            let what = format!("what fetch answers from {at}, at most {max},");
            same(promise, &what, &found, &Some(all[start..end].to_vec()))?;
        }
    }
    Ok(())
}

/// For sessions that still see it.
pub async fn a_deleted_message_is_readable_until_settled<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    holding(subject, "delete.2", BOX, [1, 2]).await?;
    let txn = subject.begin();
    done("delete.2", "delete", subject.delete(&txn, vec![place(BOX, 1)]).await)?;
    done("delete.2", "the commit", subject.commit(txn).await)?;
    expect(subject, "delete.1", BOX, &rows(BOX, [2])).await?;
    expect_octets(subject, "delete.2", &row(BOX, 1), Some(octets(1))).await?;
    let settled = subject.settle(BOX, vec![row(BOX, 1).name], true).await;
    done("settle.1", "settle", settled)?;
    expect_octets(subject, "fetch.4", &row(BOX, 1), None).await?;
    expect_octets(subject, "fetch.5", &row(BOX, 2), Some(octets(2))).await
}

/// What counts is what the rows show now.
pub async fn settle_may_be_repeated_and_passes_over_unknown_names<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    holding(subject, "settle.1", BOX, [1, 2]).await?;
    for _ in 0..2 {
        let names = vec![row(BOX, 1).name, "never-was".to_owned()];
        done("settle.3", "settle", subject.settle(BOX, names, false).await)?;
        done("store.rule.8", "settle", subject.settle(BOX, Vec::new(), false).await)?;
    }
    let txn = subject.begin();
    let seen = flagged(row(BOX, 1), &["\\Seen"]);
    done("update.1", "update", subject.update(&txn, vec![change(&seen)]).await)?;
    done("delete.1", "delete", subject.delete(&txn, vec![place(BOX, 2)]).await)?;
    done("settle.2", "the commit", subject.commit(txn).await)?;
    for _ in 0..2 {
        let gone = subject.settle(BOX, vec![row(BOX, 2).name], true).await;
        done("settle.2", "settle of a deleted message", gone)?;
        let changed = subject.settle(BOX, vec![row(BOX, 1).name], false).await;
        done("settle.2", "settle of a changed message", changed)?;
        expect(subject, "settle.2", BOX, std::slice::from_ref(&seen)).await?;
        expect_octets(subject, "settle.2", &seen, Some(octets(1))).await?;
        expect_octets(subject, "settle.2", &row(BOX, 2), None).await?;
    }
    Ok(())
}

/// COPY gives a second message the octets of the first.
pub async fn a_body_may_be_inserted_twice<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "insert.1", BOX, [1]).await?;
    let txn = subject.begin();
    let copy = Message { size: octets(1).len() as u64, ..message(NEXT, 1) };
    let inserted = subject.insert(&txn, vec![(copy.clone(), octets(1))]).await;
    done("insert.1", "insert", inserted)?;
    done("insert.1", "delete", subject.delete(&txn, vec![place(BOX, 1)]).await)?;
    done("insert.1", "the commit", subject.commit(txn).await)?;
    let settled = subject.settle(BOX, vec![row(BOX, 1).name], true).await;
    done("settle.1", "settle", settled)?;
    expect_octets(subject, "insert.1", &copy, Some(octets(1))).await?;
    expect(subject, "insert.1", NEXT, &[copy]).await
}

/// In the order in which they were made; nobody else sees them.
pub async fn a_transaction_sees_its_own_writes<S: MessageSubject>(subject: &S) -> Verdict {
    const OWN: &str = "insert.2";
    holding(subject, OWN, BOX, [1, 2]).await?;
    let txn = subject.begin();
    let inserted = subject.insert(&txn, vec![new(BOX, 3), new(BOX, 4)]).await;
    done(OWN, "insert", inserted)?;
    let third = flagged(row(BOX, 3), &["a"]);
    done(OWN, "update", subject.update(&txn, vec![change(&third)]).await)?;
    let gone = vec![place(BOX, 4), place(BOX, 1)];
    done(OWN, "delete", subject.delete(&txn, gone).await)?;
    let expected = vec![row(BOX, 2), third];
    let seen = pages(subject, Some(&txn), BOX, None, 1).await?;
    same_rows(OWN, "list in the transaction", &seen, &expected)?;
    expect(subject, "storage.view.2", BOX, &rows(BOX, [1, 2])).await?;
    done(OWN, "the commit", subject.commit(txn).await)?;
    expect(subject, OWN, BOX, &expected).await
}

/// A message of 3 MiB, and rows with thousands of addresses.
pub async fn huge_messages_come_back_whole<S: MessageSubject>(subject: &S) -> Verdict {
    const RULE: &str = "store.rule.7";
    holding(subject, RULE, BOX, [1]).await?;
    let octets: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
    let mut row = Message { size: octets.len() as u64, ..message(BOX, 2) };
    row.to = (0..5000).map(|n| format!("recipient number {n} <r{n}@example.org>")).collect();
    row.flags = (0..64).map(|n| format!("{n:0128}")).collect();
    let txn = subject.begin();
    let inserted = subject.insert(&txn, vec![(row.clone(), octets.clone())]).await;
    done(RULE, "insert", inserted)?;
    done(RULE, "the commit", subject.commit(txn).await)?;
    expect(subject, RULE, BOX, &[self::row(BOX, 1), row.clone()]).await?;
    expect_octets(subject, "fetch.5", &row, Some(octets.clone())).await?;
    let part = fetched(subject, None, "fetch.1", &row, (1_048_570, 1_500_000)).await?;
    holds("fetch.1", part.as_deref() == Some(&octets[1_048_570..2_548_570]), || {
        "fetch of a part in the middle answers other octets".to_owned()
    })
}

/// With and without repair, while the host's own scans are long or short.
pub async fn check_of_a_sound_store_finds_nothing<S: MessageSubject>(subject: &S) -> Verdict {
    holding(subject, "check.2", BOX, 1..20).await?;
    holding(subject, "check.2", NEXT, 1..3).await?;
    let txn = subject.begin();
    done("check.2", "delete", subject.delete(&txn, vec![place(BOX, 7)]).await)?;
    done("check.2", "the commit", subject.commit(txn).await)?;
    for (repair, scan) in [(false, 4096), (true, 4096), (true, 4)] {
        subject.set(Knobs::short_scans(scan));
        let (checked, found) = check_all(subject, "check.3", repair).await?;
        same("check.2", "what a check of sound messages finds", &found, &Vec::new())?;
        holds("check.3", checked >= 20, || {
            format!("a check of 20 messages has looked at {checked}")
        })?;
    }
    subject.set(Knobs::EASY);
    expect(subject, "check.2", BOX, &rows(BOX, (1..20).filter(|uid| *uid != 7))).await
}

/// While nothing goes wrong.
pub async fn random_operations_agree_with_the_model<S: MessageSubject>(subject: &S) -> Verdict {
    random::messages(subject, &mut subject.rng(), random::STEPS, Faults::None).await
}
