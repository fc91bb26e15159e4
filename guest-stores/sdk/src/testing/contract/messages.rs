//! Cases for stores of messages.

use super::{MAX_PAGES, MessageSubject, failing, short_scans};
use crate::error::{Result, StoreError};
use crate::records::{Id, Message, MessagePlace, Property};
use crate::testing::{change, message};

/// Makes a test of each case: `message_contract!(messages, block_on, subject())`, with a module's
/// name, a function that runs a future to its end and what makes a new subject.
#[macro_export]
macro_rules! message_contract {
    ($module:ident, $run:path, $subject:expr) => {
        mod $module {
            use super::*;
            $crate::message_contract!(@ $run, $subject;
                a_new_account_holds_nothing,
                create_keeps_what_is_there,
                insert_keeps_every_field_and_octet,
                update_changes_flags_and_leaves_the_rest,
                delete_passes_over_what_is_not_there,
                select_answers_in_the_order_asked,
                list_pages_in_order_of_uid_whatever_the_limits,
                list_goes_on_after_a_uid_that_is_gone,
                mailboxes_are_apart,
                drop_removes_one_mailbox_and_may_be_repeated,
                fetch_gives_the_range_asked_for,
                a_deleted_message_is_readable_until_settled,
                settle_may_be_repeated_and_passes_over_unknown_names,
                a_body_may_be_inserted_twice,
                empty_lists_change_nothing,
                a_transaction_sees_its_own_writes,
                a_forgotten_transaction_leaves_nothing,
                huge_messages_come_back_whole,
                ten_thousand_flags_change_in_one_operation,
                check_of_a_sound_store_finds_nothing,
                a_failing_host_is_reported_and_leaves_nothing,
            );
        }
    };
    (@ $run:path, $subject:expr; $($case:ident),* $(,)?) => {$(
        #[test]
        fn $case() {
            $run($crate::testing::contract::messages::$case(&$subject));
        }
    )*};
}

const BOX: Id = Id::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0fff);
/// Its octets follow those of `BOX`.
const NEXT: Id = Id::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_1000);

/// The octets of the message of this UID.
fn octets(uid: u32) -> Vec<u8> {
    format!("Subject: {uid}\r\n\r\n{}\r\n", "x".repeat(uid as usize % 50)).into_bytes()
}

/// A message with its octets.
fn new(mailbox: Id, uid: u32) -> (Message, Vec<u8>) {
    let octets = octets(uid);
    (Message { size: octets.len() as u64, ..message(mailbox, uid) }, octets)
}

fn row(mailbox: Id, uid: u32) -> Message {
    new(mailbox, uid).0
}

fn rows(mailbox: Id, uids: impl IntoIterator<Item = u32>) -> Vec<Message> {
    uids.into_iter().map(|uid| row(mailbox, uid)).collect()
}

fn place(mailbox: Id, uid: u32) -> MessagePlace {
    MessagePlace { mailbox, uid }
}

/// The row after a flag change.
fn flagged(row: Message, flags: &[&str]) -> Message {
    let modseq = row.modseq + 1;
    Message { modseq, flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..row }
}

/// Flags are a set: brings them into one order.
fn sorted(mut row: Message) -> Message {
    row.flags.sort();
    row
}

async fn holding<S: MessageSubject>(subject: &S, mailbox: Id, uids: impl IntoIterator<Item = u32>) {
    let txn = subject.begin();
    subject.create(&txn).await.expect("create");
    let messages = uids.into_iter().map(|uid| new(mailbox, uid)).collect();
    subject.insert(&txn, messages).await.expect("insert");
    subject.commit(txn).await;
}

async fn pages<S: MessageSubject>(
    subject: &S,
    txn: Option<&S::Txn>,
    mailbox: Id,
    mut after: Option<u32>,
    limit: u32,
) -> Result<Vec<Message>> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = subject.list(txn, mailbox, after, limit).await?;
        assert!(page.rows.len() <= limit as usize, "more rows than {limit}");
        assert!(!page.more || !page.rows.is_empty(), "more to come, and nothing here");
        after = page.rows.last().map(|row| row.uid);
        all.extend(page.rows.into_iter().map(sorted));
        if !page.more {
            return Ok(all);
        }
    }
    panic!("the list never ends");
}

async fn expect<S: MessageSubject>(subject: &S, mailbox: Id, rows: &[Message]) {
    let all = pages(subject, None, mailbox, None, 4096).await.expect("list");
    assert_eq!(all, rows.iter().cloned().map(sorted).collect::<Vec<_>>());
}

