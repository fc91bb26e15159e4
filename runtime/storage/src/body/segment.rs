//! The format of a segment: a file to which bodies and groups of the commit log are appended.
//!
//! ```text
//! header 8192: two copies of 72 octets, each at the start of a block of 4 KiB:
//!              "PRMSEGM\n" version u16, kind u8, 5 zeroes, directory 16, segment u64, key 16,
//!              groups before u64, crc u32, 4 zeroes
//! body     48: mark u8, space 17, body 16, size u64, 2 zeroes, crc u32
//!              chunks of 16 KiB (the last one shorter), each followed by its crc u32
//! group    48: mark u8, copy u8, 2 zeroes, blank u32, number u64, size u64, bodies u64, 12 zeroes,
//!              crc u32
//!              chunks as above
//! ```
//!
//! A segment of bodies holds body after body. A segment of the log holds group after group, each from
//! the start of a sector, so that writing one can never touch the sectors of another: first the bodies
//! that its commits bring, then what it changes, twice.
//!
//! Numbers are little-endian. Every checksum below the header is a CRC-32C over the segment's own
//! random key first, then what the record is and the place within it: octets inside a body cannot pass
//! for a record, because who chose them does not know the key (a checksum is no signature: what is
//! meant is that nobody hits upon 32 bits by accident); nor can a chunk pass for another one.

mod group;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use postroom_core::types::AccountId;

pub use self::group::{FoundGroup, Group, GroupHeader};
use crate::files::File;
use crate::rows::SegmentPlace;
use crate::{Space, StorageError};

const MAGIC: &[u8; 8] = b"PRMSEGM\n";
const VERSION: u16 = 2;
/// The unit in which a write reaches the medium whole or not at all, in octets.
pub const SECTOR_OCTETS: u64 = 512;
/// What a medium loses at once, in octets, when a part of it goes bad.
const BLOCK_OF_MEDIUM: usize = 4096;
/// Octets before the first record.
pub const HEADER_OCTETS: u64 = 2 * BLOCK_OF_MEDIUM as u64;
/// Octets of one copy of what the header says.
const HEADER_COPY: usize = 72;
/// Octets of a record before its first chunk.
pub const RECORD_OCTETS: u64 = 48;
/// The first octet of a body's record.
const BODY_MARK: u8 = 0xB1;
/// The first octet of a group's record.
const GROUP_MARK: u8 = 0xC1;
/// Octets of a body under one checksum: what a ranged read must read at least.
pub const CHUNK_OCTETS: u64 = 16 << 10;
const CHECK_OCTETS: u64 = 4;
/// Octets that are read, or gathered to be written, at a time: bounds the memory of one large body.
const BLOCK_OCTETS: u64 = 64 * (CHUNK_OCTETS + CHECK_OCTETS);

/// Octets of the whole record of this many octets.
pub fn record_length(size: u64) -> u64 {
    RECORD_OCTETS + size + CHECK_OCTETS * size.div_ceil(CHUNK_OCTETS)
}

/// The first start of a sector from here on.
pub fn sector_from(offset: u64) -> u64 {
    offset.next_multiple_of(SECTOR_OCTETS)
}

/// The name of a segment's file.
pub fn file_name(segment: u64) -> String {
    format!("segment-{segment:010}")
}

/// The segment of a file of this name.
pub fn segment_of(name: &str) -> Option<u64> {
    let segment = name.strip_prefix("segment-")?.parse().ok()?;
    (file_name(segment) == name).then_some(segment)
}

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bodies that were stored before a commit links them.
    Bodies,
    /// The commit log, from the group after this number on. Groups of higher numbers in segments
    /// before it are void: it is not known whether they were ever whole.
    Log {
        /// The number of groups before it.
        before: u64,
    },
}

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    /// Its number.
    pub id: u64,
    /// What it is for.
    pub kind: Kind,
    /// Its file.
    pub file: Arc<dyn File>,
    key: [u8; 16],
}

