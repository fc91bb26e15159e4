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
use crate::deploy::{self, Deployer};
use crate::front::admin::stores;
use crate::guest::{
    self, ComponentFrom, ComponentSource, Grants, Hooks, Host, HostConfig, Keys, Kind, Limits,
    Stores, SwappableStore,
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
/// File in which is noted what the database has acknowledged to this node.
const WITNESS: &str = "database-seen";

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
    components: Vec<Arc<SwappableStore>>,
    /// Carries deployments out.
    deployer: Arc<Deployer>,
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
                let mut options = composition.storage.options().await?;
                options.witness = Some(data.join(WITNESS));
                let engine = PostgresEngine::open(options).await.context("the database")?;
                engine.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
                Arc::new(engine)
            }
        };
        let identity = Identity::next(data)?;
        let loaded = load_components(data, composition, hooks, &engine).await?;
        write_durably(data, COMPOSITION, &serde_json::to_vec_pretty(composition)?)
            .with_context(context)?;
        let Loaded { host, stores, asked, deployed } = loaded;
        let components = deployed.iter().map(|store| store.swappable.clone()).collect();
        let alone = match cluster.is_none() && engine.is_shared() {
            true => Some(Alone::begin(engine.clone(), &identity).await?),
            false => None,
        };
        let config = message_store::Config {
            node: identity.id.clone(),
            generation: identity.generation,
            directory,
        };
        let message_store = match cluster {
            None => MessageStore::hooked(config, stores, asked, engine.clone()),
            Some(cluster) => {
                let cluster = ClusterConfig { generation: config.generation, ..cluster };
                MessageStore::clustered(config, stores, asked, engine.clone(), cluster).await?
            }
        };
        let hooks = hooks.to_owned();
        let of_cluster = message_store.cluster().map(|cluster| cluster.me().to_string());
        let clustered = of_cluster.is_some();
        let node = of_cluster.unwrap_or(identity.id);
        let deployer = Deployer::begin(
            engine.clone(),
            host,
            node,
            identity.generation,
            clustered,
            &message_store,
            deployed,
        );
        let deployer = Arc::new(deployer);
        Ok(Self { message_store, engine, components, deployer, hooks, alone, _lock: lock })
    }

    /// Who carries deployments out.
    pub fn deployments(&self) -> Arc<dyn stores::Stores> {
        self.deployer.clone()
    }

    /// Cancelled when another process has this node's name: this one must end.
    pub fn superseded(&self) -> CancellationToken {
        let of_cluster = self.message_store.cluster().map(|cluster| cluster.superseded());
        let token = of_cluster.or_else(|| self.alone.as_ref().map(Alone::superseded));
        token.cloned().unwrap_or_default()
    }

    /// What this node says of itself, whenever it is asked.
    pub fn info(&self) -> impl Fn() -> serde_json::Value + Send + Sync + 'static {
        let (components, engine) = (self.components.clone(), self.engine.clone());
        let hooks = self.hooks.clone();
        move || {
            let stores: Vec<_> = components.iter().map(|store| described(store)).collect();
            serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "engine": engine.name(),
                "stores": stores,
                "hooks": hooks,
            })
        }
    }

    /// Finishes calls under way, then closes from the top down.
    pub async fn close(self) -> Result<()> {
        self.deployer.close().await;
        self.message_store.close().await;
        for component in &self.components {
            component.close().await;
        }
        self.engine.close().await.context("cannot close the storage")
    }
}

/// What a node says of a store.
fn described(store: &SwappableStore) -> serde_json::Value {
    let component = store.serving();
    let load = component.load();
    serde_json::json!({
        "name": store.name(),
        "component": component.inspection(),
        "instances": load.instances,
        "calls": load.calls,
        "quarantined": component.quarantined(),
        "tentative": store.is_tentative(),
    })
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
    Ok(Component { file: absolute(file)?, keys: Keys::default(), grants, limits })
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
    host: Arc<Host>,
    stores: Stores,
    /// Asked about deliveries.
    asked: Hooks,
    /// What deployments may replace.
    deployed: Vec<deploy::Store>,
}

/// Loads each component that is used once, gives each kind its keeper (E16), and finds the hooks.
async fn load_components(
    data: &Path,
    composition: &Composition,
    hooks: &[String],
    engine: &Arc<dyn Engine>,
) -> Result<Loaded> {
    let host = HostConfig { cache: Some(data.join(COMPILED)), ..HostConfig::default() };
    let host = Arc::new(Host::new(host).context("cannot start the WebAssembly engine")?);
    let mut names: BTreeMap<&str, Vec<Kind>> = BTreeMap::new();
    for ((_, name), kept) in composition.stores.by_kind().into_iter().zip(KINDS) {
        names.entry(name).or_default().push(kept);
    }
    for name in hooks {
        names.entry(name).or_default();
    }
    let mut loaded: HashMap<&str, Arc<SwappableStore>> = HashMap::new();
    let mut deployed = Vec::new();
    for (name, kinds) in names {
        let is_hook = hooks.iter().any(|hook| hook == name);
        let store = load(&host, name, composition, engine, kinds, is_hook).await?;
        loaded.insert(name, store.swappable.clone());
        deployed.push(store);
    }
    let asked = hooks.iter().map(|name| loaded[name.as_str()].clone() as Arc<dyn guest::Hook>);
    let choice = &composition.stores;
    let stores = Stores {
        domains: loaded[choice.domain.as_str()].clone(),
        users: loaded[choice.user.as_str()].clone(),
        mailboxes: loaded[choice.mailbox.as_str()].clone(),
        messages: loaded[choice.message.as_str()].clone(),
    };
    Ok(Loaded { host, stores, asked: asked.collect(), deployed })
}

