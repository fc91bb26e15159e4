//! The composition root: opens a data folder, loads the store components, puts the layers together.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use postroom_core::calls::Secret;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::alone::{self, Alone};
use super::config::{BUILT_IN, Component, Config, EngineChoice, Storage, StoreChoice};
use super::identity::{self, Identity, write_durably};
use crate::guest::{
    self, ComponentFrom, ComponentSource, Hooks, Host, HostConfig, Kind, StoreComponent, Stores,
};
use crate::message_store::{self, DirectoryMode, MessageStore};
use crate::router::ClusterConfig;
use crate::storage::Engine;
use crate::storage::postgres::PostgresEngine;
use crate::storage::redb::{RedbEngine, RedbOptions};

/// Folder of the storage engine, in the data folder.
pub const STORAGE: &str = "storage";
/// Folder of compiled store components, in the data folder; may be removed at any time.
const COMPILED: &str = "compiled";
/// Folder of the certificates of a cluster, in the data folder.
pub const CERTIFICATES: &str = "cluster";
/// File that says how the node was last composed, so that a command on the folder composes it alike.
const COMPOSITION: &str = "composition.json";

/// How a node is put together, as its data folder remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Composition {
    /// Made by `postroom dev`: accounts appear on first use.
    dev: bool,
    stores: StoreChoice,
    components: BTreeMap<String, Component>,
    /// The engine, where it is not in the folder.
    #[serde(default)]
    storage: Storage,
}

/// All layers below the front, put together.
pub struct Composed {
    /// The message store, for front ends and commands.
    pub message_store: MessageStore,
    engine: Arc<dyn Engine>,
    components: Vec<Arc<StoreComponent>>,
    /// Names of the components that are asked about deliveries, in their order.
    hooks: Vec<String>,
    /// The heartbeat of a node of its own over a database.
    alone: Option<Alone>,
    /// Held while the node runs.
    _lock: File,
}

impl Composed {
    /// For `postroom dev`.
    pub async fn for_dev(
        data: &Path,
        password: Secret,
        store: Option<&Path>,
        hooks: &[PathBuf],
    ) -> Result<Self> {
        let mut composition = Composition {
            dev: true,
            stores: StoreChoice::default(),
            components: BTreeMap::new(),
            storage: Storage::default(),
        };
        if let Some(file) = store {
            let name = "dev".to_owned();
            composition.stores = StoreChoice::all(&name);
            composition.components.insert(name, ungranted(file)?);
        }
        for (number, file) in hooks.iter().enumerate() {
            let name = format!("hook-{}", number + 1);
            composition.stores.hooks.push(name.clone());
            composition.components.insert(name, ungranted(file)?);
        }
        let hooks = &composition.stores.hooks;
        Self::compose(data, &composition, hooks, DirectoryMode::Dev { password }, None).await
    }

    /// For `postroom serve`.
    pub async fn for_service(config: &Config) -> Result<Self> {
        let mut components = config.components.clone();
        for component in components.values_mut() {
            component.file = absolute(&component.file)?;
        }
        let (stores, storage) = (config.stores.clone(), config.storage.clone());
        let composition = Composition { dev: false, stores, components, storage };
        let hooks = &composition.stores.hooks;
        let cluster = match config.cluster.address()? {
            None => None,
            Some(listen) => Some(ClusterConfig {
                generation: 0,
                certificates: config.certificates(),
                listen,
                advertise: config.cluster.advertise.clone(),
                seeds: config.cluster.seeds()?,
            }),
        };
        let mode = DirectoryMode::Strict;
        Self::compose(&config.data, &composition, hooks, mode, cluster).await
    }

