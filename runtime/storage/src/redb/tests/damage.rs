//! Octets that are not what was written: whom that costs what.

use futures::future::join_all;

use super::away::forgetful;
use super::history::{History, Looked};
use super::*;
use crate::ScanLimit;
use crate::body::segment::{HEADER_OCTETS, segment_of};
use crate::files::image::Operation;
use crate::redb::directory::ROWS_FILE;
use crate::redb::snapshot::SNAPSHOT_FILE;

/// Octets of one of redb's pages, the first of which says what it is.
const PAGE: usize = 4096;
/// A page of rows.
const LEAF: u8 = 1;

/// Breaks the pages that hold one row of an account, live or left over.
fn break_page(disk: &ImageDisk, account: u8, n: usize) {
    let (octets, wanted) = (disk.octets(ROWS_FILE).unwrap(), value(account, n));
    let holds = |page: &&[u8]| page[0] == LEAF && page.windows(wanted.len()).any(|w| w == wanted);
    let mut broken = 0;
    for (number, _) in octets.chunks(PAGE).enumerate().filter(|(_, page)| holds(page)) {
        assert!(disk.flip(ROWS_FILE, (number * PAGE) as u64));
        broken += 1;
    }
    assert!(broken > 0, "no page holds the row");
}

/// Takes away what rows could be made anew from.
fn lose_second_copy(disk: &ImageDisk) {
    let files = disk.files();
    let mut names = files.names().unwrap();
    names.sort_unstable();
    if names.iter().any(|name| name == SNAPSHOT_FILE) {
        files.remove(SNAPSHOT_FILE).unwrap();
    }
    let first = names.iter().find(|name| segment_of(name).is_some()).expect("there is a log");
    files.open(first).unwrap().write_at(HEADER_OCTETS, &[0; 4096]).unwrap();
}

/// Three accounts, each page of which is read whenever it is looked at; a page in the middle of the second
/// one's rows is broken while the engine runs, with what it could be made anew from or without.
async fn broken(second_copy: bool) -> (ImageDisk, RedbEngine, Vec<Owner>) {
    let disk = filled().await;
    let engine = forgetful(&disk);
    if !second_copy {
        lose_second_copy(&disk);
    }
    let mut owners = Vec::new();
    for account in 1..=3 {
        owners.push(Owner::new(&engine, account).await);
    }
    break_page(&disk, 2, 50);
    (disk, engine, owners)
}

/// Makes commits that wait together, and so are one group.
async fn together(
    disk: &ImageDisk,
    engine: &RedbEngine,
    commits: Vec<Commit>,
) -> Vec<Result<Committed, StorageError>> {
    disk.hold(Operation::Sync, 0);
    let empty = Commit {
        space: Space::Directory,
        fence: None,
        preconditions: Vec::new(),
        writes: Vec::new(),
        ..commits[0].clone()
    };
    let mut first = Box::pin(engine.commit(empty));
    assert!(futures::poll!(&mut first).is_pending());
    let held = disk.clone();
    tokio::task::spawn_blocking(move || held.wait_for_held()).await.unwrap();
    let mut group = Box::pin(join_all(commits.into_iter().map(|commit| engine.commit(commit))));
    assert!(futures::poll!(&mut group).is_pending());
    disk.release();
    first.await.unwrap();
    group.await
}

fn is_damaged<T: std::fmt::Debug>(result: &Result<T, StorageError>) {
    assert!(matches!(result, Err(StorageError::Damaged(_))), "{result:?}");
}

#[tokio::test]
async fn a_commit_that_changes_a_page_damaged_for_good_fails_alone() {
    let (disk, engine, owners) = broken(false).await;
    let groups = engine.stats().groups;
    let put = |owner: &Owner, n| owner.commit(vec![Write::Put(key(n), "new".into())]);
    let commits = vec![put(&owners[0], 1), put(&owners[1], 50), put(&owners[2], 1)];
    let answers = together(&disk, &engine, commits).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    is_damaged(&answers[1]);
    assert_eq!(engine.stats().groups, groups + 2, "the first one, then the others together");
    // What of the account is whole goes on.
    owners[1].write(&engine, vec![Write::Put(key(1), "new".into())]).await.unwrap();
    for (owner, n) in [(&owners[0], 1), (&owners[1], 1), (&owners[2], 1)] {
        let read = engine.get_many(owner.space, vec![key(n)]).await;
        assert_eq!(read, Ok(vec![Some("new".into())]));
    }
}

