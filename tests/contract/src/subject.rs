//! A component in the node's hosting, as the contract's cases want a store.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use postroom_core::types::{AccountId, MailboxId, Slot, TransactionId, Uid};
use postroom_guest as guest;
use postroom_guest::testing::Knobs;
use postroom_guest::testing::contract::{MessageSubject, RecordSubject};
use postroom_node::guest::{
    CallInfo, ComponentFrom, ComponentSource, Grants, Host, HostConfig, Limits, LoadError,
    Messages, Part, Records, StoreComponent,
};
use postroom_node::storage::{
    Claimant, Commit, Engine, Fence, MemoryEngine, RedbEngine, RedbOptions, Space, Txn, View, Write,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::convert::{self, Row, guest_error};

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

impl Wanted {
    /// A component that asks for nothing.
    pub fn new(file: PathBuf, engine: EngineKind) -> Self {
        Self { file, grants: Grants::default(), engine }
    }

    /// Loaded, as a store of domains or users.
    pub fn of_directory(self) -> Subject {
        run(Subject::new(self, Space::Directory)).expect("the component loads")
    }

    /// Loaded, as a store of mailboxes or messages.
    pub fn of_account(self) -> Subject {
        let space = Space::Account(AccountId::from_u128(1));
        run(Subject::new(self, space)).expect("the component loads")
    }
}

/// A store (a component, or another thing behind the node's traits) over an engine of its own.
pub struct Subject<S = StoreComponent> {
    store: Arc<S>,
    engine: Arc<dyn Engine>,
    space: Space,
    fence: Option<Fence>,
    /// Where the engine is, if anywhere.
    _directory: Option<TempDir>,
}

/// Loads a component, which gets what it asks for and these grants have.
pub async fn load(file: PathBuf, grants: &Grants) -> Result<Arc<StoreComponent>, LoadError> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let source = ComponentSource { name, from: ComponentFrom::File(file) };
    let limits = Limits { instances: 1, ..Limits::default() };
    let _loading = LOADING.lock().await;
    HOST.load(source, grants, limits).await
}

impl Subject {
    /// Loads a component.
    pub async fn new(wanted: Wanted, space: Space) -> Result<Self, LoadError> {
        let component = load(wanted.file, &wanted.grants).await?;
        Ok(Self::over(component, wanted.engine, space).await)
    }
}

impl<S> Subject<S> {
    /// A store over a new engine.
    pub async fn over(store: Arc<S>, kind: EngineKind, space: Space) -> Self {
        let (engine, directory): (Arc<dyn Engine>, _) = match kind {
            EngineKind::Memory => (Arc::new(MemoryEngine::new()), None),
            EngineKind::Redb => {
                let directory = tempfile::tempdir().expect("a temporary directory");
                let engine = RedbEngine::open(directory.path(), RedbOptions::default());
                (Arc::new(engine.expect("a new engine")), Some(directory))
            }
        };
        let fence = match space {
            Space::Directory => None,
            Space::Account(account) => {
                let claimant = Claimant { node: "test".into(), generation: 1, nonce: [1; 16] };
                let claim = engine.claim(Slot::of(account), claimant, None).await;
                Some(claim.expect("a slot that nobody has"))
            }
        };
        Self { store, engine, space, fence, _directory: directory }
    }

    fn info(&self) -> CallInfo {
        let account = match self.space {
            Space::Directory => AccountId::from_u128(0),
            Space::Account(account) => account,
        };
        CallInfo { account, transaction: TransactionId::from_u128(7) }
    }

    fn records<R: Row>(&self) -> &dyn Records<R::Core, R::CoreName>
    where
        S: Records<R::Core, R::CoreName>,
    {
        &*self.store
    }

    fn messages(&self) -> &dyn Messages
    where
        S: Messages,
    {
        &*self.store
    }

    fn view(&self, txn: Option<&Txn>) -> View {
        txn.map_or_else(|| View::new(self.engine.clone(), self.space), Txn::view)
    }
}

impl<S> guest::testing::contract::Host for Subject<S> {
    type Txn = Txn;

    fn begin(&self) -> Txn {
        Txn::new(self.engine.clone(), self.space)
    }

    async fn commit(&self, txn: Txn) {
        let commit = Commit {
            space: self.space,
            fence: self.fence,
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes: txn.take(),
            now: 0,
        };
        self.engine.commit(commit).await.expect("a commit");
    }

    /// The node's storage is not difficult; its own tests see to that.
    fn set(&self, _: Knobs) {}
}

