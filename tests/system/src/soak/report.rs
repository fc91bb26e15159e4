//! What a soak has come to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::fault::Fault;
use super::ledger::Count;
use super::load::Load;
use super::swap::Trials;
use super::told;
use super::waits::{Met, Waits};
use crate::cluster::ClusterNode;
use crate::eventually::within;

/// How often it is said how it goes.
const EVERY: Duration = Duration::from_secs(10);
/// Lines of a node's log about a panic that are told.
const MAX_PANICS: usize = 3;

/// How it goes.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since it began.
    pub elapsed: Duration,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// All calls of clients.
    pub calls: u64,
    /// Disturbances so far.
    pub faults: u32,
    /// What is under way.
    pub now: Fault,
    /// Answers that said "not now".
    pub refused: u64,
    /// The longest wait of a client whose own node was not the one disturbed, and during what.
    pub worst: (Duration, Fault),
}

/// Says how it goes, until it is over.
pub fn tell(load: &Load, progress: &(dyn Fn(&Progress) + Sync)) {
    while within(EVERY, || load.is_over().then_some(())).is_none() {
        let waits = load.waits();
        let worst = waits.0.iter().map(|(fault, met)| (met.others.longest, *fault)).max();
        progress(&Progress {
            elapsed: load.clock(),
            acknowledged: load.acknowledged.load(Ordering::Relaxed),
            calls: load.calls.load(Ordering::Relaxed),
            faults: waits.0.values().map(|met| met.times).sum(),
            now: load.now().fault,
            refused: load.refused.load(Ordering::Relaxed),
            worst: worst.unwrap_or((Duration::ZERO, Fault::Calm)),
        });
    }
}

/// What a node's log says of panics.
pub fn panics(node: &ClusterNode) -> Vec<String> {
    let log = std::fs::read_to_string(node.log()).unwrap_or_default();
    // What a guest prints as it traps is no panic of the node.
    let of_guest = |line: &&str| line.contains("store component:") && line.contains("stream=");
    let panics = log.lines().filter(|line| line.contains("panicked at"));
    let lines = panics.filter(|line| !of_guest(line));
    lines.take(MAX_PANICS).map(|line| format!("node {}: {line}", node.name)).collect()
}

/// The end of it.
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How long it was.
    pub elapsed: Duration,
    /// What was done how often.
    pub faults: BTreeMap<Fault, u32>,
    /// What was told and what is there.
    pub count: Count,
    /// What clients met.
    pub waits: Waits,
    /// What became of versions of the store component.
    pub trials: Trials,
    /// Calls of clients.
    pub calls: u64,
    /// What is wrong: mail first.
    pub wrong: Vec<String>,
}

impl Report {
    /// Of a run that is over.
    pub fn new(
        options: &Options,
        load: &Load,
        (faults, trials): (BTreeMap<Fault, u32>, Trials),
        count: Count,
        wrong: Vec<String>,
    ) -> Self {
        Self {
            seed: options.seed,
            elapsed: load.clock(),
            faults,
            count,
            waits: load.waits(),
            trials,
            calls: load.calls.load(Ordering::Relaxed),
            wrong,
        }
    }

    /// Connections that broke although their node lived.
    pub fn broken_alone(&self) -> u64 {
        self.waits.0.values().map(|met| met.broken_alone).sum()
    }

    /// Clients that were told "not now" while nothing but versions of the store component changed.
    pub fn noticed(&self) -> u64 {
        let silent = self.waits.0.iter().filter(|(fault, _)| fault.is_silent());
        silent.map(|(_, met)| met.refused).sum()
    }

