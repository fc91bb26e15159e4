//! Cases for stores of domains, users and mailboxes, while nothing goes wrong. What each does and
//! covers stands in the [table](super::table).

use std::convert::Infallible;

use super::random::{self, Faults};
use super::{MAX_PAGES, MAX_ROWS, check_to_the_end};
use crate::error::StoreError;
use crate::records::Record;
use crate::sample::Sample;
use crate::subject::{Knobs, RecordSubject};
use crate::verdict::{Verdict, answer, broken, done, holds, only_reads, same, same_rows, shown};

record_cases!([table] { CASES, run, [R: Sample, S: RecordSubject<R>], S });

/// What was inserted is what is there.
const KEPT: &str = "store.rule.7";

/// The records of these numbers.
pub(super) fn samples<R: Sample>(numbers: impl IntoIterator<Item = u32>) -> Vec<R> {
    numbers.into_iter().map(R::sample).collect()
}

pub(super) fn names<R: Record>(rows: &[R]) -> Vec<R::Name> {
    rows.iter().map(R::name).collect()
}

/// Prepares the space and inserts these rows, which are there then: where that fails already, the
/// promise of the case is not to blame.
pub(super) async fn holding<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    promise: &'static str,
    rows: Vec<R>,
) -> Verdict {
    insert(subject, promise, rows.clone()).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let found = done(KEPT, "select", subject.select(None, names(&rows)).await)?;
    let rows: Vec<_> = rows.into_iter().map(Some).collect();
    same_rows(KEPT, "select of what was inserted", &found, &rows)?;
    let listed = pages(subject, None, None, 4096).await?;
    let lost = found.into_iter().flatten().find(|row| !listed.contains(row));
    holds("list.1", lost.is_none(), || format!("list does not answer {}", shown(&lost)))
}

/// Prepares the space and inserts these rows. Where the store only reads, the case ends here.
pub(super) async fn insert<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    promise: &'static str,
    rows: Vec<R>,
) -> Verdict {
    if rows.is_empty() {
        return prepare(subject, promise).await;
    }
    let txn = subject.begin();
    let created = subject.create(&txn).await;
    let inserted = subject.insert(&txn, rows).await;
    if let Err(StoreError::Unsupported(why)) = &inserted {
        drop(txn);
        match refuses_writes(subject, why).await? {}
    }
    done("create.1", "create", created)?;
    done(promise, "insert", inserted)?;
    done(promise, "the commit", subject.commit(txn).await)
}

/// Prepares the space. A directory that others keep is there already.
async fn prepare<R: Sample, S: RecordSubject<R>>(subject: &S, promise: &'static str) -> Verdict {
    let txn = subject.begin();
    match subject.create(&txn).await {
        Err(StoreError::Unsupported(_)) => Ok(()),
        outcome => {
            done(promise, "create", outcome)?;
            done(promise, "the commit", subject.commit(txn).await)
        }
    }
}

/// A store that refuses inserts for this reason refuses all writes. Of a name that is not there,
/// because the rows are somebody's; nothing is dropped, for the same reason.
async fn refuses_writes<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    why: &str,
) -> Verdict<Infallible> {
    let (txn, nobody) = (subject.begin(), R::sample(4_000_000));
    let update = subject.update(&txn, vec![nobody.clone()]).await;
    let delete = subject.delete(&txn, vec![nobody.name()]).await;
    let again = subject.insert(&txn, vec![nobody]).await;
    let (update, delete) = (("update.1", "update", update), ("delete.1", "delete", delete));
    only_reads(why, [update, delete, ("insert.1", "another insert", again)])
}

/// All rows, page by page; each page keeps its promises, and they come to an end.
pub(super) async fn pages<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    txn: Option<&S::Txn>,
    after: Option<R::Name>,
    limit: u32,
) -> Verdict<Vec<R>> {
    let rows = first_pages(subject, txn, after, limit).await?;
    let count = rows.len();
    holds("list.1", count <= MAX_ROWS, || {
        format!("the list never ends: it has more than {count} rows")
    })?;
    Ok(rows)
}

