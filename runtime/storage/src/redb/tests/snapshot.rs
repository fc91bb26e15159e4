//! The second copy of the rows, and what becomes of it on a full disk.

use std::time::Instant;

use super::history::History;
use super::room::{PATIENCE, holds_bodies, until};
use super::*;
use crate::Body;
use crate::body::segment::segment_of;
use crate::redb::directory::ROWS_FILE;
use crate::redb::snapshot::{self, SNAPSHOT_FILE};

fn has(disk: &ImageDisk, name: &str) -> bool {
    disk.files().names().unwrap().iter().any(|found| found == name)
}

/// A disk with a snapshot, and some commits after it. The engine lost power.
async fn with_snapshot() -> (ImageDisk, History) {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let mut history = History::new(1);
    history.claim(&engine).await.unwrap();
    while !has(&disk, SNAPSHOT_FILE) {
        history.commit(&engine).await.unwrap();
    }
    for _ in 0..5 {
        history.commit(&engine).await.unwrap();
    }
    let image = disk.synced_image();
    engine.shared.abandon();
    (image, history)
}

#[tokio::test]
async fn rows_are_made_anew_from_the_snapshot_and_the_log_after_it() {
    let (disk, mut history) = with_snapshot().await;
    disk.files().remove(ROWS_FILE).unwrap();
    let engine = small(&disk);
    assert_eq!(engine.stats().rebuilds, 1);
    history.check(&engine).await;
    history.claim(&engine).await.unwrap();
    for _ in 0..60 {
        history.commit(&engine).await.unwrap();
    }
    history.check(&engine).await;
    engine.close().await.unwrap();
    drop(engine);
    // And again from what that has left.
    disk.files().remove(ROWS_FILE).unwrap();
    history.check(&small(&disk)).await;
}

#[tokio::test]
async fn rows_are_not_replaced_by_what_ends_before_them() {
    let (disk, mut history) = with_snapshot().await;
    let engine = small(&disk);
    history.claim(&engine).await.unwrap();
    history.commit(&engine).await.unwrap();
    engine.close().await.unwrap();
    drop(engine);
    // Whole rows, and a log whose last segment is lost: what is left of it shows no gap.
    let names = disk.files().names().unwrap();
    let is_log = |name: &&String| segment_of(name).is_some() && !holds_bodies(&disk, name);
    let last = names.iter().filter(is_log).max().unwrap();
    disk.files().remove(last).unwrap();
    let before = disk.octets(ROWS_FILE).unwrap();
    let Err(OpenError::Damaged(why)) = RedbEngine::open_files(disk.files(), SMALL) else {
        panic!("it opens")
    };
    assert!(why.contains("cannot be made anew"), "{why}");
    assert_eq!(disk.octets(ROWS_FILE).unwrap().len(), before.len());
    assert!(!has(&disk, "rows.new"));
}

#[tokio::test]
async fn a_loss_of_power_while_rows_are_made_anew_costs_nothing() {
    let (disk, mut history) = with_snapshot().await;
    disk.files().remove(ROWS_FILE).unwrap();
    disk.files().sync_names().unwrap();
    let whole = disk.copy();
    let begun = whole.operations();
    drop(small(&whole));
    for at in 0..whole.operations() - begun {
        let torn = disk.copy();
        torn.power_off_at(at);
        drop(RedbEngine::open_files(torn.files(), SMALL));
        let engine = small(&torn.crash_image(at));
        history.check(&engine).await;
        engine.shared.abandon();
    }
}

#[tokio::test]
async fn a_snapshot_releases_the_log_before_it() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let mut history = History::new(1);
    history.claim(&engine).await.unwrap();
    let mut most = 0;
    for _ in 0..400 {
        history.commit(&engine).await.unwrap();
        most = most.max(engine.shared.segments.in_log());
    }
    let written = engine.stats().segment_octets / SEGMENT;
    until(|| engine.shared.segments.in_log() <= 8).await;
    assert!(written > 20 && most <= 16, "{written} segments written, at most {most} kept");
    let directory = engine.shared.directory;
    let snapshot = snapshot::find(&*disk.files(), directory).unwrap().expect("there is one");
    assert!(snapshot.at.groups > 100);
    history.check(&engine).await;
}

fn link(n: u64, body: Body) -> Write {
    Write::LinkBody { name: format!("m{n}"), body }
}

async fn add(
    engine: &RedbEngine,
    owner: &Owner,
    n: u64,
    octets: usize,
) -> Result<(), StorageError> {
    let octets: Vec<u8> = (0..octets).map(|i| (i as u64 + n) as u8).collect();
    let body = engine.new_body(owner.space, octets.into()).await?;
    let added = owner.write(engine, vec![link(n, body.clone())]).await;
    if added.is_err() {
        engine.give_up(owner.space, &[body]);
    }
    added
}

#[tokio::test]
async fn on_a_full_disk_mail_can_be_removed_and_then_there_is_room_again() {
    for size in [3_000, 30_000] {
        let disk = ImageDisk::new();
        let engine = small(&disk);
        let owner = Owner::new(&engine, 1).await;
        disk.set_free_room(Some(1_500_000));
        let mut there = 0;
        while add(&engine, &owner, there, size).await.is_ok() {
            there += 1;
        }
        assert!(there > 20, "{size}: {there}");
        // A mark goes on, so that mail clients can say what is to be removed.
        owner.write(&engine, vec![Write::Put(key(1), "deleted".into())]).await.unwrap();
        for n in 0..there {
            let unlink = Write::UnlinkBody { name: format!("m{n}") };
            owner.write(&engine, vec![unlink]).await.unwrap();
        }
        // All of it: as many fit as before. Room comes back piece by piece.
        let began = Instant::now();
        for n in 0..there / 2 {
            while add(&engine, &owner, 1_000_000 + n, size).await.is_err() {
                assert!(began.elapsed() < PATIENCE, "{size}: there is never room for {n} again");
                tokio::task::yield_now().await;
            }
        }
        until(|| has(&disk, "reserve")).await;
    }
}

#[tokio::test]
async fn nothing_is_let_in_on_a_full_disk_and_reads_go_on() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    owner.write(&engine, vec![Write::Put(key(1), "here".into())]).await.unwrap();
    disk.set_free_room(Some(0));
    let mut refused = 0;
    for n in 0..200 {
        match add(&engine, &owner, n, 3_000).await {
            Ok(()) => {}
            Err(StorageError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(engine.get_many(owner.space, vec![key(1)]).await, Ok(vec![Some("here".into())]));
    }
    assert!(refused > 100, "{refused}");
    disk.set_free_room(None);
    add(&engine, &owner, 1_000, 3_000).await.unwrap();
}
