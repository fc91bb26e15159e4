//! A transaction's buffer and a read-only view: what guests and the mailbox layer write and read
//! through. Neither knows an engine's kind.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Area, Body, BodyRef, Engine, Key, ScanLimit, ScanPage, Space, StorageError, Write};

/// A transaction under construction: buffered writes over one space. Clones share the buffer.
/// Nothing reaches the engine until its owner takes the writes and commits them; dropping it
/// forgets them.
#[derive(Clone)]
pub struct Txn {
    engine: Arc<dyn Engine>,
    space: Space,
    buffer: Arc<Mutex<Vec<Write>>>,
}

/// Committed state, and a transaction's own pending writes where it was made from one. Read-only.
#[derive(Clone)]
pub struct View {
    engine: Arc<dyn Engine>,
    space: Space,
    pending: Option<Arc<Mutex<Vec<Write>>>>,
}

impl Txn {
    /// An empty transaction.
    pub fn new(engine: Arc<dyn Engine>, space: Space) -> Self {
        Self { engine, space, buffer: Arc::default() }
    }

    /// Its space.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Committed state with this transaction's own writes over it.
    pub fn view(&self) -> View {
        View { engine: self.engine.clone(), space: self.space, pending: Some(self.buffer.clone()) }
    }

    /// Buffers a write. Fails with `Limit` when a key, a value or the whole would pass the limits.
    pub fn write(&self, write: Write) -> Result<(), StorageError> {
        let _ = write;
        todo!()
    }

    /// Takes the writes out, in order.
    pub fn take(&self) -> Vec<Write> {
        todo!()
    }
}

impl View {
    /// Committed state alone.
    pub fn new(engine: Arc<dyn Engine>, space: Space) -> Self {
        Self { engine, space, pending: None }
    }

    /// The values of keys, in their order.
    pub async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Bytes>>, StorageError> {
        let _ = (&self.engine, &self.space, &self.pending, keys);
        todo!()
    }

    /// Keys from `start` (included) to `end` (excluded) with their values.
    pub async fn scan(
        &self,
        area: Area,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> Result<ScanPage, StorageError> {
        let _ = (area, start, end, limit);
        todo!()
    }

    /// The body linked under a name.
    pub async fn body(&self, name: &str) -> Result<Option<Body>, StorageError> {
        let _ = name;
        todo!()
    }

    /// Octets of a body from `at`, at most `max`.
    pub async fn read_body(&self, body: &Body, at: u64, max: u64) -> Result<Bytes, StorageError> {
        let _ = (body, at, max);
        let _: Option<BodyRef> = None;
        todo!()
    }
}
