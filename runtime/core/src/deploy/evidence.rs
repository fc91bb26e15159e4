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
}

/// What stands against each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The version on probation, since it serves.
    pub tentative: Vec<VerbEvidence>,
    /// The one before it, for as long as it served here.
    pub baseline: Vec<VerbEvidence>,
    /// Why the node has switched back by itself, if it has.
    pub trip: Option<String>,
}
