//! Connections: bounded pools of them, how long anything on them may take, and what their errors mean.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Config, Error, NoTls};

use super::schema::{self, Identity};
use super::{OpenError, PostgresOptions};
use crate::StorageError;

/// How long making a connection to one of the hosts may take: a server that is there answers in
/// milliseconds.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// How long a call waits for a connection of the pool: less than any caller waits for it.
const WAIT_TIME: Duration = Duration::from_secs(5);
/// How long a read may take, scans of 16 MiB included.
pub const READ_TIME: Duration = Duration::from_secs(15);
/// How long a question about claims or heartbeats may take: less than a heartbeat is good for.
pub const COORDINATE_TIME: Duration = Duration::from_secs(3);
/// How long it waits for a connection.
const COORDINATE_WAIT: Duration = Duration::from_secs(2);
/// Connections for claims and heartbeats. Each statement takes a millisecond.
const COORDINATE_CONNECTIONS: usize = 2;
/// How long a group may take: beyond that its outcome is unknown.
pub const COMMIT_TIME: Duration = Duration::from_secs(30);
/// What a dead network may keep us waiting for, before the connection is given up.
const TCP_TIME: Duration = Duration::from_secs(10);
/// After so long without a sign the peer is asked for one.
const KEEPALIVE_TIME: Duration = Duration::from_secs(5);

/// How long a group waits for a lock: one behind a lock keeps others waiting, and who has a lock in good
/// order has it for milliseconds.
const LOCK_TIME: Duration = Duration::from_millis(500);

/// What is set on each connection. Locks are held for milliseconds. A statement is given up by the
/// server a little before we do. Nothing is ever left open, but a lock of ours must not outlive us.
/// Every statement goes by the primary key: a plan that walks a table is wrong, whatever the
/// statistics say of a table that has just been made.
const SESSION: &str = "
SET lock_timeout = '2s';
SET statement_timeout = '14s';
SET idle_in_transaction_session_timeout = '5s';
SET enable_seqscan = off;
SET default_transaction_isolation = 'read committed';
";

/// The pools.
pub struct Connections {
    /// For reads of mail.
    reads: Pool,
    /// For claims and beats: a node whose reads are slow must not be taken to be dead.
    coordination: Pool,
    /// For groups of commits.
    commits: Pool,
    /// As it was when the engine was opened.
    pub identity: Identity,
    /// What the server does not promise.
    pub warnings: Vec<String>,
    seen: Arc<Seen>,
}

/// Whom the connections go to.
#[derive(Default)]
struct Seen {
    /// As the database was when it was opened; from then on no other one is taken.
    identity: OnceLock<Identity>,
    /// Which start of which server answered last.
    server: Mutex<String>,
    /// How many times it was another one than before.
    changes: AtomicU64,
    /// Whether a server is taken that does not wait for its disk.
    allow_lossy: bool,
}

impl Seen {
    /// Why a connection is not taken.
    async fn refusal(&self, client: &Client) -> Result<Option<&'static str>, Error> {
        let Some(ours) = self.identity.get() else { return Ok(None) };
        let found = schema::identity(client).await?;
        if found.cluster != ours.cluster {
            return Ok(Some("the database is another cluster's now"));
        }
        if found.restored != ours.restored {
            return Ok(Some("the database has been restored: start this node again"));
        }
        let server = schema::server(client).await?;
        let mut last = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != server {
            *last = server;
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        Ok(None)
    }
}

