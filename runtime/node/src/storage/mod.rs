//! The host capability under everything: fenced commits, ordered keys, bodies.
//!
//! Nobody above this layer sees an engine. A *space* is the key range of one account (or of the
//! directory of domains and users); a key in it starts with its [`Area`]. All writes go through
//! [`Engine::commit`]: all or nothing, in one atomic step with the fence, the expected head and the
//! idempotency keys.

pub mod api;
pub mod txn;

pub use api::*;
pub use txn::{Txn, View};