/// As [`pages`], of a directory in which there may be any number of rows: those of the first pages.
async fn first_pages<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    txn: Option<&S::Txn>,
    mut after: Option<R::Name>,
    limit: u32,
) -> Verdict<Vec<R>> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = done("list.1", "list", subject.list(txn, after.clone(), limit).await)?;
        let count = page.rows.len();
        holds("list.3", count <= limit as usize, || format!("{count} rows, the limit is {limit}"))?;
        holds("page.1", !page.more || count > 0, || "more to come, and nothing here".into())?;
        for row in &page.rows {
            let name = row.name();
            holds("list.1", after.as_ref().is_none_or(|last| *last < name), || {
                format!("list answers {} after {}", shown(&name), shown(&after))
            })?;
            after = Some(name);
        }
        all.extend(page.rows);
        if !page.more || all.len() > MAX_ROWS {
            return Ok(all);
        }
    }
    broken("list.1", format!("the list has more than {MAX_PAGES} pages"))
}

/// Compares the whole committed state with what it should be.
pub(super) async fn expect<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    promise: &'static str,
    rows: &[R],
) -> Verdict {
    let all = pages(subject, None, None, 4096).await?;
    same_rows(promise, "list", &all, rows)
}

/// Compares what a select answers with what it should.
pub(super) async fn expect_selected<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    txn: Option<&S::Txn>,
    promise: &'static str,
    names: Vec<R::Name>,
    expected: &[Option<R>],
) -> Verdict {
    let found = done(promise, "select", subject.select(txn, names).await)?;
    same_rows(promise, "select", &found, expected)
}

/// Checks to the end; how many records were looked at and what was found.
pub(super) async fn check_all<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    promise: &'static str,
    repair: bool,
) -> Verdict<(u64, Vec<String>)> {
    let check = async |txn: &S::Txn, after| subject.check(txn, after, repair).await;
    check_to_the_end(subject, promise, check).await
}

/// Before anything is written.
pub async fn reads_answer_whatever_is_there<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    prepare(subject, "create.1").await?;
    let name = R::sample(4_000_000).name();
    expect_selected(subject, None, "store.rule.13", vec![name], &[None]).await?;
    first_pages(subject, None, None, 7).await?;
    let (_, found) = check_all(subject, "check.3", false).await?;
    same("check.3", "what a check finds where nothing was written", &found, &Vec::new())
}

/// Reading what is not there is no error.
pub async fn a_new_space_holds_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    holding(subject, "list.3", Vec::new()).await?;
    let all = first_pages(subject, None, None, 4096).await?;
    if !all.is_empty() {
        // Rows that others keep, where the store only reads; everywhere else it has made them up.
        insert(subject, "list.3", samples::<R>([1])).await?;
    }
    same_rows("list.3", "list", &all, &[])?;
    let name = R::sample(1).name();
    expect_selected(subject, None, "store.rule.13", vec![name], &[None]).await
}

/// Nothing in, nothing out.
pub async fn empty_lists_change_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    const RULE: &str = "store.rule.8";
    holding(subject, RULE, samples::<R>(0..2)).await?;
    let txn = subject.begin();
    done(RULE, "insert", subject.insert(&txn, Vec::new()).await)?;
    done(RULE, "update", subject.update(&txn, Vec::new()).await)?;
    done(RULE, "delete", subject.delete(&txn, Vec::new()).await)?;
    done(RULE, "the commit", subject.commit(txn).await)?;
    expect_selected(subject, None, RULE, Vec::new(), &[]).await?;
    expect(subject, RULE, &samples::<R>(0..2)).await
}

/// A second `create` does no harm.
pub async fn create_keeps_what_is_there<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    let rows = samples::<R>(0..3);
    holding(subject, "create.1", rows.clone()).await?;
    let txn = subject.begin();
    done("create.1", "create", subject.create(&txn).await)?;
    done("create.1", "the commit", subject.commit(txn).await)?;
    expect(subject, "create.1", &rows).await
}

