//! The format of a body segment: a file to which the octets of large bodies are appended.
//!
//! ```text
//! header   64: "PRMBODY\n" version u16, 6 zeroes, directory 16, segment u64, key 16, crc u32, 4 zeroes
//! record   48: mark u8, space 17, body 16, size u64, 2 zeroes, crc u32
//!              chunks of 16 KiB (the last one shorter), each followed by its crc u32
//! record   …
//! ```
//!
//! Numbers are little-endian. Every checksum below the header is a CRC-32C over the segment's own
//! random key first, then body and place within it: octets inside a body cannot pass for a record,
//! because who chose them does not know the key; nor can a chunk pass for another one.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use postroom_core::types::AccountId;

use crate::storage::files::File;
use crate::storage::rows::SegmentPlace;
use crate::storage::{Space, StorageError};

const MAGIC: &[u8; 8] = b"PRMBODY\n";
const VERSION: u16 = 1;
/// Octets before the first record.
pub const HEADER_OCTETS: u64 = 64;
/// Octets of a record before its first chunk.
pub const RECORD_OCTETS: u64 = 48;
/// The first octet of each record: which layout it has.
const RECORD_MARK: u8 = 0xB1;
/// Octets of a body under one checksum: what a ranged read must read at least.
pub const CHUNK_OCTETS: u64 = 16 << 10;
const CHECK_OCTETS: u64 = 4;
/// Octets that are read, or gathered to be written, at a time: bounds the memory of one large body.
const BLOCK_OCTETS: u64 = 64 * (CHUNK_OCTETS + CHECK_OCTETS);

/// Octets of the whole record of a body of this size.
pub fn record_length(size: u64) -> u64 {
    RECORD_OCTETS + size + CHECK_OCTETS * size.div_ceil(CHUNK_OCTETS)
}

/// The name of a segment's file.
pub fn file_name(segment: u64) -> String {
    format!("bodies-{segment:010}")
}

/// The segment of a file of this name.
pub fn segment_of(name: &str) -> Option<u64> {
    let segment = name.strip_prefix("bodies-")?.parse().ok()?;
    (file_name(segment) == name).then_some(segment)
}

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    /// Its number.
    pub id: u64,
    /// Its file.
    pub file: Arc<dyn File>,
    key: [u8; 16],
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Whose body.
    pub space: Space,
    /// The body.
    pub body: [u8; 16],
    /// Its octets.
    pub size: u64,
}

impl Segment {
    /// Begins an empty file. Not durable yet.
    pub fn create(file: Arc<dyn File>, directory: [u8; 16], id: u64) -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let mut header = Vec::with_capacity(HEADER_OCTETS as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 6]);
        header.extend_from_slice(&directory);
        header.extend_from_slice(&id.to_le_bytes());
        header.extend_from_slice(&key);
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        header.resize(HEADER_OCTETS as usize, 0);
        file.set_len(0)?;
        file.write_at(0, &header)?;
        Ok(Self { id, file, key })
    }

    /// Takes up a file that is there. `Damaged` when it is no segment, or another one.
    pub fn open(file: Arc<dyn File>, directory: [u8; 16], id: u64) -> Result<Self, StorageError> {
        let mut header = [0; HEADER_OCTETS as usize];
        file.read_at(0, &mut header).map_err(|error| unreadable(id, &error))?;
        let named = damaged(id, "has no valid header");
        let (fields, rest) = header.split_at(56);
        if fields[..8] != *MAGIC || rest[..4] != crc32c::crc32c(fields).to_le_bytes() {
            return Err(named);
        }
        let version = u16::from_le_bytes([fields[8], fields[9]]);
        if version != VERSION {
            return Err(damaged(id, &format!("has version {version}, this build knows {VERSION}")));
        }
        if fields[16..32] != directory || fields[32..40] != id.to_le_bytes() {
            return Err(damaged(id, "belongs to another place"));
        }
        let mut key = [0; 16];
        key.copy_from_slice(&fields[40..56]);
        Ok(Self { id, file, key })
    }

    /// Appends a record at `offset`. Not durable yet.
    pub fn append(&self, offset: u64, header: &RecordHeader, octets: &[u8]) -> io::Result<()> {
        let mut block = Vec::with_capacity(record_length(header.size).min(BLOCK_OCTETS) as usize);
        block.extend_from_slice(&self.encode(header));
        let mut at = offset;
        for (index, chunk) in octets.chunks(CHUNK_OCTETS as usize).enumerate() {
            if block.len() as u64 + CHUNK_OCTETS + CHECK_OCTETS > BLOCK_OCTETS {
                self.file.write_at(at, &block)?;
                at += block.len() as u64;
                block.clear();
            }
            block.extend_from_slice(chunk);
            block.extend_from_slice(&self.check(&header.body, index as u64, chunk).to_le_bytes());
        }
        self.file.write_at(at, &block)
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
        chunks: std::ops::Range<u64>,
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
                let what = format!("has wrong octets in body {}", hex::encode(key));
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
    pub fn record_at(&self, offset: u64) -> Result<Option<RecordHeader>, StorageError> {
        let mut stored = [0; RECORD_OCTETS as usize];
        match self.file.read_at(offset, &mut stored) {
            Ok(()) => Ok(self.decode(&stored)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(unreadable(self.id, &error)),
        }
    }

    fn encode(&self, header: &RecordHeader) -> [u8; RECORD_OCTETS as usize] {
        let mut stored = [0; RECORD_OCTETS as usize];
        stored[0] = RECORD_MARK;
        if let Space::Account(account) = header.space {
            stored[1] = 1;
            stored[2..18].copy_from_slice(&account.0);
        }
        stored[18..34].copy_from_slice(&header.body);
        stored[34..42].copy_from_slice(&header.size.to_le_bytes());
        let check = crc32c::crc32c_append(crc32c::crc32c(&self.key), &stored[..44]);
        stored[44..].copy_from_slice(&check.to_le_bytes());
        stored
    }

    fn decode(&self, stored: &[u8; RECORD_OCTETS as usize]) -> Option<RecordHeader> {
        let check = crc32c::crc32c_append(crc32c::crc32c(&self.key), &stored[..44]);
        if stored[0] != RECORD_MARK || stored[44..] != check.to_le_bytes() {
            return None;
        }
        let space = match stored[1] {
            0 => Space::Directory,
            _ => Space::Account(AccountId(stored[2..18].try_into().ok()?)),
        };
        let size = u64::from_le_bytes(stored[34..42].try_into().ok()?);
        Some(RecordHeader { space, body: stored[18..34].try_into().ok()?, size })
    }

    fn check(&self, body: &[u8; 16], chunk: u64, octets: &[u8]) -> u32 {
        let mut start = [0; 48];
        start[..16].copy_from_slice(&self.key);
        start[16..32].copy_from_slice(body);
        start[32..40].copy_from_slice(&chunk.to_le_bytes());
        start[40..].copy_from_slice(&(octets.len() as u64).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&start), octets)
    }
}

/// Damage in a segment.
pub fn damaged(segment: u64, what: &str) -> StorageError {
    StorageError::Damaged(format!("body segment {segment} {what}"))
}

/// A segment that cannot be read: what is missing is damage, anything else may pass.
pub fn unreadable(segment: u64, error: &io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(segment, "is cut short"),
        io::ErrorKind::NotFound => damaged(segment, "is missing"),
        _ => StorageError::Unavailable(format!("body segment {segment}: {error}")),
    }
}
