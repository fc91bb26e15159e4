//! The one thread that writes segments of bodies. Bodies that wait for it share one sync. It also gives
//! room back: segments in which nothing has a link any more go, those of which little is in use are
//! rewritten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::rewrite::Rewriting;
use super::segments::Segments;
use super::{NewBody, Unlinked};
use crate::commit::{Pending, SegmentWork};
use crate::rows::{BodyRow, SegmentRow};
use crate::{BodyRef, Space, StorageError};

/// Most requests that wait; as many as commits may, since each links at least one body.
const MAX_WAITING: usize = 4096;
/// Most octets of bodies that wait: bounds memory when the disk is slower than those who deliver.
/// Two bodies of the largest size.
const MAX_WAITING_OCTETS: usize = 512 << 20;
/// Most octets that share one sync, unless one body alone has more: some 100 ms of a plain disk.
const MAX_GROUP_OCTETS: usize = 16 << 20;
/// Most bodies that share one sync.
const MAX_GROUP_BODIES: usize = 512;

/// What the writer is asked.
enum Request {
    Append { space: Space, body: NewBody, reply: oneshot::Sender<Result<BodyRef, StorageError>> },
    Thinned(Vec<u64>),
}

/// What the writer needs of the engine that it belongs to.
pub trait Owner: Send + Sync {
    /// The segments.
    fn segments(&self) -> &Segments;
    /// New bodies that nothing has linked yet.
    fn unlinked(&self) -> &Unlinked;
    /// How much of each segment is in use, as committed.
    fn segment_rows(&self) -> Result<BTreeMap<u64, SegmentRow>, StorageError>;
    /// Where a body is, as committed.
    fn body_row(&self, space: Space, body: &[u8; 16]) -> Result<Option<BodyRow>, StorageError>;
    /// Changes rows about segments, durably.
    fn keep_house(&self, work: SegmentWork) -> Result<(), StorageError>;
}

/// The way to the writer.
#[derive(Clone)]
pub struct Queue {
    requests: mpsc::Sender<Request>,
    octets: Arc<AtomicUsize>,
}

/// The writer's end of a [`Queue`].
pub struct Inbox {
    requests: mpsc::Receiver<Request>,
    octets: Arc<AtomicUsize>,
}

/// A queue and its end.
pub fn queue() -> (Queue, Inbox) {
    let (sender, requests) = mpsc::channel(MAX_WAITING);
    let octets = Arc::new(AtomicUsize::new(0));
    (Queue { requests: sender, octets: octets.clone() }, Inbox { requests, octets })
}

impl Queue {
    /// Stores a body; it is durable when this returns, and waits for its link. Dropping the future
    /// may leave it waiting, with nobody who knows of it.
    pub async fn append(&self, space: Space, body: NewBody) -> Result<BodyRef, StorageError> {
        let octets = body.octets.len();
        let waiting = self.octets.fetch_add(octets, Ordering::Relaxed);
        let (reply, stored) = oneshot::channel();
        let full = waiting > 0 && waiting + octets > MAX_WAITING_OCTETS;
        let sent = !full && self.requests.try_send(Request::Append { space, body, reply }).is_ok();
        if !sent {
            self.octets.fetch_sub(octets, Ordering::Relaxed);
            return Err(StorageError::Unavailable("too many bodies wait for the disk".to_owned()));
        }
        stored.await.unwrap_or_else(|_| {
            Err(StorageError::Unavailable("the writer of bodies has stopped".to_owned()))
        })
    }

    /// Says that there may be room to give back in these segments.
    pub fn thinned(&self, segments: Vec<u64>) {
        // When the queue is full, the sweep at the next new segment finds them.
        let _ = self.requests.try_send(Request::Thinned(segments));
    }
}

