//! A whole cluster, simulated from one seed: three to seven nodes, each with the shipped machines of
//! `postroom_core::cluster` and `postroom_core::mailbox` and the thinnest driver around them; clients on every
//! node; one storage; a network. Time is simulated, and everything that is left to chance comes from the
//! seed: the same seed gives the same events.
//!
//! `POSTROOM_SEED=7 cargo test -p postroom-core --test simulation seeds -- --nocapture` runs one seed and
//! prints its log. `POSTROOM_RUNS=5000` runs so many instead of the few of the test command.

#![expect(clippy::disallowed_types, reason = "a run says how long it took")]

mod ask;
mod attach;
mod check;
mod client;
mod clock;
mod dice;
mod disk;
mod engine;
mod faults;
mod gossip;
mod links;
mod log;
mod office;
mod process;
mod run;
mod storage;
mod world;

/// A bug in what surrounds the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Storage does not compare the fence.
    NoFence,
    /// Storage does not remember transactions.
    NoKey,
    /// A write whose outcome is not known is made again under another id.
    NewIdWhenRepeated,
    /// The caller is told before the commit is durable.
    AnswerBeforeCommit,
    /// A slot is released while a commit is on its way.
    ReleaseBeforeSettled,
    /// The claim is believed to stand, without a question to storage.
    NoValidation,
    /// A session takes whatever it is answered.
    NoFloor,
}
