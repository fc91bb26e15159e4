//! The host's handles as traits, so that the logic of a store runs inside a component, natively in
//! the node, and over maps in a test.
//!
//! Natively every future is `Send`, because the node's tasks move between threads; under
//! WebAssembly, which has one thread, none needs to be. [`MaybeSend`] says just that.

use std::future::Future;

use crate::error::{Result, StorageError};

/// `Send` natively, nothing under WebAssembly.
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send + ?Sized> MaybeSend for T {}

/// `Sync` natively, nothing under WebAssembly.
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSync: Sync {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Sync + ?Sized> MaybeSync for T {}

/// `Send` natively, nothing under WebAssembly.
#[cfg(target_arch = "wasm32")]
pub trait MaybeSend {}
#[cfg(target_arch = "wasm32")]
impl<T: ?Sized> MaybeSend for T {}

/// `Sync` natively, nothing under WebAssembly.
#[cfg(target_arch = "wasm32")]
pub trait MaybeSync {}
#[cfg(target_arch = "wasm32")]
impl<T: ?Sized> MaybeSync for T {}

/// A key with its value.
pub type Item = (Vec<u8>, Vec<u8>);

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Ascending by key.
    pub items: Vec<Item>,
    /// Whether more keys lie in the range; then there is at least one item.
    pub more: bool,
}

/// Reads one space (`postroom:host/storage.view`).
pub trait View: MaybeSend + MaybeSync {
    /// The host's bodies.
    type Body: Body;

    /// The values of keys, in their order; at most [`MAX_KEYS`] a call.
    fn get_many(
        &self,
        keys: Vec<Vec<u8>>,
    ) -> impl Future<Output = std::result::Result<Vec<Option<Vec<u8>>>, StorageError>> + MaybeSend;

    /// Keys from `start` to `end` (excluded; `None`: to the last), as many as the limits allow.
    fn scan(
        &self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        items: u32,
        octets: u32,
    ) -> impl Future<Output = std::result::Result<ScanPage, StorageError>> + MaybeSend;

    /// The body that was linked under a message's name.
    fn get_body(
        &self,
        name: String,
    ) -> impl Future<Output = std::result::Result<Option<Self::Body>, StorageError>> + MaybeSend;
}

/// Writes one space (`postroom:host/storage.txn`).
pub trait Txn: MaybeSend + MaybeSync {
    /// The host's bodies.
    type Body: Body;
    /// The host's views.
    type View: View<Body = Self::Body>;

    /// Committed state with this transaction's own writes over it.
    fn view(&self) -> Self::View;

    /// Sets a value.
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> std::result::Result<(), StorageError>;

    /// Takes a key away, if it is there.
    fn delete(&self, key: Vec<u8>) -> std::result::Result<(), StorageError>;

    /// Takes away the keys from `start` to `end` (excluded; `None`: to the last).
    fn delete_range(
        &self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
    ) -> std::result::Result<(), StorageError>;

    /// Links a body under a message's name.
    fn put_body(&self, name: String, body: Self::Body) -> std::result::Result<(), StorageError>;
}

/// The octets of one message (`postroom:host/storage.body`).
pub trait Body: MaybeSend + MaybeSync {
    /// Number of octets.
    fn size(&self) -> u64;

    /// BLAKE3 of them.
    fn digest(&self) -> Vec<u8>;

    /// Octets from `at`, at most `max` (and 1 MiB).
    fn read(
        &self,
        at: u64,
        max: u32,
    ) -> impl Future<Output = std::result::Result<Vec<u8>, StorageError>> + MaybeSend;
}

/// Most keys of one [`View::get_many`], as the WIT says.
pub const MAX_KEYS: usize = 4096;
/// Most items of one [`View::scan`], as the WIT says.
pub const MAX_ITEMS: u32 = 4096;
/// Most octets of one [`View::scan`], as the WIT says.
pub const MAX_OCTETS: u32 = 4 << 20;

/// The values of any number of keys, however large they are together.
pub async fn get_all<V: View>(view: &V, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
    if keys.len() == 1 {
        return Ok(view.get_many(keys).await?);
    }
    let (mut values, mut at_once) = (Vec::with_capacity(keys.len()), MAX_KEYS);
    while values.len() < keys.len() {
        let rest = &keys[values.len()..];
        let part = &rest[..rest.len().min(at_once)];
        match view.get_many(part.to_vec()).await {
            // Nobody knows before how much it is: four of the largest values always fit.
            Err(StorageError::Limit(_)) if part.len() > 1 => at_once = part.len() / 2,
            found => values.append(&mut found?),
        }
    }
    Ok(values)
}

/// The first key after this one.
pub fn key_after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// The end of the range of keys that begin with `prefix`; `None`: the last key of the space.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|octet| *octet != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
