//! The message store: the only door through which a front end reaches mail (E1).
//!
//! A front end registers a [`SessionHandle`] for each connection and makes [`Call`]s for it; the
//! mail rules that every back end shares (addresses, passwords, delivery, derived data, search) are
//! applied here, everything that concerns one account goes on through the router. Commands and the
//! admin API use the functions of `admin`.

mod session;

mod calls;

mod delivery;

mod fetch;

mod search;

mod heavy;

mod derived;

mod directory;

mod admin;

mod check;

mod sweep;

mod limits;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postroom_core::calls::{Call, Reply, Secret};
use postroom_core::error::StoreError;
use postroom_core::types::{SessionId, TransactionId};
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::guest::{Hooks, Stores};
use crate::mailbox::{Accounts, Claims, Env, Mint, RecentBodies};
use crate::router::{Cluster, ClusterConfig, Router};
use crate::storage::Engine;

pub use admin::{Export, ExportedMessage, NewUser};
pub use check::{CheckEvent, CheckFinding};
pub use directory::Kind as DirectoryKind;
pub use session::SessionHandle;

use delivery::DeliveryHooks;
use derived::DerivedCache;
use directory::Directory;
use limits::Patience;

/// Who may log in, and for whom mail is accepted.
#[derive(Clone, Debug)]
pub enum DirectoryMode {
    /// Any user name logs in with this one password, and any recipient is accepted; accounts appear
    /// on first use. The domain of a name counts only where a user was made with it: `alice`,
    /// `alice@a.example` and `alice@b.example` are otherwise the same. Only for trying things on a
    /// loopback address.
    Dev {
        /// The password.
        password: Secret,
    },
    /// Users and domains must exist.
    Strict,
}

/// What a message store is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's id, durable across restarts.
    pub node: String,
    /// Strictly rising with each start of this node.
    pub generation: u64,
    /// Who may log in.
    pub directory: DirectoryMode,
}

/// The message store of this node. Cheap to clone.
#[derive(Clone)]
pub struct MessageStore {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    mint: Arc<Mint>,
    router: Router,
    directory: Directory,
    derived: DerivedCache,
    hooks: DeliveryHooks,
    patience: Patience,
    /// Turns to read bodies for FETCH and SEARCH, one for each MiB.
    heavy: Semaphore,
    sessions: AtomicU64,
}

impl MessageStore {
    /// A message store over these components and this engine, without hooks.
    pub fn new(config: Config, stores: Stores, engine: Arc<dyn Engine>) -> Self {
        Self::hooked(config, stores, Hooks::new(), engine)
    }

    /// The same, with hooks that are asked about deliveries.
    pub fn hooked(config: Config, stores: Stores, hooks: Hooks, engine: Arc<dyn Engine>) -> Self {
        Self::with(config, stores, hooks, engine, Patience::default())
    }

    /// The same for one node of several, which joins them.
    ///
    /// # Errors
    /// When it cannot join.
    pub async fn clustered(
        config: Config,
        stores: Stores,
        hooks: Hooks,
        engine: Arc<dyn Engine>,
        cluster: ClusterConfig,
    ) -> anyhow::Result<Self> {
        let (patience, mint) = (Patience::default(), Arc::new(Mint::default()));
        let claims = Claims::new(engine.clone(), config.node, config.generation).given();
        let accounts = accounts(claims, &stores, &engine, &mint, patience);
        let cluster = Cluster::join(cluster, engine.clone(), accounts.clone()).await?;
        let router = Router::among(accounts, cluster);
        Ok(Self::over(config.directory, stores, hooks, engine, (mint, patience), router))
    }

    fn with(
        config: Config,
        stores: Stores,
        hooks: Hooks,
        engine: Arc<dyn Engine>,
        patience: Patience,
    ) -> Self {
        let mint = Arc::new(Mint::default());
        let claims = Claims::new(engine.clone(), config.node, config.generation);
        let router = Router::local(accounts(claims, &stores, &engine, &mint, patience));
        Self::over(config.directory, stores, hooks, engine, (mint, patience), router)
    }

    fn over(
        mode: DirectoryMode,
        stores: Stores,
        hooks: Hooks,
        engine: Arc<dyn Engine>,
        (mint, patience): (Arc<Mint>, Patience),
        router: Router,
    ) -> Self {
        let directory = Directory::new(mode, engine.clone(), stores, mint.clone(), patience);
        let inner = Inner {
            patience,
            engine,
            mint,
            router,
            directory,
            derived: DerivedCache::new(limits::DERIVED_CACHE_OCTETS),
            hooks: DeliveryHooks::new(hooks),
            heavy: Semaphore::new(limits::MAX_HEAVY_READS as usize),
            sessions: AtomicU64::new(1),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Registers a session.
    pub fn session(&self) -> SessionHandle {
        let id = SessionId(self.inner.sessions.fetch_add(1, Ordering::Relaxed));
        SessionHandle::new(id, self.inner.router.clone())
    }

    /// Carries out a call for a session. Cancel-safe: a write that has begun goes on to its end
    /// when the future is dropped. The same write under the same `transaction` has its effect once.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call(
        &self,
        session: &SessionHandle,
        transaction: TransactionId,
        call: Call,
    ) -> Result<Reply, StoreError> {
        let name = calls::name(&call);
        let span = tracing::debug_span!("call", %transaction, session = session.id().0, name);
        self.perform(session, transaction, call).instrument(span).await
    }

    /// A fresh transaction id.
    pub fn transaction(&self) -> TransactionId {
        TransactionId(crate::mailbox::random())
    }

    /// The cluster, if this node is in one.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.inner.router.cluster()
    }

    /// Accepts no more calls, finishes those under way, leaves every mailbox. The engine is the
    /// caller's to close.
    pub async fn close(&self) {
        self.inner.hooks.close().await;
        if let Some(cluster) = self.cluster() {
            cluster.leave_cluster().await;
        }
        self.inner.router.accounts().close().await;
    }
}

/// The accounts of a node.
fn accounts(
    claims: Claims,
    stores: &Stores,
    engine: &Arc<dyn Engine>,
    mint: &Arc<Mint>,
    patience: Patience,
) -> Accounts {
    Accounts::new(Env {
        engine: engine.clone(),
        stores: stores.clone(),
        claims: Arc::new(claims),
        mint: mint.clone(),
        recent: RecentBodies::default(),
        commit_deadline: patience.commit,
    })
}
