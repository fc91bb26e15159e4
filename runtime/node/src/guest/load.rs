//! From a file to a running component: read, recognise, check against this node, compile (or find
//! compiled), link, start.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::bindings::exports::postroom::store as exports;
use super::bindings::postroom::host::{settings, storage};
use super::cache::Cache;
use super::component::StoreComponent;
use super::engine::{new_engine, root};
use super::error::LoadError;
use super::exports::Indices;
use super::inspect::{HOST_PACKAGE, Inspection, Lift, SERVED_VERSION, STORE_PACKAGE, inspect};
use super::instance::{NotMade, Template};
use super::journal::{Journals, Pen};
use super::limits::{Grants, HostConfig, Limits, mib};
use super::manifest::Kind;
use super::pool::Pool;
use super::quarantine::Quarantine;
use super::state::InstanceState;
use super::wasi::{Granted, Listener};

/// Where a component comes from, and what it is called here.
#[derive(Clone, Debug)]
pub struct ComponentSource {
    /// Its name in logs and metrics: from the configuration, not from the file.
    pub name: String,
    /// Its octets.
    pub from: ComponentFrom,
}

/// Where the octets of a component are.
#[derive(Clone, Debug)]
pub enum ComponentFrom {
    /// At hand, such as the embedded default store.
    Octets(Bytes),
    /// In a file.
    File(PathBuf),
}

/// What hosts the store components of a node.
pub struct Host {
    config: HostConfig,
    engine: Engine,
    cache: Option<Cache>,
    room: Arc<Semaphore>,
    listener: Option<Listener>,
    journals: Journals,
}

impl Host {
    /// Sets the engine up. A cache that cannot be used is reported and done without.
    pub fn new(config: HostConfig) -> Result<Self, LoadError> {
        let engine = new_engine(&config)?;
        let cache = config.cache.as_ref().and_then(|folder| {
            Cache::open(folder, config.cache_mib)
                .inspect_err(|error| {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "no cache of compiled code");
                })
                .ok()
        });
        let room = Arc::new(Semaphore::new(config.max_instances as usize));
        let journals = Journals::default();
        Ok(Self { config, engine, cache, room, listener: None, journals })
    }

    /// With somebody who hears what the guests print.
    pub fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Reads a component file without compiling or running anything.
    pub async fn read(&self, source: &ComponentSource) -> Result<Bytes, LoadError> {
        let most = mib(self.config.max_component_mib) as u64;
        let octets = match &source.from {
            ComponentFrom::Octets(octets) => octets.clone(),
            ComponentFrom::File(path) => {
                let path = path.clone();
                off_thread(move || read_file(path, most)).await?
            }
        };
        match octets.len() as u64 > most {
            true => Err(LoadError::TooLarge { octets: octets.len() as u64, most }),
            false => Ok(octets),
        }
    }

    /// Loads a component and starts its instances. The first load of a component compiles it, on
    /// other threads than the runtime's: tenths of a second, some seconds for a Python component.
    pub async fn load(
        &self,
        source: ComponentSource,
        grants: &Grants,
        limits: Limits,
    ) -> Result<Arc<StoreComponent>, LoadError> {
        if let Some(refused) = limits.refused_by(&self.config) {
            return Err(LoadError::Limits(refused));
        }
        // One is left over, for the change of an instance.
        if self.room.available_permits() <= limits.instances as usize {
            return Err(not_made(NotMade::NoRoom));
        }
        let octets = self.read(&source).await?;
        let inspection = inspect(&octets)?;
        inspection.refused(grants)?;
        memory_suffices(&inspection, &limits)?;
        let http = inspection.granted_http(grants);
        let granted = Granted::new(inspection.manifest.as_ref(), grants, http)?;
        let component = self.compiled(octets, inspection.digest.clone()).await?;
        let pre = self.link(&component, &granted)?;
        let name: Arc<str> = source.name.as_str().into();
        let pen = Pen::new(self.journals.of(&name), &inspection.label());
        let quarantine = Quarantine::new(name.clone(), limits.quarantine_time());
        let template = Template {
            name: name.clone(),
            indices: indices(&pre, &inspection)?,
            pre,
            granted,
            concurrency: match inspection.lift {
                Lift::Async => limits.calls,
                Lift::Sync => 1,
            },
            limits,
            room: self.room.clone(),
            listener: self.listener.clone(),
            pen: pen.clone(),
            quarantine: Arc::new(quarantine),
            health: Arc::default(),
        };
        let pool = Pool::start(template).await.map_err(not_made)?;
        let (digest, lift) = (&inspection.digest, inspection.lift);
        tracing::info!(component = &*name, digest, ?lift, "store component is loaded");
        Ok(Arc::new(StoreComponent::new(name, inspection, pool, pen)))
    }

    /// Comes back with the room of so many instances, once it is free.
    #[cfg(test)]
    pub(super) async fn take_room(&self, instances: u32) -> tokio::sync::OwnedSemaphorePermit {
        self.room.clone().acquire_many_owned(instances).await.expect("nobody closes it")
    }

    async fn compiled(&self, octets: Bytes, digest: String) -> Result<Component, LoadError> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        off_thread(move || compiled(&engine, cache.as_ref(), &octets, &digest)).await
    }

    fn link(
        &self,
        component: &Component,
        granted: &Granted,
    ) -> Result<InstancePre<InstanceState>, LoadError> {
        let mut linker = Linker::<InstanceState>::new(&self.engine);
        let linked = wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| match granted.has_http() {
                true => wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker),
                false => Ok(()),
            })
            .and_then(|()| {
                storage::add_to_linker::<_, HasSelf<InstanceState>>(&mut linker, |state| state)
            })
            .and_then(|()| {
                settings::add_to_linker::<_, HasSelf<InstanceState>>(&mut linker, |state| state)
            });
        linked.map_err(|e| LoadError::Engine(root(&e)))?;
        linker.instantiate_pre(component).map_err(|e| differs(HOST_PACKAGE, "storage", &e))
    }
}

