//! Running store components.

pub mod api;
pub use api::*;
