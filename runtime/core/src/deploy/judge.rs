//! Whether a version on probation does worse than the one before it.
//!
//! It is held against that one's own record on the same node, function by function: whatever is slow
//! or fails on this machine did so before too. A few calls prove nothing, so nothing is said about
//! functions with fewer than [`ENOUGH_CALLS`] on either side.

use super::evidence::{Evidence, VerbEvidence};

/// Calls of one function, on each side, before they are held against each other.
const ENOUGH_CALLS: u64 = 50;
/// How many times as long calls may take on average: caches are cold after a switch, machines are
/// busy at times. Ten times is a fault.
const SLOWER: u64 = 6;
/// What is added to that, in microseconds: below it nobody notices.
const SLACK_MICROS: u64 = 5_000;
/// Failures of a thousand calls that may come on top of what there was before.
const MORE_FAILURES: u64 = 5;

/// What is held against the version, in one line; none: nothing so far.
pub fn fault(evidence: &Evidence) -> Option<String> {
    if let Some(trip) = &evidence.trip {
        return Some(trip.clone());
    }
    evidence.tentative.iter().find_map(|new| {
        let old = evidence.baseline.iter().find(|old| old.verb == new.verb)?;
        more_failures(new, old).or_else(|| slower(new, old))
    })
}

fn more_failures(new: &VerbEvidence, old: &VerbEvidence) -> Option<String> {
    if new.calls < ENOUGH_CALLS || old.calls == 0 {
        return None;
    }
    let of_thousand = |side: &VerbEvidence| side.failures.saturating_mul(1000) / side.calls.max(1);
    (of_thousand(new) > of_thousand(old) + MORE_FAILURES).then(|| {
        format!(
            "{}: {} of {} calls failed, {} of {} before",
            new.verb, new.failures, new.calls, old.failures, old.calls
        )
    })
}

fn slower(new: &VerbEvidence, old: &VerbEvidence) -> Option<String> {
    if new.calls < ENOUGH_CALLS || old.calls < ENOUGH_CALLS {
        return None;
    }
    let mean = |side: &VerbEvidence| side.micros / side.calls.max(1);
    let (now, before) = (mean(new), mean(old));
    (now > before.saturating_mul(SLOWER) + SLACK_MICROS)
        .then(|| format!("{}: {now} µs a call, {before} µs before", new.verb))
}
