//! What this process knows of the heads of spaces, so that it notices a database which is older than it
//! was: a restored backup, or a fail-over to a standby that had not got everything.
//!
//! A head that is read is held against the highest that storage has acknowledged. When connections go to
//! another server than before (or the same one, started again), all known heads are read again before
//! anything else is done there. What has gone back is noted in the database, for nodes that are started
//! later and know of nothing, and stays refused until [`restore`](super::restore()) has been there.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use deadpool_postgres::Object;
use tokio_postgres::Error;

use super::fetch;
use super::known::Wants;
use crate::rows::Rows as _;
use crate::{Space, StorageError, key};

/// Most spaces whose last head is remembered: more accounts than one node serves. Beyond that some are
/// forgotten, and a step back of theirs is not seen.
const MAX_HEADS: usize = 1 << 18;
/// Most spaces that are known to have gone back. Beyond that the whole database is refused.
const MAX_BACK: usize = 1 << 18;
/// Heads that one statement reads again: a few hundred kilobytes.
const PAGE: usize = 4096;

/// Notes of spaces that have gone back. An empty key: all of them, because more than their heads is lost.
const NOTES: &str = "SELECT key FROM gone_back ORDER BY key LIMIT $1";
/// Makes such notes.
pub const NOTE: &str =
    "INSERT INTO gone_back (key) SELECT * FROM unnest($1::bytea[]) ON CONFLICT (key) DO NOTHING";

/// Heads, and what has gone back.
#[derive(Default)]
pub struct Heads {
    /// The highest heads that storage has acknowledged or shown. It may never say less.
    known: Mutex<HashMap<Space, u64>>,
    back: Mutex<Back>,
    /// Whether some of them are not noted in the database yet.
    unnoted: AtomicBool,
    /// How many times connections had gone to another server when all heads were last read again.
    looked: AtomicU64,
}

/// Spaces that have gone back.
#[derive(Default)]
struct Back {
    spaces: HashSet<Space>,
    /// Found by this process, and not noted in the database yet.
    fresh: HashSet<Space>,
    /// There are more than can be told apart.
    all: bool,
}

impl Heads {
    /// Notes a head that storage has acknowledged, or shown to whoever asked.
    pub fn acknowledged(&self, space: Space, head: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_HEADS
            && !known.contains_key(&space)
            && let Some(other) = known.keys().next().copied()
        {
            known.remove(&other);
        }
        let highest = known.entry(space).or_default();
        *highest = head.max(*highest);
    }

    /// The highest head that is known of a space, for [`check`](Self::check).
    pub fn known(&self, space: Space) -> Option<u64> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&space).copied()
    }

    /// Holds a head that was read against what was known before it was read: what is acknowledged meanwhile
    /// does not make it old.
    pub fn check(&self, space: Space, before: Option<u64>, head: u64) -> Result<(), StorageError> {
        self.stands(space)?;
        match before {
            Some(known) if head < known => {
                self.went_back(space, head, known);
                self.stands(space)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a space that has gone back.
    pub fn stands(&self, space: Space) -> Result<(), StorageError> {
        let back = self.back();
        match back.all || back.spaces.contains(&space) {
            true => Err(StorageError::WentBack(format!("{space:?} is older than it was"))),
            false => Ok(()),
        }
    }

    /// All of the database has gone back: another node says so.
    pub fn all_went_back(&self) {
        let mut back = self.back();
        if !back.all {
            tracing::error!(
                "the database has gone back: nothing is served until `postroom cluster restored`"
            );
        }
        back.all = true;
    }

    fn went_back(&self, space: Space, found: u64, known: u64) {
        let mut back = self.back();
        if back.add(space) {
            tracing::error!(?space, found, known, "the database has gone back");
            back.fresh.insert(space);
            self.unnoted.store(true, Ordering::Release);
        }
    }

    /// Whether connections have gone to another server, or another start of it, since all heads were
    /// read again. `changes`: how many times they ever had.
    pub fn is_to_look_back(&self, changes: u64) -> bool {
        self.looked.load(Ordering::Acquire) < changes
    }

    /// Reads all known heads again. Several may do so at a time: each does all of it, and nobody waits
    /// for anybody.
    pub async fn look_back(&self, client: &Object) -> Result<(), Error> {
        let known: Vec<(Space, u64)> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(space, head)| (*space, *head)).collect()
        };
        for page in known.chunks(PAGE) {
            self.look_back_at(client, page).await?;
        }
        self.learn(client).await
    }

    /// All heads have been read again since connections had changed so many times.
    pub fn looked_back(&self, changes: u64) {
        self.looked.fetch_max(changes, Ordering::AcqRel);
    }

    async fn look_back_at(&self, client: &Object, page: &[(Space, u64)]) -> Result<(), Error> {
        let wants = Wants::of_keys(page.iter().map(|(space, _)| key::head(*space)));
        let found = fetch::wanted(client, &wants, 1).await?;
        for (space, known) in page {
            match found.record::<u64>(&key::head(*space)).map(Option::unwrap_or_default) {
                Ok(head) if head < *known => self.went_back(*space, head, *known),
                // A damaged one is told to whoever uses the space.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Learns which spaces others have found to have gone back.
    pub async fn learn(&self, client: &Object) -> Result<(), Error> {
        let statement = client.prepare_cached(NOTES).await?;
        let rows = client.query(&statement, &[&(MAX_BACK as i64)]).await?;
        let mut back = self.back();
        for row in rows {
            let key: &[u8] = row.try_get(0)?;
            back.all |= key.is_empty();
            if let Some(space) = key::space_of(key) {
                back.add(space);
            }
        }
        Ok(())
    }

    /// Notes in the database what has gone back, for others.
    pub async fn note(&self, client: &Object) -> Result<(), Error> {
        if !self.unnoted.load(Ordering::Acquire) {
            return Ok(());
        }
        let fresh: Vec<Space> = self.back().fresh.iter().copied().collect();
        for page in fresh.chunks(PAGE) {
            let keys: Vec<Bytes> = page.iter().map(|space| key::head(*space).into()).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let statement = client.prepare_cached(NOTE).await?;
            client.execute(&statement, &[&keys]).await?;
            let mut back = self.back();
            back.fresh.retain(|space| !page.contains(space));
            self.unnoted.store(!back.fresh.is_empty(), Ordering::Release);
        }
        Ok(())
    }

    fn back(&self) -> MutexGuard<'_, Back> {
        self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Back {
    /// Whether it is news.
    fn add(&mut self, space: Space) -> bool {
        if self.spaces.len() >= MAX_BACK && !self.spaces.contains(&space) {
            self.all = true;
            return false;
        }
        self.spaces.insert(space)
    }
}
