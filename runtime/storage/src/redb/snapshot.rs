//! A second copy of all rows, as they were at one place of the commit log: with the log from there on it
//! is enough to make the rows anew when redb's file is damaged or gone.
//!
//! ```text
//! header 8192: two copies of 76 octets, each at the start of a block of 4 KiB:
//!              "PRMSNAP\n" version u16, 6 zeroes, directory 16, key 16, segment u64, offset u64,
//!              groups u64 (the place in the log), crc u32
//! block    16: rows u32, size u32, crc u32, 4 zeroes, then the rows, ascending:
//!              key length u32, value length u32, key, value as it is stored
//! end      16: a block of no rows whose size is zero
//! ```
//!
//! Numbers are little-endian. The checksum of a block is a CRC-32C over the file's random key, the
//! block's number, its head and its rows. A file without its end is none: it gets its name only when it
//! is durable as a whole.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::log::Position;
use crate::counters::Counters;
use crate::files::{File, Files};
use crate::rows::Rows;
use crate::{StorageError, row};

/// The file's name.
pub const SNAPSHOT_FILE: &str = "snapshot";
/// What it is called while it is written.
const SNAPSHOT_NEW: &str = "snapshot.new";

const MAGIC: &[u8; 8] = b"PRMSNAP\n";
const VERSION: u16 = 1;
/// What a medium loses at once, in octets, when a part of it goes bad.
const BLOCK_OF_MEDIUM: usize = 4096;
const HEADER_OCTETS: u64 = 2 * BLOCK_OF_MEDIUM as u64;
const HEADER_COPY: usize = 76;
/// Octets before the rows of a block.
const BLOCK_HEAD: usize = 16;
/// Octets of rows after which a block ends: what one flipped octet costs, and what is written at a time.
const BLOCK_OCTETS: usize = 256 << 10;
/// Most octets of rows in a block: one row more than that. A longer one is damage, not to be allocated.
const MAX_BLOCK_OCTETS: usize = BLOCK_OCTETS + (8 << 20);

/// Why there is no new snapshot. The old one stays.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The rows are damaged.
    #[error("{0}")]
    Damaged(String),
    /// The disk has no room for it.
    #[error("{0}")]
    Full(String),
    /// Something else, which may pass; or it was told to stop.
    #[error("{0}")]
    Away(String),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damaged(why) => Self::Damaged(why),
            error => Self::Away(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match is_full(&error) {
            true => Self::Full(error.to_string()),
            false => Self::Away(error.to_string()),
        }
    }
}

/// Whether an operation failed for lack of room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A snapshot that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The rows hold every group before this place.
    pub at: Position,
    /// Octets of the file.
    pub octets: u64,
}

/// Writes a snapshot of the rows, all of which are verified for it, in the place of an older one.
/// `rows` must be `count` many. Gives up when `stop` is set.
pub fn write(
    (files, directory): (&dyn Files, [u8; 16]),
    at: Position,
    (rows, count): (&impl Rows, u64),
    counters: &Counters,
    stop: &AtomicBool,
) -> Result<Snapshot, Failure> {
    let written = files.open(SNAPSHOT_NEW).map_err(Failure::from).and_then(|file| {
        file.set_len(0)?;
        let octets = write_to(&*file, directory, at, (rows, count), counters, stop)?;
        counters.synced();
        file.sync()?;
        Ok(octets)
    });
    match written {
        Ok(octets) => {
            files.rename(SNAPSHOT_NEW, SNAPSHOT_FILE)?;
            files.sync_names()?;
            Ok(Snapshot { at, octets })
        }
        Err(failure) => {
            // On a full disk nothing may be left behind.
            let _ = files.remove(SNAPSHOT_NEW);
            Err(failure)
        }
    }
}

/// Writes a snapshot to an empty file, from its start to its end; its octets. Not durable yet.
pub fn write_to(
    file: &dyn File,
    directory: [u8; 16],
    at: Position,
    (rows, count): (&impl Rows, u64),
    counters: &Counters,
    stop: &AtomicBool,
) -> Result<u64, Failure> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| Failure::Away(error.to_string()))?;
    file.write_at(0, &header(directory, key, at).repeat(2))?;
    let mut to = Writer { file, key, at: HEADER_OCTETS, number: 0, counters };
    to.rows(rows, count, stop)?;
    Ok(to.at)
}

/// Removes it. Nothing happens when there is none.
pub fn remove(files: &dyn Files) -> io::Result<()> {
    remove_named(files, SNAPSHOT_FILE)
}

/// Removes what a crash has left of one that was being written.
pub fn remove_unfinished(files: &dyn Files) -> io::Result<()> {
    remove_named(files, SNAPSHOT_NEW)
}

