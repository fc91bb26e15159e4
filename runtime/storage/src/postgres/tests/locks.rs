//! Rows that somebody else has locked: whoever is behind the lock waits, nobody else.

use std::time::Instant;

use super::*;

/// More accounts than share a group by chance.
const ACCOUNTS: u8 = 24;

/// Takes a lock until the connection is told to let go.
async fn lock(database: &str, table: &str, at: &[u8]) -> tokio_postgres::Client {
    let holder = raw(database).await;
    holder.batch_execute("BEGIN").await.unwrap();
    let taking = format!("SELECT 1 FROM {table} WHERE key = $1 FOR UPDATE");
    assert_eq!(holder.query(&taking, &[&at]).await.unwrap().len(), 1);
    holder
}

async fn one_of_many_is_behind_a_lock(table: &str, at: impl Fn(&Owner) -> Vec<u8>) {
    let database = database().await;
    let engine = open(&database).await;
    let mut owners: Vec<Owner> = Vec::new();
    for account in 1..=ACCOUNTS {
        let slot = Slot::of(AccountId([account; 16]));
        if owners.iter().all(|owner| owner.fence.slot != slot) {
            owners.push(Owner::new(&engine, account, account).await);
        }
    }
    let write =
        async |owner: &Owner| engine.commit(owner.commit(vec![put("k", "v")], vec![])).await;
    for owner in &owners {
        write(owner).await.unwrap();
    }
    let holder = lock(&database, table, &at(&owners[3])).await;
    let outcomes = futures::future::join_all(owners.iter().map(write)).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(committed) => assert_eq!((*committed, n == 3), (Committed { head: 2 }, false)),
            Err(StorageError::Unavailable(why)) => {
                assert!(n == 3 && why.contains("lock"), "{n}: {why}")
            }
            Err(error) => panic!("{n}: {error}"),
        }
    }
    // Who comes again does not keep the others waiting again.
    let start = Instant::now();
    for round in 0..10 {
        let (behind, others) = owners.split_at(4);
        let (refused, done) =
            tokio::join!(write(&behind[3]), futures::future::join_all(others.iter().map(write)));
        assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{round}: {refused:?}");
        assert!(done.iter().all(Result::is_ok), "{round}: {done:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(write(&owners[3]).await, Ok(Committed { head: 2 }));
    assert_eq!(write(&owners[3]).await, Ok(Committed { head: 3 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_claim_keeps_only_its_own_slot_waiting() {
    one_of_many_is_behind_a_lock("claims", |owner| key::claim(owner.fence.slot)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_head_keeps_only_its_own_account_waiting() {
    one_of_many_is_behind_a_lock("heads", |owner| key::head(owner.space)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_on_another_row_keeps_only_whoever_writes_it_waiting() {
    let database = database().await;
    let engine = open(&database).await;
    let owner = Owner::new(&engine, 1, 1).await;
    let other = Owner::new(&engine, 2, 2).await;
    let write =
        async |owner: &Owner| engine.commit(owner.commit(vec![put("k", "v")], vec![])).await;
    write(&owner).await.unwrap();
    write(&other).await.unwrap();
    let at = key::row(owner.space, &Key { area: Area::Message, octets: "k".into() });
    let holder = lock(&database, "rows", &at).await;
    let (refused, done) = tokio::join!(write(&owner), write(&other));
    assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
    assert_eq!(done, Ok(Committed { head: 2 }));
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(write(&owner).await, Ok(Committed { head: 2 }));
}
