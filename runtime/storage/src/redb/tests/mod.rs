//! The embedded engine: what its own promises add to the contract that all engines keep.

mod away;
mod crash;
mod damage;
mod history;
mod keeping;
mod log;
mod outcome;
mod room;
mod snapshot;

use std::sync::Arc;

use postroom_core::types::AccountId;
use tempfile::TempDir;

use super::*;
use crate::Write;
use crate::files::image::ImageDisk;

/// Octets of a segment of a [`small`] engine.
const SEGMENT: u64 = 150_000;

/// An engine with small segments, so that they are filled, emptied and rewritten often.
fn small(disk: &ImageDisk) -> RedbEngine {
    RedbEngine::open_files(disk.files(), SMALL).expect("a disk opens whatever happened to it")
}

/// How a [`small`] engine is opened: its rows are made durable every few commits.
const SMALL: RedbOptions = RedbOptions {
    cache_octets: 1 << 20,
    inline_octets: 4096,
    segment_octets: SEGMENT,
    checkpoint_octets: 60_000,
    checkpoint_pause: Duration::ZERO,
    snapshot_octets: 120_000,
    reserve_octets: 256 << 10,
    heal_pause: Duration::ZERO,
};

/// An account whose slot is claimed.
struct Owner {
    space: Space,
    fence: Fence,
}

impl Owner {
    async fn new(engine: &RedbEngine, account: u8) -> Self {
        let account = AccountId([account; 16]);
        let slot = Slot::of(account);
        let before = engine.claimed(slot).await.unwrap().map(|(epoch, _)| epoch);
        let claimant = Claimant { node: "node".to_owned(), generation: 1, nonce: [3; 16] };
        let fence = engine.claim(slot, claimant, before).await.unwrap();
        Self { space: Space::Account(account), fence }
    }

    fn commit(&self, writes: Vec<Write>) -> Commit {
        Commit {
            space: self.space,
            fence: Some(self.fence),
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes,
            now: 0,
        }
    }

    async fn write(&self, engine: &RedbEngine, writes: Vec<Write>) -> Result<(), StorageError> {
        engine.commit(self.commit(writes)).await.map(|_| ())
    }
}

/// Rows of each account of [`filled`].
const ROWS: usize = 100;

/// The key of one of them.
fn key(n: usize) -> Key {
    Key { area: Area::Message, octets: format!("{n:03}").into() }
}

/// Its value; it is told apart from all others in the file.
fn value(account: u8, n: usize) -> Bytes {
    format!("account {account} row {n:03} {}", "x".repeat(180)).into()
}

/// A disk with three accounts, whose rows lie in some pages of their own each, closed in good order.
async fn filled() -> ImageDisk {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    for account in 1..=3 {
        let rows = (0..ROWS).map(|n| Write::Put(key(n), value(account, n)));
        Owner::new(&engine, account).await.write(&engine, rows.collect()).await.unwrap();
    }
    engine.close().await.unwrap();
    disk
}

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
