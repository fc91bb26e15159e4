//! What a keeper has seen of the other nodes over time: whether that can be relied on, and since when each
//! owes what it owes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use postroom_core::deploy::{Phase, Report};

/// How long nothing is decided after something made nodes look dead that are not: storage that was away, a
/// clock of its that was set. Some heartbeats.
const CALM: Duration = Duration::from_secs(3);
/// Looks that are further apart than this have been interrupted: a node that was not heard all that time
/// may have had nobody to tell.
const GAP: Duration = Duration::from_secs(4);

/// What has been seen.
#[derive(Default)]
pub(super) struct Others {
    /// When the last look, and what followed from it, was over, and who lived then.
    looked: Option<(Instant, BTreeSet<String>)>,
    /// Whether a look has failed since.
    is_interrupted: bool,
    /// Since when looks have not been interrupted, and nobody has gone.
    calm: Option<Instant>,
    /// The phase that was seen last, and since when.
    phase: Option<(u64, Phase, Instant)>,
    /// By live node: whether it has made the version ready, and since when that is so.
    owes: BTreeMap<String, (bool, Instant)>,
}

impl Others {
    /// A look could not be finished.
    pub(super) fn interrupted(&mut self) {
        self.is_interrupted = true;
    }

    /// What followed from a look is done: however long that took, it is no interruption.
    pub(super) fn finished(&mut self, now: Instant) {
        if let Some((when, _)) = &mut self.looked {
            *when = now;
        }
    }

    /// Nothing is under way.
    pub(super) fn forget(&mut self) {
        self.phase = None;
        self.owes.clear();
    }

    /// Whether a deployment is under way, as far as is known.
    pub(super) fn is_busy(&self) -> bool {
        self.phase.is_some()
    }

    /// Takes note of who lives; whether anything may be decided by that now. The time of an interruption
    /// is no part of a phase, and nobody owed anything in it.
    pub(super) fn look(&mut self, live: &BTreeSet<String>, now: Instant) -> bool {
        let last = self.looked.take();
        let gap = last.as_ref().map(|(when, _)| now.saturating_duration_since(*when));
        let interrupted = self.is_interrupted || gap.is_none_or(|gap| gap > GAP);
        if let Some(gap) = gap.filter(|_| interrupted) {
            let times = self.owes.values_mut().map(|(_, since)| since);
            let times = times.chain(self.phase.iter_mut().map(|(.., since)| since));
            times.for_each(|since| *since += gap);
        }
        let gone = last.is_some_and(|(_, before)| !before.is_subset(live));
        let since = self.calm.filter(|_| !interrupted && !gone).unwrap_or(now);
        self.is_interrupted = false;
        (self.calm, self.looked) = (Some(since), Some((now, live.clone())));
        now.saturating_duration_since(since) >= CALM
    }

    /// How long the deployment of this number has been seen in this phase.
    pub(super) fn phase_for(&mut self, number: u64, phase: Phase, now: Instant) -> Duration {
        let same = |(n, p, _): &(u64, Phase, Instant)| (*n, *p) == (number, phase);
        let seen = self.phase.filter(same).unwrap_or_else(|| {
            self.owes.clear();
            (number, phase, now)
        });
        self.phase = Some(seen);
        now.saturating_duration_since(seen.2)
    }

