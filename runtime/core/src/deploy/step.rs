//! How a record moves on, and what a node has to do about it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::judge::fault;
use super::record::{Deployment, Outcome, Phase, Step, StoreRecord, Version, line};
use super::schema::{Rows, Schema};

/// How long all nodes may take to fetch, verify and compile a component: a Python component takes
/// tens of seconds on a slow machine.
pub const STAGE_TIME: Duration = Duration::from_secs(180);
/// How long a node that has staged it may take to let it serve. Longer than the calls of the version before
/// the last may run on after their time is over: until then there would be a third generation.
pub const SWITCH_TIME: Duration = Duration::from_secs(150);

/// How far a node is with a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "why")]
pub enum Progress {
    /// It has the component ready.
    Staged,
    /// It cannot let it serve; why.
    Refused(String),
    /// The component serves there.
    Serving,
    /// The node was started anew while the component served there: the one before it serves.
    Held,
    /// The node has gone back to the one before; why.
    Tripped(String),
}

/// What a node says about the deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which deployment.
    pub deployment: u64,
    /// Which start of the node.
    pub generation: u64,
    /// How far it is.
    pub progress: Progress,
    /// What it has seen of the component.
    pub evidence: Evidence,
}

/// Who asks, and what they see beside the record.
pub struct Seen<'a> {
    /// The node that asks.
    pub node: &'a str,
    /// Its clock, in seconds since the Unix epoch: for history only.
    pub now: i64,
    /// How long it has seen the record in this phase.
    pub phase_for: Duration,
    /// How long it has seen a live node owe what it owes now in this phase: to make the version ready, or to
    /// let it serve.
    pub owing: &'a dyn Fn(&str) -> Duration,
    /// The nodes that live; the asking one is among them.
    pub live: &'a BTreeSet<String>,
    /// A node's report about the deployment under way, if it has made one.
    pub report: &'a dyn Fn(&str) -> Option<Report>,
}

impl Seen<'_> {
    fn step(&self, what: impl Into<String>) -> Step {
        Step { at: self.now, node: self.node.to_owned(), what: what.into() }
    }
}

/// What a node has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty<'a> {
    /// Has to be ready to serve, if anything has.
    pub stage: Option<&'a Deployment>,
    /// Has to serve; none: what is permanent.
    pub serve: Option<&'a Deployment>,
}

/// Why a deployment is not begun, by what its operator has to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// Another one is under way.
    #[error(
        "deployment {number} ({label}) is under way, in its {phase}: `postroom store commit` or `rollback` ends it"
    )]
    UnderWay {
        /// Its number.
        number: u64,
        /// What it deploys.
        label: String,
        /// How far it is.
        phase: &'static str,
    },
    /// Nothing has replaced the component of the configuration.
    #[error("no deployment stands over the configuration, which names {0}")]
    NothingToForget(String),
    /// It serves already.
    #[error("{0} serves already")]
    Serves(String),
    /// It cannot read what is kept.
    #[error("{label} reads rows of schemas {first} to {last}, and those that are kept have {kept}")]
    CannotRead {
        /// What was to be deployed.
        label: String,
        /// The first schema that it reads.
        first: u32,
        /// The last one.
        last: u32,
        /// Those that may be in storage.
        kept: String,
    },
    /// It could not read what it would write.
    #[error("{label} writes schema {writes}, which it does not read")]
    CannotReadItself {
        /// What was to be deployed.
        label: String,
        /// What it writes.
        writes: u32,
    },
    /// There would be no way back.
    #[error(
        "{label} writes schema {writes} and cannot be told to write schema {kept}, and {before} does not read what it writes: once it has written there is no way back; --no-rollback says that this is meant"
    )]
    NoWayBack {
        /// What was to be deployed.
        label: String,
        /// What it writes.
        writes: u32,
        /// What is written now.
        kept: u32,
        /// What serves now.
        before: String,
    },
    /// The canary is no live node.
    #[error("no node {0} lives; `postroom cluster status` names those that do")]
    NoCanary(String),
}

