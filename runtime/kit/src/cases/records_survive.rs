//! Cases for stores of domains, users and mailboxes, while things go wrong.

use std::future::Future;
use std::pin::Pin;

use super::random::{self, Faults};
use super::records::{expect, holding, pages, samples};
use super::{MAX_PAGES, together, until_held};
use crate::error::{Result, StoreError};
use crate::sample::Sample;
use crate::subject::{Fault, Knobs, RecordSubject};
use crate::verdict::{Verdict, answer, broken, done, same_rows};

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

/// The operation's answer where nothing failed.
pub(super) fn succeeded(promise: &'static str, outcome: Result<()>) -> Verdict {
    done(promise, "an operation without a fault", outcome)
}

/// The operation's answer where its capability call of this number has failed.
pub(super) fn reported(calls: u32, outcome: &Result<()>) -> Verdict {
    if matches!(outcome, Err(StoreError::Unavailable(_))) {
        return Ok(());
    }
    let said = answer(outcome);
    let what = format!("capability call {calls} failed, and the operation answers {said}");
    broken("storage.storage-error.1", what)
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
    const FAILS: &str = "storage.storage-error.1";
    holding(subject, FAILS, samples::<R>(0..3)).await?;
    for calls in 0..MAX_PAGES as u32 {
        let txn = subject.begin();
        subject.set(Knobs::fault(calls, Fault::Fail));
        let outcome = operation(subject, &txn).await;
        let met = subject.met();
        subject.set(Knobs::EASY);
        if !met {
            succeeded(FAILS, outcome)?;
            done(FAILS, "the commit", subject.commit(txn).await)?;
            return expect(subject, FAILS, &after_operation::<R>()).await;
        }
        reported(calls, &outcome)?;
        drop(txn);
        expect(subject, "storage.txn.2", &samples::<R>(0..3)).await?;
    }
    broken(FAILS, "the operation never comes to an end")
}

/// As when its time is over.
pub async fn an_operation_that_is_given_up_leaves_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    interrupted(subject, "store.rule.5", false).await
}

/// And with it what it remembered.
pub async fn a_lost_instance_leaves_nothing<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    interrupted(subject, "store.rule.1", true).await
}

/// Gives the operation up at each of its capability calls, and loses the instance where `lost`.
async fn interrupted<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    promise: &'static str,
    lost: bool,
) -> Verdict {
    holding(subject, promise, samples::<R>(0..3)).await?;
    for calls in 0..MAX_PAGES as u32 {
        let txn = subject.begin();
        subject.set(Knobs::fault(calls, Fault::Hold));
        let outcome = until_held(subject, operation(subject, &txn)).await;
        let met = subject.met();
        if met && lost {
            done(promise, "a fresh instance", subject.restart().await)?;
        }
        subject.set(Knobs::EASY);
        if let (Some(outcome), false) = (outcome, met) {
            succeeded(promise, outcome)?;
            done(promise, "the commit", subject.commit(txn).await)?;
            return expect(subject, promise, &after_operation::<R>()).await;
        }
        drop(txn);
        expect(subject, promise, &samples::<R>(0..3)).await?;
    }
    broken(promise, "the operation never comes to an end")
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

/// Reads beside a write that is not committed, and beside each other.
pub async fn calls_run_beside_each_other<R: Sample, S: RecordSubject<R>>(subject: &S) -> Verdict {
    const BESIDE: &str = "store.rule.3";
    type Calls<'a, R> = Vec<Pin<Box<dyn Future<Output = Verdict<Vec<R>>> + 'a>>>;
    let before = samples::<R>(0..3);
    holding(subject, BESIDE, before.clone()).await?;
    let txn = subject.begin();
    let write = async {
        succeeded(BESIDE, operation(subject, &txn).await)?;
        Ok(before.clone())
    };
    let mut calls: Calls<'_, R> = vec![Box::pin(write)];
    for limit in 1..=16 {
        calls.push(Box::pin(pages(subject, None, None, limit)));
    }
    for answer in together(calls).await {
        same_rows(BESIDE, "list beside an operation", &answer?, &before)?;
    }
    done(BESIDE, "the commit", subject.commit(txn).await)?;
    expect(subject, BESIDE, &after_operation::<R>()).await
}

/// With capability calls that fail or are held, and instances that are lost.
pub async fn random_operations_survive_a_failing_host<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    random::records(subject, &mut subject.rng(), random::STEPS, Faults::Any).await
}