/// What the record of a body says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Whose body.
    pub space: Space,
    /// The body.
    pub body: [u8; 16],
    /// Its octets.
    pub size: u64,
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A body.
    Body(RecordHeader),
    /// A copy of a group's changes.
    Group(GroupHeader),
}

impl Record {
    /// Where the next record starts, if this one starts at `at`.
    pub fn next(&self, at: u64) -> u64 {
        match self {
            Self::Body(header) => at + record_length(header.size),
            Self::Group(header) if header.copy == 0 => at + record_length(header.size),
            Self::Group(header) => sector_from(at + record_length(header.size)),
        }
    }
}

/// Gathers what is written to a file one after the other.
struct Appending<'a> {
    file: &'a dyn File,
    at: u64,
    block: Vec<u8>,
    blank: Blank,
}

/// Counts the sectors that are all zeroes.
#[derive(Default)]
struct Blank {
    /// Octets of the last sector so far.
    filled: usize,
    /// Whether anything else than zeroes is in it.
    written: bool,
    /// Whole sectors of zeroes before it.
    count: u32,
}

impl Blank {
    fn push(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let room = SECTOR_OCTETS as usize - self.filled;
            let (piece, rest) = octets.split_at(room.min(octets.len()));
            self.written = self.written || piece.iter().any(|octet| *octet != 0);
            self.filled += piece.len();
            octets = rest;
            if self.filled == SECTOR_OCTETS as usize {
                self.count += u32::from(!self.written);
                (self.filled, self.written) = (0, false);
            }
        }
    }
}

impl<'a> Appending<'a> {
    fn new(file: &'a dyn File, at: u64, expected: u64) -> Self {
        let block = Vec::with_capacity(expected.min(BLOCK_OCTETS) as usize);
        Self { file, at, block, blank: Blank::default() }
    }

    fn push(&mut self, octets: &[u8]) -> io::Result<()> {
        if !self.block.is_empty() && (self.block.len() + octets.len()) as u64 > BLOCK_OCTETS {
            self.flush()?;
        }
        self.block.extend_from_slice(octets);
        self.blank.push(octets);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.at, &self.block)?;
        self.at += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }
}

