//! Rows that somebody else has locked. A group must not fail because of one member whose claim or head is
//! behind a lock: it is found out which ones are, and the others go on without them.
//!
//! A statement is several messages, after all: the server executes it when it has been told to, and its
//! transaction ends with one more message (Sync). A network that dies between the two leaves a session with
//! locks that no timeout of the server's ends: the statement is over, and the session is not idle. Whoever
//! waits behind it ends it. Its client has no answer, so nothing was acknowledged.

use std::collections::HashSet;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::{Client, Error};

use super::connect::READ_TIME;
use crate::{Commit, Space, key};

/// Most rows that are remembered as locked: more than others can have locked at a time. What is beyond is
/// found out again each time.
const MAX_LOCKED: usize = 1024;

/// Of these rows, those that cannot be locked now as a group locks them. It waits for nobody.
const HELD: &str = "
WITH claimable AS (SELECT key FROM claims WHERE key = ANY($1) FOR SHARE SKIP LOCKED),
movable AS (SELECT key FROM heads WHERE key = ANY($1) FOR NO KEY UPDATE SKIP LOCKED)
SELECT key FROM claims WHERE key = ANY($1) AND key NOT IN (SELECT key FROM claimable)
UNION ALL
SELECT key FROM heads WHERE key = ANY($1) AND key NOT IN (SELECT key FROM movable)";

/// Ends sessions of this database's and this role's that have changed or locked something and have waited
/// for a message in the middle of a statement's for so long: in good order that is microseconds.
///
/// They are found first, apart: conditions beside each other are tried in any order, and ending a session is one.
const END_STALLED: &str = "
WITH stalled AS MATERIALIZED (SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
AND state = 'active' AND wait_event = 'ClientRead' AND backend_xid IS NOT NULL
AND state_change < clock_timestamp() - interval '1 second')
SELECT pid FROM stalled WHERE pg_terminate_backend(pid)";

/// Rows that were behind a lock when they were looked at last.
#[derive(Debug, Default)]
pub struct Locked(HashSet<Vec<u8>>);

impl Locked {
    /// Whether a commit has to do with one of them.
    pub fn concerns(&self, commit: &Commit) -> bool {
        !self.0.is_empty() && keys(commit).any(|at| self.0.contains(&at))
    }

    /// Remembers these too; not the head of the directory, which nodes lock in turn all the time.
    pub fn add(&mut self, more: Locked) {
        let directory = key::head(Space::Directory);
        for at in more.0 {
            if self.0.len() < MAX_LOCKED && at != directory {
                self.0.insert(at);
            }
        }
    }

    /// Looks again at what these commits lock; they must all concern it. What has become free is forgotten.
    pub async fn look_again(&mut self, client: &Object, commits: &[&Commit]) -> Result<(), Error> {
        let held = held(client, commits).await?;
        let asked: HashSet<Vec<u8>> = commits.iter().flat_map(|commit| keys(commit)).collect();
        self.0.retain(|at| !asked.contains(at));
        self.add(held);
        Ok(())
    }
}

/// Ends sessions that hold locks and hear nothing more of their clients; how many there were.
pub async fn end_stalled(client: &Client) -> Result<usize, Error> {
    // Not by name: it is rare, and a statement that is prepared costs each connection memory.
    let ended = client.query(END_STALLED, &[]).await?.len();
    if ended > 0 {
        tracing::warn!(sessions = ended, "sessions that kept locks and heard nothing were ended");
    }
    Ok(ended)
}

/// What these commits lock that somebody else has locked; nothing where that cannot be found out.
pub async fn found(client: Object, commits: &[&Commit]) -> Locked {
    let look = async {
        end_stalled(&client).await?;
        held(&client, commits).await
    };
    match timeout(READ_TIME, look).await {
        Ok(held) => held.unwrap_or_default(),
        Err(_) => {
            drop(Object::take(client));
            Locked::default()
        }
    }
}

async fn held(client: &Object, commits: &[&Commit]) -> Result<Locked, Error> {
    let asked: HashSet<Vec<u8>> = commits.iter().flat_map(|commit| keys(commit)).collect();
    let asked: Vec<Vec<u8>> = asked.into_iter().collect();
    let statement = client.prepare_cached(HELD).await?;
    let rows = client.query(&statement, &[&asked]).await?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map(Locked)
}

/// The claim and the head.
fn keys(commit: &Commit) -> impl Iterator<Item = Vec<u8>> {
    let claim = commit.fence.map(|fence| key::claim(fence.slot));
    claim.into_iter().chain([key::head(commit.space)])
}
