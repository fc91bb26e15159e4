//! The state of an account and its mailboxes, as pure decisions: what a change does, what its
//! records are, what each session may be told.
//!
//! An [`Account`] is what is committed. A [`Draft`] of it takes one [`Op`] after another; each plan
//! says which records change ([`Step`]) and what is answered when they are durable ([`Outcome`]).
//! node's `mailbox` carries the steps out in one commit with the ledger's rows, then puts the
//! draft in the account's place. Readers keep snapshots: everything large is shared until it is
//! changed.

pub mod changes;
pub mod extras;
pub mod index;
pub mod keywords;
pub mod ledger;
pub mod limits;
pub mod op;
pub mod plan;
pub mod sessions;
pub mod state;
pub mod view;

pub mod model;

#[cfg(test)]
mod tests;

pub use changes::Seen;
pub use extras::Extras;
pub use index::{Facts, Index};
pub use keywords::KeywordTable;
pub use op::{
    Arrival, CopyRow, MoveMessages, Op, Outcome, Planned, Settled, Step, StoreFlags, Target,
};
pub use plan::{Context, Draft};
pub use sessions::{Active, Sessions};
pub use state::{Account, Mailbox, Open};
