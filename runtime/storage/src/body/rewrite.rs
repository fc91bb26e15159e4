//! Gives back the room of segments of which little is in use: bodies that still have a link are
//! appended again elsewhere, then their rows say so, then nothing is left in the old segment.

use std::collections::{HashSet, VecDeque};

use super::NewBody;
use super::segment::{HEADER_OCTETS, Record, RecordHeader, record_length};
use super::writer::Owner;
use crate::commit::{Moved, SegmentWork};
use crate::rows::{BodyRow, Place, SegmentPlace};
use crate::{BodyRef, StorageError};

/// Most octets that one step reads or writes, unless one body alone has more: what waits meanwhile
/// waits some 20 ms.
const STEP_OCTETS: u64 = 4 << 20;

/// Segments that are being rewritten, one after the other.
#[derive(Default)]
pub struct Rewriting {
    /// The one at hand, and where its next record starts.
    current: Option<(u64, u64)>,
    waiting: VecDeque<u64>,
    /// Segments that cannot be rewritten: what is damaged stays where it is, to be looked at.
    given_up: HashSet<u64>,
}

/// A record that still has a link.
struct Live {
    header: RecordHeader,
    body: NewBody,
    from: SegmentPlace,
}

impl Rewriting {
    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Takes a segment up, if it is not already.
    pub fn add(&mut self, segment: u64) {
        let known = self.current.is_some_and(|(current, _)| current == segment)
            || self.waiting.contains(&segment)
            || self.given_up.contains(&segment);
        if !known {
            self.waiting.push_back(segment);
        }
    }

    /// Goes on for a bounded while.
    pub fn step(&mut self, owner: &impl Owner) {
        let at_hand =
            self.current.take().or_else(|| Some((self.waiting.pop_front()?, HEADER_OCTETS)));
        let Some((segment, offset)) = at_hand else { return };
        match rewrite(owner, segment, offset) {
            Ok(next) => self.current = next.map(|next| (segment, next)),
            Err(StorageError::Damaged(error)) => {
                tracing::error!(segment, %error, "a segment cannot be rewritten");
                self.given_up.insert(segment);
            }
            // The next sweep takes it up again.
            Err(error) => tracing::warn!(segment, %error, "a segment is not rewritten yet"),
        }
    }
}

/// Moves some bodies of a segment. Returns where to go on; `None`: all have been looked at.
fn rewrite(owner: &impl Owner, segment: u64, offset: u64) -> Result<Option<u64>, StorageError> {
    let Some(row) = owner.segment_rows()?.get(&segment).copied().filter(|row| row.live_bodies > 0)
    else {
        return Ok(None);
    };
    let (mut live, mut at, mut octets) = (Vec::new(), offset, 0);
    while at < row.end && octets < STEP_OCTETS && at - offset < 16 * STEP_OCTETS {
        let Some(record) = owner.segments().record_at(segment, at)? else {
            return Err(super::segment::damaged(segment, &format!("has no record at {at}")));
        };
        let offset = at;
        at = record.next(at);
        let Record::Body(header) = record else { continue };
        let length = record_length(header.size);
        let from = SegmentPlace { segment, offset, length };
        if let Some(row) = linked_there(owner, &header, from)? {
            let body = read(owner, &header, &row, from)?;
            octets += length;
            live.push(Live { header, body, from });
        }
    }
    if !live.is_empty() {
        relocate(owner, live)?;
    }
    Ok((at < row.end).then_some(at))
}

fn linked_there(
    owner: &impl Owner,
    header: &RecordHeader,
    from: SegmentPlace,
) -> Result<Option<BodyRow>, StorageError> {
    let row = owner.body_row(header.space, &header.body)?;
    Ok(row.filter(|row| row.place == Place::Segment(from)))
}

fn read(
    owner: &impl Owner,
    header: &RecordHeader,
    row: &BodyRow,
    from: SegmentPlace,
) -> Result<NewBody, StorageError> {
    let octets = owner.segments().read(from, (&header.body, header.size), 0, u64::MAX)?;
    let stored = BodyRef { key: header.body, size: row.size, digest: row.digest };
    crate::reads::verify(&stored, &octets)?;
    Ok(NewBody { stored, octets })
}

fn relocate(owner: &impl Owner, live: Vec<Live>) -> Result<(), StorageError> {
    let appended = owner.segments().append(live.iter().map(|live| (live.header.space, &live.body)));
    let places = appended.map_err(|error| StorageError::Unavailable(error.to_string()))?;
    let moved = live.iter().zip(places).map(|(live, to)| Moved {
        space: live.header.space,
        body: live.header.body,
        from: live.from,
        to,
    });
    owner.keep_house(SegmentWork::Move(moved.collect()))
}