impl Segment {
    /// Begins an empty file. Not durable yet.
    pub fn create(
        file: Arc<dyn File>,
        directory: [u8; 16],
        id: u64,
        kind: Kind,
    ) -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let segment = Self { id, kind, file, key };
        segment.file.set_len(0)?;
        segment.write_header(directory)?;
        Ok(segment)
    }

    /// Writes what it says of itself, perhaps once more: the system may show what never reached the
    /// medium. Not durable yet.
    pub fn write_header(&self, directory: [u8; 16]) -> io::Result<()> {
        let (word, before) = match self.kind {
            Kind::Bodies => (0, 0),
            Kind::Log { before } => (1, before),
        };
        let mut copy = Vec::with_capacity(BLOCK_OF_MEDIUM);
        copy.extend_from_slice(MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&[word, 0, 0, 0, 0, 0]);
        copy.extend_from_slice(&directory);
        copy.extend_from_slice(&self.id.to_le_bytes());
        copy.extend_from_slice(&self.key);
        copy.extend_from_slice(&before.to_le_bytes());
        copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
        copy.resize(BLOCK_OF_MEDIUM, 0);
        self.file.write_at(0, &copy.repeat(2))
    }

    /// Takes up a file that is there. `Damaged` when it is no segment, or another one.
    pub fn open(file: Arc<dyn File>, directory: [u8; 16], id: u64) -> Result<Self, StorageError> {
        let mut header = [0; HEADER_OCTETS as usize];
        file.read_at(0, &mut header).map_err(|error| unreadable(id, &error))?;
        let (first, second) = header.split_at(BLOCK_OF_MEDIUM);
        let read = read_header(first, directory, id).or_else(|first| {
            // What the first copy says is told only when the second one says nothing either.
            read_header(second, directory, id).map_err(|_| first)
        });
        let (kind, key) = read?;
        Ok(Self { id, kind, file, key })
    }

    /// Whether both copies of what it says of itself are there.
    pub fn has_whole_header(&self, directory: [u8; 16]) -> Result<bool, StorageError> {
        let mut header = [0; HEADER_OCTETS as usize];
        self.file.read_at(0, &mut header).map_err(|error| unreadable(self.id, &error))?;
        let (first, second) = header.split_at(BLOCK_OF_MEDIUM);
        let is_whole = |copy| read_header(copy, directory, self.id) == Ok((self.kind, self.key));
        Ok(is_whole(first) && is_whole(second))
    }

    /// Appends a body at `offset`. Not durable yet.
    pub fn append(&self, offset: u64, header: &RecordHeader, octets: &[u8]) -> io::Result<()> {
        let mut to = Appending::new(&*self.file, offset, record_length(header.size));
        self.push(&mut to, &self.encode_body(header), &header.body, octets)?;
        to.flush()
    }

    fn push(
        &self,
        to: &mut Appending<'_>,
        header: &[u8],
        id: &[u8; 16],
        octets: &[u8],
    ) -> io::Result<()> {
        to.push(header)?;
        for (index, chunk) in octets.chunks(CHUNK_OCTETS as usize).enumerate() {
            to.push(chunk)?;
            to.push(&self.check(id, index as u64, chunk).to_le_bytes())?;
        }
        Ok(())
    }

    /// Octets of a body from `at`, at most `max`; every chunk touched is verified.
    pub fn read(
        &self,
        place: SegmentPlace,
        body: (&[u8; 16], u64),
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        let (key, size) = body;
        if place.length != record_length(size) {
            return Err(damaged(self.id, &format!("holds no {size} octets at {}", place.offset)));
        }
        let end = at.saturating_add(max).min(size);
        let start = at.min(end);
        let mut octets = BytesMut::with_capacity((end - start) as usize);
        let per_block = BLOCK_OCTETS / (CHUNK_OCTETS + CHECK_OCTETS);
        let mut chunk = start / CHUNK_OCTETS;
        while chunk * CHUNK_OCTETS < end {
            let until = (chunk + per_block).min(end.div_ceil(CHUNK_OCTETS));
            let block = self.read_chunks(place.offset, (key, size), chunk..until)?;
            let from = start.saturating_sub(chunk * CHUNK_OCTETS) as usize;
            let to = (end - chunk * CHUNK_OCTETS).min(block.len() as u64) as usize;
            octets.extend_from_slice(&block[from.min(to)..to]);
            chunk = until;
        }
        Ok(octets.freeze())
    }

    /// The verified octets of neighbouring chunks.
    fn read_chunks(
        &self,
        record: u64,
        body: (&[u8; 16], u64),
        chunks: Range<u64>,
    ) -> Result<Vec<u8>, StorageError> {
        let (key, size) = body;
        let stored = (size.min(chunks.end * CHUNK_OCTETS) - chunks.start * CHUNK_OCTETS)
            + CHECK_OCTETS * (chunks.end - chunks.start);
        let from = record + RECORD_OCTETS + chunks.start * (CHUNK_OCTETS + CHECK_OCTETS);
        let mut block = vec![0; stored as usize];
        self.file.read_at(from, &mut block).map_err(|error| unreadable(self.id, &error))?;
        // Checksums are taken out in place: octets move to where they belong.
        let (mut read, mut kept) = (0, 0);
        for index in chunks {
            let length = (size - index * CHUNK_OCTETS).min(CHUNK_OCTETS) as usize;
            let (octets, check) = block[read..].split_at(length);
            if check[..4] != self.check(key, index, octets).to_le_bytes() {
                let what = format!("has wrong octets in {}", hex::encode(key));
                return Err(damaged(self.id, &what));
            }
            block.copy_within(read..read + length, kept);
            kept += length;
            read += length + CHECK_OCTETS as usize;
        }
        block.truncate(kept);
        Ok(block)
    }

    /// The record that starts at `offset`; `None`: nothing that this segment's key vouches for.
    pub fn record_at(&self, offset: u64) -> Result<Option<Record>, StorageError> {
        let mut stored = [0; RECORD_OCTETS as usize];
        match self.file.read_at(offset, &mut stored) {
            Ok(()) => Ok(self.decode(&stored)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(unreadable(self.id, &error)),
        }
    }

    fn encode_body(&self, header: &RecordHeader) -> [u8; RECORD_OCTETS as usize] {
        let mut stored = [0; RECORD_OCTETS as usize];
        stored[0] = BODY_MARK;
        if let Space::Account(account) = header.space {
            stored[1] = 1;
            stored[2..18].copy_from_slice(&account.0);
        }
        stored[18..34].copy_from_slice(&header.body);
        stored[34..42].copy_from_slice(&header.size.to_le_bytes());
        self.seal(stored)
    }

    fn seal(&self, mut stored: [u8; RECORD_OCTETS as usize]) -> [u8; RECORD_OCTETS as usize] {
        let check = crc32c::crc32c_append(crc32c::crc32c(&self.key), &stored[..44]);
        stored[44..].copy_from_slice(&check.to_le_bytes());
        stored
    }

    fn decode(&self, stored: &[u8]) -> Option<Record> {
        let check = crc32c::crc32c_append(crc32c::crc32c(&self.key), &stored[..44]);
        if stored[44..] != check.to_le_bytes() {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(stored[at..at + 8].try_into().ok()?));
        match stored[0] {
            BODY_MARK => {
                let space = match stored[1] {
                    0 => Space::Directory,
                    _ => Space::Account(AccountId(stored[2..18].try_into().ok()?)),
                };
                let body = stored[18..34].try_into().ok()?;
                Some(Record::Body(RecordHeader { space, body, size: number(34)? }))
            }
            GROUP_MARK if stored[1] < 2 => Some(Record::Group(GroupHeader {
                copy: stored[1],
                number: number(8)?,
                size: number(16)?,
                bodies: number(24)?,
                blank: u32::from_le_bytes(stored[4..8].try_into().ok()?),
            })),
            _ => None,
        }
    }

    fn check(&self, id: &[u8; 16], chunk: u64, octets: &[u8]) -> u32 {
        let mut start = [0; 48];
        start[..16].copy_from_slice(&self.key);
        start[16..32].copy_from_slice(id);
        start[32..40].copy_from_slice(&chunk.to_le_bytes());
        start[40..].copy_from_slice(&(octets.len() as u64).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&start), octets)
    }
}

