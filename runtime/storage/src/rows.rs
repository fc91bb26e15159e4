//! Any ordered map of rows, as an engine offers it to the code that all engines share; and the
//! records that this layer itself keeps in it.

use std::ops::ControlFlow;

use bytes::Bytes;
use postroom_core::types::Epoch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Claim, Claimant, Fence, StorageError, row};

/// What a scan does with each row: a raw key and its stored (framed) value.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StorageError>;

/// One consistent state of an ordered map of stored rows.
pub trait Rows {
    /// The stored value of a raw key.
    fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Shows rows from `start` (included) to `end` (excluded), ascending, until `visit` breaks.
    fn visit(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<(), StorageError>;

    /// The verified payload of a raw key.
    fn payload(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let Some(stored) = self.stored(key)? else { return Ok(None) };
        row::payload(key, &stored)?;
        Ok(Some(stored.slice(row::HEADER..)))
    }

    /// The record under a raw key.
    fn record<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        self.payload(key)?.map(|payload| row::decode(key, &payload)).transpose()
    }
}

/// The claim on a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// Rises by each claim.
    pub epoch: Epoch,
    /// The claimant's node.
    pub node: String,
    /// Its generation.
    pub generation: u64,
    /// The claim's nonce.
    pub nonce: [u8; 16],
    /// It was given up in good order. Rows of the first layout end before it.
    #[serde(deserialize_with = "released")]
    pub released: bool,
}

fn released<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    // The row has its checksum: it ends here because it was written so.
    Ok(bool::deserialize(from).unwrap_or(false))
}

impl ClaimRow {
    /// Whether it is the one that a fence means.
    pub fn is_of(&self, fence: Fence) -> bool {
        self.epoch == fence.epoch && self.nonce == fence.nonce
    }

    /// As the interface has it.
    pub fn claim(self) -> Claim {
        Claim { epoch: self.epoch, released: self.released, claimant: self.claimant() }
    }

    /// The claimant.
    pub fn claimant(self) -> Claimant {
        Claimant { node: self.node, generation: self.generation, nonce: self.nonce }
    }
}

/// The remembered answer of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRow {
    /// When it was committed: seconds since the Unix epoch.
    pub at: i64,
    /// The answer.
    pub result: Bytes,
}

/// Which body a name means. Size and digest stand here too, so that one look-up is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRow {
    /// The body.
    pub body: [u8; 16],
    /// Its octets.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: [u8; 32],
}

/// A body that has links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRow {
    /// How many: at least one.
    pub links: u64,
    /// Octets.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: [u8; 32],
    /// Where they are.
    pub place: Place,
}

/// Where the octets of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In a row of their own.
    Row,
    /// In a segment.
    Segment(SegmentPlace),
    /// An object of its own.
    Object,
}

/// A record in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPlace {
    /// Which segment.
    pub segment: u64,
    /// Where its record starts, in octets from the start of the file.
    pub offset: u64,
    /// Octets of the whole record.
    pub length: u64,
}

/// How much of a segment is in use. A segment without such a row holds nothing that anybody
/// has linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// Bodies that have links.
    pub live_bodies: u64,
    /// Octets of their records.
    pub live_octets: u64,
    /// Where the last record that ever had a link ends: everything after it is an orphan.
    pub end: u64,
}

impl SegmentRow {
    /// Whether so little of it is in use that rewriting it gains more than it costs, as far as the
    /// row knows.
    pub fn is_thin(&self) -> bool {
        self.is_thin_in(self.end)
    }

    /// The same of a file of this length, which may end with orphans.
    pub fn is_thin_in(&self, length: u64) -> bool {
        self.live_octets < self.end.max(length) / 2
    }
}
