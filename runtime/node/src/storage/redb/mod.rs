//! The embedded engine: rows in redb, in a data directory of its own.
//!
//! All writing goes through one thread (`committer`), which joins what waits for it into groups.
//! Reads are made on the task that asks: measured, a look-up that redb has cached costs 1–2 µs and
//! handing it to a blocking thread costs ten times that.

mod backend;
mod committer;
mod counters;
mod directory;
mod group;
mod index;
mod rows;
mod shared;
#[cfg(test)]
pub(super) mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::types::{Epoch, Slot, TransactionId};

use self::committer::Queue;
use self::counters::Counters;
use self::directory::State;
use self::group::Work;
use self::index::Index;
use self::rows::ReadRows;
use self::shared::Shared;
use super::body::NewBody;
use super::files::{DiskFiles, Files};
use super::{
    Area, Body, BodyRef, Claimant, Commit, Committed, Engine, EngineStats, Fence, Key, ScanLimit,
    ScanPage, Space, StorageError, reads,
};

pub use self::directory::OpenError;

/// How an engine is opened.
#[derive(Clone, Copy, Debug)]
pub struct RedbOptions {
    /// redb's cache of pages, in octets.
    pub cache_octets: usize,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_octets: 128 << 20 }
    }
}

/// The embedded engine.
pub struct RedbEngine {
    shared: Arc<Shared>,
    /// Dropped before the thread is waited for, which ends it.
    queue: Option<Queue>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl RedbEngine {
    /// Opens a data directory, or makes a new one in an empty or missing directory. Blocks for as
    /// long as the disk does: milliseconds, also after a crash.
    pub fn open(directory: &Path, options: RedbOptions) -> Result<Self, OpenError> {
        Self::open_files(Arc::new(DiskFiles::new(directory)?), options)
    }

    /// As [`open`](Self::open), over any files.
    pub fn open_files(files: Arc<dyn Files>, options: RedbOptions) -> Result<Self, OpenError> {
        let counters = Arc::new(Counters::default());
        let index = match directory::enter(&*files)? {
            State::New => {
                let id = directory::begin(&*files)?;
                let index = Index::open(&*files, options.cache_octets, &counters)?;
                index.identify(id)?;
                directory::finish(&*files)?;
                index
            }
            State::Made(id) => {
                directory::must_have_rows(&*files)?;
                let index = Index::open(&*files, options.cache_octets, &counters)?;
                index.check_identity(id)?;
                index
            }
        };
        let shared = Arc::new(Shared::new(files, options.cache_octets, counters, index));
        let (queue, requests, octets) = Queue::new();
        let committer = {
            let shared = shared.clone();
            thread::Builder::new()
                .name("storage-commit".to_owned())
                .spawn(move || committer::run(&shared, requests, &octets))?
        };
        Ok(Self { shared, queue: Some(queue), committer: Mutex::new(Some(committer)) })
    }

    fn queue(&self) -> &Queue {
        self.queue.as_ref().expect("only dropping takes it away")
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&ReadRows<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let found = self.shared.read(read);
        if matches!(found, Err(StorageError::Unavailable(_))) && self.shared.has_failed() {
            self.queue().revive();
        }
        found
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        self.queue = None;
        let committer = self.committer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer
            && committer.join().is_err()
        {
            tracing::error!("the committer has panicked");
        }
    }
}

#[async_trait]
impl Engine for RedbEngine {
    fn name(&self) -> &'static str {
        "redb"
    }

    async fn get_many(
        &self,
        space: Space,
        keys: Vec<Key>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.read(|rows| reads::get_many(rows, space, &keys))
    }

    async fn scan(
        &self,
        space: Space,
        area: Area,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> Result<ScanPage, StorageError> {
        self.read(|rows| reads::scan(rows, space, (area, &start, &end), limit))
    }

    async fn claim(
        &self,
        slot: Slot,
        claimant: Claimant,
        previous: Option<Epoch>,
    ) -> Result<Fence, StorageError> {
        let octets = claimant.node.len();
        let done = self.queue().perform(Work::Claim { slot, claimant, previous }, octets).await?;
        Ok(done.fence.expect("a claim that took effect has its fence"))
    }

    async fn claimed(&self, slot: Slot) -> Result<Option<(Epoch, Claimant)>, StorageError> {
        self.read(|rows| reads::claimed(rows, slot))
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, StorageError> {
        let octets = commit.checked_octets()?;
        let done = self.queue().perform(Work::Commit(commit), octets).await?;
        Ok(done.committed.expect("a commit that took effect has its head"))
    }

    async fn head(&self, space: Space) -> Result<u64, StorageError> {
        let head = self.read(|rows| reads::head(rows, space))?;
        self.shared.resolved(space);
        Ok(head)
    }

    async fn transaction(
        &self,
        space: Space,
        id: TransactionId,
    ) -> Result<Option<Bytes>, StorageError> {
        self.read(|rows| reads::transaction(rows, space, id))
    }

    async fn new_body(&self, _space: Space, octets: Bytes) -> Result<Body, StorageError> {
        let made = NewBody::new(octets)?;
        self.read(|_| Ok(()))?;
        self.shared.counters.body();
        Ok(made.inline())
    }

    async fn body(&self, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError> {
        self.read(|rows| reads::body(rows, space, name))
    }

    async fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        let octets = self.read(|rows| match reads::body_row(rows, space, &body.key)? {
            Some(_) => reads::body_octets(rows, space, &body.key),
            None => Err(StorageError::Conflict),
        })?;
        reads::part(body, octets, at, max)
    }

    async fn spaces(&self, after: Option<Space>, limit: usize) -> Result<Vec<Space>, StorageError> {
        self.read(|rows| reads::spaces(rows, after, limit))
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.queue().close().await;
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        self.shared.counters.stats()
    }
}
