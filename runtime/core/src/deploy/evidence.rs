//! What a node has seen of a version of a component while it is on probation. Plain numbers:
//! `judge` holds them against each other.

use serde::{Deserialize, Serialize};

/// How one function of a component has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbEvidence {
    /// Interface and function: `messages insert`.
    pub verb: String,
    /// Calls that have been answered, in whatever way.
    pub calls: u64,
    /// Calls that the component failed at: it trapped, overran, or broke a promise. Of a version on probation
    /// only those that the one before it has then carried out.
    pub failures: u64,
    /// Calls that a version on probation was not available to, or too busy for, and that the one before it
    /// has then carried out. Absent in what an earlier version of a node says.
    #[serde(default)]
    pub unavailable: u64,
    /// How long all of them took together, in microseconds.
    pub micros: u64,
    /// How long most of them took. Absent in what an earlier version of a node says.
    #[serde(default)]
    pub took: Took,
}

/// How long calls took at most, in microseconds, but for the slowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// Half of them.
    pub half: u64,
    /// Three of four.
    pub three_quarters: u64,
    /// Nine of ten.
    pub nine_tenths: u64,
}

/// How many instances of a component went before their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wear {
    /// They trapped, or used up the CPU time of a call. Whoever was in them may have been served by others.
    pub lost: u64,
    /// They kept too much of their memory or handles for themselves, and were replaced.
    pub worn: u64,
}

/// The wear of both versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wears {
    /// The version on probation, since it was made ready.
    pub tentative: Wear,
    /// The one before it, since the other one serves: what it is asked is what the other one has failed at.
    pub meanwhile: Wear,
    /// The one before it, while it served.
    pub before: Wear,
}

/// What stands against each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The version on probation, since it serves.
    pub tentative: Vec<VerbEvidence>,
    /// The one before it, for as long as it served here.
    pub baseline: Vec<VerbEvidence>,
    /// Instances that each of them has cost. Absent in what an earlier version of a node says.
    #[serde(default)]
    pub wear: Wears,
    /// Why the node has switched back by itself, if it has.
    pub trip: Option<String>,
}
