//! The slots that this node has claimed; every commit to one carries its claim's fence. A node of its own
//! claims a slot when the first of its accounts is opened. In a cluster the router does, because others may
//! have it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use postroom_core::error::StoreError;
use postroom_core::types::Slot;
use tokio::sync::OnceCell;

use crate::storage::{Claimant, Engine, Fence, StorageError};

use super::{error, mint};

/// How often a claim is tried again when somebody else claimed in between.
const MAX_ATTEMPTS: usize = 3;

/// The claims of this node, at most one for each of the 4,096 slots.
pub struct Claims {
    engine: Arc<dyn Engine>,
    node: String,
    generation: u64,
    /// Slots are claimed elsewhere, and held here only as long as they are ours.
    given: bool,
    held: Mutex<HashMap<Slot, Arc<OnceCell<Fence>>>>,
    /// Told of claims that storage refused.
    told: OnceLock<Box<dyn Fn(Fence) + Send + Sync>>,
}

impl Claims {
    /// No claims yet, for a node in its so-many-eth life.
    pub fn new(engine: Arc<dyn Engine>, node: String, generation: u64) -> Self {
        Self {
            engine,
            node,
            generation,
            given: false,
            held: Mutex::default(),
            told: OnceLock::new(),
        }
    }

    /// No claims yet, and none but those that are given by [`hold`](Self::hold).
    pub fn given(self) -> Self {
        Self { given: true, ..self }
    }

    /// Whoever claims the slots is told of claims that storage refused: once, by the first who asks.
    pub fn tell(&self, refused: impl Fn(Fence) + Send + Sync + 'static) {
        let _ = self.told.set(Box::new(refused));
    }

    /// From now on this is the slot's fence. Says whether it was another one, or none, before.
    pub fn hold(&self, fence: Fence) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&fence.slot).and_then(|cell| cell.get()) == Some(&fence) {
            return false;
        }
        held.insert(fence.slot, Arc::new(OnceCell::new_with(Some(fence))));
        true
    }

    /// The fence of a slot, claiming it if need be. Callers that arrive meanwhile share one claim.
    pub async fn fence(&self, slot: Slot) -> Result<Fence, StoreError> {
        let cell = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            match self.given {
                true => held.get(&slot).cloned().ok_or(StoreError::Fenced)?,
                false => held.entry(slot).or_default().clone(),
            }
        };
        cell.get_or_try_init(|| self.claim(slot)).await.copied()
    }

    async fn claim(&self, slot: Slot) -> Result<Fence, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let previous = error::read(self.engine.claimed(slot)).await?.map(|claim| claim.0);
            let claimant = Claimant {
                node: self.node.clone(),
                generation: self.generation,
                nonce: mint::random(),
            };
            let claim = self.engine.claim(slot, claimant, previous);
            match tokio::time::timeout(super::limits::STEP_DEADLINE, claim).await {
                Ok(Ok(fence)) => return Ok(fence),
                Ok(Err(StorageError::Conflict)) => continue,
                Ok(Err(error)) => return Err(error::storage_error(error)),
                Err(_) => return Err(StoreError::Unavailable("storage took too long".into())),
            }
        }
        Err(StoreError::Unavailable("another node claims the same slot".into()))
    }

    /// Storage has refused a commit under this claim.
    pub fn refused(&self, fence: Fence) {
        self.lost(fence);
        if let Some(told) = self.told.get() {
            told(fence);
        }
    }

    /// Forgets a claim; one made since stays.
    pub fn lost(&self, fence: Fence) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&fence.slot).and_then(|cell| cell.get()) == Some(&fence) {
            held.remove(&fence.slot);
        }
    }
}
