//! Bodies as objects: one object a body, immutable, under a key that is never used again, in a folder of
//! its space. What is linked and what may go is the engine's affair; here octets are put, read and
//! removed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutOptions};
use tokio::time::timeout;

use super::{BodyRef, Space, StorageError, reads};

/// How long one request may take: the longest body over a slow line.
const OBJECT_TIME: Duration = Duration::from_secs(120);

/// An object store.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
}

impl Objects {
    /// In a directory that all nodes have mounted, or of the only node. Objects and the folders that
    /// name them are synced before they count as stored. Fails when the directory is not there.
    pub fn in_directory(directory: &Path) -> Result<Self, StorageError> {
        let store = LocalFileSystem::new_with_prefix(directory).map_err(unavailable)?;
        Ok(Self { store: Arc::new(store.with_fsync(true)) })
    }

    /// Stores a body. It is durable when this returns.
    pub async fn put(
        &self,
        space: Space,
        key: &[u8; 16],
        octets: Bytes,
    ) -> Result<(), StorageError> {
        let at = path(space, key);
        in_time(self.store.put_opts(&at, octets.into(), PutOptions::default())).await?;
        Ok(())
    }

    /// Octets of a body from `at`, at most `max`; fewer only at its end. Only what is asked for is
    /// fetched. The whole body is held against its digest, a part against its size. `Damaged` when the
    /// object is missing or has another size.
    pub async fn read(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        let start = at.min(body.size);
        let end = at.saturating_add(max).min(body.size);
        let whole = start == 0 && end == body.size;
        let mut options = GetOptions::default();
        match (whole, start == end) {
            (true, _) => {}
            (false, true) => options.head = true,
            (false, false) => options.range = Some(GetRange::Bounded(start..end)),
        }
        let place = path(space, &body.key);
        let fetched = timeout(OBJECT_TIME, async {
            let found = self.store.get_opts(&place, options).await?;
            let size = found.meta.size;
            match start == end && !whole {
                true => Ok((size, Bytes::new())),
                false => Ok((size, found.bytes().await?)),
            }
        });
        let (size, octets) = match fetched.await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(Error::NotFound { .. })) => return Err(damaged(body, "is missing")),
            // A range behind the end of a short object is an error of no kind of its own.
            Ok(Err(error)) => {
                let size = self.size(&place, body).await?;
                return Err(match size == body.size {
                    true => unavailable(error),
                    false => wrong_size(body, size),
                });
            }
            Err(_) => return Err(too_long()),
        };
        if size != body.size || octets.len() as u64 != end - start {
            return Err(wrong_size(body, size));
        }
        if whole {
            reads::verify(body, &octets)?;
        }
        Ok(octets)
    }

    async fn size(
        &self,
        place: &object_store::path::Path,
        body: &BodyRef,
    ) -> Result<u64, StorageError> {
        let options = GetOptions::default().with_head(true);
        match timeout(OBJECT_TIME, self.store.get_opts(place, options)).await {
            Ok(Ok(found)) => Ok(found.meta.size),
            Ok(Err(Error::NotFound { .. })) => Err(damaged(body, "is missing")),
            Ok(Err(error)) => Err(unavailable(error)),
            Err(_) => Err(too_long()),
        }
    }

    /// Removes a body. One that is not there is no error.
    pub async fn remove(&self, space: Space, key: &[u8; 16]) -> Result<(), StorageError> {
        match timeout(OBJECT_TIME, self.store.delete(&path(space, key))).await {
            Ok(Ok(()) | Err(Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(unavailable(error)),
            Err(_) => Err(too_long()),
        }
    }
}

/// Where a body is: a folder of its space, so that all of an account is found and removed together.
fn path(space: Space, key: &[u8; 16]) -> object_store::path::Path {
    let folder = match space {
        Space::Directory => "directory".to_owned(),
        Space::Account(account) => hex::encode(account.0),
    };
    object_store::path::Path::from(format!("{folder}/{}", hex::encode(key)))
}

async fn in_time<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, StorageError> {
    match timeout(OBJECT_TIME, request).await {
        Ok(outcome) => outcome.map_err(unavailable),
        Err(_) => Err(too_long()),
    }
}

fn unavailable(error: Error) -> StorageError {
    StorageError::Unavailable(format!("the object store: {error}").replace('\n', " "))
}

fn too_long() -> StorageError {
    StorageError::Unavailable("the object store took too long".to_owned())
}

fn wrong_size(body: &BodyRef, size: u64) -> StorageError {
    damaged(body, &format!("has {size} octets instead of {}", body.size))
}

fn damaged(body: &BodyRef, what: &str) -> StorageError {
    StorageError::Damaged(format!("body {} {what}", hex::encode(body.key)))
}

#[cfg(test)]
mod tests {
    use postroom_core::types::AccountId;

    use super::*;

    const SPACE: Space = Space::Account(AccountId([3; 16]));

    async fn stored(objects: &Objects, octets: &'static [u8]) -> BodyRef {
        let digest = *blake3::hash(octets).as_bytes();
        let body = BodyRef { key: [9; 16], size: octets.len() as u64, digest };
        objects.put(SPACE, &body.key, octets.into()).await.unwrap();
        body
    }

    #[tokio::test]
    async fn a_missing_short_long_or_changed_object_is_damage_that_names_the_body() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::in_directory(directory.path()).unwrap();
        let body = stored(&objects, b"twelve octets").await;
        assert_eq!(objects.read(SPACE, &body, 0, 99).await, Ok("twelve octets".into()));
        assert_eq!(objects.read(SPACE, &body, 7, 3).await, Ok("oct".into()));
        let file = directory.path().join(format!("{}/{}", "03".repeat(16), "09".repeat(16)));
        for wrong in ["twelve octetz", "short", "", "longer than twelve octets"] {
            std::fs::write(&file, wrong).unwrap();
            let whole = objects.read(SPACE, &body, 0, 99).await;
            assert!(matches!(&whole, Err(StorageError::Damaged(why)) if why.contains("0909")));
            let part = objects.read(SPACE, &body, 7, 3).await;
            let same_size = wrong.len() == body.size as usize;
            assert_eq!(matches!(part, Err(StorageError::Damaged(_))), !same_size, "{part:?}");
        }
        std::fs::remove_file(&file).unwrap();
        for (at, max) in [(0, 99), (7, 3), (99, 1)] {
            let gone = objects.read(SPACE, &body, at, max).await;
            assert!(matches!(gone, Err(StorageError::Damaged(_))), "{gone:?}");
        }
    }

    #[tokio::test]
    async fn removing_is_repeatable_and_of_one_space() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::in_directory(directory.path()).unwrap();
        let body = stored(&objects, b"octets").await;
        objects.remove(Space::Directory, &body.key).await.unwrap();
        assert_eq!(objects.read(SPACE, &body, 0, 99).await, Ok("octets".into()));
        for _ in 0..2 {
            assert_eq!(objects.remove(SPACE, &body.key).await, Ok(()));
        }
    }
}
