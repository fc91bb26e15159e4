//! Losses of power and failures of the medium, over the disk in memory.

use super::history::History;
use super::*;
use crate::files::image::Operation;

/// Seeds that each property is tried with. The seed of a failure is in its message.
const SEEDS: u64 = 40;

async fn claimed(engine: &RedbEngine) -> Vec<History> {
    let mut histories: Vec<_> = (1..=3).map(History::new).collect();
    for history in &mut histories {
        history.claim(engine).await.unwrap();
    }
    histories
}

/// Commits to all accounts at once until one fails, or this many each.
async fn run(engine: &RedbEngine, histories: &mut [History], commits: usize) {
    let each = histories.iter_mut().map(|history| async move {
        for _ in 0..commits {
            if history.commit(engine).await.is_err() {
                break;
            }
        }
    });
    futures::future::join_all(each).await;
}

async fn check(engine: &RedbEngine, histories: &mut [History]) {
    for history in histories {
        history.check(engine).await;
    }
}

#[tokio::test]
async fn acknowledged_commits_survive_every_loss_of_power_whole() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut disk = ImageDisk::new();
        let engine = small(&disk);
        let mut histories = claimed(&engine).await;
        drop(engine);
        for round in 0..4 {
            let engine = small(&disk);
            check(&engine, &mut histories).await;
            // Some end in the middle, some long after a good while of work.
            disk.power_off_at(disk.operations() + (seed * 37 + round * 101) % 260);
            run(&engine, &mut histories, 40).await;
            let image = disk.crash_image(seed * 1000 + round);
            drop(engine);
            disk = image;
        }
        check(&small(&disk), &mut histories).await;
    }
}

#[tokio::test]
async fn a_directory_opens_after_a_loss_of_power_while_it_was_made_or_opened() {
    let making = ImageDisk::new();
    drop(small(&making));
    for at in 0..=making.operations() {
        let mut disk = ImageDisk::new();
        disk.power_off_at(at);
        let options = RedbOptions::default();
        drop(RedbEngine::open_files(disk.files(), options));
        for round in 0..3 {
            disk = disk.crash_image(at * 10 + round);
            disk.power_off_at(at / (round + 1));
            drop(RedbEngine::open_files(disk.files(), options));
        }
        let disk = disk.crash_image(at);
        let engine = small(&disk);
        let mut histories = claimed(&engine).await;
        run(&engine, &mut histories, 3).await;
        check(&engine, &mut histories).await;
    }
}

#[tokio::test]
async fn failed_writes_and_syncs_lose_nothing_and_need_no_restart() {
    for seed in 0..SEEDS * 2 {
        println!("seed {seed}");
        let disk = ImageDisk::new();
        let engine = small(&disk);
        let mut histories = claimed(&engine).await;
        run(&engine, &mut histories, 12).await;
        let operation = if seed % 2 == 0 { Operation::Sync } else { Operation::Write };
        disk.fail(operation, seed / 2 % 23, 1 + seed % 4);
        for history in &mut histories {
            for _ in 0..6 {
                history.commit_until_done(&engine).await;
            }
        }
        check(&engine, &mut histories).await;
        // What was acknowledged after the failure is on the medium, not in the system's cache only.
        let image = disk.crash_image(seed);
        drop(engine);
        check(&small(&image), &mut histories).await;
        check(&small(&disk), &mut histories).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_for_the_moment_and_recovers_by_itself() {
    let mut tried = (0, 0);
    for room in (0..40).map(|n| n * 20_000) {
        let disk = ImageDisk::new();
        let engine = small(&disk);
        let mut histories = claimed(&engine).await;
        run(&engine, &mut histories, 8).await;
        disk.set_free_room(Some(room));
        let (mut refused, mut done) = (0, 0);
        for _ in 0..30 {
            for history in &mut histories {
                match history.commit(&engine).await {
                    Ok(()) => done += 1,
                    Err(StorageError::Unavailable(_)) => refused += 1,
                    Err(error) => panic!("{room}: {error}"),
                }
            }
        }
        check(&engine, &mut histories).await;
        disk.set_free_room(None);
        for history in &mut histories {
            assert_eq!(history.commit_until_done(&engine).await, 0, "{room}");
        }
        check(&engine, &mut histories).await;
        tried = (tried.0 + refused, tried.1 + done);
        let image = disk.crash_image(room);
        drop(engine);
        check(&small(&image), &mut histories).await;
    }
    assert!(tried.0 > 100 && tried.1 > 100, "refused and done: {tried:?}");
}

#[tokio::test]
async fn a_medium_that_stays_away_gives_unknown_outcomes_until_it_is_back() {
    let disk = ImageDisk::new();
    // Neither a snapshot nor a segment to rewrite, whose syncs would fail first: then commits are refused
    // before they are tried.
    let options = RedbOptions { snapshot_octets: u64::MAX, ..SMALL };
    let engine = RedbEngine::open_files(disk.files(), options).unwrap();
    let mut history = History::new(1);
    history.claim(&engine).await.unwrap();
    history.commit(&engine).await.unwrap();
    disk.fail(Operation::Sync, 0, u64::MAX);
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(history.commit(&engine).await.expect_err("the medium is away"));
    }
    let unknown = |error: &StorageError| matches!(error, StorageError::UnknownOutcome(_));
    let away = |error: &StorageError| matches!(error, StorageError::Unavailable(_));
    assert!(outcomes.iter().all(|error| unknown(error) || away(error)), "{outcomes:?}");
    assert!(unknown(&outcomes[0]), "{outcomes:?}");
    disk.fail(Operation::Sync, 0, 0);
    history.commit_until_done(&engine).await;
    history.check(&engine).await;
    assert!(engine.stats().recoveries > 0);
}
