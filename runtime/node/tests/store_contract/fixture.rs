//! What the cases share: an engine, a running component, one commit at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, Slot, TransactionId};
use postroom_node::guest::{CallInfo, Stores};
use postroom_node::storage::memory::MemoryEngine;
use postroom_node::storage::redb::{RedbEngine, RedbOptions};
use postroom_node::storage::{
    Body, Claimant, Commit, Engine, Fence, Idempotency, Space, Txn, View,
};
use tokio::sync::Mutex;

/// A guest store under test.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    Keyed,
    Memory,
}

/// An engine under it.
#[derive(Clone, Copy, Debug)]
pub enum OnEngine {
    Memory,
    Redb,
}

pub struct Fixture {
    pub stores: Stores,
    engine: Arc<dyn Engine>,
    fences: Mutex<HashMap<AccountId, Fence>>,
    transactions: AtomicU64,
    _folder: tempfile::TempDir,
}

/// A call for the account of this number.
pub fn account(number: u128) -> CallInfo {
    CallInfo { account: AccountId::from_u128(number), transaction: TransactionId::from_u128(1) }
}

/// A call for the directory.
pub fn directory() -> CallInfo {
    account(0)
}

fn space(call: CallInfo) -> Space {
    match call.account.as_u128() {
        0 => Space::Directory,
        _ => Space::Account(call.account),
    }
}

impl Fixture {
    pub async fn new(store: Store, engine: OnEngine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine: Arc<dyn Engine> = match engine {
            OnEngine::Memory => Arc::new(MemoryEngine::new()),
            OnEngine::Redb => {
                Arc::new(RedbEngine::open(folder.path(), RedbOptions::default()).unwrap())
            }
        };
        let fixture = Self {
            stores: crate::components::stores(store).await,
            engine,
            fences: Mutex::default(),
            transactions: AtomicU64::new(1),
            _folder: folder,
        };
        fixture.prepare().await;
        fixture
    }

    /// The host calls `create` before anything else.
    async fn prepare(&self) {
        let stores = &self.stores;
        self.commit(directory(), async |call, txn| {
            stores.domains.create(call, txn).await?;
            stores.users.create(call, txn).await
        })
        .await
        .unwrap();
        for number in [1, 2] {
            self.commit(account(number), async |call, txn| {
                stores.mailboxes.create(call, txn).await?;
                stores.messages.create(call, txn).await
            })
            .await
            .unwrap();
        }
    }

    pub fn txn(&self, call: CallInfo) -> Txn {
        Txn::new(self.engine.clone(), space(call))
    }

    pub fn view(&self, call: CallInfo) -> View {
        View::new(self.engine.clone(), space(call))
    }

    pub async fn body(&self, call: CallInfo, octets: Bytes) -> Body {
        self.engine.new_body(space(call), octets).await.unwrap()
    }

    /// Does work in one transaction and commits it, as the host does; forgets it when it fails.
    pub async fn commit(
        &self,
        call: CallInfo,
        work: impl AsyncFnOnce(CallInfo, &Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let number = self.transactions.fetch_add(1, Ordering::Relaxed);
        let transaction = TransactionId::from_u128(u128::from(number));
        let txn = self.txn(call);
        work(CallInfo { transaction, ..call }, &txn).await?;
        let commit = Commit {
            space: space(call),
            fence: self.fence(call.account).await,
            expected_head: None,
            preconditions: Vec::new(),
            transactions: vec![Idempotency { transaction, result: Bytes::new() }],
            writes: txn.take(),
            now: 1_800_000_000,
        };
        self.engine.commit(commit).await.unwrap();
        Ok(())
    }

    async fn fence(&self, account: AccountId) -> Option<Fence> {
        if account.as_u128() == 0 {
            return None;
        }
        let mut fences = self.fences.lock().await;
        if let Some(fence) = fences.get(&account) {
            return Some(*fence);
        }
        let claimant = Claimant { node: "contract".into(), generation: 1, nonce: [7; 16] };
        let fence = self.engine.claim(Slot::of(account), claimant, None).await.unwrap();
        fences.insert(account, fence);
        Some(fence)
    }
}

/// A small seeded generator (SplitMix64); `POSTROOM_SEED` replays a run.
pub struct Random(u64);

impl Random {
    pub fn from_environment() -> Self {
        let text = std::env::var("POSTROOM_SEED").ok();
        let seed = text.and_then(|text| text.parse().ok()).unwrap_or(1);
        eprintln!("POSTROOM_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
