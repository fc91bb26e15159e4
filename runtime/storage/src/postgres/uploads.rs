//! Bodies in the object store, from before they are there until after they have gone. Table `uploads`
//! has each object that no link keeps: those on their way to their first link, and those whose last link
//! went (`dead`). The commit that links a body for the first time takes its row away, and fails where
//! the row is gone or dead; the one that takes the last link away puts it there again, dead. So nothing
//! that has a link is ever removed.

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::shared::Shared;
use crate::objects::Objects;
use crate::{BodyRef, MAX_BODY_OCTETS, Space, StorageError, key};

/// How long an object is kept after its last link went: longer than backups of the database are used.
pub const DEAD_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long one is kept that nothing has linked: far longer than it can be linked.
pub const UNLINKED_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two looks at what may go.
pub const COLLECT_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Most objects that one look removes: the rest waits for the next one, or for another node's.
const MAX_COLLECTED: i64 = 4096;

/// Most octets of bodies that are on their way to the object store at a time: two of the longest. One more
/// waits until there is room.
const MAX_UPLOADING_OCTETS: usize = 2 * MAX_BODY_OCTETS;
/// How many octets one permit stands for: all of them together have to be a `u32`.
const UNIT: usize = 1 << 10;
/// Most bodies that wait for room: more than callers give up in the time that each waits. Their octets are
/// in memory too, with the callers.
const MAX_WAITING: usize = 1024;
/// How long one waits for room: less than callers wait for us.
const ROOM_TIME: Duration = Duration::from_secs(20);

/// Bodies on their way to the object store.
pub struct Uploading {
    room: Semaphore,
    waiting: AtomicUsize,
    /// As [`ROOM_TIME`].
    time: Duration,
}

impl Default for Uploading {
    fn default() -> Self {
        Self {
            room: Semaphore::new(MAX_UPLOADING_OCTETS / UNIT),
            waiting: AtomicUsize::new(0),
            time: ROOM_TIME,
        }
    }
}

impl Uploading {
    /// Waits for room for so many octets, in the order of those who ask. `Unavailable` when there is none in
    /// time, or when too many wait.
    pub async fn room(&self, octets: usize) -> Result<SemaphorePermit<'_>, StorageError> {
        let units = octets.div_ceil(UNIT).min(MAX_UPLOADING_OCTETS / UNIT) as u32;
        if let Ok(room) = self.room.try_acquire_many(units) {
            return Ok(room);
        }
        let _one = Waiting::among(&self.waiting)?;
        match timeout(self.time, self.room.acquire_many(units)).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// One who waits for room, as long as this is there.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize) -> Result<Self, StorageError> {
        let one = Self(waiting);
        match waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            true => Ok(one),
            false => Err(busy()),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn busy() -> StorageError {
    StorageError::Unavailable("too many large messages wait for the object store".to_owned())
}

/// Which objects may go.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// After the last link went.
    pub dead: Duration,
    /// Without a first link.
    pub unlinked: Duration,
}

/// Stores a body that nothing has linked yet.
pub async fn upload(
    shared: &Shared,
    objects: &Objects,
    space: Space,
    body: &BodyRef,
    octets: Bytes,
) -> Result<(), StorageError> {
    const NOTE: &str = "INSERT INTO uploads (key, at, dead) VALUES ($1, clock_timestamp(), false)
        RETURNING 1";
    let at = key::body(space, &body.key);
    match shared.change(NOTE, &[&at]).await {
        Ok(Some(rows)) if rows.len() == 1 => objects.put(space, &body.key, octets).await,
        Ok(_) => Err(StorageError::Unavailable("the database was lost".to_owned())),
        // The note alone is no harm: the collector finds it.
        Err(StorageError::UnknownOutcome(why)) => Err(StorageError::Unavailable(why)),
        Err(error) => Err(error),
    }
}

/// Removes objects that may go; how many.
pub async fn collect(
    shared: &Shared,
    objects: &Objects,
    grace: Grace,
) -> Result<usize, StorageError> {
    const MARK: &str = "UPDATE uploads SET dead = true, at = '-infinity'
        WHERE NOT dead AND at < clock_timestamp() - make_interval(secs => $1)";
    const FORGET: &str = "DELETE FROM uploads WHERE key = $1 AND dead";
    // First no link is accepted any more, then the object goes.
    shared.change(MARK, &[&grace.unlinked.as_secs_f64()]).await?;
    let due = shared.due_uploads(grace.dead.as_secs_f64(), MAX_COLLECTED).await?;
    let mut removed = 0;
    for at in due {
        let Some((space, body)) = key::body_of(&at) else {
            return Err(StorageError::Damaged(format!("upload {} is no body", hex::encode(&at))));
        };
        objects.remove(space, &body).await?;
        shared.change(FORGET, &[&&at[..]]).await?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes objects that may go, again and again, as long as the engine lives.
pub async fn run(shared: Weak<Shared>, objects: Objects, grace: Grace, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.open().is_err() {
            return;
        }
        match collect(&shared, &objects, grace).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "bodies that nothing links have been removed"),
            Err(error) => tracing::warn!(%error, "bodies that nothing links could not be removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_beyond_the_room_waits_until_another_one_is_there() {
        let uploading = Uploading::default();
        let one = uploading.room(MAX_BODY_OCTETS).await.unwrap();
        let _other = uploading.room(MAX_BODY_OCTETS).await.unwrap();
        let mut next = Box::pin(uploading.room(MAX_BODY_OCTETS));
        assert!(futures::poll!(&mut next).is_pending());
        assert_eq!(uploading.waiting.load(Ordering::Relaxed), 1);
        drop(one);
        assert!(next.await.is_ok());
        assert_eq!(uploading.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_room_for_ever() {
        let uploading = Uploading { time: Duration::from_millis(20), ..Uploading::default() };
        let _all = uploading.room(MAX_UPLOADING_OCTETS).await.unwrap();
        let refused = uploading.room(1).await.err();
        assert!(matches!(refused, Some(StorageError::Unavailable(_))), "{refused:?}");
        assert_eq!(uploading.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn no_more_than_a_number_wait() {
        let uploading = Uploading::default();
        let _all = uploading.room(MAX_UPLOADING_OCTETS).await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(uploading.room(1))).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert!(uploading.room(1).await.is_err());
        drop(waiting.pop());
        let mut one = Box::pin(uploading.room(1));
        assert!(futures::poll!(&mut one).is_pending());
    }
}
