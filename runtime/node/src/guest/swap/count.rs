//! How the functions of a generation do: counted without a lock, read now and then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use postroom_core::deploy::evidence::VerbEvidence;
use postroom_core::error::StoreError;

use crate::guest::pool::Verb;

/// One function.
#[derive(Default)]
struct Count {
    calls: AtomicU64,
    failures: AtomicU64,
    unavailable: AtomicU64,
    micros: AtomicU64,
}

/// All functions of a generation: as many as the interfaces have.
#[derive(Default)]
pub(super) struct Counts(RwLock<HashMap<Verb, Arc<Count>>>);

impl Counts {
    /// Notes an answer. A refusal that is right is no failure; that the host was busy, or storage away,
    /// is none of the component's.
    pub(super) fn note(&self, verb: Verb, took: Duration, error: Option<&StoreError>) {
        let count = self.of(verb);
        count.calls.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        count.micros.fetch_add(micros, Ordering::Relaxed);
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
        let told = counts.iter().map(|(verb, count)| VerbEvidence {
            verb: verb.to_string(),
            calls: count.calls.load(Ordering::Relaxed),
            failures: count.failures.load(Ordering::Relaxed),
            unavailable: count.unavailable.load(Ordering::Relaxed),
            micros: count.micros.load(Ordering::Relaxed),
        });
        let mut told: Vec<_> = told.collect();
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
