//! Which node has which mailbox open, as pure decisions.
//!
//! The unit of ownership is the *slot*: 4,096 of them, into which accounts hash. A slot is open on at
//! most one node (E4). Three things know about it, and only the last decides:
//!
//! 1. **Gossip** ([`facts`], [`table`]): each node tells a bitmap of the slots that it has open; all
//!    of them make the ownership table (E7). It is quick, and may be wrong: it says whom to ask.
//! 2. **The peer that is asked**: it runs the call, or answers "not mine". That means "look at the
//!    record", whatever else the peer says.
//! 3. **The claim record in storage** ([`claim`]): slot, epoch, claimant. A slot is taken by a
//!    compare-and-set that raises the epoch. Every commit carries the *fence* (slot, epoch, nonce) and
//!    is refused in the same atomic step when the record differs. So two nodes may both believe that
//!    they have a slot, but only one of them can write.
//!
//! [`ownership`] is one node's machine over these. A call for a slot that is held here runs here. Held
//! elsewhere, it is sent there under its transaction id and remembered ([`pending`], E9). Held by nobody,
//! the node where the call was made claims the slot (E3). Along the way:
//!
//! - *The owner does not answer.* Its heartbeat row in storage decides: fresh, and the call is sent again
//!   within its deadline; stale, and the slot is taken over. A host that refuses the connection has no
//!   process, unless that has beaten since. One broken link never moves a slot. A claim that was seen to be new is not taken before a
//!   minimum tenure, so that two nodes that suspect each other do not steal in turn.
//! - *The owner was wrong about itself.* A pause, a partition: another node claimed. Its next commit is
//!   refused (*fenced*); it drops what it has in memory, tells the nodes of the sessions, and its calls are
//!   sent to the new owner under the same transaction ids, where each has its effect at most once.
//! - *Reads carry no fence.* SELECT and NOOP wait for a validation of the claim that was begun after they
//!   arrived; one query serves all who wait. Other reads are behind by at most a stated time, and stop when
//!   the owner cannot validate for longer. A session's node refuses what is older than it has seen
//!   ([`seen`]).
//! - *The owner drains, or hands a slot over* ([`balance`]). It starts no more calls, lets those that run
//!   end, resolves unknown outcomes, then marks the record as released. Calls that waited find the new
//!   owner. Nobody's session ends (E6).
//! - *Below the slot* the owner knows which session of which node has which mailbox active
//!   ([`visitors`]): a mailbox stays open until the last of them leaves (E5), or its node is gone (E8).
//!
//! Nothing here waits, reads a clock or draws a random number. `tests/ownership_model/` composes nodes
//! of these very machines with a model of storage and of a bad network, and checks every interleaving
//! within bounds. Planted bugs in what surrounds the machines show that it can fail.

pub mod balance;
pub mod claim;
pub mod facts;
pub mod ownership;
pub mod pending;
pub mod seen;
pub mod slot_set;
pub mod table;
pub mod visitors;

pub mod limits;

pub use balance::{Move, plan};
pub use claim::{Beat, ClaimRecord, Claimant, Fence, Release};
pub use facts::{Facts, FactsError, Generation, Load, NodeId, NodeState};
pub use limits::Timing;
pub use ownership::{
    Action, Claimed, Input, Moment, NoAnswer, Ownership, PeerAnswer, Ran, Released, Why,
};
pub use pending::{Ask, Attempt, CallId, CallKind, NewCall, Origin, Pending};
pub use seen::{Behind, Seen};
pub use slot_set::SlotSet;
pub use table::{Holder, Neighbours, Sighting, Standing, Table};
pub use visitors::{Left, Told, Visitor, Visitors};
