//! The claim on a slot: the record in storage that alone decides who may commit to it.

use crate::types::{Epoch, Slot};

use super::facts::{Generation, NodeId};

/// Who claims a slot: which incarnation of which node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimant {
    /// The node.
    pub node: NodeId,
    /// Its incarnation.
    pub generation: Generation,
    /// Random, of this claim.
    pub nonce: [u8; 16],
}

/// What every commit under a claim carries; storage compares it by equality with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The slot.
    pub slot: Slot,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The nonce of the claim.
    pub nonce: [u8; 16],
}

/// The record of a slot as storage has it. Taking the slot is a compare-and-set that raises the epoch;
/// letting it go is one that sets `released` and leaves the epoch. A commit under a released claim is
/// refused as one under an old epoch is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimRecord {
    /// Rises by one with each claim.
    pub epoch: Epoch,
    /// Who made the claim.
    pub claimant: Claimant,
    /// Set by the claimant when it has let the slot go, after its last commit.
    pub released: Option<Release>,
}

impl ClaimRecord {
    /// Whether a commit with this fence is under this claim.
    pub fn admits(&self, fence: &Fence) -> bool {
        self.released.is_none() && self.epoch == fence.epoch && self.claimant.nonce == fence.nonce
    }
}

/// That a slot has been let go.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The node that should open it, for balance. Nobody has to: when it does not, anybody may.
    pub to: Option<NodeId>,
}

/// A node's heartbeat row in storage, as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Beat {
    /// The incarnation that wrote it.
    pub generation: Generation,
    /// How long ago, by storage's clock.
    pub age: std::time::Duration,
}
