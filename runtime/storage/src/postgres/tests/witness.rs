//! A database that has gone back while nobody was there to see it.

use std::path::PathBuf;

use super::eventually::eventually;
use super::*;

/// A node's data folder, and the database that it uses.
struct Node {
    folder: tempfile::TempDir,
    database: String,
}

impl Node {
    async fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: database().await }
    }

    fn witness(&self) -> PathBuf {
        self.folder.path().join("seen")
    }

    async fn start(&self, database: &str) -> Result<PostgresEngine, OpenError> {
        let mut options = PostgresOptions::new(database);
        options.witness = Some(self.witness());
        PostgresEngine::open(options).await
    }

    /// Starts, beats once, commits to an account, and ends in good order.
    async fn lives(&self, nonce: u8) {
        let engine = self.start(&self.database).await.unwrap();
        engine.beat(claimant(nonce)).await.unwrap();
        let owner = Owner::new(&engine, 1, nonce).await;
        engine.commit(owner.commit(vec![put("k", vec![nonce])], vec![])).await.unwrap();
        engine.close().await.unwrap();
    }

    /// A copy of the database as it is.
    async fn backup(&self) -> String {
        let name = |database: &str| database.rsplit('=').next().unwrap().to_owned();
        let copy = format!("{}_backup", name(&self.database));
        let from = name(&self.database);
        let elsewhere = raw(&database().await).await;
        let made = format!("CREATE DATABASE {copy} TEMPLATE {from}");
        elsewhere.batch_execute(&made).await.unwrap();
        Postgres::shared().connection(&copy)
    }
}

/// Each start of the node has a generation of its own.
fn claimant(start: u8) -> Claimant {
    Claimant { node: "n1".to_owned(), generation: start.into(), nonce: [start; 16] }
}

async fn long_ago(database: &str) {
    let past = "UPDATE beats SET at = at - interval '1 hour'";
    raw(database).await.batch_execute(past).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_took_the_databases_place_while_no_node_ran_is_refused_by_all() {
    let node = Node::new().await;
    node.lives(1).await;
    let backup = node.backup().await;
    node.lives(2).await;
    // One that is new here knows of nothing, and serves until the other one comes.
    let fresh = open(&backup).await;
    let other = Claimant { node: "n2".to_owned(), ..claimant(1) };
    fresh.beat(other.clone()).await.unwrap();
    let owner = Owner::new(&fresh, 1, 9).await;
    assert!(fresh.head(owner.space).await.is_ok());
    let refused = node.start(&backup).await.err().expect("it is older");
    let text = refused.to_string();
    assert!(matches!(refused, OpenError::WentBack(_)), "{text}");
    assert!(text.contains("counts 2 heartbeats of node n1, and had 4"), "{text}");
    assert!(text.contains("cluster restored") && !text.contains('\n'), "{text}");
    // Who runs hears of it by its next heartbeat, who starts at once.
    fresh.beat(other).await.unwrap();
    let late = fresh.commit(owner.commit(vec![], vec![])).await;
    assert!(matches!(late, Err(StorageError::WentBack(_))), "{late:?}");
    let head = open(&backup).await.head(Space::Directory).await;
    assert!(matches!(head, Err(StorageError::WentBack(_))), "{head:?}");
    fresh.close().await.unwrap();
    long_ago(&backup).await;
    assert_eq!(restore(&PostgresOptions::new(&backup), |_| {}).await.unwrap().times, 1);
    let engine = node.start(&backup).await.unwrap();
    engine.beat(claimant(3)).await.unwrap();
    let owner = Owner::new(&engine, 1, 3).await;
    engine.commit(owner.commit(vec![], vec![])).await.unwrap();
    engine.close().await.unwrap();
    // What was before that restore is older too, until it is restored itself, as often as the other one was.
    let refused = node.start(&node.database).await.err().expect("it is older").to_string();
    assert!(refused.contains("counts 4 heartbeats of node n1, and had"), "{refused}");
    long_ago(&node.database).await;
    assert_eq!(restore(&PostgresOptions::new(&node.database), |_| {}).await.unwrap().times, 1);
    node.start(&node.database).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_has_all_is_taken_after_an_end_in_good_order_and_after_a_crash() {
    let node = Node::new().await;
    for start in 1..4 {
        node.lives(start).await;
    }
    for start in 4..7 {
        let engine = node.start(&node.database).await.unwrap();
        let before = std::fs::read(node.witness()).unwrap();
        engine.beat(claimant(start)).await.unwrap();
        // In the background.
        let noted = async || (std::fs::read(node.witness()).unwrap() != before).then_some(());
        eventually("the heartbeat is noted", noted).await;
        drop(engine);
    }
    node.start(&node.database).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_that_is_damaged_is_refused_and_one_of_another_database_says_nothing() {
    let node = Node::new().await;
    node.lives(1).await;
    let other = database().await;
    node.start(&other).await.unwrap().close().await.unwrap();
    let mut octets = std::fs::read(node.witness()).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    std::fs::write(node.witness(), octets).unwrap();
    let refused = node.start(&node.database).await.err().expect("it is damaged");
    assert!(matches!(refused, OpenError::Witness(_)), "{refused}");
    assert!(refused.to_string().contains("remove it if"), "{refused}");
    std::fs::remove_file(node.witness()).unwrap();
    node.start(&node.database).await.unwrap();
}
