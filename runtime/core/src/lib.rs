//! What Postroom decides: mail rules, protocol sessions, the state of a mailbox.
//!
//! Nothing here opens a socket, reads a clock, starts a task or asks for randomness: every state
//! machine takes an input (and the time, where it matters) and returns what is to be done. The
//! package `postroom-node` performs it. `clippy.toml` and the tidy check keep that wall.

pub mod archive;
pub mod budget;
pub mod calls;
pub mod cluster;
pub mod deploy;
pub mod error;
pub mod hook;
pub mod imap;
pub mod lmtp;
pub mod mailbox;
pub mod mime;
pub mod records;
pub mod search;
pub mod session;
pub mod types;
