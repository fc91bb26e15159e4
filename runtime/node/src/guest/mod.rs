//! Running store components: WebAssembly, one `wasmtime::Store` per instance, nothing granted
//! that was not asked for *and* allowed.
//!
//! Read on in this order: [`api`] is what the layers above call; `component` carries it out over a
//! `pool` of instances; `instance` is one of them and `host` what it may call; `load` brings a file
//! there, after `inspect` and `manifest` have said what it is.

pub mod api;
mod bindings;
mod cache;
mod component;
mod convert;
mod embedded;
mod engine;
mod error;
mod host;
mod inspect;
mod instance;
mod limits;
mod load;
mod manifest;
#[cfg(test)]
pub mod native_outside;
#[cfg(test)]
pub mod native_plain;
mod pool;
mod wasi;

pub use api::*;
pub use component::{Load, StoreComponent};
pub use embedded::default_store;
pub use error::LoadError;
pub use inspect::{HOST_PACKAGE, Inspection, Lift, SERVED_VERSION, STORE_PACKAGE, inspect};
pub use limits::{DirectoryGrant, Grants, HostConfig, Limits, MAX_ANSWER_TIME};
pub use load::{ComponentFrom, ComponentSource, Host};
pub use manifest::{AskedDirectory, Asks, Kind, MANIFEST_SECTION, Manifest, Medium, Schema};

#[cfg(test)]
mod tests;
