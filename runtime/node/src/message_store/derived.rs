//! What is derived from messages, remembered; and their headers, once somebody has asked for them.
//! The key is the account with the message's id, which stands for its content: a store component
//! that lies about ids mixes up its own account, never two.

use std::sync::Arc;

use bytes::Bytes;
use postroom_core::calls::Want;
use postroom_core::error::StoreError;
use postroom_core::mime::{self, Derived};
use postroom_core::types::{AccountId, MessageId};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::limits::{LARGE_MESSAGE, MAX_KEPT_HEADER};

/// Octets that an entry takes beside its serialised form: allocations, links of the cache.
const OVERHEAD_OCTETS: u64 = 1_024;

/// Which message: the account, and the content's id in it.
pub type Key = (AccountId, MessageId);

/// What is remembered of a message.
#[derive(Clone)]
pub struct Known {
    /// What is derived from it.
    pub derived: Arc<Derived>,
    /// Octets that this takes.
    pub octets: u64,
    /// Its header, if somebody has asked for it and it is not too large.
    pub header: Option<Bytes>,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Known> for Weigh {
    fn weight(&self, _: &Key, known: &Known) -> u64 {
        known.octets + known.header.as_ref().map_or(0, |header| header.len() as u64)
    }
}

/// A bounded cache of derived data.
pub struct DerivedCache {
    cache: Cache<Key, Known, Weigh>,
}

impl DerivedCache {
    /// A cache of at most so many octets.
    pub fn new(octets: u64) -> Self {
        let items = (octets / (2 * OVERHEAD_OCTETS)).max(1) as usize;
        Self { cache: Cache::with_weighter(items, octets, Weigh) }
    }

    /// What is remembered.
    pub fn get(&self, key: Key) -> Option<Known> {
        self.cache.get(&key)
    }

    /// Adds to what is remembered what is wanted and not known yet, out of the message's octets.
    ///
    /// # Errors
    /// `Unavailable` when the node shuts down.
    pub async fn learn(
        &self,
        key: Key,
        known: Option<Known>,
        want: Want,
        body: &Bytes,
    ) -> Result<Known, StoreError> {
        let (mut known, mut news) = match known {
            Some(known) => (known, false),
            None => (weighed(derive(body.clone()).await?), true),
        };
        if want.header && known.header.is_none() {
            known.header = known.derived.header(body).filter(|h| h.len() <= MAX_KEPT_HEADER);
            // A copy: a slice would keep the whole message in memory.
            known.header = known.header.as_deref().map(Bytes::copy_from_slice);
            news |= known.header.is_some();
        }
        if news {
            self.cache.insert(key, known.clone());
        }
        Ok(known)
    }
}

fn weighed(derived: Derived) -> Known {
    let flavor = postcard::ser_flavors::Size::default();
    let octets = postcard::serialize_with_flavor(&derived, flavor).unwrap_or(0) as u64;
    // Lists and texts of their own allocation take about twice what they hold.
    Known { derived: Arc::new(derived), octets: 2 * octets + OVERHEAD_OCTETS, header: None }
}

/// Derives, off the async threads when it takes long.
pub async fn derive(body: Bytes) -> Result<Derived, StoreError> {
    if body.len() < LARGE_MESSAGE {
        return Ok(mime::derive(&body));
    }
    off_threads(move || mime::derive(&body)).await
}

/// Runs what takes long off the async threads.
pub async fn off_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| match error.is_panic() {
        true => StoreError::Broken("reading a message".into()),
        false => StoreError::Unavailable("this node is shutting down".into()),
    })
}