fn read_file(path: PathBuf, most: u64) -> Result<Bytes, LoadError> {
    let failed = |error: std::io::Error| LoadError::Unreadable(error.to_string());
    let file = std::fs::File::open(path).map_err(failed)?;
    let octets = file.metadata().map_err(failed)?.len();
    if octets > most {
        return Err(LoadError::TooLarge { octets, most });
    }
    let mut read = Vec::new();
    // One more than fits: a pipe or a growing file has no size to be believed.
    file.take(most + 1).read_to_end(&mut read).map_err(failed)?;
    Ok(read.into())
}

fn compiled(
    engine: &Engine,
    cache: Option<&Cache>,
    octets: &[u8],
    digest: &str,
) -> Result<Component, LoadError> {
    if let Some(found) = cache.and_then(|cache| cache.get(engine, digest)) {
        metrics::counter!("postroom_guest_cache_total", "outcome" => "hit").increment(1);
        return Ok(found);
    }
    metrics::counter!("postroom_guest_cache_total", "outcome" => "miss").increment(1);
    let failed = |e: wasmtime::Error| LoadError::Compile(root(&e));
    let component = Component::from_binary(engine, octets).map_err(failed)?;
    if let Some(cache) = cache {
        let code = component.serialize().map_err(failed)?;
        if let Err(error) = cache.put(engine, digest, &code) {
            tracing::warn!(%error, "compiled code is not kept");
        }
    }
    Ok(component)
}

/// Blocking work on a thread made for it.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LoadError::Compile(format!("the compiler failed: {error}"))),
    }
}

fn memory_suffices(inspection: &Inspection, limits: &Limits) -> Result<(), LoadError> {
    let asked = inspection.manifest.as_ref().and_then(|manifest| manifest.asks.memory_mib);
    match asked {
        Some(asked) if asked > limits.memory_mib => Err(LoadError::Limits(format!(
            "it asks for {asked} MiB of memory, memory_mib is {}",
            limits.memory_mib
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Finds the exported interfaces; their types must be this node's.
fn indices(
    pre: &InstancePre<InstanceState>,
    inspection: &Inspection,
) -> Result<Indices, LoadError> {
    let keeps = |kind| inspection.kinds.contains(&kind);
    macro_rules! find {
        ($exported:expr, $interface:ident) => {
            match $exported {
                true => Some(
                    exports::$interface::GuestIndices::new(pre)
                        .map_err(|e| differs(STORE_PACKAGE, stringify!($interface), &e))?,
                ),
                false => None,
            }
        };
    }
    Ok(Indices {
        domains: find!(keeps(Kind::Domains), domains),
        users: find!(keeps(Kind::Users), users),
        mailboxes: find!(keeps(Kind::Mailboxes), mailboxes),
        messages: find!(keeps(Kind::Messages), messages),
        hooks: find!(inspection.hooks, hooks),
    })
}

fn not_made(error: NotMade) -> LoadError {
    match error {
        NotMade::Differs(reason) => LoadError::Interface {
            interface: STORE_PACKAGE.to_owned(),
            served: SERVED_VERSION.to_owned(),
            reason,
        },
        NotMade::NoRoom | NotMade::Slow(_) | NotMade::Overran(_) | NotMade::Failed(_) => {
            LoadError::Start(error.to_string())
        }
    }
}

/// The version is ours, the types are not.
fn differs(package: &str, interface: &str, error: &wasmtime::Error) -> LoadError {
    LoadError::Interface {
        interface: format!("{package}/{interface}"),
        served: SERVED_VERSION.to_owned(),
        reason: root(error),
    }
}
