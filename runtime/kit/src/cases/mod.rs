//! The cases. Each has a name, the promises that it covers, a level, and a text for people; a store
//! is asked by the verbs of [`subject`](crate::subject) only.
//!
//! A case blames one promise when it fails. Ids of two words (`insert.1`) are those of the interface
//! under test.

#[macro_use]
mod table;

pub mod messages;
pub mod messages_survive;
pub mod records;
pub mod records_survive;

pub mod limits;
pub mod schemas;

mod trouble;

pub mod damage;
pub mod random;

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::error::Result;
use crate::records::CheckPage;
use crate::subject::Host;
use crate::verdict::{Verdict, broken, done, holds};

/// How far a store has come: each level asks for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// 1: reads answer on an empty space, and every function that gets a list on an empty one.
    Answers,
    /// 2: records are kept as the WIT says, while nothing goes wrong.
    Keeps,
    /// 3: they are kept also when calls fail, are given up, lose their instance or meet damage, and
    /// when several instances run.
    Survives,
}

impl Level {
    /// All of them, from the lowest.
    pub const ALL: [Self; 3] = [Self::Answers, Self::Keeps, Self::Survives];

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Answers => 1,
            Self::Keeps => 2,
            Self::Survives => 3,
        }
    }

    /// What a store does that has reached it.
    pub fn says(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Keeps => "keeps records",
            Self::Survives => "survives faults",
        }
    }
}

/// A case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// A sentence that holds for a right store.
    pub name: &'static str,
    /// To which level it belongs.
    pub level: Level,
    /// The promises that it covers.
    pub covers: &'static [&'static str],
    /// What it does, for people.
    pub does: &'static str,
}

/// A case on its way.
pub type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// Most pages of a list or check in a case: more mean that it never ends.
const MAX_PAGES: usize = 100_000;
/// More rows than any case inserts: a list that has them never ends.
const MAX_ROWS: usize = 20_000;

/// Rounds of calls of which each may leave a handle behind. As many as there are rounds are too many:
/// some languages let go of the last ones a moment after the answer.
const HANDLE_ROUNDS: usize = 24;

/// Asks for calls again and again, and counts what handles are left behind.
async fn leaving_no_handles<S: Host>(subject: &S, round: impl AsyncFn() -> Verdict) -> Verdict {
    for _ in 0..HANDLE_ROUNDS {
        round().await?;
    }
    let left = subject.handles();
    holds("store.rule.4", left < HANDLE_ROUNDS, || {
        format!("{left} handles are left behind by {HANDLE_ROUNDS} rounds of calls")
    })
}

/// Runs an operation until it answers, or until a capability call of it is held: `None`. Who drops it
/// then gives it up, as when its deadline has passed.
async fn until_held<S: Host, T>(
    subject: &S,
    mut operation: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut held = pin!(subject.held());
    std::future::poll_fn(|context| match operation.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => held.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Checks page by page, each in a commit of its own; how many records were looked at and what was
/// found.
async fn check_to_the_end<S: Host>(
    subject: &S,
    promise: &'static str,
    check: impl AsyncFn(&S::Txn, Option<String>) -> Result<CheckPage>,
) -> Verdict<(u64, Vec<String>)> {
    let (mut after, mut checked, mut found) = (None, 0, Vec::new());
    for _ in 0..MAX_PAGES {
        let txn = subject.begin();
        let page = done(promise, "check", check(&txn, after).await)?;
        done(promise, "the commit", subject.commit(txn).await)?;
        checked += page.checked;
        found.extend(page.findings.iter().map(|f| format!("{}: {}", f.name, f.problem)));
        after = page.next;
        if after.is_none() {
            return Ok((checked, found));
        }
    }
    broken("check.3", format!("the check has more than {MAX_PAGES} pages"))
}

/// Runs calls beside each other, until all have answered.
async fn together<T>(calls: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut waiting: Vec<_> = calls.into_iter().map(Some).collect();
    let mut answers: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (call, answer) in waiting.iter_mut().zip(&mut answers) {
            if let Some(Poll::Ready(found)) = call.as_mut().map(|c| c.as_mut().poll(context)) {
                (*call, *answer) = (None, Some(found));
            }
        }
        match waiting.iter().all(Option::is_none) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}