async fn whole<S: MessageSubject>(subject: &S, row: &Message) -> Option<Vec<u8>> {
    subject.fetch(None, row.mailbox, row.name.clone(), 0, u64::MAX).await.expect("fetch")
}

/// `[messages.list.4]`, `[messages.fetch.4]`, `[store.rule.13]`
pub async fn a_new_account_holds_nothing<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, []).await;
    expect(subject, BOX, &[]).await;
    assert_eq!(subject.select(None, vec![place(BOX, 1)]).await.expect("select"), [None]);
    assert_eq!(whole(subject, &row(BOX, 1)).await, None);
}

/// `[messages.create.1]`
pub async fn create_keeps_what_is_there<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1]).await;
    holding(subject, BOX, []).await;
    expect(subject, BOX, &rows(BOX, [1])).await;
}

/// `[messages.insert.1]`, `[messages.insert.2]`, `[messages.insert.4]`, `[messages.fetch.5]`,
/// `[store.rule.7]`
pub async fn insert_keeps_every_field_and_octet<S: MessageSubject>(subject: &S) {
    let uids = [1, 2, 700, u32::MAX - 1, u32::MAX];
    let txn = subject.begin();
    subject.create(&txn).await.expect("create");
    let mut messages: Vec<_> = uids.iter().map(|uid| new(BOX, *uid)).collect();
    messages[1].0.flags = vec!["\\Seen".into(), "$Forwarded".into(), "\\Answered".into()];
    messages[1].0.modseq = u64::MAX >> 1;
    let rows: Vec<_> = messages.iter().map(|(row, _)| row.clone()).collect();
    subject.insert(&txn, messages).await.expect("insert");
    assert_eq!(
        subject.fetch(Some(&txn), BOX, rows[2].name.clone(), 0, u64::MAX).await.expect("fetch"),
        Some(octets(700))
    );
    subject.commit(txn).await;
    expect(subject, BOX, &rows).await;
    for (row, uid) in rows.iter().zip(uids) {
        assert_eq!(whole(subject, row).await, Some(octets(uid)));
    }
}

/// `[messages.update.1]`, `[messages.update.2]`, `[types.message.3]`
pub async fn update_changes_flags_and_leaves_the_rest<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, 1..6).await;
    let mut rows = rows(BOX, 1..6);
    rows[1] = flagged(rows[1].clone(), &["\\Deleted", "\\Draft", "\\Flagged", "\\Seen", "odd["]);
    rows[3] = flagged(rows[3].clone(), &[]);
    rows[3].extra = vec![Property { name: "note".into(), value: vec![0; 3000] }];
    rows[4].extra.clear();
    let txn = subject.begin();
    let before = flagged(row(BOX, 4), &["old"]);
    subject.update(&txn, vec![change(&before)]).await.expect("update");
    let changes = [&rows[3], &rows[1], &rows[4]].map(change).to_vec();
    subject.update(&txn, changes).await.expect("update");
    assert_eq!(pages(subject, Some(&txn), BOX, None, 4096).await.expect("list"), rows);
    subject.commit(txn).await;
    expect(subject, BOX, &rows).await;
    assert_eq!(whole(subject, &rows[1]).await, Some(octets(2)));
}

/// `[messages.delete.1]`
pub async fn delete_passes_over_what_is_not_there<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, 1..5).await;
    for _ in 0..2 {
        let txn = subject.begin();
        let places = vec![place(BOX, 3), place(BOX, 99), place(NEXT, 1), place(BOX, 1)];
        subject.delete(&txn, places).await.expect("delete");
        subject.commit(txn).await;
        expect(subject, BOX, &rows(BOX, [2, 4])).await;
    }
}

/// `[messages.select.1]`, `[messages.select.2]`
pub async fn select_answers_in_the_order_asked<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, 1..4).await;
    holding(subject, NEXT, [2]).await;
    let asked = [(BOX, 3), (NEXT, 3), (NEXT, 2), (BOX, 3), (BOX, 1)];
    let found = subject.select(None, asked.map(|(m, u)| place(m, u)).to_vec()).await;
    let three = Some(row(BOX, 3));
    let expected = [three.clone(), None, Some(row(NEXT, 2)), three, Some(row(BOX, 1))];
    assert_eq!(found.expect("select"), expected);
}

