//! A group of commits: planned against one state of the rows, then written by one statement, which
//! also checks that the state still holds.
//!
//! One statement is one transaction: the server begins when it has arrived, and ends it by itself at the Sync
//! that follows in the same write. So no lock waits for us, however long we are halted; for when the network
//! dies between the two, see `locked`. It locks the claims that the
//! commits were planned under (shared; whoever claims locks them exclusively), in the order of slots,
//! and moves the heads; where any is another than planned it divides by zero, and nothing is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::fetch::{self, Table};
use super::known::{GroupRows, Known, Pending, Wants};
use super::shared::Shared;
use crate::commit::{self, Plan};
use crate::rows::{LinkRow, Rows as _};
use crate::{Commit, StorageError, Write, key, reads};

/// How often a group is planned before it is given up. Each time reads what the last one missed:
/// twice is enough for nearly all.
const MAX_ROUNDS: u32 = 8;
/// Rows of a range that are read first: what forgetting old transactions looks at, and one more.
const FIRST_ROWS: i64 = 5;
/// How many times as many are read where these were not enough.
const MORE_ROWS: i64 = 8;

/// Why no group could be planned.
pub enum Unplanned {
    /// The database.
    Sql(Error),
    /// Planning wants more and more.
    Endless,
}

/// A planned group.
pub struct Planned {
    /// What becomes of each member if the group is written.
    pub members: Vec<Result<Plan, StorageError>>,
    /// What they change.
    pub pending: Pending,
    /// What they were planned against.
    pub known: Known,
}

/// What a commit is known to read.
fn wants(commits: &[&Commit]) -> Wants {
    let mut wants = Wants::default();
    for commit in commits {
        let space = commit.space;
        wants.key(key::head(space));
        if let Some(fence) = commit.fence {
            wants.key(key::claim(fence.slot));
        }
        for (at, _) in &commit.preconditions {
            wants.key(key::row(space, at));
        }
        let (start, end) = key::transactions(space);
        for done in &commit.transactions {
            let at = key::transaction(space, done.transaction);
            wants.key(at.clone());
            wants.range(at.clone(), end.clone());
            wants.range(start.clone(), at);
        }
        for write in &commit.writes {
            match write {
                Write::LinkBody { name, body } => {
                    wants.key(key::link(space, name));
                    wants.key(key::body(space, &body.key()));
                }
                Write::UnlinkBody { name } => wants.key(key::link(space, name)),
                Write::Put(..) | Write::Delete(_) | Write::DeleteRange { .. } => {}
            }
        }
    }
    wants
}

/// The bodies behind the names that are unlinked.
fn unlinked(commits: &[&Commit], known: &Known) -> Wants {
    let mut wants = Wants::default();
    for commit in commits {
        for write in &commit.writes {
            if let Write::UnlinkBody { name } = write
                && let Ok(Some(link)) = known.record::<LinkRow>(&key::link(commit.space, name))
            {
                let at = key::body(commit.space, &link.body);
                if !known.rows.contains_key(&at[..]) {
                    wants.key(at);
                }
            }
        }
    }
    wants
}

/// Plans commits one after the other. Each round reads everything again in one statement, so that all
/// of it is of one state.
pub async fn plan(
    client: &deadpool_postgres::Client,
    shared: &Shared,
    commits: &[&Commit],
) -> Result<Planned, Unplanned> {
    shared.look_back(client).await.map_err(Unplanned::Sql)?;
    // Before anything is read: another node's commit that lands meanwhile makes nothing old.
    let before: Vec<_> = commits.iter().map(|commit| shared.heads.known(commit.space)).collect();
    let mut wants = wants(commits);
    let mut first = FIRST_ROWS;
    for _ in 0..MAX_ROUNDS {
        let known = fetch::wanted(client, &wants, first).await.map_err(Unplanned::Sql)?;
        let more = unlinked(commits, &known);
        let _ = known.take_missed();
        if !more.is_empty() {
            wants.extend(more);
            continue;
        }
        let (members, pending) = plan_over(&known, shared, commits, &before);
        let missed = known.take_missed();
        if missed.is_empty() {
            return Ok(Planned { members, pending, known });
        }
        if missed.ranges.iter().any(|range| wants.ranges.contains(range)) {
            first *= MORE_ROWS;
        }
        wants.extend(missed);
    }
    Err(Unplanned::Endless)
}

