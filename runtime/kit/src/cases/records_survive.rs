//! Cases for stores of domains, users and mailboxes, while things go wrong.

use super::leaving_no_handles;
use super::random::{self, Faults};
use super::records::{expect, expect_selected, holding, names, pages, samples};
use super::trouble::{Trouble, When, at_each_call, meetings, succeeded};
use crate::error::Result;
use crate::sample::Sample;
use crate::subject::RecordSubject;
use crate::verdict::{Verdict, done, holds, same_rows};

/// One call of each function.
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

/// The rows after [`operation`] on the first three samples.
fn after_operation<R: Sample>() -> Vec<R> {
    vec![R::sample(0).changed(0), R::sample(2), R::sample(3)]
}

/// Holds a store to `operation` with trouble at each of its capability calls.
async fn in_trouble<R: Sample, S: RecordSubject<R>>(subject: &S, trouble: Trouble) -> Verdict {
    holding(subject, "store.rule.7", samples::<R>(0..3)).await?;
    let there = async |promise, when| match when {
        When::Before => expect(subject, promise, &samples::<R>(0..3)).await,
        When::After => expect(subject, promise, &after_operation::<R>()).await,
    };
    at_each_call(subject, trouble, async |txn: &S::Txn| operation(subject, txn).await, there).await
}

/// With every function that writes.
pub async fn a_forgotten_transaction_leaves_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    const NOTHING: &str = "store.rule.5";
    holding(subject, NOTHING, samples::<R>(0..3)).await?;
    for promise in [NOTHING, "storage.txn.3"] {
        let txn = subject.begin();
        done(promise, "insert", subject.insert(&txn, samples::<R>([7])).await)?;
        let changed = vec![R::sample(0).changed(0)];
        done(promise, "update", subject.update(&txn, changed).await)?;
        done(promise, "delete", subject.delete(&txn, vec![R::sample(1).name()]).await)?;
        drop(txn);
        expect(subject, promise, &samples::<R>(0..3)).await?;
    }
    let txn = subject.begin();
    done(NOTHING, "drop", subject.drop(&txn).await)?;
    drop(txn);
    expect(subject, NOTHING, &samples::<R>(0..3)).await
}

/// From the first capability call to the last.
pub async fn a_failing_host_is_reported_and_leaves_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    in_trouble(subject, Trouble::Failure).await
}

/// As when its time is over.
pub async fn an_operation_that_is_given_up_leaves_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    in_trouble(subject, Trouble::GivenUp).await
}

/// And with it what it remembered.
pub async fn a_lost_instance_leaves_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    in_trouble(subject, Trouble::Lost).await
}

/// By calls that succeed, and by such as are refused.
pub async fn handles_are_let_go<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    const LETS_GO: &str = "store.rule.4";
    holding(subject, LETS_GO, samples::<R>(0..3)).await?;
    let round = async || {
        let txn = subject.begin();
        succeeded(LETS_GO, operation(subject, &txn).await)?;
        let refused = subject.insert(&txn, samples::<R>([0])).await;
        holds("insert.1", refused.is_err(), || "inserted over a row that is there".into())?;
        let refused = subject.update(&txn, samples::<R>([8])).await;
        holds("update.2", refused.is_err(), || "updated a missing row".into())?;
        expect(subject, LETS_GO, &samples::<R>(0..3)).await?;
        let asked = names(&samples::<R>([8]));
        expect_selected(subject, None, LETS_GO, asked, &[None]).await
    };
    leaving_no_handles(subject, round).await
}

/// Also within an operation, whose transaction is the host's.
pub async fn a_restart_loses_nothing<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    const LASTS: &str = "store.rule.1";
    holding(subject, LASTS, samples::<R>(0..3)).await?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    expect(subject, LASTS, &samples::<R>(0..3)).await?;
    let txn = subject.begin();
    done(LASTS, "insert", subject.insert(&txn, samples::<R>([3])).await)?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    let changed = vec![R::sample(0).changed(0)];
    done(LASTS, "update", subject.update(&txn, changed).await)?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    done(LASTS, "delete", subject.delete(&txn, vec![R::sample(1).name()]).await)?;
    done(LASTS, "the commit", subject.commit(txn).await)?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    expect(subject, LASTS, &after_operation::<R>()).await
}

/// Neither may trust what it remembers.
pub async fn two_instances_see_each_others_writes<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    const CACHE: &str = "store.rule.2";
    holding(subject, CACHE, samples::<R>(0..3)).await?;
    let mut rows = samples::<R>(0..3);
    expect(subject, CACHE, &rows).await?;
    for number in 0..6 {
        done(CACHE, "another instance", subject.other_instance().await)?;
        expect(subject, CACHE, &rows).await?;
        let txn = subject.begin();
        let (first, last) = (rows.remove(0), R::sample(number + 3));
        done(CACHE, "delete", subject.delete(&txn, vec![first.name()]).await)?;
        done(CACHE, "insert", subject.insert(&txn, vec![last.clone()]).await)?;
        rows[0] = rows[0].changed(number);
        done(CACHE, "update", subject.update(&txn, vec![rows[0].clone()]).await)?;
        done(CACHE, "the commit", subject.commit(txn).await)?;
        rows.push(last);
        expect(subject, CACHE, &rows).await?;
    }
    Ok(())
}

/// Reads and operations that are not committed, all of which have to meet.
pub async fn calls_run_beside_each_other<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    const BESIDE: &str = "store.rule.3";
    let before = samples::<R>(0..3);
    holding(subject, BESIDE, before.clone()).await?;
    let reads = async |limit| {
        let listed = pages(subject, None, None, limit).await?;
        same_rows(BESIDE, "list", &listed, &before)?;
        let asked = names(&samples::<R>([2, 7, 0]));
        let expected = [Some(R::sample(2)), None, Some(R::sample(0))];
        expect_selected(subject, None, BESIDE, asked, &expected).await
    };
    let writes = async || {
        let txn = subject.begin();
        succeeded(BESIDE, operation(subject, &txn).await)
    };
    meetings(subject, reads, writes).await?;
    let txn = subject.begin();
    succeeded(BESIDE, operation(subject, &txn).await)?;
    done(BESIDE, "the commit", subject.commit(txn).await)?;
    expect(subject, BESIDE, &after_operation::<R>()).await
}

/// With capability calls that fail or are held, and instances that are lost.
pub async fn random_operations_survive_a_failing_host<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    random::records(subject, &mut subject.rng(), random::STEPS, Faults::Any).await
}
