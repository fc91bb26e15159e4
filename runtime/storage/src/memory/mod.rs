//! The reference engine: all rows in one ordered map in memory, gone with the process. It can be
//! told to fail ([`Faults`]), so that what lies above can be tested against an engine that does.

mod faults;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::types::{Epoch, Slot, TransactionId};

pub use self::faults::{Faults, Outage};
use super::beats::Beats;
use super::body::{self, Unlinked};
use super::commit::{Change, Pending, PendingBodies, plan, plan_claim, plan_release};
use super::rows::{Rows, Visit};
use super::{
    Area, Beat, Body, BodyRef, Claim, Claimant, Commit, Committed, Engine, EngineStats, Fence, Key,
    ScanLimit, ScanPage, Space, StorageError, reads,
};

/// Bodies up to this stay inline, as in the embedded engine, so that both kinds are met in tests.
const INLINE_OCTETS: usize = body::INLINE_OCTETS;

/// An engine in memory.
#[derive(Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
    unlinked: Unlinked,
    beats: Beats,
    cluster: OnceLock<[u8; 16]>,
    faults: Faults,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Bytes>,
    stats: EngineStats,
    closed: bool,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it fail, wait, or lie.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Flips the lowest bit of the last octet of a row's stored value. False: no such row.
    pub fn damage_row(&self, space: Space, key: &Key) -> bool {
        let mut state = self.lock();
        let Some(stored) = state.rows.get_mut(&super::key::row(space, key)) else { return false };
        let mut flipped = stored.to_vec();
        // A stored value has a header at least.
        *flipped.last_mut().expect("a stored value is never empty") ^= 1;
        *stored = flipped.into();
        true
    }

    /// Lets commits take effect of which nobody was told anything; whether each did.
    pub fn land(&self) -> Vec<Result<Committed, StorageError>> {
        self.faults.take_late().iter().map(|commit| self.carry_out(commit, None)).collect()
    }

    fn carry_out(
        &self,
        commit: &Commit,
        outage: Option<Outage>,
    ) -> Result<Committed, StorageError> {
        self.change(|state| {
            let plan = plan(state, &self.unlinked, commit)?;
            if outage == Some(Outage::UnknownWithoutEffect) {
                return Ok((Vec::new(), Committed { head: plan.head }));
            }
            self.unlinked.forget(commit.space, &plan.linked);
            Ok((plan.changes, Committed { head: plan.head }))
        })
    }

    /// How many new bodies wait for their first link.
    pub fn waiting_bodies(&self) -> usize {
        self.unlinked.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A plan is carried out without anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&State) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.faults.on_read()?;
        let state = self.lock();
        state.open()?;
        read(&state)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&State) -> Result<(Vec<Change>, T), StorageError>,
    ) -> Result<T, StorageError> {
        let mut state = self.lock();
        state.open()?;
        match change(&state) {
            Ok((changes, answer)) => {
                state.apply(changes);
                state.stats.commits += 1;
                state.stats.groups += 1;
                Ok(answer)
            }
            Err(refusal) => {
                state.stats.refused += 1;
                Err(refusal)
            }
        }
    }
}

impl State {
    fn open(&self) -> Result<(), StorageError> {
        match self.closed {
            true => Err(StorageError::Unavailable("the engine is closed".to_owned())),
            false => Ok(()),
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(key, stored) => {
                    self.stats.written_octets += (key.len() + stored.len()) as u64;
                    self.rows.insert(key.into(), stored);
                }
                Change::Delete(key) => drop(self.rows.remove(&key[..])),
                Change::DeleteRange(start, end) => {
                    let tail = self.rows.split_off(&start[..]);
                    self.rows.extend(tail.into_iter().skip_while(|(key, _)| key[..] < end[..]));
                }
            }
        }
    }
}

