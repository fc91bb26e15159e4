//! Cases for stores of domains, users and mailboxes. `[*.insert.1]` stands for the promise of that
//! number of all three.

use super::{MAX_PAGES, RecordSubject, failing, short_scans};
use crate::error::{Result, StoreError};
use crate::records::Record;
use crate::testing::Sample;

/// Makes a test of each case: `record_contract!(users, User, block_on, subject())`, with a module's
/// name, the record, a function that runs a future to its end and what makes a new subject.
#[macro_export]
macro_rules! record_contract {
    ($module:ident, $row:ty, $run:path, $subject:expr) => {
        mod $module {
            use super::*;
            $crate::record_contract!(@ $row, $run, $subject;
                a_new_space_holds_nothing,
                create_keeps_what_is_there,
                insert_keeps_every_field,
                insert_of_an_existing_name_adds_nothing,
                update_replaces_every_field,
                update_of_a_missing_name_changes_nothing,
                delete_passes_over_what_is_not_there,
                select_answers_in_the_order_asked,
                list_pages_in_order_whatever_the_limits,
                list_goes_on_after_a_name_that_is_gone,
                drop_removes_all_and_may_be_repeated,
                empty_lists_change_nothing,
                a_transaction_sees_its_own_writes,
                a_forgotten_transaction_leaves_nothing,
                huge_rows_come_back_whole,
                check_of_a_sound_store_finds_nothing,
                a_failing_host_is_reported_and_leaves_nothing,
            );
        }
    };
    (@ $row:ty, $run:path, $subject:expr; $($case:ident),* $(,)?) => {$(
        #[test]
        fn $case() {
            $run($crate::testing::contract::records::$case::<$row, _>(&$subject));
        }
    )*};
}

/// The records of these numbers.
fn samples<R: Sample>(numbers: impl IntoIterator<Item = u32>) -> Vec<R> {
    numbers.into_iter().map(R::sample).collect()
}

fn names<R: Record>(rows: &[R]) -> Vec<R::Name> {
    rows.iter().map(R::name).collect()
}

/// A subject that holds these rows.
async fn holding<R: Sample, S: RecordSubject<R>>(subject: &S, rows: Vec<R>) {
    let txn = subject.begin();
    subject.create(&txn).await.expect("create");
    subject.insert(&txn, rows).await.expect("insert");
    subject.commit(txn).await;
}

/// All rows, page by page; each page keeps its promises.
async fn pages<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    txn: Option<&S::Txn>,
    mut after: Option<R::Name>,
    limit: u32,
) -> Result<Vec<R>> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = subject.list(txn, after, limit).await?;
        assert!(page.rows.len() <= limit as usize, "more rows than {limit}");
        assert!(!page.more || !page.rows.is_empty(), "more to come, and nothing here");
        after = page.rows.last().map(R::name);
        all.extend(page.rows);
        if !page.more {
            return Ok(all);
        }
    }
    panic!("the list never ends");
}

/// Compares the whole state with what it should be.
async fn expect<R: Sample, S: RecordSubject<R>>(subject: &S, rows: &[R]) {
    let all = pages(subject, None, None, 4096).await.expect("list");
    assert_eq!(all, rows);
}

/// `[*.list.3]`, `[store.rule.13]`: reading what is not there is no error.
pub async fn a_new_space_holds_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, Vec::new()).await;
    expect(subject, &[]).await;
    let found = subject.select(None, vec![R::sample(1).name()]).await.expect("select");
    assert_eq!(found, [None]);
}

/// `[*.create.1]`
pub async fn create_keeps_what_is_there<R: Sample, S: RecordSubject<R>>(subject: &S) {
    let rows = samples::<R>(0..3);
    holding(subject, rows.clone()).await;
    holding(subject, Vec::new()).await;
    expect(subject, &rows).await;
}

/// `[store.rule.7]`, `[types.property.1]`, `[store.rule.11]`
pub async fn insert_keeps_every_field<R: Sample, S: RecordSubject<R>>(subject: &S) {
    let rows: Vec<R> =
        (0..9).map(|n| if n % 2 == 0 { R::sample(n) } else { R::sample(n).changed(n) }).collect();
    holding(subject, rows.clone()).await;
    expect(subject, &rows).await;
    let found = subject.select(None, names(&rows)).await.expect("select");
    assert_eq!(found, rows.into_iter().map(Some).collect::<Vec<_>>());
}

