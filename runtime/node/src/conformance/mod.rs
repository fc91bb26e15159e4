//! The conformance kit over the node's own hosting and storage: a component, as a node would load it,
//! as the subject of the kit's cases. `postroom store check` runs them, and so do the tests of the
//! stores in `guest-stores/`.

pub mod convert;

mod gate;
mod subject;

pub use subject::{Instances, Subject};
