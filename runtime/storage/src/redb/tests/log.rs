//! The commit log: what becomes of groups of which nobody knows whether they are on the medium, and
//! when the rows are made durable.

use super::history::History;
use super::room::until;
use super::*;
use crate::body::segment::{HEADER_OCTETS, segment_of};
use crate::files::image::Operation;
use crate::key;
use crate::redb::log::Position;
use crate::redb::snapshots::MOST_SEGMENTS;
use crate::rows::Rows as _;

/// An engine with one commit and its history.
async fn begun() -> (ImageDisk, RedbEngine, History) {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let mut history = History::new(1);
    history.claim(&engine).await.unwrap();
    history.commit(&engine).await.unwrap();
    (disk, engine, history)
}

#[tokio::test]
async fn a_group_whose_sync_failed_is_void_once_the_log_has_gone_on() {
    let (disk, engine, mut history) = begun().await;
    // Its octets are in the file: a restart of the process alone would find them.
    disk.fail(Operation::Sync, 0, 1);
    let refused = history.commit(&engine).await;
    assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
    assert_eq!(engine.head(history.space()).await, Ok(1));
    for disk in [disk.copy(), disk.synced_image()] {
        assert_eq!(small(&disk).head(history.space()).await, Ok(1));
    }
    // The next one has its number, and is another.
    history.commit_until_done(&engine).await;
    history.commit_until_done(&engine).await;
    let image = disk.copy();
    engine.shared.abandon();
    history.check(&small(&image)).await;
}

/// A disk whose syncs fail from some time on, then a restart of the process alone: what it finds and
/// answers from must be there after a loss of power, whatever the failed syncs have kept of it.
#[tokio::test]
async fn what_a_restart_answers_from_stays_after_a_loss_of_power() {
    let (mut found, mut lost) = (0, 0);
    for number in 0..60 {
        let (disk, engine, mut history) = begun().await;
        for _ in 0..number % 12 {
            history.commit(&engine).await.unwrap();
        }
        disk.fail(Operation::Sync, number / 12, u64::MAX);
        while history.commit(&engine).await.is_ok() {}
        let refused = history.clone();
        engine.shared.abandon();
        drop(engine);
        disk.fail(Operation::Sync, 0, 0);
        let engine = small(&disk);
        history.check(&engine).await;
        match history.is_ahead_of(&refused) {
            true => found += 1,
            false => lost += 1,
        }
        if number % 2 == 1 {
            history.claim(&engine).await.unwrap();
            history.commit(&engine).await.unwrap();
        }
        let image = disk.synced_image();
        engine.shared.abandon();
        let engine = small(&image);
        history.check_same(&engine).await;
        history.claim(&engine).await.unwrap();
        history.commit(&engine).await.unwrap();
        history.check(&engine).await;
    }
    assert!(found > 5, "{found} found, {lost} lost");
}

/// The last group counts as it is when its bodies are damaged: it may have been acknowledged. When they
/// never arrived, nobody was told of it.
#[tokio::test]
async fn a_last_group_whose_bodies_never_arrived_is_none() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    let octets: Vec<u8> = (0..3_000_u32).map(|i| (i % 251) as u8 + 1).collect();
    let body = engine.new_body(owner.space, octets.clone().into()).await.unwrap();
    let link = crate::Write::LinkBody { name: "m".to_owned(), body };
    owner.write(&engine, vec![link]).await.unwrap();
    let image = disk.copy();
    engine.shared.abandon();
    let name = segments(&image).pop().unwrap();
    let live = image.octets(&name).unwrap();
    let inside = &octets[1_000..1_100];
    let at = live.windows(100).position(|there| there == inside).expect("it is in the log") as u64;
    let damaged = image.copy();
    damaged.flip(&name, at);
    let engine = small(&damaged);
    assert_eq!(engine.head(owner.space).await, Ok(1), "a damaged body is kept and told");
    engine.shared.abandon();
    // The sector in which that octet lies.
    image.files().open(&name).unwrap().write_at(at / 512 * 512, &[0; 512]).unwrap();
    assert_eq!(small(&image).head(owner.space).await, Ok(0));
}

#[tokio::test]
async fn a_group_that_is_found_after_a_restart_stays_found_after_a_loss_of_power() {
    let (disk, engine, mut history) = begun().await;
    disk.fail(Operation::Sync, 0, u64::MAX);
    let unknown = history.commit(&engine).await;
    assert!(matches!(unknown, Err(StorageError::UnknownOutcome(_))), "{unknown:?}");
    let asked = engine.head(history.space()).await;
    assert!(
        matches!(asked, Err(StorageError::Unavailable(_))),
        "it cannot be known yet: {asked:?}"
    );
    // The process ends; what the system has cached of the file is still there for the next one.
    engine.shared.abandon();
    drop(engine);
    disk.fail(Operation::Sync, 0, 0);
    let engine = small(&disk);
    assert_eq!(engine.head(history.space()).await, Ok(2));
    let image = disk.synced_image();
    engine.shared.abandon();
    let engine = small(&image);
    assert_eq!(engine.head(history.space()).await, Ok(2));
    history.check(&engine).await;
}

/// The names of all segments, ascending.
fn segments(disk: &ImageDisk) -> Vec<String> {
    let mut names = disk.files().names().unwrap();
    names.retain(|name| segment_of(name).is_some());
    names.sort_unstable();
    names
}

