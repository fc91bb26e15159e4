//! What performs: listeners, the WebAssembly engine, storage, the command line. Decisions are in
//! `postroom-core`.

pub mod cli;
pub mod conformance;
pub mod front;
pub mod guest;
pub mod mailbox;
pub mod message_store;
pub mod router;

/// The lowest layer, a crate of its own: it is built and tested without the WebAssembly engine.
pub use postroom_storage as storage;
