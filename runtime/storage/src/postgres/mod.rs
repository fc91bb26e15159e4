//! The shared engine: rows, ledger and claims in PostgreSQL, for many nodes at once.
//!
//! Writing goes through a few tasks (`lane`), each of which joins what waits for it into groups
//! (`group`): one statement reads what they need, one writes them and checks that what was read still
//! holds. Reads are single statements on a bounded pool of connections.

mod connect;
mod fetch;
mod group;
mod heads;
mod known;
mod lane;
mod locked;
mod restore;
mod schema;
mod shared;
#[cfg(test)]
pub(super) mod tests;
mod tls;
mod uploads;
mod witness;

pub use self::restore::{ALIVE_AGE, RestoreError, RestoreProgress, Restored, restore};
pub use self::tls::{TlsConfig, TlsMode};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::types::{Epoch, Slot, TransactionId};

use self::connect::{Connections, why};
use self::known::{Known, Wants};
use self::lane::Lane;
use self::shared::{Ask, Shared};
use self::uploads::{Grace, Uploading};
use self::witness::{Witness, WitnessError};
use super::body::{INLINE_OCTETS, NewBody};
use super::commit::{Change, Pending, PendingBodies, plan_claim, plan_release};
use super::keeping::Scrub;
use super::objects::{Objects, ObjectsError};
use super::rows::{BodyRow, Place};
use super::{
    Area, Beat, Body, BodyRef, Claim, Claimant, Commit, Committed, Engine, EngineStats, Fence, Key,
    MAX_NODES, MAX_SCAN_ITEMS, ScanLimit, ScanPage, Space, StorageError, key, reads,
};

/// Connections for reads. Each serves some thousand reads a second over a local network.
const READ_CONNECTIONS: usize = 8;
/// Connections for commits: while one waits for the disk, the other plans.
const LANES: usize = 2;
/// How often a read asks for more: what it wants is known beforehand, or follows from what it found.
const MAX_ROUNDS: usize = 4;
/// How often a claim is tried against others that are made at the same moment.
const MAX_ATTEMPTS: usize = 16;

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Where the database is: `host=… user=… dbname=…`, or a `postgresql://` address.
    pub connection: String,
    /// How connections to it are secured.
    pub tls: TlsConfig,
    /// Most connections for reads.
    pub read_connections: usize,
    /// Connections for commits.
    pub lanes: usize,
    /// Whether a server is taken that does not wait for its disk (`synchronous_commit`, `fsync`).
    pub allow_lossy: bool,
    /// Where bodies above [`INLINE_OCTETS`] are kept. All nodes of a cluster must mean the same. `None`:
    /// in rows, as the smaller ones; until they are linked they are in memory.
    pub objects: Option<Objects>,
    /// How long an object is kept after its last link went: longer than a backup of the database is
    /// used.
    pub dead_age: Duration,
    /// How long an object is kept that nothing has linked.
    pub unlinked_age: Duration,
    /// Between two looks at what may go.
    pub collect_pause: Duration,
    /// A file in which is noted what the database has acknowledged, so that the next engine that is opened
    /// with it notices when the database has gone back meanwhile. `None`: it would not.
    pub witness: Option<PathBuf>,
}

impl PostgresOptions {
    /// As usual, over this connection.
    pub fn new(connection: impl Into<String>) -> Self {
        let connection = connection.into();
        Self {
            connection,
            tls: TlsConfig::default(),
            read_connections: READ_CONNECTIONS,
            lanes: LANES,
            allow_lossy: false,
            objects: None,
            dead_age: uploads::DEAD_AGE,
            unlinked_age: uploads::UNLINKED_AGE,
            collect_pause: uploads::COLLECT_PAUSE,
            witness: None,
        }
    }
}

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It may be later: see the reason.
    #[error("the database cannot be used: {0}")]
    Unavailable(String),
    /// A later version of this program has set it up.
    #[error("the database has schema {found}, this program knows {known}: start a newer one")]
    Newer {
        /// Of the database.
        found: i32,
        /// The newest that this program knows.
        known: i32,
    },
    /// Its numbers have been raised only in part.
    #[error(
        "the database is being restored: let `postroom cluster restored` come to its end first"
    )]
    Restoring,
    /// It lacks what it had acknowledged to this node. All nodes refuse it now.
    #[error(
        "the database is older than it was: {0}; stop all nodes, then run `postroom cluster restored`"
    )]
    WentBack(String),
    /// What it had acknowledged to this node is not known.
    #[error("{0}")]
    Witness(String),
    /// A setting of the server loses what it has acknowledged.
    #[error("{0} is off in PostgreSQL: acknowledged mail could be lost; switch it on")]
    Lossy(&'static str),
    /// Connections cannot be secured as configured: it has to be changed.
    #[error("TLS to PostgreSQL: {0}")]
    Tls(String),
    /// The object store that is configured will not do.
    #[error("{0}")]
    Objects(ObjectsError),
    /// The server is too old.
    #[error("PostgreSQL 15 or newer is needed; the server says {0}")]
    OldServer(String),
}

