//! Cases for stores of messages, while things go wrong.

use std::pin::pin;

use super::messages::{
    BOX, NEXT, expect, expect_octets, expect_selected, flagged, holding, new, octets, pages, place,
    row, rows,
};
use super::random::{self, Faults};
use super::trouble::{Trouble, When, at_each_call, meetings, succeeded};
use super::{MAX_PAGES, leaving_no_handles, until_held};
use crate::error::Result;
use crate::records::Message;
use crate::sample::change;
use crate::subject::{Fault, Knobs, MessageSubject};
use crate::verdict::{Verdict, broken, done, holds, same_rows, shown};

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
            expect_octets(subject, "outside.2", &row(BOX, 2), Some(octets(2))).await?;
        }
    }
    expect(subject, NOTHING, BOX, &after_operation()).await?;
    expect_octets(subject, "outside.1", &row(BOX, 3), Some(octets(3))).await?;
    let txn = subject.begin();
    done(NOTHING, "drop", subject.drop(&txn, BOX).await)?;
    drop(txn);
    expect(subject, NOTHING, BOX, &after_operation()).await?;
    expect_octets(subject, "outside.2", &row(BOX, 3), Some(octets(3))).await
}

/// Also after the instance is lost that made it, and when it is settled.
pub async fn an_attempt_that_came_to_nothing_is_shown_by_no_read<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    const ORPHAN: &str = "outside.4";
    holding(subject, ORPHAN, BOX, [1]).await?;
    for uids in [&[2][..], &[2, 3]] {
        let txn = subject.begin();
        let attempt = uids.iter().map(|uid| new(BOX, *uid)).collect();
        done("outside.1", "insert", subject.insert(&txn, attempt).await)?;
        drop(txn);
        for _ in 0..2 {
            expect(subject, ORPHAN, BOX, &rows(BOX, [1])).await?;
            let places = vec![place(BOX, 2), place(BOX, 3)];
            expect_selected(subject, ORPHAN, places, &[None, None]).await?;
            for uid in [2, 3] {
                expect_octets(subject, ORPHAN, &row(BOX, uid), None).await?;
            }
            let orphans = uids.iter().map(|uid| row(BOX, *uid).name).collect();
            done("settle.3", "settle", subject.settle(BOX, orphans, false).await)?;
            done("store.rule.1", "a fresh instance", subject.restart().await)?;
        }
    }
    holding(subject, "outside.1", BOX, [2, 3]).await?;
    for uid in 1..4 {
        expect_octets(subject, "outside.1", &row(BOX, uid), Some(octets(uid))).await?;
    }
    Ok(())
}

/// The host's queue asks for it again, after a crash too.
pub async fn a_settle_that_is_interrupted_may_be_repeated<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    const AGAIN: &str = "settle.2";
    for (calls, uid) in (0..MAX_PAGES as u32).zip((1..).step_by(2)) {
        holding(subject, AGAIN, BOX, [uid, uid + 1]).await?;
        let both = vec![row(BOX, uid).name, row(BOX, uid + 1).name];
        let first = settled_twice(subject, calls, both, false).await?;
        for uid in [uid, uid + 1] {
            expect_octets(subject, AGAIN, &row(BOX, uid), Some(octets(uid))).await?;
        }
        let txn = subject.begin();
        let seen = flagged(row(BOX, uid + 1), &["\\Seen"]);
        done("update.1", "update", subject.update(&txn, vec![change(&seen)]).await)?;
        done("delete.1", "delete", subject.delete(&txn, vec![place(BOX, uid)]).await)?;
        done(AGAIN, "the commit", subject.commit(txn).await)?;
        let changed = settled_twice(subject, calls, vec![seen.name.clone()], false).await?;
        let gone = settled_twice(subject, calls, vec![row(BOX, uid).name], true).await?;
        expect_octets(subject, AGAIN, &row(BOX, uid), None).await?;
        expect_octets(subject, AGAIN, &seen, Some(octets(uid + 1))).await?;
        if !(first || changed || gone) {
            return Ok(());
        }
    }
    broken(AGAIN, "settle never comes to an end")
}

/// Settles, loses the instance at the capability call of this number, and settles again; whether there
/// was such a call.
async fn settled_twice<S: MessageSubject>(
    subject: &S,
    calls: u32,
    names: Vec<String>,
    deleted: bool,
) -> Verdict<bool> {
    subject.set(Knobs::fault(calls, Fault::Hold));
    let first = until_held(subject, pin!(subject.settle(BOX, names.clone(), false))).await;
    let met = subject.met();
    if met {
        done("store.rule.1", "a fresh instance", subject.restart().await)?;
    }
    subject.set(Knobs::EASY);
    if let (Some(outcome), false) = (first, met) {
        done("settle.1", "settle", outcome)?;
    }
    let again = subject.settle(BOX, names, deleted).await;
    done("settle.2", "settle after one that was interrupted", again)?;
    Ok(met)
}

