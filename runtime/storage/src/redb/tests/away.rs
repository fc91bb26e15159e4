//! A medium that is away for a while, or slow to come back.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::files::image::Operation;

/// After which an event that a test waits for is not going to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A row that is not in the page on which the rows begin.
const FAR: usize = ROWS / 2;

/// An engine that keeps no page in memory: each look-up reads. It takes no snapshots.
pub fn forgetful(disk: &ImageDisk) -> RedbEngine {
    let options = RedbOptions { cache_octets: 0, snapshot_octets: u64::MAX, ..SMALL };
    RedbEngine::open_files(disk.files(), options).expect("a disk opens whatever happened to it")
}

async fn read_far(engine: &RedbEngine, owner: &Owner) -> Result<Option<Bytes>, StorageError> {
    Ok(engine.get_many(owner.space, vec![key(FAR)]).await?.remove(0))
}

#[tokio::test]
async fn one_failed_read_of_the_rows_is_noticed_by_nobody() {
    let disk = filled().await;
    let engine = forgetful(&disk);
    let owner = Owner::new(&engine, 3).await;
    disk.fail(Operation::Read, 0, 1);
    assert_eq!(read_far(&engine, &owner).await, Ok(Some(value(3, FAR))));
    assert_eq!(engine.stats().recoveries, 1);
}

#[tokio::test]
async fn reads_go_on_when_the_medium_is_back_without_any_commit() {
    let disk = filled().await;
    let engine = forgetful(&disk);
    let owner = Owner::new(&engine, 3).await;
    disk.fail(Operation::Read, 0, u64::MAX);
    for _ in 0..3 {
        let read = read_far(&engine, &owner).await;
        assert!(matches!(read, Err(StorageError::Unavailable(_))), "{read:?}");
    }
    disk.fail(Operation::Read, 0, 0);
    assert_eq!(read_far(&engine, &owner).await, Ok(Some(value(3, FAR))));
}

#[tokio::test]
async fn a_read_that_fails_under_a_commit_refuses_it_for_the_moment() {
    let put = || Write::Put(key(FAR), "new".into());
    let plain = |owner: &Owner| owner.commit(vec![put()]);
    let planned = |owner: &Owner| Commit {
        preconditions: vec![(key(FAR), Some(value(3, FAR)))],
        ..owner.commit(vec![put()])
    };
    for commit in [&plain as &dyn Fn(&Owner) -> Commit, &planned] {
        let disk = filled().await;
        let engine = forgetful(&disk);
        let owner = Owner::new(&engine, 3).await;
        disk.fail(Operation::Read, 0, 1);
        let refused = engine.commit(commit(&owner)).await;
        assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
        assert_eq!(read_far(&engine, &owner).await, Ok(Some(value(3, FAR))));
        engine.commit(commit(&owner)).await.unwrap();
        drop(engine);
        let engine = small(&disk.crash_image(1));
        assert_eq!(read_far(&engine, &owner).await, Ok(Some("new".into())));
    }
}

#[tokio::test]
async fn on_a_read_only_disk_reads_go_on_and_writes_are_refused_until_it_is_writable() {
    for large in [false, true] {
        let disk = filled().await;
        let engine = small(&disk);
        let owner = Owner::new(&engine, 3).await;
        disk.set_read_only(true);
        for _ in 0..5 {
            let refused = match large {
                true => engine.new_body(owner.space, vec![7; 30_000].into()).await.map(|_| ()),
                false => owner.write(&engine, vec![Write::Put(key(FAR), "new".into())]).await,
            };
            assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
            assert_eq!(read_far(&engine, &owner).await, Ok(Some(value(3, FAR))));
        }
        assert_eq!(engine.stats().recoveries, 0, "nothing had to be opened again");
        disk.set_read_only(false);
        owner.write(&engine, vec![Write::Put(key(FAR), "new".into())]).await.unwrap();
        assert_eq!(read_far(&engine, &owner).await, Ok(Some("new".into())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_thread_is_held_up_by_rows_that_are_slow_to_be_opened_again() {
    let disk = ImageDisk::new();
    let engine = Arc::new(small(&disk));
    let owner = Owner::new(&engine, 1).await;
    owner.write(&engine, Vec::new()).await.unwrap();
    // The first sync of a commit fails; the next one is of opening again.
    disk.fail(Operation::Sync, 0, 1);
    disk.hold(Operation::Sync, 1);
    let commit = owner.commit(Vec::new());
    let failing = tokio::spawn({
        let engine = engine.clone();
        async move { engine.commit(commit).await }
    });
    let held = disk.clone();
    tokio::task::spawn_blocking(move || held.wait_for_held()).await.unwrap();
    let space = owner.space;
    let reading = tokio::spawn({
        let engine = engine.clone();
        async move { engine.head(space).await }
    });
    // The one worker turns to this after the read. It also drives the runtime's clock: this thread
    // waits by one of its own.
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    tokio::spawn(async move { tell.send(()) });
    let free = told.recv_timeout(PATIENCE);
    disk.release();
    assert!(free.is_ok(), "a read keeps its thread while the rows are opened again");
    assert!(failing.await.unwrap().is_err());
    assert_eq!(reading.await.unwrap(), Ok(1), "the read has waited for the rows");
}
