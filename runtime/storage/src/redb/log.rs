//! The commit log: each group of commits goes into it, with the bodies that it brings, and is durable
//! with one sync; the rows follow without waiting for the medium. Every now and then they are made
//! durable too (a *checkpoint*), and what the log holds up to there is not needed any more to bring
//! them back.
//!
//! After a failure in the middle of writing it is not known whether a group is on the medium. Then the
//! log goes on in a new segment, whose header says after which group: whatever the old one holds
//! beyond that is void.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::body::Unlinked;
use crate::body::segment::{
    FoundGroup, Group, HEADER_OCTETS, Kind, RecordHeader, Segment, damaged, record_length,
    sector_from,
};
use crate::body::segments::Segments;
use crate::commit::{Change, Pending, PendingBodies};
use crate::rows::SegmentPlace;
use crate::{Space, StorageError};

/// Octets of log after which the rows are made durable, unless the engine is opened with another
/// number: what a restart after a crash has to read again.
pub const CHECKPOINT_OCTETS: u64 = 64 << 20;
/// How many times that may be in the log before commits are refused, because the rows cannot be made
/// durable: room for a disk that is full for a while, and a bound for the next restart.
const MOST_CHECKPOINTS: u64 = 8;
/// Time after which a checkpoint that failed is tried again, unless the engine is opened with another:
/// each failure costs opening the rows again.
pub const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The segment.
    pub segment: u64,
    /// Octets from its start.
    pub offset: u64,
    /// Groups before it, since the directory was made.
    pub groups: u64,
}

/// The log as it is appended to.
pub struct Log {
    /// The segment that is appended to. `None`: the next group begins a new one.
    head: Option<Arc<Segment>>,
    /// Where the next group would start, after those that are certain to be there.
    end: Position,
    /// Octets that were ever appended, since so many that were there when the engine was opened.
    octets: u64,
    /// Octets since the last checkpoint.
    unchecked: u64,
    /// A checkpoint comes after so many.
    checkpoint_octets: u64,
    /// One that failed is tried again after this time.
    pause: Duration,
    /// When that is.
    not_before: Option<Instant>,
    /// Whether the segment that was appended to last may hold a group that counts for nothing.
    uncertain: bool,
}

/// Why a group was not appended.
#[derive(Debug)]
pub enum AppendError {
    /// Nothing of it will ever be found.
    Refused(io::Error),
    /// It may be found, unless the log goes on elsewhere first.
    Uncertain(io::Error),
}

impl Log {
    /// Goes on after what has been replayed; so many octets of log are kept.
    pub fn after(replayed: &Replayed, kept: u64, checkpoint_octets: u64, pause: Duration) -> Self {
        Self {
            head: None,
            end: replayed.end,
            octets: kept,
            unchecked: replayed.octets,
            checkpoint_octets,
            pause,
            not_before: None,
            uncertain: false,
        }
    }

    /// Its end.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Octets of it, with those that were kept when the engine was opened.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Where the next group will be. Begins a segment when there is none with room. Fails, with
    /// nothing done, as the disk does.
    pub fn next(&mut self, segments: &Segments) -> io::Result<Position> {
        if self.unchecked > MOST_CHECKPOINTS * self.checkpoint_octets {
            return Err(io::Error::other("the rows cannot be made durable"));
        }
        if self.head.is_none() || self.uncertain || self.end.offset >= segments.full() {
            self.begin(segments)?;
        }
        Ok(self.end)
    }

    /// Begins a segment: what an older one may hold beyond the groups that are certain is void.
    fn begin(&mut self, segments: &Segments) -> io::Result<()> {
        let segment = segments.begin_log(self.end.groups)?;
        if let Some(old) = self.head.take() {
            segments.rest_at(old.id, self.end.offset);
        }
        self.end = Position { segment: segment.id, offset: HEADER_OCTETS, ..self.end };
        (self.head, self.uncertain) = (Some(segment), false);
        Ok(())
    }

    /// Makes what is uncertain void.
    pub fn settle(&mut self, segments: &Segments) -> io::Result<()> {
        if self.uncertain { self.begin(segments) } else { Ok(()) }
    }

