//! Rows that are made anew when redb's file is damaged or gone: from the snapshot, or from nothing where
//! there is none yet, and the commit log after it.

use std::io;
use std::sync::Arc;

use super::directory::{OpenError, ROWS_FILE};
use super::index::Index;
use super::log::Replayed;
use super::snapshot;
use crate::StorageError;
use crate::body::segment::{Kind, damaged};
use crate::body::segments::log_segments;
use crate::counters::Counters;
use crate::files::Files;

/// What the new rows are called while they are made.
const ROWS_NEW: &str = "rows.new";

/// Makes the rows anew and puts them in the place of the old ones, which must not be open. These stay as
/// they are when that does not go, or when fewer groups are found than the old ones are known to have had.
/// Takes some microseconds a row.
pub fn rebuild(
    files: &dyn Files,
    directory: [u8; 16],
    (cache_octets, least): (usize, u64),
    counters: &Arc<Counters>,
) -> Result<(Index, Replayed), OpenError> {
    remove_unfinished(files)?;
    let made = make(files, directory, cache_octets, counters);
    let replayed = match made.and_then(|replayed| must_reach(replayed, least)) {
        Ok(replayed) => replayed,
        Err(error) => {
            let _ = remove_unfinished(files);
            return Err(error);
        }
    };
    files.rename(ROWS_NEW, ROWS_FILE)?;
    files.sync_names()?;
    let index = Index::open(files, (cache_octets, false), counters)?;
    counters.rebuilt();
    tracing::warn!(groups = replayed.end.groups, "damaged rows have been made anew");
    Ok((index, replayed))
}

/// What was durable in the old rows was acknowledged: the new ones must have it.
fn must_reach(replayed: Replayed, least: u64) -> Result<Replayed, OpenError> {
    let found = replayed.end.groups;
    match found >= least {
        true => Ok(replayed),
        false => Err(OpenError::Damaged(format!(
            "the snapshot and the commit log have {found} groups, the rows had {least}"
        ))),
    }
}

fn make(
    files: &dyn Files,
    directory: [u8; 16],
    cache_octets: usize,
    counters: &Arc<Counters>,
) -> Result<Replayed, OpenError> {
    let index = Index::open_as(files, ROWS_NEW, (cache_octets, false), counters)?;
    index.identify(directory)?;
    let found = snapshot::read(files, directory, |rows| index.fill(rows))?;
    if found.is_none() {
        must_begin_with_the_first(files, directory)?;
    }
    let mut replayed = index.catch_up(files, directory)?;
    index.checkpoint(replayed.end)?;
    replayed.checked();
    index.close();
    Ok(replayed)
}

/// Without a snapshot the log has to be there from the first group on.
fn must_begin_with_the_first(files: &dyn Files, directory: [u8; 16]) -> Result<(), StorageError> {
    let log = log_segments(files, directory, 0)?;
    match log.first().map(|first| (first.id, first.kind)) {
        Some((_, Kind::Log { before: 0 })) => Ok(()),
        Some((id, _)) => {
            Err(damaged(id, "is the first of the commit log, and there is no snapshot before it"))
        }
        None => Err(StorageError::Damaged("there is no snapshot and no commit log".to_owned())),
    }
}

/// Removes what a crash has left of rows that were being made.
pub fn remove_unfinished(files: &dyn Files) -> io::Result<()> {
    match files.remove(ROWS_NEW) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
