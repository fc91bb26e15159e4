//! An operation that meets trouble at each of its capability calls in turn, and calls that meet.

use std::future::Future;
use std::pin::pin;

use super::{MAX_PAGES, Running, together, until_held};
use crate::error::{Result, StoreError};
use crate::subject::{Fault, Host, Knobs};
use crate::verdict::{Broken, Stop, Verdict, answer, broken, done};

const FAILS: &str = "storage.storage-error.1";
/// Reads that run at once, beside an operation.
const CROWD: u32 = 16;

/// What an operation meets at a capability call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The call fails.
    Failure,
    /// The operation is given up while it waits for it, as when its time is over.
    GivenUp,
    /// As given up, and the instance is lost.
    Lost,
}

impl Trouble {
    /// What the host does; what is broken when the operation goes wrong, and when it leaves something.
    fn of(self) -> (Fault, &'static str, &'static str) {
        match self {
            Self::Failure => (Fault::Fail, FAILS, "storage.txn.2"),
            Self::GivenUp => (Fault::Hold, "store.rule.6", "store.rule.5"),
            Self::Lost => (Fault::Hold, "store.rule.1", "store.rule.1"),
        }
    }

    /// What became of the capability call.
    fn had(self) -> &'static str {
        match self {
            Self::Failure => "failed",
            Self::GivenUp => "was given up",
            Self::Lost => "was lost with its instance",
        }
    }
}

/// What has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// As if the operation had never been asked for.
    Before,
    /// After the operation was committed.
    After,
}

/// Asks for the operation again and again, with trouble at its first capability call, at its second
/// and so on, until it has no more of them and is committed; looks each time at what is there.
pub(super) async fn at_each_call<S: Host>(
    subject: &S,
    trouble: Trouble,
    operation: impl AsyncFn(&S::Txn) -> Result<()>,
    there: impl AsyncFn(&'static str, When) -> Verdict,
) -> Verdict {
    let (fault, promise, leaves) = trouble.of();
    for calls in 0..MAX_PAGES as u32 {
        let txn = subject.begin();
        subject.set(Knobs::fault(calls, fault));
        let outcome = until_held(subject, pin!(operation(&txn))).await;
        let met = subject.met();
        if met && trouble == Trouble::Lost {
            done(promise, "a fresh instance", subject.restart().await)?;
        }
        subject.set(Knobs::EASY);
        match outcome {
            Some(outcome) if !met => {
                succeeded(promise, outcome)?;
                done(promise, "the commit", subject.commit(txn).await)?;
                return there(promise, When::After).await;
            }
            Some(outcome) if trouble == Trouble::Failure => reported(calls, &outcome)?,
            Some(_) | None => {}
        }
        drop(txn);
        let when = || format!("after an operation whose capability call {calls} {}", trouble.had());
        there(leaves, When::Before).await.map_err(|stop| blame(stop, leaves, &when()))?;
    }
    broken(promise, "the operation never comes to an end")
}

/// The operation's answer where nothing failed.
pub(super) fn succeeded(promise: &'static str, outcome: Result<()>) -> Verdict {
    done(promise, "an operation without a fault", outcome)
}

/// The operation's answer where its capability call of this number has failed.
fn reported(calls: u32, outcome: &Result<()>) -> Verdict {
    if matches!(outcome, Err(StoreError::Unavailable(_))) {
        return Ok(());
    }
    let said = answer(outcome);
    broken(FAILS, format!("capability call {calls} failed, and the operation answers {said}"))
}

/// In which instance a call meets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// In the same one.
    Here,
    /// In one beside it.
    Elsewhere,
}

/// Makes calls meet: one waits at each of its capability calls in turn, and another one runs to its
/// end meanwhile: reads beside a write, a write beside reads, reads beside reads. At last many run at
/// once. In an instance that takes one call at a time none can meet another: there the other one goes
/// to an instance beside it only.
pub(super) async fn meetings<S: Host>(
    subject: &S,
    reads: impl AsyncFn(u32) -> Verdict,
    writes: impl AsyncFn() -> Verdict,
) -> Verdict {
    let places = match subject.one_call_at_a_time() {
        true => &[Meeting::Elsewhere][..],
        false => &[Meeting::Here, Meeting::Elsewhere],
    };
    for at in places {
        for calls in 0..MAX_PAGES as u32 {
            let met = [
                meeting(subject, *at, calls, writes(), reads(1)).await?,
                meeting(subject, *at, calls, reads(2), writes()).await?,
                meeting(subject, *at, calls, reads(1), reads(3)).await?,
            ];
            if met == [false; 3] {
                break;
            }
        }
    }
    let mut crowd: Vec<Running<'_>> = vec![Box::pin(writes())];
    crowd.extend((1..=CROWD).map(|limit| Box::pin(reads(limit)) as Running<'_>));
    together(crowd).await.into_iter().collect::<Verdict>().map_err(beside)
}

/// Runs `first` until its capability call of this number waits, `then` to its end, and `first` to its
/// end; whether `first` has such a call.
async fn meeting<S: Host>(
    subject: &S,
    at: Meeting,
    calls: u32,
    first: impl Future<Output = Verdict>,
    then: impl Future<Output = Verdict>,
) -> Verdict<bool> {
    subject.set(Knobs::fault(calls, Fault::Pause));
    let mut first = pin!(first);
    if let Some(alone) = until_held(subject, first.as_mut()).await {
        subject.set(Knobs::EASY);
        return alone.map(|()| false);
    }
    if at == Meeting::Elsewhere {
        done("store.rule.1", "another instance", subject.other_instance().await)?;
    }
    then.await.map_err(beside)?;
    subject.set(Knobs::EASY);
    first.await.map_err(beside)?;
    Ok(true)
}

/// Alone each of them is answered as it should be.
fn beside(stop: Stop) -> Stop {
    blame(stop, "store.rule.3", "beside another call")
}

/// Whatever reads say that were answered rightly before: this promise is broken.
fn blame(stop: Stop, promise: &'static str, when: &str) -> Stop {
    match stop {
        Stop::Broken(Broken { what, .. }) => {
            Stop::Broken(Broken { promise, what: format!("{when}: {what}") })
        }
        other => other,
    }
}
