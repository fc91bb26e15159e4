//! The engine over S3 that is at fault: only large bodies wait, and only as long as it lasts.

use super::*;
use crate::objects::S3Config;
use crate::objects::tests::server::Fault;

/// Octets of a body that becomes an object.
const LARGE: usize = 200_000;

fn link(name: &str, body: &Body) -> Write {
    Write::LinkBody { name: name.to_owned(), body: body.clone() }
}

async fn add(engine: &PostgresEngine, owner: &Owner, name: &str) -> Result<(), StorageError> {
    let body = engine.new_body(owner.space, Bytes::from(vec![7; LARGE])).await?;
    engine.commit(owner.commit(vec![link(name, &body)], vec![])).await.map(|_| ())
}

async fn read(engine: &PostgresEngine, owner: &Owner, name: &str) -> Result<Bytes, StorageError> {
    let body = engine.body(owner.space, name).await?.expect("it is linked");
    engine.read_body(owner.space, &body, 0, u64::MAX).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_s3_is_away_large_bodies_wait_and_nothing_else_does() {
    let (engine, server) = engine_with_s3().await;
    let owner = Owner::new(&engine, 1, 1).await;
    add(&engine, &owner, "before").await.unwrap();
    for fault in [Fault::Refuses, Fault::Hangs] {
        server.set(Some(fault));
        for refused in [
            add(&engine, &owner, "meanwhile").await,
            read(&engine, &owner, "before").await.map(|_| ()),
        ] {
            assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{fault:?}: {refused:?}");
        }
        let small = engine.new_body(owner.space, "small".into()).await.unwrap();
        let name = format!("{fault:?}");
        let written = engine.commit(owner.commit(vec![link(&name, &small)], vec![])).await;
        assert!(written.is_ok(), "{written:?}");
        assert_eq!(read(&engine, &owner, &name).await, Ok("small".into()));
        assert_eq!(engine.body(owner.space, "meanwhile").await, Ok(None));
        server.set(None);
        assert_eq!(read(&engine, &owner, "before").await.unwrap().len(), LARGE);
        add(&engine, &owner, &format!("after {fault:?}")).await.unwrap();
    }
    assert_eq!(engine.shared.unlinked.len(), 0, "what was refused is forgotten");
    // Their notes are there, and go.
    assert!(engine.collect().await.unwrap() >= 2);
    assert_eq!(server.files().iter().filter(|file| !is_metadata(file)).count(), 3);
}

/// The server writes down what it is told of an object beside it.
fn is_metadata(file: &std::path::Path) -> bool {
    file.extension().is_some_and(|end| end == "json")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_object_costs_its_body_and_nothing_else() {
    let (engine, server) = engine_with_s3().await;
    let owner = Owner::new(&engine, 1, 1).await;
    for name in ["one", "other"] {
        add(&engine, &owner, name).await.unwrap();
    }
    let body = engine.body(owner.space, "one").await.unwrap().unwrap();
    let files = server.files();
    let name = hex::encode(body.key);
    let file = files.iter().find(|file| file.ends_with(&name)).expect("it is there");
    std::fs::write(file, vec![8; LARGE]).unwrap();
    let damage = read(&engine, &owner, "one").await;
    assert!(
        matches!(&damage, Err(StorageError::Damaged(why)) if why.contains(&name)),
        "{damage:?}"
    );
    assert_eq!(read(&engine, &owner, "other").await.unwrap().len(), LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_does_not_start_over_a_wrong_bucket_and_does_while_s3_is_away() {
    let server = S3Server::start().await;
    let mut options = PostgresOptions::new(database().await);
    let absent = S3Config { bucket: "absent".to_owned(), ..server.config() };
    options.objects = Some(Objects::in_s3(&absent).unwrap());
    let refused = PostgresEngine::open(options.clone()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Objects(_)), "{refused}");
    assert!(refused.to_string().contains("absent") && !refused.to_string().contains('\n'));
    options.objects = Some(server.objects());
    server.set(Some(Fault::Refuses));
    let engine = PostgresEngine::open(options).await.unwrap();
    assert!(engine.warnings().iter().any(|warning| warning.contains("large")));
    let owner = Owner::new(&engine, 1, 1).await;
    server.set(None);
    add(&engine, &owner, "one").await.unwrap();
}