impl OpenError {
    fn from_sql(error: tokio_postgres::Error) -> Self {
        Self::Unavailable(why(&error))
    }
}

/// What is known of the database by this file. Refuses it for all nodes where it is older than that.
async fn witnessed(path: &Path, connections: &Connections) -> Result<Arc<Witness>, OpenError> {
    let client = connections.to_read().await;
    let client = client.map_err(|error| OpenError::Unavailable(error.to_string()))?;
    let witness = Witness::new(path.to_owned(), connections.identity);
    let contradicts = witness.contradicts(&client).await.map_err(|error| match error {
        WitnessError::File(why) => OpenError::Witness(why),
        WitnessError::Sql(error) => OpenError::from_sql(error),
    })?;
    let Some(lost) = contradicts else { return Ok(Arc::new(witness)) };
    let everything: &[&[u8]] = &[&[]];
    client.execute(heads::NOTE, &[&everything]).await.map_err(OpenError::from_sql)?;
    Err(OpenError::WentBack(lost))
}

/// The shared engine.
pub struct PostgresEngine {
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
    objects: Option<Objects>,
    uploading: Uploading,
    grace: Grace,
    witness: Option<Arc<Witness>>,
}

impl PostgresEngine {
    /// Opens a database, and sets it up if it is empty. Must be called within a tokio runtime, which
    /// the engine's tasks run on. An object store that is away for now is a warning: only large bodies
    /// wait for it.
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let mut connections = Connections::open(&options).await?;
        if let Some(objects) = &options.objects {
            match objects.check().await {
                Ok(()) => {}
                Err(wrong @ ObjectsError::Wrong(_)) => return Err(OpenError::Objects(wrong)),
                Err(away @ ObjectsError::Unavailable(_)) => {
                    tracing::warn!("{away}");
                    connections.warnings.push(format!("{away}; large messages wait for it"));
                }
            }
        }
        if connections.identity.restoring {
            return Err(OpenError::Restoring);
        }
        let witness = match &options.witness {
            None => None,
            Some(path) => Some(witnessed(path, &connections).await?),
        };
        let shared = Arc::new(Shared::new(connections));
        shared.learn().await.map_err(|error| OpenError::Unavailable(error.to_string()))?;
        let lanes = (0..options.lanes.max(1)).map(|_| Lane::start(shared.clone())).collect();
        let grace = Grace { dead: options.dead_age, unlinked: options.unlinked_age };
        if let Some(objects) = options.objects.clone() {
            let shared = Arc::downgrade(&shared);
            tokio::spawn(uploads::run(shared, objects, grace, options.collect_pause));
        }
        let uploading = Uploading::default();
        Ok(Self { shared, lanes, objects: options.objects, uploading, grace, witness })
    }

    /// What the server does not promise, or what is away, for the operator.
    pub fn warnings(&self) -> &[String] {
        &self.shared.connections.warnings
    }

    /// Removes objects that may go, now; how many. The engine does so by itself from time to time.
    pub async fn collect(&self) -> Result<usize, StorageError> {
        match &self.objects {
            Some(objects) => uploads::collect(&self.shared, objects, self.grace).await,
            None => Ok(0),
        }
    }

    /// Octets of a body that is an object.
    async fn read_object(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        match &self.objects {
            Some(objects) => objects.read(space, body, at, max).await,
            None => Err(StorageError::Unavailable("no object store is configured".to_owned())),
        }
    }

    /// The lane of a space: always the same, so that its commits stay in order.
    fn lane(&self, space: Space) -> &Lane {
        let number = match space {
            Space::Directory => 0,
            Space::Account(account) => account
                .0
                .iter()
                .fold(0usize, |sum, octet| sum.wrapping_mul(31).wrapping_add(usize::from(*octet))),
        };
        &self.lanes[number % self.lanes.len()]
    }

    /// Reads one state of the rows: all that is wanted, and what turns out to be needed besides.
    async fn read<T>(
        &self,
        mut wants: Wants,
        read: impl Fn(&Known) -> Result<T, StorageError> + Send,
    ) -> Result<T, StorageError> {
        for _ in 0..MAX_ROUNDS {
            let known = self.ask(&Ask::Wanted(wants.clone(), 1)).await?;
            let outcome = read(&known);
            let missed = known.take_missed();
            if missed.is_empty() {
                return outcome;
            }
            wants.extend(missed);
        }
        Err(StorageError::Unavailable("a read wants more and more".to_owned()))
    }

    async fn ask(&self, ask: &Ask) -> Result<Known, StorageError> {
        let known = self.shared.read(ask).await?;
        known.ok_or_else(|| {
            // Says how much there may be.
            reads::within_one_get(usize::MAX).expect_err("that is too much")
        })
    }

    /// Changes the claim on a slot by compare-and-set.
    async fn change_claim<T: Send>(
        &self,
        slot: Slot,
        plan: impl Fn(&Known) -> Result<(Option<Change>, T), StorageError> + Send,
    ) -> Result<T, StorageError> {
        // No process from before a restore claims anything after it.
        const SET: &str = "UPDATE claims SET value = $3 WHERE key = $1 AND value = $2
            AND EXISTS (SELECT 1 FROM postroom_schema WHERE one = 1 AND restored = $4)
            RETURNING 1";
        const BEGIN: &str = "INSERT INTO claims (key, value) SELECT $1, $2
            WHERE EXISTS (SELECT 1 FROM postroom_schema WHERE one = 1 AND restored = $3)
            ON CONFLICT (key) DO NOTHING RETURNING 1";
        let at = key::claim(slot);
        let restored = self.shared.connections.identity.restored as i64;
        for _ in 0..MAX_ATTEMPTS {
            let known = self.ask(&Ask::Claims(Wants::of_keys([at.clone()]))).await?;
            let (change, answer) = plan(&known)?;
            let Some(Change::Put(_, now)) = change else { return Ok(answer) };
            let now = &now[..];
            let changed = match known.rows.get(&at[..]).and_then(Option::as_ref) {
                Some(was) => self.shared.change(SET, &[&at, &&was[..], &now, &restored]).await?,
                None => self.shared.change(BEGIN, &[&at, &now, &restored]).await?,
            };
            if changed.is_some_and(|rows| rows.len() == 1) {
                return Ok(answer);
            }
        }
        Err(StorageError::Unavailable("others are claiming the same slot".to_owned()))
    }

    /// Counts a heartbeat by this statement; how many of this node there were.
    async fn count_beat(&self, node: &Claimant, beat: &str) -> Result<i64, StorageError> {
        node.check()?;
        let Ok(generation) = i64::try_from(node.generation) else {
            return Err(StorageError::Limit(format!("generation {}", node.generation)));
        };
        let rows = match self
            .shared
            .change(beat, &[&node.node, &generation, &&node.nonce[..]])
            .await
        {
            Ok(Some(rows)) => rows,
            Ok(None) => return Err(StorageError::Unavailable("the database was lost".to_owned())),
            // To say it again is no harm, whether it was heard or not.
            Err(StorageError::UnknownOutcome(why)) => return Err(StorageError::Unavailable(why)),
            Err(error) => return Err(error),
        };
        let row = rows.first().ok_or(StorageError::Conflict)?;
        let unread = |error: tokio_postgres::Error| StorageError::Unavailable(why(&error));
        if row.try_get(1).map_err(unread)? {
            self.shared.heads.all_went_back();
        }
        row.try_get(0).map_err(unread)
    }

    /// Counts a claim.
    fn counted<T>(&self, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        match outcome.is_ok() {
            true => self.shared.counters.group(1, 0),
            false => self.shared.counters.refused(1),
        }
        outcome
    }
}

