//! After the database has gone back (a restored backup, a fail-over to a standby that had not got
//! everything): numbers that may have been announced are never given again.
//!
//! What was announced after the state that the database is in now is not known. So everything that counts
//! up is raised by a gap that is larger than what can have been announced meanwhile: heads of spaces and
//! epochs of claims, which are this layer's own, and what the host keeps in an account's ledger: its
//! mod-sequence, its UIDVALIDITY mark, and of each mailbox UIDNEXT and the highest mod-sequence.
//!
//! One step begins it: all claims become nobody's, and the database gets a new *incarnation* (`restored`).
//! No process of an older one commits, claims or connects any more, and none is opened until the end. Then
//! spaces follow in their order, a page in one statement, which also says how far it is. So it may end
//! anywhere: the next one goes on from there, and nothing is raised twice.

use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::Object;
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, AccountRow, CountersRow, RestoredRow, RowKind};
use postroom_core::mailbox::limits::MAX_MAILBOXES;
use postroom_core::types::{Epoch, ModSeq, Uid};
use tokio_postgres::Error;

use super::connect::{Connections, Failure, why};
use super::known::{Known, Wants};
use super::{OpenError, PostgresOptions, fetch};
use crate::rows::{ClaimRow, Rows as _};
use crate::{Area, Key, Space, StorageError, key, row};

/// A node is taken for alive whose last heartbeat is younger: many times what others wait before they take
/// its slots over.
pub const ALIVE_AGE: Duration = Duration::from_secs(30);
/// What heads and epochs are raised by: more than commits and claims can ever have been lost.
const COUNT_GAP: u64 = 1 << 32;
/// What mod-sequences are raised by: more than changes can have been lost. 2³⁰ restores have room.
const MODSEQ_GAP: u64 = 1 << 32;
/// What UIDNEXT of each mailbox is raised by: more than messages can have come to one mailbox in what was
/// lost. A mailbox outlives four thousand restores; after the last one it takes no more messages.
const UID_GAP: u32 = 1 << 20;
/// What the highest UIDVALIDITY of an account is raised by, above the time too: more than mailboxes can
/// have been made in a second, over and over. It is 18 hours of the clock that it follows.
const UID_VALIDITY_GAP: u32 = 1 << 16;
/// Spaces that one statement raises: with few mailboxes each some hundred kilobytes.
const PAGE: i64 = 64;
/// Most spaces that could not be raised which are named; the others are counted.
const MAX_NAMED: usize = 100;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Spaces that have been raised, by earlier attempts too.
    pub done: u64,
    /// All spaces.
    pub of: u64,
}

/// What it has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// How often this database has been restored by now.
    pub times: u64,
    /// Whether an earlier attempt was gone on with.
    pub resumed: bool,
    /// Accounts (and the directory) that this attempt has raised.
    pub raised: u64,
    /// Those that are damaged: they stay refused until they are mended and this is done again.
    pub left: u64,
    /// Why, for some of them.
    pub named: Vec<String>,
}

/// Why nothing, or only a part, was done. To do it again is right in any case.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A node may be at work: stop it first.
    #[error("node {node} was alive {} seconds ago: stop all nodes, and try again {} seconds later", age.as_secs(), ALIVE_AGE.as_secs())]
    Alive {
        /// Its id.
        node: String,
        /// Since its last heartbeat.
        age: Duration,
    },
    /// Somebody else does the same at the same time.
    #[error("somebody else is restoring the same database; let that finish")]
    InTheWay,
    /// The database is away, or a connection was lost: the next attempt goes on from there.
    #[error("the database was lost; to do it again goes on from here: {0}")]
    Unavailable(String),
}

impl From<Error> for RestoreError {
    fn from(error: Error) -> Self {
        match Failure::of(&error) {
            Failure::Refused => Self::InTheWay,
            Failure::InTheWay | Failure::Locked | Failure::NoEffect | Failure::Lost => {
                Self::Unavailable(why(&error))
            }
        }
    }
}

