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
/// One of so many calls that it is not available to is too much: storage may be away for a moment, and be
/// there again when the version before is asked.
const UNAVAILABLE: u64 = 10;
/// So many are enough where they are most of a function's calls: each of them was a call that the version
/// before has carried out.
const MOSTLY_UNAVAILABLE: u64 = 3;

/// What is held against the version, in one line; none: nothing so far.
pub fn fault(evidence: &Evidence) -> Option<String> {
    if let Some(trip) = &evidence.trip {
        return Some(trip.clone());
    }
    evidence.tentative.iter().find_map(|new| {
        let none = VerbEvidence::default();
        let old = evidence.baseline.iter().find(|old| old.verb == new.verb).unwrap_or(&none);
        more_failures(new, old).or_else(|| unavailable(new)).or_else(|| slower(new, old))
    })
}

fn more_failures(new: &VerbEvidence, old: &VerbEvidence) -> Option<String> {
    if new.calls < ENOUGH_CALLS {
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

fn unavailable(new: &VerbEvidence) -> Option<String> {
    let VerbEvidence { verb, calls, unavailable, .. } = new;
    let often = *calls >= ENOUGH_CALLS && unavailable.saturating_mul(UNAVAILABLE) > *calls;
    let mostly = *unavailable >= MOSTLY_UNAVAILABLE && unavailable.saturating_mul(2) > *calls;
    (often || mostly).then(|| {
        format!("{verb}: not available to {unavailable} of {calls} calls, which the version before has carried out")
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
