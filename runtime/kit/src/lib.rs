//! The conformance kit: every promise of `wit/` that binds a store component, as a case that can be
//! run over any store: one linked natively over maps (the guests' own tests), a component in the
//! node's hosting (`postroom store check`), a wrong one (this crate's tests).
//!
//! It depends on nothing, because both workspaces use it: the guests' SDK takes its [`records`] for
//! the WIT's types, so that a store's rows are the cases' rows, and the node runs the cases without
//! any of the bindings that a component is made with.
//!
//! Read on in this order: [`records`] are the WIT's; [`subject`] is what a case sees of a store;
//! [`cases`] are the cases; [`promises`] quotes the WIT by id; [`coverage`] says which promise has no
//! case, and why; [`run`] runs cases one by one, over a [`trace`] of their calls.

pub mod error;
pub mod records;

pub mod subject;

pub mod rng;
pub mod sample;

pub mod verdict;

pub mod cases;

pub mod coverage;
pub mod promises;

pub mod run;
pub mod trace;

pub use error::{Result, StoreError};
pub use records::Record;
pub use rng::Rng;
pub use sample::{Sample, change, message};
pub use subject::{Fault, Host, Knobs, MessageSubject, Parts, RecordSubject, Told};
pub use verdict::{Broken, Stop, Verdict};
