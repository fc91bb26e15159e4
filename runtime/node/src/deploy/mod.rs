//! Deployments: a new version of a store's component takes over while mail clients stay connected.
//!
//! What is decided lies in [`postroom_core::deploy`]; here it is carried out. `shelf` keeps the
//! record, the nodes' reports and the files of components in the shared engine, so that each node
//! finds all of it there, also one that starts later; `keeper` is the task that makes one store of
//! this node be what the record says, `asked` what operators want of it; `verify` is what a component has to stand before it serves.
//! `notes` writes what is decided into the store's journal.
//! In which schema rows are written, and how the rest come into it, is in `rows` and `sweep`.
//! The pointer that is switched, and what is seen of a version on probation, is in
//! `guest::swap`.

mod asked;
mod compare;
mod keeper;
mod notes;
mod others;
mod rows;
mod shelf;
mod sweep;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::deploy::{self as rules, Deployment, Phase, Schema, StoreRecord, Version};
use postroom_core::error::StoreError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::keeper::Keeper;
pub use self::keeper::Store;
pub use self::rows::told;
pub use self::shelf::File;
use self::shelf::Shelf;
use crate::front::admin::stores::{
    Asked, NodeOfStore, Plan, StoreLine, StoreLog, StoreStatus, Stores,
};
use crate::guest::{
    ComponentFrom, ComponentSource, Entry, Host, Inspection, LoadError, SignedBy, Writes,
};
use crate::message_store::MessageStore;
use crate::storage::Engine;

/// Who signed a file that is to be deployed; why it is not taken.
type Signed = Result<Option<SignedBy>, LoadError>;

/// The version that a file is.
pub fn version(inspection: &Inspection) -> Version {
    let label = inspection.label();
    let schema = inspection.manifest.as_ref().map(|manifest| manifest.schema).unwrap_or_default();
    let ([first, last], [oldest, newest]) = (schema.reads, schema.writes.range());
    let writes_from = match schema.writes {
        Writes::One(_) => None,
        Writes::Told(_) => Some(oldest),
    };
    let schema = Schema { reads: (first, last), writes: newest, writes_from };
    Version { digest: inspection.digest.clone(), label, octets: inspection.size, schema }
}

/// The record of a store's deployments, and the file of what serves for good, if a deployment has replaced
/// the component of the configuration: to be read before the node claims anything.
pub async fn permanent(
    engine: &Arc<dyn Engine>,
    store: &str,
) -> Result<(StoreRecord, Option<(Version, File)>), StoreError> {
    let shelf = Shelf::new(engine.clone(), store);
    let record = shelf.record().await?;
    let Some(version) = record.permanent.clone() else { return Ok((record, None)) };
    let file = shelf.component(&version.digest).await?;
    Ok((record, Some((version, file))))
}

/// Carries deployments out on this node.
pub struct Deployer {
    host: Arc<Host>,
    keepers: BTreeMap<String, Arc<Keeper>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Deployer {
    /// Begins to follow the records of these stores, as this node in its so-many-eth life; `clustered`: others
    /// have a part in it.
    pub fn begin(
        engine: Arc<dyn Engine>,
        host: Arc<Host>,
        node: String,
        generation: u64,
        clustered: bool,
        mail: &MessageStore,
        stores: Vec<Store>,
    ) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut keepers = BTreeMap::new();
        for store in stores {
            let shelf = Shelf::new(engine.clone(), &store.name);
            let name = store.name.clone();
            let keeper = Keeper::new(
                shelf,
                host.clone(),
                (node.clone(), generation),
                clustered,
                (mail.clone(), tasks.clone()),
                store,
            );
            let keeper = Arc::new(keeper);
            tasks.spawn(keeper.clone().keep(stop.clone()));
            keepers.insert(name, keeper);
        }
        Self { host, keepers, tasks, stop }
    }