impl Connections {
    /// Prepares the database and makes the pools.
    pub async fn open(options: &PostgresOptions) -> Result<Self, OpenError> {
        let mut config: Config = options.connection.parse().map_err(OpenError::from_sql)?;
        config
            .connect_timeout(CONNECT_TIME)
            .tcp_user_timeout(TCP_TIME)
            .keepalives_idle(KEEPALIVE_TIME)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("postroom");
        }
        let seen = Arc::new(Seen { allow_lossy: options.allow_lossy, ..Seen::default() });
        let make = |size, wait| pool(&config, (size, wait), SESSION.to_owned(), &seen);
        let reads = make(options.read_connections, WAIT_TIME)?;
        let coordination = make(COORDINATE_CONNECTIONS, COORDINATE_WAIT)?;
        let session = format!("{SESSION} SET lock_timeout = {};", LOCK_TIME.as_millis());
        let commits = pool(&config, (options.lanes, WAIT_TIME), session, &seen)?;
        let mut client = reads.get().await.map_err(|error| OpenError::Unavailable(why(&error)))?;
        let identity = schema::prepare(&mut client).await?;
        let warnings = schema::promises(&client, options.allow_lossy).await?;
        for warning in &warnings {
            tracing::warn!("PostgreSQL: {warning}");
        }
        // Its timeouts are those of the preparation.
        drop(Object::take(client));
        let _ = seen.identity.set(identity);
        Ok(Self { reads, coordination, commits, identity, warnings, seen })
    }

    /// How many times connections have gone to another server than before, or another start of it.
    pub fn changes(&self) -> u64 {
        self.seen.changes.load(Ordering::Acquire)
    }

    /// Whether this one goes to the server to which the last one was made.
    pub async fn is_of_last_server(&self, client: &Client) -> Result<bool, Error> {
        let server = schema::server(client).await?;
        Ok(*self.seen.server.lock().unwrap_or_else(PoisonError::into_inner) == server)
    }

    /// A connection for a claim or a beat.
    pub async fn to_coordinate(&self) -> Result<Object, StorageError> {
        self.coordination.get().await.map_err(|error| StorageError::Unavailable(why(&error)))
    }

    /// A connection for a read of mail.
    pub async fn to_read(&self) -> Result<Object, StorageError> {
        self.reads.get().await.map_err(|error| StorageError::Unavailable(why(&error)))
    }

    /// A connection for a group.
    pub async fn to_commit(&self) -> Result<Object, StorageError> {
        self.commits.get().await.map_err(|error| StorageError::Unavailable(why(&error)))
    }

    /// Ends all connections that nobody uses, and the others as soon as nobody does.
    pub fn close(&self) {
        self.reads.close();
        self.coordination.close();
        self.commits.close();
    }
}

fn pool(
    config: &Config,
    (size, wait): (usize, Duration),
    session: String,
    seen: &Arc<Seen>,
) -> Result<Pool, OpenError> {
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let seen = seen.clone();
    let set_up = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
        let (session, seen) = (session.clone(), seen.clone());
        let prepared = async move {
            client.batch_execute(&session).await.map_err(HookError::Backend)?;
            if let Some(refusal) = seen.refusal(client).await.map_err(HookError::Backend)? {
                return Err(HookError::message(refusal));
            }
            if seen.identity.get().is_none() {
                return Ok(());
            }
            // Another server may answer now, with other settings.
            let promises = schema::promises(client, seen.allow_lossy).await;
            promises.map(drop).map_err(|error| HookError::message(error.to_string()))
        };
        Box::pin(async move {
            let late = |_| Err(HookError::message("the database does not answer"));
            timeout(CONNECT_TIME, prepared).await.unwrap_or_else(late)
        })
    });
    // One that does not answer must not keep us from the next one.
    let hosts = config.get_hosts().len().max(1) as u32;
    Pool::builder(Manager::from_config(config.clone(), NoTls, how))
        .max_size(size.max(1))
        .wait_timeout(Some(wait))
        .create_timeout(Some(CONNECT_TIME * (hosts + 1)))
        .recycle_timeout(Some(CONNECT_TIME))
        .runtime(Runtime::Tokio1)
        .post_create(set_up)
        .build()
        .map_err(|error| OpenError::Unavailable(error.to_string()))
}

/// An error with its causes, in one line.
pub fn why(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text.replace('\n', " ")
}

/// What a failed statement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A check in it did not hold: no effect, look again.
    Refused,
    /// It was in the way of another one: no effect, the same may go well at once.
    InTheWay,
    /// It has waited for a lock in vain: no effect.
    Locked,
    /// No effect, for another reason.
    NoEffect,
    /// The connection is lost, or the server is about to end it: it may have had its effect.
    Lost,
}

impl Failure {
    /// Of this error.
    pub fn of(error: &Error) -> Self {
        let Some(said) = error.as_db_error() else {
            // Before anything was sent: a value that does not fit its type. Never with ours.
            return Self::Lost;
        };
        match said.parsed_severity() {
            Some(Severity::Fatal | Severity::Panic) | None => Self::Lost,
            Some(_) if *said.code() == SqlState::DIVISION_BY_ZERO => Self::Refused,
            Some(_)
                if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED]
                    .contains(said.code()) =>
            {
                Self::InTheWay
            }
            Some(_) if *said.code() == SqlState::LOCK_NOT_AVAILABLE => Self::Locked,
            Some(_) => Self::NoEffect,
        }
    }
}

/// Whether a connection is of no use after this error, though the server still answers on it: it is
/// a standby now, or has been told to end.
pub fn is_useless_after(error: &Error) -> bool {
    Failure::of(error) == Failure::Lost
        || error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}
