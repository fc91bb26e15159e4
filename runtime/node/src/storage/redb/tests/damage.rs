//! Octets that are not what was written: whom that costs what.

use futures::future::join_all;

use super::backend::{Backend, Switch};
use super::history::{History, Looked};
use super::*;
use crate::storage::ScanLimit;
use crate::storage::body::segment::segment_of;
use crate::storage::files::image::Operation;
use crate::storage::redb::directory::ROWS_FILE;

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

/// Three accounts; a page in the middle of the second one's rows is broken.
async fn broken() -> (ImageDisk, RedbEngine, Vec<Owner>) {
    let disk = filled().await;
    break_page(&disk, 2, 50);
    let engine = small(&disk);
    let mut owners = Vec::new();
    for account in 1..=3 {
        owners.push(Owner::new(&engine, account).await);
    }
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
async fn a_commit_that_changes_a_damaged_page_fails_alone() {
    let (disk, engine, owners) = broken().await;
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
async fn a_commit_that_reads_a_damaged_page_fails_alone() {
    let (disk, engine, owners) = broken().await;
    let expecting = |owner: &Owner, account| Commit {
        preconditions: vec![(key(50), Some(value(account, 50)))],
        ..owner.commit(vec![Write::Put(key(1), "new".into())])
    };
    let commits = (1..=3).map(|account| expecting(&owners[usize::from(account) - 1], account));
    let answers = together(&disk, &engine, commits.collect()).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    is_damaged(&answers[1]);
    assert_eq!(engine.stats().recoveries, 0, "nothing was changed: nothing has to be opened again");
}

#[tokio::test]
async fn reads_of_a_damaged_page_fail_alone() {
    let (_disk, engine, owners) = broken().await;
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

/// What is found where one octet is flipped; `None`: it does not even open.
async fn flipped(disk: &ImageDisk, history: &History, name: &str, offset: u64) -> Option<Looked> {
    let disk = disk.copy();
    assert!(disk.flip(name, offset));
    match RedbEngine::open_files(disk.files(), SMALL) {
        Ok(engine) => {
            let looked = history.look(&engine).await;
            // redb writes when it is closed. Where its own tables are damaged it panics at that, and
            // once more while it cleans up, which nothing survives.
            engine.shared.abandon();
            disk.wipe();
            Some(looked)
        }
        Err(_) => None,
    }
}

/// Whether redb's own checksums of pages tell that the rows are damaged: by a walk over all of them,
/// which it makes only when it is asked to.
fn a_walk_tells(disk: &ImageDisk) -> bool {
    let file = disk.files().open_existing(ROWS_FILE).unwrap();
    let (switch, counters) = (Switch::default(), Arc::new(Counters::default()));
    let opened = redb::Database::builder().create_with_backend(Backend { file, switch, counters });
    let Ok(mut database) = opened else { return true };
    let whole = database.check_integrity();
    std::mem::forget(database);
    disk.wipe();
    !matches!(whole, Ok(true))
}

/// Which octets of a file are tried: all at its beginning, where formats have their headers, and
/// some of the rest.
fn tried(octets: &[u8]) -> impl Iterator<Item = usize> {
    const HEADER: usize = 512;
    const STEP: usize = 61;
    (0..octets.len()).filter(|offset| *offset < HEADER || offset % STEP == 0)
}

/// Flips octets of every file but the rows; returns how many times that was noticed.
async fn flip_each(disk: &ImageDisk, history: &History) -> usize {
    let mut damaged = 0;
    let mut names = disk.files().names().unwrap();
    names.retain(|name| name != ROWS_FILE);
    assert!(names.iter().any(|name| segment_of(name).is_some()), "{names:?}");
    for name in names {
        let octets = disk.octets(&name).unwrap();
        for offset in tried(&octets) {
            let looked = flipped(disk, history, &name, offset as u64).await;
            damaged += usize::from(looked.as_ref().is_none_or(|looked| looked.errors > 0));
            let missing = looked.as_ref().map_or(&[][..], |looked| &looked.missing);
            assert!(missing.is_empty(), "{name} {offset}: {missing:?}");
            if segment_of(&name).is_some() {
                let errors = looked.expect("segments have nothing that is needed to open").errors;
                assert!(errors <= 1, "{name} {offset}: one body at most, not {errors}");
            }
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

/// What redb cannot do: it holds pages against their checksums only in a walk over all of them. A row
/// carries a checksum of ours over key and value, so that nothing is read that was not written there;
/// but where a key is damaged, or a page says wrongly where its keys or the pages below it are, a
/// look-up goes past rows and finds nothing, and a scan may end early. So rows can be missing without
/// an error, though never a whole account: while it has rows, a head that is not found is damage.
#[tokio::test]
async fn a_flipped_octet_of_the_rows_is_an_error_or_hides_a_row_which_a_walk_finds_out() {
    let (disk, history) = closed().await;
    let octets = disk.octets(ROWS_FILE).unwrap();
    let (mut damaged, mut hidden) = (0, 0);
    for offset in tried(&octets).map(|offset| offset as u64) {
        let looked = flipped(&disk, &history, ROWS_FILE, offset).await;
        damaged += usize::from(looked.as_ref().is_none_or(|looked| looked.errors > 0));
        let missing = looked.map_or(Vec::new(), |looked| looked.missing);
        if !missing.is_empty() {
            hidden += 1;
            assert!(!missing.iter().any(|what| what == "head"), "{offset}");
            let disk = disk.copy();
            assert!(disk.flip(ROWS_FILE, offset));
            assert!(a_walk_tells(&disk), "{offset}: {missing:?}");
        }
    }
    assert!(damaged > 10 && hidden > 10, "damaged {damaged}, hidden {hidden}");
}
