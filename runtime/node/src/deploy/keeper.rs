//! Makes one store of this node be what the record of its deployments says, and moves the record on
//! where that is due. Every node does the same, so none of them has to stay alive for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use postroom_core::deploy::{
    Deployment, Duty, Phase, Progress, Report, Seen, StoreRecord, Version, begin, commit, duty,
    line, next, roll_back,
};
use postroom_core::error::StoreError;
use postroom_core::types::AccountId;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::compare::{ACCOUNTS, Comparison};
use super::shelf::{Found, Shelf};
use super::verify::verify;
use super::{not_begun, of_node};
use crate::front::admin::stores::{GenerationOfStore, Plan, StoreStatus};
use crate::guest::{
    ComponentFrom, ComponentSource, Grants, Host, Inspection, Kind, Limits, Medium, StoreComponent,
    SwappableStore, SwitchError,
};
use crate::mailbox::error::read;

/// How often the record is looked at while nothing is under way: how late a node begins to stage.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// The same while a deployment is under way: how late a step follows another.
const BUSY_LOOK: Duration = Duration::from_millis(200);
/// How often what was seen of a version on probation is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A node whose last heartbeat is older than this is not waited for.
const SILENT: Duration = Duration::from_secs(6);
/// Times that a command tries again because the record was moved on meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// One store of this node.
pub struct Store {
    /// Its name in the configuration.
    pub name: String,
    /// What its calls go to.
    pub swappable: Arc<SwappableStore>,
    /// The component of the configuration.
    pub configured: Version,
    /// What serves as the node starts.
    pub serves: Version,
    /// What it is used for.
    pub kinds: Vec<Kind>,
    /// What its components are granted.
    pub grants: Grants,
    /// What bounds them.
    pub limits: Limits,
}

/// What this node has ready.
struct Staged {
    version: Version,
    outcome: Result<Arc<StoreComponent>, String>,
}

/// What the node remembers between two looks.
#[derive(Default)]
struct Memory {
    /// Ready, or why it cannot be.
    staged: Option<Staged>,
    /// The phase that was seen last, and since when.
    phase: Option<(u64, Phase, Instant)>,
    /// What was said last, and when.
    said: Option<(Report, Instant)>,
    /// The account that was read by both versions last, and when.
    compared: Option<(Option<AccountId>, Instant)>,
    /// The deployment whose version this node does not serve, because it was started anew meanwhile.
    held: Option<u64>,
}

/// Keeps one store.
pub(super) struct Keeper {
    shelf: Shelf,
    host: Arc<Host>,
    node: String,
    generation: u64,
    clustered: bool,
    store: Store,
    /// Something is to be looked at now.
    nudge: Notify,
    /// What serves here; and what serves on for good.
    serves: Mutex<Version>,
    /// Why the last step could not be taken.
    trouble: watch::Sender<Option<String>>,
}

