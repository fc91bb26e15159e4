//! The embedded engine: rows in redb behind a commit log, in a data directory of its own.
//!
//! All writing goes through one thread (`committer`), which joins what waits for it into groups.
//! Reads are made on the task that asks: measured, a look-up that redb has cached costs 1–2 µs and
//! handing it to a blocking thread costs ten times that.

mod backend;
mod backup;
mod committer;
mod directory;
mod group;
mod index;
mod log;
mod rebuild;
mod reserve;
mod rows;
mod scrub;
mod shared;
mod snapshot;
mod snapshots;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::types::{Epoch, Slot, TransactionId};
use tokio::sync::mpsc;

use self::committer::Keeping;
use self::directory::State;
use self::group::Work;
use self::index::Index;
use self::log::{CHECKPOINT_OCTETS, CHECKPOINT_PAUSE, Log, Position, Replayed};
use self::reserve::{RESERVE_OCTETS, Reserve};
use self::rows::ReadRows;
use self::scrub::Scrubbing;
use self::shared::Shared;
use self::snapshots::{SNAPSHOT_OCTETS, Snapshots};
use super::beats::Beats;
use super::body::segment::{Kind, Segment, file_name};
use super::body::segments::{self, SEGMENT_OCTETS, Segments, segment_rows};
use super::body::{INLINE_OCTETS, NewBody, Unlinked, writer};
use super::commit::{Pending, PendingBodies, SegmentWork};
use super::counters::Counters;
use super::files::{DiskFiles, Files};
use super::keeping::{Backup, MAX_PIECES, Scrub};
use super::rows::{BodyRow, Place, Rows as _, SegmentPlace, SegmentRow};
use super::{
    Area, Beat, Body, BodyRef, Claim, Claimant, Commit, Committed, Engine, EngineStats, Fence, Key,
    ScanLimit, ScanPage, Space, StorageError, key, reads,
};

pub use self::backup::is_backed_up;
pub use self::directory::OpenError;

/// Octets above which work on a body leaves the task that asked: some 100 µs of hashing.
const LONG_WORK_OCTETS: u64 = 256 << 10;

/// How long a read waits for a failed medium to be tried again: less than whoever reads waits for
/// it, so that it is told why.
const REVIVAL_TIME: Duration = Duration::from_secs(10);

/// How long after looking for damaged rows in vain: the look reads all of them, and holds up commits.
const HEAL_PAUSE: Duration = Duration::from_secs(600);

/// How an engine is opened.
#[derive(Clone, Copy, Debug)]
pub struct RedbOptions {
    /// redb's cache of pages, in octets.
    pub cache_octets: usize,
    /// Bodies up to this many octets go into the commit log with the commit that links them, larger
    /// ones are stored before it.
    pub inline_octets: usize,
    /// A segment of this many octets is not appended to any more.
    pub segment_octets: u64,
    /// Octets of commit log after which the rows are made durable.
    pub checkpoint_octets: u64,
    /// Time after which that is tried again when it failed, and what else the disk may have refused.
    pub checkpoint_pause: Duration,
    /// Octets of commit log after which the rows get a new snapshot.
    pub snapshot_octets: u64,
    /// Octets that are set aside for a full disk.
    pub reserve_octets: u64,
    /// After looking for damaged rows in vain, it is not done again for so long.
    pub heal_pause: Duration,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cache_octets: 128 << 20,
            inline_octets: INLINE_OCTETS,
            segment_octets: SEGMENT_OCTETS,
            checkpoint_octets: CHECKPOINT_OCTETS,
            checkpoint_pause: CHECKPOINT_PAUSE,
            snapshot_octets: SNAPSHOT_OCTETS,
            reserve_octets: RESERVE_OCTETS,
            heal_pause: HEAL_PAUSE,
        }
    }
}

