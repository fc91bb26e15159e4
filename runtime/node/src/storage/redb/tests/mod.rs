//! The embedded engine: what its own promises add to the contract that all engines keep.

mod crash;
mod history;
mod outcome;

use std::sync::Arc;

use tempfile::TempDir;

use super::*;

/// An engine in a temporary directory, which goes with it.
pub struct TemporaryEngine {
    /// The engine.
    pub engine: Arc<RedbEngine>,
    _directory: TempDir,
}

impl TemporaryEngine {
    /// An empty one.
    pub fn new() -> Self {
        let directory = TempDir::new().expect("there is room for temporary files");
        let engine = RedbEngine::open(directory.path(), RedbOptions::default());
        Self { engine: Arc::new(engine.expect("an empty directory opens")), _directory: directory }
    }
}