#[async_trait]
impl Engine for PostgresEngine {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn cluster_id(&self) -> [u8; 16] {
        self.shared.connections.identity.cluster
    }

    fn restored(&self) -> u64 {
        self.shared.connections.identity.restored
    }

    #[tracing::instrument(name = "storage_get_many", level = "debug", skip_all, fields(?space))]
    async fn get_many(
        &self,
        space: Space,
        keys: Vec<Key>,
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let wants = Wants::of_keys(keys.iter().map(|at| key::row(space, at)));
        let known = self.ask(&Ask::Many(wants)).await?;
        self.shared.heads.stands(space)?;
        reads::get_many(&known, space, &keys)
    }

    #[tracing::instrument(name = "storage_scan", level = "debug", skip_all, fields(?space))]
    async fn scan(
        &self,
        space: Space,
        area: Area,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> Result<ScanPage, StorageError> {
        let range = key::rows(space, area, &start, &end);
        let known = match range.0 < range.1 {
            true => {
                let page = Ask::Page(range, key::area_prefix(space), limit.clamped());
                self.ask(&page).await?
            }
            false => {
                self.shared.open()?;
                Known::default()
            }
        };
        self.shared.heads.stands(space)?;
        reads::scan(&known, space, (area, &start, &end), limit)
    }

    async fn claim(
        &self,
        slot: Slot,
        claimant: Claimant,
        previous: Option<Epoch>,
    ) -> Result<Fence, StorageError> {
        // Its accounts may have been another node's until now.
        self.shared.learn().await?;
        let claimed = self.change_claim(slot, |known| {
            let (change, fence) = plan_claim(known, slot, &claimant, previous)?;
            Ok((Some(change), fence))
        });
        let claimed = claimed.await;
        self.counted(claimed)
    }

    async fn claimed(&self, slot: Slot) -> Result<Option<(Epoch, Claimant)>, StorageError> {
        let known = self.ask(&Ask::Claims(Wants::of_keys([key::claim(slot)]))).await?;
        reads::claimed(&known, slot)
    }

    async fn claims(&self, slots: Vec<Slot>) -> Result<Vec<Option<Claim>>, StorageError> {
        reads::within_claims(&slots)?;
        let wants = Wants::of_keys(slots.iter().map(|slot| key::claim(*slot)));
        reads::claims(&self.ask(&Ask::Claims(wants)).await?, &slots)
    }

    async fn release(&self, fence: Fence) -> Result<(), StorageError> {
        let released =
            self.change_claim(fence.slot, |known| Ok((plan_release(known, fence)?, ()))).await;
        self.counted(released)
    }

    async fn beat(&self, node: Claimant) -> Result<(), StorageError> {
        const BEAT: &str = "
            INSERT INTO beats (node, generation, nonce, at, times)
            SELECT $1, $2, $3, clock_timestamp(),
            coalesce((SELECT counted_from FROM counting WHERE one = 1), 0) + 1
            ON CONFLICT (node) DO UPDATE SET generation = EXCLUDED.generation,
            nonce = EXCLUDED.nonce, at = EXCLUDED.at,
            times = greatest(beats.times + 1, EXCLUDED.times)
            WHERE beats.generation < EXCLUDED.generation
            OR (beats.generation = EXCLUDED.generation AND beats.nonce = EXCLUDED.nonce)
            RETURNING times, EXISTS (SELECT 1 FROM gone_back WHERE key = '')";
        let beats = self.count_beat(&node, BEAT).await?;
        if let Some(witness) = &self.witness {
            witness.note(&node, beats);
        }
        Ok(())
    }

    async fn beats(&self) -> Result<Vec<Beat>, StorageError> {
        self.shared.beats(MAX_NODES as i64).await
    }

    #[tracing::instrument(name = "storage_commit", level = "debug", skip_all, fields(space = ?commit.space))]
    async fn commit(&self, commit: Commit) -> Result<Committed, StorageError> {
        let octets = commit.checked_octets()?;
        self.lane(commit.space).perform(commit, octets).await
    }

    async fn head(&self, space: Space) -> Result<u64, StorageError> {
        if self.shared.unresolved(space).is_some() {
            self.lane(space).resolve(space).await?;
        }
        // Before it is read: a commit that lands meanwhile does not make what is read look old.
        let before = self.shared.heads.known(space);
        let wants = Wants::of_keys([key::head(space)]);
        let head = self.read(wants, |known| reads::head(known, space)).await?;
        self.shared.heads.check(space, before, head)?;
        // Whoever asked tells others.
        self.shared.heads.acknowledged(space, head);
        Ok(head)
    }

    async fn transaction(
        &self,
        space: Space,
        id: TransactionId,
    ) -> Result<Option<Bytes>, StorageError> {
        let wants = Wants::of_keys([key::transaction(space, id)]);
        let result = self.read(wants, |known| reads::transaction(known, space, id)).await;
        self.shared.heads.stands(space)?;
        result
    }

    #[tracing::instrument(name = "storage_new_body", level = "debug", skip_all, fields(?space, octets = octets.len()))]
    async fn new_body(&self, space: Space, octets: Bytes) -> Result<Body, StorageError> {
        self.shared.open()?;
        let made = NewBody::new(octets)?;
        self.shared.counters.body();
        if made.octets.len() <= INLINE_OCTETS {
            return Ok(made.inline());
        }
        let NewBody { stored, octets } = made;
        let Some(objects) = &self.objects else {
            self.shared.unlinked.add(space, stored.key, Pending::Octets(octets))?;
            return Ok(Body::Stored(stored));
        };
        let _room = self.uploading.room(octets.len()).await?;
        self.shared.unlinked.add(space, stored.key, Pending::Object)?;
        let new = self.shared.unlinked.until_given(space, stored.key);
        uploads::upload(&self.shared, objects, space, &stored, octets).await?;
        new.given();
        Ok(Body::Stored(stored))
    }

    fn give_up(&self, space: Space, bodies: &[Body]) {
        let waiting = self.shared.unlinked.waiting(space, bodies);
        if !waiting.is_empty() {
            self.lane(space).give_up(space, waiting);
        }
    }

    async fn body(&self, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError> {
        let wants = Wants::of_keys([key::link(space, name)]);
        let body = self.read(wants, |known| reads::body(known, space, name)).await;
        self.shared.heads.stands(space)?;
        body
    }

    #[tracing::instrument(name = "storage_read_body", level = "debug", skip_all, fields(?space, at, max))]
    async fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError> {
        // Who waits is asked first: a body stops waiting only after its row is there.
        let waiting = self.shared.unlinked.pending(space, &body.key);
        let wants = Wants::of_keys([key::body(space, &body.key), key::octets(space, &body.key)]);
        let found = self.read(wants, |known| match reads::body_row(known, space, &body.key)? {
            Some(BodyRow { place: Place::Row, .. }) => {
                reads::body_octets(known, space, &body.key).map(Pending::Octets).map(Some)
            }
            Some(BodyRow { place: Place::Object, .. }) => Ok(Some(Pending::Object)),
            Some(BodyRow { place: Place::Segment(_), .. }) => Err(StorageError::Damaged(format!(
                "body {} is said to be in a segment, and here are none",
                hex::encode(body.key)
            ))),
            None => Ok(None),
        });
        let found = found.await?;
        self.shared.heads.stands(space)?;
        match found.or(waiting) {
            Some(Pending::Octets(octets)) => reads::part(body, octets, at, max),
            Some(Pending::Object) => self.read_object(space, body, at, max).await,
            Some(Pending::Segment(_)) | None => Err(StorageError::Conflict),
        }
    }

    async fn spaces(&self, after: Option<Space>, limit: usize) -> Result<Vec<Space>, StorageError> {
        let from = after.map_or(key::FIRST_SPACE.to_vec(), key::after_space);
        let limit = limit.min(MAX_SCAN_ITEMS);
        let known = self.ask(&Ask::Heads(from, limit as i64)).await?;
        let mut spaces = Vec::with_capacity(known.rows.len());
        for raw in known.rows.keys() {
            spaces.push(key::space_of(raw).ok_or_else(|| {
                StorageError::Damaged(format!("head {} belongs to no space", hex::encode(raw)))
            })?);
        }
        spaces.sort_unstable();
        Ok(spaces)
    }

    async fn scrub(&self) -> Result<Scrub, StorageError> {
        Err(StorageError::Unavailable(
            "scrubbing is for the embedded engine: of a database `postroom check` reads what is kept, and PostgreSQL's pg_amcheck its pages".to_owned(),
        ))
    }

    async fn close(&self) -> Result<(), StorageError> {
        for lane in &self.lanes {
            lane.close().await;
        }
        // Now that nothing is committed any more: who starts next knows of all that was. The node is not
        // alive for it.
        const LAST: &str = "UPDATE beats SET times = times + 1
            WHERE node = $1 AND generation = $2 AND nonce = $3 RETURNING times, false";
        if let Some(witness) = &self.witness
            && let Some(node) = witness.end()
            && let Ok(beats) = self.count_beat(&node, LAST).await
        {
            witness.note_last(&node, beats).await;
        }
        self.shared.close();
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        self.shared.counters.stats()
    }
}