/// The component of the configuration, or what a deployment has replaced it by.
async fn load(
    host: &Host,
    name: &str,
    composition: &Composition,
    engine: &Arc<dyn Engine>,
    kinds: Vec<Kind>,
    is_hook: bool,
) -> Result<deploy::Store> {
    let (source, keys, grants, limits) = configured(name, composition)?;
    let shown = match &source.from {
        ComponentFrom::File(file) => format!("the store component {name} in {}", file.display()),
        ComponentFrom::Octets(_) => format!("the built-in store component {name}"),
    };
    let octets = host.read(&source).await.with_context(|| shown.clone())?;
    let configured = deploy::version(&guest::inspect(&octets).with_context(|| shown.clone())?);
    let permanent = deploy::permanent(engine, name).await;
    let permanent = permanent.with_context(|| format!("the deployments of store {name}"))?;
    let (record, deployed) = permanent;
    let rows = record.rows(&configured);
    let (octets, shown) = match deployed {
        Some((version, file)) if version.digest != configured.digest => {
            let (label, before) = (version.label.as_str(), configured.label.as_str());
            tracing::info!(
                store = name,
                label,
                before,
                "a deployment stands over the configuration"
            );
            let shown = format!("{label}, which was deployed to store {name}");
            if !keys.is_empty() {
                let signed = keys.check(&file.octets, file.signature.as_deref()).await;
                signed.map_err(|error| unsigned(&shown, &error))?;
            }
            (file.octets, shown)
        }
        Some(_) | None => {
            let signed = keys.check_source(&source, &octets).await;
            signed.with_context(|| shown.clone())?;
            (octets, shown)
        }
    };
    let serves = ComponentSource { from: ComponentFrom::Octets(octets), ..source.clone() };
    let component =
        host.load(serves, &grants, limits.clone()).await.with_context(|| shown.clone())?;
    let schema = deploy::version(component.inspection()).schema;
    if !schema.reads_all(rows.span()) {
        bail!(
            "{shown} reads rows of schemas {} to {}, and those that are kept have {}: use a version that reads them",
            schema.reads.0,
            schema.reads.1,
            rows.shown()
        );
    }
    if let Some(kind) = kinds.iter().find(|kind| !component.keeps(**kind)) {
        bail!(
            "the store component {name} keeps no {} records; choose another for stores.{}",
            singular(*kind),
            singular(*kind)
        );
    }
    if is_hook && !component.has_hooks() {
        bail!("the store component {name} exports no hooks; take it out of stores.hooks");
    }
    let swappable = Arc::new(SwappableStore::new(name, component, kinds.clone(), is_hook));
    if let Some(told) = deploy::told(rows, schema) {
        swappable.tell(told);
    }
    let name = name.to_owned();
    Ok(deploy::Store { name, swappable, configured, source, kinds, keys, grants, limits })
}

/// Why a node does not start on what was deployed, and the way out.
fn unsigned(shown: &str, error: &guest::LoadError) -> anyhow::Error {
    let what = match error {
        // What it says to do would not help: the file is in storage, and the configuration names another.
        guest::LoadError::Unsigned(key) => format!("is not signed with key {key}"),
        error => error.to_string(),
    };
    anyhow::anyhow!(
        "{shown}, {what}: name that file in the configuration with its signature beside it, or deploy a signed version before a key is asked for"
    )
}

/// What [`StoreChoice::by_kind`] calls a kind.
fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::Domains => "domain",
        Kind::Users => "user",
        Kind::Mailboxes => "mailbox",
        Kind::Messages => "message",
    }
}

/// What the configuration says of a component.
fn configured(
    name: &str,
    composition: &Composition,
) -> Result<(ComponentSource, Keys, Grants, Limits)> {
    if name == BUILT_IN {
        let keys = composition.stores.keys.clone();
        return Ok((guest::default_store(), keys, Grants::default(), Limits::default()));
    }
    let Some(component) = composition.components.get(name) else {
        bail!("the store component {name} is not configured");
    };
    let from = ComponentFrom::File(component.file.clone());
    let source = ComponentSource { name: name.to_owned(), from };
    let Component { keys, grants, limits, .. } = component.clone();
    Ok((source, keys, grants, limits))
}
