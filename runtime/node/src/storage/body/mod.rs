//! Bodies: the octets of messages. Small ones travel inline in the commit that links them; large
//! ones are written to a segment first, and wait here until a commit links them.

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

/// Bodies up to this many octets stay inline.
pub const INLINE_OCTETS: usize = 16 << 10;

/// Most bodies that wait for their first link: a few dozen octets each, more than one node can have
/// in the air.
const MAX_UNLINKED: usize = 1 << 16;
/// How long a body that nothing links is kept: far longer than any call takes.
const UNLINKED_AGE: Duration = Duration::from_secs(60 * 60);

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

/// By space and body key: since when, and where.
type Waiting = HashMap<(Space, [u8; 16]), (Instant, Pending)>;

/// Bodies that are stored and that nothing has linked yet.
#[derive(Default)]
pub struct Unlinked(Mutex<Waiting>);

impl Unlinked {
    /// Remembers a new body. `Unavailable` when too many wait.
    pub fn add(&self, space: Space, key: [u8; 16], body: Pending) -> Result<(), StorageError> {
        let mut waiting = self.lock();
        if waiting.len() >= MAX_UNLINKED {
            waiting.retain(|_, (since, _)| since.elapsed() < UNLINKED_AGE);
        }
        if waiting.len() >= MAX_UNLINKED {
            return Err(StorageError::Unavailable("too many new bodies wait for a commit".into()));
        }
        waiting.insert((space, key), (Instant::now(), body));
        Ok(())
    }

    /// Forgets bodies that a commit has linked.
    pub fn linked(&self, space: Space, keys: &[[u8; 16]]) {
        if keys.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        for key in keys {
            waiting.remove(&(space, *key));
        }
    }

    /// Whether a body in this segment waits for its first link. Gives up those that have waited
    /// for too long.
    pub fn any_in_segment(&self, segment: u64) -> bool {
        let mut waiting = self.lock();
        waiting.retain(|_, (since, _)| since.elapsed() < UNLINKED_AGE);
        let there = |body: &Pending| matches!(body, Pending::Segment(at) if at.segment == segment);
        waiting.values().any(|(_, body)| there(body))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingBodies for Unlinked {
    fn pending(&self, space: Space, body: &[u8; 16]) -> Option<Pending> {
        self.lock().get(&(space, *body)).map(|(_, body)| body.clone())
    }
}
