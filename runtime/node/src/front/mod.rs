//! The front: listeners, TLS, the driver of protocol sessions, the operators' HTTP API, logs and
//! metrics. It performs what the pure sessions of core decide, and reaches mail through the message
//! store only.
//!
//! The way of a connection: [`listener`] accepts and admits it, [`driver`] feeds its session and
//! does what that asks for, [`calls`] carries the session's calls to the message store.

pub mod admin;
pub mod admission;
pub mod calls;
pub mod driver;
pub mod listener;
pub mod meters;
pub mod outgoing;
pub mod stream;
pub mod tls;
pub mod trace;

#[cfg(test)]
mod tests;

pub use admission::Connections;
pub use calls::{Calls, OpenSession};
pub use driver::Timing;
pub use listener::{Door, Front, MakeSession, Peer, Protocol, lmtp_sessions};
pub use tls::Tls;