/// The embedded engine.
pub struct RedbEngine {
    shared: Arc<Shared>,
    inline_octets: usize,
    beats: Beats,
    /// How many times the directory was restored.
    restored: u64,
    /// The ways to the threads; gone only while the engine is dropped, which ends these.
    queues: Option<Queues>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Queues {
    commits: committer::Queue,
    bodies: writer::Queue,
}

impl RedbEngine {
    /// Opens a data directory, or makes a new one in an empty or missing directory. All rows are verified
    /// for it, and made anew when they are damaged. Blocks for as long as that takes: milliseconds, a
    /// second or so for each gigabyte of rows.
    pub fn open(directory: &Path, options: RedbOptions) -> Result<Self, OpenError> {
        Self::open_files(Arc::new(DiskFiles::new(directory)?), options)
    }

    /// Notes that a directory is being restored from a backup that may not have all that was announced
    /// since, before it is opened for the first time.
    pub fn note_restored(directory: &Path) -> Result<(), OpenError> {
        directory::note_restored(&DiskFiles::new(directory)?)
    }

    /// As [`open`](Self::open), over any files.
    pub fn open_files(files: Arc<dyn Files>, options: RedbOptions) -> Result<Self, OpenError> {
        let counters = Arc::new(Counters::new("redb"));
        let (index, directory, replayed) = open_index(&*files, options, &counters)?;
        let restored = directory::restored(&*files)?;
        let (segments, keeping) =
            take_up(&files, directory, options, &counters, (&index, replayed))?;
        let files = (files, directory);
        let shared = Arc::new(Shared::new(files, options.cache_octets, counters, index, segments));
        let (bodies, inbox) = writer::queue();
        let (commits, requests, octets) = committer::Queue::new();
        let committing = {
            let (shared, bodies) = (shared.clone(), bodies.clone());
            let requests = (commits.tell(), requests);
            move || committer::run(&shared, &bodies, keeping, requests, &octets)
        };
        let writing = {
            let owner = Housekeeper { shared: shared.clone(), commits: commits.downgrade() };
            move || writer::run(&owner, inbox)
        };
        let threads = vec![
            thread::Builder::new().name("storage-commit".to_owned()).spawn(committing)?,
            thread::Builder::new().name("storage-bodies".to_owned()).spawn(writing)?,
        ];
        let queues = Some(Queues { commits, bodies });
        let (inline_octets, threads) = (options.inline_octets, Mutex::new(threads));
        Ok(Self { shared, inline_octets, beats: Beats::default(), restored, queues, threads })
    }

    fn queues(&self) -> &Queues {
        self.queues.as_ref().expect("only dropping takes them away")
    }

