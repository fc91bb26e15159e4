//! Which version of a store's component serves, on each node of a cluster: what is decided about a
//! deployment, without doing any of it.
//!
//! All of it is one record for each store, which every node reads from storage and may move on by
//! compare-and-set; nobody leads. A node says in a row of its own how far it is ([`Report`]). From
//! the record and the reports of the nodes that live, [`next`] says what the record becomes, and
//! [`duty`] what a node has to do. So a deployment outlives whoever began it, and whoever reads the
//! record later comes to the same.
//!
//! ```text
//!            all have staged            time is over, no fault
//! staging ───────────────────▶ canary ───────────────────────▶ probation ──────▶ permanent
//!    │ one cannot                 │ a fault                        │ a fault
//!    ▼                            ▼                                ▼
//!  refused                    rolled back                     rolled back
//! ```
//!
//! In which schema a store's rows are written is a part of the record too, and moves on by itself
//! once a version is permanent (`schema`).
//!
//! Time is not read here: whoever asks says how long the phase has been seen, by a clock that only
//! goes on. A node that starts later counts from then, so a phase is never cut short by a clock that
//! was set.

pub mod evidence;
mod judge;
mod record;
mod schema;
mod step;
#[cfg(test)]
mod tests;

pub use judge::fault;
pub use record::{
    Deployment, Ended, MAX_HISTORY, MAX_REASON_CHARS, MAX_STEPS, Outcome, Phase, Step, StoreRecord,
    Version, line,
};
pub use schema::{
    Failed, MAX_FAILED, Rows, RowsSeen, Schema, Sweep, Writer, next_rows, sweeps, waited_for,
};
pub use step::{
    Duty, NotBegun, Progress, Report, STAGE_TIME, SWITCH_TIME, Seen, begin, commit, duty,
    is_one_way, next, other_configuration, roll_back,
};
