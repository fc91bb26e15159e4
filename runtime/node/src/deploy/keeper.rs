//! Makes one store of this node be what the record of its deployments says, and moves the record on
//! where that is due. Every node does the same, so none of them has to stay alive for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postroom_core::deploy::{
    Deployment, Duty, Progress, Report, Seen, StoreRecord, Version, duty, line, next,
    other_configuration,
};
use postroom_core::error::StoreError;
use postroom_core::types::AccountId;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::compare::{ACCOUNTS, Comparison};
use super::notes::Notes;
use super::others::Others;
use super::rows::Sweeping;
use super::shelf::{File, Found, Shelf};
use super::verify::verify;
use crate::guest::{
    ComponentFrom, ComponentSource, Grants, Host, Keys, Kind, Limits, LoadError, Medium, Messages,
    SignedBy, StoreComponent, SwappableStore, SwitchError, signature_of,
};
use crate::mailbox::error::read;
use crate::mailbox::now;
use crate::message_store::MessageStore;

/// How often the record is looked at while nothing is under way: how late a node begins to stage.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// The same while a deployment is under way: how late a step follows another.
const BUSY_LOOK: Duration = Duration::from_millis(200);
/// How often what was seen of a version on probation is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A node whose last heartbeat is older than this is not waited for.
const SILENT: Duration = Duration::from_secs(6);
/// What was seen before this node did its duty for longer than this is looked at again before it decides.
const FRESH: Duration = Duration::from_secs(1);

/// One store of this node.
pub struct Store {
    /// Its name in the configuration.
    pub name: String,
    /// What its calls go to.
    pub swappable: Arc<SwappableStore>,
    /// The component of the configuration.
    pub configured: Version,
    /// Where that is.
    pub source: ComponentSource,
    /// What it is used for.
    pub kinds: Vec<Kind>,
    /// What its components are signed with.
    pub keys: Keys,
    /// What its components are granted.
    pub grants: Grants,
    /// What bounds them.
    pub limits: Limits,
}

/// What the node remembers between two looks.
#[derive(Default)]
struct Memory {
    /// By digest: ready, or why it cannot be.
    staged: Option<(String, Result<Arc<StoreComponent>, String>)>,
    /// What was seen of the other nodes.
    others: Others,
    /// Whether what the node had said of rows before it was started is out of the way.
    is_renewed: bool,
    /// What was said last, and when.
    said: Option<(Report, Instant)>,
    /// The account that was read by both versions last, and when.
    compared: Option<(Option<AccountId>, Instant)>,
    /// The deployment whose version this node has switched to, said or not.
    switched: Option<u64>,
    /// The deployment whose version this node does not serve, because it was started anew meanwhile.
    held: Option<u64>,
    /// The sweep that this node carries out.
    sweeping: Option<Sweeping>,
    /// What the journal has been told.
    notes: Notes,
}

/// Keeps one store.
pub(super) struct Keeper {
    pub(super) shelf: Shelf,
    host: Arc<Host>,
    pub(super) node: String,
    generation: u64,
    clustered: bool,
    pub(super) store: Store,
    /// Where accounts are reached, wherever they are open.
    pub(super) mail: MessageStore,
    pub(super) tasks: TaskTracker,
    /// Something is to be looked at now.
    pub(super) nudge: Notify,
    /// Why the last step could not be taken.
    pub(super) trouble: watch::Sender<Option<String>>,
}

impl Keeper {
    pub(super) fn new(
        shelf: Shelf,
        host: Arc<Host>,
        (node, generation): (String, u64),
        clustered: bool,
        (mail, tasks): (MessageStore, TaskTracker),
        store: Store,
    ) -> Self {
        let trouble = watch::Sender::new(None);
        let nudge = Notify::new();
        Self { shelf, host, node, generation, clustered, store, mail, tasks, nudge, trouble }
    }