    /// Follows them no longer; whatever serves now goes on serving.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn keeper(&self, store: &str) -> Result<&Arc<Keeper>, StoreError> {
        self.keepers.get(store).ok_or_else(|| {
            let names: Vec<_> = self.keepers.keys().map(String::as_str).collect();
            let names = names.join(", ");
            StoreError::Invalid(format!("there is no store {store}: this node has {names}"))
        })
    }

    /// What is to be deployed: the file that was sent, or the one that the configuration names. And who signed it.
    async fn asked(
        &self,
        keeper: &Keeper,
        asked: &Asked,
        sent: Bytes,
    ) -> Result<(File, Signed), StoreError> {
        let file = match asked.configured {
            false => File { octets: sent, signature: asked.signature.clone() },
            true if sent.is_empty() && asked.signature.is_none() => {
                match keeper.configured().await {
                    // It is the operator's file, and not what storage keeps.
                    Err(StoreError::Damaged(why)) => return Err(StoreError::Refused(why)),
                    file => file?,
                }
            }
            true => {
                let text = "what the configuration names is deployed, or a file, not both";
                return Err(StoreError::Invalid(text.to_owned()));
            }
        };
        let signed = match asked.configured {
            true => keeper.signed_here(&file).await,
            false => keeper.store.keys.check(&file.octets, file.signature.as_deref()).await,
        };
        Ok((file, signed))
    }

    async fn inspected(&self, octets: &Bytes) -> Result<Inspection, StoreError> {
        let source = ComponentSource {
            name: "deployed".to_owned(),
            from: ComponentFrom::Octets(octets.clone()),
        };
        let invalid = |error: crate::guest::LoadError| StoreError::Invalid(error.to_string());
        let octets = self.host.read(&source).await.map_err(invalid)?;
        crate::guest::inspect(&octets).map_err(invalid)
    }
}

#[async_trait]
impl Stores for Deployer {
    async fn plan(&self, asked: &Asked, octets: Bytes) -> Result<Plan, StoreError> {
        let keeper = self.keeper(&asked.store)?;
        let (file, signed) = self.asked(keeper, asked, octets).await?;
        let inspection = self.inspected(&file.octets).await?;
        drop(file);
        keeper.plan(&deployment(asked, &inspection), &inspection, signed).await
    }

    async fn deploy(&self, asked: &Asked, octets: Bytes) -> Result<u64, StoreError> {
        let keeper = self.keeper(&asked.store)?;
        let (file, signed) = self.asked(keeper, asked, octets).await?;
        signed.map_err(|error| StoreError::Refused(error.to_string()))?;
        let inspection = self.inspected(&file.octets).await?;
        keeper.begin(deployment(asked, &inspection), &inspection, &file).await
    }

    async fn commit(&self, store: &str) -> Result<(), StoreError> {
        self.keeper(store)?.commit().await
    }

    async fn roll_back(&self, store: &str) -> Result<(), StoreError> {
        self.keeper(store)?.roll_back("on an operator's request").await
    }

    async fn status(&self) -> Result<Vec<StoreStatus>, StoreError> {
        let mut all = Vec::new();
        for keeper in self.keepers.values() {
            all.push(keeper.status().await?);
        }
        Ok(all)
    }

    async fn log(&self, store: &str, after: u64) -> Result<StoreLog, StoreError> {
        let keeper = self.keeper(store)?;
        let written = keeper.store.swappable.journal().after(after);
        let line = |entry: Entry| StoreLine {
            number: entry.number,
            at_ms: entry.at_ms,
            version: entry.version.to_string(),
            generation: entry.generation,
            instance: entry.instance,
            what: entry.what.name().to_owned(),
            text: entry.text,
        };
        Ok(StoreLog {
            store: store.to_owned(),
            node: keeper.node.clone(),
            began_ms: written.began_ms,
            lines: written.entries.into_iter().map(line).collect(),
            forgotten: written.forgotten,
            last: written.last,
        })
    }
}

fn deployment(asked: &Asked, inspection: &Inspection) -> Deployment {
    Deployment {
        number: 0,
        version: version(inspection),
        canary: asked.canary.clone(),
        probation_s: asked.probation_s,
        no_rollback: asked.no_rollback,
        one_way: false,
        configured: asked.configured,
        phase: Phase::Staging,
        steps: Vec::new(),
    }
}

/// A refusal of the rules, as the admin API tells it.
fn not_begun(error: rules::NotBegun) -> StoreError {
    StoreError::Refused(error.to_string())
}

/// A node's part of a store's status.
fn of_node(node: &str, report: Option<rules::Report>) -> NodeOfStore {
    let Some(report) = report else {
        return NodeOfStore {
            node: node.to_owned(),
            progress: "waiting".to_owned(),
            ..Default::default()
        };
    };
    let (progress, why) = match report.progress {
        rules::Progress::Staged => ("staged", None),
        rules::Progress::Refused(why) => ("refused", Some(why)),
        rules::Progress::Serving => ("serving", None),
        rules::Progress::Held => ("held", None),
        rules::Progress::Tripped(why) => ("tripped", Some(why)),
    };
    let calls = report.evidence.tentative.iter().map(|verb| verb.calls).sum();
    let failures = report.evidence.tentative.iter().map(|verb| verb.failures).sum();
    NodeOfStore { node: node.to_owned(), progress: progress.to_owned(), why, calls, failures }
}
