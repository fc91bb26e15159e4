//! Bodies in the object store, from before they are there until after they have gone. Table `uploads`
//! has each object that no link keeps: those on their way to their first link, and those whose last link
//! went (`dead`). The commit that links a body for the first time takes its row away, and fails where
//! the row is gone or dead; the one that takes the last link away puts it there again, dead. So nothing
//! that has a link is ever removed.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;

use super::shared::Shared;
use crate::objects::Objects;
use crate::{BodyRef, Space, StorageError, key};

/// How long an object is kept after its last link went: longer than backups of the database are used.
pub const DEAD_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long one is kept that nothing has linked: far longer than it can be linked.
pub const UNLINKED_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two looks at what may go.
pub const COLLECT_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Most objects that one look removes: the rest waits for the next one, or for another node's.
const MAX_COLLECTED: i64 = 4096;

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
    const NOTE: &str = "INSERT INTO uploads (key, at, dead) VALUES ($1, clock_timestamp(), false)";
    let at = key::body(space, &body.key);
    match shared.change(NOTE, &[&at]).await {
        Ok(Some(1)) => objects.put(space, &body.key, octets).await,
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
