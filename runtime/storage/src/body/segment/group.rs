//! Groups of the commit log in a segment: how they are appended, and what is found of them in whatever
//! state the medium is.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::*;

/// What the record of a group says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The first copy, or the second.
    pub copy: u8,
    /// The group's number; they count up from one.
    pub number: u64,
    /// Octets of its changes.
    pub size: u64,
    /// Octets of the bodies' records before the first copy.
    pub bodies: u64,
    /// How many sectors of these are all zeroes, as they were written.
    pub blank: u32,
}

impl GroupHeader {
    /// What stands for the body's key in the checksums of its chunks.
    fn id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number.to_le_bytes());
        id[8..10].copy_from_slice(&[GROUP_MARK, self.copy]);
        id
    }

    /// The other copy.
    fn other(self) -> Self {
        Self { copy: 1 - self.copy, ..self }
    }
}

/// A group as it is appended.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its number.
    pub number: u64,
    /// The bodies that it brings.
    pub bodies: &'a [(RecordHeader, Bytes)],
    /// What it changes.
    pub changes: &'a [u8],
}

impl Group<'_> {
    /// Octets of all its records.
    pub fn length(&self) -> u64 {
        self.bodies_length() + 2 * record_length(self.changes.len() as u64)
    }

    fn bodies_length(&self) -> u64 {
        self.bodies.iter().map(|(header, _)| record_length(header.size)).sum()
    }
}

/// A group as it is found.
#[derive(Debug, PartialEq, Eq)]
pub struct FoundGroup {
    /// Where its bodies start, and where they end: there its first copy starts.
    pub bodies: Range<u64>,
    /// Where its second copy ends.
    pub end: u64,
    /// What it changes.
    pub changes: Vec<u8>,
    /// How many sectors of its bodies are all zeroes, as they were written.
    blank: u32,
}

impl FoundGroup {
    /// What the record of its first copy says, if it is the group of this number.
    fn first(&self, number: u64) -> GroupHeader {
        let (size, bodies) = (self.changes.len() as u64, self.bodies.end - self.bodies.start);
        GroupHeader { copy: 0, number, size, bodies, blank: self.blank }
    }
}

impl Segment {
    /// Appends a group at `offset`. Not durable yet.
    pub fn append_group(&self, offset: u64, group: &Group<'_>) -> io::Result<()> {
        let mut to = Appending::new(&*self.file, offset, group.length());
        for (header, octets) in group.bodies {
            self.push(&mut to, &self.encode_body(header), &header.body, octets)?;
        }
        let blank = to.blank.count;
        let (number, bodies) = (group.number, group.bodies_length());
        let header =
            GroupHeader { copy: 0, number, size: group.changes.len() as u64, bodies, blank };
        self.push_copies(&mut to, header, group.changes)?;
        to.flush()
    }

    /// Both copies of a group's changes.
    fn push_copies(
        &self,
        to: &mut Appending<'_>,
        first: GroupHeader,
        changes: &[u8],
    ) -> io::Result<()> {
        for header in [first, first.other()] {
            self.push(to, &self.encode_group(&header), &header.id(), changes)?;
        }
        Ok(())
    }

    /// The group of this number that starts at `offset`, from whichever of its copies is whole.
    /// `None`: there is none, as far as can be told. Its bodies are not looked at.
    pub fn group_at(&self, offset: u64, number: u64) -> Result<Option<FoundGroup>, StorageError> {
        let wanted = |header: &GroupHeader| header.number == number;
        let Some((at, header)) = self.find_copy(offset, wanted)? else { return Ok(None) };
        let length = record_length(header.size);
        let first = at.checked_sub(u64::from(header.copy) * length);
        if first.and_then(|first| first.checked_sub(header.bodies)) != Some(offset) {
            return Ok(None);
        }
        let first = offset + header.bodies;
        let (bodies, end, blank) = (offset..first, first + 2 * length, header.blank);
        let found = |changes| FoundGroup { bodies: bodies.clone(), end, changes, blank };
        match self.changes(at, &header) {
            Err(StorageError::Damaged(_)) if header.copy == 0 => {
                match self.changes(at + length, &header.other()) {
                    Err(StorageError::Damaged(_)) => Ok(None),
                    changes => changes.map(found).map(Some),
                }
            }
            Err(StorageError::Damaged(_)) => Ok(None),
            changes => changes.map(found).map(Some),
        }
    }

    /// Reads both copies of the changes of every group up to one of a number, from an offset on, before which
    /// there are so many groups, or from the first one. Returns the octets read.
    pub fn verify_groups(&self, from: Option<(u64, u64)>, last: u64) -> Result<u64, StorageError> {
        let Kind::Log { before } = self.kind else { return Ok(0) };
        let (mut at, mut number) = from.unwrap_or((HEADER_OCTETS, before));
        let mut octets = 0;
        while number < last {
            let found = self.group_at(at, number + 1)?;
            let found =
                found.ok_or_else(|| damaged(self.id, &format!("has lost group {}", number + 1)))?;
            number += 1;
            let first = found.first(number);
            let second = (found.bodies.end + record_length(first.size), first.other());
            for (place, header) in [(found.bodies.end, first), second] {
                let stored = self.record_at(place)?;
                if stored != Some(Record::Group(header)) {
                    return Err(damaged(self.id, &format!("has a damaged copy of group {number}")));
                }
                self.changes(place, &header)?;
            }
            octets += found.end - at;
            at = sector_from(found.end);
        }
        Ok(octets)
    }

