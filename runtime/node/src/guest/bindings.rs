//! What wasmtime generates from `wit/`: the only place that names the interface's generated types.
//!
//! The world has everything that a component may export; one has less, so nothing here instantiates//! the world as a whole: [`super::instance`] looks each exported interface up by itself.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package postroom:node;

        world everything {
            include postroom:store/store@0.1.0-draft.1;
            include postroom:store/delivery-hooks@0.1.0-draft.1;
        }
    ",
    world: "postroom:node/everything",
    // A host function that finds a broken invariant (a handle that the table does not know) ends
    // the instance; everything else is an error that the guest can act on.
    imports: { default: trappable },
    with: {
        "postroom:host/storage.view": super::host::ViewHandle,
        "postroom:host/storage.txn": super::host::TxnHandle,
        "postroom:host/storage.body": super::host::BodyHandle,
    },
});
