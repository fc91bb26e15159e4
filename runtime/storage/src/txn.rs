//! A transaction's buffer and a read-only view: what guests and the mailbox layer write and read
//! through. Neither knows an engine's kind.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::overlay::{Overlay, Pending};
use super::reads::within_one_get;
use super::{
    Area, Body, Engine, FreshBodies, Key, MAX_COMMIT_OCTETS, ScanLimit, ScanPage, Space,
    StorageError, Write,
};

/// What stands before the reads and writes of a transaction or view, where anything does: how the
/// conformance kit makes storage difficult.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Before a read; it may wait.
    async fn read(&self) -> Result<(), StorageError>;
    /// Before a write.
    fn write(&self) -> Result<(), StorageError>;
    /// Most items of a scan, whatever is asked for.
    fn items(&self) -> usize;
}

/// A transaction under construction: buffered writes over one space. Clones share the buffer.
/// Nothing reaches the engine until its owner takes the writes and commits them; dropping it
/// forgets them.
#[derive(Clone)]
pub struct Txn {
    engine: Arc<dyn Engine>,
    space: Space,
    buffer: Arc<Mutex<Buffer>>,
    /// Bodies that were made for it.
    fresh: Arc<Mutex<FreshBodies>>,
    gate: Option<Arc<dyn Gate>>,
    /// Whose writes these are, where they may be taken back.
    attempt: Option<u64>,
}

/// Committed state, and a transaction's own pending writes where it was made from one. Read-only.
#[derive(Clone)]
pub struct View {
    engine: Arc<dyn Engine>,
    space: Space,
    pending: Option<Arc<Mutex<Buffer>>>,
    gate: Option<Arc<dyn Gate>>,
}

/// Pending writes, in their order and as a state.
#[derive(Default)]
struct Buffer {
    writes: Vec<Write>,
    /// Of all writes; at most [`MAX_COMMIT_OCTETS`].
    octets: usize,
    overlay: Overlay,
    /// Attempts that there have been.
    attempts: u64,
    /// Those that were taken back: few, since a call is made a few times only.
    revoked: Vec<u64>,
}

/// One attempt at a call.
pub struct Attempt {
    txn: Txn,
    /// Writes that were there before.
    mark: usize,
}

impl Attempt {
    /// What to write through.
    pub fn txn(&self) -> Txn {
        self.txn.clone()
    }
}