/// Begins a deployment. `serves` is what serves now, wherever that comes from.
pub fn begin(
    record: &StoreRecord,
    serves: &Version,
    mut deployment: Deployment,
    seen: &Seen<'_>,
) -> Result<StoreRecord, NotBegun> {
    if let Some(under_way) = &record.under_way {
        let (number, label) = (under_way.number, under_way.version.label.clone());
        return Err(NotBegun::UnderWay { number, label, phase: under_way.phase.name() });
    }
    let new = &deployment.version;
    if deployment.configured && record.permanent.is_none() {
        return Err(NotBegun::NothingToForget(new.label.clone()));
    }
    // Who goes back to the configuration may find there what was deployed: only the record changes then.
    if new.digest == serves.digest && !deployment.configured {
        return Err(NotBegun::Serves(new.label.clone()));
    }
    let (rows, (first, last)) = (record.rows(serves), new.schema.reads);
    let label = new.label.clone();
    if !new.schema.reads_all(rows.span()) {
        return Err(NotBegun::CannotRead { label, first, last, kept: rows.shown() });
    }
    let writes = new.schema.writes;
    if !new.schema.reads_all((writes, writes)) {
        return Err(NotBegun::CannotReadItself { label, writes });
    }
    if is_one_way(rows, &serves.schema, &new.schema) && !deployment.no_rollback {
        let (kept, before) = (rows.writes, serves.label.clone());
        return Err(NotBegun::NoWayBack { label, writes, kept, before });
    }
    if let Some(canary) = deployment.canary.as_ref().filter(|canary| !seen.live.contains(*canary)) {
        return Err(NotBegun::NoCanary(canary.clone()));
    }
    deployment.number = record.next_number();
    deployment.phase = Phase::Staging;
    deployment.steps = vec![seen.step(match deployment.configured {
        true => "begun, back to the configuration",
        false => "begun",
    })];
    deployment.one_way = is_one_way(rows, &serves.schema, &deployment.version.schema);
    Ok(StoreRecord { under_way: Some(deployment), rows: Some(rows), ..record.clone() })
}

/// Whether what serves could not read what a version would write in its place.
pub fn is_one_way(rows: Rows, serves: &Schema, new: &Schema) -> bool {
    !new.can_write(rows.writes) && !serves.reads_all((new.writes, new.writes))
}

/// What a version may write as soon as it serves, if it does not write what it is told.
fn with_what_it_writes(rows: Rows, version: &Version) -> Rows {
    match version.schema.can_write(rows.writes) {
        true => rows,
        // What was swept before has to be swept again.
        false => Rows { round: rows.round + 1, ..rows.with(version.schema.writes) },
    }
}

/// Makes what is on probation permanent, whether it serves everywhere yet or not; none: nothing is.
pub fn commit(record: &StoreRecord, seen: &Seen<'_>) -> Option<StoreRecord> {
    let on_probation =
        record.under_way.as_ref().is_some_and(|under_way| under_way.phase == Phase::Probation);
    on_probation.then(|| record.clone().ended(Outcome::Permanent, seen.step("committed")))
}

/// Gives up what is under way, because an operator or a fault says so; none: nothing is under way.
pub fn roll_back(record: &StoreRecord, why: &str, seen: &Seen<'_>) -> Option<StoreRecord> {
    let under_way = record.under_way.as_ref()?;
    let why = line(why);
    let outcome = match under_way.phase {
        Phase::Staging => Outcome::Refused(why),
        Phase::Canary | Phase::Probation => Outcome::RolledBack(why),
    };
    let step = seen.step(outcome.name());
    Some(record.clone().ended(outcome, step))
}

/// What the record becomes; none: it stays as it is for now.
pub fn next(record: &StoreRecord, seen: &Seen<'_>) -> Option<StoreRecord> {
    let under_way = record.under_way.as_ref()?;
    // Reports of nodes that do not live any more say nothing about who serves mail.
    let live = || seen.live.iter().map(|node| (node, (seen.report)(node)));
    match wrong(under_way, live(), seen) {
        Some(why) => roll_back(record, &why, seen),
        None if done(under_way, live(), seen) => Some(onward(record, under_way, seen)),
        None => None,
    }
}