/// Raises everything that counts up, as the module says, or goes on with that. Refused while a node is
/// alive. `progress` is told after each page. The engine can be opened again when this has succeeded.
pub async fn restore(
    options: &PostgresOptions,
    mut progress: impl FnMut(RestoreProgress),
) -> Result<Restored, RestoreError> {
    let connections = Connections::open(options).await?;
    let unavailable = |error: StorageError| RestoreError::Unavailable(error.to_string());
    let mut client = connections.to_read().await.map_err(unavailable)?;
    let mut run = begin(&mut client).await?;
    let of = count(&client, &[u8::MAX]).await?;
    let before = count(&client, &run.upto).await?;
    loop {
        progress(RestoreProgress { done: before + run.restored.raised + run.restored.left, of });
        if !run.page(&client).await? {
            break;
        }
    }
    run.finish(&mut client).await?;
    Ok(run.restored)
}

/// An attempt.
struct Run {
    restored: Restored,
    /// The key of the last head that has been raised; empty: none.
    upto: Vec<u8>,
    /// Host time in seconds since the Unix epoch, by the database's clock.
    now: i64,
}

async fn count(client: &Object, upto: &[u8]) -> Result<u64, Error> {
    let row = client.query_one("SELECT count(*) FROM heads WHERE key <= $1", &[&upto]).await?;
    Ok(row.try_get::<_, i64>(0)? as u64)
}

/// Makes all claims nobody's and gives the database a new incarnation, unless that has been done.
async fn begin(client: &mut Object) -> Result<Run, RestoreError> {
    const STATE: &str = "SELECT restored, (SELECT upto FROM restoring WHERE one = 1),
        extract(epoch FROM clock_timestamp())::int8 FROM postroom_schema WHERE one = 1 FOR UPDATE";
    const ALIVE: &str = "SELECT node, extract(epoch FROM clock_timestamp() - at)::float8 FROM beats
        WHERE at > clock_timestamp() - make_interval(secs => $1) ORDER BY at DESC LIMIT 1";
    const BEGIN: &str = "UPDATE postroom_schema SET restored = restored + 1 WHERE one = 1;
        INSERT INTO counting (one, counted_from)
        SELECT 1, greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
            (SELECT counted_from + 1 FROM counting), (SELECT max(times) + 1 FROM beats))
        ON CONFLICT (one) DO UPDATE SET counted_from = EXCLUDED.counted_from;
        INSERT INTO restoring (one, upto) VALUES (1, '');
        UPDATE gone_back SET kept = false";
    let transaction = client.transaction().await?;
    let state = transaction.query_one(STATE, &[]).await?;
    let (times, upto): (i64, Option<Vec<u8>>) = (state.try_get(0)?, state.try_get(1)?);
    if let Some(beat) = transaction.query_opt(ALIVE, &[&ALIVE_AGE.as_secs_f64()]).await? {
        let age = Duration::try_from_secs_f64(beat.try_get::<_, f64>(1)?.max(0.0));
        return Err(RestoreError::Alive { node: beat.try_get(0)?, age: age.unwrap_or_default() });
    }
    let resumed = upto.is_some();
    if !resumed {
        // Nobody claims meanwhile; groups under way under a claim come to their end first.
        transaction.batch_execute("LOCK TABLE claims IN SHARE ROW EXCLUSIVE MODE").await?;
        raise_claims(&transaction).await?;
        transaction.batch_execute(BEGIN).await?;
    }
    transaction.commit().await?;
    let times = times as u64 + u64::from(!resumed);
    Ok(Run {
        restored: Restored { times, resumed, ..Restored::default() },
        upto: upto.unwrap_or_default(),
        now: state.try_get(2)?,
    })
}

async fn raise_claims(
    transaction: &deadpool_postgres::Transaction<'_>,
) -> Result<(), RestoreError> {
    const SET: &str = "UPDATE claims c SET value = w.now
        FROM unnest($1::bytea[], $2::bytea[]) AS w (key, now) WHERE c.key = w.key";
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for found in transaction.query("SELECT key, value FROM claims", &[]).await? {
        let (at, stored): (Vec<u8>, Vec<u8>) = (found.try_get(0)?, found.try_get(1)?);
        let claim = row::payload(&at, &stored).and_then(|of| row::decode::<ClaimRow>(&at, of));
        // Nothing is ever committed under a damaged one.
        let Ok(mut claim) = claim else { continue };
        claim.epoch = Epoch(claim.epoch.0.saturating_add(COUNT_GAP));
        claim.released = true;
        getrandom::fill(&mut claim.nonce)
            .map_err(|error| RestoreError::Unavailable(error.to_string()))?;
        values.push(row::encode(&at, &claim).to_vec());
        keys.push(at);
    }
    transaction.execute(SET, &[&keys, &values]).await?;
    Ok(())
}