fn plan_over(
    known: &Known,
    shared: &Shared,
    commits: &[&Commit],
    before: &[Option<u64>],
) -> (Vec<Result<Plan, StorageError>>, Pending) {
    let mut pending = Pending::default();
    let mut members = Vec::with_capacity(commits.len());
    for (commit, before) in commits.iter().zip(before) {
        let rows = GroupRows { known, pending: &pending };
        let planned = reads::head(known, commit.space)
            .and_then(|head| shared.heads.check(commit.space, *before, head))
            .and_then(|()| commit::plan(&rows, &shared.unlinked, commit));
        members.push(planned.map(|mut plan| {
            pending.apply(std::mem::take(&mut plan.changes));
            plan
        }));
    }
    (members, pending)
}

/// The statement that writes a group, in the parts that it has.
#[derive(Default)]
struct Statement<'a> {
    claims: Checks<'a>,
    moved: Checks<'a>,
    begun: Vec<(&'a [u8], &'a [u8])>,
    puts: Vec<(&'a [u8], &'a [u8])>,
    deletes: Vec<&'a [u8]>,
    /// Objects that are linked for the first time, and those whose last link goes.
    kept: Vec<&'a [u8]>,
    dead: Vec<&'a [u8]>,
    ranges: Vec<(&'a [u8], &'a [u8])>,
}

/// Rows that must be as they were: key, what it was, what it becomes.
type Checks<'a> = Vec<(&'a [u8], &'a [u8], &'a [u8])>;

/// Why a group was not written, or perhaps not.
pub enum Unwritten {
    /// Nothing had been sent.
    Before(Error),
    /// What the error says of it.
    During(Error),
}

/// Writes a group; the octets that went to the rows.
pub async fn write(
    client: &deadpool_postgres::Client,
    planned: &Planned,
    commits: &[&Commit],
) -> Result<usize, Unwritten> {
    let claims: BTreeSet<Vec<u8>> = commits
        .iter()
        .zip(&planned.members)
        .filter(|(_, member)| member.is_ok())
        .filter_map(|(commit, _)| commit.fence.map(|fence| key::claim(fence.slot)))
        .collect();
    let claims: BTreeMap<&[u8], &Bytes> = claims
        .iter()
        .filter_map(|at| Some((&at[..], planned.known.rows.get(&at[..])?.as_ref()?)))
        .collect();
    let (kept, dead) = objects(planned, commits);
    let mut statement = Statement {
        kept: kept.iter().map(|at| &at[..]).collect(),
        dead: dead.iter().map(|at| &at[..]).collect(),
        claims: claims.iter().map(|(at, was)| (*at, &was[..], &[][..])).collect(),
        ranges: planned.pending.hidden.iter().map(|(start, end)| (&start[..], &end[..])).collect(),
        ..Statement::default()
    };
    for (at, stored) in &planned.pending.keys {
        let at = &at[..];
        match (stored, Table::of(at)) {
            (Some(stored), Table::Heads) => {
                match planned.known.rows.get(at).and_then(Option::as_ref) {
                    Some(was) => statement.moved.push((at, was, stored)),
                    None => statement.begun.push((at, stored)),
                }
            }
            (Some(stored), Table::Rows) => statement.puts.push((at, stored)),
            (None, Table::Rows) => statement.deletes.push(at),
            (_, Table::Claims) | (None, Table::Heads) => {
                unreachable!("a commit moves heads and leaves claims alone")
            }
        }
    }
    let octets = statement.puts.iter().map(|(at, stored)| at.len() + stored.len()).sum();
    statement.run(client).await?;
    Ok(octets)
}

/// Makes a column of octets a parameter of the statement.
fn bind<'a>(values: &mut Vec<Vec<&'a [u8]>>, column: Vec<&'a [u8]>) -> String {
    values.push(column);
    format!("${}::bytea[]", values.len())
}

/// The objects that a group keeps, and those that it lets go. What happens to one in between shows
/// nowhere: one that is linked and let go again stays as it was, never linked.
fn objects(planned: &Planned, commits: &[&Commit]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    // Whether the first and the last of the commits that touch an object keep it.
    let mut touched: BTreeMap<Vec<u8>, (bool, bool)> = BTreeMap::new();
    for (commit, member) in commits.iter().zip(&planned.members) {
        let Ok(plan) = member else { continue };
        let kept = plan.kept_objects.iter().map(|id| (id, true));
        for (id, keeps) in kept.chain(plan.dead_objects.iter().map(|id| (id, false))) {
            let at = key::body(commit.space, id);
            touched.entry(at).and_modify(|(_, last)| *last = keeps).or_insert((keeps, keeps));
        }
    }
    let (mut kept, mut dead) = (Vec::new(), Vec::new());
    for (at, ends) in touched {
        match ends {
            (true, true) => kept.push(at),
            (false, false) => dead.push(at),
            (true, false) | (false, true) => {}
        }
    }
    (kept, dead)
}