/// The first thing that speaks against going on.
fn wrong<'a>(
    under_way: &Deployment,
    live: impl Iterator<Item = (&'a String, Option<Report>)>,
    seen: &Seen<'_>,
) -> Option<String> {
    let (mut owes, mut held, mut serves) = (Vec::new(), None, false);
    for (node, report) in live {
        let concerned = concerns(under_way, node);
        let Some(Report { progress, evidence, .. }) = report else {
            owes.push((node, concerned, STAGE_TIME, "has not made it ready"));
            continue;
        };
        match progress {
            Progress::Refused(why) | Progress::Tripped(why) => {
                return Some(format!("{node}: {why}"));
            }
            Progress::Held if under_way.phase == Phase::Canary && concerned => {
                return Some(format!("{node}: was started anew while it tried the new version"));
            }
            Progress::Serving => {
                serves = true;
                if let Some(why) = fault(&evidence) {
                    return Some(format!("{node}: {why}"));
                }
            }
            Progress::Staged if under_way.phase != Phase::Staging => {
                owes.push((node, concerned, SWITCH_TIME, "does not let it serve"));
            }
            Progress::Staged => {}
            Progress::Held => held = Some(node),
        }
    }
    // It may be what ends nodes. And where it serves nowhere nobody watches it.
    if let Some(node) = held
        && under_way.phase == Phase::Probation
        && !serves
        && owes.is_empty()
        && !under_way.no_rollback
    {
        return Some(format!(
            "{node}: was started anew on probation, and no node serves it any more"
        ));
    }
    let canary_gone = under_way.phase == Phase::Canary
        && under_way.canary.as_ref().is_some_and(|canary| !seen.live.contains(canary));
    if canary_gone {
        return Some("the canary node has gone".to_owned());
    }
    let is_late = |(node, concerned, time, _): &(&String, bool, Duration, &str)| {
        *concerned && (seen.owing)(node) >= *time
    };
    let (late, _, time, what) = owes.into_iter().find(is_late)?;
    Some(format!("{late} {what} within {} s", time.as_secs()))
}

/// Whether a node has something to do in this phase.
fn concerns(under_way: &Deployment, node: &str) -> bool {
    match under_way.phase {
        Phase::Staging | Phase::Probation => true,
        Phase::Canary => under_way.canary.as_deref() == Some(node),
    }
}

/// Whether all who are concerned have done what this phase asks for, long enough.
fn done<'a>(
    under_way: &Deployment,
    mut live: impl Iterator<Item = (&'a String, Option<Report>)>,
    seen: &Seen<'_>,
) -> bool {
    let long_enough = seen.phase_for >= Duration::from_secs(under_way.probation_s);
    let time = match under_way.phase {
        Phase::Staging => true,
        Phase::Canary => long_enough,
        Phase::Probation => long_enough || under_way.no_rollback,
    };
    let ready = |progress: &Progress| match under_way.phase {
        Phase::Staging => true,
        Phase::Canary | Phase::Probation => {
            matches!(progress, Progress::Serving | Progress::Held)
        }
    };
    time && live.all(|(node, report)| {
        !concerns(under_way, node) || report.is_some_and(|report| ready(&report.progress))
    })
}

fn onward(record: &StoreRecord, under_way: &Deployment, seen: &Seen<'_>) -> StoreRecord {
    let mut changed = under_way.clone();
    // With nobody else to wait a canary would be everybody.
    let canary = under_way.canary.is_some() && seen.live.len() > 1 && !under_way.no_rollback;
    let mut record = record.clone();
    if under_way.phase == Phase::Staging {
        record.rows = record.rows.map(|rows| with_what_it_writes(rows, &under_way.version));
    }
    changed.phase = match under_way.phase {
        // Nothing goes back from it, so there is nothing to watch.
        Phase::Staging if under_way.one_way || serves_already(&record, under_way) => {
            return record.ended(Outcome::Permanent, seen.step("permanent"));
        }
        Phase::Staging if canary => Phase::Canary,
        Phase::Staging | Phase::Canary => Phase::Probation,
        Phase::Probation => {
            return record.ended(Outcome::Permanent, seen.step("permanent"));
        }
    };
    changed.note(seen.step(changed.phase.name()));
    StoreRecord { under_way: Some(changed), ..record }
}

/// Whether the switch would be to what is permanent already.
fn serves_already(record: &StoreRecord, under_way: &Deployment) -> bool {
    record.permanent.as_ref().is_some_and(|now| now.digest == under_way.version.digest)
}

/// Why a node cannot have a part in a deployment: it goes back to the configuration, and this node's names
/// something else.
pub fn other_configuration(under_way: &Deployment, configured: &Version) -> Option<String> {
    let other = under_way.configured && under_way.version.digest != configured.digest;
    other.then(|| {
        let (mine, asked) = (configured.short(), under_way.version.short());
        format!(
            "its configuration names {} ({mine}), and not {} ({asked})",
            configured.label, under_way.version.label
        )
    })
}

/// What a node has to do. `held`: it was started anew after the component had served there, so that
/// the one before it serves until the record says otherwise.
pub fn duty<'a>(record: &'a StoreRecord, node: &str, held: bool) -> Duty<'a> {
    let under_way = record.under_way.as_ref();
    let serves = |under_way: &&Deployment| match under_way.phase {
        Phase::Staging => false,
        Phase::Canary => !held && under_way.canary.as_deref() == Some(node),
        Phase::Probation => !held,
    };
    Duty { stage: under_way, serve: under_way.filter(serves) }
}