impl Buffer {
    /// The keys of all bodies that the writes link, also those that they unlink again.
    fn linked(&self) -> HashSet<[u8; 16]> {
        let link = |write: &Write| match write {
            Write::LinkBody { body, .. } => Some(body.key()),
            Write::Put(..) | Write::Delete(_) | Write::DeleteRange { .. } => None,
            Write::UnlinkBody { .. } => None,
        };
        self.writes.iter().filter_map(link).collect()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds it leaves it half changed.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Txn {
    /// An empty transaction.
    pub fn new(engine: Arc<dyn Engine>, space: Space) -> Self {
        let fresh = Arc::new(Mutex::new(FreshBodies::none(engine.clone(), space)));
        Self { engine, space, buffer: Arc::default(), fresh, gate: None, attempt: None }
    }

    /// With a gate before its reads and writes.
    pub fn gated(self, gate: Arc<dyn Gate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Its space.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Committed state with this transaction's own writes over it: also those that come later.
    pub fn view(&self) -> View {
        let (engine, pending) = (self.engine.clone(), Some(self.buffer.clone()));
        View { engine, space: self.space, pending, gate: self.gate.clone() }
    }

    /// Buffers a write. Fails with `Limit`, having buffered nothing, when a key, a value or the
    /// whole would pass the limits; with `Fenced` where it is an attempt that was taken back.
    pub fn write(&self, write: Write) -> Result<(), StorageError> {
        if let Some(gate) = &self.gate {
            gate.write()?;
        }
        let octets = write.checked_octets()?;
        let mut buffer = lock(&self.buffer);
        if self.attempt.is_some_and(|attempt| buffer.revoked.contains(&attempt)) {
            return Err(StorageError::Fenced);
        }
        if buffer.octets + octets > MAX_COMMIT_OCTETS {
            return Err(StorageError::Limit(format!(
                "more than {MAX_COMMIT_OCTETS} octets in one transaction"
            )));
        }
        buffer.octets += octets;
        buffer.overlay.apply(&write);
        buffer.writes.push(write);
        Ok(())
    }

    /// Makes a body for this transaction: given up with it unless a commit has linked it by then.
    /// Fails as [`Engine::new_body`] does.
    pub async fn new_body(&self, octets: Bytes) -> Result<Body, StorageError> {
        let fresh = FreshBodies::store(self.engine.clone(), self.space, octets).await?;
        let body = fresh.first().cloned().expect("one has been stored");
        lock(&self.fresh).append(fresh);
        Ok(body)
    }

    /// Gives up the bodies that were made for it and that nothing it has gathered links: a store
    /// component that keeps octets itself has read what it wants of them.
    pub fn give_up_unlinked(&self) {
        let linked = lock(&self.buffer).linked();
        lock(&self.fresh).keep(|body| linked.contains(&body.key()));
    }

    /// The same transaction for one attempt at a call, which [`take_back`](Self::take_back) can undo. One
    /// at a time: what others write meanwhile goes with it.
    pub fn attempt(&self) -> Attempt {
        let mut buffer = lock(&self.buffer);
        buffer.attempts += 1;
        let txn = Self { attempt: Some(buffer.attempts), ..self.clone() };
        Attempt { mark: buffer.writes.len(), txn }
    }

    /// Forgets what was written since an attempt began. Whoever still holds its transaction writes
    /// nothing more, however late: that is decided in the same step. Bodies that were made since stay
    /// until the transaction ends.
    pub fn take_back(&self, attempt: &Attempt) {
        let mut buffer = lock(&self.buffer);
        let Buffer { mut writes, attempts, mut revoked, .. } = std::mem::take(&mut *buffer);
        revoked.extend(attempt.txn.attempt);
        *buffer = Buffer { attempts, revoked, ..Buffer::default() };
        writes.truncate(attempt.mark);
        for write in writes {
            // It has been within the limits before.
            buffer.octets += write.checked_octets().unwrap_or(0);
            buffer.overlay.apply(&write);
            buffer.writes.push(write);
        }
    }

    /// Takes the writes out, in order. The transaction is empty afterwards.
    pub fn take(&self) -> Vec<Write> {
        let mut buffer = lock(&self.buffer);
        let taken = std::mem::take(&mut *buffer);
        // What was taken back stays so.
        (buffer.attempts, buffer.revoked) = (taken.attempts, taken.revoked);
        taken.writes
    }
}

impl View {
    /// Committed state alone.
    pub fn new(engine: Arc<dyn Engine>, space: Space) -> Self {
        Self { engine, space, pending: None, gate: None }
    }

    /// With a gate before its reads.
    pub fn gated(self, gate: Arc<dyn Gate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Passes the gate, if there is one.
    async fn pass(&self) -> Result<(), StorageError> {
        match &self.gate {
            Some(gate) => gate.read().await,
            None => Ok(()),
        }
    }

    /// Its space.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The values of keys, in their order. Fails with `Limit` when they come to more than
    /// [`MAX_GET_OCTETS`](super::MAX_GET_OCTETS), pending ones counted in.
    pub async fn get_many(&self, keys: Vec<Key>) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.pass().await?;
        let mut found = Vec::with_capacity(keys.len());
        let (mut asked, mut places) = (Vec::new(), Vec::new());
        // A pending value may be named many times: whoever copies what is returned relies on this.
        let mut octets = 0;
        for key in keys {
            match self.overlaid(|overlay| overlay.key(&key)) {
                Pending::Set(value) => {
                    octets += value.len();
                    found.push(Some(value));
                }
                Pending::Removed => found.push(None),
                Pending::Untouched => {
                    places.push(found.len());
                    found.push(None);
                    asked.push(key);
                }
            }
        }
        if !asked.is_empty() {
            let values = self.engine.get_many(self.space, asked).await?;
            octets += values.iter().flatten().map(Bytes::len).sum::<usize>();
            for (place, value) in places.into_iter().zip(values) {
                found[place] = value;
            }
        }
        within_one_get(octets)?;
        Ok(found)
    }

    /// Keys from `start` (included) to `end` (excluded; empty: to the end of the area) with their
    /// values. `more` is exact: pending writes are counted in.
    pub async fn scan(
        &self,
        area: Area,
        start: Bytes,
        end: Bytes,
        mut limit: ScanLimit,
    ) -> Result<ScanPage, StorageError> {
        self.pass().await?;
        if let Some(gate) = &self.gate {
            limit.items = limit.items.min(gate.items());
        }
        if self.pending.is_none() {
            return self.engine.scan(self.space, area, start, end, limit).await;
        }
        let bound = (!end.is_empty()).then_some(&end);
        let mut merged = Merged { page: ScanPage::default(), octets: 0, limit: limit.clamped() };
        let mut from = Some(start);
        while let Some(at) = from {
            let Some(at) = self.overlaid(|overlay| skip_hidden(overlay, area, at, bound)) else {
                break;
            };
            let committed =
                self.engine.scan(self.space, area, at.clone(), end.clone(), limit).await?;
            from = self.overlaid(|overlay| merged.add(overlay, area, at, bound, committed));
        }
        Ok(merged.page)
    }

    /// The body linked under a name.
    pub async fn body(&self, name: &str) -> Result<Option<Body>, StorageError> {
        self.pass().await?;
        match self.overlaid(|overlay| overlay.link(name)) {
            Pending::Set(body) => Ok(Some(body)),
            Pending::Removed => Ok(None),
            Pending::Untouched => Ok(self.engine.body(self.space, name).await?.map(Body::Stored)),
        }
    }

    /// Octets of a body from `at`, at most `max`; fewer only at its end.
    pub async fn read_body(&self, body: &Body, at: u64, max: u64) -> Result<Bytes, StorageError> {
        self.pass().await?;
        match body {
            Body::Inline { octets, .. } => {
                let size = octets.len() as u64;
                let (start, end) = (at.min(size), at.saturating_add(max).min(size));
                Ok(octets.slice(start as usize..end as usize))
            }
            Body::Stored(stored) => self.engine.read_body(self.space, stored, at, max).await,
        }
    }

    /// Asks the pending writes; without any, an empty overlay.
    fn overlaid<T>(&self, ask: impl FnOnce(&Overlay) -> T) -> T {
        match &self.pending {
            Some(buffer) => ask(&lock(buffer).overlay),
            None => ask(&Overlay::default()),
        }
    }
}

/// Where a scan of the committed keys has to go on, given that it stands at `at`: behind the range
/// that hides it, unless a pending key comes first. `None`: nothing follows.
fn skip_hidden(overlay: &Overlay, area: Area, at: Bytes, end: Option<&Bytes>) -> Option<Bytes> {
    if end.is_some_and(|end| at >= *end) {
        return None;
    }
    let Some(until) = overlay.hidden_until(area, &at) else { return Some(at) };
    let set = overlay.next_set(area, &at, end).map(|(key, _)| key);
    match (set, until) {
        (Some(set), Some(until)) => Some(set.min(until)),
        (set, until) => set.or(until),
    }
}

/// A page that is being merged from committed and pending keys.
struct Merged {
    page: ScanPage,
    octets: usize,
    limit: ScanLimit,
}

impl Merged {
    /// Adds what lies from `at` up to where the committed page reaches. Returns where to go on;
    /// `None`: the page is full, or nothing follows.
    fn add(
        &mut self,
        overlay: &Overlay,
        area: Area,
        at: Bytes,
        end: Option<&Bytes>,
        committed: ScanPage,
    ) -> Option<Bytes> {
        // What lies behind the last committed key of a page that has more is not known yet.
        let known = committed.items.last().filter(|_| committed.more).map(|(key, _)| after(key));
        let until = known.as_ref().or(end);
        let mut from = at;
        for (key, value) in committed.items {
            if !self.add_set(overlay, area, &from, Some(&key)) {
                return None;
            }
            let at = Key { area, octets: key.clone() };
            let value = match overlay.key(&at) {
                Pending::Set(pending) => Some(pending),
                Pending::Removed => None,
                Pending::Untouched => Some(value),
            };
            from = after(&key);
            if value.is_some_and(|value| !self.push(key, value)) {
                return None;
            }
        }
        let go_on = self.add_set(overlay, area, &from, until);
        known.filter(|_| go_on)
    }

    /// Adds the pending keys from `from` to `until` (`None`: the end of the area); false: the page
    /// is full.
    fn add_set(
        &mut self,
        overlay: &Overlay,
        area: Area,
        from: &Bytes,
        until: Option<&Bytes>,
    ) -> bool {
        let mut from = from.clone();
        while until.is_none_or(|until| from < *until) {
            let Some((key, value)) = overlay.next_set(area, &from, until) else { break };
            from = after(&key);
            if !self.push(key, value) {
                return false;
            }
        }
        true
    }

    /// Adds an item; false: it did not fit, so there is more.
    fn push(&mut self, key: Bytes, value: Bytes) -> bool {
        let octets = self.octets + key.len() + value.len();
        let full = self.page.items.len() >= self.limit.items || octets > self.limit.octets;
        if full && !self.page.items.is_empty() {
            self.page.more = true;
            return false;
        }
        self.octets = octets;
        self.page.items.push((key, value));
        true
    }
}

/// The first key after this one.
fn after(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryEngine;

    fn put(key: &'static str) -> Write {
        Write::Put(Key { area: Area::Message, octets: key.into() }, Bytes::from_static(b"1"))
    }

    #[test]
    fn what_was_taken_back_is_not_there_and_cannot_come_later() {
        let txn = Txn::new(Arc::new(MemoryEngine::new()), Space::Directory);
        txn.write(put("before")).unwrap();
        let first = txn.attempt();
        first.txn().write(put("first")).unwrap();
        txn.take_back(&first);
        assert_eq!(first.txn().write(put("late")), Err(StorageError::Fenced));
        let second = txn.attempt();
        second.txn().write(put("second")).unwrap();
        txn.write(put("after")).unwrap();
        assert_eq!(first.txn().write(put("late")), Err(StorageError::Fenced));
        let octets = |write| match write {
            Write::Put(key, _) => key.octets,
            write => panic!("{write:?}"),
        };
        let keys: Vec<Bytes> = txn.take().into_iter().map(octets).collect();
        assert_eq!(keys, ["before", "second", "after"]);
        assert_eq!(first.txn().write(put("late")), Err(StorageError::Fenced));
    }

    #[tokio::test]
    async fn what_was_taken_back_is_not_read_and_what_it_hid_is_there_again() {
        let txn = Txn::new(Arc::new(MemoryEngine::new()), Space::Directory);
        txn.write(put("a")).unwrap();
        let attempt = txn.attempt();
        let key = |key: &'static str| Key { area: Area::Message, octets: key.into() };
        attempt.txn().write(Write::Delete(key("a"))).unwrap();
        attempt.txn().write(put("b")).unwrap();
        let keys = vec![key("a"), key("b")];
        let there =
            |found: Vec<Option<Bytes>>| found.iter().map(Option::is_some).collect::<Vec<_>>();
        let view = txn.view();
        assert_eq!(there(view.get_many(keys.clone()).await.unwrap()), [false, true]);
        txn.take_back(&attempt);
        assert_eq!(there(view.get_many(keys).await.unwrap()), [true, false]);
    }
}
