//! What performs: listeners, the WebAssembly engine, storage, the command line. Decisions are in
//! `postroom-core`.

pub mod cli;
pub mod conformance;
pub mod deploy;
pub mod front;
pub mod guest;
pub mod mailbox;
pub mod message_store;
pub mod router;

/// What nodes say to each other, a crate of its own for the same reason.
pub use postroom_cluster as cluster;
/// The lowest layer, a crate of its own: it is built and tested without the WebAssembly engine.
pub use postroom_storage as storage;
