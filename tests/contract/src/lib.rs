//! The contract of `wit/`, run over real components in the node's own hosting and storage: what
//! `guest-stores/sdk` asks of a store natively, asked of the `.wasm` file that a node would load.
//!
//! [`Subject`] is a loaded component over an engine of its own; [`twin`] is the same store logic
//! linked natively, as the node's own traits want it.

mod build;
mod convert;
mod subject;
pub mod twin;

pub use build::{component, script};
pub use convert::Row;
pub use subject::{EngineKind, Subject, Wanted, load, run};
