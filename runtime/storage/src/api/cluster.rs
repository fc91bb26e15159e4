//! What nodes that share an engine know of each other through it: claims on slots, and heartbeats.

use std::time::Duration;

use postroom_core::types::{Epoch, SLOTS};

use super::{Claimant, StorageError};

/// Most claims that one look-up returns: all there are.
pub const MAX_CLAIMS: usize = SLOTS as usize;
/// Most nodes whose heartbeats are kept: more than one gossip carries.
pub const MAX_NODES: usize = 1024;
/// Longest id of a node in octets.
pub const MAX_NODE_OCTETS: usize = 255;

/// The claim on a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Rises by each claim.
    pub epoch: Epoch,
    /// Whose it is.
    pub claimant: Claimant,
    /// The claimant has given it up in good order: nothing is committed under it any more.
    pub released: bool,
}

/// A node's heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The node's id.
    pub node: String,
    /// Its generation.
    pub generation: u64,
    /// How long ago it was, by the clock of the storage.
    pub age: Duration,
}

impl Claimant {
    /// Checks what an engine is to keep of a node against the limits of this module.
    pub fn check(&self) -> Result<(), StorageError> {
        match self.node.len() {
            1..=MAX_NODE_OCTETS => Ok(()),
            octets => Err(StorageError::Limit(format!(
                "a node's id of {octets} octets, at least 1 and at most {MAX_NODE_OCTETS}"
            ))),
        }
    }
}
