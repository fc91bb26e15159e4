//! The default store component, built with the node and carried in it.

use bytes::Bytes;

use super::load::{ComponentFrom, ComponentSource};

/// `guest-stores/keyed`, built by `build.rs`.
const KEYED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyed.wasm"));

/// The default store: a row for each record on the host's ordered keys.
pub fn default_store() -> ComponentSource {
    ComponentSource {
        name: "keyed".to_owned(),
        from: ComponentFrom::Octets(Bytes::from_static(KEYED)),
    }
}