/// Also of properties that the store does not know.
pub async fn insert_keeps_every_field<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    let rows: Vec<R> =
        (0..9).map(|n| if n % 2 == 0 { R::sample(n) } else { R::sample(n).changed(n) }).collect();
    insert(subject, KEPT, rows.clone()).await?;
    expect(subject, KEPT, &rows).await?;
    let expected: Vec<_> = rows.iter().cloned().map(Some).collect();
    expect_selected(subject, None, KEPT, names(&rows), &expected).await
}

/// All or none.
pub async fn insert_of_an_existing_name_adds_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    holding(subject, "insert.1", samples::<R>([2])).await?;
    let txn = subject.begin();
    let refused = subject.insert(&txn, samples::<R>([1, 2, 3])).await;
    holds("insert.1", matches!(refused, Err(StoreError::AlreadyExists(_))), || {
        format!("insert of a name that is there answers {}", answer(&refused))
    })?;
    let asked = names(&samples::<R>([1, 2, 3]));
    let expected = [None, Some(R::sample(2)), None];
    expect_selected(subject, Some(&txn), "insert.1", asked, &expected).await?;
    drop(txn);
    expect(subject, "insert.1", &samples::<R>([2])).await
}

/// In whatever order they come.
pub async fn update_replaces_every_field<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    holding(subject, "update.1", samples::<R>(0..6)).await?;
    let mut rows = samples::<R>(0..6);
    for number in [1, 4] {
        rows[number as usize] = R::sample(number).changed(number);
    }
    let txn = subject.begin();
    let changed = vec![rows[4].clone(), rows[1].clone()];
    done("update.1", "update", subject.update(&txn, changed).await)?;
    done("update.1", "the commit", subject.commit(txn).await)?;
    expect(subject, "update.1", &rows).await
}

/// All or none.
pub async fn update_of_a_missing_name_changes_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    holding(subject, "update.2", samples::<R>([1])).await?;
    let txn = subject.begin();
    let refused = subject.update(&txn, vec![R::sample(1).changed(1), R::sample(2)]).await;
    holds("update.2", matches!(refused, Err(StoreError::NotFound(_))), || {
        format!("update of a name that is missing answers {}", answer(&refused))
    })?;
    let asked = names(&samples::<R>([1, 2]));
    let expected = [Some(R::sample(1)), None];
    expect_selected(subject, Some(&txn), "update.2", asked, &expected).await
}

/// And what is deleted may come back.
pub async fn delete_passes_over_what_is_not_there<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    holding(subject, "delete.1", samples::<R>(0..4)).await?;
    for _ in 0..2 {
        let txn = subject.begin();
        let gone = names(&samples::<R>([2, 9, 0]));
        done("delete.1", "delete", subject.delete(&txn, gone).await)?;
        done("delete.1", "the commit", subject.commit(txn).await)?;
        expect(subject, "delete.1", &samples::<R>([1, 3])).await?;
    }
    holding(subject, "delete.1", samples::<R>([2])).await?;
    expect(subject, "delete.1", &samples::<R>([1, 2, 3])).await
}

/// Out of order, twice, missing.
pub async fn select_answers_in_the_order_asked<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    holding(subject, "select.1", samples::<R>(0..4)).await?;
    let [three, zero] = [3, 0].map(|n| Some(R::sample(n)));
    let asked = names(&samples::<R>([3, 7, 0]));
    expect_selected(subject, None, "select.1", asked, &[three.clone(), None, zero.clone()]).await?;
    let asked = names(&samples::<R>([3, 0, 3]));
    expect_selected(subject, None, "select.2", asked, &[three.clone(), zero, three]).await
}

/// With scans of the host that are shorter than the page.
pub async fn list_pages_in_order_whatever_the_limits<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    let rows = samples::<R>(0..25);
    holding(subject, "list.1", (0..25).map(|n| R::sample(n * 7 % 25)).collect()).await?;
    for scan in [1, 3, 4096] {
        subject.set(Knobs::short_scans(scan));
        for limit in [1, 2, 24, 25, 26, 4096] {
            let all = pages(subject, None, None, limit).await?;
            same_rows("list.1", &format!("list by {limit}"), &all, &rows)?;
        }
        for number in 0..25 {
            let rest = pages(subject, None, Some(R::sample(number).name()), 4).await?;
            same_rows("list.1", "list after a row", &rest, &rows[number as usize + 1..])?;
        }
    }
    subject.set(Knobs::EASY);
    Ok(())
}

