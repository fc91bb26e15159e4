//! The components under test, compiled once for all cases.

use std::path::Path;
use std::sync::LazyLock;

use postroom_node::guest::{
    ComponentFrom, ComponentSource, Grants, Host, HostConfig, Limits, Stores, default_store,
};

use crate::fixture::Store;

/// Compiled code is shared by the cases of this process, and by the next run.
static HOST: LazyLock<Host> = LazyLock::new(|| {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-stores");
    Host::new(HostConfig { cache: Some(cache), ..HostConfig::default() }).unwrap()
});

/// A fresh pair of instances of a store.
pub async fn stores(store: Store) -> Stores {
    let source = match store {
        Store::Keyed => default_store(),
        Store::Memory => ComponentSource {
            name: "memory".into(),
            from: ComponentFrom::File(Path::new(env!("POSTROOM_GUESTS")).join("memory.wasm")),
        },
    };
    let limits = Limits { instances: 2, ..Limits::default() };
    Stores::all(HOST.load(source, &Grants::default(), limits).await.unwrap())
}
