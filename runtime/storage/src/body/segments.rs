//! All segments of a data directory: which are there, which ones are appended to, how they are read
//! and when they go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::NewBody;
use super::segment::{
    HEADER_OCTETS, Kind, Record, RecordHeader, Segment, damaged, file_name, record_length,
    segment_of, unreadable,
};
use crate::counters::Counters;
use crate::files::Files;
use crate::rows::{BodyRow, Place, Rows, SegmentPlace, SegmentRow};
use crate::{Space, StorageError, key, row};

#[cfg(test)]
mod tests;

/// A segment that has reached this length is not appended to any more, in octets, unless the engine
/// is opened with another: large enough
/// that there are few files, small enough that rewriting one is short work.
pub const SEGMENT_OCTETS: u64 = 128 << 20;
/// Most segments that are kept open: file descriptors are a resource of the whole process.
const MAX_OPEN_SEGMENTS: usize = 256;

/// The segments of one data directory.
pub struct Segments {
    files: Arc<dyn Files>,
    directory: [u8; 16],
    /// A segment of this length is full.
    full: u64,
    counters: Arc<Counters>,
    open: Mutex<HashMap<u64, Arc<Segment>>>,
    active: Mutex<Active>,
    /// The number of the next segment: higher than any that is there or has a row.
    next: AtomicU64,
    /// Segments of the log that a restart would read, or whoever makes the rows anew. The last one is
    /// appended to, or was.
    log: Mutex<BTreeSet<u64>>,
    /// Segments that are being made: they are there, and do not say yet what they are.
    making: Mutex<BTreeSet<u64>>,
    /// Segments that are there and that nothing appends to any more, with their lengths.
    resting: Mutex<BTreeMap<u64, u64>>,
    /// Backups under way: as long as there are any, no segment goes.
    pins: Mutex<usize>,
}

/// Where the next body goes. Only the one thread that appends touches it while it works.
struct Active {
    /// The segment that is appended to; `None`: the next body begins a new one.
    segment: Option<Arc<Segment>>,
    /// Where its next record starts: everything before is written.
    end: u64,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Writing: what was written before is as it was.
    Write,
    /// Making durable: it is not known what the medium holds.
    Sync,
}

impl Active {
    /// The segment that is appended to, and its length.
    fn at(&self) -> Option<(u64, u64)> {
        Some((self.segment.as_ref()?.id, self.end))
    }

    /// After a failure: goes back to where the segment ended before.
    fn take_back(&mut self, before: (Option<u64>, u64), stage: Stage) {
        let Some(segment) = &self.segment else { return };
        let end = if before.0 == Some(segment.id) { before.1 } else { HEADER_OCTETS };
        let cut = segment.file.set_len(end);
        if stage == Stage::Write && cut.is_ok() {
            self.end = end;
            return;
        }
        // What lies before the end was made durable by earlier syncs and can still be read.
        tracing::error!(segment = segment.id, ?stage, "a segment is not appended to any more");
        self.segment = None;
    }
}

/// Where a body is, as committed.
pub type BodyRows<'a> = &'a dyn Fn(Space, &[u8; 16]) -> Result<Option<BodyRow>, StorageError>;

/// What was found when the segments were taken up.
pub struct TakenUp {
    /// The segments.
    pub segments: Segments,
    /// Rows about segments that are gone and that nothing needs.
    pub forgotten: Vec<u64>,
}

