//! Backups of an engine in use, and scrubs.

use std::ops::Range;

use super::away::forgetful;
use super::history::History;
use super::room::{holds_bodies, until};
use super::*;
use crate::body::segment::{HEADER_OCTETS, segment_of};
use crate::keeping::{BackupPiece, Damage, ScrubEvent};
use crate::redb::directory::ROWS_FILE;
use crate::redb::snapshot::SNAPSHOT_FILE;

/// An engine over an account with a history, a snapshot and a log after it.
async fn grown() -> (ImageDisk, RedbEngine, History) {
    let disk = ImageDisk::new();
    let engine = forgetful(&disk);
    let mut history = History::new(1);
    history.claim(&engine).await.unwrap();
    for _ in 0..40 {
        history.commit(&engine).await.unwrap();
    }
    assert!(engine.queues().commits.downgrade().renew().await);
    for _ in 0..5 {
        history.commit(&engine).await.unwrap();
    }
    (disk, engine, history)
}

/// Takes a backup to its end.
async fn received(mut backup: Backup) -> ImageDisk {
    let copy = ImageDisk::new();
    let files = copy.files();
    let mut to = None;
    while let Some(piece) = backup.recv().await {
        match piece.unwrap() {
            BackupPiece::File(name) => to = Some((files.open(&name).unwrap(), 0)),
            BackupPiece::Octets(octets) => {
                let (file, at) = to.as_mut().expect("octets of a file");
                file.write_at(*at, &octets).unwrap();
                *at += octets.len() as u64;
            }
            BackupPiece::Done => return copy,
        }
    }
    panic!("the backup has no end")
}

#[tokio::test]
async fn a_backup_has_what_was_there_when_it_began_while_everything_goes_on() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let mut history = History::new(1);
    history.claim(&engine).await.unwrap();
    for round in 0..6_u64 {
        for _ in 0..17 * round {
            history.commit(&engine).await.unwrap();
        }
        let backup = engine.backup().await.unwrap();
        let mut then = history.clone();
        // Bodies that the backup still has to read go meanwhile, and their segments would too.
        for _ in 0..120 {
            history.commit(&engine).await.unwrap();
        }
        let copy = received(backup).await;
        history.check(&engine).await;
        let restored = small(&copy);
        assert_eq!(restored.restored(), 0);
        then.check(&restored).await;
        then.claim(&restored).await.unwrap();
        for _ in 0..20 {
            then.commit(&restored).await.unwrap();
        }
        then.check(&restored).await;
    }
    // Nothing is kept for backups that have ended.
    for _ in 0..200 {
        history.commit(&engine).await.unwrap();
    }
    let names = disk.files().names().unwrap();
    let segments = names.iter().filter(|name| segment_of(name).is_some()).count();
    assert!(segments <= 24, "{segments}");
}