/// Seconds since the Unix epoch: for history.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Keeper {
    pub(super) fn new(
        shelf: Shelf,
        host: Arc<Host>,
        (node, generation): (String, u64),
        clustered: bool,
        store: Store,
    ) -> Self {
        let serves = Mutex::new(store.serves.clone());
        let trouble = watch::Sender::new(None);
        let nudge = Notify::new();
        Self { shelf, host, node, generation, clustered, store, nudge, serves, trouble }
    }

    /// Until it is stopped.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut memory = Memory::default();
        let mut tripped = self.store.swappable.tripped();
        loop {
            let busy = match self.step(&mut memory).await {
                Ok(busy) => {
                    self.trouble.send_if_modified(|trouble| trouble.take().is_some());
                    busy
                }
                Err(error) => {
                    let (store, why) = (&*self.store.name, error.to_string());
                    if self.trouble.borrow().as_ref() != Some(&why) {
                        tracing::warn!(store, why, "a deployment cannot be followed; trying again");
                    }
                    self.trouble.send_replace(Some(why));
                    memory.phase.is_some()
                }
            };
            let look = if busy { BUSY_LOOK } else { IDLE_LOOK };
            // Cancel-safe: all of them only wait.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.nudge.notified() => {}
                changed = tripped.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// Looks, does this node's duty, moves the record on; whether a deployment is under way.
    async fn step(&self, memory: &mut Memory) -> Result<bool, StoreError> {
        let live = self.live().await?;
        let nodes: Vec<&str> = live.iter().map(String::as_str).collect();
        let (found, mut reports) = self.shelf.look(&nodes).await?;
        let Some(under_way) = &found.record.under_way else {
            memory.phase = None;
            self.settle(&found.record, memory).await?;
            return Ok(false);
        };
        let of_this = |report: &Option<Report>| {
            report.as_ref().is_some_and(|report| report.deployment == under_way.number)
        };
        reports.iter_mut().filter(|report| !of_this(report)).for_each(|report| *report = None);
        let mine = nodes.iter().position(|node| *node == self.node);
        if let Some(Some(mine)) = mine.map(|mine| &reports[mine]) {
            memory.remember(mine, self.generation);
        }
        let phase_for = memory.seen(under_way);
        let held = memory.held == Some(under_way.number);
        let report =
            self.perform(duty(&found.record, &self.node, held), under_way, held, memory).await;
        self.tell(&report, memory).await?;
        if let Some(mine) = mine {
            reports[mine] = Some(report);
        }
        let said = |node: &str| {
            let at = nodes.iter().position(|other| *other == node)?;
            reports[at].clone()
        };
        let seen = Seen { node: &self.node, now: now(), phase_for, live: &live, report: &said };
        if let Some(changed) = next(&found.record, &seen) {
            self.move_on(&found, &changed).await?;
        }
        Ok(true)
    }

    /// Does what the record asks of this node; how far it is then.
    async fn perform(
        &self,
        duty: Duty<'_>,
        under_way: &Deployment,
        held: bool,
        memory: &mut Memory,
    ) -> Report {
        self.look_on(memory).await;
        let evidence = self.store.swappable.evidence();
        let report = |progress| Report {
            deployment: under_way.number,
            generation: self.generation,
            progress,
            evidence: evidence.clone(),
        };
        let tripped = evidence.trip.clone().filter(|_| self.said_serving(under_way, memory));
        if let Some(why) = tripped {
            self.note_serving(self.permanent_before());
            return report(Progress::Tripped(line(&why)));
        }
        if let Some((Report { deployment, progress: Progress::Tripped(why), .. }, _)) = &memory.said
            && *deployment == under_way.number
        {
            return report(Progress::Tripped(why.clone()));
        }
        if held {
            return report(Progress::Held);
        }
        let component = match self.stage(&under_way.version, memory).await {
            Ok(component) => component,
            Err(why) => return report(Progress::Refused(line(&why))),
        };
        if duty.serve.is_none() {
            return report(Progress::Staged);
        }
        if self.serves().digest == under_way.version.digest {
            return report(Progress::Serving);
        }
        match self.store.swappable.switch(component, !under_way.no_rollback) {
            Ok(_) => {
                tracing::info!(
                    store = &*self.store.name,
                    version = under_way.version.label,
                    digest = under_way.version.digest,
                    "a new version of the store component serves"
                );
                self.note_serving(under_way.version.clone());
                let evidence = self.store.swappable.evidence();
                Report { evidence, ..report(Progress::Serving) }
            }
            // The one before the last has calls yet.
            Err(SwitchError::Unsettled) => report(Progress::Staged),
            Err(error @ SwitchError::Unfit(_)) => {
                report(Progress::Refused(line(&error.to_string())))
            }
        }
    }

    /// With nothing under way: what is permanent serves, and nothing else is kept.
    async fn settle(&self, record: &StoreRecord, memory: &mut Memory) -> Result<(), StoreError> {
        memory.held = None;
        memory.said = None;
        let permanent = record.permanent.as_ref().unwrap_or(&self.store.configured);
        if self.serves().digest != permanent.digest && self.store.swappable.is_tentative() {
            let last = record.history.last();
            let why = last.and_then(|ended| ended.outcome.why()).unwrap_or("it was given up");
            tracing::warn!(store = &*self.store.name, why, "the version before serves again");
            self.store.swappable.roll_back(why.to_owned());
            self.note_serving(self.permanent_before());
        }
        if self.serves().digest == permanent.digest {
            self.store.swappable.make_permanent();
            memory.staged = None;
            return Ok(());
        }
        // It was not there, or held, while the others took it over.
        let component = self.stage(permanent, memory).await.map_err(StoreError::Unavailable)?;
        let switched = self.store.swappable.switch(component, false);
        switched.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.note_serving(permanent.clone());
        memory.staged = None;
        Ok(())
    }

    /// The component of a version, ready to serve; why it cannot be.
    async fn stage(
        &self,
        version: &Version,
        memory: &mut Memory,
    ) -> Result<Arc<StoreComponent>, String> {
        match &memory.staged {
            Some(staged) if staged.version.digest == version.digest => {}
            Some(_) | None => {
                let outcome = match self.shelf.component(&version.digest).await {
                    Ok(octets) => self.load(octets).await,
                    // Storage is away, or late: that is no fault of the component.
                    Err(StoreError::Unavailable(why)) => return Err(why),
                    Err(error) => Err(error.to_string()),
                };
                memory.staged = Some(Staged { version: version.clone(), outcome });
            }
        }
        let staged = memory.staged.as_ref().expect("it has just been put there");
        staged.outcome.clone()
    }

    async fn load(&self, octets: Bytes) -> Result<Arc<StoreComponent>, String> {
        let Store { name, kinds, grants, limits, .. } = &self.store;
        let source =
            ComponentSource { name: name.clone(), from: ComponentFrom::Octets(octets.clone()) };
        let loaded = self.host.load(source, grants, limits.clone()).await;
        let component = loaded.map_err(|error| error.to_string())?;
        if let Some(missing) = kinds.iter().find(|kind| !component.keeps(**kind)) {
            return Err(format!("it keeps no {}, which this store is used for", missing.name()));
        }
        if !is_outside(&component) {
            verify(&self.host, &octets, kinds, grants, limits).await?;
            let serving = self.store.swappable.serving();
            let (differs, _) = self.compare(&serving, &component, None, ACCOUNTS).await?;
            differs.map_or(Ok(()), Err)?;
        }
        Ok(component)
    }

    /// Whether two versions read the same of some accounts.
    async fn compare(
        &self,
        old: &StoreComponent,
        new: &StoreComponent,
        after: Option<AccountId>,
        most: usize,
    ) -> Result<(Option<String>, Option<AccountId>), String> {
        let (engine, kinds) = (self.shelf.engine(), &*self.store.kinds);
        let compared = Comparison { engine, kinds, old, new }.of_accounts(after, most).await;
        compared.map_err(|error| error.to_string())
    }

    /// While a version is on probation: reads one account after the other by both.
    async fn look_on(&self, memory: &mut Memory) {
        let [serving, previous] = &self.store.swappable.generations()[..] else { return };
        let due = memory.compared.is_none_or(|(_, when)| when.elapsed() >= TELL_EVERY);
        if !serving.tentative || !due || is_outside(&serving.component) {
            return;
        }
        let after = memory.compared.and_then(|(account, _)| account);
        let compared = self.compare(&previous.component, &serving.component, after, 1).await;
        // That storage is away is seen by everybody else too.
        let (differs, last) = compared.unwrap_or_default();
        memory.compared = Some((last, Instant::now()));
        if let Some(why) = differs {
            self.store.swappable.trip(&serving.component, why);
        }
    }

    /// Says how far this node is, where that is news.
    async fn tell(&self, report: &Report, memory: &mut Memory) -> Result<(), StoreError> {
        if let Some((said, when)) = &memory.said {
            let same = said.deployment == report.deployment
                && said.progress == report.progress
                && said.generation == report.generation;
            let old = said.evidence != report.evidence && when.elapsed() >= TELL_EVERY;
            if same && !old {
                return Ok(());
            }
        }
        self.shelf.say(&self.node, report).await?;
        memory.said = Some((report.clone(), Instant::now()));
        Ok(())
    }

    async fn move_on(&self, found: &Found, changed: &StoreRecord) -> Result<bool, StoreError> {
        let moved = self.shelf.replace(found, changed, None).await?;
        if moved {
            let store = &*self.store.name;
            match (&changed.under_way, changed.history.last()) {
                (Some(under_way), _) => {
                    let (number, phase) = (under_way.number, under_way.phase.name());
                    tracing::info!(store, number, phase, "a deployment goes on");
                }
                (None, Some(ended)) => {
                    let (number, outcome) = (ended.number, ended.outcome.name());
                    let why = ended.outcome.why().unwrap_or_default();
                    tracing::info!(store, number, outcome, why, "a deployment has ended");
                }
                (None, None) => {}
            }
            self.nudge.notify_one();
        }
        Ok(moved)
    }

    /// The nodes that live, this one among them.
    async fn live(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut live = BTreeSet::from([self.node.clone()]);
        if self.clustered {
            let beats = read(self.shelf.engine().beats()).await?;
            let heard = beats.into_iter().filter(|beat| beat.age < SILENT);
            live.extend(heard.map(|beat| beat.node));
        }
        Ok(live)
    }

    fn serves(&self) -> Version {
        self.serves.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_serving(&self, version: Version) {
        *self.serves.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// What serves after the pointer has gone back.
    fn permanent_before(&self) -> Version {
        super::version(self.store.swappable.serving().inspection())
    }

    fn said_serving(&self, under_way: &Deployment, memory: &Memory) -> bool {
        let said = memory.said.as_ref().map(|(said, _)| said);
        said.is_some_and(|said| {
            said.deployment == under_way.number && said.progress == Progress::Serving
        })
    }
}

/// What operators ask for.
impl Keeper {
    /// What a deployment would do, without doing it.
    pub(super) async fn plan(
        &self,
        deployment: &Deployment,
        inspection: &Inspection,
    ) -> Result<Plan, StoreError> {
        let serving = self.store.swappable.serving();
        let refused = match self.refused(inspection) {
            Some(why) => Some(why),
            None => {
                let (found, live) = (self.shelf.look(&[]).await?.0, self.live().await?);
                self.begun(&found.record, deployment, &live).err().map(|error| error.to_string())
            }
        };
        let asks = |inspection: &Inspection| {
            inspection.manifest.as_ref().map(|manifest| manifest.asks.clone()).unwrap_or_default()
        };
        let (before, after) = (asks(serving.inspection()), asks(inspection));
        Ok(Plan {
            store: self.store.name.clone(),
            from: super::version(serving.inspection()),
            to: deployment.version.clone(),
            asks_more: more(&before, &after),
            asks_less: more(&after, &before),
            refused,
        })
    }

    fn refused(&self, inspection: &Inspection) -> Option<String> {
        if let Err(error) = inspection.refused(&self.store.grants) {
            return Some(error.to_string());
        }
        let missing = self.store.kinds.iter().find(|kind| !inspection.kinds.contains(kind))?;
        Some(format!("it keeps no {}, which this store is used for", missing.name()))
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
            live,
            report: &|_| None,
        })
    }

    /// Begins a deployment; its number.
    pub(super) async fn begin(
        &self,
        deployment: Deployment,
        inspection: &Inspection,
        octets: Bytes,
    ) -> Result<u64, StoreError> {
        if let Some(why) = self.refused(inspection) {
            return Err(StoreError::Refused(why));
        }
        let digest = deployment.version.digest.clone();
        for _ in 0..MAX_ATTEMPTS {
            let (found, live) = (self.shelf.look(&[]).await?.0, self.live().await?);
            let begun = self.begun(&found.record, &deployment, &live)?;
            let file = Some((digest.as_str(), octets.clone()));
            if self.shelf.replace(&found, &begun, file).await? {
                self.nudge.notify_one();
                return Ok(begun.under_way.map_or(0, |under_way| under_way.number));
            }
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
        for _ in 0..MAX_ATTEMPTS {
            let (found, live) = (self.shelf.look(&[]).await?.0, self.live().await?);
            let changed = self.look(&live, |seen| change(&found.record, seen));
            let changed = changed.ok_or_else(|| StoreError::Refused(none.to_owned()))?;
            if self.move_on(&found, &changed).await? {
                return Ok(());
            }
        }
        Err(changing())
    }

    /// How it is.
    pub(super) async fn status(&self) -> Result<StoreStatus, StoreError> {
        let live = self.live().await?;
        let nodes: Vec<&str> = live.iter().map(String::as_str).collect();
        let (found, reports) = self.shelf.look(&nodes).await?;
        let record = found.record;
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
            trouble: self.trouble.borrow().clone(),
        })
    }
}

