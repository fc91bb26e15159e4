//! redb over one of our files: counts what it writes, and can be cut off.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::snapshot::is_full;
use crate::counters::Counters;
use crate::files::File;

/// Cuts a database off from its file. A database that has failed is dropped, and must not write
/// anything any more while it is: another one may be open over the same file.
#[derive(Clone, Debug, Default)]
pub struct Switch {
    cut: Arc<AtomicBool>,
    opened: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
}

impl Switch {
    /// From now on everything fails.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// The database is open: the length of its file has been judged.
    pub fn opened(&self) {
        self.opened.store(true, Ordering::SeqCst);
    }

    /// Whether the disk had no room for something.
    pub fn met_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    fn note(&self, done: io::Result<()>) -> io::Result<()> {
        done.inspect_err(|error| {
            if is_full(error) {
                self.full.store(true, Ordering::SeqCst);
            }
        })
    }

    fn check(&self) -> io::Result<()> {
        match self.cut.load(Ordering::SeqCst) {
            true => Err(io::Error::other("cut off after a failure")),
            false => Ok(()),
        }
    }
}

/// One of our files as redb wants it. The directory's lock stands for redb's own.
#[derive(Debug)]
pub struct Backend {
    /// The file.
    pub file: Arc<dyn File>,
    /// Cuts it off.
    pub switch: Switch,
    /// Counts.
    pub counters: Arc<Counters>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.switch.check()?;
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.switch.check()?;
        match self.file.read_at(offset, out) {
            // A page that points behind the end is damaged, and no other one is. After an error redb
            // would read nothing at all any more; zeroes are no page, which it says of this one only.
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof
                    && self.switch.opened.load(Ordering::SeqCst) =>
            {
                out.fill(0);
                Ok(())
            }
            read => read,
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.switch.check()?;
        self.switch.note(self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.switch.check()?;
        self.counters.synced();
        self.switch.note(self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.switch.check()?;
        self.counters.wrote_rows(data.len());
        self.switch.note(self.file.write_at(offset, data))
    }
}