    /// For a command on the folder of a node that is not running.
    pub async fn for_command(data: &Path) -> Result<Self> {
        let path = data.join(COMPOSITION);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{} is no data folder of a node (no {COMPOSITION} in it); start `postroom dev --data {}` or `postroom serve` once to make one",
                data.display(),
                data.display()
            )
        })?;
        let composition: Composition = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged; starting the node writes it anew", path.display())
        })?;
        let directory = match composition.dev {
            // Nobody logs in during a command, but accounts appear as they do in the node.
            true => DirectoryMode::Dev { password: Secret(random_hex()?) },
            false => DirectoryMode::Strict,
        };
        if composition.storage.engine != EngineChoice::Embedded {
            bail!(
                "{} keeps its mail in a database: name a running node with --admin",
                data.display()
            );
        }
        // No command delivers anything: it does not depend on hooks.
        Self::compose(data, &composition, &[], directory, None).await
    }

    async fn compose(
        data: &Path,
        composition: &Composition,
        hooks: &[String],
        directory: DirectoryMode,
        cluster: Option<ClusterConfig>,
    ) -> Result<Self> {
        let context = || format!("the data folder {}", data.display());
        std::fs::create_dir_all(data).with_context(context)?;
        must_be_ours(data)?;
        // From here on it is ours.
        let lock = alone::lock(data)?;
        let engine: Arc<dyn Engine> = match composition.storage.engine {
            EngineChoice::Embedded => Arc::new(
                RedbEngine::open(&data.join(STORAGE), RedbOptions::default())
                    .with_context(context)?,
            ),
            EngineChoice::Postgres => {
                if data.join(STORAGE).exists() {
                    bail!(
                        "{} holds mail of the embedded engine, which the database does not have: name another folder, and bring the mail over with `postroom export` and `import`",
                        data.display()
                    );
                }
                let options = composition.storage.options().await?;
                let engine = PostgresEngine::open(options).await.context("the database")?;
                engine.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
                Arc::new(engine)
            }
        };
        let identity = Identity::next(data)?;
        let loaded = load_components(data, composition, hooks).await?;
        write_durably(data, COMPOSITION, &serde_json::to_vec_pretty(composition)?)
            .with_context(context)?;
        let Loaded { stores, asked, components } = loaded;
        let alone = match cluster.is_none() && engine.is_shared() {
            true => Some(Alone::begin(engine.clone(), &identity).await?),
            false => None,
        };
        let config =
            message_store::Config { node: identity.id, generation: identity.generation, directory };
        let message_store = match cluster {
            None => MessageStore::hooked(config, stores, asked, engine.clone()),
            Some(cluster) => {
                let cluster = ClusterConfig { generation: config.generation, ..cluster };
                MessageStore::clustered(config, stores, asked, engine.clone(), cluster).await?
            }
        };
        let hooks = hooks.to_owned();
        Ok(Self { message_store, engine, components, hooks, alone, _lock: lock })
    }

    /// Cancelled when another process has this node's name: this one must end.
    pub fn superseded(&self) -> CancellationToken {
        let of_cluster = self.message_store.cluster().map(|cluster| cluster.superseded());
        let token = of_cluster.or_else(|| self.alone.as_ref().map(Alone::superseded));
        token.cloned().unwrap_or_default()
    }

    /// What this node says of itself.
    pub fn info(&self) -> serde_json::Value {
        let stores: Vec<_> = self
            .components
            .iter()
            .map(|component| {
                let said = component.inspection();
                let load = component.load();
                serde_json::json!({
                    "name": component.name(),
                    "component": said,
                    "instances": load.instances,
                    "calls": load.calls,
                    "quarantined": component.quarantined(),
                })
            })
            .collect();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "engine": self.engine.name(),
            "stores": stores,
            "hooks": self.hooks,
        })
    }

    /// Finishes calls under way, then closes from the top down.
    pub async fn close(self) -> Result<()> {
        self.message_store.close().await;
        for component in &self.components {
            component.close().await;
        }
        self.engine.close().await.context("cannot close the storage")
    }
}

