//! The shared engine: what its own promises add to the contract that all engines keep.

mod eventually;
mod failover;
mod figures;
mod locks;
mod objects;
mod outcome;
mod restoring;
mod s3;
mod setup;
mod takeover;
mod tls;
mod witness;

use std::sync::Arc;

use postroom_core::types::AccountId;
use postroom_postgres::Postgres;

use super::*;
use crate::objects::tests::server::S3Server;
use crate::{Idempotency, Write};

/// A new database of the server that the tests of this process share.
async fn database() -> String {
    let database = tokio::task::spawn_blocking(|| Postgres::shared().database());
    database.await.expect("it does not panic").expect("there is room for it")
}

async fn open(database: &str) -> Arc<PostgresEngine> {
    let engine = PostgresEngine::open(PostgresOptions::new(database)).await;
    Arc::new(engine.unwrap_or_else(|error| panic!("{error}")))
}

/// An engine over a new, empty database.
pub async fn empty_engine() -> Arc<PostgresEngine> {
    open(&database().await).await
}

/// An engine over a new, empty database, with large bodies as objects in a directory that stays until
/// the end of the test.
pub async fn engine_with_objects() -> (Arc<PostgresEngine>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let objects = Objects::in_directory(directory.path()).expect("it is there");
    (engine_over(objects).await, directory)
}

/// The same, with objects in S3.
pub async fn engine_with_s3() -> (Arc<PostgresEngine>, S3Server) {
    let server = S3Server::start().await;
    (engine_over(server.objects()).await, server)
}

async fn engine_over(objects: Objects) -> Arc<PostgresEngine> {
    let mut options = PostgresOptions::new(database().await);
    options.objects = Some(objects);
    (options.dead_age, options.unlinked_age) = (Duration::ZERO, Duration::ZERO);
    Arc::new(PostgresEngine::open(options).await.expect("an empty database opens"))
}

/// A connection of its own to a database, past the engine.
async fn raw(database: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(database, tokio_postgres::NoTls).await.expect("it is there");
    tokio::spawn(connection);
    client
}

/// An account whose slot is claimed.
#[derive(Clone, Copy, Debug)]
struct Owner {
    space: Space,
    fence: Fence,
}

impl Owner {
    /// Claims the slot of an account, whoever has it.
    async fn new(engine: &PostgresEngine, account: u8, nonce: u8) -> Self {
        let account = AccountId([account; 16]);
        let fence = claim(engine, Slot::of(account), nonce).await.expect("nobody is in the way");
        Self { space: Space::Account(account), fence }
    }

    fn commit(&self, writes: Vec<Write>, transactions: Vec<Idempotency>) -> Commit {
        Commit {
            space: self.space,
            fence: Some(self.fence),
            expected_head: None,
            preconditions: Vec::new(),
            transactions,
            writes,
            now: 0,
        }
    }
}

async fn claim(engine: &PostgresEngine, slot: Slot, nonce: u8) -> Result<Fence, StorageError> {
    let before = engine.claimed(slot).await?.map(|(epoch, _)| epoch);
    let claimant = Claimant { node: "node".to_owned(), generation: 1, nonce: [nonce; 16] };
    engine.claim(slot, claimant, before).await
}

fn put(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    Write::Put(Key { area: Area::Message, octets: name.into() }, value.into())
}

/// All rows of an account's messages.
async fn all(engine: &PostgresEngine, space: Space) -> Vec<(Bytes, Bytes)> {
    let limit = ScanLimit { items: MAX_SCAN_ITEMS, octets: 16 << 20 };
    let page = engine.scan(space, Area::Message, Bytes::new(), Bytes::new(), limit).await;
    let page = page.expect("the database is there");
    assert!(!page.more);
    page.items
}

/// A small seeded generator (SplitMix64), whose seed is printed and taken from `POSTROOM_SEED`.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let mut octets = [0; 8];
        getrandom::fill(&mut octets).expect("the system gives random numbers");
        let given = std::env::var("POSTROOM_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or(u64::from_le_bytes(octets));
        println!("POSTROOM_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
