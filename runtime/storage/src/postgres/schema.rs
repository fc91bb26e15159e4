//! The tables, and how they come to be: numbered steps, each in one transaction with the number that
//! it leaves behind. Whoever brings a step along holds the row with the number, so nodes that start at
//! once do one after the other.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::OpenError;

/// Oldest server that is spoken to, as `server_version_num` counts.
const OLDEST_SERVER: u32 = 150_000;
/// How often making the first table is tried: two nodes that do it at once can make both fail.
const TRIES: usize = 20;

/// Made first, by itself.
const FIRST: &str = "CREATE TABLE IF NOT EXISTS postroom_schema (
    one int PRIMARY KEY,
    version int NOT NULL,
    cluster_id bytea NOT NULL,
    restored bigint NOT NULL
)";

/// The steps: after the n-th one the version is n. Never changed once released, only added to. None alters
/// `postroom_schema`: nodes that start wait in line for its row, and would lock each other out.
const STEPS: &[&str] = &[
    "
CREATE TABLE rows (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE heads (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claims (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE beats (
    node text PRIMARY KEY,
    generation bigint NOT NULL,
    nonce bytea NOT NULL,
    at timestamptz NOT NULL
);
CREATE TABLE uploads (key bytea PRIMARY KEY, at timestamptz NOT NULL, dead boolean NOT NULL);
CREATE INDEX uploads_by_age ON uploads (dead, at);
",
    "
CREATE TABLE restoring (one int PRIMARY KEY, upto bytea NOT NULL);
CREATE TABLE gone_back (key bytea PRIMARY KEY, kept boolean NOT NULL DEFAULT false);
",
    "
ALTER TABLE beats ADD COLUMN times bigint NOT NULL DEFAULT 0;
CREATE TABLE counting (one int PRIMARY KEY, counted_from bigint NOT NULL);
",
];

/// What only PostgreSQL itself understands; without it all works, only slower. Values are not worth
/// compressing (mail is, but it would cost every commit), and those of one page stay in the row.
const TUNING: &str = "
ALTER TABLE rows ALTER COLUMN value SET STORAGE EXTERNAL;
ALTER TABLE rows SET (toast_tuple_target = 8160);
ALTER TABLE heads SET (fillfactor = 50);
ALTER TABLE claims SET (fillfactor = 50);
";

/// What the database says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Minted when it was set up.
    pub cluster: [u8; 16],
    /// How often it has been restored: the incarnation that nodes belong to.
    pub restored: u64,
    /// Whether that is going on.
    pub restoring: bool,
}

/// Brings the tables up to what this program knows.
pub async fn prepare(client: &mut Client) -> Result<Identity, OpenError> {
    must_be_new_enough(client).await?;
    make_first(client).await?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| OpenError::Unavailable(error.to_string()))?;
    client
        .execute(
            "INSERT INTO postroom_schema VALUES (1, 0, $1, 0) ON CONFLICT (one) DO NOTHING",
            &[&&id[..]],
        )
        .await
        .map_err(OpenError::from_sql)?;
    // Waiting for another node that is at it may take longer than a commit may, and so may a step.
    const PATIENT: &str = "SET lock_timeout = '60s'; SET statement_timeout = 0";
    client.batch_execute(PATIENT).await.map_err(OpenError::from_sql)?;
    let known = STEPS.len() as i32;
    let transaction = client.transaction().await.map_err(OpenError::from_sql)?;
    let row = transaction
        .query_one("SELECT version FROM postroom_schema WHERE one = 1 FOR UPDATE", &[])
        .await
        .map_err(OpenError::from_sql)?;
    let found: i32 = row.get(0);
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    for step in &STEPS[found.max(0) as usize..] {
        transaction.batch_execute(step).await.map_err(OpenError::from_sql)?;
    }
    if found < known {
        transaction
            .execute("UPDATE postroom_schema SET version = $1 WHERE one = 1", &[&known])
            .await
            .map_err(OpenError::from_sql)?;
    }
    transaction.commit().await.map_err(OpenError::from_sql)?;
    if found < known
        && let Err(error) = client.batch_execute(TUNING).await
    {
        tracing::warn!(%error, "the tables could not be tuned");
    }
    let identity = identity(client).await.map_err(OpenError::from_sql)?;
    match identity.cluster == [0; 16] {
        true => Err(OpenError::Unavailable("its cluster has no id of 16 octets".to_owned())),
        false => Ok(identity),
    }
}

/// What the database says of itself, once it has been prepared. An id that is none is all zeroes.
pub async fn identity(client: &Client) -> Result<Identity, Error> {
    const ASKED: &str = "SELECT cluster_id, restored, EXISTS (SELECT 1 FROM restoring)
        FROM postroom_schema WHERE one = 1";
    let row = client.query_one(ASKED, &[]).await?;
    let cluster: Vec<u8> = row.try_get(0)?;
    let restored: i64 = row.try_get(1)?;
    let cluster = cluster.try_into().unwrap_or_default();
    Ok(Identity { cluster, restored: restored as u64, restoring: row.try_get(2)? })
}

/// Which start of which server this is.
pub async fn server(client: &Client) -> Result<String, Error> {
    client.query_one("SELECT pg_postmaster_start_time()::text", &[]).await?.try_get(0)
}

/// What the server does not promise, for the operator. `synchronous_commit = off` is refused unless it
/// is allowed: what was acknowledged could be lost by any crash.
pub async fn promises(client: &Client, allow_lossy: bool) -> Result<Vec<String>, OpenError> {
    const ASKED: &str = "SELECT current_setting('synchronous_commit'),
        current_setting('synchronous_standby_names'), current_setting('fsync')";
    let row = client.query_one(ASKED, &[]).await.map_err(OpenError::from_sql)?;
    let text = |column| row.try_get::<_, String>(column).map_err(OpenError::from_sql);
    let (commit, standbys, fsync) = (text(0)?, text(1)?, text(2)?);
    let mut warnings = Vec::new();
    for (name, value) in [("synchronous_commit", &commit), ("fsync", &fsync)] {
        if value == "off" && !allow_lossy {
            return Err(OpenError::Lossy(name));
        }
        if value == "off" {
            warnings.push(format!("{name} is off: a crash of the server loses acknowledged mail"));
        }
    }
    if standbys.trim().is_empty() || commit == "local" {
        warnings.push(
            "no standby is waited for: losing the server loses what was acknowledged since its \
             last backup; set synchronous_standby_names"
                .to_owned(),
        );
    }
    Ok(warnings)
}

async fn must_be_new_enough(client: &Client) -> Result<(), OpenError> {
    let row = client.query_one("SHOW server_version_num", &[]).await;
    let text: String = row.and_then(|row| row.try_get(0)).map_err(OpenError::from_sql)?;
    match text.parse::<u32>() {
        Ok(version) if version >= OLDEST_SERVER => Ok(()),
        Ok(_) | Err(_) => Err(OpenError::OldServer(text)),
    }
}

async fn make_first(client: &Client) -> Result<(), OpenError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match client.batch_execute(FIRST).await {
            Err(error) if tries < TRIES && made_meanwhile(&error) => {}
            outcome => return outcome.map_err(OpenError::from_sql),
        }
    }
}

/// Another node has made the same table at the same moment.
fn made_meanwhile(error: &Error) -> bool {
    let raced = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::INTERNAL_ERROR,
    ];
    error.code().is_some_and(|code| raced.contains(code))
}
