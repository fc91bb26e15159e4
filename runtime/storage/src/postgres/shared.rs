//! What the engine's callers and its lanes share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::{Error, Row};

use super::connect::{COORDINATE_TIME, Connections, Failure, READ_TIME, is_useless_after, why};
use super::fetch;
use super::heads::Heads;
use super::known::{Known, Wants};
use super::locked;
use crate::body::Unlinked;
use crate::counters::Counters;
use crate::{Beat, Fence, ScanLimit, Space, StorageError};

/// How often a read is tried: a pool may hold connections to a server that has been started again.
const READ_TRIES: u32 = 3;
/// Most spaces with an unknown outcome at a time. Each has been refused commits since, so they are
/// those of the groups that were under way when connections were lost.
const MAX_UNRESOLVED: usize = 1 << 16;

/// Shared between callers and lanes.
pub struct Shared {
    /// To the database.
    pub connections: Connections,
    /// Counts.
    pub counters: Counters,
    /// New bodies that nothing has linked yet.
    pub unlinked: Unlinked,
    closed: AtomicBool,
    /// Spaces with a commit of unknown outcome that nobody has looked at yet, with its fence.
    unresolved: Mutex<HashMap<Space, Option<Fence>>>,
    /// What is known of heads.
    pub heads: Heads,
}

/// A read of one statement.
pub enum Ask {
    /// Rows, and this many of the first rows of ranges.
    Wanted(Wants, i64),
    /// Claims. They do not wait for reads of mail.
    Claims(Wants),
    /// A page of a scan: range, octets of the keys that do not count, limit.
    Page((Vec<u8>, Vec<u8>), usize, ScanLimit),
    /// Rows, as one look-up may return.
    Many(Wants),
    /// This many heads from this key on: the keys stand for rows.
    Heads(Vec<u8>, i64),
}

impl Shared {
    /// Over these connections.
    pub fn new(connections: Connections) -> Self {
        Self {
            connections,
            counters: Counters::new("postgres"),
            unlinked: Unlinked::default(),
            closed: AtomicBool::new(false),
            unresolved: Mutex::default(),
            heads: Heads::default(),
        }
    }