/// `[*.insert.1]`
pub async fn insert_of_an_existing_name_adds_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>([2])).await;
    let txn = subject.begin();
    let refused = subject.insert(&txn, samples::<R>([1, 2, 3])).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists(_))), "{refused:?}");
    let seen = subject.select(Some(&txn), names(&samples::<R>([1, 2, 3]))).await.expect("select");
    assert_eq!(seen, [None, Some(R::sample(2)), None]);
    drop(txn);
    expect(subject, &samples::<R>([2])).await;
}

/// `[*.update.1]`
pub async fn update_replaces_every_field<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>(0..6)).await;
    let mut rows = samples::<R>(0..6);
    for number in [1, 4] {
        rows[number as usize] = R::sample(number).changed(number);
    }
    let txn = subject.begin();
    subject.update(&txn, vec![rows[4].clone(), rows[1].clone()]).await.expect("update");
    subject.commit(txn).await;
    expect(subject, &rows).await;
}

/// `[*.update.2]`
pub async fn update_of_a_missing_name_changes_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>([1])).await;
    let txn = subject.begin();
    let rows = vec![R::sample(1).changed(1), R::sample(2)];
    let refused = subject.update(&txn, rows).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    let seen = subject.select(Some(&txn), names(&samples::<R>([1, 2]))).await.expect("select");
    assert_eq!(seen, [Some(R::sample(1)), None]);
}

/// `[*.delete.1]`
pub async fn delete_passes_over_what_is_not_there<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>(0..4)).await;
    for _ in 0..2 {
        let txn = subject.begin();
        let gone = names(&samples::<R>([2, 9, 0]));
        subject.delete(&txn, gone).await.expect("delete");
        subject.commit(txn).await;
        expect(subject, &samples::<R>([1, 3])).await;
    }
    holding(subject, samples::<R>([2])).await;
    expect(subject, &samples::<R>([1, 2, 3])).await;
}

/// `[*.select.1]`, `[*.select.2]`
pub async fn select_answers_in_the_order_asked<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>(0..4)).await;
    let asked = names(&samples::<R>([3, 7, 0, 3]));
    let found = subject.select(None, asked).await.expect("select");
    let [three, zero] = [3, 0].map(|n| Some(R::sample(n)));
    assert_eq!(found, [three.clone(), None, zero, three]);
}

/// `[*.list.1]`, `[*.list.3]`, `[*.page.1]`
pub async fn list_pages_in_order_whatever_the_limits<R: Sample, S: RecordSubject<R>>(subject: &S) {
    let rows = samples::<R>(0..25);
    let mixed = (0..25).map(|n| R::sample(n * 7 % 25)).collect();
    holding(subject, mixed).await;
    for scan in [1, 3, 4096] {
        subject.set(short_scans(scan));
        for limit in [1, 2, 24, 25, 26, 4096] {
            assert_eq!(pages(subject, None, None, limit).await.expect("list"), rows);
        }
        for number in 0..25 {
            let rest = pages(subject, None, Some(R::sample(number).name()), 4).await;
            assert_eq!(rest.expect("list"), rows[number as usize + 1..]);
        }
    }
    subject.set(short_scans(4096));
}

/// `[*.list.2]`
pub async fn list_goes_on_after_a_name_that_is_gone<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>([1, 3, 5])).await;
    for (after, rest) in [(0, &[1, 3, 5][..]), (2, &[3, 5]), (4, &[5]), (6, &[])] {
        let page = subject.list(None, Some(R::sample(after).name()), 10).await.expect("list");
        assert_eq!(page.rows, samples::<R>(rest.iter().copied()));
        assert!(!page.more);
    }
}

/// `[*.drop.1]`, `[*.drop.2]`, `[*.drop.3]`
pub async fn drop_removes_all_and_may_be_repeated<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>(0..20)).await;
    for _ in 0..2 {
        let txn = subject.begin();
        subject.drop(&txn).await.expect("drop");
        subject.commit(txn).await;
        expect::<R, S>(subject, &[]).await;
    }
    holding(subject, samples::<R>(5..8)).await;
    expect(subject, &samples::<R>(5..8)).await;
}