#[tokio::test]
async fn a_commit_that_reads_a_page_damaged_for_good_fails_alone() {
    let (disk, engine, owners) = broken(false).await;
    let expecting = |owner: &Owner, account| Commit {
        preconditions: vec![(key(50), Some(value(account, 50)))],
        ..owner.commit(vec![Write::Put(key(1), "new".into())])
    };
    let commits = (1..=3).map(|account| expecting(&owners[usize::from(account) - 1], account));
    let answers = together(&disk, &engine, commits.collect()).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    is_damaged(&answers[1]);
    assert_eq!(engine.stats().rebuilds, 0);
}

#[tokio::test]
async fn damaged_rows_are_made_anew_under_whoever_meets_them() {
    let all = ScanLimit { items: 1000, octets: 1 << 20 };
    for meets in 0..4 {
        let (disk, engine, owners) = broken(true).await;
        let space = owners[1].space;
        let put = owners[1].commit(vec![Write::Put(key(51), "new".into())]);
        let expecting =
            Commit { preconditions: vec![(key(50), Some(value(2, 50)))], ..put.clone() };
        match meets {
            0 => {
                let read = engine.get_many(space, vec![key(50)]).await;
                assert_eq!(read, Ok(vec![Some(value(2, 50))]));
            }
            1 => {
                let (start, end) = (Bytes::new(), Bytes::new());
                let page = engine.scan(space, Area::Message, start, end, all).await.unwrap();
                assert_eq!(page.items.len(), ROWS);
            }
            2 => drop(engine.commit(put).await.unwrap()),
            _ => drop(engine.commit(expecting).await.unwrap()),
        }
        assert_eq!(engine.stats().rebuilds, 1, "{meets}");
        for owner in &owners {
            owner.write(&engine, vec![Write::Put(key(1), "new".into())]).await.unwrap();
        }
        let image = disk.synced_image();
        engine.shared.abandon();
        let engine = small(&image);
        assert_eq!(engine.stats().rebuilds, 0, "what was made anew is whole");
        let read = engine.get_many(space, vec![key(1), key(50)]).await;
        assert_eq!(read, Ok(vec![Some("new".into()), Some(value(2, 50))]));
    }
}

#[tokio::test]
async fn rows_that_are_gone_are_made_anew() {
    let (disk, mut history) = closed().await;
    disk.files().remove(ROWS_FILE).unwrap();
    let engine = small(&disk);
    assert_eq!(engine.stats().rebuilds, 1);
    history.check(&engine).await;
}

#[tokio::test]
async fn rows_that_cannot_be_made_anew_are_left_as_they_are() {
    let disk = filled().await;
    lose_second_copy(&disk);
    break_page(&disk, 2, 50);
    let before = disk.octets(ROWS_FILE).unwrap().len();
    for _ in 0..2 {
        let Err(OpenError::Damaged(why)) = RedbEngine::open_files(disk.files(), SMALL) else {
            panic!("it opens")
        };
        assert!(why.contains("cannot be made anew"), "{why}");
    }
    assert_eq!(disk.octets(ROWS_FILE).unwrap().len(), before);
}

#[tokio::test]
async fn reads_of_a_page_damaged_for_good_fail_alone() {
    let (_disk, engine, owners) = broken(false).await;
    is_damaged(&engine.get_many(owners[1].space, vec![key(50)]).await);
    let all = ScanLimit { items: 1000, octets: 1 << 20 };
    let scan =
        |owner: &Owner| engine.scan(owner.space, Area::Message, Bytes::new(), Bytes::new(), all);
    is_damaged(&scan(&owners[1]).await);
    assert_eq!(scan(&owners[0]).await.unwrap().items.len(), ROWS);
    let read = engine.get_many(owners[1].space, vec![key(1)]).await;
    assert_eq!(read, Ok(vec![Some(value(2, 1))]), "another page of the same account");
}

