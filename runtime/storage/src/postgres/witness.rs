//! What this machine has seen of the database, in a file of its own: a database that went back while no
//! node ran, by a backup or by a fail-over, has nobody left who remembers.
//!
//! Each heartbeat of a node counts one up in the node's row. The count that the database has acknowledged
//! last is noted here, and held against the row when the engine is opened: one that is lower has lost
//! whatever was committed since. A node that ends in good order counts once more when all its commits are
//! done, so nothing is overlooked then; where all nodes and the database die at once, what was committed
//! since the last note, a second or so, is. A [`restore`](super::restore()) makes all nodes count on from the
//! time in microseconds: from more than anything that was counted before.
//!
//! A node that runs while the database goes back has seen heads, and holds those against it
//! ([`heads`](super::heads)). Of a count that steps back it tells, and notes what is counted now.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use deadpool_postgres::Object;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tokio_postgres::Error;

use super::schema::Identity;
use crate::{Claimant, StorageError, row};

/// How long an end in good order waits for the note: as long as for the database.
const DISK_TIME: Duration = Duration::from_secs(3);
/// What the note is framed with.
const KEY: &[u8] = b"seen";

/// What the database has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Which database.
    cluster: [u8; 16],
    /// Whose heartbeats.
    node: String,
    /// How many of them.
    beats: i64,
}

/// The file.
pub struct Witness {
    path: PathBuf,
    identity: Identity,
    /// Held while it is written.
    writing: Arc<tokio::sync::Mutex<()>>,
    last: std::sync::Mutex<Last>,
    /// Whether it was said that it cannot be written.
    told: AtomicBool,
}

/// What has been counted last.
#[derive(Default)]
struct Last {
    node: Option<Claimant>,
    beats: i64,
    /// Only the last of all is noted from now on.
    ended: bool,
}

impl Witness {
    /// In this file, for a database with this identity.
    pub fn new(path: PathBuf, identity: Identity) -> Self {
        let (writing, last, told) = Default::default();
        Self { path, identity, writing, last, told }
    }

    /// In one line how the database is older than the file says, if it is.
    pub async fn contradicts(&self, client: &Object) -> Result<Option<String>, WitnessError> {
        const COUNTED: &str =
            "SELECT greatest(0, (SELECT counted_from FROM counting WHERE one = 1),
            (SELECT times FROM beats WHERE node = $1))";
        let Some(seen) = read(&self.path)? else { return Ok(None) };
        if seen.cluster != self.identity.cluster {
            let [now, before] = [self.identity.cluster, seen.cluster].map(hex::encode);
            tracing::warn!(
                now,
                before,
                "this is the database of another cluster than at the last start"
            );
            return Ok(None);
        }
        let found: i64 = client.query_one(COUNTED, &[&seen.node]).await?.try_get(0)?;
        let Seen { node, beats, .. } = seen;
        let lost = || format!("it counts {found} heartbeats of node {node}, and had {beats}");
        Ok((found < beats).then(lost))
    }

    /// Notes so many heartbeats of a node, in the background: neither the disk nor a note that is being
    /// written keeps a heartbeat waiting, and the next one is noted too.
    pub fn note(self: &Arc<Self>, node: &Claimant, beats: i64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.ended {
            return;
        }
        if beats < last.beats {
            let before = last.beats;
            tracing::error!(
                beats,
                before,
                "the database has lost heartbeats of this node, and what was committed since"
            );
        }
        (last.node, last.beats) = (Some(node.clone()), beats);
        drop(last);
        if let Ok(writing) = self.writing.clone().try_lock_owned() {
            drop(self.write(writing, node, beats));
        }
    }

    /// From now on only the last heartbeat is noted; whose it is to be, if there was any.
    pub fn end(&self) -> Option<Claimant> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.ended = true;
        last.node.take()
    }

    /// Notes the last heartbeat, and is done when that is on the disk, or the disk takes too long.
    pub async fn note_last(self: &Arc<Self>, node: &Claimant, beats: i64) {
        let written = async {
            let writing = self.writing.clone().lock_owned().await;
            let _ = self.write(writing, node, beats).await;
        };
        if timeout(DISK_TIME, written).await.is_err() {
            tracing::warn!("{} was not written in time", self.path.display());
        }
    }

    fn write(
        self: &Arc<Self>,
        writing: OwnedMutexGuard<()>,
        node: &Claimant,
        beats: i64,
    ) -> tokio::task::JoinHandle<()> {
        let seen = Seen { cluster: self.identity.cluster, node: node.node.clone(), beats };
        let witness = self.clone();
        tokio::task::spawn_blocking(move || {
            let _writing = writing;
            if let Err(error) = replace(&witness.path, &row::encode(KEY, &seen))
                && !witness.told.swap(true, Ordering::Relaxed)
            {
                let path = witness.path.display();
                tracing::warn!(%error, "cannot write {path}: should the database go back, the next start may not notice");
            }
        })
    }
}

/// Why the file says nothing.
#[derive(Debug)]
pub enum WitnessError {
    /// It cannot be read, or is damaged.
    File(String),
    /// The database is away.
    Sql(Error),
}

impl From<Error> for WitnessError {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

fn read(path: &Path) -> Result<Option<Seen>, WitnessError> {
    let unread = |why: &dyn std::fmt::Display| {
        WitnessError::File(format!(
            "{}: {why}; without it a database that has gone back is not noticed: remove it if you know that yours has not",
            path.display()
        ))
    };
    match std::fs::read(path) {
        Ok(stored) => row::payload(KEY, &stored)
            .and_then(|octets| row::decode(KEY, octets))
            .map(Some)
            .map_err(|error: StorageError| unread(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(&error)),
    }
}

/// Replaces a file in one step that survives a crash.
fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)?;
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