impl Segments {
    /// Takes up the segments of a directory: removes those in which nothing has a link, cuts what
    /// lies behind the last body that ever had one. What is missing or cut short is logged, and is
    /// damage to those who read it. `log` are the segments that are kept for the log in them; `body_row` says where a body is.
    pub fn take_up(
        files: Arc<dyn Files>,
        (directory, full): ([u8; 16], u64),
        counters: Arc<Counters>,
        log: BTreeSet<u64>,
        rows: &BTreeMap<u64, SegmentRow>,
        body_row: BodyRows<'_>,
    ) -> io::Result<TakenUp> {
        let mut there: Vec<u64> =
            files.names()?.iter().filter_map(|name| segment_of(name)).collect();
        there.sort_unstable();
        let mut forgotten = Vec::new();
        for (segment, row) in rows {
            match (there.binary_search(segment), row.live_bodies) {
                (_, 0) => forgotten.push(*segment),
                (Ok(_), _) => {}
                (Err(_), bodies) => {
                    tracing::error!(segment, bodies, "a segment is missing");
                }
            }
        }
        let next = there.last().into_iter().chain(rows.keys().next_back()).max();
        let next = AtomicU64::new(next.map_or(1, |last| last + 1));
        let active = Mutex::new(Active { segment: None, end: 0 });
        let (open, resting, log) = (Mutex::default(), Mutex::default(), Mutex::new(log));
        let segments = Self {
            files,
            directory,
            full,
            counters,
            open,
            active,
            next,
            log,
            making: Mutex::default(),
            resting,
            pins: Mutex::new(0),
        };
        for segment in there {
            match rows.get(&segment) {
                row if segments.is_in_log(segment) => {
                    let length = segments.files.open_existing(&file_name(segment))?.len()?;
                    let expected = row.map_or(0, |row| row.end);
                    if length < expected {
                        tracing::error!(segment, length, expected, "a segment is cut short");
                    }
                    segments.rest().insert(segment, length);
                }
                Some(row) => segments.sweep_orphans(segment, *row)?,
                None if segments.is_lost(segment, body_row) => {
                    let length = segments.files.open_existing(&file_name(segment))?.len()?;
                    segments.rest().insert(segment, length);
                }
                None => {
                    segments.open().remove(&segment);
                    segments.files.remove(&file_name(segment))?;
                }
            }
        }
        Ok(TakenUp { segments, forgotten })
    }

    /// Whether a segment without a row has bodies that are in use, or cannot be looked at: then it
    /// is its row that is lost. A row that is damaged may not be found; that must not cost all that
    /// the segment holds.
    pub fn is_lost(&self, id: u64, body_row: BodyRows<'_>) -> bool {
        match self.holds_linked(id, body_row) {
            Ok(false) => false,
            Ok(true) => {
                tracing::error!(segment = id, "a segment in use has lost its row; it is kept");
                true
            }
            // Without a valid header nothing was ever appended to it, unless it is longer than that.
            Err(StorageError::Damaged(error)) => match self.is_begun(id) {
                true => {
                    tracing::error!(segment = id, error, "a segment is unreadable; it is kept");
                    true
                }
                false => false,
            },
            Err(error) => {
                tracing::warn!(segment = id, %error, "a segment cannot be looked at");
                true
            }
        }
    }

    fn is_begun(&self, id: u64) -> bool {
        let length = self.files.open_existing(&file_name(id)).and_then(|file| file.len());
        length.map_or(true, |length| length > HEADER_OCTETS)
    }

