//! How the functions of a generation do: noted at each call, read now and then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use postroom_core::deploy::evidence::{Took, VerbEvidence};
use postroom_core::error::StoreError;
use sketches_ddsketch::DDSketch;

use crate::guest::pool::Verb;

/// One function.
#[derive(Default)]
struct Count {
    failures: AtomicU64,
    unavailable: AtomicU64,
    /// How long its calls took, in microseconds, to 1 %: locked for some ten nanoseconds by a call.
    times: Mutex<DDSketch>,
}

impl Count {
    fn times(&self) -> MutexGuard<'_, DDSketch> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, verb: Verb) -> VerbEvidence {
        let times = self.times();
        let micros = |value: Option<f64>| value.unwrap_or_default() as u64;
        let quantile = |of| micros(times.quantile(of).unwrap_or_default());
        VerbEvidence {
            verb: verb.to_string(),
            calls: times.count() as u64,
            failures: self.failures.load(Ordering::Relaxed),
            unavailable: self.unavailable.load(Ordering::Relaxed),
            micros: micros(times.sum()),
            took: Took {
                half: quantile(0.5),
                three_quarters: quantile(0.75),
                nine_tenths: quantile(0.9),
            },
        }
    }
}

/// All functions of a generation: as many as the interfaces have.
#[derive(Default)]
pub(super) struct Counts(RwLock<HashMap<Verb, Arc<Count>>>);

impl Counts {
    /// Notes an answer. A refusal that is right is no failure; that the host was busy, or storage away,
    /// is none of the component's.
    pub(super) fn note(&self, verb: Verb, took: Duration, error: Option<&StoreError>) {
        let count = self.of(verb);
        count.times().add(took.as_secs_f64() * 1e6);
        if matches!(error, Some(StoreError::Broken(_))) {
            count.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes a call that it has failed at, where another version has not.
    pub(super) fn failed(&self, verb: Verb, took: Duration) {
        self.note(verb, took, None);
        self.of(verb).failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a call that it was not available to, where another version was.
    pub(super) fn was_unavailable(&self, verb: Verb, took: Duration) {
        self.note(verb, took, None);
        self.of(verb).unavailable.fetch_add(1, Ordering::Relaxed);
    }

    /// What it comes to, in the order of names.
    pub(super) fn told(&self) -> Vec<VerbEvidence> {
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut told: Vec<_> = counts.iter().map(|(verb, count)| count.told(*verb)).collect();
        told.sort_by(|a, b| a.verb.cmp(&b.verb));
        told
    }

    fn of(&self, verb: Verb) -> Arc<Count> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&verb).cloned();
        known.unwrap_or_else(|| {
            let mut counts = self.0.write().unwrap_or_else(PoisonError::into_inner);
            counts.entry(verb).or_default().clone()
        })
    }
}
