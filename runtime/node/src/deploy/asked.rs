//! What operators ask of a keeper: a plan, a deployment, its end, how it is.

use std::collections::BTreeSet;
use std::time::Duration;

use postroom_core::deploy::{
    Deployment, Report, Seen, StoreRecord, begin, commit, is_one_way, roll_back,
};
use postroom_core::error::StoreError;

use super::keeper::Keeper;
use super::shelf::File;
use super::{Signed, not_begun, of_node};
use crate::front::admin::stores::{GenerationOfStore, Plan, StoreStatus};
use crate::guest::{Asks, Inspection};
use crate::mailbox::now;

/// Times that a command tries again because the record was moved on meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// What operators ask for.
impl Keeper {
    /// What a deployment would do, without doing it.
    pub(super) async fn plan(
        &self,
        deployment: &Deployment,
        inspection: &Inspection,
        signed: Signed,
    ) -> Result<Plan, StoreError> {
        let serving = self.store.swappable.serving();
        let (found, live) = (self.shelf.look(&[]).await?.0, self.live().await?);
        let begun = self.begun(&found.record, deployment, &live);
        let (rows, from) =
            (found.record.rows(&self.store.configured), super::version(serving.inspection()));
        let way_back = !is_one_way(rows, &from.schema, &deployment.version.schema);
        let (signed, not_signed) = match signed {
            Ok(signed) => (signed, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let refused = not_signed
            .or_else(|| self.refused(inspection))
            .or_else(|| begun.err().map(|error| error.to_string()));
        let asks = |inspection: &Inspection| {
            inspection.manifest.as_ref().map(|manifest| manifest.asks.clone()).unwrap_or_default()
        };
        let (before, after) = (asks(serving.inspection()), asks(inspection));
        Ok(Plan {
            store: self.store.name.clone(),
            from,
            to: deployment.version.clone(),
            rows,
            way_back,
            signed,
            asks_more: more(&before, &after),
            asks_less: more(&after, &before),
            refused,
        })
    }

    fn refused(&self, inspection: &Inspection) -> Option<String> {
        if let Err(error) = inspection.refused(&self.store.grants) {
            return Some(error.to_string());
        }
        let ungranted = inspection.ungranted(&self.store.grants, &self.store.limits);
        if ungranted.is_some() {
            return ungranted;
        }
        let missing = self.store.kinds.iter().find(|kind| !inspection.kinds.contains(kind))?;
        Some(missing.lacked())
    }

    fn begun(
        &self,
        record: &StoreRecord,
        deployment: &Deployment,
        live: &BTreeSet<String>,
    ) -> Result<StoreRecord, StoreError> {
        let serves = record.permanent.as_ref().unwrap_or(&self.store.configured);
        self.look(live, |seen| begin(record, serves, deployment.clone(), seen)).map_err(not_begun)
    }

    fn look<T>(&self, live: &BTreeSet<String>, look: impl FnOnce(&Seen<'_>) -> T) -> T {
        look(&Seen {
            node: &self.node,
            now: now(),
            phase_for: Duration::ZERO,
            owing: &|_| Duration::ZERO,
            live,
            report: &|_| None,
        })
    }

    /// Begins a deployment of a file that may be taken; its number.
    pub(super) async fn begin(
        &self,
        deployment: Deployment,
        inspection: &Inspection,
        file: &File,
    ) -> Result<u64, StoreError> {
        if let Some(why) = self.refused(inspection) {
            return Err(StoreError::Refused(why));
        }
        let digest = deployment.version.digest.clone();
        let mut meant: Option<StoreRecord> = None;
        for _ in 0..MAX_ATTEMPTS {
            let (found, live) = (self.shelf.look(&[]).await?.0, self.live().await?);
            // Nobody knew what came of the last attempt: this look does.
            let landed = meant.filter(|meant| found.record.has_become(meant));
            let begun = match &landed {
                Some(begun) => begun.clone(),
                None => self.begun(&found.record, &deployment, &live)?,
            };
            let file = Some((digest.as_str(), file));
            if landed.is_some() || self.shelf.replace(&found, &begun, file).await? {
                self.nudge.notify_one();
                return Ok(begun.under_way.map_or(0, |under_way| under_way.number));
            }
            meant = Some(begun);
        }
        Err(changing())
    }

    /// Makes what is on probation permanent.
    pub(super) async fn commit(&self) -> Result<(), StoreError> {
        self.change("nothing is on probation", commit).await
    }

    /// Gives up what is under way.
    pub(super) async fn roll_back(&self, why: &str) -> Result<(), StoreError> {
        let none = "nothing is under way: to go back further, deploy the earlier file";
        self.change(none, |record, seen| roll_back(record, why, seen)).await
    }

    async fn change(
        &self,
        none: &str,
        change: impl Fn(&StoreRecord, &Seen<'_>) -> Option<StoreRecord>,
    ) -> Result<(), StoreError> {
        let mut meant: Option<StoreRecord> = None;
        for _ in 0..MAX_ATTEMPTS {
            let (found, live) = (self.shelf.look(&[]).await?.0, self.live().await?);
            // Nobody knew what came of the last attempt: this look does.
            if meant.is_some_and(|meant| found.record.has_become(&meant)) {
                return Ok(());
            }
            let changed = self.look(&live, |seen| change(&found.record, seen));
            let changed = changed.ok_or_else(|| StoreError::Refused(none.to_owned()))?;
            if self.move_on(&found, &changed).await? {
                return Ok(());
            }
            meant = Some(changed);
        }
        Err(changing())
    }

    /// How it is.
    pub(super) async fn status(&self) -> Result<StoreStatus, StoreError> {
        let live = self.live().await?;
        let nodes: Vec<&str> = live.iter().map(String::as_str).collect();
        let (found, reports) = self.shelf.look(&nodes).await?;
        let record = found.record;
        let rows = record.rows(&self.store.configured);
        let (sweep, waits_for) = self.swept(&record, &nodes).await?;
        let number = record.under_way.as_ref().map(|under_way| under_way.number);
        let of_this = |report: Option<Report>| report.filter(|r| Some(r.deployment) == number);
        let nodes = match number {
            None => Vec::new(),
            Some(_) => {
                nodes.iter().zip(reports).map(|(node, said)| of_node(node, of_this(said))).collect()
            }
        };
        let load = self.store.swappable.generations().into_iter();
        let generations = load.map(|generation| GenerationOfStore {
            version: super::version(generation.component.inspection()),
            serves: generation.serves,
            tentative: generation.tentative,
            calls: generation.calls,
            instances: generation.component.load().instances as u64,
        });
        Ok(StoreStatus {
            store: self.store.name.clone(),
            permanent: record.permanent.clone().unwrap_or_else(|| self.store.configured.clone()),
            under_way: record.under_way,
            nodes,
            here: self.node.clone(),
            generations: generations.collect(),
            history: record.history,
            rows,
            sweep,
            waits_for,
            trouble: self.trouble.borrow().clone(),
        })
    }
}

fn changing() -> StoreError {
    StoreError::Busy("the store's record changes all the time".into())
}

/// What is asked for in `after` and not in `before`, a line each.
fn more(before: &Asks, after: &Asks) -> Vec<String> {
    let mut lines = Vec::new();
    for asked in &after.directories {
        let same =
            before.directories.iter().any(|b| b.name == asked.name && b.write >= asked.write);
        if !same {
            let how = if asked.write { "read and write" } else { "read" };
            lines.push(format!("directory {}, to {how}", asked.name));
        }
    }
    let hosts = after.http.iter().filter(|host| !before.http.contains(host));
    lines.extend(hosts.map(|host| format!("HTTP to {host}")));
    let memory = after.memory_mib.filter(|mib| before.memory_mib.is_none_or(|b| b < *mib));
    lines.extend(memory.map(|mib| format!("{mib} MiB of memory")));
    lines
}
