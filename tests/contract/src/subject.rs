//! A component in the node's hosting, as the kit's cases want a store.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use postroom_node::conformance::{Instances, Subject, schemas};
use postroom_node::guest::{
    ComponentFrom, ComponentSource, Grants, Host, HostConfig, Kind, Lift, Limits, LoadError,
    StoreComponent,
};
use postroom_node::storage::{Engine, MemoryEngine, RedbEngine, RedbOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::twin::Twin;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    // What a component writes to its standard error says why it trapped: `RUST_LOG=info`.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().init();
    Runtime::new().expect("a runtime")
});

/// One host for the process, as in a node; what it compiled once it keeps between runs.
static HOST: LazyLock<Host> = LazyLock::new(|| {
    let folder = std::env::current_exe().expect("a path");
    let cache = folder.ancestors().nth(3).map(|target| target.join("compiled-guests"));
    Host::new(HostConfig { cache, ..HostConfig::default() }).expect("an engine")
});

/// A component is compiled once, however many tests want it at a time.
static LOADING: Mutex<()> = Mutex::const_new(());

/// Runs a case to its end.
pub fn run<F: Future>(case: F) -> F::Output {
    RUNTIME.block_on(case)
}

/// The engine under a subject.
#[derive(Clone, Copy, Debug)]
pub enum EngineKind {
    /// In memory.
    Memory,
    /// On disk, in a temporary directory.
    Redb,
}

impl EngineKind {
    /// A new one, with the directory that it is in, if it is in one.
    fn engine(self) -> (Arc<dyn Engine>, Option<TempDir>) {
        match self {
            Self::Memory => (Arc::new(MemoryEngine::new()), None),
            Self::Redb => {
                let directory = tempfile::tempdir().expect("a temporary directory");
                let engine = RedbEngine::open(directory.path(), RedbOptions::default());
                (Arc::new(engine.expect("a new engine")), Some(directory))
            }
        }
    }
}

/// How a component is loaded.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The component.
    pub file: PathBuf,
    /// What the operator lets it have.
    pub grants: Grants,
    /// Over which engine.
    pub engine: EngineKind,
}

#[async_trait]
impl Instances<StoreComponent> for Wanted {
    async fn fresh(&self) -> Result<Arc<StoreComponent>, String> {
        load(self.file.clone(), &self.grants).await.map_err(|error| error.to_string())
    }

    fn one_call_at_a_time(&self, store: &StoreComponent) -> bool {
        store.inspection().lift == Lift::Sync
    }

    fn handles(&self, store: &StoreComponent) -> usize {
        store.handles()
    }

    fn schemas(&self, store: &StoreComponent) -> Vec<u32> {
        schemas(store)
    }
}

impl Wanted {
    /// A component that asks for nothing.
    pub fn new(file: PathBuf, engine: EngineKind) -> Self {
        Self { file, grants: Grants::default(), engine }
    }

    /// Loaded, as a store of this kind of record.
    pub fn of(self, kind: Kind) -> Subject {
        let (engine, directory) = self.engine.engine();
        let subject = run(Subject::new(self, engine, kind));
        subject.expect("the component loads").keeping(directory)
    }
}

/// Where twins come from: a store's logic remembers nothing, so one is as fresh as another.
struct Twins<S>(S);

#[async_trait]
impl<S: Copy + Send + Sync> Instances<Twin<S>> for Twins<S> {
    async fn fresh(&self) -> Result<Arc<Twin<S>>, String> {
        Ok(Arc::new(Twin(self.0)))
    }
}

/// A native twin, as a store of this kind of record.
pub fn twin_of<S: Copy + Send + Sync + 'static>(store: S, kind: Kind) -> Subject<Twin<S>> {
    let (engine, directory) = EngineKind::Memory.engine();
    run(Subject::new(Twins(store), engine, kind)).expect("a twin").keeping(directory)
}

/// Loads a component, which gets what it asks for and these grants have.
pub async fn load(file: PathBuf, grants: &Grants) -> Result<Arc<StoreComponent>, LoadError> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let source = ComponentSource { name, from: ComponentFrom::File(file) };
    let limits = Limits { instances: 1, ..Limits::default() };
    let _loading = LOADING.lock().await;
    HOST.load(source, grants, limits).await
}
