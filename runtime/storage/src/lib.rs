//! The host capability under everything: fenced commits, ordered keys, bodies.
//!
//! Nobody above this layer sees an engine. A *space* is the key range of one account (or of the
//! directory of domains and users); a key in it starts with its [`Area`]. All writes go through
//! [`Engine::commit`]: all or nothing, in one atomic step with the fence, the expected head and the
//! idempotency keys.
//!
//! What a commit *means* is written once (`commit`, `reads`), over any ordered map of rows
//! (`rows`, `key`, `row`); an engine's folder holds only how its rows come to be durable.

pub mod api;
pub mod txn;

mod fresh;
mod overlay;

mod body;

mod beats;
mod commit;
mod counters;
mod reads;

pub mod keeping;
mod key;
mod row;
mod rows;

pub mod files;

pub mod objects;

pub mod memory;
pub mod postgres;
pub mod redb;

#[cfg(test)]
mod contract;

pub use self::memory::MemoryEngine;
pub use self::postgres::{PostgresEngine, PostgresOptions};
pub use self::redb::{OpenError, RedbEngine, RedbOptions};
pub use api::*;
pub use fresh::FreshBodies;
pub use objects::{Objects, ObjectsConfig, ObjectsError, S3Config};
pub use txn::{Attempt, Gate, Txn, View};
