//! What performs: listeners, the WebAssembly engine, storage, the command line. Decisions are in
//! `postroom-core`.

pub mod cli;
pub mod conformance;
pub mod front;
pub mod guest;
pub mod mailbox;
pub mod message_store;
pub mod router;
pub mod storage;
