//! Rows that somebody else has locked. A group must not fail because of one member whose claim or head is
//! behind a lock: it is found out which ones are, and the others go on without them.

use std::collections::HashSet;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::Error;

use super::connect::READ_TIME;
use crate::{Commit, key};

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

/// Rows that were behind a lock when they were looked at last.
#[derive(Debug, Default)]
pub struct Locked(HashSet<Vec<u8>>);

impl Locked {
    /// Whether a commit has to do with one of them.
    pub fn concerns(&self, commit: &Commit) -> bool {
        !self.0.is_empty() && keys(commit).any(|at| self.0.contains(&at))
    }

    /// Remembers these too.
    pub fn add(&mut self, more: Locked) {
        for at in more.0 {
            if self.0.len() < MAX_LOCKED {
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

/// What these commits lock that somebody else has locked; nothing where that cannot be found out.
pub async fn found(client: Object, commits: &[&Commit]) -> Locked {
    match timeout(READ_TIME, held(&client, commits)).await {
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
