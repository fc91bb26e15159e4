//! Whether a version on probation does worse than the one before it.
//!
//! It is held against that one's own record on the same node, function by function: whatever is slow
//! or fails on this machine did so before too. A few calls prove nothing, so nothing is said of the time and
//! the failures of functions with fewer than [`ENOUGH_CALLS`].
//!
//! What is slow in few of its calls, less than one of ten, and fails in none, is not held against it.
//!
//! A function that traps now and then is answered all the same: the call is made again, alone. So instances
//! that were lost, or wore out, are counted by themselves.

use super::evidence::{Evidence, Took, VerbEvidence, Wears};

/// Calls of one function, on each side, before they are held against each other.
const ENOUGH_CALLS: u64 = 50;
/// How many times as long calls may take: caches are cold after a switch, machines are busy at times. Ten
/// times is a fault.
const SLOWER: u64 = 6;

/// What of the calls' times is held against each other. Never their mean: one stall of the machine, or of
/// storage, is in it whole, while it is in these only if it met more than a quarter, half, or a tenth of the calls.
struct Slowness {
    took: fn(&Took) -> u64,
    /// Calls of the function, on each side.
    calls: u64,
    /// What is added to [`SLOWER`] times what there was before, in microseconds.
    slack: u64,
    /// Whose times these are.
    name: &'static str,
}

/// The fewer calls, the more of them a stall has met.
const SLOWNESS: [Slowness; 3] = [
    // Below this nobody notices.
    Slowness {
        took: |took| took.three_quarters,
        calls: ENOUGH_CALLS,
        slack: 5_000,
        name: "three of four",
    },
    // Nor below this; but all its calls together are noticed.
    Slowness { took: |took| took.half, calls: 500, slack: 1_000, name: "half" },
    Slowness { took: |took| took.nine_tenths, calls: 1_000, slack: 5_000, name: "nine of ten" },
];

/// Failures of a thousand calls that may come on top of what there was before.
const MORE_FAILURES: u64 = 5;
/// One of so many calls that it is not available to is too much: storage may be away for a moment, and be
/// there again when the version before is asked.
const UNAVAILABLE: u64 = 10;
/// So many are enough where they are most of a function's calls: each of them was a call that the version
/// before has carried out.
const MOSTLY_UNAVAILABLE: u64 = 3;

/// Instances that may be lost before it is held against the version: what both versions fail at costs it
/// two, and the version before at least one.
const LOST: u64 = 2;
/// Instances that may wear out before they are held against the version: one may have met something large.
const WORN: u64 = 1;
/// How many times as often as with the version before, by calls, they may wear out.
const MORE_WORN: u64 = 4;

/// What is held against the version, in one line; none: nothing so far.
pub fn fault(evidence: &Evidence) -> Option<String> {
    if let Some(trip) = &evidence.trip {
        return Some(trip.clone());
    }
    evidence
        .tentative
        .iter()
        .find_map(|new| {
            let none = VerbEvidence::default();
            let old = evidence.baseline.iter().find(|old| old.verb == new.verb).unwrap_or(&none);
            more_failures(new, old).or_else(|| unavailable(new)).or_else(|| slower(new, old))
        })
        .or_else(|| more_wear(evidence))
}

fn more_wear(evidence: &Evidence) -> Option<String> {
    let Wears { tentative: new, meanwhile, before } = evidence.wear;
    if new.lost > LOST + meanwhile.lost.saturating_mul(2) {
        let (new, old) = (new.lost, meanwhile.lost);
        return Some(format!(
            "{new} of its instances were lost, {old} of the version before at what it was asked again"
        ));
    }
    let calls = |side: &[VerbEvidence]| side.iter().map(|verb| verb.calls).sum::<u64>();
    let (now, then) = (calls(&evidence.tentative), calls(&evidence.baseline));
    let often = before.worn == 0
        || new.worn.saturating_mul(then)
            > before.worn.saturating_mul(now).saturating_mul(MORE_WORN);
    (new.worn > WORN && often).then(|| {
        format!(
            "{} of its instances in {now} calls kept their memory or handles for themselves, {} in {then} before",
            new.worn, before.worn
        )
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
    let calls = new.calls.min(old.calls);
    SLOWNESS.iter().filter(|slowness| calls >= slowness.calls).find_map(|slowness| {
        let Slowness { took, slack, name, .. } = slowness;
        let (now, before) = (took(&new.took), took(&old.took));
        (now > before.saturating_mul(SLOWER) + slack).then(|| {
            format!("{}: {name} of its calls took up to {now} µs, {before} µs before", new.verb)
        })
    })
}
