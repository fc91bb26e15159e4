//! Bodies as objects: from the upload to their removal.

use super::*;

/// Octets of a body that becomes an object.
const LARGE: usize = 200_000;

/// Objects in a directory.
fn objects(directory: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(directory.path()).unwrap().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten());
    files.map(|file| file.path()).collect()
}

async fn new_body(engine: &PostgresEngine, owner: &Owner) -> Body {
    engine.new_body(owner.space, Bytes::from(vec![7; LARGE])).await.unwrap()
}

fn link(name: &str, body: &Body) -> Write {
    Write::LinkBody { name: name.to_owned(), body: body.clone() }
}

fn unlink(name: &str) -> Write {
    Write::UnlinkBody { name: name.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_goes_after_its_last_link_and_not_before() {
    let (engine, directory) = engine_with_objects().await;
    let owner = Owner::new(&engine, 1, 1).await;
    let body = new_body(&engine, &owner).await;
    let write = async |writes| engine.commit(owner.commit(writes, vec![])).await.unwrap();
    write(vec![link("one", &body), link("two", &body)]).await;
    write(vec![unlink("one")]).await;
    assert_eq!(engine.collect().await, Ok(0));
    let stored = engine.body(owner.space, "two").await.unwrap().unwrap();
    assert_eq!(engine.read_body(owner.space, &stored, 100, 5).await.unwrap(), [7; 5][..]);
    write(vec![unlink("two")]).await;
    assert_eq!(objects(&directory).len(), 1, "until the grace is over");
    assert_eq!(engine.collect().await, Ok(1));
    assert_eq!(objects(&directory), Vec::<std::path::PathBuf>::new());
    assert_eq!(engine.collect().await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_collected_is_not_linked_and_takes_nobody_along() {
    let (engine, directory) = engine_with_objects().await;
    let owner = Owner::new(&engine, 1, 1).await;
    let (late, other) = (new_body(&engine, &owner).await, "other");
    assert_eq!(engine.collect().await, Ok(1));
    assert_eq!(objects(&directory).len(), 0);
    let commits = (0..10).map(|n| {
        let writes = match n {
            5 => vec![put(other, "v"), link("late", &late)],
            _ => vec![put(format!("{n}"), "v")],
        };
        engine.commit(owner.commit(writes, vec![]))
    });
    let outcomes = futures::future::join_all(commits).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), n != 5, "{n}: {outcome:?}");
    }
    assert_eq!(all(&engine, owner.space).await.len(), 9);
    assert_eq!(engine.body(owner.space, "late").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_linked_and_unlinked_at_once_is_collected_too() {
    let (engine, directory) = engine_with_objects().await;
    let owner = Owner::new(&engine, 1, 1).await;
    let body = new_body(&engine, &owner).await;
    let commits = [vec![link("n", &body)], vec![unlink("n")]]
        .map(|writes| engine.commit(owner.commit(writes, vec![])));
    for outcome in futures::future::join_all(commits).await {
        outcome.unwrap();
    }
    assert_eq!(engine.collect().await, Ok(1));
    assert_eq!(objects(&directory).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_has_a_link_in_the_end_stays_whatever_came_before() {
    let (engine, _directory) = engine_with_objects().await;
    let owner = Owner::new(&engine, 1, 1).await;
    for _ in 0..10 {
        let body = new_body(&engine, &owner).await;
        let name = hex::encode(body.key());
        // In one group or in several: the last one is refused then, because the body has gone.
        let commits = [vec![link("n", &body)], vec![unlink("n")], vec![link(&name, &body)]]
            .map(|writes| engine.commit(owner.commit(writes, vec![])));
        let outcomes = futures::future::join_all(commits).await;
        engine.collect().await.unwrap();
        let read = match engine.body(owner.space, &name).await.unwrap() {
            Some(body) => Some(engine.read_body(owner.space, &body, 0, u64::MAX).await.unwrap()),
            None => None,
        };
        assert_eq!(read.is_some(), outcomes[2].is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_object_costs_its_body_and_nothing_else() {
    let (engine, directory) = engine_with_objects().await;
    let owner = Owner::new(&engine, 1, 1).await;
    let lost = new_body(&engine, &owner).await;
    let file = objects(&directory).remove(0);
    let whole = new_body(&engine, &owner).await;
    let writes = vec![link("lost", &lost), link("whole", &whole)];
    engine.commit(owner.commit(writes, vec![])).await.unwrap();
    std::fs::remove_file(file).unwrap();
    let read = async |name: &str| {
        let body = engine.body(owner.space, name).await.unwrap().unwrap();
        engine.read_body(owner.space, &body, 0, u64::MAX).await
    };
    let damage = read("lost").await;
    let name = hex::encode(lost.key());
    assert!(
        matches!(&damage, Err(StorageError::Damaged(why)) if why.contains(&name)),
        "{damage:?}"
    );
    assert_eq!(read("whole").await.unwrap().len(), LARGE);
    // What is left of it can be removed.
    engine.commit(owner.commit(vec![unlink("lost")], vec![])).await.unwrap();
    assert_eq!(engine.collect().await, Ok(1));
}