fn remove_named(files: &dyn Files, name: &str) -> io::Result<()> {
    match files.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The snapshot of a directory, if there is one that says what it is. `Damaged`: it does not.
pub fn find(files: &dyn Files, directory: [u8; 16]) -> Result<Option<Snapshot>, StorageError> {
    let Some(file) = open(files)? else { return Ok(None) };
    let (_, at) = read_header(&*file, directory)?;
    let octets = file.len().map_err(|error| unreadable(&error))?;
    Ok(Some(Snapshot { at, octets }))
}

/// A row as it is stored: raw key, framed value.
pub type Row<'a> = (&'a [u8], &'a [u8]);
/// Some of them.
pub type Batch<'a> = &'a [Row<'a>];

/// Shows the rows of the snapshot, block by block, each verified. `None`: there is no snapshot.
pub fn read(
    files: &dyn Files,
    directory: [u8; 16],
    mut take: impl FnMut(Batch<'_>) -> Result<(), StorageError>,
) -> Result<Option<Snapshot>, StorageError> {
    let Some(file) = open(files)? else { return Ok(None) };
    let (key, place) = read_header(&*file, directory)?;
    let (mut at, mut number) = (HEADER_OCTETS, 0);
    loop {
        let mut head = [0; BLOCK_HEAD];
        file.read_at(at, &mut head).map_err(|error| unreadable(&error))?;
        let word = |from: usize| {
            u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]])
        };
        let (rows, size, check) = (word(0), word(4) as usize, word(8));
        if size > MAX_BLOCK_OCTETS {
            return Err(damaged(&format!("block {number} has no size that it could have")));
        }
        let mut block = vec![0; size];
        file.read_at(at + BLOCK_HEAD as u64, &mut block).map_err(|error| unreadable(&error))?;
        if checksum(&key, number, &head[..8], &block) != check {
            return Err(damaged(&format!("block {number} does not have its checksum")));
        }
        at += (BLOCK_HEAD + size) as u64;
        number += 1;
        match rows {
            0 => return Ok(Some(Snapshot { at: place, octets: at })),
            rows => take(&split(&block, rows as usize)?)?,
        }
    }
}

fn split(block: &[u8], rows: usize) -> Result<Vec<Row<'_>>, StorageError> {
    let (mut rest, mut found) = (block, Vec::with_capacity(rows.min(block.len())));
    for _ in 0..rows {
        let row = (|| {
            let (key, after) = rest.split_first_chunk::<4>()?;
            let (value, after) = after.split_first_chunk::<4>()?;
            let (key, after) = after.split_at_checked(u32::from_le_bytes(*key) as usize)?;
            let (value, after) = after.split_at_checked(u32::from_le_bytes(*value) as usize)?;
            Some((key, value, after))
        })();
        let (key, value, after) = row.ok_or_else(|| damaged("holds a row that is none"))?;
        row::payload(key, value)?;
        found.push((key, value));
        rest = after;
    }
    Ok(found)
}

fn open(files: &dyn Files) -> Result<Option<Arc<dyn File>>, StorageError> {
    match files.open_existing(SNAPSHOT_FILE) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}

struct Writer<'a> {
    file: &'a dyn File,
    key: [u8; 16],
    at: u64,
    number: u64,
    counters: &'a Counters,
}

