//! What a commit means: its checks, in their order, and the changes to rows that follow from it.
//! Written once, over any state of the rows, so that engines cannot differ in it.
//!
//! [`plan`] only reads. Either the commit is refused, with nothing done, or the plan is carried out
//! whole, in the same atomic step in which it was made.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use postroom_core::types::{Epoch, Slot, TransactionId};
use serde::{Deserialize, Serialize};

use super::rows::{BodyRow, ClaimRow, LinkRow, Place, Rows, SegmentPlace, SegmentRow};
use super::rows::{TransactionRow, Visit};
use super::{
    Body, BodyRef, Claimant, Commit, Fence, IDEMPOTENCY_SECONDS, Idempotency, Key, Space,
    StorageError, Write, key, reads, row,
};

/// Remembered transactions that a commit looks at, for each one that it adds, to forget those that
/// are too old. With more than one they shrink faster than they grow; rows next to the new one lie
/// in the page that is written anyway.
const PRUNE_PER_TRANSACTION: usize = 4;

/// One change to the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Sets a row: raw key and stored (framed) value.
    Put(Bytes, Bytes),
    /// Removes a row.
    Delete(Bytes),
    /// Removes all rows from (included) to (excluded).
    DeleteRange(Bytes, Bytes),
}

impl Change {
    fn put(key: Vec<u8>, stored: Bytes) -> Self {
        Self::Put(key.into(), stored)
    }

    fn delete(key: Vec<u8>) -> Self {
        Self::Delete(key.into())
    }
}

/// What an accepted commit does.
#[derive(Debug, Default)]
pub struct Plan {
    /// Changes, in order.
    pub changes: Vec<Change>,
    /// The head of the space afterwards.
    pub head: u64,
    /// Bodies that have links from now on: they need not be remembered as new any longer.
    pub linked: Vec<[u8; 16]>,
    /// Objects that have links from now on, and had none before.
    pub kept_objects: Vec<[u8; 16]>,
    /// Objects that have no link any more.
    pub dead_objects: Vec<[u8; 16]>,
    /// Segments of which less than half, or nothing, is in use from now on.
    pub thinned: Vec<u64>,
}

/// A body that `new_body` has stored and that nothing has linked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Its octets, to be put in a row.
    Octets(Bytes),
    /// Where it is in a segment.
    Segment(SegmentPlace),
    /// It is an object.
    Object,
}

impl Pending {
    /// How many of its octets are in memory.
    pub fn octets(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Segment(_) | Self::Object => 0,
        }
    }
}

/// Bodies that nothing has linked yet.
pub trait PendingBodies {
    /// The new body of this key in this space.
    fn pending(&self, space: Space, body: &[u8; 16]) -> Option<Pending>;

    /// Where a body is put that its first commit brings along.
    fn inline(&self, space: Space, body: &[u8; 16], octets: &Bytes) -> Pending;
}

/// Checks a commit against a state of the rows and says what it changes.
pub fn plan(
    rows: &impl Rows,
    pending: &impl PendingBodies,
    commit: &Commit,
) -> Result<Plan, StorageError> {
    check_transactions(rows, commit)?;
    check_fence(rows, commit.space, commit.fence)?;
    let head = reads::head(rows, commit.space)?;
    if commit.expected_head.is_some_and(|expected| expected != head) {
        return Err(StorageError::HeadMoved { found: head });
    }
    for (at, expected) in &commit.preconditions {
        if rows.payload(&key::row(commit.space, at))? != *expected {
            return Err(StorageError::Conflict);
        }
    }
    let mut plan = Plan { head: head + 1, ..Plan::default() };
    let mut bodies = Bodies {
        rows,
        pending,
        space: commit.space,
        links: BTreeMap::new(),
        held: BTreeMap::new(),
    };
    for write in &commit.writes {
        match write {
            Write::LinkBody { name, body } => bodies.link(name, body)?,
            Write::UnlinkBody { name } => bodies.unlink(name)?,
            Write::Put(..) | Write::Delete(_) | Write::DeleteRange { .. } => {
                plan.changes.extend(row_change(commit.space, write));
            }
        }
    }
    bodies.finish(&mut plan)?;
    remember(rows, commit, &mut plan)?;
    let at = key::head(commit.space);
    let value = row::encode(&at, &plan.head);
    plan.changes.push(Change::put(at, value));
    Ok(plan)
}

