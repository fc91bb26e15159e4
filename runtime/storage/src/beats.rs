//! Heartbeats of an engine that only one process has. Nobody else could read them, so they are kept in
//! memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::{Beat, Claimant, MAX_NODES, StorageError};

/// The last beat of each node.
#[derive(Debug, Default)]
pub struct Beats(Mutex<BTreeMap<String, Last>>);

#[derive(Debug)]
struct Last {
    generation: u64,
    nonce: [u8; 16],
    at: Instant,
}

impl Beats {
    /// As [`Engine::beat`](super::Engine::beat).
    pub fn beat(&self, node: Claimant) -> Result<(), StorageError> {
        node.check()?;
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Claimant { node, generation, nonce } = node;
        match beats.get(&node) {
            Some(last) if generation < last.generation => return Err(StorageError::Conflict),
            Some(last) if generation == last.generation && nonce != last.nonce => {
                return Err(StorageError::Conflict);
            }
            None if beats.len() >= MAX_NODES => {
                return Err(StorageError::Limit(format!("more than {MAX_NODES} nodes")));
            }
            Some(_) | None => {}
        }
        beats.insert(node, Last { generation, nonce, at: Instant::now() });
        Ok(())
    }

    /// As [`Engine::beats`](super::Engine::beats).
    pub fn all(&self) -> Vec<Beat> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let beat = |(node, last): (&String, &Last)| Beat {
            node: node.clone(),
            generation: last.generation,
            age: last.at.elapsed(),
        };
        beats.iter().map(beat).collect()
    }
}
