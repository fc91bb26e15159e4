//! What keeps two processes from one data folder, and a node of its own from a database that others use.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;

use super::identity::Identity;
use crate::router::Heartbeat;
use crate::storage::Engine;

/// The file in the data folder that a process locks.
pub const LOCK: &str = "lock";
/// A node that said so within this time may live: some times what a cluster takes for dead.
const FRESH: Duration = Duration::from_secs(10);

/// Makes the folder this process's own for as long as what comes back lives.
pub fn lock(data: &Path) -> Result<File> {
    let path = data.join(LOCK);
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot write to {}", data.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "{} is in use by another process: stop that node, or name it with --admin",
            data.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The heartbeat of a node that is in no cluster, over a database that others could use too. Ends when it is
/// dropped.
pub struct Alone {
    stop: CancellationToken,
    superseded: CancellationToken,
}

impl Alone {
    /// Begins, unless another node uses the database.
    pub async fn begin(engine: Arc<dyn Engine>, identity: &Identity) -> Result<Self> {
        let node = format!("alone-{}", identity.id);
        let others = engine.beats().await.context("the database")?;
        if let Some(other) = others.iter().find(|beat| beat.node != node && beat.age < FRESH) {
            bail!(
                "node {} uses this database, {} s ago for the last time: nodes that share one need [cluster] in their configuration",
                other.node,
                other.age.as_secs()
            );
        }
        let beat = Heartbeat::begin(engine, node, identity.generation).await;
        let beat = beat.context("the database does not take this node")?;
        let (stop, superseded) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(stop.clone().run_until_cancelled_owned(beat.keep(superseded.clone())));
        Ok(Self { stop, superseded })
    }

    /// Cancelled when another process has this node's name.
    pub fn superseded(&self) -> &CancellationToken {
        &self.superseded
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryEngine;

    #[test]
    fn a_folder_is_one_processs_own() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let refused = lock(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("in use by another process"), "{refused}");
        drop(held);
        lock(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn a_node_of_its_own_keeps_off_a_database_that_another_uses() {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let identity = Identity { id: "1".repeat(32), generation: 1 };
        let first = Alone::begin(engine.clone(), &identity).await.unwrap();
        // Started again, in its own name.
        let again = Identity { generation: 2, ..identity.clone() };
        let _again = Alone::begin(engine.clone(), &again).await.unwrap();
        first.superseded().cancelled().await;
        let other = Identity { id: "2".repeat(32), generation: 1 };
        let refused = Alone::begin(engine, &other).await.err().expect("it is in use").to_string();
        assert!(refused.contains("need [cluster]"), "{refused}");
    }
}