    /// Whether there is anything of a group of a higher number behind `offset`. Where this one was the
    /// last, there is not.
    pub fn has_later(&self, offset: u64, number: u64) -> Result<bool, StorageError> {
        Ok(self.find_copy(offset, |header| header.number > number)?.is_some())
    }

    /// The first record of a group that is wanted behind `offset`. What lies before it is bodies; if
    /// one of them does not say any more how long it is, it is searched for.
    fn find_copy(
        &self,
        offset: u64,
        wanted: impl Fn(&GroupHeader) -> bool,
    ) -> Result<Option<(u64, GroupHeader)>, StorageError> {
        let mut at = offset;
        while let Some(record) = self.record_at(at)? {
            match record {
                Record::Group(header) if wanted(&header) => return Ok(Some((at, header))),
                Record::Group(_) => break,
                Record::Body(_) => at = record.next(at),
            }
        }
        let length = self.file.len().map_err(|error| unreadable(self.id, &error))?;
        let overlap = RECORD_OCTETS - 1;
        while at + RECORD_OCTETS <= length {
            let mut block = vec![0; (length - at).min(BLOCK_OCTETS) as usize];
            self.file.read_at(at, &mut block).map_err(|error| unreadable(self.id, &error))?;
            for (place, stored) in block.windows(RECORD_OCTETS as usize).enumerate() {
                if stored[0] == GROUP_MARK
                    && let Some(Record::Group(header)) = self.decode(stored)
                    && wanted(&header)
                {
                    return Ok(Some((at + place as u64, header)));
                }
            }
            at += block.len() as u64 - overlap;
        }
        Ok(None)
    }

    fn changes(&self, at: u64, header: &GroupHeader) -> Result<Vec<u8>, StorageError> {
        let (id, chunks) = (header.id(), header.size.div_ceil(CHUNK_OCTETS));
        self.read_chunks(at, (&id, header.size), 0..chunks)
    }

    /// Whether all of a group's bodies reached the medium. What is damaged but was once whole counts
    /// as there: a sector that never arrived is all zeroes, or beyond the end.
    pub fn has_bodies(&self, group: &FoundGroup) -> Result<bool, StorageError> {
        let mut at = group.bodies.start;
        while at < group.bodies.end {
            let Some(record @ Record::Body(header)) = self.record_at(at)? else { break };
            let chunks = 0..header.size.div_ceil(CHUNK_OCTETS);
            match self.read_chunks(at, (&header.body, header.size), chunks) {
                Ok(_) => at = record.next(at),
                Err(StorageError::Damaged(_)) => break,
                Err(error) => return Err(error),
            }
        }
        // The sector in which they end goes on with the changes, and so is not blank.
        let sectors = group.bodies.start..sector_from(group.bodies.end);
        Ok(at == group.bodies.end || self.blank_in(sectors)? <= group.blank)
    }

    /// How many sectors of a range are all zeroes or beyond the end.
    fn blank_in(&self, sectors: Range<u64>) -> Result<u32, StorageError> {
        let length = self.file.len().map_err(|error| unreadable(self.id, &error))?;
        let (mut at, mut blank) = (sectors.start, Blank::default());
        while at < sectors.end {
            let mut block = vec![0; (sectors.end - at).min(BLOCK_OCTETS) as usize];
            let there = length.saturating_sub(at).min(block.len() as u64) as usize;
            self.file
                .read_at(at, &mut block[..there])
                .map_err(|error| unreadable(self.id, &error))?;
            blank.push(&block);
            at += block.len() as u64;
        }
        Ok(blank.count)
    }

    /// Writes a group once more where it is and makes it durable. The system may show what never
    /// reached the medium, and count it as written; and one copy may not be whole.
    pub fn write_again(&self, number: u64, group: &FoundGroup) -> Result<(), StorageError> {
        let failed = |error: io::Error| unreadable(self.id, &error);
        let Range { start: mut at, end } = group.bodies.clone();
        while at < end {
            let mut block = vec![0; (end - at).min(BLOCK_OCTETS) as usize];
            self.file.read_at(at, &mut block).map_err(failed)?;
            self.file.write_at(at, &block).map_err(failed)?;
            at += block.len() as u64;
        }
        let header = group.first(number);
        let mut to = Appending::new(&*self.file, end, 2 * record_length(header.size));
        self.push_copies(&mut to, header, &group.changes)
            .and_then(|()| to.flush())
            .and_then(|()| self.file.sync())
            .map_err(failed)
    }

    fn encode_group(&self, header: &GroupHeader) -> [u8; RECORD_OCTETS as usize] {
        let mut stored = [0; RECORD_OCTETS as usize];
        stored[..2].copy_from_slice(&[GROUP_MARK, header.copy]);
        stored[4..8].copy_from_slice(&header.blank.to_le_bytes());
        stored[8..16].copy_from_slice(&header.number.to_le_bytes());
        stored[16..24].copy_from_slice(&header.size.to_le_bytes());
        stored[24..32].copy_from_slice(&header.bodies.to_le_bytes());
        self.seal(stored)
    }
}