/// `[messages.list.1]`, `[messages.list.3]`, `[messages.page.1]`
pub async fn list_pages_in_order_of_uid_whatever_the_limits<S: MessageSubject>(subject: &S) {
    // Octet order of little-endian or decimal keys would betray itself here.
    let uids = [1, 2, 9, 10, 11, 255, 256, 257, 65_535, 65_536, 1 << 24, u32::MAX];
    holding(subject, BOX, uids.into_iter().rev()).await;
    let all = rows(BOX, uids);
    for scan in [1, 3, 4096] {
        subject.set(short_scans(scan));
        for limit in [1, 2, 11, 12, 13, 4096] {
            assert_eq!(pages(subject, None, BOX, None, limit).await.expect("list"), all);
        }
        for (index, uid) in uids.into_iter().enumerate() {
            let rest = pages(subject, None, BOX, Some(uid), 5).await.expect("list");
            assert_eq!(rest, all[index + 1..]);
        }
    }
    subject.set(short_scans(4096));
}

/// `[messages.list.2]`
pub async fn list_goes_on_after_a_uid_that_is_gone<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [3, 5]).await;
    for (after, rest) in [(0, &[3, 5][..]), (2, &[3, 5]), (4, &[5]), (u32::MAX, &[])] {
        let page = subject.list(None, BOX, Some(after), 10).await.expect("list");
        assert_eq!(page.rows, rows(BOX, rest.iter().copied()));
        assert!(!page.more);
    }
}

/// `[messages.list.1]`: the list of a mailbox ends with it.
pub async fn mailboxes_are_apart<S: MessageSubject>(subject: &S) {
    let ends = [Id::from_u128(1), BOX, NEXT, Id::from_u128(u128::MAX)];
    for mailbox in ends {
        holding(subject, mailbox, [1, u32::MAX]).await;
    }
    for mailbox in ends {
        expect(subject, mailbox, &rows(mailbox, [1, u32::MAX])).await;
    }
}

/// `[messages.drop.1]`, `[messages.drop.2]`, `[messages.drop.3]`
pub async fn drop_removes_one_mailbox_and_may_be_repeated<S: MessageSubject>(subject: &S) {
    let last = Id::from_u128(u128::MAX);
    for mailbox in [BOX, NEXT, last] {
        holding(subject, mailbox, [1, 2, u32::MAX]).await;
    }
    for mailbox in [BOX, BOX, last, Id::from_u128(77)] {
        let txn = subject.begin();
        subject.drop(&txn, mailbox).await.expect("drop");
        subject.commit(txn).await;
        expect(subject, mailbox, &[]).await;
        expect(subject, NEXT, &rows(NEXT, [1, 2, u32::MAX])).await;
    }
    assert_eq!(whole(subject, &row(BOX, 2)).await, Some(octets(2)));
    holding(subject, BOX, [9]).await;
    expect(subject, BOX, &rows(BOX, [9])).await;
}

/// `[messages.fetch.1]`, `[messages.fetch.3]`, `[messages.part.1]`
pub async fn fetch_gives_the_range_asked_for<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [40]).await;
    let (row, all) = new(BOX, 40);
    let length = all.len() as u64;
    let ends = [0, 1, 5, length - 1, length, length + 1, u64::MAX];
    for at in ends {
        for max in ends {
            let start = at.min(length) as usize;
            let end = at.saturating_add(max).min(length) as usize;
            let found = subject.fetch(None, BOX, row.name.clone(), at, max).await.expect("fetch");
            assert_eq!(found.as_deref(), Some(&all[start..end]), "{at}, {max}");
        }
    }
}

/// `[messages.delete.2]`, `[messages.fetch.2]`, `[messages.outside.2]`
pub async fn a_deleted_message_is_readable_until_settled<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1, 2]).await;
    let txn = subject.begin();
    subject.delete(&txn, vec![place(BOX, 1)]).await.expect("delete");
    subject.commit(txn).await;
    expect(subject, BOX, &rows(BOX, [2])).await;
    assert_eq!(whole(subject, &row(BOX, 1)).await, Some(octets(1)));
    subject.settle(BOX, vec![row(BOX, 1).name], true).await.expect("settle");
    assert_eq!(whole(subject, &row(BOX, 1)).await, None);
    assert_eq!(whole(subject, &row(BOX, 2)).await, Some(octets(2)));
}

