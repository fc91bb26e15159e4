//! How a node says in storage that it lives.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::mailbox::random;
use crate::storage::{Claimant, Engine, StorageError};

/// How often. A node's claims may be taken after some of these are missing.
const EVERY: Duration = Duration::from_secs(1);

/// One life of a node, as storage sees it.
pub struct Heartbeat {
    engine: Arc<dyn Engine>,
    claimant: Claimant,
}

impl Heartbeat {
    /// Of a node under this name in its so-many-eth life. Says so for the first time.
    ///
    /// # Errors
    /// `Conflict` when another process has the name, or a later life; those of storage.
    pub async fn begin(
        engine: Arc<dyn Engine>,
        node: String,
        generation: u64,
    ) -> Result<Self, StorageError> {
        let claimant = Claimant { node, generation, nonce: random() };
        engine.beat(claimant.clone()).await?;
        Ok(Self { engine, claimant })
    }

    /// Says so for ever, or until another process has the name: then `superseded` is cancelled.
    pub async fn keep(self, superseded: CancellationToken) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match self.engine.beat(self.claimant.clone()).await {
                Ok(()) => {}
                Err(StorageError::Conflict) => {
                    error!("another process has this node's name: this one ends");
                    return superseded.cancel();
                }
                Err(error) => warn!(%error, "storage does not take this node's heartbeat"),
            }
        }
    }
}
