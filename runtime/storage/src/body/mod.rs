//! Bodies: the octets of messages. Small ones travel inline in the commit that links them; large
//! ones are written to a segment first, and wait here until a commit links them. In the embedded
//! engine both end up in segments.

mod rewrite;
pub mod segment;
pub mod segments;
pub mod writer;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::commit::{Pending, PendingBodies};
use super::{Body, BodyRef, MAX_BODY_OCTETS, Space, StorageError};

/// Bodies up to this many octets stay inline: they share the sync of the commit that links them. With
/// the embedded engine that makes 1.4 to 1.6 times as many messages of 64 KiB a second with one
/// writer, and as many or more with 16; at 256 KiB it is 1.3 times and 0.9 times, because all of a
/// group wait for the octets of each (`cargo xtask bench engine`).
pub const INLINE_OCTETS: usize = 64 << 10;

/// Most bodies that wait for their first link: a few dozen octets each, more than one node can have
/// in the air.
const MAX_UNLINKED: usize = 1 << 16;
/// Most of them in one space: four of the longest APPENDs, so that one account cannot take the room
/// of all.
const MAX_UNLINKED_OF_ONE: usize = 1 << 12;
/// Most octets of them that are kept in memory: eight of the longest APPENDs at a time.
const MAX_UNLINKED_OCTETS: usize = 8 * MAX_BODY_OCTETS;
/// How long a body that nothing has linked can be: far longer than any call takes.
const LINKABLE_AGE: Duration = Duration::from_secs(60 * 60);
/// How long its octets are kept: longer than that by more than any commit takes, so that none that
/// links it can be under way when they go.
const UNLINKED_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// Octets on their way to become a body.
pub struct NewBody {
    /// Its key, size and digest.
    pub stored: BodyRef,
    /// The octets.
    pub octets: Bytes,
}

impl NewBody {
    /// Gives octets a key and a digest. Fails with `Limit` when there are too many.
    pub fn new(octets: Bytes) -> Result<Self, StorageError> {
        if octets.len() > MAX_BODY_OCTETS {
            return Err(StorageError::Limit(format!(
                "a body of {} octets, at most {MAX_BODY_OCTETS}",
                octets.len()
            )));
        }
        let digest = *blake3::hash(&octets).as_bytes();
        let stored = BodyRef { key: new_key()?, size: octets.len() as u64, digest };
        Ok(Self { stored, octets })
    }

    /// The body that travels in its commit.
    pub fn inline(self) -> Body {
        let BodyRef { key, digest, .. } = self.stored;
        Body::Inline { key, octets: self.octets, digest }
    }
}

/// A key that was never used: 48 bits of time, so that new bodies lie together at the end of an
/// account's, then 80 random bits.
fn new_key() -> Result<[u8; 16], StorageError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut key = [0; 16];
    key[..6].copy_from_slice(&(since.as_millis() as u64).to_be_bytes()[2..]);
    getrandom::fill(&mut key[6..]).map_err(|error| {
        StorageError::Unavailable(format!("the system gives no random numbers: {error}"))
    })?;
    Ok(key)
}

/// Bodies that are stored and that nothing has linked yet.
#[derive(Default)]
pub struct Unlinked(Mutex<Waiting>);

/// By space and body key.
#[derive(Default)]
struct Waiting {
    spaces: HashMap<Space, HashMap<[u8; 16], New>>,
    /// Of all spaces.
    total: usize,
    /// Those that are in memory.
    octets: usize,
}

/// A body that waits.
struct New {
    since: Instant,
    body: Pending,
}

impl Unlinked {
    /// Remembers a new body. `Unavailable` when too many wait, in all or in this space.
    pub fn add(&self, space: Space, key: [u8; 16], body: Pending) -> Result<(), StorageError> {
        let mut waiting = self.lock();
        let octets = body.octets();
        if waiting.is_full(space, octets) {
            waiting.forget_old(Instant::now());
        }
        if waiting.is_full(space, octets) {
            return Err(StorageError::Unavailable("too many new bodies wait for a commit".into()));
        }
        let new = New { since: Instant::now(), body };
        let of_space = waiting.spaces.entry(space).or_default();
        let before = of_space.insert(key, new);
        waiting.octets += octets;
        match before {
            Some(before) => waiting.octets -= before.body.octets(),
            None => waiting.total += 1,
        }
        Ok(())
    }

    /// Forgets bodies: a commit has linked them, or none will. Returns the segments in which they
    /// are. While a commit that links one is under way it must not be forgotten: its segment could
    /// be taken for an empty one.
    pub fn forget(&self, space: Space, keys: &[[u8; 16]]) -> Vec<u64> {
        let mut waiting = self.lock();
        let forgotten = keys.iter().filter_map(|key| match waiting.remove(space, key)? {
            Pending::Segment(place) => Some(place.segment),
            Pending::Octets(_) | Pending::Object => None,
        });
        forgotten.collect()
    }

    /// Of these bodies, those that wait.
    pub fn waiting(&self, space: Space, bodies: &[Body]) -> Vec<[u8; 16]> {
        let waiting = self.lock();
        let Some(of_space) = waiting.spaces.get(&space) else { return Vec::new() };
        bodies.iter().map(Body::key).filter(|key| of_space.contains_key(key)).collect()
    }