    fn holds_linked(&self, id: u64, body_row: BodyRows<'_>) -> Result<bool, StorageError> {
        let mut at = HEADER_OCTETS;
        while let Some(record) = self.record_at(id, at)? {
            if let Record::Body(header) = record {
                let length = record_length(header.size);
                let place = Place::Segment(SegmentPlace { segment: id, offset: at, length });
                // Rows that cannot be read may be those that say so.
                match body_row(header.space, &header.body) {
                    Ok(row) if row.as_ref().is_none_or(|row| row.place != place) => {}
                    Ok(_) | Err(StorageError::Damaged(_)) => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
            at = record.next(at);
        }
        Ok(false)
    }

    /// Removes what nothing refers to from a segment, and appends to it again if it has room.
    fn sweep_orphans(&self, id: u64, row: SegmentRow) -> io::Result<()> {
        if row.live_bodies == 0 {
            return self.files.remove(&file_name(id));
        }
        self.rest().insert(id, row.end);
        let file = self.files.open_existing(&file_name(id))?;
        let length = file.len()?;
        if length < row.end {
            tracing::error!(segment = id, length, expected = row.end, "a segment is cut short");
            return Ok(());
        }
        let segment = match Segment::open(file.clone(), self.directory, id) {
            Ok(segment) => segment,
            Err(error) => {
                tracing::error!(segment = id, %error, "a segment is unreadable");
                return Ok(());
            }
        };
        if segment.kind != Kind::Bodies {
            // What was once a part of the log is rewritten when little of it is in use.
            self.rest().insert(id, length);
            return Ok(());
        }
        if length > row.end {
            tracing::info!(segment = id, octets = length - row.end, "orphaned octets are cut off");
            file.set_len(row.end)?;
        }
        if row.end < self.full && !self.is_spent(&row) {
            let mut active = self.active();
            self.rest().remove(&id);
            self.rest().extend(active.at());
            (active.segment, active.end) = (Some(Arc::new(segment)), row.end);
        }
        Ok(())
    }

    /// Writes bodies and makes them durable together. Either all of them are, and here are their
    /// places, or none is.
    pub fn append<'a>(
        &self,
        bodies: impl Iterator<Item = (Space, &'a NewBody)>,
    ) -> io::Result<Vec<SegmentPlace>> {
        let mut active = self.active();
        let before = (active.at().map(|at| at.0), active.end);
        match self.append_all(&mut active, bodies) {
            Ok(places) => Ok(places),
            Err((stage, error)) => {
                let left = active.at();
                active.take_back(before, stage);
                if active.segment.is_none() {
                    self.rest().extend(left);
                }
                Err(error)
            }
        }
    }

    fn append_all<'a>(
        &self,
        active: &mut Active,
        bodies: impl Iterator<Item = (Space, &'a NewBody)>,
    ) -> Result<Vec<SegmentPlace>, (Stage, io::Error)> {
        let mut places = Vec::new();
        for (space, body) in bodies {
            let stored = &body.stored;
            let segment = self.room(active)?;
            let header = RecordHeader { space, body: stored.key, size: stored.size };
            let length = record_length(stored.size);
            let written = segment.append(active.end, &header, &body.octets);
            self.counters.wrote_segment(length);
            written.map_err(|error| (Stage::Write, error))?;
            places.push(SegmentPlace { segment: segment.id, offset: active.end, length });
            active.end += length;
        }
        if let Some(segment) = &active.segment {
            self.sync(segment)?;
        }
        Ok(places)
    }

    fn sync(&self, segment: &Segment) -> Result<(), (Stage, io::Error)> {
        self.counters.synced();
        segment.file.sync().map_err(|error| (Stage::Sync, error))
    }

    /// The segment that is appended to; a full one is made durable and followed by a new one.
    fn room(&self, active: &mut Active) -> Result<Arc<Segment>, (Stage, io::Error)> {
        if active.end >= self.full {
            self.rest().extend(active.at());
            if let Some(full) = active.segment.take() {
                self.sync(&full)?;
            }
        }
        if let Some(segment) = &active.segment {
            return Ok(segment.clone());
        }
        let segment = self.create(Kind::Bodies).map_err(|error| (Stage::Write, error))?;
        (active.segment, active.end) = (Some(segment.clone()), HEADER_OCTETS);
        Ok(segment)
    }

    /// A new segment, durable.
    fn create(&self, kind: Kind) -> io::Result<Arc<Segment>> {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let name = file_name(id);
        self.making().insert(id);
        let created = self.files.open(&name).and_then(|file| {
            let segment = Segment::create(file, self.directory, id, kind)?;
            self.counters.synced();
            segment.file.sync()?;
            self.files.sync_names()?;
            Ok(Arc::new(segment))
        });
        match &created {
            Ok(segment) => self.keep_open(segment),
            // On a full disk this is tried again and again: nothing may be left behind.
            Err(_) => drop(self.files.remove(&name)),
        }
        self.making().remove(&id);
        created
    }

    /// A new segment of the log, durable. It stays until the rows are durable beyond it.
    pub fn begin_log(&self, before: u64) -> io::Result<Arc<Segment>> {
        let segment = self.create(Kind::Log { before })?;
        self.log().insert(segment.id);
        Ok(segment)
    }

    /// Nothing is appended to this segment of the log any more.
    pub fn rest_at(&self, id: u64, length: u64) {
        self.rest().insert(id, length);
    }

    /// Nobody will read the log before this segment of it any more. Returns the segments that were kept
    /// for it.
    pub fn release_before(&self, id: u64) -> Vec<u64> {
        let mut log = self.log();
        let later = log.split_off(&id);
        std::mem::replace(&mut *log, later).into_iter().collect()
    }

    /// Whether a segment is kept for the log in it.
    pub fn is_in_log(&self, id: u64) -> bool {
        self.log().contains(&id)
    }

    /// How many segments are kept for the log in them.
    pub fn in_log(&self) -> usize {
        self.log().len()
    }

    /// Whether a segment is appended to, or kept for the log in it: then it stays as it is.
    pub fn is_busy(&self, id: u64) -> bool {
        self.is_in_log(id) || self.active_id() == Some(id)
    }

    /// Whether a segment that nothing is appended to any more is not worth a file of its own: each
    /// restart leaves one of the log.
    pub fn is_short(&self, length: u64) -> bool {
        length < self.full / 16
    }

    /// Whether so little is in use of a segment that bodies are appended to, which has come to some length,
    /// that it is better rewritten than filled up.
    fn is_spent(&self, row: &SegmentRow) -> bool {
        row.is_thin() && !self.is_short(row.end)
    }

    /// Whether the segment that bodies are appended to is not worth looking at yet.
    pub fn is_active_short(&self) -> bool {
        self.active().at().is_none_or(|(_, end)| self.is_short(end))
    }

    /// Appends nothing more to the segment of bodies that is appended to, if it is spent.
    pub fn retire_spent(&self, rows: &BTreeMap<u64, SegmentRow>) {
        let mut active = self.active();
        let Some((id, end)) = active.at() else { return };
        if rows.get(&id).is_some_and(|row| self.is_spent(row)) {
            self.rest().insert(id, end);
            active.segment = None;
        }
    }

    /// Octets of a full one.
    pub fn full(&self) -> u64 {
        self.full
    }

    /// The engine's counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Octets of a body, every one verified.
    pub fn read(
        &self,
        place: SegmentPlace,
        body: (&[u8; 16], u64),
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        self.segment(place.segment)?.read(place, body, at, max)
    }

    /// The record that starts at `offset` of a segment, if there is one.
    pub fn record_at(&self, id: u64, offset: u64) -> Result<Option<Record>, StorageError> {
        self.segment(id)?.record_at(offset)
    }

    fn segment(&self, id: u64) -> Result<Arc<Segment>, StorageError> {
        if let Some(segment) = self.open().get(&id) {
            return Ok(segment.clone());
        }
        let file =
            self.files.open_existing(&file_name(id)).map_err(|error| unreadable(id, &error))?;
        let segment = Arc::new(Segment::open(file, self.directory, id)?);
        self.keep_open(&segment);
        Ok(segment)
    }

    fn keep_open(&self, segment: &Arc<Segment>) {
        let mut open = self.open();
        if open.len() >= MAX_OPEN_SEGMENTS {
            // Whichever: it is opened again when it is asked for.
            let victim = open.keys().next().copied();
            victim.map(|victim| open.remove(&victim));
        }
        open.insert(segment.id, segment.clone());
    }

    /// The segment that bodies are appended to.
    pub fn active_id(&self) -> Option<u64> {
        self.active().at().map(|at| at.0)
    }

    /// The segments that are there and that nothing is appended to any more, with their lengths.
    pub fn resting(&self) -> BTreeMap<u64, u64> {
        self.rest().clone()
    }

    /// Removes a segment that nothing refers to and nothing appends to. Whoever reads it still may.
    pub fn remove(&self, id: u64) -> Result<(), StorageError> {
        let pins = self.pins();
        if *pins > 0 {
            return Err(StorageError::Unavailable("a backup may still read it".to_owned()));
        }
        self.open().remove(&id);
        let removed = self.files.remove(&file_name(id)).map_err(|error| unreadable(id, &error));
        if matches!(removed, Ok(()) | Err(StorageError::Damaged(_))) {
            self.rest().remove(&id);
        }
        removed
    }

    /// Keeps all segments from being removed until [`unpin`](Self::unpin).
    pub fn pin(&self) {
        *self.pins() += 1;
    }

    /// One who kept them does not need them any more.
    pub fn unpin(&self) {
        *self.pins() -= 1;
    }

    fn pins(&self) -> MutexGuard<'_, usize> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All segments that are there, ascending, without those that are being made.
    pub fn all(&self) -> Vec<u64> {
        let names = self.files.names().unwrap_or_default();
        let mut all: Vec<u64> = names.iter().filter_map(|name| segment_of(name)).collect();
        // After the names: what was begun meanwhile is not among them.
        let making = self.making();
        all.retain(|id| !making.contains(id));
        drop(making);
        all.sort_unstable();
        all
    }

    /// Writes the header of a segment again when one of its copies is damaged. True: none is.
    pub fn mend_header(&self, id: u64) -> Result<bool, StorageError> {
        let segment = match self.segment(id) {
            // It went meanwhile.
            Err(_) if !self.all().contains(&id) => return Ok(true),
            segment => segment?,
        };
        if segment.has_whole_header(self.directory)? {
            return Ok(true);
        }
        let written = segment.write_header(self.directory).and_then(|()| segment.file.sync());
        written.map_err(|error| unreadable(id, &error))?;
        Ok(false)
    }

    /// Reads what is kept of the log, from a place on (segment, offset, groups before it) up to a group; its
    /// octets. Fails with the segment in which a copy of a group's changes is damaged.
    pub fn verify_log(
        &self,
        from: (u64, u64, u64),
        until: u64,
    ) -> Result<u64, (u64, StorageError)> {
        let ids: Vec<u64> = self.log().range(from.0..).copied().collect();
        let (mut octets, mut last) = (0, until);
        for id in ids.iter().rev() {
            let segment = self.segment(*id).map_err(|error| (*id, error))?;
            let start = (*id == from.0).then_some((from.1, from.2));
            octets += segment.verify_groups(start, last).map_err(|error| (*id, error))?;
            // What it holds beyond those before the next segment is void.
            if let Kind::Log { before } = segment.kind {
                last = last.min(before);
            }
        }
        Ok(octets)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Segment>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn making(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The segments of the log in a directory, from one on, ascending. Fails with `Damaged` when one of
/// the segments there has something in it but does not say what it is.
pub fn log_segments(
    files: &dyn Files,
    directory: [u8; 16],
    from: u64,
) -> Result<Vec<Segment>, StorageError> {
    let names = files.names().map_err(|error| unreadable(from, &error))?;
    let mut there: Vec<u64> = names.iter().filter_map(|name| segment_of(name)).collect();
    there.retain(|id| *id >= from);
    there.sort_unstable();
    let mut found = Vec::new();
    for id in there {
        let failed = |error| unreadable(id, &error);
        let file = files.open_existing(&file_name(id)).map_err(failed)?;
        match Segment::open(file.clone(), directory, id) {
            Ok(segment) if matches!(segment.kind, Kind::Log { .. }) => found.push(segment),
            Ok(_) => {}
            // It was being made when everything ended.
            Err(StorageError::Damaged(_)) if file.len().map_err(failed)? <= HEADER_OCTETS => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The segments of the log from one on that are there, with their octets; those too that do not say any
/// more what they are.
pub fn kept_log(
    files: &dyn Files,
    directory: [u8; 16],
    from: u64,
) -> Result<BTreeMap<u64, u64>, StorageError> {
    let failed = |error| unreadable(from, &error);
    let mut kept = BTreeMap::new();
    for id in files.names().map_err(failed)?.iter().filter_map(|name| segment_of(name)) {
        if id < from {
            continue;
        }
        let file = files.open_existing(&file_name(id)).map_err(failed)?;
        let length = file.len().map_err(failed)?;
        match Segment::open(file, directory, id) {
            Ok(segment) if segment.kind == Kind::Bodies => {}
            Err(StorageError::Damaged(_)) if length <= HEADER_OCTETS => {}
            Ok(_) | Err(StorageError::Damaged(_)) => drop(kept.insert(id, length)),
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}

/// The rows about all segments.
pub fn segment_rows(rows: &impl Rows) -> Result<BTreeMap<u64, SegmentRow>, StorageError> {
    let mut found = BTreeMap::new();
    let (start, end) = key::segments();
    rows.visit(&start, &end, &mut |raw, stored| {
        let id = key::segment_of(raw).ok_or_else(|| damaged(0, "has a row under a wrong key"))?;
        found.insert(id, row::decode(raw, row::payload(raw, stored)?)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