    /// Reads one state of the rows; once more if the medium fails under it and is back.
    async fn read<T>(
        &self,
        read: impl Fn(&ReadRows<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.ready().await;
        let rebuilds = self.shared.counters.rebuilds();
        match self.shared.read(&read) {
            Err(error) if self.is_back_after(&error, rebuilds, true).await => {
                self.shared.read(&read)
            }
            outcome => outcome,
        }
    }

    /// Whether a read that failed, after rows had been made anew so many times, may go well now: the medium
    /// has been tried again, or damaged rows have been made anew.
    async fn is_back_after(&self, error: &StorageError, rebuilds: u64, of_rows: bool) -> bool {
        match error {
            StorageError::Unavailable(_) if self.shared.has_failed() => {
                self.ready().await;
                true
            }
            StorageError::Damaged(_) if of_rows => {
                let healing = self.queues().commits.heal(rebuilds);
                let healed = tokio::time::timeout(REVIVAL_TIME, healing).await;
                healed.unwrap_or(false)
            }
            _ => false,
        }
    }

    /// Sees to it that a failed medium has been tried again.
    async fn ready(&self) {
        if self.shared.has_failed() {
            // Too late is as good as in vain: the read then says what is wrong.
            let _ = tokio::time::timeout(REVIVAL_TIME, self.queues().commits.revive()).await;
        }
    }

    /// What goes to a segment must not take the room that is needed to remove mail.
    async fn must_have_room(&self) -> Result<(), StorageError> {
        let is_full = || self.shared.full.load(Ordering::Relaxed);
        if is_full() {
            let _ = tokio::time::timeout(REVIVAL_TIME, self.queues().commits.revive()).await;
        }
        match is_full() {
            true => Err(StorageError::Unavailable("the disk is full".to_owned())),
            false => Ok(()),
        }
    }

    async fn read_body_once(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        let (shared, body) = (self.shared.clone(), *body);
        match max.min(body.size.saturating_sub(at)) > LONG_WORK_OCTETS {
            true => blocking(move || shared.read_body(space, &body, at, max)).await,
            false => shared.read_body(space, &body, at, max),
        }
    }
}

/// The rows of a directory up to the end of the commit log, made where there are none, and the
/// directory's id.
fn open_index(
    files: &dyn Files,
    options: RedbOptions,
    counters: &Arc<Counters>,
) -> Result<(Index, [u8; 16], Replayed), OpenError> {
    match directory::enter(files)? {
        State::New => {
            let id = directory::begin(files)?;
            let index = Index::open(files, (options.cache_octets, false), counters)?;
            index.identify(id)?;
            directory::finish(files)?;
            Ok((index, id, Replayed::nothing()))
        }
        State::Made(id) => {
            // How many groups the rows are known to have, and so must have when they are made anew.
            let mut least = 0;
            match take_up_rows(files, id, options, counters, &mut least) {
                Err(OpenError::Damaged(why)) => {
                    tracing::error!(error = why, "the rows are damaged: they are made anew");
                    let how = (options.cache_octets, least);
                    let rebuilt = rebuild::rebuild(files, id, how, counters);
                    let (index, replayed) = rebuilt.map_err(|error| match error {
                        OpenError::Damaged(also) => {
                            OpenError::Damaged(format!("{why}; they cannot be made anew: {also}"))
                        }
                        error => error,
                    })?;
                    Ok((index, id, replayed))
                }
                Err(error) => Err(error),
                Ok((index, replayed)) => Ok((index, id, replayed)),
            }
        }
    }
}

/// Opens the rows that are there, every page verified, and brings them up to the end of the commit log.
/// Notes how many groups they are known to have.
fn take_up_rows(
    files: &dyn Files,
    directory: [u8; 16],
    options: RedbOptions,
    counters: &Arc<Counters>,
    least: &mut u64,
) -> Result<(Index, Replayed), OpenError> {
    directory::must_have_rows(files)?;
    let index = Index::open(files, (options.cache_octets, true), counters)?;
    // Whole rows of another directory are not replaced by anything.
    *least = u64::MAX;
    index.check_identity(directory)?;
    *least =
        index.read(|rows| rows.record::<Position>(&key::checkpoint()))?.unwrap_or_default().groups;
    let mut replayed = index.catch_up(files, directory)?;
    // So that the log does not grow from crash to crash, and that opening again after a failure does not
    // walk over all pages: what redb notes for that is gone after it has verified them.
    match index.checkpoint(replayed.end) {
        Ok(()) => {
            replayed.checked();
            Ok((index, replayed))
        }
        Err(error) => {
            tracing::error!(%error, "the rows cannot be made durable; the log has them");
            drop(index);
            let index = Index::reopen(files, options.cache_octets, counters)?;
            let replayed = index.catch_up(files, directory)?;
            Ok((index, replayed))
        }
    }
}

/// Takes up what stands beside the rows.
fn take_up(
    files: &Arc<dyn Files>,
    directory: [u8; 16],
    options: RedbOptions,
    counters: &Arc<Counters>,
    (index, replayed): (&Index, Replayed),
) -> Result<(Segments, Keeping), OpenError> {
    rebuild::remove_unfinished(&**files)?;
    snapshot::remove_unfinished(&**files)?;
    let (kept, copy) = kept_log(&**files, directory, &replayed)?;
    let octets = kept.values().sum();
    let rows = index.read(|rows| segment_rows(rows))?;
    let body_row = |space, body: &[u8; 16]| index.read(|rows| reads::body_row(rows, space, body));
    let of = (directory, options.segment_octets);
    let kept = kept.into_keys().collect();
    let taken = Segments::take_up(files.clone(), of, counters.clone(), kept, &rows, &body_row)?;
    if !taken.forgotten.is_empty() {
        index.forget_segments(&taken.forgotten)?;
    }
    let pause = options.checkpoint_pause;
    let log = Log::after(&replayed, octets, options.checkpoint_octets, pause);
    let snapshots =
        Snapshots::new(options.snapshot_octets, pause, copy.map(|_| 0), copy.unwrap_or(0));
    let mut reserve = Reserve::new(options.reserve_octets, pause);
    // Before anything else is written: on a full disk the attempt takes what little room there is.
    reserve.hold(&**files, octets);
    Ok((taken.segments, Keeping { log, snapshots, reserve, heal_pause: options.heal_pause }))
}

/// The segments that are kept for the log in them, with their octets; and the octets of the snapshot that
/// it begins with: none of it where it begins with the first group. `None`: it begins later than both, and
/// the rows could not be made anew.
fn kept_log(
    files: &dyn Files,
    directory: [u8; 16],
    replayed: &Replayed,
) -> Result<(BTreeMap<u64, u64>, Option<u64>), OpenError> {
    let snapshot = snapshot::find(files, directory).unwrap_or_else(|error| {
        tracing::error!(%error, "the snapshot of the rows cannot be used");
        None
    });
    let from = snapshot.map_or(0, |snapshot| snapshot.at.segment);
    let mut kept = segments::kept_log(files, directory, from)?;
    let copy = match snapshot {
        Some(snapshot) => kept.contains_key(&from).then_some(snapshot.octets),
        None => begins_with_the_first(files, directory, &kept)?.then_some(0),
    };
    if copy.is_none() {
        tracing::warn!("there is no second copy of the rows until the next snapshot");
        kept = kept.split_off(&replayed.from.segment);
    }
    Ok((kept, copy))
}

/// Whether the log is there from the first group on.
fn begins_with_the_first(
    files: &dyn Files,
    directory: [u8; 16],
    kept: &BTreeMap<u64, u64>,
) -> Result<bool, OpenError> {
    let Some(first) = kept.keys().next() else { return Ok(true) };
    let file = files.open_existing(&file_name(*first))?;
    let kind = Segment::open(file, directory, *first).map(|segment| segment.kind);
    Ok(matches!(kind, Ok(Kind::Log { before: 0 })))
}

/// What the writer of bodies sees of the engine.
struct Housekeeper {
    shared: Arc<Shared>,
    commits: committer::WeakQueue,
}

impl writer::Owner for Housekeeper {
    fn segments(&self) -> &Segments {
        &self.shared.segments
    }