    /// Until it is stopped.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut memory = Memory::default();
        let mut tripped = self.store.swappable.tripped();
        let outdated = self.store.swappable.outdated();
        loop {
            let busy = match self.step(&mut memory).await {
                Ok(busy) => {
                    memory.others.finished(Instant::now());
                    self.trouble.send_if_modified(|trouble| trouble.take().is_some());
                    self.note_trouble(&mut memory, None);
                    busy
                }
                Err(error) => {
                    let (store, why) = (&*self.store.name, error.to_string());
                    if self.trouble.borrow().as_ref() != Some(&why) {
                        tracing::warn!(store, why, "a deployment cannot be followed; trying again");
                    }
                    self.note_trouble(&mut memory, Some(&why));
                    self.trouble.send_replace(Some(why));
                    memory.others.interrupted();
                    memory.others.is_busy()
                }
            };
            let look = if busy { BUSY_LOOK } else { IDLE_LOOK };
            // Cancel-safe: all of them only wait.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.nudge.notified() => {}
                () = outdated.notified() => {}
                changed = tripped.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    fn note_trouble(&self, memory: &mut Memory, why: Option<&str>) {
        let serving = self.store.swappable.serving();
        let journal = self.store.swappable.journal();
        memory.notes.trouble(why, &serving.inspection().label(), &journal);
    }

    /// Looks, does this node's duty, moves the record on; whether a deployment is under way.
    async fn step(&self, memory: &mut Memory) -> Result<bool, StoreError> {
        if !memory.is_renewed {
            self.renew_writer().await?;
            memory.is_renewed = true;
        }
        let live = self.live().await?;
        let nodes: Vec<&str> = live.iter().map(String::as_str).collect();
        let (found, mut reports) = self.shelf.look(&nodes).await?;
        let looked = Instant::now();
        // There is nobody to be heard where nobody else is.
        let calm = memory.others.look(&live, looked) || !self.clustered;
        memory.notes.record(&found.record, &self.store.swappable.journal());
        let Some(under_way) = &found.record.under_way else {
            memory.forget();
            self.settle(&found.record, memory).await?;
            memory.staged = None;
            self.tell_schema(&found.record);
            return self.keep_rows(&found, &live, calm, &mut memory.sweeping).await;
        };
        memory.sweeping = None;
        self.settle(&found.record, memory).await?;
        self.tell_schema(&found.record);
        let of_this = |report: &Option<Report>| {
            report.as_ref().is_some_and(|report| report.deployment == under_way.number)
        };
        reports.iter_mut().filter(|report| !of_this(report)).for_each(|report| *report = None);
        let mine = nodes.iter().position(|node| *node == self.node);
        if let Some(Some(mine)) = mine.map(|mine| &reports[mine]) {
            memory.remember(mine, self.generation);
        }
        let phase_for = memory.others.phase_for(under_way.number, under_way.phase, looked);
        let said = nodes.iter().copied().zip(reports.iter().map(Option::as_ref));
        memory.others.hear(said, looked);
        let held = memory.held == Some(under_way.number);
        let duty = duty(&found.record, &self.node, held);
        let report = self.perform(duty, under_way, held, memory).await?;
        self.tell(&report, memory).await?;
        if let Some(mine) = mine {
            reports[mine] = Some(report);
        }
        if !calm || looked.elapsed() > FRESH {
            return Ok(true);
        }
        let changed = {
            let said = |node: &str| {
                let at = nodes.iter().position(|other| *other == node)?;
                reports[at].clone()
            };
            let owing = |node: &str| memory.others.owing(node, looked);
            let (node, owing, live, report) = (&*self.node, &owing, &live, &said);
            let seen = Seen { node, now: now(), phase_for, owing, live, report };
            next(&found.record, &seen)
        };
        if let Some(changed) = changed {
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
    ) -> Result<Report, StoreError> {
        self.look_on(memory).await;
        let report = |progress| Report {
            deployment: under_way.number,
            generation: self.generation,
            progress,
            evidence: self.store.swappable.evidence(),
        };
        if let Some(why) = self.tripped(under_way, memory) {
            return Ok(report(Progress::Tripped(line(&why))));
        }
        if let Some(why) = other_configuration(under_way, &self.store.configured) {
            return Ok(report(Progress::Refused(line(&why))));
        }
        // What was said before the start is not so any more, and making it ready takes a while.
        if held && memory.said.is_none() {
            return Ok(report(Progress::Held));
        }
        let component = match self.stage(&under_way.version, memory).await? {
            Ok(component) => component,
            Err(why) => return Ok(report(Progress::Refused(line(&why)))),
        };
        // Grants are each node's own. What serves already may do without some that it asks for.
        let Store { grants, limits, .. } = &self.store;
        if let Some(why) = component.inspection().ungranted(grants, limits) {
            return Ok(report(Progress::Refused(line(&why))));
        }
        if held {
            return Ok(report(Progress::Held));
        }
        if duty.serve.is_none() {
            return Ok(report(Progress::Staged));
        }
        if self.serves() == under_way.version.digest {
            return Ok(report(Progress::Serving));
        }
        match self.store.swappable.switch(component, !under_way.no_rollback) {
            Ok(()) => {
                memory.switched = Some(under_way.number);
                let Version { label, digest, .. } = &under_way.version;
                let store = &*self.store.name;
                tracing::info!(store, label, digest, "a new version of the store component serves");
                Ok(report(Progress::Serving))
            }
            // The one before the last has calls yet.
            Err(SwitchError::Unsettled) => Ok(report(Progress::Staged)),
            Err(error @ SwitchError::Unfit(_)) => {
                Ok(report(Progress::Refused(line(&error.to_string()))))
            }
        }
    }

    /// Why this node has gone back to the version before in this deployment, if it has.
    fn tripped(&self, under_way: &Deployment, memory: &Memory) -> Option<String> {
        let said = memory.said.as_ref().filter(|(said, _)| said.deployment == under_way.number);
        match said.map(|(said, _)| &said.progress) {
            Some(Progress::Tripped(why)) => Some(why.clone()),
            // What could not be said has happened all the same.
            _ if memory.switched == Some(under_way.number) => self.store.swappable.evidence().trip,
            _ => None,
        }
    }

    /// Ends what is over: nothing but what is permanent and what is under way is kept, and what is permanent
    /// serves unless what is under way does.
    async fn settle(&self, record: &StoreRecord, memory: &mut Memory) -> Result<(), StoreError> {
        let swappable = &self.store.swappable;
        let permanent = record.permanent.as_ref().unwrap_or(&self.store.configured);
        let under_way =
            record.under_way.as_ref().map(|under_way| under_way.version.digest.as_str());
        let serves = self.serves();
        if serves == permanent.digest {
            swappable.make_permanent();
            return Ok(());
        }
        if Some(serves.as_str()) == under_way {
            return Ok(());
        }
        if swappable.is_tentative() {
            let last = record.history.last();
            let why = last.and_then(|ended| ended.outcome.why()).unwrap_or("it was given up");
            swappable.roll_back(why.to_owned());
            if self.serves() == permanent.digest {
                return Ok(());
            }
        }
        // It was not there, or held, while the others took what is permanent over.
        let component = self.stage(permanent, memory).await?.map_err(StoreError::Unavailable)?;
        let switched = swappable.switch(component, false);
        switched.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// The component of a version, ready to serve; why it cannot be.
    async fn stage(
        &self,
        version: &Version,
        memory: &mut Memory,
    ) -> Result<Result<Arc<StoreComponent>, String>, StoreError> {
        if let Some((digest, outcome)) = &memory.staged
            && *digest == version.digest
            // One that was given up takes no more calls.
            && !outcome.as_ref().is_ok_and(|component| component.is_closed())
        {
            return Ok(outcome.clone());
        }
        // What storage cannot give now is no fault of the component. And only what loading says is
        // remembered: files and signatures can be mended.
        let octets = match self.octets(&version.digest).await {
            Ok(Ok(octets)) => octets,
            Ok(Err(error)) => return Ok(Err(error.to_string())),
            Err(StoreError::Damaged(why)) => return Ok(Err(why)),
            Err(error) => return Err(error),
        };
        let outcome = self.load(octets).await?;
        memory.staged = Some((version.digest.clone(), outcome.clone()));
        Ok(outcome)
    }

    /// The file of this digest; why it is not taken.
    async fn octets(&self, digest: &str) -> Result<Result<Bytes, LoadError>, StoreError> {
        if digest != self.store.configured.digest {
            return self.signed(digest).await;
        }
        let own = match self.configured().await {
            Ok(file) => Ok(self.signed_here(&file).await.map(|_| file.octets)),
            Err(error) => Err(error),
        };
        if matches!(own, Ok(Ok(_))) {
            return own;
        }
        // It may have been deployed as a file too, which is in storage with what came with it.
        match self.signed(digest).await {
            Ok(Ok(octets)) => Ok(Ok(octets)),
            _ => own,
        }
    }

    /// The file of the configuration, as long as it is what it was when the node started, and the signature beside it.
    pub(super) async fn configured(&self) -> Result<File, StoreError> {
        let source = &self.store.source;
        let octets = self.host.read(source).await;
        let octets = octets.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let signature = match self.store.keys.is_empty() {
            true => None,
            false => signature_of(source).await.map_err(|error| match error {
                LoadError::Unreadable(why) => StoreError::Unavailable(why),
                error => StoreError::Damaged(error.to_string()),
            })?,
        };
        let digest = blake3::hash(&octets).to_hex();
        match digest.as_str() == self.store.configured.digest {
            true => Ok(File { octets, signature }),
            false => Err(StoreError::Damaged(
                "the file of the configuration is another one than when this node started: deploy it as a file, or start the node anew".to_owned(),
            )),
        }
    }

    /// Who signed the file of the configuration, for which none need have if it is part of the program.
    pub(super) async fn signed_here(&self, file: &File) -> Result<Option<SignedBy>, LoadError> {
        let is_file = matches!(self.store.source.from, ComponentFrom::File(_));
        let keys = if is_file { self.store.keys.clone() } else { Keys::default() };
        keys.check(&file.octets, file.signature.as_deref()).await
    }

    /// The deployed file of this digest; why it is not taken: this node holds it against keys of its own.
    async fn signed(&self, digest: &str) -> Result<Result<Bytes, LoadError>, StoreError> {
        let (file, keys) = (self.shelf.component(digest).await?, &self.store.keys);
        if keys.is_empty() {
            return Ok(Ok(file.octets));
        }
        let signed = keys.check(&file.octets, file.signature.as_deref()).await;
        Ok(signed.map(|_| file.octets))
    }

    async fn load(&self, octets: Bytes) -> Result<Result<Arc<StoreComponent>, String>, StoreError> {
        let Store { name, kinds, grants, limits, .. } = &self.store;
        let source =
            ComponentSource { name: name.clone(), from: ComponentFrom::Octets(octets.clone()) };
        let component = match self.host.load(source, grants, limits.clone()).await {
            Ok(component) => component,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(missing) = kinds.iter().find(|kind| !component.keeps(**kind)) {
            return Ok(Err(missing.lacked()));
        }
        // Where its records live only the version that serves may reach.
        if component.medium() == Medium::Outside {
            return Ok(Ok(component));
        }
        let (host, kinds) = (self.host.clone(), kinds.clone());
        if let Err(why) = verify(host, octets, kinds, grants.clone(), limits.clone()).await {
            return Ok(Err(why));
        }
        let serving = self.store.swappable.serving();
        let (differs, _) = self.compare(&serving, &component, None, ACCOUNTS).await?;
        Ok(differs.map_or(Ok(component), Err))
    }

    /// Whether two versions read the same of some accounts.
    async fn compare(
        &self,
        old: &StoreComponent,
        new: &StoreComponent,
        after: Option<AccountId>,
        most: usize,
    ) -> Result<(Option<String>, Option<AccountId>), StoreError> {
        let (engine, kinds) = (self.shelf.engine(), &*self.store.kinds);
        Comparison { engine, kinds, old, new }.of_accounts(after, most).await
    }

    /// While a version is on probation: reads one account after the other by both.
    async fn look_on(&self, memory: &mut Memory) {
        let [serving, previous] = &self.store.swappable.generations()[..] else { return };
        let due = memory.compared.is_none_or(|(_, when)| when.elapsed() >= TELL_EVERY);
        if !serving.tentative || !due || serving.component.medium() == Medium::Outside {
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

    /// Replaces the record, and says so; false: it is another one by now.
    pub(super) async fn move_on(
        &self,
        found: &Found,
        changed: &StoreRecord,
    ) -> Result<bool, StoreError> {
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
    pub(super) async fn live(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut live = BTreeSet::from([self.node.clone()]);
        if self.clustered {
            let beats = read(self.shelf.engine().beats()).await?;
            let heard = beats.into_iter().filter(|beat| beat.age < SILENT);
            live.extend(heard.map(|beat| beat.node));
        }
        Ok(live)
    }

    /// The digest of what serves.
    fn serves(&self) -> String {
        self.store.swappable.serving().inspection().digest.clone()
    }
}

impl Memory {
    /// Nothing is under way.
    fn forget(&mut self) {
        (self.said, self.held, self.compared, self.switched) = (None, None, None, None);
        self.others.forget();
    }

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
}