/// The name to go on after need not be there.
pub async fn list_goes_on_after_a_name_that_is_gone<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    holding(subject, "list.2", samples::<R>([1, 3, 5])).await?;
    for (after, rest) in [(0, &[1, 3, 5][..]), (2, &[3, 5]), (4, &[5]), (6, &[])] {
        let name = Some(R::sample(after).name());
        let all = pages(subject, None, name, 10).await?;
        same_rows("list.2", "list", &all, &samples::<R>(rest.iter().copied()))?;
    }
    Ok(())
}

/// And the space can be used again.
pub async fn drop_removes_all_and_may_be_repeated<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    holding(subject, "drop.1", samples::<R>(0..20)).await?;
    for promise in ["drop.1", "drop.3"] {
        let txn = subject.begin();
        done(promise, "drop", subject.drop(&txn).await)?;
        done(promise, "the commit", subject.commit(txn).await)?;
        expect::<R, S>(subject, promise, &[]).await?;
    }
    let txn = subject.begin();
    let inserted = subject.insert(&txn, samples::<R>(5..8)).await;
    done("drop.2", "insert after drop, without create,", inserted)?;
    done("drop.2", "the commit", subject.commit(txn).await)?;
    expect(subject, "drop.2", &samples::<R>(5..8)).await
}

/// In the order in which they were made; nobody else sees them.
pub async fn a_transaction_sees_its_own_writes<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    const OWN: &str = "storage.view.2";
    holding(subject, OWN, samples::<R>([0, 1, 2])).await?;
    let txn = subject.begin();
    done(OWN, "delete", subject.delete(&txn, vec![R::sample(1).name()]).await)?;
    done(OWN, "insert", subject.insert(&txn, samples::<R>([3])).await)?;
    let again = vec![R::sample(1).changed(1)];
    done(OWN, "insert of what was deleted", subject.insert(&txn, again).await)?;
    let changed = vec![R::sample(3).changed(3)];
    done(OWN, "update of what was inserted", subject.update(&txn, changed).await)?;
    let rows = vec![R::sample(0), R::sample(1).changed(1), R::sample(2), R::sample(3).changed(3)];
    let seen = pages(subject, Some(&txn), None, 2).await?;
    same_rows(OWN, "list in the transaction", &seen, &rows)?;
    expect(subject, OWN, &samples::<R>([0, 1, 2])).await?;
    done(OWN, "the commit", subject.commit(txn).await)?;
    expect(subject, "storage.txn.4", &rows).await
}

/// The longest names, and a row of some 200 KiB.
pub async fn huge_rows_come_back_whole<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    const RULE: &str = "store.rule.12";
    let rows = vec![R::sample(1), R::huge()];
    insert(subject, RULE, rows.clone()).await?;
    let expected: Vec<_> = rows.iter().cloned().map(Some).collect();
    expect_selected(subject, None, RULE, names(&rows), &expected).await?;
    let mut listed = pages(subject, None, None, 1).await?;
    listed.sort_by_key(|row| row.name() == R::huge().name());
    same_rows(RULE, "list", &listed, &rows)
}

/// With and without repair, while the host's own scans are long or short.
pub async fn check_of_a_sound_store_finds_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    let rows = samples::<R>(0..30);
    holding(subject, "check.2", rows.clone()).await?;
    for (repair, scan) in [(false, 4096), (true, 4096), (true, 4)] {
        subject.set(Knobs::short_scans(scan));
        let (checked, found) = check_all(subject, "check.3", repair).await?;
        same("check.2", "what a check of sound rows finds", &found, &Vec::new())?;
        holds("check.3", checked >= rows.len() as u64, || {
            format!("a check of {} rows has looked at {checked}", rows.len())
        })?;
    }
    subject.set(Knobs::EASY);
    expect(subject, "check.2", &rows).await
}

/// While nothing goes wrong.
pub async fn random_operations_agree_with_the_model<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    random::records(subject, &mut subject.rng(), random::STEPS, Faults::None).await
}