    fn unlinked(&self) -> &Unlinked {
        &self.shared.unlinked
    }

    fn segment_rows(&self) -> Result<BTreeMap<u64, SegmentRow>, StorageError> {
        self.shared.read(|rows| segment_rows(rows))
    }

    fn body_row(&self, space: Space, body: &[u8; 16]) -> Result<Option<BodyRow>, StorageError> {
        self.shared.read(|rows| reads::body_row(rows, space, body))
    }

    fn keep_house(&self, work: SegmentWork) -> Result<(), StorageError> {
        self.commits.perform_blocking(Work::Segments(work)).map(|_| ())
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        self.queues = None;
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the storage engine has panicked");
            }
        }
    }
}

/// What the rows have of a body.
enum Found {
    /// Its octets.
    Octets(Bytes),
    /// Where its octets are.
    Segment(SegmentPlace),
    /// Nothing: no commit has linked it, or it has gone.
    Nothing,
}

impl Shared {
    /// Octets of a body, wherever they are.
    fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        let mut missed = None;
        loop {
            // Who waits is asked first: a body stops waiting only after its row is there.
            let waiting = self.unlinked.pending(space, &body.key);
            // In one state of the rows: a body that goes between two of them would look damaged.
            let found = self.read(|rows| match reads::body_row(rows, space, &body.key)? {
                Some(BodyRow { place: Place::Row, .. }) => {
                    Ok(Found::Octets(reads::body_octets(rows, space, &body.key)?))
                }
                Some(BodyRow { place: Place::Segment(place), .. }) => Ok(Found::Segment(place)),
                Some(BodyRow { place: Place::Object, .. }) => Err(StorageError::Damaged(format!(
                    "body {} is said to be an object, and here are none",
                    hex::encode(body.key)
                ))),
                None => Ok(Found::Nothing),
            })?;
            let place = match (found, waiting) {
                (Found::Octets(octets), _) => return reads::part(body, octets, at, max),
                (Found::Segment(place), _) => place,
                (Found::Nothing, Some(Pending::Segment(place))) => place,
                (Found::Nothing, Some(Pending::Octets(_) | Pending::Object) | None) => {
                    return Err(StorageError::Conflict);
                }
            };
            match self.segments.read(place, (&body.key, body.size), at, max) {
                Ok(octets) if at == 0 && max >= body.size => {
                    reads::verify(body, &octets)?;
                    return Ok(octets);
                }
                // The segment may have been rewritten and removed after the row was read. Then the
                // row says another place now.
                Err(StorageError::Damaged(_)) if missed != Some(place) => missed = Some(place),
                outcome => return outcome,
            }
        }
    }
}

