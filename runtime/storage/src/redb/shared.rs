//! What the engine's callers and its committer share: the open index and what is waiting for it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::directory::OpenError;
use super::index::Index;
use super::log::{Position, Replayed};
use super::rebuild::rebuild;
use super::rows::{ReadRows, said};
use crate::body::Unlinked;
use crate::body::segments::Segments;
use crate::counters::Counters;
use crate::files::Files;
use crate::{Space, StorageError};

/// The life of the index.
pub enum Rows {
    /// In use.
    Open(Index),
    /// The medium failed and the index is being opened again, or could not be yet: nothing is read
    /// or written. Each commit and each read that arrives tries again.
    Failed(String),
    /// Closed in good order, for good.
    Closed,
}

/// Shared between callers and committer.
pub struct Shared {
    /// The data directory; locked as long as this lives.
    pub files: Arc<dyn Files>,
    /// Its id.
    pub directory: [u8; 16],
    /// redb's cache, in octets.
    pub cache_octets: usize,
    /// Counts.
    pub counters: Arc<Counters>,
    /// Large bodies.
    pub segments: Segments,
    /// New bodies that nothing has linked yet.
    pub unlinked: Unlinked,
    rows: RwLock<Rows>,
    /// A read has met damaged rows.
    damage: AtomicBool,
    /// The disk is full: nothing is let in.
    pub full: AtomicBool,
    /// Groups that are in the log for certain.
    pub groups: AtomicU64,
    /// Spaces with a commit of unknown outcome that nobody has looked at yet. At most one group's
    /// spaces: none is committed while the index is not open.
    unresolved: Mutex<HashSet<Space>>,
}

impl Shared {
    /// With the index open.
    pub fn new(
        (files, directory): (Arc<dyn Files>, [u8; 16]),
        cache_octets: usize,
        counters: Arc<Counters>,
        index: Index,
        segments: Segments,
    ) -> Self {
        let rows = RwLock::new(Rows::Open(index));
        Self {
            files,
            directory,
            cache_octets,
            counters,
            segments,
            unlinked: Unlinked::default(),
            rows,
            damage: AtomicBool::new(false),
            full: AtomicBool::new(false),
            groups: AtomicU64::new(0),
            unresolved: Mutex::default(),
        }
    }

    /// The index for as long as the guard lives, which must not be across an `.await`.
    pub fn rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one state of the rows.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&ReadRows<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let read = match &*self.rows() {
            Rows::Open(index) => index.read(read),
            Rows::Failed(why) => Err(StorageError::Unavailable(why.clone())),
            Rows::Closed => Err(closed()),
        };
        if matches!(read, Err(StorageError::Damaged(_))) {
            self.damage.store(true, Ordering::Relaxed);
        }
        read
    }

    /// Whether the medium has failed and nothing has brought the rows back yet.
    pub fn has_failed(&self) -> bool {
        match &*self.rows() {
            Rows::Open(index) => index.has_failed(),
            Rows::Failed(_) => true,
            Rows::Closed => false,
        }
    }

    /// Drops the index, waiting for whoever reads it, opens it again and brings it up to the end of
    /// the commit log. It stays failed, with the reason, when that does not go. Only the committer calls this. Nobody is kept waiting by a
    /// lock while the medium is: whoever wants to read meanwhile finds that the rows have failed.
    pub fn reopen(&self, end: Position) -> Result<(), OpenError> {
        // The old one must be gone before its file is opened again.
        gone(self.replace(Rows::Failed("being opened again".to_owned())));
        match self.opened_again(end) {
            Ok(index) => {
                self.replace(Rows::Open(index));
                Ok(())
            }
            Err(error) => {
                self.replace(Rows::Failed(error.to_string()));
                Err(error)
            }
        }
    }

    fn opened_again(&self, end: Position) -> Result<Index, OpenError> {
        let index = Index::reopen(&*self.files, self.cache_octets, &self.counters)?;
        let replayed = index.catch_up(&*self.files, self.directory)?;
        must_end_at(&replayed, end)?;
        Ok(index)
    }

    /// Makes the rows anew from the snapshot and the log after it. When that does not go they are opened
    /// again as they are. Only the committer calls this.
    pub fn rebuild(&self, end: Position) -> Result<(), OpenError> {
        gone(self.replace(Rows::Failed("damaged rows are being made anew".to_owned())));
        let how = (self.cache_octets, end.groups);
        let rebuilt = rebuild(&*self.files, self.directory, how, &self.counters);
        let rebuilt = rebuilt.and_then(|(index, replayed)| {
            must_end_at(&replayed, end)?;
            Ok(index)
        });
        match rebuilt {
            Ok(index) => {
                self.replace(Rows::Open(index));
                Ok(())
            }
            Err(error) => {
                self.reopen(end)?;
                Err(error)
            }
        }
    }

    /// Whether a read has met damaged rows since this was asked last.
    pub fn take_damage(&self) -> bool {
        self.damage.swap(false, Ordering::Relaxed)
    }

    /// Nothing is read or written until the index is opened again.
    pub fn fail(&self, why: String) {
        gone(self.replace(Rows::Failed(why)));
    }

    /// Closes the index for good.
    pub fn close(&self) {
        match self.replace(Rows::Closed) {
            // What has failed writes nothing more: it is cut off.
            Rows::Open(index) if !index.has_failed() => orderly(|| index.close()),
            other => gone(other),
        }
    }

    /// Lets go of the index as a loss of power would: without a close.
    #[cfg(test)]
    pub fn abandon(&self) {
        std::mem::forget(self.replace(Rows::Closed));
    }

    fn replace(&self, rows: Rows) -> Rows {
        let mut current = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, rows)
    }

    /// Whether a commit to this space has an outcome that nobody has looked at.
    pub fn is_unresolved(&self, space: Space) -> bool {
        self.unresolved.lock().unwrap_or_else(PoisonError::into_inner).contains(&space)
    }

    /// A commit to this space has an unknown outcome.
    pub fn unknown(&self, space: Space) {
        self.unresolved.lock().unwrap_or_else(PoisonError::into_inner).insert(space);
    }

    /// Somebody has read the space again.
    pub fn resolved(&self, space: Space) {
        self.unresolved.lock().unwrap_or_else(PoisonError::into_inner).remove(&space);
    }
}

fn must_end_at(replayed: &Replayed, end: Position) -> Result<(), OpenError> {
    let (found, must) = (replayed.end.groups, end.groups);
    match found == must {
        true => Ok(()),
        false => {
            let why = format!("the commit log ends at group {found}, not at {must}");
            Err(OpenError::Damaged(why))
        }
    }
}

fn gone(rows: Rows) {
    orderly(|| drop(rows));
}

/// Ends an index. A database that has met damage in the middle of a change may not even be able to
/// do that.
fn orderly(end: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(end)) {
        tracing::error!(error = said(&*panic), "a database did not end in good order");
    }
}

/// What calls after the end get.
pub fn closed() -> StorageError {
    StorageError::Unavailable("the engine is closed".to_owned())
}