impl Statement<'_> {
    async fn run(&self, client: &deadpool_postgres::Client) -> Result<(), Unwritten> {
        let (mut with, mut checks) = (Vec::new(), String::new());
        let mut values: Vec<Vec<&[u8]>> = Vec::new();
        if !self.claims.is_empty() {
            let at = bind(&mut values, self.claims.iter().map(|(at, ..)| *at).collect());
            let was = bind(&mut values, self.claims.iter().map(|(_, was, _)| *was).collect());
            with.push(format!(
                "held AS (SELECT c.key FROM claims c JOIN unnest({at}, {was}) AS w (key, was) \
                 ON c.key = w.key AND c.value = w.was ORDER BY c.key FOR SHARE OF c)"
            ));
            let _ = write!(checks, " AND (SELECT count(*) FROM held) = cardinality({at})");
        }
        if !self.moved.is_empty() {
            let at = bind(&mut values, self.moved.iter().map(|(at, ..)| *at).collect());
            let was = bind(&mut values, self.moved.iter().map(|(_, was, _)| *was).collect());
            let now = bind(&mut values, self.moved.iter().map(|(_, _, now)| *now).collect());
            with.push(format!(
                "moved AS (UPDATE heads h SET value = w.now FROM unnest({at}, {was}, {now}) \
                 AS w (key, was, now) WHERE h.key = w.key AND h.value = w.was RETURNING h.key)"
            ));
            let _ = write!(checks, " AND (SELECT count(*) FROM moved) = cardinality({at})");
        }
        if !self.begun.is_empty() {
            let at = bind(&mut values, self.begun.iter().map(|(at, _)| *at).collect());
            let now = bind(&mut values, self.begun.iter().map(|(_, now)| *now).collect());
            with.push(format!(
                "begun AS (INSERT INTO heads (key, value) SELECT * FROM unnest({at}, {now}) \
                 ON CONFLICT (key) DO NOTHING RETURNING key)"
            ));
            let _ = write!(checks, " AND (SELECT count(*) FROM begun) = cardinality({at})");
        }
        if !self.kept.is_empty() {
            let at = bind(&mut values, self.kept.clone());
            with.push(format!(
                "kept AS (DELETE FROM uploads WHERE key = ANY({at}) AND NOT dead RETURNING key)"
            ));
            let _ = write!(checks, " AND (SELECT count(*) FROM kept) = cardinality({at})");
        }
        if !self.dead.is_empty() {
            let at = bind(&mut values, self.dead.clone());
            with.push(format!(
                "dead AS (INSERT INTO uploads (key, at, dead) \
                 SELECT w.key, clock_timestamp(), true FROM unnest({at}) AS w (key) \
                 ON CONFLICT (key) DO UPDATE SET at = EXCLUDED.at, dead = true)"
            ));
        }
        let mut kept = String::new();
        if !self.puts.is_empty() {
            let at = bind(&mut values, self.puts.iter().map(|(at, _)| *at).collect());
            let now = bind(&mut values, self.puts.iter().map(|(_, now)| *now).collect());
            with.push(format!(
                "put AS (INSERT INTO rows (key, value) SELECT * FROM unnest({at}, {now}) \
                 ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value)"
            ));
            // One statement must not touch a row twice.
            kept = format!(" AND NOT r.key = ANY({at})");
        }
        if !self.ranges.is_empty() {
            let start = bind(&mut values, self.ranges.iter().map(|(start, _)| *start).collect());
            let end = bind(&mut values, self.ranges.iter().map(|(_, end)| *end).collect());
            with.push(format!(
                "cut AS (DELETE FROM rows r USING unnest({start}, {end}) AS w (a, b) \
                 WHERE r.key >= w.a AND r.key < w.b{kept})"
            ));
        }
        if !self.deletes.is_empty() {
            let at = bind(&mut values, self.deletes.clone());
            let mut apart = String::new();
            if !self.ranges.is_empty() {
                let start =
                    bind(&mut values, self.ranges.iter().map(|(start, _)| *start).collect());
                let end = bind(&mut values, self.ranges.iter().map(|(_, end)| *end).collect());
                apart = format!(
                    " AND NOT EXISTS (SELECT 1 FROM unnest({start}, {end}) AS w (a, b) \
                     WHERE r.key >= w.a AND r.key < w.b)"
                );
            }
            with.push(format!("gone AS (DELETE FROM rows r WHERE r.key = ANY({at}){apart})"));
        }
        let text = format!(
            "WITH {} SELECT 1 / (CASE WHEN true{checks} THEN 1 ELSE 0 END)",
            with.join(", ")
        );
        let statement = client.prepare_cached(&text).await.map_err(Unwritten::Before)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
        client.query_one(&statement, &values).await.map(|_| ()).map_err(Unwritten::During)
    }
}
