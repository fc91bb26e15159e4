//! How a database is set up, and which ones are refused.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_set_up_one_cluster() {
    let database = database().await;
    let opened = futures::future::join_all((0..6).map(|_| open(&database))).await;
    let ids: std::collections::HashSet<_> = opened.iter().map(|e| e.cluster_id()).collect();
    assert_eq!(ids.len(), 1);
    let owner = Owner::new(&opened[0], 1, 1).await;
    for (n, engine) in opened.iter().enumerate() {
        let committed = engine.commit(owner.commit(vec![put("k", "v")], vec![])).await;
        assert_eq!(committed, Ok(Committed { head: n as u64 + 1 }));
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = database().await;
    open(&database).await;
    raw(&database).await.batch_execute("UPDATE postroom_schema SET version = 1000").await.unwrap();
    let refused = PostgresEngine::open(PostgresOptions::new(&database)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 1000, .. }), "{refused}");
    assert!(!refused.to_string().contains('\n'));
}

#[tokio::test]
async fn a_server_that_does_not_wait_for_its_disk_is_refused_unless_allowed() {
    let database = format!("{} options='-c synchronous_commit=off'", database().await);
    let mut options = PostgresOptions::new(&database);
    let refused = PostgresEngine::open(options.clone()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Lossy("synchronous_commit")), "{refused}");
    options.allow_lossy = true;
    let engine = PostgresEngine::open(options).await.unwrap();
    assert_eq!(engine.warnings().len(), 2, "{:?}", engine.warnings());
}

#[tokio::test]
async fn a_server_without_a_standby_is_warned_of() {
    let warnings = empty_engine().await.warnings().to_vec();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("synchronous_standby_names"), "{warnings:?}");
}

#[tokio::test]
async fn a_missing_database_is_told_in_one_line() {
    let connection = Postgres::shared().connection("absent");
    let refused = PostgresEngine::open(PostgresOptions::new(connection)).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("absent") && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn each_restore_is_counted_for_engines_opened_later() {
    let database = database().await;
    let engine = open(&database).await;
    assert_eq!(engine.restored(), 0);
    restore(&PostgresOptions::new(&database), |_| {}).await.unwrap();
    assert_eq!(open(&database).await.restored(), 1);
}

#[tokio::test]
async fn a_space_that_has_gone_back_is_refused() {
    let database = database().await;
    let engine = open(&database).await;
    let (gone, other) = (Owner::new(&engine, 1, 1).await, Owner::new(&engine, 2, 2).await);
    let write =
        async |owner: &Owner| engine.commit(owner.commit(vec![put("k", "v")], vec![])).await;
    write(&gone).await.unwrap();
    write(&other).await.unwrap();
    let past = raw(&database).await;
    past.batch_execute("CREATE TABLE past AS SELECT * FROM heads").await.unwrap();
    write(&gone).await.unwrap();
    let back = "UPDATE heads SET value = past.value FROM past WHERE heads.key = past.key";
    past.batch_execute(back).await.unwrap();
    let refused = write(&gone).await;
    assert!(matches!(refused, Err(StorageError::WentBack(_))), "{refused:?}");
    let head = engine.head(gone.space).await;
    assert!(matches!(head, Err(StorageError::WentBack(_))), "{head:?}");
    assert_eq!(write(&other).await, Ok(Committed { head: 2 }));
    assert_eq!(open(&database).await.head(gone.space).await, Ok(1));
}