/// By calls that succeed.
pub async fn handles_are_let_go<S: MessageSubject>(subject: &S) -> Verdict {
    const LETS_GO: &str = "store.rule.4";
    holding(subject, LETS_GO, BOX, [1, 2]).await?;
    let round = async || {
        let txn = subject.begin();
        succeeded(LETS_GO, operation(subject, &txn).await)?;
        drop(txn);
        expect(subject, LETS_GO, BOX, &rows(BOX, [1, 2])).await?;
        expect_octets(subject, LETS_GO, &row(BOX, 2), Some(octets(2))).await?;
        expect_octets(subject, LETS_GO, &row(BOX, 7), None).await?;
        done("settle.1", "settle", subject.settle(BOX, vec![row(BOX, 2).name], false).await)
    };
    leaving_no_handles(subject, round).await
}

/// Whatever else a component may know.
pub async fn bodies_are_linked_under_the_names_of_their_rows<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    const OWN: &str = "storage.put-body.2";
    holding(subject, OWN, BOX, [1, 2]).await?;
    let txn = subject.begin();
    done(OWN, "insert", subject.insert(&txn, vec![new(BOX, 3), new(NEXT, 1)]).await)?;
    let linked = subject.linked(&txn);
    let other = linked.iter().find(|name| ![row(BOX, 3).name, row(NEXT, 1).name].contains(name));
    holds(OWN, other.is_none(), || format!("insert links a body under {}", shown(&other)))?;
    done(OWN, "the commit", subject.commit(txn).await)?;
    expect_octets(subject, "fetch.5", &row(BOX, 3), Some(octets(3))).await
}

/// Holds a store to `operation` with trouble at each of its capability calls.
async fn in_trouble<S: MessageSubject>(subject: &S, trouble: Trouble) -> Verdict {
    holding(subject, "store.rule.7", BOX, [1, 2]).await?;
    let there = async |promise, when| {
        let (rows, there) = match when {
            When::Before => (rows(BOX, [1, 2]), row(BOX, 2)),
            When::After => (after_operation(), row(BOX, 3)),
        };
        expect(subject, promise, BOX, &rows).await?;
        let promise = if when == When::After { "outside.1" } else { promise };
        expect_octets(subject, promise, &there, Some(octets(there.uid))).await
    };
    at_each_call(subject, trouble, async |txn: &S::Txn| operation(subject, txn).await, there).await
}

/// From the first capability call to the last.
pub async fn a_failing_host_is_reported_and_leaves_nothing<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    in_trouble(subject, Trouble::Failure).await
}

/// As when its time is over.
pub async fn an_operation_that_is_given_up_leaves_nothing<S: MessageSubject>(
    subject: &S,
) -> Verdict {
    in_trouble(subject, Trouble::GivenUp).await
}

/// And with it what it remembered.
pub async fn a_lost_instance_leaves_nothing<S: MessageSubject>(subject: &S) -> Verdict {
    in_trouble(subject, Trouble::Lost).await
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

/// Reads and operations that are not committed, all of which have to meet.
pub async fn calls_run_beside_each_other<S: MessageSubject>(subject: &S) -> Verdict {
    const BESIDE: &str = "store.rule.3";
    let before = rows(BOX, [1, 2]);
    holding(subject, BESIDE, BOX, [1, 2]).await?;
    let reads = async |limit| {
        let listed = pages(subject, None, BOX, None, limit).await?;
        same_rows(BESIDE, "list", &listed, &before)?;
        let uid = 1 + limit % 2;
        let expected = [Some(row(BOX, uid)), None];
        expect_selected(subject, BESIDE, vec![place(BOX, uid), place(BOX, 7)], &expected).await?;
        expect_octets(subject, BESIDE, &row(BOX, uid), Some(octets(uid))).await
    };
    let writes = async || {
        let txn = subject.begin();
        succeeded(BESIDE, operation(subject, &txn).await)
    };
    meetings(subject, reads, writes).await?;
    let txn = subject.begin();
    succeeded(BESIDE, operation(subject, &txn).await)?;
    done(BESIDE, "the commit", subject.commit(txn).await)?;
    expect(subject, BESIDE, BOX, &after_operation()).await
}

/// With capability calls that fail or are held, and instances that are lost.
pub async fn random_operations_survive_a_failing_host<S: MessageSubject>(subject: &S) -> Verdict {
    random::messages(subject, &mut subject.rng(), random::STEPS, Faults::Any).await
}
