//! Writes Postroom store components in Rust.
//!
//! A store is a type that implements [`Records`] for the kinds of record that it keeps and
//! [`Messages`] for messages, over the host's handles ([`View`], [`Txn`], [`Body`]). What each
//! function promises is written in `wit/store.wit`, which this crate's types come from. [`export!`]
//! makes a component of it when the crate is built for `wasm32-wasip2`:
//!
//! ```text
//! #[derive(Default)]
//! pub struct MyStore;
//! // impl Records<User> for MyStore { … }
//! postroom_guest::export! {
//!     MyStore: users;
//!     manifest: { "schema": { "reads": [1, 1], "writes": 1 } }
//! }
//! ```
//!
//! A hook is a type that implements [`Hooks`]; it is exported in the same way, as `hooks`.
//!
//! For every other target the same crate is an ordinary library: the node links it for comparison,
//! and its tests run over [`testing`], with no component and no host.

#[doc(hidden)]
pub mod bindings;
pub mod check;
pub mod codec;
pub mod cursor;
mod error;
pub mod header;
mod hook;
mod host;
mod records;
mod row_per_record;
mod schema;
mod store;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod export;
mod manifest;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

/// What the operator has set for this component under a name (`postroom:host/settings`).
#[cfg(target_arch = "wasm32")]
pub fn setting(name: &str) -> Option<String> {
    bindings::domains::postroom::host::settings::get(name)
}

#[cfg(not(target_arch = "wasm32"))]
pub use postroom_kit::{message_contract, record_contract};

pub use check::CheckAsk;
pub use error::{Result, StorageError, StoreError};
pub use hook::{Changes, Delivered, Delivery, Field, Hooks, Refusal, Verdict};
pub use host::{
    Body, Item, MAX_ITEMS, MAX_KEYS, MAX_OCTETS, MaybeSend, MaybeSync, ScanPage, Txn, View,
    get_all, key_after, prefix_end,
};
pub use records::{
    Call, CheckPage, Domain, Finding, Id, Mailbox, Message, MessageChange, MessagePlace, Page,
    Property, Record, Timestamp, User,
};
pub use row_per_record::RowPerRecord;
pub use schema::Schemas;
pub use store::{Found, Messages, New, NewMessage, PageAsk, Part, Records};
