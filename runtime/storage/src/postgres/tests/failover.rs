//! A fail-over to a standby that had not got everything which was acknowledged.

use std::collections::BTreeSet;

use super::eventually::eventually;
use super::restoring::{ledger_in, ledger_of};
use super::*;

/// Commits after each of which one more UID is announced.
async fn announce(engine: &PostgresEngine, owner: &Owner, uids: std::ops::Range<u32>) -> Vec<u32> {
    let mut announced = Vec::new();
    for uid in uids {
        engine.commit(owner.commit(ledger_of(uid), vec![])).await.unwrap();
        announced.push(uid);
    }
    announced
}

/// Asks until the database is there again.
async fn back<T>(mut ask: impl AsyncFnMut() -> Result<T, StorageError>) -> Result<T, StorageError> {
    let ask = async || match ask().await {
        Err(StorageError::Unavailable(_)) => None,
        Err(StorageError::UnknownOutcome(_)) => None,
        outcome => Some(outcome),
    };
    eventually("the database is back", ask).await
}

/// A primary whose standby was cut off, and then commits, and then died.
struct FailedOver {
    engine: Arc<PostgresEngine>,
    connection: String,
    _servers: (Postgres, Postgres),
    /// Accounts of which the standby lacks commits, and one of which it has all.
    lost: [Owner; 2],
    kept: Owner,
    announced: BTreeSet<u32>,
    head: u64,
}

async fn failed_over() -> FailedOver {
    let (primary, standby) = tokio::task::spawn_blocking(|| {
        let primary = Postgres::start(&[]).unwrap();
        let standby = primary.standby().unwrap();
        (primary, standby)
    })
    .await
    .unwrap();
    let database = primary.database().unwrap();
    let name = database.rsplit('=').next().unwrap().to_owned();
    let connection = primary.connection_or(&standby, &name);
    let engine = open(&connection).await;
    let [one, other, kept] = [1, 2, 3];
    let lost = [Owner::new(&engine, one, 1).await, Owner::new(&engine, other, 2).await];
    let kept = Owner::new(&engine, kept, 3).await;
    let mut announced: BTreeSet<u32> = BTreeSet::new();
    for owner in lost.iter().chain([&kept]) {
        announced.extend(announce(&engine, owner, 1..11).await);
    }
    primary.wait_for(&standby).unwrap();
    standby.cut_off().unwrap();
    for owner in &lost {
        announced.extend(announce(&engine, owner, 11..31).await);
    }
    let head = engine.head(lost[0].space).await.unwrap();
    primary.kill().unwrap();
    standby.promote().unwrap();
    FailedOver { engine, connection, _servers: (primary, standby), lost, kept, announced, head }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_lacks_is_noticed_whatever_is_asked_first() {
    let failed = failed_over().await;
    let FailedOver { engine, lost: [one, other], kept, .. } = &failed;
    // An account of which nothing is lost goes on.
    let written = back(async || engine.commit(kept.commit(ledger_of(11), vec![])).await).await;
    assert_eq!(written, Ok(Committed { head: 11 }));
    // A read is refused, without a commit before it.
    let at = Key { area: Area::Message, octets: "k".into() };
    let read = back(async || engine.get_many(one.space, vec![at.clone()]).await).await;
    assert!(matches!(read, Err(StorageError::WentBack(_))), "{read:?}");
    let name = engine.body(one.space, "n").await;
    assert!(matches!(name, Err(StorageError::WentBack(_))), "{name:?}");
    // So is a commit, though others may have moved the head past what was known meanwhile.
    let further = raw(&failed.connection_to_standby()).await;
    let at = key::head(other.space);
    let moved = crate::row::encode(&at, &1000u64);
    further
        .execute("UPDATE heads SET value = $2 WHERE key = $1", &[&at, &&moved[..]])
        .await
        .unwrap();
    let written = engine.commit(other.commit(ledger_of(31), vec![])).await;
    assert!(matches!(written, Err(StorageError::WentBack(_))), "{written:?}");
    // A process that knows of nothing is told.
    let fresh = open(&failed.connection).await;
    for owner in [one, other] {
        let head = fresh.head(owner.space).await;
        assert!(matches!(head, Err(StorageError::WentBack(_))), "{head:?}");
    }
    assert_eq!(fresh.head(kept.space).await, Ok(11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_no_number_is_used_twice() {
    let failed = failed_over().await;
    let FailedOver { engine, lost, kept, announced, head, .. } = &failed;
    let refused = back(async || engine.commit(lost[0].commit(ledger_of(11), vec![])).await).await;
    assert!(matches!(refused, Err(StorageError::WentBack(_))), "{refused:?}");
    let mut pages = Vec::new();
    let options = PostgresOptions::new(&failed.connection);
    let restored = restore(&options, |page| pages.push(page)).await.unwrap();
    assert_eq!((restored.raised, restored.left, restored.times), (3, 0, 1), "{restored:?}");
    assert_eq!(pages.last(), Some(&RestoreProgress { done: 3, of: 3 }));
    let late = engine.commit(kept.commit(ledger_of(11), vec![])).await;
    assert_eq!(late, Err(StorageError::Fenced));
    let engine = open(&failed.connection).await;
    for (n, before) in lost.iter().chain([kept]).enumerate() {
        let owner = Owner::new(&engine, n as u8 + 1, 9).await;
        assert!(owner.fence.epoch > before.fence.epoch);
        let (account, mailbox) = ledger_in(&engine, owner.space).await;
        assert!(account.modseq.0 > 31 && mailbox.highest_modseq.0 > 31);
        let next = mailbox.uid_next.get();
        for uid in announce(&engine, &owner, next..next + 30).await {
            assert!(!announced.contains(&uid), "{uid} was announced before");
        }
        assert!(engine.head(owner.space).await.unwrap() > *head);
    }
}

impl FailedOver {
    fn connection_to_standby(&self) -> String {
        let name = self.connection.rsplit('=').next().unwrap();
        self._servers.1.connection(name)
    }
}
