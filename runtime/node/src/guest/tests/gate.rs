//! An engine whose reads wait at a gate: calls can be held inside their instances.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::*;
use crate::storage::{
    Area, Beat, Body, BodyRef, Claim, Committed, Fence, Key, ScanLimit, ScanPage, StorageError,
};
use postroom_core::types::Epoch;

/// A memory engine behind a gate.
pub(super) struct Gate {
    engine: MemoryEngine,
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    pub(super) fn closed() -> Arc<Self> {
        let (open, waiting) = (watch::Sender::new(false), watch::Sender::new(0));
        Arc::new(Self { engine: MemoryEngine::new(), open, waiting })
    }

    /// Lets all reads through from now on.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until so many reads have come to the gate.
    pub(super) async fn reached(&self, reads: usize) {
        self.waiting.subscribe().wait_for(|waiting| *waiting >= reads).await.unwrap();
    }

    /// Reads that have come to the gate.
    pub(super) fn count(&self) -> usize {
        *self.waiting.borrow()
    }

    async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

#[async_trait]
impl Engine for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    fn cluster_id(&self) -> [u8; 16] {
        self.engine.cluster_id()
    }

    async fn get_many(
        &self,
        space: Space,
        keys: Vec<Key>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.pass().await;
        self.engine.get_many(space, keys).await
    }

    async fn scan(
        &self,
        space: Space,
        area: Area,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> Result<ScanPage, StorageError> {
        self.pass().await;
        self.engine.scan(space, area, start, end, limit).await
    }

    async fn claim(
        &self,
        slot: Slot,
        claimant: Claimant,
        previous: Option<Epoch>,
    ) -> Result<Fence, StorageError> {
        self.engine.claim(slot, claimant, previous).await
    }

    async fn claimed(&self, slot: Slot) -> Result<Option<(Epoch, Claimant)>, StorageError> {
        self.engine.claimed(slot).await
    }

    async fn claims(&self, slots: Vec<Slot>) -> Result<Vec<Option<Claim>>, StorageError> {
        self.engine.claims(slots).await
    }

    async fn release(&self, fence: Fence) -> Result<(), StorageError> {
        self.engine.release(fence).await
    }

    async fn beat(&self, node: Claimant) -> Result<(), StorageError> {
        self.engine.beat(node).await
    }

    async fn beats(&self) -> Result<Vec<Beat>, StorageError> {
        self.engine.beats().await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, StorageError> {
        self.engine.commit(commit).await
    }

    async fn head(&self, space: Space) -> Result<u64, StorageError> {
        self.engine.head(space).await
    }

    async fn transaction(
        &self,
        space: Space,
        id: TransactionId,
    ) -> Result<Option<Bytes>, StorageError> {
        self.engine.transaction(space, id).await
    }

    async fn new_body(&self, space: Space, octets: Bytes) -> Result<Body, StorageError> {
        self.engine.new_body(space, octets).await
    }

    async fn body(&self, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError> {
        self.engine.body(space, name).await
    }

    async fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        self.engine.read_body(space, body, at, max).await
    }

    async fn spaces(&self, after: Option<Space>, limit: usize) -> Result<Vec<Space>, StorageError> {
        self.engine.spaces(after, limit).await
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.engine.close().await
    }
}
