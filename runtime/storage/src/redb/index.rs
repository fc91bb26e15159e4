//! The open database of rows, and how it is opened again after its medium has failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTableMetadata};

use super::backend::{Backend, Switch};
use super::directory::{OpenError, ROWS_FILE};
use super::log::{Position, Replayed, replay};
use super::rows::{ROWS, ReadRows, TableRows, apply, failed, guarded, said};
use super::snapshot::{self, Snapshot};
use crate::body::segment;
use crate::body::segments::log_segments;
use crate::commit::Change;
use crate::counters::Counters;
use crate::files::{File, Files};
use crate::rows::Rows;
use crate::{StorageError, key, row};

/// Octets at the start of redb's file that hold its header.
const HEADER_OCTETS: usize = 4096;

/// The open database.
pub struct Index {
    database: Database,
    switch: Switch,
    /// It does not work any more: after one failure of its file redb reads and writes nothing.
    failed: AtomicBool,
}

impl Drop for Index {
    fn drop(&mut self) {
        // A close that is meant goes through `close`; anything else must not write any more.
        self.switch.cut();
    }
}

/// A write transaction of a group: seen by everybody at once, durable with the next checkpoint. Until
/// then the commit log has it.
pub fn begin(database: &Database) -> Result<redb::WriteTransaction, redb::Error> {
    begin_with(database, Durability::None)
}

/// A write transaction that makes itself, and all before it, durable.
fn begin_durable(database: &Database) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = begin_with(database, Durability::Immediate)?;
    // Opening again after a crash takes milliseconds instead of a walk over all pages. It brings
    // two-phase commits with it, on which opening again after a failed sync relies: a header that
    // points to rows is written only after these are durable.
    write.set_quick_repair(true);
    Ok(write)
}

fn begin_with(
    database: &Database,
    durability: Durability,
) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(durability).expect("it is refused for transactions with savepoints only");
    Ok(write)
}

impl Index {
    /// Opens the rows, making an empty file of them where there is none. With `verify` all pages are
    /// held against their checksums: that reads the whole file.
    pub fn open(
        files: &dyn Files,
        (cache_octets, verify): (usize, bool),
        counters: &Arc<Counters>,
    ) -> Result<Self, OpenError> {
        Self::open_as(files, ROWS_FILE, (cache_octets, verify), counters)
    }