/// `[store.rule.8]`
pub async fn empty_lists_change_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>(0..2)).await;
    let txn = subject.begin();
    subject.insert(&txn, Vec::new()).await.expect("insert");
    subject.update(&txn, Vec::new()).await.expect("update");
    subject.delete(&txn, Vec::new()).await.expect("delete");
    subject.commit(txn).await;
    assert_eq!(subject.select(None, Vec::new()).await.expect("select"), []);
    expect(subject, &samples::<R>(0..2)).await;
}

/// `[storage.view.2]`, `[storage.txn.4]`
pub async fn a_transaction_sees_its_own_writes<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>([0, 1, 2])).await;
    let txn = subject.begin();
    subject.delete(&txn, vec![R::sample(1).name()]).await.expect("delete");
    subject.insert(&txn, samples::<R>([3])).await.expect("insert");
    subject.insert(&txn, vec![R::sample(1).changed(1)]).await.expect("insert what was deleted");
    subject.update(&txn, vec![R::sample(3).changed(3)]).await.expect("update what was inserted");
    let rows = vec![R::sample(0), R::sample(1).changed(1), R::sample(2), R::sample(3).changed(3)];
    assert_eq!(pages(subject, Some(&txn), None, 2).await.expect("list"), rows);
    expect(subject, &samples::<R>([0, 1, 2])).await;
    subject.commit(txn).await;
    expect(subject, &rows).await;
}

/// `[store.rule.1]`, `[store.rule.5]`, `[storage.txn.2]`, `[storage.txn.3]`
pub async fn a_forgotten_transaction_leaves_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) {
    holding(subject, samples::<R>(0..3)).await;
    for _ in 0..2 {
        let txn = subject.begin();
        subject.insert(&txn, samples::<R>([7])).await.expect("insert");
        subject.update(&txn, vec![R::sample(0).changed(0)]).await.expect("update");
        subject.delete(&txn, vec![R::sample(1).name()]).await.expect("delete");
        drop(txn);
        expect(subject, &samples::<R>(0..3)).await;
    }
    let txn = subject.begin();
    subject.drop(&txn).await.expect("drop");
    drop(txn);
    expect(subject, &samples::<R>(0..3)).await;
}

/// `[store.rule.12]`: the longest names, and a row of some 200 KiB.
pub async fn huge_rows_come_back_whole<R: Sample, S: RecordSubject<R>>(subject: &S) {
    let rows = vec![R::sample(1), R::huge()];
    holding(subject, rows.clone()).await;
    let found = subject.select(None, names(&rows)).await.expect("select");
    assert_eq!(found, rows.iter().cloned().map(Some).collect::<Vec<_>>());
    let mut listed = pages(subject, None, None, 1).await.expect("list");
    listed.sort_by_key(|row| row.name() == R::huge().name());
    assert_eq!(listed, rows);
}

/// `[*.check.1]`, `[*.check.2]`, `[*.check.3]`
pub async fn check_of_a_sound_store_finds_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) {
    let rows = samples::<R>(0..30);
    holding(subject, rows.clone()).await;
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
        assert!(checked >= rows.len() as u64, "{checked} checked");
    }
    expect(subject, &rows).await;
}

/// `[storage.txn.2]`: whichever capability call fails, the call says `unavailable`, and without the
/// failure the same operation succeeds.
pub async fn a_failing_host_is_reported_and_leaves_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) {
    holding(subject, samples::<R>(0..3)).await;
    for calls in 0.. {
        let txn = subject.begin();
        subject.set(failing(calls));
        let outcome = operation(subject, &txn).await;
        subject.set(short_scans(4096));
        match outcome {
            Err(StoreError::Unavailable(_)) => {
                drop(txn);
                expect(subject, &samples::<R>(0..3)).await;
            }
            Err(other) => panic!("{other:?} after {calls} calls"),
            Ok(()) => {
                subject.commit(txn).await;
                break;
            }
        }
    }
    expect(subject, &[R::sample(0).changed(0), R::sample(2), R::sample(3)]).await;
}

async fn operation<R: Sample, S: RecordSubject<R>>(subject: &S, txn: &S::Txn) -> Result<()> {
    subject.create(txn).await?;
    subject.insert(txn, samples::<R>([3])).await?;
    subject.update(txn, vec![R::sample(0).changed(0)]).await?;
    subject.delete(txn, vec![R::sample(1).name()]).await?;
    subject.select(Some(txn), vec![R::sample(0).name()]).await?;
    subject.list(Some(txn), None, 10).await?;
    subject.check(txn, None, true).await?;
    Ok(())
}