/// Runs until nobody is left who could ask.
pub fn run(owner: &impl Owner, mut inbox: Inbox) {
    let mut rewriting = Rewriting::default();
    loop {
        // While there is something to rewrite, what waits is served between two steps of it.
        let next = match rewriting.is_idle() {
            true => inbox.requests.blocking_recv().ok_or(TryRecvError::Disconnected),
            false => inbox.requests.try_recv(),
        };
        match next {
            Ok(first) => serve(owner, first, &mut inbox, &mut rewriting),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
        rewriting.step(owner);
    }
}

fn serve(owner: &impl Owner, first: Request, inbox: &mut Inbox, rewriting: &mut Rewriting) {
    let (bodies, mut thinned, octets) = gather(first, &mut inbox.requests);
    let active = owner.segments().active_id();
    append(owner, bodies);
    inbox.octets.fetch_sub(octets, Ordering::Relaxed);
    // What has been appended to until now is looked at for the first time.
    let appended_to = owner.segments().active_id();
    thinned.extend(active);
    // One that has come to some length and of which little is in use is not filled up.
    let short = owner.segments().is_active_short();
    thinned.retain(|segment| Some(*segment) != appended_to || !short);
    if !thinned.is_empty() {
        sweep(owner, rewriting);
    }
}

type Waiting = (Space, NewBody, oneshot::Sender<Result<BodyRef, StorageError>>);

fn gather(
    first: Request,
    requests: &mut mpsc::Receiver<Request>,
) -> (Vec<Waiting>, Vec<u64>, usize) {
    let (mut bodies, mut thinned, mut octets) = (Vec::new(), Vec::new(), 0);
    let mut next = Some(first);
    while let Some(request) = next {
        match request {
            Request::Append { space, body, reply } => {
                octets += body.octets.len();
                bodies.push((space, body, reply));
            }
            Request::Thinned(segments) => thinned.extend(segments),
        }
        let full = bodies.len() >= MAX_GROUP_BODIES || octets >= MAX_GROUP_OCTETS;
        next = if full { None } else { requests.try_recv().ok() };
    }
    (bodies, thinned, octets)
}

fn append(owner: &impl Owner, bodies: Vec<Waiting>) {
    if bodies.is_empty() {
        return;
    }
    let places = owner.segments().append(bodies.iter().map(|(space, body, _)| (*space, body)));
    let places = match places {
        Ok(places) => places,
        Err(error) => {
            tracing::error!(%error, bodies = bodies.len(), "writing bodies failed");
            let error = StorageError::Unavailable(error.to_string());
            for (_, _, reply) in bodies {
                let _ = reply.send(Err(error.clone()));
            }
            return;
        }
    };
    for ((space, body, reply), place) in bodies.into_iter().zip(places) {
        let stored = body.stored;
        let added = owner.unlinked().add(space, stored.key, Pending::Segment(place));
        // Whoever has gone away leaves a body that nobody links.
        if reply.send(added.map(|()| stored)).is_err() {
            owner.unlinked().forget(space, &[stored.key]);
        }
    }
}

/// Removes all segments in which nothing has a link and nothing waits for one, and finds those that
/// are worth rewriting. A segment in which nothing ever had a link has no row, one that is gone may
/// still have one: both are looked at.
fn sweep(owner: &impl Owner, rewriting: &mut Rewriting) {
    let rows = match owner.segment_rows() {
        Ok(rows) => rows,
        Err(error) => return tracing::warn!(%error, "segments are not swept"),
    };
    owner.segments().retire_spent(&rows);
    let lengths = owner.segments().resting();
    let all: BTreeSet<u64> = rows.keys().chain(lengths.keys()).copied().collect();
    let mut removed = Vec::new();
    for segment in all.into_iter().filter(|segment| !owner.segments().is_busy(*segment)) {
        let row = rows.get(&segment).copied().unwrap_or_default();
        let length = lengths.get(&segment).copied().unwrap_or(row.end);
        match row.live_bodies {
            0 if remove(owner, segment) => removed.push(segment),
            0 => {}
            _ if row.is_thin_in(length) || owner.segments().is_short(length) => {
                rewriting.add(segment);
            }
            _ => {}
        }
    }
    removed.retain(|segment| rows.contains_key(segment));
    if !removed.is_empty()
        && let Err(error) = owner.keep_house(SegmentWork::Forget(removed))
    {
        tracing::warn!(%error, "removed segments are not forgotten yet");
    }
}

/// Removes a segment if nothing has or can get a link in it. False: it stays.
fn remove(owner: &impl Owner, segment: u64) -> bool {
    // In this order: a body stops waiting only after the commit that links it, so one that waits
    // no longer is in the rows that are read now.
    if owner.unlinked().any_in_segment(segment) {
        return false;
    }
    let Ok(rows) = owner.segment_rows() else { return false };
    let in_use = match rows.get(&segment) {
        Some(row) => row.live_bodies > 0,
        None => {
            let body_row = |space, body: &[u8; 16]| owner.body_row(space, body);
            owner.segments().is_lost(segment, &body_row)
        }
    };
    if in_use {
        return false;
    }
    match owner.segments().remove(segment) {
        Ok(()) => tracing::debug!(segment, "an empty segment is removed"),
        // It has been removed before.
        Err(StorageError::Damaged(_)) => {}
        Err(error) => {
            tracing::warn!(segment, %error, "an empty segment cannot be removed");
            return false;
        }
    }
    true
}