/// What a page writes.
#[derive(Default)]
struct Raised {
    /// Heads: key, what it was, what it becomes.
    heads: Vec<(Bytes, Bytes, Bytes)>,
    rows: Vec<(Bytes, Bytes)>,
    /// Heads of spaces that stay refused.
    left: Vec<Bytes>,
}

impl Run {
    /// Raises the next spaces; whether there were any.
    async fn page(&mut self, client: &Object) -> Result<bool, RestoreError> {
        let mut from = self.upto.clone();
        from.push(0);
        let heads = fetch::heads(client, &from, PAGE).await?;
        let Some(last) = heads.last() else { return Ok(false) };
        let spaces: Vec<(Bytes, Option<Space>)> =
            heads.iter().map(|at| (at.clone(), key::space_of(at))).collect();
        let mut wants = Wants::default();
        for (at, space) in &spaces {
            wants.keys.insert(at.clone());
            if let Some(space @ Space::Account(_)) = space {
                wants.key(key::row(*space, &ledger_key(ledger::account_key())));
                let (start, end) = counters(*space);
                wants.range(start, end);
            }
        }
        let known = fetch::wanted(client, &wants, MAX_MAILBOXES as i64 + 1).await?;
        let mut raised = Raised::default();
        for (at, space) in &spaces {
            if let Err(error) = self.raise(&known, at, *space, &mut raised) {
                tracing::error!(%error, "an account stays closed: its numbers cannot be raised");
                raised.left.push(at.clone());
                if self.restored.named.len() < MAX_NAMED {
                    self.restored.named.push(error.to_string());
                }
            }
        }
        self.write(client, last, &raised).await?;
        self.upto = last.to_vec();
        self.restored.raised += raised.heads.len() as u64;
        self.restored.left += raised.left.len() as u64;
        Ok(true)
    }

    /// Raises what counts up in a space; all of it or nothing.
    fn raise(
        &self,
        known: &Known,
        at: &Bytes,
        space: Option<Space>,
        raised: &mut Raised,
    ) -> Result<(), StorageError> {
        let damaged = |what: &str| StorageError::Damaged(format!("{}: {what}", hex::encode(at)));
        let space = space.ok_or_else(|| damaged("the head of no space"))?;
        let head: u64 = known.record(at)?.ok_or_else(|| damaged("the head went meanwhile"))?;
        let rows = match space {
            Space::Directory => Vec::new(),
            Space::Account(_) => self.raise_account(known, space)?,
        };
        let was = known.rows.get(at).cloned().flatten().unwrap_or_default();
        let now = row::encode(at, &head.saturating_add(COUNT_GAP));
        raised.heads.push((at.clone(), was, now));
        raised.rows.extend(rows);
        Ok(())
    }