    /// Appends a group at the place that [`next`](Self::next) gave, and makes it durable.
    pub fn append(
        &mut self,
        segments: &Segments,
        bodies: &[(RecordHeader, Bytes)],
        changes: &[Change],
    ) -> Result<(), AppendError> {
        let segment = self.head.as_ref().expect("a place was given in it");
        let changes = encode(changes);
        let group = Group { number: self.end.groups + 1, bodies, changes: &changes };
        let length = group.length();
        segments.counters().wrote_segment(length);
        segments.counters().synced();
        if let Err(error) = segment.append_group(self.end.offset, &group) {
            if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
                return Err(AppendError::Refused(error));
            }
            let cut = segment.file.set_len(self.end.offset).and_then(|()| segment.file.sync());
            self.uncertain = cut.is_err();
            return Err(match cut {
                Ok(()) => AppendError::Refused(error),
                Err(_) => AppendError::Uncertain(error),
            });
        }
        if let Err(error) = segment.file.sync() {
            self.uncertain = true;
            return Err(AppendError::Uncertain(error));
        }
        let end = sector_from(self.end.offset + length);
        self.octets += end - self.end.offset;
        self.unchecked += end - self.end.offset;
        self.end = Position { offset: end, groups: self.end.groups + 1, ..self.end };
        Ok(())
    }

    /// Whether it is time to make the rows durable.
    pub fn is_due(&self) -> bool {
        self.unchecked >= self.checkpoint_octets && !self.is_paused()
    }

    /// Whether a checkpoint that failed has to wait.
    pub fn is_paused(&self) -> bool {
        self.not_before.is_some_and(|then| Instant::now() < then)
    }

    /// Whether anything in it is not durable in the rows.
    pub fn is_ahead(&self) -> bool {
        self.unchecked > 0
    }

    /// The rows are durable up to the end.
    pub fn checked(&mut self) {
        (self.unchecked, self.not_before) = (0, None);
    }

    /// The rows could not be made durable: it is tried again after a while.
    pub fn not_checked(&mut self) {
        self.not_before = Some(Instant::now() + self.pause);
    }
}

/// What has been replayed.
#[derive(Debug)]
pub struct Replayed {
    /// Where it began: the rows are durable up to here.
    pub from: Position,
    /// Where it ended: the rows hold every group before.
    pub end: Position,
    /// Octets that were read for it.
    pub octets: u64,
}

impl Replayed {
    /// Of a directory that is being made.
    pub fn nothing() -> Self {
        Self { from: Position::default(), end: Position::default(), octets: 0 }
    }

    /// The rows have been made durable with all of it.
    pub fn checked(&mut self) {
        (self.from, self.octets) = (self.end, 0);
    }
}

/// Shows the changes of all groups from a place on, in order. `segments` are the log's from that place
/// on, ascending. Fails with `Damaged` when groups that must be there are not.
pub fn replay(
    segments: &[Segment],
    from: Position,
    mut group: impl FnMut(&[Change]) -> Result<(), StorageError>,
) -> Result<Replayed, StorageError> {
    let mut done = Replayed { from, end: from, octets: 0 };
    if from.segment > 0 && segments.first().is_none_or(|first| first.id != from.segment) {
        return Err(damaged(from.segment, "of the commit log is missing"));
    }
    for (index, segment) in segments.iter().enumerate() {
        // A later segment says how many groups there are before it: beyond these, all is void.
        let before = |segment: &Segment| match segment.kind {
            Kind::Log { before } => before,
            Kind::Bodies => u64::MAX,
        };
        let last = segments.get(index + 1).map(before);
        if segment.id != from.segment {
            must_have(segment, &done, before(segment))?;
        }
        replay_segment(segment, last, &mut done, &mut group)?;
        if let Some(last) = last {
            must_have(segment, &done, last)?;
        }
    }
    Ok(done)
}

/// Where it can be seen, groups that are missed are damage.
fn must_have(segment: &Segment, done: &Replayed, groups: u64) -> Result<(), StorageError> {
    let missing = done.end.groups + 1;
    match done.end.groups < groups {
        true => {
            let what = format!("groups {missing} to {groups} of the commit log are missing");
            Err(damaged(segment.id, &format!("shows that {what}")))
        }
        false => Ok(()),
    }
}

