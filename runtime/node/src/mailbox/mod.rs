//! The open accounts of this node: each has one writer, which plans batches (`core::mailbox`), lets
//! the store components fill the host's transaction, and commits it with the ledger; and any number
//! of readers, which answer from snapshots of what is committed and never wait for a batch (E9).
//!
//! One write batch per account is in flight; what queues meanwhile forms the next. Nothing is seen
//! or announced before its commit is durable. When a commit's outcome is unknown the account is
//! read again before it goes on; the answer is found by the call's transaction id.

pub mod limits;

pub mod ask;

mod accounts;

mod account;

mod read;

mod whole;

mod recent;
mod restored;

mod shared;

mod actor;

mod batch;

mod perform;

mod settle;

mod load;

mod check;

mod count;

mod mend;

mod rounds;

mod sweep;

mod claims;

mod mint;

pub mod error;

pub use accounts::{Accounts, Env};
pub use ask::{
    Answer, Ask, CheckStep, Checked, DELETED, News, Request, SweepStep, Swept, SweptKind, Write,
};
pub use claims::Claims;
pub use mint::{Mint, now, random};
pub use recent::RecentBodies;
pub use rounds::current;
