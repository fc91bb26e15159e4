//! The contract of `wit/`, run over real components in the node's own hosting and storage: what
//! the guests' own tests ask of a store natively, asked of the `.wasm` file that a node would load.
//!
//! [`Wanted`] loads a component over an engine of its own; [`twin`] is the same store logic linked
//! natively, as the node's own traits want it.

mod subject;
pub mod twin;

pub use postroom_system::components::{component, script};
pub use subject::{EngineKind, Wanted, load, run, twin_of};
