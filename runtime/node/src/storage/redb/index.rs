//! The open database of rows, and how it is opened again after its medium has failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, Durability, ReadableDatabase};

use super::backend::{Backend, Switch};
use super::directory::{OpenError, ROWS_FILE};
use super::rows::{ROWS, ReadRows, TableRows, apply, failed, guarded, said};
use crate::storage::commit::Change;
use crate::storage::counters::Counters;
use crate::storage::files::Files;
use crate::storage::rows::Rows;
use crate::storage::{StorageError, key, row};

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

/// A write transaction as every commit of this engine is made.
pub fn begin(database: &Database) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write
        .set_durability(Durability::Immediate)
        .expect("it is refused for transactions with savepoints only");
    // Opening again after a crash takes milliseconds instead of a walk over all pages. It brings
    // two-phase commits with it, on which opening again after a failed sync relies: a header that
    // points to rows is written only after these are durable.
    write.set_quick_repair(true);
    Ok(write)
}

impl Index {
    /// Opens the rows, making an empty file of them where there is none.
    pub fn open(
        files: &dyn Files,
        cache_octets: usize,
        counters: &Arc<Counters>,
    ) -> Result<Self, OpenError> {
        let file = files.open(ROWS_FILE)?;
        let switch = Switch::default();
        let backend = Backend { file, switch: switch.clone(), counters: counters.clone() };
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Database::builder().set_cache_size(cache_octets).create_with_backend(backend)
        }));
        let damaged = |why: String| OpenError::Damaged(format!("{ROWS_FILE}: {why}"));
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

    /// Opens the rows again after a failure, without believing what the system has cached. What
    /// is read afterwards is durable.
    pub fn reopen(
        files: &dyn Files,
        cache_octets: usize,
        counters: &Arc<Counters>,
    ) -> Result<Self, OpenError> {
        // After a failed sync the system may hold a header that the medium does not, and count it
        // as written. Written once more, it is either durable or fails again. Everything that it
        // points to was durable before it was written the first time.
        let file = files.open(ROWS_FILE)?;
        let mut header = vec![0; HEADER_OCTETS];
        file.read_at(0, &mut header)?;
        file.write_at(0, &header)?;
        file.sync()?;
        counters.synced();
        let index = Self::open(files, cache_octets, counters)?;
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
        self.change(&[Change::Put(at, stored)])
    }

    /// Removes the rows about segments that are gone.
    pub fn forget_segments(&self, gone: &[u64]) -> Result<(), OpenError> {
        let changes: Vec<_> = gone.iter().map(|id| Change::Delete(key::segment(*id))).collect();
        self.change(&changes)
    }

    /// Changes rows while nobody else can.
    fn change(&self, changes: &[Change]) -> Result<(), OpenError> {
        let write = || -> Result<(), redb::Error> {
            let write = begin(&self.database)?;
            {
                let mut table = write.open_table(ROWS)?;
                changes.iter().try_for_each(|change| apply(&mut table, change))?;
            }
            Ok(write.commit()?)
        };
        write().map_err(|error| OpenError::Io(std::io::Error::other(error.to_string())))
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

/// redb reports some damage as an I/O error of these kinds.
fn unreadable(error: std::io::Error, damaged: impl Fn(String) -> OpenError) -> OpenError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.kind() {
        InvalidData | UnexpectedEof => damaged(error.to_string()),
        _ => OpenError::Io(error),
    }
}