/// A disk whose log has two segments after the last checkpoint, with some groups in each.
async fn two_segments() -> ImageDisk {
    let (disk, engine, mut history) = begun().await;
    disk.fail(Operation::Sync, 0, 1);
    assert!(history.commit(&engine).await.is_err());
    for _ in 0..3 {
        history.commit_until_done(&engine).await;
    }
    let image = disk.synced_image();
    engine.shared.abandon();
    assert!(segments(&image).len() >= 2);
    image
}

fn is_damage(disk: &ImageDisk) {
    let opened = RedbEngine::open_files(disk.files(), SMALL);
    let Err(OpenError::Damaged(why)) = opened else { panic!("it opens") };
    assert!(why.contains("segment"), "{why}");
}

#[tokio::test]
async fn a_segment_of_the_log_that_is_gone_or_unreadable_is_damage() {
    let image = two_segments().await;
    let names = segments(&image);
    for name in [&names[0], &names[names.len() - 1]] {
        let unreadable = image.copy();
        let header = vec![0; HEADER_OCTETS as usize];
        unreadable.files().open(name).unwrap().write_at(0, &header).unwrap();
        is_damage(&unreadable);
        assert!(segments(&unreadable).contains(name), "it is kept, to be looked at");
    }
    let gone = image.copy();
    gone.files().remove(&names[0]).unwrap();
    is_damage(&gone);
    let cut = image.copy();
    let length = cut.length(&names[0]).unwrap();
    cut.files().open(&names[0]).unwrap().set_len(length / 2).unwrap();
    is_damage(&cut);
}

#[tokio::test]
async fn a_group_that_is_lost_between_others_is_damage_and_not_the_end() {
    let (disk, engine, mut history) = begun().await;
    let length = || disk.length(&segments(&disk)[0]).unwrap();
    let before = length();
    history.commit(&engine).await.unwrap();
    let after = length();
    for _ in 0..4 {
        history.commit(&engine).await.unwrap();
    }
    let image = disk.synced_image();
    engine.shared.abandon();
    let name = segments(&image)[0].clone();
    let blank = vec![0; (after - before) as usize];
    image.files().open(&name).unwrap().write_at(before, &blank).unwrap();
    is_damage(&image);
}

#[tokio::test]
async fn what_was_void_after_a_restart_stays_void_after_a_loss_of_power() {
    for failures in 1..4 {
        let (disk, engine, mut history) = begun().await;
        // The group's sync fails; the new segment is made, perhaps not durably.
        disk.fail(Operation::Sync, 0, failures);
        assert!(history.commit(&engine).await.is_err());
        engine.shared.abandon();
        drop(engine);
        disk.fail(Operation::Sync, 0, 0);
        let engine = small(&disk);
        let told = engine.head(history.space()).await.unwrap();
        let image = disk.synced_image();
        engine.shared.abandon();
        let engine = small(&image);
        assert_eq!(engine.head(history.space()).await, Ok(told), "{failures}");
        history.check(&engine).await;
    }
}

#[tokio::test]
async fn a_node_that_is_always_killed_does_not_pile_up_segments() {
    let (mut disk, engine, mut history) = begun().await;
    engine.shared.abandon();
    for _ in 0..40 {
        disk = disk.synced_image();
        let engine = small(&disk);
        history.check(&engine).await;
        history.claim(&engine).await.unwrap();
        for _ in 0..6 {
            history.commit(&engine).await.unwrap();
        }
        engine.shared.abandon();
    }
    assert!(segments(&disk).len() <= 16, "{:?}", segments(&disk));
}

#[tokio::test]
async fn segments_that_a_restart_does_not_read_any_more_go() {
    let (disk, engine, mut history) = begun().await;
    for _ in 0..200 {
        history.commit(&engine).await.unwrap();
    }
    history.check(&engine).await;
    engine.close().await.unwrap();
    drop(engine);
    // 200 commits fill a dozen segments; five bodies are in use.
    assert!(segments(&disk).len() <= 6, "{:?}", segments(&disk));
    let engine = small(&disk);
    history.check(&engine).await;
}

#[tokio::test]
async fn every_restart_leaves_a_short_segment_and_they_are_joined() {
    let (disk, engine, mut history) = begun().await;
    engine.close().await.unwrap();
    drop(engine);
    for _ in 0..40 {
        let engine = small(&disk);
        history.check(&engine).await;
        history.commit(&engine).await.unwrap();
        engine.close().await.unwrap();
    }
    // A snapshot takes the place of the log before it when that is in too many. A close that is faster puts
    // it off to the next start.
    let engine = small(&disk);
    until(|| segments(&disk).len() as u64 <= MOST_SEGMENTS + 4).await;
    history.check(&engine).await;
}

#[tokio::test]
async fn an_engine_that_was_closed_in_good_order_has_nothing_to_replay() {
    let (disk, engine, mut history) = begun().await;
    engine.close().await.unwrap();
    drop(engine);
    let engine = small(&disk);
    let durable = engine.shared.read(|rows| rows.record::<Position>(&key::checkpoint()));
    assert_eq!(durable.unwrap().map(|position| position.groups), Some(2), "a claim and a commit");
    history.check(&engine).await;
}