    /// Takes note of what live nodes have said of the deployment under way.
    pub(super) fn hear<'a>(
        &mut self,
        said: impl Iterator<Item = (&'a str, Option<&'a Report>)>,
        now: Instant,
    ) {
        let mut owes = BTreeMap::new();
        for (node, report) in said {
            let ready = report.is_some();
            let since = self.owes.get(node).filter(|(was, _)| *was == ready);
            owes.insert(node.to_owned(), (ready, since.map_or(now, |(_, since)| *since)));
        }
        self.owes = owes;
    }

    /// How long a live node has been seen to owe what it owes now in this phase.
    pub(super) fn owing(&self, node: &str, now: Instant) -> Duration {
        let since = self.owes.get(node).map(|(_, since)| *since);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::deploy::Progress;
    use postroom_core::deploy::evidence::Evidence;

    use super::*;

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn nothing_is_decided_for_a_while_after_looks_were_interrupted_or_somebody_has_gone() {
        let (mut others, start) = (Others::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (both, one) = (nodes(&["a", "b"]), nodes(&["a"]));
        assert!(!others.look(&both, at(0)), "it has only just begun");
        assert!(!others.look(&both, at(2)));
        assert!(others.look(&both, at(3)));
        assert!(others.look(&nodes(&["a", "b", "c"]), at(4)), "who comes is no reason");
        assert!(!others.look(&both, at(5)), "c has gone, or could not be heard");
        assert!(others.look(&both, at(8)));
        assert!(!others.look(&one, at(9)));
        assert!(!others.look(&both, at(11)), "b was there all the time");
        assert!(others.look(&both, at(12)));
        assert!(!others.look(&both, at(17)), "nobody has looked for five seconds");
        assert!(others.look(&both, at(20)));
        others.interrupted();
        assert!(!others.look(&both, at(21)));
        assert!(others.look(&both, at(24)));
        // What this node has to do may take long.
        others.finished(at(90));
        assert!(others.look(&both, at(91)));
        others.finished(at(180));
        assert!(!others.look(&one, at(181)), "b has gone meanwhile, or had nobody to tell");
    }

    #[test]
    fn while_storage_was_away_no_time_has_passed() {
        let (mut others, start) = (Others::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let live = nodes(&["a", "b"]);
        others.look(&live, at(0));
        others.phase_for(1, Phase::Staging, at(0));
        others.hear([("b", None)].into_iter(), at(0));
        for second in 1..=10 {
            others.look(&live, at(second));
        }
        // Once looks fail, and once one comes late.
        others.interrupted();
        others.look(&live, at(110));
        others.look(&live, at(210));
        others.look(&live, at(212));
        assert_eq!(others.phase_for(1, Phase::Staging, at(212)).as_secs(), 12);
        assert_eq!(others.owing("b", at(212)).as_secs(), 12);
    }

    #[test]
    fn a_node_owes_since_it_came_or_has_said_how_far_it_is_in_this_phase() {
        let (mut others, start) = (Others::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let evidence = Evidence::default();
        let progress = Progress::Staged;
        let staged = Report { deployment: 1, generation: 1, progress, evidence };
        let seconds = |others: &Others, node, now| others.owing(node, at(now)).as_secs();
        assert_eq!(others.phase_for(1, Phase::Staging, at(0)).as_secs(), 0);
        others.hear([("a", None)].into_iter(), at(0));
        assert_eq!(others.phase_for(1, Phase::Staging, at(100)).as_secs(), 100);
        others.hear([("a", None), ("b", None)].into_iter(), at(100));
        assert_eq!((seconds(&others, "a", 110), seconds(&others, "b", 110)), (110, 10));
        others.hear([("a", Some(&staged)), ("b", None)].into_iter(), at(120));
        assert_eq!((seconds(&others, "a", 130), seconds(&others, "b", 130)), (10, 30));
        // One that was away begins anew, and all do in another phase.
        others.hear([("a", Some(&staged))].into_iter(), at(130));
        others.hear([("a", Some(&staged)), ("b", None)].into_iter(), at(140));
        assert_eq!(seconds(&others, "b", 150), 10);
        assert_eq!(others.phase_for(1, Phase::Probation, at(150)).as_secs(), 0);
        others.hear([("a", Some(&staged)), ("b", None)].into_iter(), at(150));
        assert_eq!((seconds(&others, "a", 160), seconds(&others, "b", 160)), (10, 10));
        assert_eq!(seconds(&others, "c", 160), 0);
    }
}