fn read_header(
    copy: &[u8],
    directory: [u8; 16],
    id: u64,
) -> Result<(Kind, [u8; 16]), StorageError> {
    let (fields, rest) = copy.split_at(HEADER_COPY - 8);
    if fields[..8] != *MAGIC || rest[..4] != crc32c::crc32c(fields).to_le_bytes() {
        return Err(damaged(id, "has no valid header"));
    }
    let version = u16::from_le_bytes([fields[8], fields[9]]);
    if version != VERSION {
        return Err(damaged(id, &format!("has version {version}, this build knows {VERSION}")));
    }
    if fields[16..32] != directory || fields[32..40] != id.to_le_bytes() {
        return Err(damaged(id, "belongs to another place"));
    }
    let (mut key, mut before) = ([0; 16], [0; 8]);
    key.copy_from_slice(&fields[40..56]);
    before.copy_from_slice(&fields[56..64]);
    let kind = match fields[10] {
        0 => Kind::Bodies,
        1 => Kind::Log { before: u64::from_le_bytes(before) },
        kind => return Err(damaged(id, &format!("is of the unknown kind {kind}"))),
    };
    Ok((kind, key))
}

/// Damage in a segment.
pub fn damaged(segment: u64, what: &str) -> StorageError {
    StorageError::Damaged(format!("segment {segment} {what}"))
}

/// A segment that cannot be read: what is missing is damage, anything else may pass.
pub fn unreadable(segment: u64, error: &io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(segment, "is cut short"),
        io::ErrorKind::NotFound => damaged(segment, "is missing"),
        _ => StorageError::Unavailable(format!("segment {segment}: {error}")),
    }
}
