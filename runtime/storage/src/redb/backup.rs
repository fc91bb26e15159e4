//! A copy of a directory that is in use: a snapshot of the rows as they are at one place of the log, and
//! the segments with what those rows refer to. Whoever opens the copy makes the rows anew from it.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::directory::{FORMAT, RESTORED};
use super::index::RowsState;
use super::log::Position;
use super::shared::Shared;
use super::snapshot::{Failure, SNAPSHOT_FILE};
use crate::StorageError;
use crate::body::segment::{file_name, segment_of, unreadable};
use crate::body::segments::segment_rows;
use crate::files::File;
use crate::keeping::BackupPiece;

/// Octets that are read at a time.
const BLOCK_OCTETS: u64 = 1 << 20;

type Sender = mpsc::Sender<Result<BackupPiece, StorageError>>;

/// Sends everything; blocks its thread as long as whoever takes it does. The segments must be pinned.
pub fn send(shared: &Shared, (rows, at): (RowsState, Position), to: &Sender) {
    let ended = send_all(shared, rows, at, to).map(|()| BackupPiece::Done);
    // Nobody hears of it when whoever took it has gone.
    let _ = to.blocking_send(ended);
}

fn send_all(
    shared: &Shared,
    rows: RowsState,
    at: Position,
    to: &Sender,
) -> Result<(), StorageError> {
    let was_full = shared.full.load(Ordering::Relaxed);
    let mut lengths = rows.read(|rows| segment_rows(rows))?;
    for name in [FORMAT, RESTORED] {
        match shared.files.open_existing(name) {
            Ok(file) => send_file(&*file, name, u64::MAX, to).map_err(away)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(away(error)),
        }
    }
    offer(to, BackupPiece::File(SNAPSHOT_FILE.to_owned())).map_err(away)?;
    let stream = Stream { to: to.clone(), at: Mutex::new(0) };
    rows.stream_snapshot(&stream, shared.directory, at, &shared.counters).map_err(|failure| {
        match failure {
            Failure::Damaged(why) => StorageError::Damaged(why),
            Failure::Full(why) | Failure::Away(why) => StorageError::Unavailable(why),
        }
    })?;
    // From here on the rows go on without it: pages that are free are used again.
    drop(rows);
    lengths.retain(|_, row| row.live_bodies > 0);
    if at.segment > 0 {
        let log = lengths.entry(at.segment).or_default();
        log.end = log.end.max(at.offset);
    }
    for (id, row) in lengths {
        if shared.full.load(Ordering::Relaxed) && !was_full {
            // What it keeps may be just the room that is needed.
            return Err(StorageError::Unavailable("the disk has become full".to_owned()));
        }
        let name = file_name(id);
        let sent = shared.files.open_existing(&name);
        // One that is missing is damage in what is copied: the copy has it too.
        match sent.and_then(|file| send_file(&*file, &name, row.end, to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && id != at.segment => {
                tracing::error!(segment = id, "a segment is missing, in the backup too");
            }
            sent => sent.map_err(|error| unreadable(id, &error))?,
        }
    }
    Ok(())
}

fn send_file(file: &dyn File, name: &str, most: u64, to: &Sender) -> io::Result<()> {
    offer(to, BackupPiece::File(name.to_owned()))?;
    let length = file.len()?.min(most);
    let mut at = 0;
    while at < length {
        let mut block = vec![0; BLOCK_OCTETS.min(length - at) as usize];
        file.read_at(at, &mut block)?;
        at += block.len() as u64;
        offer(to, BackupPiece::Octets(block.into()))?;
    }
    Ok(())
}

fn offer(to: &Sender, piece: BackupPiece) -> io::Result<()> {
    to.blocking_send(Ok(piece)).map_err(|_| io::Error::other("nobody takes the backup any more"))
}

fn away(error: io::Error) -> StorageError {
    StorageError::Unavailable(error.to_string())
}

/// Whether a backup may have a file of this name.
pub fn is_backed_up(name: &str) -> bool {
    [FORMAT, RESTORED, SNAPSHOT_FILE].contains(&name) || segment_of(name).is_some()
}

/// A file that is written from its start to its end, and sent instead.
#[derive(Debug)]
struct Stream {
    to: Sender,
    at: Mutex<u64>,
}

impl File for Stream {
    fn len(&self) -> io::Result<u64> {
        Ok(*self.at.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("what is sent cannot be read again"))
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut at = self.at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if offset != *at {
            return Err(io::Error::other("what is sent is sent in its order"));
        }
        *at += octets.len() as u64;
        offer(&self.to, BackupPiece::Octets(Bytes::copy_from_slice(octets)))
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