fn row_change(space: Space, write: &Write) -> Option<Change> {
    let put = |at: &Key, value: &Bytes| {
        let at = key::row(space, at);
        let stored = row::frame(&at, value);
        Change::put(at, stored)
    };
    match write {
        Write::Put(at, value) => Some(put(at, value)),
        Write::Delete(at) => Some(Change::delete(key::row(space, at))),
        Write::DeleteRange { area, start, end } => {
            let (start, end) = key::rows(space, *area, start, end);
            (start < end).then_some(Change::DeleteRange(start.into(), end.into()))
        }
        Write::LinkBody { .. } | Write::UnlinkBody { .. } => None,
    }
}

fn check_transactions(rows: &impl Rows, commit: &Commit) -> Result<(), StorageError> {
    let mut seen = HashSet::with_capacity(commit.transactions.len());
    for transaction in &commit.transactions {
        let id = transaction.transaction;
        if let Some(result) = reads::transaction(rows, commit.space, id)? {
            return Err(StorageError::AlreadyDone(Idempotency { transaction: id, result }));
        }
        if !seen.insert(id) {
            return Err(StorageError::Limit(format!("transaction {id} twice in one commit")));
        }
    }
    Ok(())
}

fn check_fence(rows: &impl Rows, space: Space, fence: Option<Fence>) -> Result<(), StorageError> {
    let Some(fence) = fence else {
        return match space {
            Space::Directory => Ok(()),
            Space::Account(_) => Err(StorageError::Fenced),
        };
    };
    if let Space::Account(account) = space
        && Slot::of(account) != fence.slot
    {
        return Err(StorageError::Fenced);
    }
    let claim = rows.record::<ClaimRow>(&key::claim(fence.slot))?;
    // By equality, not by order: a restored backup must not let an old owner in.
    match claim.is_some_and(|claim| claim.is_of(fence) && !claim.released) {
        true => Ok(()),
        false => Err(StorageError::Fenced),
    }
}

/// Checks a claim and says what it changes.
pub fn plan_claim(
    rows: &impl Rows,
    slot: Slot,
    claimant: &Claimant,
    previous: Option<Epoch>,
) -> Result<(Change, Fence), StorageError> {
    let at = key::claim(slot);
    let claim = rows.record::<ClaimRow>(&at)?;
    if claim.as_ref().map(|claim| claim.epoch) != previous {
        return Err(StorageError::Conflict);
    }
    let epoch = Epoch(previous.map_or(0, |epoch| epoch.0) + 1);
    claimant.check()?;
    let Claimant { node, generation, nonce } = claimant.clone();
    let claim = ClaimRow { epoch, node, generation, nonce, released: false };
    let stored = row::encode(&at, &claim);
    Ok((Change::put(at, stored), Fence { slot, epoch, nonce }))
}

/// Checks a release and says what it changes: nothing where it was done before.
pub fn plan_release(rows: &impl Rows, fence: Fence) -> Result<Option<Change>, StorageError> {
    let at = key::claim(fence.slot);
    let claim = rows.record::<ClaimRow>(&at)?.filter(|claim| claim.is_of(fence));
    let Some(claim) = claim else { return Err(StorageError::Fenced) };
    if claim.released {
        return Ok(None);
    }
    let stored = row::encode(&at, &ClaimRow { released: true, ..claim });
    Ok(Some(Change::put(at, stored)))
}

/// Remembers the commit's transactions and forgets some that are too old.
fn remember(rows: &impl Rows, commit: &Commit, plan: &mut Plan) -> Result<(), StorageError> {
    for Idempotency { transaction, result } in &commit.transactions {
        forget_near(rows, commit, *transaction, plan)?;
        let at = key::transaction(commit.space, *transaction);
        let stored = row::encode(&at, &TransactionRow { at: commit.now, result: result.clone() });
        plan.changes.push(Change::put(at, stored));
    }
    Ok(())
}

