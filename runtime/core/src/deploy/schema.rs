//! Schemas of a store's rows: which may be in storage, in which one rows are written, and when that
//! moves on.
//!
//! A version on probation writes what the one before it reads: the host says which schema is to be
//! written, in each call. Once it is permanent, and every live node serves something that reads its
//! schema, that one is written (a *round* begins); rows then come into it as they are written, and the
//! rest by a *sweep*, which begins only when every live node has said that it writes so. When the sweep
//! has been everywhere, no other schema is in storage any more.
//!
//! A node that is not heard is not waited for. It may be halted, so it looks at the round before it
//! opens an account, and whatever it had open is fenced off by whoever takes it over.

use serde::{Deserialize, Serialize};

use super::record::{StoreRecord, Version, line};

/// Accounts that a sweep names whose rows it could not bring to the new schema; more are counted only.
pub const MAX_FAILED: usize = 100;

/// Schemas of a component's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Reads rows of the first to the last of these.
    pub reads: (u32, u32),
    /// Writes rows of this one, unless it is told another.
    pub writes: u32,
    /// Writes any from this one to `writes`, as it is told, and brings rows from one to another; none:
    /// it does not listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_from: Option<u32>,
}

impl Schema {
    /// Whether it reads all from the first to the last of these.
    pub fn reads_all(self, (first, last): (u32, u32)) -> bool {
        self.reads.0 <= first && last <= self.reads.1
    }

    /// Whether it writes this one when it is told to.
    pub fn can_write(self, schema: u32) -> bool {
        (self.writes_from.unwrap_or(self.writes)..=self.writes).contains(&schema)
    }

    /// Whether it writes as it is told, and brings rows to another schema.
    pub fn listens(self) -> bool {
        self.writes_from.is_some()
    }
}

/// The rows of a store that are in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// None has an older schema.
    pub first: u32,
    /// None has a newer one.
    pub last: u32,
    /// The one that is written.
    pub writes: u32,
    /// Counts how often that has changed: whoever knows of an earlier round must not write.
    pub round: u64,
}

impl Rows {
    /// Those of a version, where nothing has been noted about them. It serves, so it reads them all; it
    /// may be one that was deployed before rows were noted, over rows of another version.
    pub fn of(version: &Version) -> Self {
        let Schema { reads: (first, last), writes, .. } = version.schema;
        Self { first, last: last.min(writes), writes, round: 0 }
    }

    /// The oldest and the newest schema that may be there.
    pub fn span(self) -> (u32, u32) {
        (self.first, self.last)
    }

    /// With this schema besides.
    pub(super) fn with(self, schema: u32) -> Self {
        Self { first: self.first.min(schema), last: self.last.max(schema), ..self }
    }

    /// From now on this schema is written.
    fn onward(self, schema: u32) -> Self {
        Self { writes: schema, round: self.round + 1, ..self.with(schema) }
    }

    /// Whether no row has another schema than the one that is written.
    pub fn are_settled(self) -> bool {
        (self.first, self.last) == (self.writes, self.writes)
    }

    /// As people read it: `schema 1`, `schemas 1 to 2`.
    pub fn shown(self) -> String {
        match self.first == self.last {
            true => format!("schema {}", self.first),
            false => format!("schemas {} to {}", self.first, self.last),
        }
    }
}

/// What a node says about the rows of a store, while these are not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// What it serves.
    pub schema: Schema,
    /// It writes what is written in this round.
    pub round: u64,
}

/// An account whose rows a sweep could not bring to the new schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The account; none: the directory.
    pub account: Option<String>,
    /// Why, in one line.
    pub why: String,
}

/// How far a sweep is, as the node says that carries it out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// In which round.
    pub round: u64,
    /// The node.
    pub node: String,
    /// The directory is done.
    pub directory: bool,
    /// The last account that was looked at; others go on after it.
    pub after: Option<String>,
    /// Accounts that were looked at.
    pub accounts: u64,
    /// Accounts that there were when the sweep began.
    pub of: u64,
    /// Records that were looked at.
    pub records: u64,
    /// Rows that were written anew.
    pub rewritten: u64,
    /// Those that have to be tried again, at most [`MAX_FAILED`].
    pub failed: Vec<Failed>,
    /// How many these are.
    pub failures: u64,
    /// It has been everywhere.
    pub done: bool,
}

impl Sweep {
    /// Notes an account that has to be tried again.
    pub fn fails(&mut self, account: Option<String>, why: &str) {
        self.failures += 1;
        if self.failed.len() < MAX_FAILED {
            self.failed.push(Failed { account, why: line(why) });
        }
    }

