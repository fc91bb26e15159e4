//! Runs cases one by one, and says what they come to together.

use std::collections::BTreeSet;

use crate::cases::{Case, Level, messages, records};
use crate::coverage::{INTERFACES, binding, cases, covered};
use crate::sample::Sample;
use crate::subject::{MessageSubject, RecordSubject};
use crate::trace::Traced;
use crate::verdict::{Stop, Verdict};

/// What a store breaks of which no fresh instance can be made.
const FRESH: &str = "store.rule.1";

/// A case for a store of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which of the four.
    pub interface: &'static str,
    /// The case.
    pub case: &'static Case,
}

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every promise that it covers was kept.
    Passed,
    /// It cannot be asked of this store, for this reason.
    NotApplicable(String),
    /// A promise was broken.
    Failed(Failure),
    /// It was not asked, or not to its end, for this reason; nothing is known of what it covers.
    NotRun(String),
}

/// A broken promise, and how it came to light.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its whole id.
    pub promise: String,
    /// How it was broken.
    pub what: String,
    /// The last calls before that, with their answers.
    pub trace: Vec<String>,
    /// The last lines that the store has printed, where the host hears them.
    pub printed: Vec<String>,
}

/// A case that has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Which one.
    pub planned: Planned,
    /// What it came to.
    pub outcome: Outcome,
    /// Calls of the store.
    pub calls: u64,
}

impl Planned {
    /// Its name among all: `users/insert_keeps_every_field`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.interface, self.case.name)
    }

    /// Whether somebody who says this means it: the whole name, or what stands behind the stroke.
    pub fn is_called(&self, name: &str) -> bool {
        self.case.name == name || self.name() == name
    }

    /// The whole ids of the promises that it covers.
    pub fn covers(&self) -> Vec<String> {
        covered(self.interface, self.case)
    }

    /// Runs it over a store of domains, users or mailboxes.
    pub async fn of_records<R: Sample, S: RecordSubject<R>>(self, subject: S, seed: u64) -> Ran {
        let traced = Traced::new(subject, seed);
        let verdict = match records::run::<R, _>(self.case.name, &traced) {
            Some(running) => running.await,
            None => Err(no_such_case()),
        };
        self.ran(verdict, traced.calls(), traced.lines())
    }

    /// Runs it over a store of messages.
    pub async fn of_messages<S: MessageSubject>(self, subject: S, seed: u64) -> Ran {
        let traced = Traced::new(subject, seed);
        let verdict = match messages::run(self.case.name, &traced) {
            Some(running) => running.await,
            None => Err(no_such_case()),
        };
        self.ran(verdict, traced.calls(), traced.lines())
    }

    fn ran(self, verdict: Verdict, calls: u64, trace: Vec<String>) -> Ran {
        let outcome = match verdict {
            Ok(()) => Outcome::Passed,
            Err(Stop::NotApplicable(why)) => Outcome::NotApplicable(why),
            Err(Stop::Broken(broken)) => Outcome::Failed(Failure {
                promise: broken.id(self.interface),
                what: broken.what,
                trace,
                printed: Vec::new(),
            }),
        };
        Ran { planned: self, outcome, calls }
    }

    /// As run over a store of which there is no instance: another one was there before, and after a
    /// call there may be none.
    pub fn not_started(self, why: String) -> Ran {
        let what = format!("there is no fresh instance: {why}");
        let (promise, trace, printed) = (FRESH.to_owned(), Vec::new(), Vec::new());
        let failure = Failure { promise, what, trace, printed };
        Ran { planned: self, outcome: Outcome::Failed(failure), calls: 0 }
    }

    /// As run over a store that does not keep its kind of record.
    pub fn not_kept(self) -> Ran {
        let why = format!("the store does not keep {}", self.interface);
        self.not_asked(why)
    }

    /// As run over a store that is [`unsound`] in its kind of record.
    pub fn too_early(self) -> Ran {
        let why = format!("the store does not pass the lower levels with {}", self.interface);
        self.not_asked(why)
    }

    /// Of a run that was given up before, for this reason, or in the middle of it.
    pub fn not_run(self, why: String) -> Ran {
        Ran { planned: self, outcome: Outcome::NotRun(why), calls: 0 }
    }

    fn not_asked(self, why: String) -> Ran {
        Ran { planned: self, outcome: Outcome::NotApplicable(why), calls: 0 }
    }
}

