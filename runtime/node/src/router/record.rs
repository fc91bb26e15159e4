//! Claims and heartbeats as the protocol has them, from storage and to it; and the protocol's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use postroom_core::cluster::{
    Beat, ClaimRecord, Claimant, Fence, Generation, NoAnswer, NodeId, Release,
};
use postroom_core::types::{Epoch, Slot};
use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::storage::{self, Claim, Engine, StorageError};

/// The time since the machine was started, sleep included: an owner that was suspended must not believe that
/// no time has passed.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn no_answer(error: StorageError) -> NoAnswer {
    warn!(%error, "storage does not answer about claims");
    NoAnswer
}

/// What the record says. One whose claimant has no name that a node can have is as if nobody could be asked:
/// its heartbeat decides, and there is none.
fn record(claim: Claim) -> Option<ClaimRecord> {
    let Claimant { node, generation, nonce } = Claimant {
        node: claim.claimant.node.parse().ok()?,
        generation: Generation(claim.claimant.generation),
        nonce: claim.claimant.nonce,
    };
    let released = claim.released.then(Release::default);
    Some(ClaimRecord {
        epoch: claim.epoch,
        claimant: Claimant { node, generation, nonce },
        released,
    })
}

/// The claim on a slot.
pub async fn claim(engine: &dyn Engine, slot: Slot) -> Result<Option<ClaimRecord>, NoAnswer> {
    Ok(claims(engine, vec![slot]).await?.remove(&slot).flatten())
}

/// The claims on slots, by one query.
pub async fn claims(
    engine: &dyn Engine,
    slots: Vec<Slot>,
) -> Result<BTreeMap<Slot, Option<ClaimRecord>>, NoAnswer> {
    let found = engine.claims(slots.clone()).await.map_err(no_answer)?;
    Ok(slots.into_iter().zip(found.into_iter().map(|claim| claim.and_then(record))).collect())
}

/// A node's heartbeat.
pub async fn beat(engine: &dyn Engine, node: &NodeId) -> Result<Option<Beat>, NoAnswer> {
    let beats = engine.beats().await.map_err(no_answer)?;
    let beat = beats.into_iter().find(|beat| beat.node == node.as_str());
    Ok(beat.map(|beat| Beat { generation: Generation(beat.generation), age: beat.age }))
}

/// Takes a slot. `None`: its record is another than the one that was seen.
pub async fn take(
    engine: &dyn Engine,
    slot: Slot,
    (node, generation, nonce): (&str, u64, [u8; 16]),
    previous: Option<Epoch>,
) -> Result<Option<Fence>, NoAnswer> {
    let claimant = storage::Claimant { node: node.to_owned(), generation, nonce };
    match engine.claim(slot, claimant, previous).await {
        Ok(fence) => Ok(Some(fence)),
        Err(StorageError::Conflict) => Ok(None),
        Err(error) => Err(no_answer(error)),
    }
}

/// Marks a claim as let go. False: the slot was lost before.
pub async fn release(engine: &dyn Engine, fence: &Fence) -> Result<bool, NoAnswer> {
    match engine.release(*fence).await {
        Ok(()) => Ok(true),
        Err(StorageError::Fenced) => Ok(false),
        Err(error) => Err(no_answer(error)),
    }
}
