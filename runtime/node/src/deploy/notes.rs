//! What a node notes in a store's journal about deployments, as it reads the record: also those that
//! another node moves on.

use postroom_core::deploy::{Phase, StoreRecord};

use crate::guest::Journal;

/// What has been noted already.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The deployment under way, and its phase.
    under_way: Option<(u64, Phase)>,
    /// The last deployment that had ended; none: nothing was read yet.
    ended: Option<u64>,
    trouble: Option<String>,
}

impl Notes {
    /// Notes what is new in the record.
    pub(super) fn record(&mut self, record: &StoreRecord, journal: &Journal) {
        let last = record.history.last().map_or(0, |ended| ended.number);
        // What had ended before the node started is in the record's history.
        let noted = *self.ended.get_or_insert(last);
        for ended in record.history.iter().filter(|ended| ended.number > noted) {
            let (number, outcome) = (ended.number, ended.outcome.name());
            let why = ended.outcome.why().map_or(String::new(), |why| format!(": {why}"));
            journal.event(&ended.version.label, &format!("deployment {number} is {outcome}{why}"));
        }
        self.ended = Some(last);
        let under_way = record.under_way.as_ref();
        let phase = under_way.map(|under_way| (under_way.number, under_way.phase));
        if let Some(under_way) = under_way.filter(|_| phase != self.under_way) {
            let text = format!("deployment {}: {}", under_way.number, under_way.phase.name());
            journal.event(&under_way.version.label, &text);
        }
        self.under_way = phase;
    }

    /// Notes why this node cannot go on, once for each reason.
    pub(super) fn trouble(&mut self, why: Option<&str>, version: &str, journal: &Journal) {
        if let Some(why) = why.filter(|why| self.trouble.as_deref() != Some(*why)) {
            journal.event(version, &format!("a deployment cannot be followed: {why}"));
        }
        self.trouble = why.map(str::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::deploy::{Deployment, Ended, Outcome, Schema, Version};

    use super::*;

    fn version() -> Version {
        let schema = Schema { reads: (1, 1), writes: 1, writes_from: None };
        Version { digest: "d".into(), label: "keyed 2".into(), octets: 1, schema }
    }

    fn under_way(phase: Phase) -> StoreRecord {
        let deployment = Deployment {
            number: 2,
            version: version(),
            canary: None,
            probation_s: 1,
            no_rollback: false,
            one_way: false,
            configured: false,
            phase,
            steps: Vec::new(),
        };
        StoreRecord { under_way: Some(deployment), history: vec![ended(1)], ..Default::default() }
    }

    fn ended(number: u64) -> Ended {
        let outcome = Outcome::RolledBack("a trap".into());
        Ended { number, version: version(), outcome, steps: Vec::new() }
    }

    #[test]
    fn each_step_is_noted_once_and_nothing_that_was_before() {
        let (mut notes, journal) = (Notes::default(), Journal::default());
        for record in [under_way(Phase::Staging), under_way(Phase::Probation)] {
            (0..3).for_each(|_| notes.record(&record, &journal));
        }
        let over = StoreRecord { history: vec![ended(1), ended(2)], ..Default::default() };
        (0..3).for_each(|_| notes.record(&over, &journal));
        for why in [Some("storage is away"), Some("storage is away"), None] {
            notes.trouble(why, "keyed 2", &journal);
        }
        let texts: Vec<_> = journal.after(0).entries.into_iter().map(|entry| entry.text).collect();
        assert_eq!(
            texts,
            [
                "deployment 2: staging",
                "deployment 2: probation",
                "deployment 2 is rolled back: a trap",
                "a deployment cannot be followed: storage is away",
            ]
        );
    }
}