impl Rows for State {
    fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.rows.get(key).cloned())
    }

    fn visit(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if start >= end {
            return Ok(());
        }
        for (key, stored) in
            self.rows.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
        {
            if visit(key, stored)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn cluster_id(&self) -> [u8; 16] {
        *self.cluster.get_or_init(|| {
            let mut id = [0; 16];
            getrandom::fill(&mut id).expect("the system gives random numbers");
            id
        })
    }

    async fn get_many(
        &self,
        space: Space,
        keys: Vec<Key>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.read(|state| reads::get_many(state, space, &keys))
    }

    async fn scan(
        &self,
        space: Space,
        area: Area,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> Result<ScanPage, StorageError> {
        self.read(|state| reads::scan(state, space, (area, &start, &end), limit))
    }

    async fn claim(
        &self,
        slot: Slot,
        claimant: Claimant,
        previous: Option<Epoch>,
    ) -> Result<Fence, StorageError> {
        self.change(|state| {
            let (change, fence) = plan_claim(state, slot, &claimant, previous)?;
            Ok((vec![change], fence))
        })
    }

    async fn claimed(&self, slot: Slot) -> Result<Option<(Epoch, Claimant)>, StorageError> {
        self.read(|state| reads::claimed(state, slot))
    }

    async fn claims(&self, slots: Vec<Slot>) -> Result<Vec<Option<Claim>>, StorageError> {
        self.read(|state| reads::claims(state, &slots))
    }

    async fn release(&self, fence: Fence) -> Result<(), StorageError> {
        self.change(|state| Ok((plan_release(state, fence)?.into_iter().collect(), ())))
    }

    async fn beat(&self, node: Claimant) -> Result<(), StorageError> {
        self.lock().open()?;
        self.beats.beat(node)
    }

    async fn beats(&self) -> Result<Vec<Beat>, StorageError> {
        self.lock().open()?;
        Ok(self.beats.all())
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, StorageError> {
        commit.checked_octets()?;
        self.faults.may_look().await;
        let outage = self.faults.on_commit(&commit)?;
        if outage == Some(Outage::Late) {
            self.faults.keep_late(commit);
            return std::future::pending().await;
        }
        let committed = self.carry_out(&commit, outage)?;
        self.faults.may_answer().await;
        match outage {
            None => Ok(committed),
            Some(_) => Err(self.faults.unknown(commit.space)),
        }
    }

    async fn head(&self, space: Space) -> Result<u64, StorageError> {
        let head = self.read(|state| reads::head(state, space))?;
        self.faults.resolved(space);
        Ok(head)
    }

    async fn transaction(
        &self,
        space: Space,
        id: TransactionId,
    ) -> Result<Option<Bytes>, StorageError> {
        self.read(|state| reads::transaction(state, space, id))
    }

    async fn new_body(&self, space: Space, octets: Bytes) -> Result<Body, StorageError> {
        let made = body::NewBody::new(octets)?;
        self.lock().open()?;
        self.lock().stats.bodies += 1;
        if made.octets.len() <= INLINE_OCTETS {
            return Ok(made.inline());
        }
        self.unlinked.add(space, made.stored.key, Pending::Octets(made.octets))?;
        Ok(Body::Stored(made.stored))
    }

    fn give_up(&self, space: Space, bodies: &[Body]) {
        // A commit takes effect in one step with forgetting what it links.
        self.unlinked.forget(space, &self.unlinked.waiting(space, bodies));
    }

    async fn body(&self, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError> {
        self.read(|state| reads::body(state, space, name))
    }

    async fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        let octets = self.read(|state| match reads::body_row(state, space, &body.key)? {
            Some(_) => reads::body_octets(state, space, &body.key),
            None => match self.unlinked.pending(space, &body.key) {
                Some(Pending::Octets(octets)) => Ok(octets),
                Some(Pending::Segment(_) | Pending::Object) | None => Err(StorageError::Conflict),
            },
        })?;
        reads::part(body, octets, at, max)
    }

    async fn spaces(&self, after: Option<Space>, limit: usize) -> Result<Vec<Space>, StorageError> {
        self.read(|state| reads::spaces(state, after, limit))
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.lock().closed = true;
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        self.lock().stats
    }
}
