//! Rows as one statement has read them, and the changes of a group over them. Planning is not
//! asynchronous: what it asks for and is not known here is noted, then read, and planned again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{Bound, ControlFlow};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::StorageError;
use crate::commit::Change;
use crate::rows::{Rows, Visit};

/// What has to be read.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Single rows.
    pub keys: HashSet<Bytes>,
    /// Rows from (included) to (excluded).
    pub ranges: HashSet<(Bytes, Bytes)>,
}

impl Wants {
    /// Wants these rows.
    pub fn of_keys(keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { keys: keys.into_iter().map(Bytes::from).collect(), ranges: HashSet::new() }
    }

    /// Wants one more row.
    pub fn key(&mut self, key: Vec<u8>) {
        self.keys.insert(key.into());
    }

    /// Wants one more range.
    pub fn range(&mut self, start: Vec<u8>, end: Vec<u8>) {
        self.ranges.insert((start.into(), end.into()));
    }

    /// Wants what another one does too.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.ranges.extend(other.ranges);
    }

    /// Whether it wants nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }
}

/// Rows of a range, from its start.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Ascending.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether these are all.
    pub complete: bool,
}

/// One state of the rows, as far as it has been read.
#[derive(Debug, Default)]
pub struct Known {
    /// What was asked for and found; `None`: there is no such row.
    pub rows: HashMap<Bytes, Option<Bytes>>,
    /// By start and end.
    pub ranges: HashMap<(Bytes, Bytes), Found>,
    missed: Mutex<Wants>,
}

impl Known {
    /// What was asked for in vain since this was called last.
    pub fn take_missed(&self) -> Wants {
        std::mem::take(&mut *self.missing())
    }

    fn missing(&self) -> MutexGuard<'_, Wants> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_read_yet() -> StorageError {
    StorageError::Unavailable("rows have not been read yet".to_owned())
}

impl Rows for Known {
    fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.rows.get(key) {
            Some(stored) => Ok(stored.clone()),
            None => {
                self.missing().key(key.to_vec());
                Err(not_read_yet())
            }
        }
    }

    fn visit(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let range = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        if start >= end {
            return Ok(());
        }
        let found = self.ranges.get(&range);
        for (key, stored) in found.map_or(&[][..], |found| &found.rows) {
            if visit(key, stored)? == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        match found.is_some_and(|found| found.complete) {
            true => Ok(()),
            false => {
                self.missing().ranges.insert(range);
                Err(not_read_yet())
            }
        }
    }
}

/// The changes of a group, as a state over the committed one.
#[derive(Debug, Default)]
pub struct Pending {
    /// Keys set (`Some`) or removed after whatever hides them.
    pub keys: BTreeMap<Bytes, Option<Bytes>>,
    /// Ranges whose committed rows go.
    pub hidden: Vec<(Bytes, Bytes)>,
}

impl Pending {
    /// Lays changes over those that are there.
    pub fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(key, stored) => drop(self.keys.insert(key, Some(stored))),
                Change::Delete(key) => drop(self.keys.insert(key, None)),
                Change::DeleteRange(start, end) => {
                    let inside: Vec<Bytes> = self.keys_in(&start, &end).cloned().collect();
                    for key in inside {
                        self.keys.remove(&key);
                    }
                    self.hidden.push((start, end));
                }
            }
        }
    }

    fn keys_in(&self, start: &[u8], end: &[u8]) -> impl Iterator<Item = &Bytes> {
        self.within(start, end).map(|(key, _)| key)
    }

    fn within(
        &self,
        start: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = (&Bytes, &Option<Bytes>)> + use<'_> {
        let bounds = match start < end {
            true => (Bound::Included(start), Bound::Excluded(end)),
            false => (Bound::Excluded(&[][..]), Bound::Included(&[][..])),
        };
        self.keys.range::<[u8], _>(bounds)
    }

    fn hides(&self, key: &[u8]) -> bool {
        self.hidden.iter().any(|(start, end)| start[..] <= *key && *key < end[..])
    }
}

/// What the next member of a group meets: committed rows, with the changes of those before it.
pub struct GroupRows<'a> {
    /// Committed.
    pub known: &'a Known,
    /// Of earlier members.
    pub pending: &'a Pending,
}

impl Rows for GroupRows<'_> {
    fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.pending.keys.get(key) {
            Some(stored) => Ok(stored.clone()),
            None if self.pending.hides(key) => Ok(None),
            None => self.known.stored(key),
        }
    }

    fn visit(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let range = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        if start >= end {
            return Ok(());
        }
        let Some(found) = self.known.ranges.get(&range) else {
            self.known.missing().ranges.insert(range);
            return Err(not_read_yet());
        };
        // What lies behind the last row of an incomplete range is not known.
        let last = found.rows.last().filter(|_| !found.complete).map(|(key, _)| key.clone());
        let mut rows: BTreeMap<&Bytes, &Bytes> = BTreeMap::new();
        for (key, stored) in &found.rows {
            if !self.pending.hides(key) && !self.pending.keys.contains_key(key) {
                rows.insert(key, stored);
            }
        }
        for (key, stored) in self.pending.within(start, end) {
            if let Some(stored) = stored
                && last.as_ref().is_none_or(|last| key <= last)
            {
                rows.insert(key, stored);
            }
        }
        for (key, stored) in rows {
            if visit(key, stored)? == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        match found.complete {
            true => Ok(()),
            false => {
                self.known.missing().ranges.insert(range);
                Err(not_read_yet())
            }
        }
    }
}