/// An engine over an account with a history.
async fn filled_with_history() -> (ImageDisk, RedbEngine, History) {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let mut history = History::new(1);
    history.claim(&engine).await.unwrap();
    for _ in 0..43 {
        history.commit(&engine).await.unwrap();
    }
    history.check(&engine).await;
    (disk, engine, history)
}

/// An account with a history, on a disk that was closed in good order.
async fn closed() -> (ImageDisk, History) {
    let (disk, engine, history) = filled_with_history().await;
    engine.close().await.unwrap();
    drop(engine);
    (disk, history)
}

/// The same after a loss of power: the log is ahead of the rows.
async fn killed() -> (ImageDisk, History) {
    let (disk, engine, history) = filled_with_history().await;
    let image = disk.synced_image();
    engine.shared.abandon();
    (image, history)
}

/// What is found where one octet is flipped, and how many times rows were made anew; `None`: it does not
/// even open.
async fn flipped(
    disk: &ImageDisk,
    history: &History,
    name: &str,
    offset: u64,
) -> Option<(Looked, u64)> {
    let disk = disk.copy();
    assert!(disk.flip(name, offset));
    match RedbEngine::open_files(disk.files(), SMALL) {
        Ok(engine) => {
            let looked = (history.look(&engine).await, engine.stats().rebuilds);
            // redb writes when it is closed. Where its own tables are damaged it panics at that, and
            // once more while it cleans up, which nothing survives.
            engine.shared.abandon();
            disk.wipe();
            Some(looked)
        }
        Err(_) => None,
    }
}

/// Which octets of a file are tried: all at its beginning, where formats have their headers, and
/// some of the rest.
fn tried(octets: &[u8]) -> impl Iterator<Item = usize> {
    const HEADER: usize = 512;
    const STEP: usize = 61;
    (0..octets.len()).filter(|offset| *offset < HEADER || offset % STEP == 0)
}

/// Flips octets of every file but the rows; returns how many times that cost a body.
async fn flip_each(disk: &ImageDisk, history: &History) -> usize {
    let mut damaged = 0;
    let mut names = disk.files().names().unwrap();
    names.retain(|name| name != ROWS_FILE);
    assert!(names.iter().any(|name| segment_of(name).is_some()), "{names:?}");
    for name in names {
        let octets = disk.octets(&name).unwrap();
        for offset in tried(&octets) {
            let looked = flipped(disk, history, &name, offset as u64).await.map(|looked| looked.0);
            let Looked { errors, missing } = looked.expect("no one octet is needed to open");
            assert!(missing.is_empty(), "{name} {offset}: {missing:?}");
            let most = usize::from(segment_of(&name).is_some());
            damaged += errors;
            assert!(errors <= most, "{name} {offset}: one body at most, not {errors}");
        }
    }
    damaged
}

#[tokio::test]
async fn a_flipped_octet_is_an_error_or_harms_nothing_and_what_is_read_was_written() {
    let (disk, history) = closed().await;
    let damaged = flip_each(&disk, &history).await;
    assert!(damaged > 100, "{damaged}");
}

#[tokio::test]
async fn a_flipped_octet_of_a_log_that_is_ahead_of_the_rows_costs_one_body_at_most() {
    let (disk, history) = killed().await;
    let damaged = flip_each(&disk, &history).await;
    assert!(damaged > 100, "{damaged}");
}

/// redb alone cannot do that: it holds pages against their checksums only when it is asked to, and where a
/// key is damaged a look-up goes past rows and finds nothing.
#[tokio::test]
async fn a_flipped_octet_of_the_rows_harms_nothing() {
    for (disk, history) in [closed().await, killed().await] {
        let octets = disk.octets(ROWS_FILE).unwrap();
        let mut rebuilt = 0;
        for offset in tried(&octets).map(|offset| offset as u64) {
            let looked = flipped(&disk, &history, ROWS_FILE, offset).await;
            let (looked, rebuilds) = looked.expect("the rows are there twice");
            assert_eq!(looked, Looked::default(), "{offset}");
            rebuilt += rebuilds;
        }
        assert!(rebuilt > 10, "{rebuilt}");
    }
}
