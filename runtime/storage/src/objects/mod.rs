//! Bodies as objects: one object a body, immutable, under a key that is never used again, in a folder of
//! its space; in a directory, or in a bucket of any S3. What is linked and what may go is the engine's
//! affair; here octets are put, read and removed.

mod config;
mod s3;
#[cfg(test)]
pub mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutOptions};
use tokio::time::timeout;

pub use self::config::{ObjectsConfig, S3Config};
use super::{BodyRef, Space, StorageError, reads};

/// How long a request may take, apart from the time for its octets. All that is sent again is within it.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// The slowest line on which bodies are carried, in octets a second: a request may take so much longer.
/// The longest body, of 256 MiB, may take 84 seconds in all.
const SLOWEST: u64 = 4 << 20;
/// Longest text of an error that is passed on, in octets: servers answer with whole documents.
const MAX_ERROR_OCTETS: usize = 300;

/// Why an object store cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The configuration is wrong, or does not fit the store: it has to be changed.
    #[error("bodies cannot be kept: {0}")]
    Wrong(String),
    /// The store cannot be asked for now.
    #[error("the object store cannot be reached: {0}")]
    Unavailable(String),
}

/// An object store.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Where it is, for people; without anything secret.
    place: Arc<str>,
    /// As [`REQUEST_TIME`].
    time: Duration,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.place).finish()
    }
}

impl Objects {
    /// In a directory that all nodes have mounted, or of the only node. Objects and the folders that
    /// name them are synced before they count as stored. Fails when the directory is not there.
    pub fn in_directory(directory: &Path) -> Result<Self, ObjectsError> {
        let wrong = |why: String| ObjectsError::Wrong(format!("{}: {why}", directory.display()));
        let store = LocalFileSystem::new_with_prefix(directory);
        let store = store.map_err(|error| wrong(one_line(&error)))?.with_fsync(true);
        let place = format!("directory {}", directory.display()).into();
        Ok(Self { store: Arc::new(store), place, time: REQUEST_TIME })
    }

    /// In a bucket.
    pub fn in_s3(config: &S3Config) -> Result<Self, ObjectsError> {
        let store = s3::open(config)?;
        let place = format!("S3 bucket {:?}", config.bucket).into();
        Ok(Self { store, place, time: REQUEST_TIME })
    }

    /// Puts, reads and removes an object, as bodies will be. Fails with `Wrong` when the store says that
    /// this will never do: there is no such bucket, or these credentials may not.
    pub async fn check(&self) -> Result<(), ObjectsError> {
        const OCTETS: &[u8] = b"postroom";
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| ObjectsError::Unavailable(error.to_string()))?;
        let at = object_store::path::Path::from(format!("check/{}", hex::encode(id)));
        let checking = async {
            self.store
                .put_opts(&at, Bytes::from_static(OCTETS).into(), PutOptions::default())
                .await?;
            let read = self.store.get(&at).await?.bytes().await?;
            self.store.delete(&at).await?;
            Ok(read)
        };
        match timeout(self.time, checking).await {
            Ok(Ok(read)) if read == OCTETS => Ok(()),
            Ok(Ok(_)) => Err(ObjectsError::Wrong(format!(
                "{} hands back something else than was put there",
                self.place
            ))),
            Ok(Err(error)) => Err(self.unusable(&error)),
            Err(_) => Err(ObjectsError::Unavailable(format!("{} does not answer", self.place))),
        }
    }

    fn unusable(&self, error: &Error) -> ObjectsError {
        let place = &self.place;
        match error {
            Error::NotFound { .. } => ObjectsError::Wrong(format!("{place} is not there")),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                ObjectsError::Wrong(format!(
                    "{place} refuses these credentials, or they may not put, get and delete there"
                ))
            }
            other => ObjectsError::Unavailable(format!("{place}: {}", one_line(other))),
        }
    }

    /// How long a request for so many octets may take.
    fn time_for(&self, octets: u64) -> Duration {
        self.time + Duration::from_millis(octets.saturating_mul(1000) / SLOWEST)
    }

    /// Stores a body. It is durable when this returns.
    pub async fn put(
        &self,
        space: Space,
        key: &[u8; 16],
        octets: Bytes,
    ) -> Result<(), StorageError> {
        let at = path(space, key);
        let time = self.time_for(octets.len() as u64);
        let put = self.store.put_opts(&at, octets.into(), PutOptions::default());
        match timeout(time, put).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(too_long()),
        }
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
        let fetching = async {
            let found = self.store.get_opts(&place, options).await?;
            let size = found.meta.size;
            // What has another size is not taken into memory.
            match size != body.size || (start == end && !whole) {
                true => Ok((size, Bytes::new())),
                false => Ok((size, found.bytes().await?)),
            }
        };
        let fetched = timeout(self.time_for(end - start), async {
            match fetching.await {
                Ok(fetched) => Ok(fetched),
                Err(error) if is_missing(&error) => Err(damaged(body, "is missing")),
                // A range behind the end of a short object is an error of no kind of its own.
                Err(error) => Err(self.why_not(&place, body, &error).await),
            }
        });
        let (size, octets) = fetched.await.unwrap_or_else(|_| Err(too_long()))?;
        if size != body.size || octets.len() as u64 != end - start {
            return Err(wrong_size(body, size));
        }
        if whole {
            reads::verify(body, &octets)?;
        }
        Ok(octets)
    }

    /// What a failed read means: damage where the object has another size or is not there.
    async fn why_not(
        &self,
        place: &object_store::path::Path,
        body: &BodyRef,
        error: &Error,
    ) -> StorageError {
        let options = GetOptions::default().with_head(true);
        match self.store.get_opts(place, options).await {
            Ok(found) if found.meta.size != body.size => wrong_size(body, found.meta.size),
            Ok(_) | Err(_) => unavailable(error),
        }
    }

    /// Removes a body. One that is not there is no error.
    pub async fn remove(&self, space: Space, key: &[u8; 16]) -> Result<(), StorageError> {
        match timeout(self.time, self.store.delete(&path(space, key))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if is_missing(&error) => Ok(()),
            Ok(Err(error)) => Err(unavailable(&error)),
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

/// Whether the object is not there, while the place of all objects is.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket"))
}

fn unavailable(error: &Error) -> StorageError {
    StorageError::Unavailable(match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            "the object store refuses our credentials".to_owned()
        }
        other => format!("the object store: {}", one_line(other)),
    })
}

/// An error in one line of bounded length.
fn one_line(error: &Error) -> String {
    let text = error.to_string().replace(['\n', '\r'], " ");
    let end = text.floor_char_boundary(MAX_ERROR_OCTETS);
    match end < text.len() {
        true => format!("{} …", &text[..end]),
        false => text,
    }
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
