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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_s3_what_was_acknowledged_is_there_and_is_what_it_was() {
    const STEPS: u64 = 60;
    let (engine, server) = engine_with_s3().await;
    let owner = Owner::new(&engine, 1, 1).await;
    let mut random = Random::seeded();
    let mut acknowledged: Vec<(String, Bytes)> = Vec::new();
    let (mut refused, mut fault) = (0, None);
    for step in 0..STEPS {
        if random.below(3) == 0 {
            fault = match random.below(8) {
                0 => Some(Fault::Hangs),
                1 => Some(Fault::Refuses),
                2 => Some(Fault::BreaksOff),
                3 => Some(Fault::Cuts),
                4 => Some(Fault::Changes),
                _ => None,
            };
            server.set(fault);
        }
        let away = matches!(fault, Some(Fault::Hangs | Fault::Refuses));
        if random.below(2) == 0 {
            let octets = Bytes::from(vec![step as u8; LARGE + random.below(1000) as usize]);
            let name = format!("{step}");
            let added = async {
                let body = engine.new_body(owner.space, octets.clone()).await?;
                engine.commit(owner.commit(vec![link(&name, &body)], vec![])).await
            };
            match added.await {
                Ok(_) => acknowledged.push((name, octets)),
                Err(StorageError::Unavailable(_)) if away => refused += 1,
                Err(error) => panic!("step {step}, {fault:?}: {error}"),
            }
        } else if !acknowledged.is_empty() {
            let (name, octets) = &acknowledged[random.below(acknowledged.len() as u64) as usize];
            match (read(&engine, &owner, name).await, fault) {
                (Ok(found), _) => assert!(found == *octets, "step {step}, {fault:?}"),
                (Err(StorageError::Damaged(_)), Some(Fault::Cuts | Fault::Changes)) => refused += 1,
                (Err(StorageError::Unavailable(_)), Some(Fault::BreaksOff)) => refused += 1,
                (Err(StorageError::Unavailable(_)), _) if away => refused += 1,
                (Err(error), _) => panic!("step {step}, {fault:?}: {error}"),
            }
        }
    }
    println!("{} acknowledged, {refused} refused", acknowledged.len());
    server.set(None);
    for (name, octets) in &acknowledged {
        assert!(read(&engine, &owner, name).await.unwrap() == *octets, "{name}");
    }
    engine.collect().await.unwrap();
    for (name, octets) in &acknowledged {
        assert!(read(&engine, &owner, name).await.unwrap() == *octets, "{name} after collecting");
    }
}