    /// Fails after [`close`](Self::close).
    pub fn open(&self) -> Result<(), StorageError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    /// Nothing is read any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.connections.close();
    }

    /// Reads. `None` only of [`Ask::Many`]: too much.
    pub async fn read(&self, ask: &Ask) -> Result<Option<Known>, StorageError> {
        let mut tried = 0;
        loop {
            self.open()?;
            let (client, time) = match ask {
                Ask::Claims(_) => (self.connections.to_coordinate().await?, COORDINATE_TIME),
                _ => (self.connections.to_read().await?, READ_TIME),
            };
            tried += 1;
            let reading = async {
                // Of claims the ownership machine sees itself that they have gone back.
                if !matches!(ask, Ask::Claims(_)) {
                    self.look_back(&client).await?;
                }
                asked(&client, ask).await
            };
            match timeout(time, reading).await {
                Ok(Ok(known)) => return Ok(known),
                Ok(Err(error)) => {
                    if is_useless_after(&error) {
                        drop(Object::take(client));
                        if tried < READ_TRIES {
                            continue;
                        }
                    }
                    return Err(StorageError::Unavailable(why(&error)));
                }
                Err(_) => {
                    drop(Object::take(client));
                    return Err(StorageError::Unavailable("the database took too long".into()));
                }
            }
        }
    }

    /// The last heartbeats of so many nodes, the latest first: those of nodes that live are among them.
    pub async fn beats(&self, most: i64) -> Result<Vec<Beat>, StorageError> {
        const BEATS: &str = "
            SELECT node, generation, extract(epoch FROM clock_timestamp() - at)::float8
            FROM beats ORDER BY at DESC LIMIT $1";
        let beat = |row: &Row| {
            let generation: i64 = row.try_get(1)?;
            let age: f64 = row.try_get(2)?;
            // One of the future is of before the server's clock was set back.
            let age = Duration::try_from_secs_f64(age.abs()).unwrap_or(Duration::MAX);
            Ok(Beat { node: row.try_get(0)?, generation: generation as u64, age })
        };
        self.open()?;
        let client = self.connections.to_coordinate().await?;
        let beats = async {
            let statement = client.prepare_cached(BEATS).await?;
            client.query(&statement, &[&most]).await?.iter().map(beat).collect()
        };
        let beats = timeout(COORDINATE_TIME, beats).await;
        outcome(client, beats)
    }

    /// So many keys of dead uploads that are older than this.
    pub async fn due_uploads(&self, seconds: f64, most: i64) -> Result<Vec<Bytes>, StorageError> {
        const DUE: &str = "
            SELECT key FROM uploads
            WHERE dead AND at < clock_timestamp() - make_interval(secs => $1) ORDER BY at LIMIT $2";
        let key = |row: &Row| row.try_get::<_, Vec<u8>>(0).map(Bytes::from);
        self.open()?;
        let client = self.connections.to_read().await?;
        let keys = async {
            let statement = client.prepare_cached(DUE).await?;
            client.query(&statement, &[&seconds, &most]).await?.iter().map(key).collect()
        };
        let keys = timeout(READ_TIME, keys).await;
        outcome(client, keys)
    }

    /// Executes a statement that changes one row, or none, and says what it returns of it. `None`: it was in
    /// the way of another one.
    pub async fn change(
        &self,
        statement: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Option<Vec<Row>>, StorageError> {
        self.open()?;
        let client = self.connections.to_coordinate().await?;
        let prepared = timeout(COORDINATE_TIME, client.prepare_cached(statement)).await;
        let prepared = match prepared {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => {
                if is_useless_after(&error) {
                    drop(Object::take(client));
                    return Ok(None);
                }
                return Err(StorageError::Unavailable(why(&error)));
            }
            Err(_) => {
                drop(Object::take(client));
                return Err(StorageError::Unavailable("the database took too long".into()));
            }
        };
        match timeout(COORDINATE_TIME, client.query(&prepared, values)).await {
            Ok(Ok(rows)) => Ok(Some(rows)),
            Ok(Err(error)) => {
                let (outcome, keep) = match Failure::of(&error) {
                    Failure::Lost => (Err(StorageError::UnknownOutcome(why(&error))), false),
                    Failure::InTheWay => (Ok(None), true),
                    Failure::Locked => {
                        match timeout(COORDINATE_TIME, locked::end_stalled(&client)).await {
                            // The way may be free now.
                            Ok(Ok(1..)) => (Ok(None), true),
                            ended => (Err(StorageError::Unavailable(why(&error))), ended.is_ok()),
                        }
                    }
                    Failure::NoEffect | Failure::Refused => {
                        (Err(StorageError::Unavailable(why(&error))), !is_useless_after(&error))
                    }
                };
                if !keep {
                    drop(Object::take(client));
                }
                outcome
            }
            Err(_) => {
                drop(Object::take(client));
                Err(StorageError::UnknownOutcome("the database took too long".into()))
            }
        }
    }

    /// Sees to it that nothing is done on a connection to another server than before until what is
    /// known has been held against what it has.
    pub async fn look_back(&self, client: &Object) -> Result<(), Error> {
        let changes = self.connections.changes();
        if self.heads.is_to_look_back(changes) {
            self.heads.look_back(client).await?;
            // One that still goes to the server of before says nothing of the new one.
            if self.connections.is_of_last_server(client).await? {
                self.heads.looked_back(changes);
            }
        }
        self.heads.note(client).await
    }

    /// Learns which spaces other nodes have found to have gone back.
    pub async fn learn(&self) -> Result<(), StorageError> {
        let client = self.connections.to_read().await?;
        let learned = timeout(READ_TIME, self.heads.learn(&client)).await;
        outcome(client, learned)
    }

    /// The fence of the commit to this space whose outcome nobody has looked at.
    pub fn unresolved(&self, space: Space) -> Option<Option<Fence>> {
        self.lock().get(&space).copied()
    }

    /// Whether no more outcomes can be remembered as unknown.
    pub fn has_too_many_unresolved(&self) -> bool {
        self.lock().len() >= MAX_UNRESOLVED
    }

    /// A commit to this space has an unknown outcome.
    pub fn unknown(&self, space: Space, fence: Option<Fence>) {
        self.lock().insert(space, fence);
    }

    /// Nothing is under way to the space any more.
    pub fn resolved(&self, space: Space) {
        self.lock().remove(&space);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Space, Option<Fence>>> {
        self.unresolved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a read on this connection came to, in its time or not; the connection is given up when it is of no use
/// any more.
fn outcome<T>(
    client: Object,
    read: Result<Result<T, Error>, tokio::time::error::Elapsed>,
) -> Result<T, StorageError> {
    match read {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => {
            if is_useless_after(&error) {
                drop(Object::take(client));
            }
            Err(StorageError::Unavailable(why(&error)))
        }
        Err(_) => {
            drop(Object::take(client));
            Err(StorageError::Unavailable("the database took too long".into()))
        }
    }
}

async fn asked(client: &Object, ask: &Ask) -> Result<Option<Known>, Error> {
    match ask {
        Ask::Wanted(wants, first) => fetch::wanted(client, wants, *first).await.map(Some),
        Ask::Claims(wants) => fetch::wanted(client, wants, 1).await.map(Some),
        Ask::Page(range, prefix, limit) => {
            fetch::page(client, range.clone(), *prefix, *limit).await.map(Some)
        }
        Ask::Many(wants) => fetch::many(client, wants).await,
        Ask::Heads(from, limit) => {
            let heads = fetch::heads(client, from, *limit).await?;
            let mut known = Known::default();
            known.rows.extend(heads.into_iter().map(|key| (key, None)));
            Ok(Some(known))
        }
    }
}

/// What calls after the end get.
pub fn closed() -> StorageError {
    StorageError::Unavailable("the engine is closed".to_owned())
}