    /// The ledger of an account as it will be. One without a row of the account holds no mail yet:
    /// whatever it had been told since gets a later UIDVALIDITY by the clock.
    fn raise_account(
        &self,
        known: &Known,
        space: Space,
    ) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        let at = key::row(space, &ledger_key(ledger::account_key()));
        let Some(stored) = known.payload(&at)? else { return Ok(Vec::new()) };
        let mut account: AccountRow = ledger::decode(&stored).map_err(|why| unread(space, &why))?;
        let now = self.now.clamp(0, i64::from(u32::MAX)) as u32;
        account.modseq = ModSeq(account.modseq.0.saturating_add(MODSEQ_GAP));
        account.uid_validity = account.uid_validity.max(now).saturating_add(UID_VALIDITY_GAP);
        let mut rows = Vec::new();
        let mut put = |at: Vec<u8>, value: Bytes| {
            let stored = row::frame(&at, &value);
            rows.push((Bytes::from(at), stored));
        };
        put(at, ledger::encode(&account));
        let (start, end) = counters(space);
        let mut mailboxes = Vec::new();
        known.visit(&start, &end, &mut |at, stored| {
            mailboxes.push((at.to_vec(), Bytes::copy_from_slice(row::payload(at, stored)?)));
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        for (at, stored) in mailboxes {
            let counters: CountersRow =
                ledger::decode(&stored).map_err(|why| unread(space, &why))?;
            put(at, ledger::encode(&raised_mailbox(counters, account.modseq)));
        }
        let guarded = RestoredRow { times: self.restored.times };
        put(key::row(space, &ledger_key(ledger::restored_key())), ledger::encode(&guarded));
        Ok(rows)
    }

    async fn write(&self, client: &Object, last: &[u8], raised: &Raised) -> Result<(), Error> {
        const WRITE: &str = "
            WITH step AS (
                UPDATE restoring SET upto = $3 WHERE one = 1 AND upto = $2
                AND EXISTS (SELECT 1 FROM postroom_schema WHERE one = 1 AND restored = $1)
                RETURNING one),
            moved AS (
                UPDATE heads h SET value = w.now
                FROM unnest($4::bytea[], $5::bytea[], $6::bytea[]) AS w (key, was, now)
                WHERE h.key = w.key AND h.value = w.was RETURNING h.key),
            put AS (
                INSERT INTO rows (key, value) SELECT * FROM unnest($7::bytea[], $8::bytea[])
                ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value),
            stay AS (
                INSERT INTO gone_back (key, kept)
                SELECT w.key, true FROM unnest($9::bytea[]) AS w (key)
                ON CONFLICT (key) DO UPDATE SET kept = true)
            SELECT 1 / (CASE WHEN (SELECT count(*) FROM step) = 1
                AND (SELECT count(*) FROM moved) = cardinality($4) THEN 1 ELSE 0 END)";
        let statement = client.prepare_cached(WRITE).await?;
        let at: Vec<&[u8]> = raised.heads.iter().map(|(at, ..)| &at[..]).collect();
        let was: Vec<&[u8]> = raised.heads.iter().map(|(_, was, _)| &was[..]).collect();
        let now: Vec<&[u8]> = raised.heads.iter().map(|(.., now)| &now[..]).collect();
        let rows: Vec<&[u8]> = raised.rows.iter().map(|(at, _)| &at[..]).collect();
        let values: Vec<&[u8]> = raised.rows.iter().map(|(_, value)| &value[..]).collect();
        let left: Vec<&[u8]> = raised.left.iter().map(|at| &at[..]).collect();
        let times = self.restored.times as i64;
        client
            .query_one(
                &statement,
                &[&times, &self.upto, &last, &at, &was, &now, &rows, &values, &left],
            )
            .await?;
        Ok(())
    }

    /// Lets engines be opened again.
    async fn finish(&self, client: &mut Object) -> Result<(), RestoreError> {
        const DONE: &str = "DELETE FROM restoring WHERE one = 1 AND upto = $2
            AND EXISTS (SELECT 1 FROM postroom_schema WHERE one = 1 AND restored = $1)";
        let transaction = client.transaction().await?;
        let times = self.restored.times as i64;
        if transaction.execute(DONE, &[&times, &self.upto]).await? != 1 {
            return Err(RestoreError::InTheWay);
        }
        transaction.execute("DELETE FROM gone_back WHERE NOT kept", &[]).await?;
        Ok(transaction.commit().await?)
    }
}

fn ledger_key(octets: Bytes) -> Key {
    Key { area: Area::Ledger, octets }
}

fn counters(space: Space) -> (Vec<u8>, Vec<u8>) {
    let (start, end) = ledger::range_of(RowKind::Counters);
    key::rows(space, Area::Ledger, &start, &end)
}

/// What a session was told of removals is not known any more: none that was there before comes back to
/// this mailbox by what it knows.
fn raised_mailbox(counters: CountersRow, modseq: ModSeq) -> CountersRow {
    let uid_next = counters.uid_next.get().saturating_add(UID_GAP);
    CountersRow {
        uid_next: Uid::new(uid_next).unwrap_or(Uid::MAX),
        highest_modseq: modseq,
        removed: modseq,
        low_water: modseq,
        ..counters
    }
}

fn unread(space: Space, why: &StoreError) -> StorageError {
    StorageError::Damaged(format!("the ledger of {space:?}: {why}"))
}
