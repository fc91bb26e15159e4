//! Servers that are killed and connections that are cut while commits go on: what was acknowledged is
//! there, what is unknown is found out, and nothing is done twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::eventually::eventually;
use super::*;
use std::sync::atomic::Ordering::SeqCst;

/// Writers, each with an account of its own.
const WRITERS: u8 = 8;
/// Acknowledged commits between two disturbances.
const BETWEEN: u64 = 40;

/// What a run has come to.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
    enough: AtomicBool,
}

/// Commits one row after the other until there is enough; what must be there in the end.
async fn writer(engine: Arc<PostgresEngine>, account: u8, tally: Arc<Tally>) {
    let owner = Owner::new(&engine, account, account).await;
    let mut expected = BTreeMap::new();
    let mut n = 0u64;
    while !tally.enough.load(SeqCst) {
        n += 1;
        let mut id = [account; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let id = TransactionId(id);
        let (name, value) =
            (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from(vec![account; 900]));
        let done = Idempotency { transaction: id, result: name.clone() };
        let writes = vec![put(name.clone(), value.clone())];
        match engine.commit(owner.commit(writes, vec![done])).await {
            Ok(_) => {
                tally.acknowledged.fetch_add(1, SeqCst);
                expected.insert(name, value);
            }
            Err(StorageError::UnknownOutcome(_)) => {
                tally.unknown.fetch_add(1, SeqCst);
                // Nothing is accepted until the head has been read.
                let again = engine.commit(owner.commit(vec![], vec![])).await;
                assert!(matches!(again, Err(StorageError::UnknownOutcome(_))), "{again:?}");
                let ask = async || engine.head(owner.space).await.ok();
                eventually("the head can be read", ask).await;
                let ask = async || engine.transaction(owner.space, id).await.ok();
                if eventually("the transaction can be asked for", ask).await.is_some() {
                    expected.insert(name, value);
                }
            }
            Err(StorageError::Unavailable(_)) => {
                tally.refused.fetch_add(1, SeqCst);
                // The next one has a number of its own: this one must never be there.
                let ask = async || engine.head(owner.space).await.ok();
                eventually("the database is back", ask).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let found: BTreeMap<_, _> = all(&engine, owner.space).await.into_iter().collect();
    assert_eq!(found, expected, "account {account}");
}

/// Lets writers write while they are disturbed so many times; prints what came of it.
async fn run(engine: Arc<PostgresEngine>, times: u64, mut disturb: impl AsyncFnMut()) -> u64 {
    let tally = Arc::new(Tally::default());
    let writers = (1..=WRITERS).map(|account| writer(engine.clone(), account, tally.clone()));
    let disturbing = async {
        for time in 1..=times {
            let ask = async || (tally.acknowledged.load(SeqCst) >= time * BETWEEN).then_some(());
            eventually("commits go on", ask).await;
            disturb().await;
        }
        let before = tally.acknowledged.load(SeqCst);
        let ask = async || (tally.acknowledged.load(SeqCst) >= before + BETWEEN).then_some(());
        eventually("commits go on", ask).await;
        tally.enough.store(true, SeqCst);
    };
    tokio::join!(futures::future::join_all(writers), disturbing);
    let unknown = tally.unknown.load(SeqCst);
    println!(
        "{} acknowledged, {unknown} unknown and found out, {} refused",
        tally.acknowledged.load(SeqCst),
        tally.refused.load(SeqCst)
    );
    unknown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let server = Arc::new(Postgres::start(&[]).unwrap());
    let engine = open(&server.database().unwrap()).await;
    let kill = async || {
        let server = server.clone();
        let killing = tokio::task::spawn_blocking(move || {
            server.kill().unwrap();
            server.start_again().unwrap();
        });
        killing.await.unwrap();
    };
    run(engine, 4, kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_go_on_after_their_connections_are_cut() {
    let database = database().await;
    let engine = open(&database).await;
    let other = raw(&database).await;
    let cut = async || {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        other.batch_execute(cut).await.unwrap();
    };
    run(engine, 10, cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_away_is_used_again_without_a_restart() {
    let server = Postgres::start(&[]).unwrap();
    let engine = open(&server.database().unwrap()).await;
    let owner = Owner::new(&engine, 1, 1).await;
    let write = async || engine.commit(owner.commit(vec![put("k", "v")], vec![])).await;
    assert_eq!(write().await, Ok(Committed { head: 1 }));
    server.stop().unwrap();
    for _ in 0..3 {
        let refused = write().await;
        assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
        assert!(matches!(engine.head(owner.space).await, Err(StorageError::Unavailable(_))));
    }
    server.start_again().unwrap();
    assert_eq!(write().await, Ok(Committed { head: 2 }));
}

#[tokio::test]
async fn reading_the_head_after_an_unknown_outcome_shuts_the_late_commit_out() {
    let engine = empty_engine().await;
    let owner = Owner::new(&engine, 1, 1).await;
    let write = async |head| {
        let commit = owner.commit(vec![put("k", "v")], vec![]);
        engine.commit(Commit { expected_head: head, ..commit }).await
    };
    write(None).await.unwrap();
    engine.shared.unknown(owner.space, Some(owner.fence));
    assert!(matches!(write(None).await, Err(StorageError::UnknownOutcome(_))));
    // Whatever was planned when the head was 1 does not find it any more.
    let heads = tokio::join!(engine.head(owner.space), engine.head(owner.space));
    assert_eq!(heads, (Ok(2), Ok(2)));
    assert_eq!(write(Some(1)).await, Err(StorageError::HeadMoved { found: 2 }));
    assert_eq!(write(Some(2)).await, Ok(Committed { head: 3 }));
}

#[tokio::test]
async fn an_unknown_outcome_under_a_claim_that_was_taken_over_is_found_out_too() {
    let engine = empty_engine().await;
    let owner = Owner::new(&engine, 1, 1).await;
    engine.shared.unknown(owner.space, Some(owner.fence));
    let taken = Owner::new(&engine, 1, 2).await;
    assert_eq!(engine.head(owner.space).await, Ok(0));
    let again = engine.commit(owner.commit(vec![], vec![])).await;
    assert_eq!(again, Err(StorageError::Fenced));
    assert_eq!(engine.commit(taken.commit(vec![], vec![])).await, Ok(Committed { head: 1 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_halted_for_a_while_loses_nothing() {
    let server = Postgres::start(&[]).unwrap();
    let engine = open(&server.database().unwrap()).await;
    let owner = Owner::new(&engine, 1, 1).await;
    engine.commit(owner.commit(vec![], vec![])).await.unwrap();
    server.pause().unwrap();
    let mut commit = Box::pin(engine.commit(owner.commit(vec![put("k", "v")], vec![])));
    assert!(futures::poll!(&mut commit).is_pending());
    server.resume().unwrap();
    assert_eq!(commit.await, Ok(Committed { head: 2 }));
}