/// Goes on in one segment, up to a group if it is known which one is its last.
fn replay_segment(
    segment: &Segment,
    last: Option<u64>,
    done: &mut Replayed,
    mut group: impl FnMut(&[Change]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let (mut at, mut number) = match (segment.id == done.end.segment, segment.kind) {
        (true, _) => (done.end.offset, done.end.groups),
        (false, Kind::Log { before }) => (HEADER_OCTETS, before),
        (false, Kind::Bodies) => return Ok(()),
    };
    while last.is_none_or(|last| number < last) {
        let found = match segment.group_at(at, number + 1)? {
            Some(found) => found,
            // The next one is written only after this one is known to be durable.
            None if last.is_none() && segment.has_later(at, number + 1)? => {
                return Err(damaged(segment.id, &format!("has lost group {}", number + 1)));
            }
            None => break,
        };
        if last.is_none() && !is_certain(segment, &found, number + 1)? {
            tracing::warn!(
                segment = segment.id,
                "the last group did not reach the disk whole: nobody was told of it"
            );
            break;
        }
        number += 1;
        done.octets += found.end - at;
        at = sector_from(found.end);
        if number > done.end.groups {
            let why = |error| match error {
                StorageError::Damaged(why) => {
                    StorageError::Damaged(format!("group {number} of the commit log meets {why}"))
                }
                error => error,
            };
            group(&decode(segment, &found.changes)?).map_err(why)?;
            done.end = Position { segment: segment.id, offset: at, groups: number };
        }
    }
    Ok(())
}

/// Whether a group that may be the last one is there whole, and stays.
fn is_certain(segment: &Segment, found: &FoundGroup, number: u64) -> Result<bool, StorageError> {
    if segment.has_later(sector_from(found.end), number)? {
        return Ok(true);
    }
    if !segment.has_bodies(found)? {
        return Ok(false);
    }
    segment.write_again(number, found)?;
    Ok(true)
}

fn encode(changes: &[Change]) -> Vec<u8> {
    // What a later change writes again need not be written before.
    let mut later = HashSet::new();
    let mut kept: Vec<&Change> = Vec::with_capacity(changes.len());
    for change in changes.iter().rev() {
        match change {
            Change::Put(key, _) | Change::Delete(key) if !later.insert(&key[..]) => {}
            change => kept.push(change),
        }
    }
    kept.reverse();
    postcard::to_stdvec(&kept).expect("changes are plain data: always encodable")
}

fn decode(segment: &Segment, changes: &[u8]) -> Result<Vec<Change>, StorageError> {
    postcard::from_bytes(changes).map_err(|_| damaged(segment.id, "holds a group that is none"))
}

/// Gives the bodies that a group's commits bring their places in the log, while the commits are
/// planned.
pub struct Placing<'a> {
    unlinked: &'a Unlinked,
    segment: u64,
    next: Cell<u64>,
    bodies: RefCell<Vec<(RecordHeader, Bytes)>>,
}

impl<'a> Placing<'a> {
    /// From a place on.
    pub fn new(unlinked: &'a Unlinked, at: Position) -> Self {
        let (segment, next, bodies) = (at.segment, Cell::new(at.offset), RefCell::default());
        Self { unlinked, segment, next, bodies }
    }

    /// What has been placed so far.
    pub fn mark(&self) -> (usize, u64) {
        (self.bodies.borrow().len(), self.next.get())
    }

    /// Takes back what has been placed since.
    pub fn take_back(&self, mark: (usize, u64)) {
        self.bodies.borrow_mut().truncate(mark.0);
        self.next.set(mark.1);
    }

    /// The bodies in their order.
    pub fn into_bodies(self) -> Vec<(RecordHeader, Bytes)> {
        self.bodies.into_inner()
    }
}

impl PendingBodies for Placing<'_> {
    fn pending(&self, space: Space, body: &[u8; 16]) -> Option<Pending> {
        self.unlinked.pending(space, body)
    }

    fn inline(&self, space: Space, body: &[u8; 16], octets: &Bytes) -> Pending {
        let header = RecordHeader { space, body: *body, size: octets.len() as u64 };
        let (offset, length) = (self.next.get(), record_length(header.size));
        self.bodies.borrow_mut().push((header, octets.clone()));
        self.next.set(offset + length);
        Pending::Segment(SegmentPlace { segment: self.segment, offset, length })
    }
}