    /// A new body that nobody knows of: forgotten unless it is given to somebody.
    pub fn until_given(&self, space: Space, key: [u8; 16]) -> UntilGiven<'_> {
        UntilGiven { unlinked: self, body: Some((space, key)) }
    }

    /// Whether a body in this segment waits for its first link. Gives up those that have waited
    /// for too long.
    pub fn any_in_segment(&self, segment: u64) -> bool {
        let mut waiting = self.lock();
        waiting.forget_old(Instant::now());
        let there = |new: &New| matches!(new.body, Pending::Segment(at) if at.segment == segment);
        waiting.spaces.values().flat_map(HashMap::values).any(there)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().total
    }

    fn pending_at(&self, now: Instant, space: Space, body: &[u8; 16]) -> Option<Pending> {
        let waiting = self.lock();
        let new = waiting.spaces.get(&space)?.get(body)?;
        (now.duration_since(new.since) < LINKABLE_AGE).then(|| new.body.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingBodies for Unlinked {
    fn pending(&self, space: Space, body: &[u8; 16]) -> Option<Pending> {
        self.pending_at(Instant::now(), space, body)
    }

    fn inline(&self, _: Space, _: &[u8; 16], octets: &Bytes) -> Pending {
        Pending::Octets(octets.clone())
    }
}

impl Waiting {
    fn is_full(&self, space: Space, more: usize) -> bool {
        let of_space = self.spaces.get(&space).map_or(0, HashMap::len);
        self.total >= MAX_UNLINKED
            || of_space >= MAX_UNLINKED_OF_ONE
            || self.octets + more > MAX_UNLINKED_OCTETS
    }

    fn remove(&mut self, space: Space, key: &[u8; 16]) -> Option<Pending> {
        let of_space = self.spaces.get_mut(&space)?;
        let removed = of_space.remove(key)?;
        if of_space.is_empty() {
            self.spaces.remove(&space);
        }
        self.total -= 1;
        self.octets -= removed.body.octets();
        Some(removed.body)
    }

    fn forget_old(&mut self, now: Instant) {
        self.spaces.retain(|_, of_space| {
            of_space.retain(|_, new| now.duration_since(new.since) < UNLINKED_AGE);
            !of_space.is_empty()
        });
        self.total = self.spaces.values().map(HashMap::len).sum();
        let octets = |new: &New| new.body.octets();
        self.octets = self.spaces.values().flat_map(HashMap::values).map(octets).sum();
    }
}

/// See [`Unlinked::until_given`].
pub struct UntilGiven<'a> {
    unlinked: &'a Unlinked,
    body: Option<(Space, [u8; 16])>,
}

impl UntilGiven<'_> {
    /// It is in somebody's hands now.
    pub fn given(mut self) {
        self.body = None;
    }
}

impl Drop for UntilGiven<'_> {
    fn drop(&mut self) {
        if let Some((space, key)) = self.body {
            self.unlinked.forget(space, &[key]);
        }
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::types::AccountId;

    use super::*;
    use crate::rows::SegmentPlace;

    const ONE: Space = Space::Account(AccountId([1; 16]));
    const OTHER: Space = Space::Account(AccountId([2; 16]));

    fn key(n: usize) -> [u8; 16] {
        (n as u128).to_be_bytes()
    }

    fn place(segment: u64) -> Pending {
        Pending::Segment(SegmentPlace { segment, offset: 64, length: 100 })
    }

    #[test]
    fn one_space_cannot_take_the_room_of_all() {
        let unlinked = Unlinked::default();
        for n in 0..MAX_UNLINKED_OF_ONE {
            unlinked.add(ONE, key(n), place(1)).unwrap();
        }
        let refused = unlinked.add(ONE, key(MAX_UNLINKED_OF_ONE), place(1));
        assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
        assert_eq!(unlinked.add(OTHER, key(0), place(2)), Ok(()));
        assert_eq!(unlinked.forget(ONE, &[key(7), key(7), key(9999)]), [1]);
        assert_eq!(unlinked.add(ONE, key(MAX_UNLINKED_OF_ONE), place(1)), Ok(()));
        assert_eq!(unlinked.len(), MAX_UNLINKED_OF_ONE + 1);
    }

    #[test]
    fn bodies_in_memory_have_a_limit() {
        let unlinked = Unlinked::default();
        let longest = Bytes::from(vec![0; MAX_BODY_OCTETS]);
        let add = |n| unlinked.add(ONE, key(n), Pending::Octets(longest.clone()));
        for n in 0..MAX_UNLINKED_OCTETS / MAX_BODY_OCTETS {
            add(n).unwrap();
        }
        assert!(matches!(add(77), Err(StorageError::Unavailable(_))));
        assert_eq!(unlinked.add(ONE, key(78), place(1)), Ok(()));
        unlinked.forget(ONE, &[key(0)]);
        assert_eq!(add(77), Ok(()));
        assert!(matches!(add(79), Err(StorageError::Unavailable(_))));
    }

    #[test]
    fn a_body_is_kept_for_longer_than_it_can_be_linked() {
        let unlinked = Unlinked::default();
        unlinked.add(ONE, key(1), place(3)).unwrap();
        let now = Instant::now();
        assert_eq!(unlinked.pending_at(now, ONE, &key(1)), Some(place(3)));
        let later = now + LINKABLE_AGE;
        assert_eq!(unlinked.pending_at(later, ONE, &key(1)), None);
        unlinked.lock().forget_old(later);
        assert!(unlinked.any_in_segment(3), "a commit may be under way");
        unlinked.lock().forget_old(now + UNLINKED_AGE);
        assert!(!unlinked.any_in_segment(3));
        assert_eq!(unlinked.len(), 0);
    }

    #[test]
    fn a_body_that_nobody_was_given_is_forgotten() {
        let unlinked = Unlinked::default();
        for n in [1, 2] {
            unlinked.add(ONE, key(n), place(1)).unwrap();
        }
        unlinked.until_given(ONE, key(1)).given();
        drop(unlinked.until_given(ONE, key(2)));
        assert_eq!(unlinked.len(), 1);
        assert_eq!(unlinked.pending(ONE, &key(1)), Some(place(1)));
    }
}