    /// Opens rows under any name.
    pub fn open_as(
        files: &dyn Files,
        name: &str,
        (cache_octets, verify): (usize, bool),
        counters: &Arc<Counters>,
    ) -> Result<Self, OpenError> {
        let file = files.open(name)?;
        let switch = Switch::default();
        let backend = Backend { file, switch: switch.clone(), counters: counters.clone() };
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(cache_octets).set_check_integrity_on_open(verify);
            builder.create_with_backend(backend)
        }));
        let damaged = |why: String| OpenError::Damaged(format!("{name}: {why}"));
        match opened {
            Ok(Ok(database)) => {
                switch.opened();
                Ok(Self { database, switch, failed: AtomicBool::new(false) })
            }
            Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Io(error)))) => {
                Err(unreadable(error, damaged))
            }
            Ok(Err(error)) => Err(damaged(error.to_string())),
            Err(panic) => Err(damaged(said(&*panic))),
        }
    }

    /// Opens the rows again after a failure, without believing what the system has cached: as they
    /// were when they were made durable last.
    pub fn reopen(
        files: &dyn Files,
        cache_octets: usize,
        counters: &Arc<Counters>,
    ) -> Result<Self, OpenError> {
        // After a failed sync the system may hold a header that the medium does not, and count it
        // as written. Written once more, it is either durable or fails again. Everything that it
        // points to was durable before it was written the first time.
        let damaged = |why: String| OpenError::Damaged(format!("{ROWS_FILE}: {why}"));
        let file = files.open_existing(ROWS_FILE).map_err(|error| unreadable(error, damaged))?;
        let mut header = vec![0; HEADER_OCTETS];
        file.read_at(0, &mut header).map_err(|error| unreadable(error, damaged))?;
        file.write_at(0, &header)?;
        file.sync()?;
        counters.synced();
        let index = Self::open(files, (cache_octets, false), counters)?;
        counters.recovered();
        Ok(index)
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Whether it has to be opened again before anything can be read or written.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Whether the disk had no room for something.
    pub fn met_full(&self) -> bool {
        self.switch.met_full()
    }

    /// Notes that it has to be opened again.
    pub fn fail(&self, why: &str) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            tracing::error!(error = why, "the rows have to be opened again");
        }
    }

    /// Reads one state of the rows.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&ReadRows<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let read = guarded(|| {
            let snapshot = self.database.begin_read().map_err(|error| failed(&error.into()))?;
            let table = snapshot.open_table(ROWS).map_err(|error| failed(&error.into()))?;
            read(&TableRows(&table))
        });
        // Of what reads answer, only the file's own failures are called so.
        if let Err(StorageError::Unavailable(why)) = &read {
            self.fail(why);
        }
        read
    }

    /// Gives new rows the id of their directory.
    pub fn identify(&self, id: [u8; 16]) -> Result<(), OpenError> {
        let at = key::identity();
        let stored = row::encode(&at, &id);
        self.change(&[Change::Put(at.into(), stored)]).map_err(|error| unwritable(&error))
    }

    /// Removes the rows about segments that are gone.
    pub fn forget_segments(&self, gone: &[u64]) -> Result<(), OpenError> {
        let gone = gone.iter().map(|id| Change::Delete(key::segment(*id).into()));
        self.change(&gone.collect::<Vec<_>>()).map_err(|error| unwritable(&error))
    }

    /// Makes the rows durable, with all groups before a place in the commit log.
    pub fn checkpoint(&self, at: Position) -> Result<(), StorageError> {
        let key = key::checkpoint();
        let stored = row::encode(&key, &at);
        let checked = guarded(|| {
            self.change(&[Change::Put(key.into(), stored)]).map_err(|error| failed(&error))
        });
        checked.inspect_err(|error| self.fail(&error.to_string()))
    }

    /// Changes rows durably, while nobody else can.
    fn change(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let write = begin_durable(&self.database)?;
        {
            let mut table = write.open_table(ROWS)?;
            changes.iter().try_for_each(|change| apply(&mut table, change))?;
        }
        Ok(write.commit()?)
    }

    /// Brings rows that were just opened up to the end of the commit log.
    pub fn catch_up(
        &self,
        files: &dyn Files,
        directory: [u8; 16],
    ) -> Result<Replayed, StorageError> {
        let from = self.read(|rows| rows.record(&key::checkpoint()))?;
        let from: Position = from.unwrap_or_default();
        let log = log_segments(files, directory, from.segment)?;
        if let Some(last) = log.last() {
            // What it says makes groups before it void: nobody may be told so before it is durable.
            let written = last.write_header(directory).and_then(|()| last.file.sync());
            let written = written.and_then(|()| files.sync_names());
            written.map_err(|error| segment::unreadable(last.id, &error))?;
        }
        let replayed = guarded(|| {
            let write = begin(&self.database).map_err(|error| failed(&error))?;
            let mut table = write.open_table(ROWS).map_err(|error| failed(&error.into()))?;
            let replayed = replay(&log, from, |changes| {
                let mut all = changes.iter();
                all.try_for_each(|change| apply(&mut table, change)).map_err(|error| failed(&error))
            })?;
            drop(table);
            write.commit().map_err(|error| failed(&error.into()))?;
            Ok(replayed)
        })?;
        if replayed.octets > 0 {
            let Replayed { end, octets, .. } = replayed;
            tracing::info!(groups = end.groups - from.groups, octets, "the log is replayed");
        }
        Ok(replayed)
    }

    /// Puts rows into a database that is being made, as they are stored.
    pub fn fill(&self, rows: snapshot::Batch<'_>) -> Result<(), StorageError> {
        guarded(|| {
            let write = begin(&self.database).map_err(|error| failed(&error))?;
            let mut table = write.open_table(ROWS).map_err(|error| failed(&error.into()))?;
            for (key, stored) in rows {
                table.insert(*key, *stored).map_err(|error| failed(&error.into()))?;
            }
            drop(table);
            write.commit().map_err(|error| failed(&error.into()))
        })
    }

    /// The rows as they are now, for as long as this lives.
    pub fn state(&self) -> Result<RowsState, StorageError> {
        let begun = guarded(|| self.database.begin_read().map_err(|error| failed(&error.into())));
        begun.map(RowsState)
    }

    /// Holds the id in the rows against that of the directory.
    pub fn check_identity(&self, id: [u8; 16]) -> Result<(), OpenError> {
        match self.read(|rows| rows.record::<[u8; 16]>(&key::identity())) {
            Ok(Some(found)) if found == id => Ok(()),
            Ok(_) => Err(OpenError::Damaged(format!("{ROWS_FILE} is of another directory"))),
            Err(error) => Err(OpenError::Damaged(format!("{ROWS_FILE}: {error}"))),
        }
    }

    /// Closes the database in good order.
    pub fn close(self) {
        // `Database` writes its last state when it is dropped; our own `Drop` would cut it off
        // first. Taking the parts out of a type with `Drop` is not possible, so the switch of this
        // one is exchanged for one that cuts nothing.
        let mut index = self;
        index.switch = Switch::default();
    }
}

