//! The files of one data directory, behind a trait narrow enough that a test can keep what is
//! *live* apart from what is *durable*.

mod disk;
pub mod image;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

pub use disk::DiskFiles;

/// The names and files of one directory. There are no folders in it.
pub trait Files: Debug + Send + Sync + 'static {
    /// Locks the directory against every other process (and every other opening in this one) until
    /// this value is dropped. False: another has it.
    fn lock(&self) -> io::Result<bool>;

    /// All names, in no order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing; makes an empty one where there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file that is there; `NotFound` when it is not.
    fn open_existing(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Removes a name. Whoever has the file open can still read it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in the place of whatever has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes new, changed and removed names durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file.
pub trait File: Debug + Send + Sync + 'static {
    /// Its length in octets.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no octets.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` from an offset. `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all octets at an offset.
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()>;

    /// Cuts it, or fills it with zeroes.
    fn set_len(&self, octets: u64) -> io::Result<()>;

    /// Returns when everything written is durable.
    fn sync(&self) -> io::Result<()>;
}
