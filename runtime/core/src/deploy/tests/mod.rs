//! The record of a deployment, by its rules and by whole runs in random orders.

mod rows;
mod rules;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::evidence::{Evidence, Took, VerbEvidence, Wear, Wears};
use super::*;

/// A version by its number; its schema is 1 unless said otherwise.
pub fn version(number: u32) -> Version {
    let schema = Schema { reads: (1, 1), writes: 1, writes_from: None };
    let (digest, label) = (format!("{number:064x}"), format!("keyed {number}"));
    Version { digest, label, octets: 100, schema }
}

/// A deployment of a version with a probation of 10 s.
pub fn deployment(number: u32) -> Deployment {
    Deployment {
        number: 0,
        version: version(number),
        canary: None,
        probation_s: 10,
        no_rollback: false,
        one_way: false,
        configured: false,
        phase: Phase::Staging,
        steps: Vec::new(),
    }
}

/// What nodes have said, and who lives.
#[derive(Clone, Default)]
pub struct World {
    pub live: BTreeSet<String>,
    pub reports: BTreeMap<String, Report>,
    pub phase_for: Duration,
    /// By node: how long it has owed what it owes, where that is not as long as the phase.
    pub owing: BTreeMap<String, Duration>,
    /// By node: how it writes.
    pub writers: BTreeMap<String, Writer>,
    pub sweep: Option<Sweep>,
}

impl World {
    pub fn of(nodes: &[&str]) -> Self {
        Self { live: nodes.iter().map(|node| (*node).to_owned()).collect(), ..Self::default() }
    }

    /// Lets a function look at it as node `a`.
    pub fn seen<R>(&self, look: impl FnOnce(&Seen<'_>) -> R) -> R {
        let report = |node: &str| self.reports.get(node).cloned();
        let owing = |node: &str| self.owing.get(node).copied().unwrap_or(self.phase_for);
        look(&Seen {
            node: "a",
            now: 1_000,
            phase_for: self.phase_for,
            owing: &owing,
            live: &self.live,
            report: &report,
        })
    }

    /// Lets a function look at what is known of the rows.
    pub fn rows_seen<R>(&self, look: impl FnOnce(&RowsSeen<'_>) -> R) -> R {
        let live: Vec<&str> = self.live.iter().map(String::as_str).collect();
        let writers: Vec<_> = live.iter().map(|node| self.writers.get(*node).cloned()).collect();
        look(&RowsSeen { live: &live, writers: &writers, sweep: self.sweep.as_ref() })
    }

    pub fn says(&mut self, node: &str, progress: Progress) -> &mut Evidence {
        let report =
            Report { deployment: 1, generation: 1, progress, evidence: Evidence::default() };
        self.reports.insert(node.to_owned(), report);
        &mut self.reports.get_mut(node).expect("it is there").evidence
    }
}

/// Numbers of one function.
pub fn verb(calls: u64, failures: u64) -> Vec<VerbEvidence> {
    let verb = "messages insert".to_owned();
    vec![VerbEvidence { verb, calls, failures, ..VerbEvidence::default() }]
}
