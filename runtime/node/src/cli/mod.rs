//! The command line: `main` hands over here, and here is the composition root, the only place that
//! knows every layer.

pub mod args;
pub mod config;
pub mod identity;
pub mod operator;
pub mod output;
pub mod transfer;