/// Refuses a folder in which somebody keeps something else: a mistyped path must not end up with mail
/// among a person's files.
fn must_be_ours(data: &Path) -> Result<()> {
    let mut foreign = None;
    for entry in
        std::fs::read_dir(data).with_context(|| format!("cannot read {}", data.display()))?
    {
        let name = entry?.file_name();
        match name.to_str() {
            // The storage is made first: a first start that was cut off has it at least.
            Some(STORAGE | COMPOSITION | identity::FILE | alone::LOCK) => return Ok(()),
            // May be made before the first start.
            Some(CERTIFICATES) => {}
            // A file system of its own begins with this one.
            Some("lost+found") => {}
            _ => foreign = Some(name),
        }
    }
    match foreign {
        None => Ok(()),
        Some(name) => bail!(
            "{} holds {} and no data of a node; name an empty folder, or one that a node has made",
            data.display(),
            Path::new(&name).display()
        ),
    }
}

/// A component that was named on the command line.
fn ungranted(file: &Path) -> Result<Component> {
    let (grants, limits) = (guest::Grants::default(), guest::Limits::default());
    Ok(Component { file: absolute(file)?, grants, limits })
}

fn absolute(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).with_context(|| format!("the path {}", file.display()))
}

fn random_hex() -> Result<String> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(hex::encode(octets))
}

/// What [`StoreChoice::by_kind`] names, in its order.
const KINDS: [Kind; 4] = [Kind::Domains, Kind::Users, Kind::Mailboxes, Kind::Messages];

/// Components as they are used.
struct Loaded {
    stores: Stores,
    /// Asked about deliveries.
    asked: Hooks,
    components: Vec<Arc<StoreComponent>>,
}

/// Loads each component that is used once, gives each kind its keeper (E16), and finds the hooks.
async fn load_components(
    data: &Path,
    composition: &Composition,
    hooks: &[String],
) -> Result<Loaded> {
    let host = HostConfig { cache: Some(data.join(COMPILED)), ..HostConfig::default() };
    let host = Host::new(host).context("cannot start the WebAssembly engine")?;
    let mut loaded: HashMap<&str, Arc<StoreComponent>> = HashMap::new();
    for ((kind, name), kept) in composition.stores.by_kind().into_iter().zip(KINDS) {
        if !loaded.contains_key(name) {
            let component = load(&host, name, composition).await?;
            loaded.insert(name, component);
        }
        if !loaded[name].keeps(kept) {
            bail!(
                "the store component {name} keeps no {kind} records; choose another for stores.{kind}"
            );
        }
    }
    let choice = &composition.stores;
    let mut asked = Hooks::new();
    for name in hooks {
        if !loaded.contains_key(name.as_str()) {
            loaded.insert(name, load(&host, name, composition).await?);
        }
        let component = loaded[name.as_str()].clone();
        if !component.has_hooks() {
            bail!("the store component {name} exports no hooks; take it out of stores.hooks");
        }
        asked.push(component);
    }
    let stores = Stores {
        domains: loaded[choice.domain.as_str()].clone(),
        users: loaded[choice.user.as_str()].clone(),
        mailboxes: loaded[choice.mailbox.as_str()].clone(),
        messages: loaded[choice.message.as_str()].clone(),
    };
    Ok(Loaded { stores, asked, components: loaded.into_values().collect() })
}

async fn load(host: &Host, name: &str, composition: &Composition) -> Result<Arc<StoreComponent>> {
    if name == BUILT_IN {
        let limits = guest::Limits::default();
        let loaded = host.load(guest::default_store(), &guest::Grants::default(), limits).await;
        return loaded.context("the built-in store component");
    }
    let Some(component) = composition.components.get(name) else {
        bail!("the store component {name} is not configured");
    };
    let source = ComponentSource {
        name: name.to_owned(),
        from: ComponentFrom::File(component.file.clone()),
    };
    let loaded = host.load(source, &component.grants, component.limits.clone()).await;
    loaded.with_context(|| format!("the store component {name} in {}", component.file.display()))
}
