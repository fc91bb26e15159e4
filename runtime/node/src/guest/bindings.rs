//! What wasmtime generates from `wit/`: the only place that names the interface's generated types.
//!
//! The world has all four kinds of record; a component may export fewer, so nothing here
//! instantiates the world as a whole: [`super::instance`] looks each exported interface up by itself.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "store",
    // A host function that finds a broken invariant (a handle that the table does not know) ends
    // the instance; everything else is an error that the guest can act on.
    imports: { default: trappable },
    with: {
        "postroom:host/storage.view": super::host::ViewHandle,
        "postroom:host/storage.txn": super::host::TxnHandle,
        "postroom:host/storage.body": super::host::BodyHandle,
    },
});