impl Writer<'_> {
    fn rows(&mut self, rows: &impl Rows, count: u64, stop: &AtomicBool) -> Result<(), Failure> {
        let (mut block, mut in_block) = (Vec::new(), 0_u32);
        let mut failed = None;
        verified(rows, count, |raw, stored| {
            block.extend_from_slice(&(raw.len() as u32).to_le_bytes());
            block.extend_from_slice(&(stored.len() as u32).to_le_bytes());
            block.extend_from_slice(raw);
            block.extend_from_slice(stored);
            in_block += 1;
            if block.len() < BLOCK_OCTETS {
                return ControlFlow::Continue(());
            }
            let written = match stop.load(Ordering::Relaxed) {
                true => Err(Failure::Away("it was told to stop".to_owned())),
                false => self.block(in_block, &block).map_err(Failure::from),
            };
            block.clear();
            in_block = 0;
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => {
                    failed = Some(failure);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(failure) = failed {
            return Err(failure);
        }
        if in_block > 0 {
            self.block(in_block, &block)?;
        }
        Ok(self.block(0, &[])?)
    }

    fn block(&mut self, rows: u32, octets: &[u8]) -> io::Result<()> {
        let mut block = Vec::with_capacity(BLOCK_HEAD + octets.len());
        block.extend_from_slice(&rows.to_le_bytes());
        block.extend_from_slice(&(octets.len() as u32).to_le_bytes());
        let check = checksum(&self.key, self.number, &block, octets);
        block.extend_from_slice(&check.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(octets);
        self.file.write_at(self.at, &block)?;
        self.counters.wrote_snapshot(block.len() as u64);
        self.at += block.len() as u64;
        self.number += 1;
        Ok(())
    }
}

/// Shows all rows, ascending, each held against its checksum, until `take` breaks. `Damaged` also when
/// there are not as many as there should be, or when one of them is not found by its key.
pub fn verified(
    rows: &impl Rows,
    count: u64,
    mut take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), StorageError> {
    /// Above every raw key.
    const END: [u8; 1] = [u8::MAX];
    let (mut found, mut before, mut whole) = (0, Vec::new(), true);
    rows.visit(&[], &END, &mut |raw, stored| {
        row::payload(raw, stored)?;
        if found > 0 && raw <= &before[..] {
            return Err(StorageError::Damaged("rows are out of order".to_owned()));
        }
        // Whoever looks for the row goes another way than this walk, by keys that may be damaged.
        if rows.stored(raw)?.is_none_or(|by_key| by_key[..] != *stored) {
            return Err(StorageError::Damaged("a row is not found by its key".to_owned()));
        }
        found += 1;
        before.clear();
        before.extend_from_slice(raw);
        let went_on = take(raw, stored);
        whole = went_on == ControlFlow::Continue(());
        Ok(went_on)
    })?;
    match whole && found != count {
        true => Err(StorageError::Damaged(format!("{found} rows are found, not {count}"))),
        false => Ok(()),
    }
}

fn header(directory: [u8; 16], key: [u8; 16], at: Position) -> Vec<u8> {
    let mut copy = Vec::with_capacity(BLOCK_OF_MEDIUM);
    copy.extend_from_slice(MAGIC);
    copy.extend_from_slice(&VERSION.to_le_bytes());
    copy.extend_from_slice(&[0; 6]);
    copy.extend_from_slice(&directory);
    copy.extend_from_slice(&key);
    for number in [at.segment, at.offset, at.groups] {
        copy.extend_from_slice(&number.to_le_bytes());
    }
    copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
    copy.resize(BLOCK_OF_MEDIUM, 0);
    copy
}

fn read_header(file: &dyn File, directory: [u8; 16]) -> Result<([u8; 16], Position), StorageError> {
    let mut header = vec![0; HEADER_OCTETS as usize];
    file.read_at(0, &mut header).map_err(|error| unreadable(&error))?;
    let (first, second) = header.split_at(BLOCK_OF_MEDIUM);
    read_copy(first, directory).or_else(|error| read_copy(second, directory).map_err(|_| error))
}

fn read_copy(copy: &[u8], directory: [u8; 16]) -> Result<([u8; 16], Position), StorageError> {
    let (fields, rest) = copy.split_at(HEADER_COPY - 4);
    if fields[..8] != *MAGIC || rest[..4] != crc32c::crc32c(fields).to_le_bytes() {
        return Err(damaged("has no valid header"));
    }
    let version = u16::from_le_bytes([fields[8], fields[9]]);
    if version != VERSION {
        return Err(damaged(&format!("has version {version}, this build knows {VERSION}")));
    }
    if fields[16..32] != directory {
        return Err(damaged("belongs to another directory"));
    }
    let mut key = [0; 16];
    key.copy_from_slice(&fields[32..48]);
    let number = |at: usize| {
        let mut octets = [0; 8];
        octets.copy_from_slice(&fields[at..at + 8]);
        u64::from_le_bytes(octets)
    };
    Ok((key, Position { segment: number(48), offset: number(56), groups: number(64) }))
}

fn checksum(key: &[u8; 16], number: u64, head: &[u8], rows: &[u8]) -> u32 {
    let mut start = [0; 32];
    start[..16].copy_from_slice(key);
    start[16..24].copy_from_slice(&number.to_le_bytes());
    start[24..].copy_from_slice(head);
    crc32c::crc32c_append(crc32c::crc32c(&start), rows)
}

fn damaged(what: &str) -> StorageError {
    StorageError::Damaged(format!("the file {SNAPSHOT_FILE:?} {what}"))
}

fn unreadable(error: &io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("is cut short"),
        _ => StorageError::Unavailable(format!("{SNAPSHOT_FILE}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::rows::Visit;

    /// Rows of which one cannot be looked up, as when a key on the way to it is damaged.
    struct Astray {
        rows: BTreeMap<Vec<u8>, Bytes>,
        unfound: Option<Vec<u8>>,
    }

    impl Rows for Astray {
        fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
            let found = self.rows.get(key).filter(|_| self.unfound.as_deref() != Some(key));
            Ok(found.cloned())
        }

        fn visit(&self, _: &[u8], _: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
            for (key, stored) in &self.rows {
                if visit(key, stored)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    #[test]
    fn a_walk_finds_rows_that_are_lost_and_rows_that_only_it_finds() {
        let row = |n: u8| (vec![n], row::frame(&[n], b"value"));
        let rows = |unfound| Astray { rows: (1..=3).map(row).collect(), unfound };
        let walk = |rows: &Astray, count| verified(rows, count, |_, _| ControlFlow::Continue(()));
        assert_eq!(walk(&rows(None), 3), Ok(()));
        for count in [2, 4] {
            assert!(matches!(walk(&rows(None), count), Err(StorageError::Damaged(_))), "{count}");
        }
        let astray = walk(&rows(Some(vec![2])), 3);
        assert!(matches!(astray, Err(StorageError::Damaged(_))), "{astray:?}");
    }
}