/// `[messages.settle.1]`, `[messages.settle.2]`, `[messages.settle.3]`, `[messages.outside.3]`
pub async fn settle_may_be_repeated_and_passes_over_unknown_names<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1, 2]).await;
    for _ in 0..2 {
        let names = vec![row(BOX, 1).name, "never-was".to_owned()];
        subject.settle(BOX, names, false).await.expect("settle");
        subject.settle(BOX, Vec::new(), false).await.expect("settle");
    }
    let txn = subject.begin();
    let seen = flagged(row(BOX, 1), &["\\Seen"]);
    subject.update(&txn, vec![change(&seen)]).await.expect("update");
    subject.delete(&txn, vec![place(BOX, 2)]).await.expect("delete");
    subject.commit(txn).await;
    for _ in 0..2 {
        subject.settle(BOX, vec![row(BOX, 2).name], true).await.expect("settle");
        subject.settle(BOX, vec![row(BOX, 1).name], false).await.expect("settle");
        expect(subject, BOX, std::slice::from_ref(&seen)).await;
        assert_eq!(whole(subject, &seen).await, Some(octets(1)));
        assert_eq!(whole(subject, &row(BOX, 2)).await, None);
    }
}

/// `[messages.insert.1]`: COPY gives a second message the octets of the first.
pub async fn a_body_may_be_inserted_twice<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1]).await;
    let txn = subject.begin();
    let copy = Message { size: octets(1).len() as u64, ..message(NEXT, 1) };
    subject.insert(&txn, vec![(copy.clone(), octets(1))]).await.expect("insert");
    subject.delete(&txn, vec![place(BOX, 1)]).await.expect("delete");
    subject.commit(txn).await;
    subject.settle(BOX, vec![row(BOX, 1).name], true).await.expect("settle");
    assert_eq!(whole(subject, &copy).await, Some(octets(1)));
    expect(subject, NEXT, &[copy]).await;
}

/// `[store.rule.8]`
pub async fn empty_lists_change_nothing<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1]).await;
    let txn = subject.begin();
    subject.insert(&txn, Vec::new()).await.expect("insert");
    subject.update(&txn, Vec::new()).await.expect("update");
    subject.delete(&txn, Vec::new()).await.expect("delete");
    subject.commit(txn).await;
    assert_eq!(subject.select(None, Vec::new()).await.expect("select"), []);
    expect(subject, BOX, &rows(BOX, [1])).await;
}

/// `[messages.insert.2]`, `[storage.view.2]`
pub async fn a_transaction_sees_its_own_writes<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1, 2]).await;
    let txn = subject.begin();
    subject.insert(&txn, vec![new(BOX, 3), new(BOX, 4)]).await.expect("insert");
    subject.update(&txn, vec![change(&flagged(row(BOX, 3), &["a"]))]).await.expect("update");
    subject.delete(&txn, vec![place(BOX, 4), place(BOX, 1)]).await.expect("delete");
    let expected = vec![row(BOX, 2), flagged(row(BOX, 3), &["a"])];
    assert_eq!(pages(subject, Some(&txn), BOX, None, 1).await.expect("list"), expected);
    expect(subject, BOX, &rows(BOX, [1, 2])).await;
    subject.commit(txn).await;
    expect(subject, BOX, &expected).await;
}

/// `[store.rule.1]`, `[store.rule.5]`, `[storage.txn.2]`, `[messages.outside.1]`,
/// `[messages.outside.4]`: also an operation that is done again after it came to nothing.
pub async fn a_forgotten_transaction_leaves_nothing<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1, 2]).await;
    for last in [false, false, true] {
        let txn = subject.begin();
        subject.insert(&txn, vec![new(BOX, 3)]).await.expect("insert");
        subject.update(&txn, vec![change(&flagged(row(BOX, 1), &["a"]))]).await.expect("update");
        subject.delete(&txn, vec![place(BOX, 2)]).await.expect("delete");
        if last {
            subject.commit(txn).await;
        } else {
            drop(txn);
            expect(subject, BOX, &rows(BOX, [1, 2])).await;
            assert_eq!(whole(subject, &row(BOX, 2)).await, Some(octets(2)));
        }
    }
    expect(subject, BOX, &[flagged(row(BOX, 1), &["a"]), row(BOX, 3)]).await;
    assert_eq!(whole(subject, &row(BOX, 3)).await, Some(octets(3)));
    let txn = subject.begin();
    subject.drop(&txn, BOX).await.expect("drop");
    drop(txn);
    expect(subject, BOX, &[flagged(row(BOX, 1), &["a"]), row(BOX, 3)]).await;
}