    /// Whether mail is as it was told, no connection broke that need not, and nobody noticed a swap. Goals are
    /// apart: a machine that is shared misses some.
    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty()
            && self.broken_alone() == 0
            && self.noticed() == 0
            && self.count.acknowledged > 0
    }

    /// The kinds of fault whose goal was missed.
    pub fn missed(&self) -> Vec<Fault> {
        let missed =
            |fault: &Fault, met: &Met| fault.goal().is_some_and(|goal| met.others.longest > goal);
        self.waits.0.iter().filter(|(fault, met)| missed(fault, met)).map(|(f, _)| *f).collect()
    }

    /// As a table.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<16}{:>5} {:>8} {:>8} {:>9} {:>7} {:<7}{:>9} {:>9} {:>8} {:>8} {:>7} {:>7}\n",
            "fault",
            "times",
            "calls",
            "p99",
            "longest",
            "goal",
            "",
            "own node",
            "told idle",
            "settled",
            "refused",
            "broken",
            "alone",
        );
        for (fault, met) in &self.waits.0 {
            let goal = fault.goal();
            let word = match goal {
                None => "",
                Some(goal) if met.others.longest > goal => "MISSED",
                Some(_) => "met",
            };
            let _ = writeln!(
                text,
                "{:<16}{:>5} {:>8} {:>8} {:>9} {:>7} {:<7}{:>9} {:>9} {:>8} {:>8} {:>7} {:>7}",
                fault.name(),
                met.times,
                met.others.count + met.own.count,
                short(met.others.percentile(99)),
                short(met.others.longest),
                goal.map_or("-".to_owned(), |goal| format!("{} s", goal.as_secs())),
                word,
                short(met.own.longest),
                short(met.told.longest),
                short(met.settled.longest),
                met.refused,
                met.broken_with_node,
                met.broken_alone,
            );
        }
        let count = &self.count;
        let _ = writeln!(
            text,
            "p99, longest: calls of clients of other nodes than the one disturbed (a call that begins or ends \
             meanwhile); own node: the longest of its own clients. told idle: from an acknowledgement to who \
             idles. settled: until every client was served again. broken: with their node; alone: it lived."
        );
        text.push_str(&told::text(&self.waits, &self.trials));
        let _ = writeln!(
            text,
            "\nseed {}, {} s, {} calls, {} attempts\nacknowledged {}: present {}, removed by clients {}, perhaps \
             removed {}; there without an acknowledgement: appended {}, delivered {}",
            self.seed,
            self.elapsed.as_secs(),
            self.calls,
            count.attempts,
            count.acknowledged,
            count.present,
            count.removed,
            count.perhaps_removed,
            count.unacknowledged_present,
            count.unacknowledged_deliveries,
        );
        for sentence in &self.wrong {
            let _ = writeln!(text, "WRONG {sentence}");
        }
        if self.noticed() > 0 {
            let _ = writeln!(
                text,
                "WRONG {} answers said \"not now\" because of a swap",
                self.noticed()
            );
        }
        let _ = match (self.is_sound(), self.broken_alone()) {
            (true, _) => writeln!(text, "nothing acknowledged is lost, doubled or out of order"),
            (false, 0) => writeln!(text, "{} wrong", self.wrong.len()),
            (false, alone) => {
                let wrong = self.wrong.len();
                writeln!(text, "{wrong} wrong; {alone} connections broke although their node lived")
            }
        };
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let met = |(fault, met): (&Fault, &Met)| {
            json!({
                "fault": fault.name(),
                "times": met.times,
                "calls": met.others.count + met.own.count,
                "p50_ms": millis(met.others.percentile(50)),
                "p99_ms": millis(met.others.percentile(99)),
                "longest_ms": millis(met.others.longest),
                "goal_ms": fault.goal().map(millis),
                "met": fault.goal().map(|goal| met.others.longest <= goal),
                "own_node_longest_ms": millis(met.own.longest),
                "told_p99_ms": millis(met.told.percentile(99)),
                "told_longest_ms": millis(met.told.longest),
                "settled_longest_ms": millis(met.settled.longest),
                "refused": met.refused,
                "broken_with_node": met.broken_with_node,
                "broken_alone": met.broken_alone,
            })
        };
        json!({
            "type": "soak",
            "seed": self.seed,
            "seconds": self.elapsed.as_secs_f64(),
            "calls": self.calls,
            "attempts": self.count.attempts,
            "acknowledged": self.count.acknowledged,
            "present": self.count.present,
            "removed": self.count.removed,
            "perhaps_removed": self.count.perhaps_removed,
            "unacknowledged_present": self.count.unacknowledged_present,
            "unacknowledged_deliveries": self.count.unacknowledged_deliveries,
            "faults": self.waits.0.iter().map(met).collect::<Vec<_>>(),
            "swaps": told::json(&self.waits, &self.trials),
            "refused_by_swaps": self.noticed(),
            "wrong": self.wrong,
            "sound": self.is_sound(),
        })
    }
}

/// A time in a table.
pub(super) fn short(time: Duration) -> String {
    match time.as_millis() {
        0 => "-".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        millis => format!("{}.{:02} s", millis / 1_000, millis % 1_000 / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(longest: Duration, alone: u64, wrong: Vec<String>) -> Report {
        let mut waits = Waits::default();
        let met = waits.of(Fault::Kill);
        met.others.add(longest);
        met.broken_alone = alone;
        let count = Count { acknowledged: 1, ..Count::default() };
        let (elapsed, faults) = (Duration::from_secs(1), BTreeMap::new());
        let trials = Trials::default();
        Report { seed: 1, elapsed, faults, count, waits, trials, calls: 1, wrong }
    }

    #[test]
    fn what_is_wrong_shows_and_what_is_missed_shows_apart() {
        let sound = report(Duration::from_millis(900), 0, Vec::new());
        assert!(sound.is_sound() && sound.missed().is_empty());
        assert!(
            sound.text().contains(" met") && sound.text().contains("nothing acknowledged is lost")
        );
        let late = report(Duration::from_millis(1_200), 0, Vec::new());
        assert!(late.is_sound() && late.missed() == [Fault::Kill]);
        assert!(late.text().contains("MISSED") && late.text().contains("1.20 s"));
        assert!(!report(Duration::ZERO, 1, Vec::new()).is_sound());
        let lost = report(Duration::ZERO, 0, vec!["a is lost".to_owned()]);
        assert!(!lost.is_sound() && lost.text().contains("WRONG a is lost"));
        assert_eq!(lost.json()["sound"], false);
        let mut noticed = report(Duration::ZERO, 0, Vec::new());
        noticed.waits.of(Fault::SwapLeak).refused = 1;
        assert!(!noticed.is_sound() && noticed.text().contains("because of a swap"));
        let nothing = Report { count: Count::default(), ..sound };
        assert!(!nothing.is_sound(), "a run without any mail proves nothing");
    }
}
