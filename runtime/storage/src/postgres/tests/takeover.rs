//! Claims that change hands while commits are under way.

use std::collections::BTreeMap;

use super::eventually::eventually;
use super::*;
use crate::row;
use crate::rows::ClaimRow;

/// Waits until a statement of somebody else waits for a lock.
async fn somebody_waits(observer: &tokio_postgres::Client) {
    let asked = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let ask = async || {
        let waiting: i64 = observer.query_one(asked, &[]).await.unwrap().get(0);
        (waiting > 0).then_some(())
    };
    eventually("a statement waits for a lock", ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waited_while_its_claim_was_taken_has_no_effect() {
    let database = database().await;
    let engine = open(&database).await;
    let owner = Owner::new(&engine, 1, 1).await;
    let (taker, observer) = (raw(&database).await, raw(&database).await);
    let at = key::claim(owner.fence.slot);
    taker.batch_execute("BEGIN").await.unwrap();
    taker.execute("SELECT 1 FROM claims WHERE key = $1 FOR UPDATE", &[&at]).await.unwrap();
    let commit = {
        let engine = engine.clone();
        tokio::spawn(
            async move { engine.commit(owner.commit(vec![put("k", "late")], vec![])).await },
        )
    };
    somebody_waits(&observer).await;
    let claim = ClaimRow {
        epoch: Epoch(2),
        node: "other".to_owned(),
        generation: 1,
        nonce: [2; 16],
        released: false,
    };
    let taken = row::encode(&at, &claim);
    let update = "UPDATE claims SET value = $2 WHERE key = $1";
    taker.execute(update, &[&at, &&taken[..]]).await.unwrap();
    taker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(commit.await.unwrap(), Err(StorageError::Fenced));
    assert_eq!(all(&engine, owner.space).await, []);
    assert_eq!(engine.head(owner.space).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_stuck_in_its_commit_does_not_keep_the_claim() {
    let database = database().await;
    let (old, new) = (open(&database).await, open(&database).await);
    let owner = Owner::new(&old, 1, 1).await;
    old.commit(owner.commit(vec![put("k", "first")], vec![])).await.unwrap();
    let (holder, observer) = (raw(&database).await, raw(&database).await);
    holder.batch_execute("BEGIN; SELECT 1 FROM heads FOR UPDATE").await.unwrap();
    let stuck = {
        let old = old.clone();
        tokio::spawn(async move { old.commit(owner.commit(vec![put("k", "late")], vec![])).await })
    };
    somebody_waits(&observer).await;
    let slot = owner.fence.slot;
    let ask = async || claim(&new, slot, 2).await.ok();
    let fence = eventually("the slot is taken over", ask).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let late = stuck.await.unwrap();
    assert!(matches!(late, Err(StorageError::Unavailable(_) | StorageError::Fenced)), "{late:?}");
    let taken = Owner { fence, ..owner };
    let next = new.commit(taken.commit(vec![put("n", "second")], vec![])).await;
    assert_eq!(next, Ok(Committed { head: 2 }));
    let again = old.commit(owner.commit(vec![put("k", "late")], vec![])).await;
    assert_eq!(again, Err(StorageError::Fenced));
    let rows = all(&new, owner.space).await;
    assert_eq!(rows, [("k".into(), "first".into()), ("n".into(), "second".into())]);
}

/// Directory commits of many nodes are in each other's way: all go through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_to_the_directory_at_once_all_get_through() {
    let database = database().await;
    let engines = futures::future::join_all((0..3).map(|_| open(&database))).await;
    let commits = (0..60u64).map(|n| {
        let commit = Commit {
            space: Space::Directory,
            fence: None,
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes: vec![put(n.to_be_bytes().to_vec(), "v")],
            now: 0,
        };
        engines[n as usize % 3].commit(commit)
    });
    let mut heads: Vec<u64> = Vec::new();
    for outcome in futures::future::join_all(commits).await {
        heads.push(outcome.unwrap().head);
    }
    heads.sort_unstable();
    assert_eq!(heads, (1..=60).collect::<Vec<_>>());
    assert_eq!(all(&engines[0], Space::Directory).await.len(), 60);
}

/// Two nodes claim and write in random orders, often with claims that are not theirs any more. What
/// was acknowledged, in the order of its heads, is what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_orders_leave_what_was_acknowledged() {
    const ACCOUNTS: u64 = 3;
    const ROUNDS: u64 = 60;
    let database = database().await;
    let engines = [open(&database).await, open(&database).await];
    let mut random = Random::seeded();
    let mut owners = Vec::new();
    for account in 0..ACCOUNTS {
        owners.push(vec![Owner::new(&engines[0], account as u8, 0).await]);
    }
    let mut acknowledged = vec![BTreeMap::new(); ACCOUNTS as usize];
    let (mut fenced, mut done) = (0, 0);
    for round in 0..ROUNDS {
        // Some claims and some commits of old and new owners, all at once.
        let mut commits = Vec::new();
        for n in 0..random.below(12) {
            let account = random.below(ACCOUNTS) as usize;
            let known = &owners[account];
            let owner = known[known.len() - 1 - random.below(known.len().min(3) as u64) as usize];
            let name = format!("{:02}", random.below(20));
            let value = Bytes::from(format!("{round}.{n}"));
            let write = match random.below(4) {
                0 => Write::DeleteRange {
                    area: Area::Message,
                    start: name.into(),
                    end: format!("{:02}", random.below(20)).into(),
                },
                1 => Write::Delete(Key { area: Area::Message, octets: name.into() }),
                _ => put(name, value),
            };
            let engine = engines[random.below(2) as usize].clone();
            commits.push(async move {
                let writes = vec![write.clone()];
                (account, write, engine.commit(owner.commit(writes, vec![])).await)
            });
        }
        let claiming = random.below(ACCOUNTS + 2) as usize;
        let claimed = async {
            let slot = owners.get(claiming)?.first()?.fence.slot;
            claim(&engines[round as usize % 2], slot, round as u8 + 1).await.ok()
        };
        let (outcomes, claimed) = tokio::join!(futures::future::join_all(commits), claimed);
        if let Some(fence) = claimed {
            let before = owners[claiming][0];
            owners[claiming].push(Owner { fence, ..before });
        }
        for (account, write, outcome) in outcomes {
            match outcome {
                Ok(Committed { head }) => {
                    done += 1;
                    assert_eq!(acknowledged[account].insert(head, write), None, "head {head}");
                }
                Err(StorageError::Fenced) => fenced += 1,
                Err(error) => panic!("round {round}: {error}"),
            }
        }
    }
    println!("{done} acknowledged, {fenced} fenced");
    assert!(done > 0 && fenced > 0);
    for (owners, acknowledged) in owners.iter().zip(acknowledged) {
        let space = owners[0].space;
        assert_eq!(engines[0].head(space).await, Ok(acknowledged.len() as u64));
        let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        for (n, (head, write)) in acknowledged.into_iter().enumerate() {
            assert_eq!(head, n as u64 + 1);
            match write {
                Write::Put(at, value) => drop(model.insert(at.octets, value)),
                Write::Delete(at) => drop(model.remove(&at.octets)),
                Write::DeleteRange { start, end, .. } => {
                    model.retain(|key, _| !(start <= *key && *key < end));
                }
                Write::LinkBody { .. } | Write::UnlinkBody { .. } => unreachable!("no bodies here"),
            }
        }
        assert_eq!(all(&engines[1], space).await, model.into_iter().collect::<Vec<_>>());
    }
}