/// A message of 3 MiB, and rows with thousands of addresses.
pub async fn huge_messages_come_back_whole<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1]).await;
    let octets: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
    let mut row = Message { size: octets.len() as u64, ..message(BOX, 2) };
    row.to = (0..5000).map(|n| format!("recipient number {n} <r{n}@example.org>")).collect();
    row.flags = (0..64).map(|n| format!("{n:0128}")).collect();
    let txn = subject.begin();
    subject.insert(&txn, vec![(row.clone(), octets.clone())]).await.expect("insert");
    subject.commit(txn).await;
    expect(subject, BOX, &[self::row(BOX, 1), row.clone()]).await;
    assert!(whole(subject, &row).await == Some(octets.clone()), "other octets");
    let part = subject.fetch(None, BOX, row.name, 1_048_570, 1_500_000).await.expect("fetch");
    assert!(part.as_deref() == Some(&octets[1_048_570..2_548_570]), "other octets");
}

/// `[store.rule.10]`: STORE 1:* in calls of 4,096 rows under one transaction.
pub async fn ten_thousand_flags_change_in_one_operation<S: MessageSubject>(subject: &S) {
    const COUNT: u32 = 10_000;
    let all: Vec<u32> = (1..=COUNT).collect();
    let (first, then) = (subject.begin(), |uid: &u32| flagged(row(BOX, *uid), &["\\Seen"]));
    let changed = |uid: &u32| change(&then(uid));
    for uids in all.chunks(4096) {
        let messages = uids.iter().map(|uid| new(BOX, *uid)).collect();
        subject.insert(&first, messages).await.expect("insert");
    }
    subject.commit(first).await;
    let txn = subject.begin();
    for uids in all.chunks(4096) {
        subject.update(&txn, uids.iter().map(changed).collect()).await.expect("update");
    }
    subject.commit(txn).await;
    let rows = all.iter().map(then).collect::<Vec<_>>();
    expect(subject, BOX, &rows).await;
    let places = all[..4096].iter().map(|uid| place(BOX, *uid)).collect();
    let found: Vec<_> = subject.select(None, places).await.expect("select");
    assert!(found.iter().flatten().eq(&rows[..4096]), "select finds other rows");
}

/// `[messages.check.1]`, `[messages.check.2]`, `[messages.check.3]`
pub async fn check_of_a_sound_store_finds_nothing<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, 1..20).await;
    holding(subject, NEXT, 1..3).await;
    let txn = subject.begin();
    subject.delete(&txn, vec![place(BOX, 7)]).await.expect("delete");
    subject.commit(txn).await;
    for (repair, scan) in [(false, 4096), (true, 4096), (true, 4)] {
        subject.set(short_scans(scan));
        let (mut after, mut checked) = (None, 0);
        for round in 0.. {
            assert!(round < MAX_PAGES, "the check never ends");
            let txn = subject.begin();
            let page = subject.check(&txn, after, repair).await.expect("check");
            subject.commit(txn).await;
            assert_eq!(page.findings, []);
            checked += page.checked;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(checked >= 20, "{checked} checked");
    }
    subject.set(short_scans(4096));
    expect(subject, BOX, &rows(BOX, (1..20).filter(|uid| *uid != 7))).await;
}

/// `[storage.txn.2]`: whichever capability call fails, the call says `unavailable`, and without the
/// failure the same operation succeeds.
pub async fn a_failing_host_is_reported_and_leaves_nothing<S: MessageSubject>(subject: &S) {
    holding(subject, BOX, [1, 2]).await;
    for calls in 0.. {
        let txn = subject.begin();
        subject.set(failing(calls));
        let outcome = operation(subject, &txn).await;
        subject.set(short_scans(4096));
        match outcome {
            Err(StoreError::Unavailable(_)) => {
                drop(txn);
                expect(subject, BOX, &rows(BOX, [1, 2])).await;
            }
            Err(other) => panic!("{other:?} after {calls} calls"),
            Ok(()) => {
                subject.commit(txn).await;
                break;
            }
        }
    }
    expect(subject, BOX, &[flagged(row(BOX, 1), &["a"]), row(BOX, 3)]).await;
}

async fn operation<S: MessageSubject>(subject: &S, txn: &S::Txn) -> Result<()> {
    subject.create(txn).await?;
    subject.insert(txn, vec![new(BOX, 3)]).await?;
    subject.update(txn, vec![change(&flagged(row(BOX, 1), &["a"]))]).await?;
    subject.delete(txn, vec![place(BOX, 2)]).await?;
    subject.select(Some(txn), vec![place(BOX, 3)]).await?;
    subject.list(Some(txn), BOX, None, 10).await?;
    subject.fetch(Some(txn), BOX, row(BOX, 3).name, 0, 10).await?;
    subject.check(txn, None, true).await?;
    subject.drop(txn, NEXT).await
}