/// Looks at the transactions after `id` in the order of ids, and at the first ones when there are
/// none after it: random ids sample them all, ascending ids find the oldest.
fn forget_near(
    rows: &impl Rows,
    commit: &Commit,
    id: TransactionId,
    plan: &mut Plan,
) -> Result<(), StorageError> {
    let (start, end) = key::transactions(commit.space);
    let mut left = PRUNE_PER_TRANSACTION;
    let mut old = Vec::new();
    for (from, to) in
        [(key::transaction(commit.space, id), end), (start, key::transaction(commit.space, id))]
    {
        let visit: Visit<'_> = &mut |raw, stored| {
            if left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            // A damaged one is no reason to refuse a commit; a scrub reports it.
            let row = row::payload(raw, stored).and_then(|p| row::decode::<TransactionRow>(raw, p));
            if row.is_ok_and(|row| commit.now.saturating_sub(row.at) > IDEMPOTENCY_SECONDS) {
                old.push(Change::delete(raw.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        };
        rows.visit(&from, &to, visit)?;
    }
    plan.changes.append(&mut old);
    Ok(())
}

/// What a commit does to links and bodies, step by step over the committed rows.
struct Bodies<'a, R, P> {
    rows: &'a R,
    pending: &'a P,
    space: Space,
    /// Names that the commit has touched, with what they mean now.
    links: BTreeMap<String, Option<LinkRow>>,
    /// Bodies that the commit has touched.
    held: BTreeMap<[u8; 16], Held>,
}

/// A body that a commit touches.
struct Held {
    /// Its row as it is committed.
    before: Option<BodyRow>,
    /// As it will be; no links: it goes.
    now: BodyRow,
    /// Octets that must go into a row with it.
    octets: Option<Bytes>,
}

impl<R: Rows, P: PendingBodies> Bodies<'_, R, P> {
    fn link(&mut self, name: &str, body: &Body) -> Result<(), StorageError> {
        if self.linked(name)?.is_some() {
            return Err(StorageError::Conflict);
        }
        let held = self.hold(body)?;
        held.now.links += 1;
        let link = LinkRow { body: body.key(), size: held.now.size, digest: held.now.digest };
        self.links.insert(name.to_owned(), Some(link));
        Ok(())
    }

    fn unlink(&mut self, name: &str) -> Result<(), StorageError> {
        let Some(link) = self.linked(name)? else { return Ok(()) };
        let LinkRow { body: key, size, digest } = link;
        let held = self.hold(&Body::Stored(BodyRef { key, size, digest }))?;
        held.now.links = held.now.links.checked_sub(1).ok_or_else(|| {
            StorageError::Damaged(format!("body {} has fewer links than names", hex::encode(key)))
        })?;
        self.links.insert(name.to_owned(), None);
        Ok(())
    }

    fn linked(&self, name: &str) -> Result<Option<LinkRow>, StorageError> {
        match self.links.get(name) {
            Some(link) => Ok(link.clone()),
            None => self.rows.record(&key::link(self.space, name)),
        }
    }

    /// The body, as this commit has it so far.
    fn hold(&mut self, body: &Body) -> Result<&mut Held, StorageError> {
        let id = body.key();
        if !self.held.contains_key(&id) {
            let before = reads::body_row(self.rows, self.space, &id)?;
            let held = match before {
                Some(row) => Held { now: row.clone(), before: Some(row), octets: None },
                None => self.fresh(body)?,
            };
            self.held.insert(id, held);
        }
        let held = self.held.get_mut(&id).expect("it has just been put there");
        // Two bodies under one key would serve one message's octets as another's.
        match held.now.size == body.size() && held.now.digest == body.digest() {
            true => Ok(held),
            false => Err(StorageError::Conflict),
        }
    }

    /// A body that has no link yet. `Conflict` when there is none of this key (any more): once the
    /// last link is gone, no new one is accepted.
    fn fresh(&self, body: &Body) -> Result<Held, StorageError> {
        let pending = match body {
            Body::Inline { key, octets, .. } => Some(self.pending.inline(self.space, key, octets)),
            Body::Stored(stored) => self.pending.pending(self.space, &stored.key),
        };
        let (place, octets) = match pending {
            Some(Pending::Octets(octets)) => (Place::Row, Some(octets)),
            Some(Pending::Segment(place)) => (Place::Segment(place), None),
            Some(Pending::Object) => (Place::Object, None),
            None => return Err(StorageError::Conflict),
        };
        let now = BodyRow { links: 0, size: body.size(), digest: body.digest(), place };
        Ok(Held { before: None, now, octets })
    }

    fn finish(self, plan: &mut Plan) -> Result<(), StorageError> {
        for (name, link) in &self.links {
            let at = key::link(self.space, name);
            plan.changes.push(match link {
                Some(link) => {
                    let stored = row::encode(&at, link);
                    Change::put(at, stored)
                }
                None => Change::delete(at),
            });
        }
        let mut segments = Accounts::default();
        for (id, held) in self.held {
            let (was, is) = (held.before.is_some(), held.now.links > 0);
            if held.before.as_ref() == Some(&held.now) || !(was || is) {
                continue;
            }
            if let Place::Segment(place) = held.now.place
                && was != is
            {
                segments.book(self.rows, place, is)?;
            }
            if held.now.place == Place::Object && was != is {
                match is {
                    true => plan.kept_objects.push(id),
                    false => plan.dead_objects.push(id),
                }
            }
            body_changes(self.space, &id, held, plan);
        }
        segments.finish(plan);
        Ok(())
    }
}