impl Ran {
    /// With what the store has printed; it is told of failures only.
    pub fn having_printed(mut self, lines: Vec<String>) -> Self {
        if let Outcome::Failed(failure) = &mut self.outcome {
            failure.printed = lines;
        }
        self
    }
}

/// The kinds of record of which a case below the highest level has failed: what they survive cannot
/// be told, as long as they do not keep it.
pub fn unsound(ran: &[Ran]) -> BTreeSet<&'static str> {
    let below = |ran: &&Ran| ran.planned.case.level < Level::Survives;
    let failed = ran.iter().filter(|ran| matches!(ran.outcome, Outcome::Failed(_)));
    failed.filter(below).map(|ran| ran.planned.interface).collect()
}

fn no_such_case() -> Stop {
    Stop::NotApplicable("this kind of record has no such case".to_owned())
}

/// All cases of all interfaces up to a level, the lower levels first.
pub fn plan(up_to: Level) -> Vec<Planned> {
    let of = |interface: &'static str| {
        cases(interface).iter().map(move |case| Planned { interface, case })
    };
    let mut planned: Vec<_> = INTERFACES.into_iter().flat_map(of).collect();
    planned.retain(|planned| planned.case.level <= up_to);
    planned.sort_by_key(|planned| planned.case.level);
    planned
}

/// What many cases come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The highest level of which, and below which, every case passed that could be asked; and one at
    /// least of each kind that is kept.
    pub level: Option<Level>,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases that could not be asked.
    pub not_applicable: usize,
    /// Cases that were not run; then no level is reached that has one.
    pub not_run: usize,
    /// Promises of which a case passed and none failed.
    pub held: usize,
    /// Promises that bind a store of these kinds and have a case.
    pub promises: usize,
}

impl Summary {
    /// Adds up. Of promises, those of the interfaces that are kept count.
    pub fn of(ran: &[Ran], kept: &[&str]) -> Self {
        let count = |is: fn(&Outcome) -> bool| ran.iter().filter(|ran| is(&ran.outcome)).count();
        let mut level = None;
        for next in Level::ALL {
            let here: Vec<_> = ran.iter().filter(|ran| ran.planned.case.level == next).collect();
            let passes = |kind: &&str| {
                let of = |ran: &&&Ran| ran.planned.interface == *kind;
                here.iter().filter(of).any(|ran| ran.outcome == Outcome::Passed)
            };
            let passed = !kept.is_empty() && kept.iter().all(passes);
            let fails =
                |outcome: &Outcome| matches!(outcome, Outcome::Failed(_) | Outcome::NotRun(_));
            let failed = here.iter().any(|ran| fails(&ran.outcome));
            if failed || !passed {
                break;
            }
            level = Some(next);
        }
        Self {
            level,
            passed: count(|outcome| *outcome == Outcome::Passed),
            failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
            not_applicable: count(|outcome| matches!(outcome, Outcome::NotApplicable(_))),
            not_run: count(|outcome| matches!(outcome, Outcome::NotRun(_))),
            held: held(ran).len(),
            promises: binding(kept).len(),
        }
    }
}

fn held(ran: &[Ran]) -> BTreeSet<String> {
    let of = |outcome: fn(&Outcome) -> bool| -> BTreeSet<String> {
        let those = ran.iter().filter(|ran| outcome(&ran.outcome));
        those.flat_map(|ran| ran.planned.covers()).collect()
    };
    let broken = ran.iter().filter_map(|ran| match &ran.outcome {
        Outcome::Failed(failure) => Some(failure.promise.clone()),
        Outcome::Passed | Outcome::NotApplicable(_) | Outcome::NotRun(_) => None,
    });
    let broken: BTreeSet<_> = broken.chain(of(|o| matches!(o, Outcome::Failed(_)))).collect();
    of(|outcome| *outcome == Outcome::Passed).difference(&broken).cloned().collect()
}
