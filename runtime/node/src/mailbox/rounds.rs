//! Holds the round that is known here of each store's rows against the one in storage, before anything
//! is written by it.
//!
//! A sweep begins only when every live node writes the new schema, and goes to whoever has an account
//! open. What is left are nodes that are not heard: halted, or cut off. Whatever one of them had open is
//! taken over, so its commits are fenced; and before it opens an account again it comes by here.

use std::sync::Arc;
use std::time::Duration;

use postroom_core::error::StoreError;

use crate::guest::Round;
use crate::storage::{Engine, Space};

use super::error::read;

/// How long to wait for the record of deployments to be looked at: that takes milliseconds.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// Comes back when no store's rows are in a later round than is known here.
///
/// # Errors
/// `Unavailable` when this node does not come to know it in time, or storage is away.
pub async fn current(
    engine: &Arc<dyn Engine>,
    rounds: [Option<Round>; 2],
) -> Result<(), StoreError> {
    let mut rounds: Vec<Round> = rounds.into_iter().flatten().collect();
    rounds.dedup_by(|a, b| a.key == b.key);
    if rounds.is_empty() {
        return Ok(());
    }
    let keys = rounds.iter().map(|round| round.key.clone()).collect();
    let stored = read(engine.get_many(Space::Directory, keys)).await?;
    for (round, stored) in rounds.iter_mut().zip(stored) {
        let Some(stored) = stored else { continue };
        let octets = stored.as_ref().try_into();
        let octets =
            octets.map_err(|_| StoreError::Damaged("the round of a store's rows".into()))?;
        let stored = u64::from_be_bytes(octets);
        if round.known.borrow().round < stored {
            round.outdated.notify_one();
        }
        let known = round.known.wait_for(|told| told.round >= stored);
        if !matches!(tokio::time::timeout(LOOK_TIME, known).await, Ok(Ok(_))) {
            return Err(StoreError::Unavailable(
                "the store's rows have another schema than this node knows of".into(),
            ));
        }
    }
    Ok(())
}