#[async_trait]
impl Engine for RedbEngine {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn cluster_id(&self) -> [u8; 16] {
        self.shared.directory
    }

    #[tracing::instrument(name = "storage_get_many", level = "debug", skip_all, fields(?space))]
    async fn get_many(
        &self,
        space: Space,
        keys: Vec<Key>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.read(|rows| reads::get_many(rows, space, &keys)).await
    }

    #[tracing::instrument(name = "storage_scan", level = "debug", skip_all, fields(?space))]
    async fn scan(
        &self,
        space: Space,
        area: Area,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> Result<ScanPage, StorageError> {
        self.read(|rows| reads::scan(rows, space, (area, &start, &end), limit)).await
    }

    async fn claim(
        &self,
        slot: Slot,
        claimant: Claimant,
        previous: Option<Epoch>,
    ) -> Result<Fence, StorageError> {
        let octets = claimant.node.len();
        let done =
            self.queues().commits.perform(Work::Claim { slot, claimant, previous }, octets).await?;
        Ok(done.fence.expect("a claim that took effect has its fence"))
    }

    async fn claimed(&self, slot: Slot) -> Result<Option<(Epoch, Claimant)>, StorageError> {
        self.read(|rows| reads::claimed(rows, slot)).await
    }

    async fn claims(&self, slots: Vec<Slot>) -> Result<Vec<Option<Claim>>, StorageError> {
        self.read(|rows| reads::claims(rows, &slots)).await
    }

    async fn release(&self, fence: Fence) -> Result<(), StorageError> {
        let octets = size_of::<Fence>();
        self.queues().commits.perform(Work::Release(fence), octets).await.map(|_| ())
    }

    async fn beat(&self, node: Claimant) -> Result<(), StorageError> {
        self.read(|_| Ok(())).await?;
        self.beats.beat(node)
    }

    async fn beats(&self) -> Result<Vec<Beat>, StorageError> {
        self.read(|_| Ok(())).await?;
        Ok(self.beats.all())
    }

    #[tracing::instrument(name = "storage_commit", level = "debug", skip_all, fields(space = ?commit.space))]
    async fn commit(&self, commit: Commit) -> Result<Committed, StorageError> {
        let octets = commit.checked_octets()?;
        let done = self.queues().commits.perform(Work::Commit(commit), octets).await?;
        Ok(done.committed.expect("a commit that took effect has its head"))
    }

    async fn head(&self, space: Space) -> Result<u64, StorageError> {
        let head = self.read(|rows| reads::head(rows, space)).await?;
        self.shared.resolved(space);
        Ok(head)
    }

    async fn transaction(
        &self,
        space: Space,
        id: TransactionId,
    ) -> Result<Option<Bytes>, StorageError> {
        self.read(|rows| reads::transaction(rows, space, id)).await
    }

    #[tracing::instrument(name = "storage_new_body", level = "debug", skip_all, fields(?space, octets = octets.len()))]
    async fn new_body(&self, space: Space, octets: Bytes) -> Result<Body, StorageError> {
        self.read(|_| Ok(())).await?;
        if octets.len() > self.inline_octets {
            self.must_have_room().await?;
        }
        let made = match octets.len() as u64 > LONG_WORK_OCTETS {
            true => blocking(move || NewBody::new(octets)).await?,
            false => NewBody::new(octets)?,
        };
        self.shared.counters.body();
        match made.octets.len() <= self.inline_octets {
            true => Ok(made.inline()),
            false => {
                let new = self.shared.unlinked.until_given(space, made.stored.key);
                let stored = self.queues().bodies.append(space, made).await?;
                new.given();
                Ok(Body::Stored(stored))
            }
        }
    }

    fn give_up(&self, space: Space, bodies: &[Body]) {
        let waiting = self.shared.unlinked.waiting(space, bodies);
        if !waiting.is_empty() {
            self.queues().commits.give_up(space, waiting);
        }
    }

    async fn body(&self, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError> {
        self.read(|rows| reads::body(rows, space, name)).await
    }

    #[tracing::instrument(name = "storage_read_body", level = "debug", skip_all, fields(?space, at, max))]
    async fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        self.ready().await;
        let rebuilds = self.shared.counters.rebuilds();
        match self.read_body_once(space, body, at, max).await {
            // It may be the row that is damaged, or the octets.
            Err(error) if self.is_back_after(&error, rebuilds, self.shared.take_damage()).await => {
                self.read_body_once(space, body, at, max).await
            }
            outcome => outcome,
        }
    }

    async fn spaces(&self, after: Option<Space>, limit: usize) -> Result<Vec<Space>, StorageError> {
        self.read(|rows| reads::spaces(rows, after, limit)).await
    }

    async fn backup(&self) -> Result<Backup, StorageError> {
        let pinned = Pinned::new(self.shared.clone());
        let state = self.queues().commits.state().await?;
        let (to, pieces) = mpsc::channel(MAX_PIECES);
        tokio::task::spawn_blocking(move || backup::send(&pinned.0, state, &to));
        Ok(pieces)
    }

    async fn scrub(&self) -> Result<Scrub, StorageError> {
        let (tell, events) = mpsc::channel(MAX_PIECES);
        let commits = self.queues().commits.downgrade();
        tokio::spawn(Scrubbing { shared: self.shared.clone(), commits, tell }.run());
        Ok(events)
    }

    fn restored(&self) -> u64 {
        self.restored
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.queues().commits.close().await;
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        self.shared.counters.stats()
    }
}

/// All segments stay as long as this lives.
struct Pinned(Arc<Shared>);

impl Pinned {
    fn new(shared: Arc<Shared>) -> Self {
        shared.segments.pin();
        Self(shared)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.segments.unpin();
    }
}

/// Work that would hold up its task for too long.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StorageError::Unavailable(format!("a blocking thread has stopped: {error}")))
    })
}
