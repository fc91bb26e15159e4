//! What is derived from messages, remembered. The key is the account with the message's id, which
//! stands for its content: a store component that lies about ids mixes up its own account, never two.

use std::sync::Arc;

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mime::{self, Derived};
use postroom_core::types::{AccountId, MessageId};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::limits::LARGE_MESSAGE;

/// Octets that an entry takes beside its serialised form: allocations, links of the cache.
const OVERHEAD_OCTETS: u64 = 1_024;

type Key = (AccountId, MessageId);

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, (Arc<Derived>, u64)> for Weigh {
    fn weight(&self, _: &Key, (_, octets): &(Arc<Derived>, u64)) -> u64 {
        *octets
    }
}

/// A bounded cache of derived data.
pub struct DerivedCache {
    cache: Cache<Key, (Arc<Derived>, u64), Weigh>,
}

impl DerivedCache {
    /// A cache of at most so many octets.
    pub fn new(octets: u64) -> Self {
        let items = (octets / (2 * OVERHEAD_OCTETS)).max(1) as usize;
        Self { cache: Cache::with_weighter(items, octets, Weigh) }
    }

    /// What is remembered, and how many octets it takes.
    pub fn get(&self, account: AccountId, message: MessageId) -> Option<(Arc<Derived>, u64)> {
        self.cache.get(&(account, message))
    }

    /// Derives and remembers.
    pub async fn derive(
        &self,
        account: AccountId,
        message: MessageId,
        body: Bytes,
    ) -> Result<(Arc<Derived>, u64), StoreError> {
        let entry = weighed(derive(body).await?);
        self.cache.insert((account, message), entry.clone());
        Ok(entry)
    }
}

fn weighed(derived: Derived) -> (Arc<Derived>, u64) {
    let flavor = postcard::ser_flavors::Size::default();
    let octets = postcard::serialize_with_flavor(&derived, flavor).unwrap_or(0) as u64;
    // Lists and texts of their own allocation take about twice what they hold.
    (Arc::new(derived), 2 * octets + OVERHEAD_OCTETS)
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