/// Its records live where only the version that serves may reach.
fn is_outside(component: &StoreComponent) -> bool {
    let manifest = component.inspection().manifest.as_ref();
    manifest.is_some_and(|manifest| manifest.medium == Medium::Outside)
}

fn changing() -> StoreError {
    StoreError::Busy("the store's record changes all the time".into())
}

/// What is asked for in `after` and not in `before`, a line each.
fn more(before: &crate::guest::Asks, after: &crate::guest::Asks) -> Vec<String> {
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

impl Memory {
    /// What the node has said before it was started anew counts.
    fn remember(&mut self, mine: &Report, generation: u64) {
        if self.said.is_some() || self.held.is_some() {
            return;
        }
        let held = match mine.progress {
            Progress::Held => true,
            Progress::Serving => mine.generation != generation,
            Progress::Staged | Progress::Refused(_) => false,
            Progress::Tripped(_) => {
                self.said = Some((mine.clone(), Instant::now()));
                false
            }
        };
        if held {
            self.held = Some(mine.deployment);
        }
    }

    /// How long the deployment has been seen in this phase.
    fn seen(&mut self, under_way: &Deployment) -> Duration {
        match &self.phase {
            Some((number, phase, since))
                if *number == under_way.number && *phase == under_way.phase =>
            {
                since.elapsed()
            }
            Some(_) | None => {
                self.phase = Some((under_way.number, under_way.phase, Instant::now()));
                Duration::ZERO
            }
        }
    }
}