    /// Notes what became of one that was tried again.
    pub fn tried_again(&mut self, account: &Option<String>, why: Option<String>) {
        let Some(at) = self.failed.iter().position(|failed| failed.account == *account) else {
            return;
        };
        match why {
            Some(why) => self.failed[at].why = line(&why),
            None => {
                self.failed.remove(at);
                self.failures = self.failures.saturating_sub(1);
            }
        }
    }

    /// The end of a pass: whether it was the last one.
    pub fn passed(&mut self) -> bool {
        self.done = self.failures == 0;
        self.done
    }

    /// Another pass, with nothing looked at yet; what was rewritten stays counted.
    pub fn again(&self) -> Self {
        let Self { round, node, of, rewritten, .. } = self.clone();
        Self { round, node, of, rewritten, ..Self::default() }
    }
}

/// What the live nodes have said about a store's rows.
pub struct RowsSeen<'a> {
    /// The nodes that live, in their order.
    pub live: &'a [&'a str],
    /// What each of them has said, in the same order.
    pub writers: &'a [Option<Writer>],
    /// The sweep, if one has begun.
    pub sweep: Option<&'a Sweep>,
}

impl StoreRecord {
    /// The rows in storage; `configured` is the component of the configuration.
    pub fn rows(&self, configured: &Version) -> Rows {
        self.rows.unwrap_or_else(|| Rows::of(self.permanent.as_ref().unwrap_or(configured)))
    }

    /// The schema that is to be written in the end, if that is another one than now, or if rows of
    /// others are still there.
    fn goal(&self, configured: &Version) -> Option<u32> {
        let version = self.permanent.as_ref().unwrap_or(configured);
        let (goal, rows) = (version.schema.writes, self.rows(configured));
        (goal != rows.writes || !rows.are_settled()).then_some(goal)
    }

    /// Whether nodes have to say how they write.
    pub fn asks_writers(&self, configured: &Version) -> bool {
        self.under_way.is_none() && self.goal(configured).is_some()
    }
}

/// The record with what has come to be true of the rows; none: it stays as it is for now.
pub fn next_rows(
    record: &StoreRecord,
    configured: &Version,
    seen: &RowsSeen<'_>,
) -> Option<StoreRecord> {
    if record.under_way.is_some() {
        return None;
    }
    let noted = |rows| Some(StoreRecord { rows: Some(rows), ..record.clone() });
    let rows = record.rows(configured);
    let Some(goal) = record.goal(configured) else {
        return record.rows.is_none().then(|| noted(rows)).flatten();
    };
    if goal != rows.writes {
        let all = waited_for(record, configured, seen).is_empty();
        return all.then(|| noted(rows.onward(goal))).flatten();
    }
    let swept = seen.sweep.is_some_and(|sweep| sweep.done && sweep.round == rows.round);
    match swept && may_sweep(record, configured, seen) {
        true => noted(Rows { first: goal, last: goal, ..rows }),
        false => record.rows.is_none().then(|| noted(rows)).flatten(),
    }
}

/// The live nodes that have not done their part yet: as long as the new schema is not written, to serve
/// what reads it; then to write it, and to say so.
pub fn waited_for<'a>(
    record: &StoreRecord,
    configured: &Version,
    seen: &RowsSeen<'a>,
) -> Vec<&'a str> {
    let (Some(goal), None) = (record.goal(configured), &record.under_way) else {
        return Vec::new();
    };
    let rows = record.rows(configured);
    let ready = |Writer { schema, round }: &Writer| match goal == rows.writes {
        true => *round == rows.round && schema.listens() && schema.can_write(goal),
        false => schema.reads_all(rows.onward(goal).span()) && schema.can_write(goal),
    };
    let late = seen.live.iter().zip(seen.writers);
    late.filter(|(_, writer)| !writer.as_ref().is_some_and(ready)).map(|(node, _)| *node).collect()
}

/// Whether every live node writes what is to be written, so that what was swept stays so.
fn may_sweep(record: &StoreRecord, configured: &Version, seen: &RowsSeen<'_>) -> bool {
    let same = record.goal(configured) == Some(record.rows(configured).writes);
    record.under_way.is_none() && same && waited_for(record, configured, seen).is_empty()
}

/// The round that a node has to sweep now; none: nothing is to be swept, or another one does it.
pub fn sweeps(
    record: &StoreRecord,
    configured: &Version,
    node: &str,
    seen: &RowsSeen<'_>,
) -> Option<u64> {
    let first = seen.live.first().is_some_and(|first| *first == node);
    (first && may_sweep(record, configured, seen)).then(|| record.rows(configured).round)
}