#[tokio::test]
async fn no_segment_goes_while_a_backup_is_under_way() {
    let (disk, engine, mut history) = grown().await;
    let segments = || {
        let names = disk.files().names().unwrap();
        names.into_iter().filter(|name| segment_of(name).is_some()).collect::<Vec<_>>()
    };
    let backup = engine.backup().await.unwrap();
    let then = segments();
    for _ in 0..200 {
        history.commit(&engine).await.unwrap();
    }
    let now = segments();
    let gone: Vec<_> = then.iter().filter(|name| !now.contains(name)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    received(backup).await;
    for _ in 0..200 {
        history.commit(&engine).await.unwrap();
    }
    until(|| then.iter().any(|name| !segments().contains(name))).await;
}

#[tokio::test]
async fn a_backup_that_nobody_takes_ends_and_the_engine_closes() {
    let (_disk, engine, mut history) = grown().await;
    let backup = engine.backup().await.unwrap();
    drop(backup);
    let waiting = engine.backup().await.unwrap();
    history.commit(&engine).await.unwrap();
    engine.close().await.unwrap();
    drop(waiting);
}

#[tokio::test]
async fn a_restored_directory_says_so_and_so_does_its_backup() {
    let (_, engine, mut history) = grown().await;
    let copy = received(engine.backup().await.unwrap()).await;
    directory::note_restored(&*copy.files()).unwrap();
    let again = small(&copy);
    assert_eq!(again.restored(), 1);
    history.check(&again).await;
    let copy = received(again.backup().await.unwrap()).await;
    drop(again);
    directory::note_restored(&*copy.files()).unwrap();
    for offset in 0..copy.length(directory::RESTORED).unwrap() {
        let flipped = copy.copy();
        assert!(flipped.flip(directory::RESTORED, offset));
        assert_eq!(directory::restored(&*flipped.files()).unwrap(), 2, "{offset}");
    }
}

/// What a scrub finds.
async fn scrubbed(engine: &RedbEngine) -> Vec<Damage> {
    let (mut scrub, mut found, mut read) = (engine.scrub().await.unwrap(), Vec::new(), 0);
    while let Some(said) = scrub.recv().await {
        match said {
            ScrubEvent::Progress(octets) => read += octets,
            ScrubEvent::Damage(damage) => found.push(damage),
            ScrubEvent::Failed(error) => panic!("{error}"),
        }
    }
    assert!(read > 500, "{read}");
    found
}

/// Flips an octet in a range of a file until a scrub finds it: most of what is stored is in use, not all.
async fn found_in(disk: &ImageDisk, engine: &RedbEngine, name: &str, at: Range<u64>) -> Damage {
    for offset in at.step_by(97) {
        if !disk.flip(name, offset) {
            break;
        }
        let mut found = scrubbed(engine).await;
        if let Some(damage) = found.pop() {
            assert!(found.is_empty(), "{damage:?} {found:?}");
            return damage;
        }
        assert!(disk.flip(name, offset));
    }
    panic!("a scrub finds nothing in {name}")
}

#[tokio::test]
async fn a_scrub_mends_what_is_there_twice() {
    let (disk, engine, mut history) = grown().await;
    assert_eq!(scrubbed(&engine).await, []);
    let names = disk.files().names().unwrap();
    let is_log = |name: &&String| segment_of(name).is_some() && !holds_bodies(&disk, name);
    let last = names.iter().filter(is_log).max().unwrap();
    let header = 0..70;
    let cases = [
        ("snapshot", SNAPSHOT_FILE, HEADER_OCTETS..u64::MAX),
        ("segment", last, header),
        ("rows", ROWS_FILE, 4096..u64::MAX),
    ];
    for (kind, name, range) in cases {
        let end = range.end.min(disk.length(name).unwrap());
        let damage = found_in(&disk, &engine, name, range.start..end).await;
        assert_eq!((damage.kind, damage.mended), (kind, true), "{damage:?}");
        assert_eq!(scrubbed(&engine).await, [], "{kind}");
        history.check(&engine).await;
    }
    let damage = {
        for _ in 0..5 {
            history.commit(&engine).await.unwrap();
        }
        let names = disk.files().names().unwrap();
        let last = names.iter().filter(is_log).max().unwrap();
        // Changes of the last group: their two copies are the end of the file.
        let length = disk.length(last).unwrap();
        found_in(&disk, &engine, last, length - 700..length).await
    };
    assert_eq!((damage.kind, damage.mended), ("log", true), "{damage:?}");
    assert_eq!(scrubbed(&engine).await, []);
    history.check(&engine).await;
    let image = disk.synced_image();
    engine.shared.abandon();
    history.check(&small(&image)).await;
}

#[tokio::test]
async fn a_scrub_names_the_body_that_is_damaged() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 7).await;
    let octets = Bytes::from(vec![b'x'; 30_000]);
    let body = engine.new_body(owner.space, octets).await.unwrap();
    let link = Write::LinkBody { name: "mail".to_owned(), body };
    owner.write(&engine, vec![link]).await.unwrap();
    let names = disk.files().names().unwrap();
    let holds = |name: &&String| {
        let text = disk.octets(name).unwrap_or_default();
        text.windows(100).any(|part| part == [b'x'; 100])
    };
    let name = names.iter().find(holds).expect("a segment holds it");
    assert!(disk.flip(name, HEADER_OCTETS + 20_000));
    let found = scrubbed(&engine).await;
    let [Damage { kind: "body", account: Some(account), name, mended: false, .. }] = &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!((account.0, &name[..]), ([7; 16], "mail"));
}