impl<R: Row, S> RecordSubject<R> for Subject<S>
where
    S: Records<R::Core, R::CoreName>,
{
    async fn create(&self, txn: &Txn) -> guest::Result<()> {
        let store = self.records::<R>();
        store.create(self.info(), txn).await.map_err(guest_error)
    }

    async fn drop(&self, txn: &Txn) -> guest::Result<()> {
        let store = self.records::<R>();
        store.drop_all(self.info(), txn).await.map_err(guest_error)
    }

    async fn insert(&self, txn: &Txn, rows: Vec<R>) -> guest::Result<()> {
        let rows = rows.into_iter().map(R::to_core).collect();
        let store = self.records::<R>();
        store.insert(self.info(), txn, rows).await.map_err(guest_error)
    }

    async fn update(&self, txn: &Txn, rows: Vec<R>) -> guest::Result<()> {
        let rows = rows.into_iter().map(R::to_core).collect();
        let store = self.records::<R>();
        store.update(self.info(), txn, rows).await.map_err(guest_error)
    }

    async fn delete(&self, txn: &Txn, names: Vec<R::Name>) -> guest::Result<()> {
        let names = names.into_iter().map(R::name_to_core).collect();
        let store = self.records::<R>();
        store.delete(self.info(), txn, names).await.map_err(guest_error)
    }

    async fn select(
        &self,
        txn: Option<&Txn>,
        names: Vec<R::Name>,
    ) -> guest::Result<Vec<Option<R>>> {
        let names = names.into_iter().map(R::name_to_core).collect();
        let store = self.records::<R>();
        let rows = store.select(self.info(), &self.view(txn), names).await.map_err(guest_error)?;
        Ok(rows.into_iter().map(|row| row.map(R::from_core)).collect())
    }

    async fn list(
        &self,
        txn: Option<&Txn>,
        after: Option<R::Name>,
        limit: u32,
    ) -> guest::Result<guest::Page<R>> {
        let after = after.map(R::name_to_core);
        let store = self.records::<R>();
        let page = store.list(self.info(), &self.view(txn), after, limit).await;
        let page = page.map_err(guest_error)?;
        Ok(guest::Page { rows: page.rows.into_iter().map(R::from_core).collect(), more: page.more })
    }

    async fn check(
        &self,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> guest::Result<guest::CheckPage> {
        let store = self.records::<R>();
        let page = store.check(self.info(), txn, after, repair).await.map_err(guest_error)?;
        Ok(convert::guest_check_page(page))
    }
}

fn mailbox(id: guest::Id) -> MailboxId {
    MailboxId(convert::id(id))
}

impl<S: Messages> MessageSubject for Subject<S> {
    async fn create(&self, txn: &Txn) -> guest::Result<()> {
        let store = self.messages();
        store.create(self.info(), txn).await.map_err(guest_error)
    }

    async fn drop(&self, txn: &Txn, id: guest::Id) -> guest::Result<()> {
        self.messages().drop_mailbox(self.info(), txn, mailbox(id)).await.map_err(guest_error)
    }

    async fn insert(
        &self,
        txn: &Txn,
        messages: Vec<(guest::Message, Vec<u8>)>,
    ) -> guest::Result<()> {
        let (mut rows, mut bodies) = (Vec::new(), Vec::new());
        for (row, octets) in messages {
            rows.push(convert::message(row));
            let body = self.engine.new_body(self.space, Bytes::from(octets)).await;
            bodies.push(body.expect("a body"));
        }
        let store = self.messages();
        store.insert(self.info(), txn, rows, bodies).await.map_err(guest_error)
    }

    async fn update(&self, txn: &Txn, changes: Vec<guest::MessageChange>) -> guest::Result<()> {
        let changes = changes.into_iter().map(convert::change).collect();
        let store = self.messages();
        store.update(self.info(), txn, changes).await.map_err(guest_error)
    }

    async fn delete(&self, txn: &Txn, places: Vec<guest::MessagePlace>) -> guest::Result<()> {
        let places = places.into_iter().map(convert::place).collect();
        let store = self.messages();
        store.delete(self.info(), txn, places).await.map_err(guest_error)
    }

    async fn select(
        &self,
        txn: Option<&Txn>,
        places: Vec<guest::MessagePlace>,
    ) -> guest::Result<Vec<Option<guest::Message>>> {
        let places = places.into_iter().map(convert::place).collect();
        let store = self.messages();
        let rows = store.select(self.info(), &self.view(txn), places).await.map_err(guest_error)?;
        Ok(rows.into_iter().map(|row| row.map(convert::guest_message)).collect())
    }

    async fn list(
        &self,
        txn: Option<&Txn>,
        id: guest::Id,
        after: Option<u32>,
        limit: u32,
    ) -> guest::Result<guest::Page<guest::Message>> {
        // The node has no UID zero; after none is the same.
        let after = after.and_then(Uid::new);
        let store = self.messages();
        let page = store.list(self.info(), &self.view(txn), mailbox(id), after, limit).await;
        let page = page.map_err(guest_error)?;
        Ok(guest::Page {
            rows: page.rows.into_iter().map(convert::guest_message).collect(),
            more: page.more,
        })
    }

    async fn fetch(
        &self,
        txn: Option<&Txn>,
        id: guest::Id,
        name: String,
        at: u64,
        max: u64,
    ) -> guest::Result<Option<Vec<u8>>> {
        let view = self.view(txn);
        let mut found = Vec::new();
        loop {
            let at = at.saturating_add(found.len() as u64);
            let left = max - found.len() as u64;
            let part =
                self.messages().fetch(self.info(), &view, mailbox(id), name.clone(), at, left);
            match part.await.map_err(guest_error)? {
                None => return Ok(None),
                Some(Part::Octets(octets)) => {
                    found.extend_from_slice(&octets);
                    if octets.is_empty() || found.len() as u64 == max {
                        return Ok(Some(found));
                    }
                }
                Some(Part::Body(body)) => {
                    let octets = view.read_body(&body, at, left).await.expect("a body is read");
                    found.extend_from_slice(&octets);
                    return Ok(Some(found));
                }
            }
        }
    }

    async fn settle(&self, id: guest::Id, names: Vec<String>, deleted: bool) -> guest::Result<()> {
        let (view, store) = (self.view(None), self.messages());
        let settled = store.settle(self.info(), &view, mailbox(id), names.clone());
        settled.await.map_err(guest_error)?;
        if deleted {
            use guest::testing::contract::Host;
            let txn = self.begin();
            for name in names {
                txn.write(Write::UnlinkBody { name }).expect("a write");
            }
            self.commit(txn).await;
        }
        Ok(())
    }

    async fn check(
        &self,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> guest::Result<guest::CheckPage> {
        let store = self.messages();
        let page = store.check(self.info(), txn, after, repair).await.map_err(guest_error)?;
        Ok(convert::guest_check_page(page))
    }
}
