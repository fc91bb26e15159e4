//! Running store components: WebAssembly, one `wasmtime::Store` per instance, nothing granted
//! that was not asked for *and* allowed.
//!
//! Read on in this order: [`api`] is what the layers above call; `component` carries it out over a
//! `pool` of instances, whose places a `keeper` fills; `instance` is one of them, `host` what it may
//! call, `cpu` how its time is counted; `quarantine` remembers what instances were lost by; `load`
//! brings a file there, after `inspect` and `manifest` have said what it is, and `signature` whose it is.
//! `swap` replaces one component by another while calls run. `journal` remembers what they print and what
//! happened to them.

pub mod api;
mod bindings;
mod cache;
mod component;
mod convert;
mod cpu;
mod embedded;
mod engine;
mod error;
mod exports;
mod handles;
mod health;
mod hook;
mod host;
mod inspect;
mod instance;
mod journal;
mod keeper;
mod limits;
mod load;
mod manifest;
#[cfg(test)]
pub mod native_outside;
#[cfg(test)]
pub mod native_plain;
mod pool;
mod quarantine;
mod round;
mod running;
mod signature;
mod state;
mod swap;
mod wasi;

pub use api::*;
pub use component::{Load, StoreComponent};
pub use embedded::default_store;
pub use error::LoadError;
pub use inspect::{HOOKS, HOST_PACKAGE, Inspection, Lift, SERVED_VERSION, STORE_PACKAGE, inspect};
pub use journal::{Entry, Journal, What, Written};
pub use limits::{DirectoryGrant, Grants, HostConfig, Limits, MAX_ANSWER_TIME};
pub use load::{ComponentFrom, ComponentSource, Host};
pub use manifest::{
    AskedDirectory, Asks, Kind, MANIFEST_SECTION, Manifest, Medium, Schema, Writes,
};
pub use quarantine::Quarantined;
pub use round::{MAX_STORE_OCTETS, Round, Told, round_key};
pub use signature::{
    Keys, MAX_KEYS, MAX_SIGNATURE_OCTETS, PublicKey, SignedBy, signature_beside, signature_of,
    signature_path,
};
pub use swap::{GenerationInfo, SwappableStore, SwitchError};
pub use wasi::Listener;

#[cfg(test)]
pub mod tests;