/// All rows as they were at one moment. It does not hinder writers.
pub struct RowsState(ReadTransaction);

impl RowsState {
    /// Looks at every row; the octets of all.
    ///
    /// # Errors
    /// `Damaged` when one is not as it was written, or is missing.
    pub fn verify(&self, stop: &AtomicBool) -> Result<u64, StorageError> {
        self.walk(|rows, count| {
            let mut looked_at = 0;
            snapshot::verified(rows, count, |raw, stored| {
                looked_at += (raw.len() + stored.len()) as u64;
                match stop.load(Ordering::Relaxed) {
                    true => std::ops::ControlFlow::Break(()),
                    false => std::ops::ControlFlow::Continue(()),
                }
            })?;
            Ok(looked_at)
        })
    }

    /// Writes all of them to a snapshot, which holds the groups before `at`.
    pub fn write_snapshot(
        &self,
        of: (&dyn Files, [u8; 16]),
        at: Position,
        counters: &Counters,
        stop: &AtomicBool,
    ) -> Result<Snapshot, snapshot::Failure> {
        let written =
            self.walk(|rows, count| Ok(snapshot::write(of, at, (rows, count), counters, stop)));
        written.unwrap_or_else(|error| Err(error.into()))
    }

    /// Writes all of them to a file of a backup.
    pub fn stream_snapshot(
        &self,
        to: &dyn File,
        directory: [u8; 16],
        at: Position,
        counters: &Counters,
    ) -> Result<u64, snapshot::Failure> {
        let never = AtomicBool::new(false);
        let written = self.walk(|rows, count| {
            Ok(snapshot::write_to(to, directory, at, (rows, count), counters, &never))
        });
        written.unwrap_or_else(|error| Err(error.into()))
    }

    /// Reads them.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&ReadRows<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.walk(|rows, _| read(rows))
    }

    fn walk<T>(
        &self,
        work: impl FnOnce(&ReadRows<'_>, u64) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        guarded(|| {
            let table = self.0.open_table(ROWS).map_err(|error| failed(&error.into()))?;
            let count = table.len().map_err(|error| failed(&error.into()))?;
            work(&TableRows(&table), count)
        })
    }
}

fn unwritable(error: &redb::Error) -> OpenError {
    OpenError::Io(std::io::Error::other(error.to_string()))
}

/// redb reports some damage as an I/O error of these kinds.
fn unreadable(error: std::io::Error, damaged: impl Fn(String) -> OpenError) -> OpenError {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    match error.kind() {
        InvalidData | NotFound | UnexpectedEof => damaged(error.to_string()),
        _ => OpenError::Io(error),
    }
}
