//! Cases for stores of messages, while things go wrong.

use std::future::Future;
use std::pin::Pin;

use super::messages::{
    BOX, NEXT, expect, expect_octets, flagged, holding, new, octets, pages, place, row, rows,
};
use super::random::{self, Faults};
use super::records_survive::{reported, succeeded};
use super::{MAX_PAGES, together, until_held};
use crate::error::Result;
use crate::records::Message;
use crate::sample::change;
use crate::subject::{Fault, Knobs, MessageSubject};
use crate::verdict::{Verdict, broken, done, same_rows};

/// One call of each function.
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

/// The messages after [`operation`] on the first two.
fn after_operation() -> Vec<Message> {
    vec![flagged(row(BOX, 1), &["a"]), row(BOX, 3)]
}

/// Also an operation that is done again after it came to nothing.
pub async fn a_forgotten_transaction_leaves_nothing<S: MessageSubject>(subject: &S) -> Verdict {
    const NOTHING: &str = "store.rule.5";
    holding(subject, NOTHING, BOX, [1, 2]).await?;
    for last in [false, false, true] {
        let txn = subject.begin();
        done("outside.1", "insert", subject.insert(&txn, vec![new(BOX, 3)]).await)?;
        let changed = change(&flagged(row(BOX, 1), &["a"]));
        done(NOTHING, "update", subject.update(&txn, vec![changed]).await)?;
        done(NOTHING, "delete", subject.delete(&txn, vec![place(BOX, 2)]).await)?;
        if last {
            done(NOTHING, "the commit", subject.commit(txn).await)?;
        } else {
            drop(txn);
            expect(subject, NOTHING, BOX, &rows(BOX, [1, 2])).await?;
            expect_octets(subject, NOTHING, &row(BOX, 2), Some(octets(2))).await?;
        }
    }
    expect(subject, NOTHING, BOX, &after_operation()).await?;
    expect_octets(subject, "outside.1", &row(BOX, 3), Some(octets(3))).await?;
    let txn = subject.begin();
    done(NOTHING, "drop", subject.drop(&txn, BOX).await)?;
    drop(txn);
    expect(subject, NOTHING, BOX, &after_operation()).await
}

/// From the first capability call to the last.
pub async fn a_failing_host_is_reported_and_leaves_nothing<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    const FAILS: &str = "storage.storage-error.1";
    holding(subject, FAILS, BOX, [1, 2]).await?;
    for calls in 0..MAX_PAGES as u32 {
        let txn = subject.begin();
        subject.set(Knobs::fault(calls, Fault::Fail));
        let outcome = operation(subject, &txn).await;
        let met = subject.met();
        subject.set(Knobs::EASY);
        if !met {
            succeeded(FAILS, outcome)?;
            done(FAILS, "the commit", subject.commit(txn).await)?;
            return expect(subject, FAILS, BOX, &after_operation()).await;
        }
        reported(calls, &outcome)?;
        drop(txn);
        expect(subject, "storage.txn.2", BOX, &rows(BOX, [1, 2])).await?;
    }
    broken(FAILS, "the operation never comes to an end")
}

/// As when its time is over.
pub async fn an_operation_that_is_given_up_leaves_nothing<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    interrupted(subject, "store.rule.5", false).await
}

/// And with it what it remembered.
pub async fn a_lost_instance_leaves_nothing<S: MessageSubject>(subject: &S) -> Verdict {
    interrupted(subject, "store.rule.1", true).await
}

/// Gives the operation up at each of its capability calls, and loses the instance where `lost`.
async fn interrupted<S: MessageSubject>(subject: &S, promise: &'static str, lost: bool) -> Verdict {
    holding(subject, promise, BOX, [1, 2]).await?;
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
            expect(subject, promise, BOX, &after_operation()).await?;
            return expect_octets(subject, "outside.1", &row(BOX, 3), Some(octets(3))).await;
        }
        drop(txn);
        expect(subject, promise, BOX, &rows(BOX, [1, 2])).await?;
        expect_octets(subject, promise, &row(BOX, 2), Some(octets(2))).await?;
    }
    broken(promise, "the operation never comes to an end")
}

/// Also within an operation, whose transaction is the host's.
pub async fn a_restart_loses_nothing<S: MessageSubject>(subject: &S) -> Verdict {
    const LASTS: &str = "store.rule.1";
    holding(subject, LASTS, BOX, [1, 2]).await?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    expect(subject, LASTS, BOX, &rows(BOX, [1, 2])).await?;
    let txn = subject.begin();
    done(LASTS, "insert", subject.insert(&txn, vec![new(BOX, 3)]).await)?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    let changed = change(&flagged(row(BOX, 1), &["a"]));
    done(LASTS, "update", subject.update(&txn, vec![changed]).await)?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    done(LASTS, "delete", subject.delete(&txn, vec![place(BOX, 2)]).await)?;
    done(LASTS, "the commit", subject.commit(txn).await)?;
    done(LASTS, "a fresh instance", subject.restart().await)?;
    expect(subject, LASTS, BOX, &after_operation()).await?;
    expect_octets(subject, LASTS, &row(BOX, 3), Some(octets(3))).await
}

/// Neither may trust what it remembers.
pub async fn two_instances_see_each_others_writes<S: MessageSubject>(subject: &S) -> Verdict {
    const CACHE: &str = "store.rule.2";
    holding(subject, CACHE, BOX, [1, 2, 3]).await?;
    let mut all = rows(BOX, [1, 2, 3]);
    expect(subject, CACHE, BOX, &all).await?;
    for uid in 4..10 {
        done(CACHE, "another instance", subject.other_instance().await)?;
        expect(subject, CACHE, BOX, &all).await?;
        let txn = subject.begin();
        let first = all.remove(0);
        done(CACHE, "delete", subject.delete(&txn, vec![first.place()]).await)?;
        done(CACHE, "insert", subject.insert(&txn, vec![new(BOX, uid)]).await)?;
        all[0] = flagged(all[0].clone(), &[&format!("k{uid}")]);
        done(CACHE, "update", subject.update(&txn, vec![change(&all[0])]).await)?;
        done(CACHE, "the commit", subject.commit(txn).await)?;
        all.push(row(BOX, uid));
        expect(subject, CACHE, BOX, &all).await?;
    }
    Ok(())
}

/// Reads beside a write that is not committed, and beside each other.
pub async fn calls_run_beside_each_other<S: MessageSubject>(subject: &S) -> Verdict {
    const BESIDE: &str = "store.rule.3";
    type Calls<'a> = Vec<Pin<Box<dyn Future<Output = Verdict<Vec<Message>>> + 'a>>>;
    let before = rows(BOX, [1, 2]);
    holding(subject, BESIDE, BOX, [1, 2]).await?;
    let txn = subject.begin();
    let write = async {
        succeeded(BESIDE, operation(subject, &txn).await)?;
        Ok(before.clone())
    };
    let mut calls: Calls<'_> = vec![Box::pin(write)];
    for limit in 1..=16 {
        calls.push(Box::pin(pages(subject, None, BOX, None, limit)));
    }
    for answer in together(calls).await {
        same_rows(BESIDE, "list beside an operation", &answer?, &before)?;
    }
    done(BESIDE, "the commit", subject.commit(txn).await)?;
    expect(subject, BESIDE, BOX, &after_operation()).await
}

/// With capability calls that fail or are held, and instances that are lost.
pub async fn random_operations_survive_a_failing_host<S: MessageSubject>(subject: &S) -> Verdict {
    random::messages(subject, &mut subject.rng(), random::STEPS, Faults::Any).await
}