fn body_changes(space: Space, id: &[u8; 16], held: Held, plan: &mut Plan) {
    let (at, octets_at) = (key::body(space, id), key::octets(space, id));
    if held.now.links > 0 {
        let stored = row::encode(&at, &held.now);
        plan.changes.push(Change::put(at, stored));
        if let Some(octets) = held.octets {
            let stored = row::frame(&octets_at, &octets);
            plan.changes.push(Change::put(octets_at, stored));
        }
        plan.linked.push(*id);
    } else {
        plan.changes.push(Change::delete(at));
        if held.now.place == Place::Row {
            plan.changes.push(Change::delete(octets_at));
        }
    }
}

/// The accounts of segments, before and after.
#[derive(Default)]
struct Accounts(BTreeMap<u64, (SegmentRow, SegmentRow)>);

impl Accounts {
    /// Adds a body to its segment, or takes it away.
    fn book(
        &mut self,
        rows: &impl Rows,
        place: SegmentPlace,
        alive: bool,
    ) -> Result<(), StorageError> {
        let (_, row) = match self.0.entry(place.segment) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place_for_it) => {
                let row = rows.record(&key::segment(place.segment))?.unwrap_or_default();
                place_for_it.insert((row, row))
            }
        };
        let counts = match alive {
            true => {
                row.end = row.end.max(place.offset + place.length);
                row.live_bodies.checked_add(1).zip(row.live_octets.checked_add(place.length))
            }
            false => row.live_bodies.checked_sub(1).zip(row.live_octets.checked_sub(place.length)),
        };
        (row.live_bodies, row.live_octets) = counts.ok_or_else(|| {
            StorageError::Damaged(format!("the account of segment {} is wrong", place.segment))
        })?;
        Ok(())
    }

    fn finish(self, plan: &mut Plan) {
        for (segment, (before, after)) in self.0 {
            let emptied = before.live_bodies > 0 && after.live_bodies == 0;
            if emptied || (!before.is_thin() && after.is_thin()) {
                plan.thinned.push(segment);
            }
            let at = key::segment(segment);
            let stored = row::encode(&at, &after);
            plan.changes.push(Change::put(at, stored));
        }
    }
}

/// Changes to rows about segments, which are nobody's commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentWork {
    /// Forgets segments that are gone.
    Forget(Vec<u64>),
    /// Bodies have been written again elsewhere.
    Move(Vec<Moved>),
}

/// A body that has been written again elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whose.
    pub space: Space,
    /// Which.
    pub body: [u8; 16],
    /// Where it was.
    pub from: SegmentPlace,
    /// Where it is too.
    pub to: SegmentPlace,
}

/// Says what work on segments changes. Bodies that have gone or moved meanwhile stay as they are.
pub fn plan_segments(rows: &impl Rows, work: &SegmentWork) -> Result<Plan, StorageError> {
    let (mut plan, mut segments) = (Plan::default(), Accounts::default());
    match work {
        SegmentWork::Forget(gone) => {
            for segment in gone {
                let at = key::segment(*segment);
                if rows.record::<SegmentRow>(&at)?.is_some_and(|row| row.live_bodies == 0) {
                    plan.changes.push(Change::delete(at));
                }
            }
        }
        SegmentWork::Move(bodies) => {
            for Moved { space, body, from, to } in bodies {
                let Some(row) = reads::body_row(rows, *space, body)? else { continue };
                if row.place != Place::Segment(*from) {
                    continue;
                }
                segments.book(rows, *from, false)?;
                segments.book(rows, *to, true)?;
                let at = key::body(*space, body);
                let stored = row::encode(&at, &BodyRow { place: Place::Segment(*to), ..row });
                plan.changes.push(Change::put(at, stored));
            }
        }
    }
    segments.finish(&mut plan);
    Ok(plan)
}
