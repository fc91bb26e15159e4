//! Room that is given back while the engine runs.

use std::time::{Duration, Instant};

use super::*;
use crate::Body;
use crate::body::segment::{Kind, Segment, record_length, segment_of};
use crate::files::image::Operation;

/// Octets of a body that goes to a segment.
const LARGE: usize = 20_000;
/// How many of them fill one.
const EACH: u64 = 8;
/// Bodies that are made: of six segments.
const BODIES: u64 = 6 * EACH;
/// After which an event that a test waits for is not going to come.
pub const PATIENCE: Duration = Duration::from_secs(20);

fn octets(n: u64) -> Bytes {
    (0..LARGE).map(|i| (i as u64 / 7 + n * 31) as u8).collect::<Vec<_>>().into()
}

fn link(n: u64, body: Body) -> Write {
    Write::LinkBody { name: format!("m{n}"), body }
}

/// Octets of all files of bodies.
fn taken(disk: &ImageDisk) -> u64 {
    let names = disk.files().names().unwrap();
    let bodies = names.iter().filter(|name| segment_of(name).is_some());
    bodies.filter_map(|name| disk.length(name)).sum()
}

/// Whether a file is a segment of bodies, not of the log.
pub fn holds_bodies(disk: &ImageDisk, name: &str) -> bool {
    let Some(id) = segment_of(name) else { return false };
    let directory = disk.octets(name).unwrap()[16..32].try_into().unwrap();
    let file = disk.files().open_existing(name).unwrap();
    Segment::open(file, directory, id).unwrap().kind == Kind::Bodies
}

/// Most octets of files in which so many bodies have a link: half of each is in use, and what those hold
/// that are appended to (one of bodies, one of the log) nobody has looked at yet.
fn room_of(bodies: u64) -> u64 {
    2 * bodies * record_length(LARGE as u64) + 2 * (SEGMENT + LARGE as u64)
}

pub async fn until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never holds");
        tokio::task::yield_now().await;
    }
}

async fn shrinks_to(disk: &ImageDisk, most: u64) {
    until(|| taken(disk) <= most).await;
}

async fn reads_back(engine: &RedbEngine, owner: &Owner, n: u64) {
    let body = engine.body(owner.space, &format!("m{n}")).await.unwrap().expect("it has a link");
    assert_eq!(engine.read_body(owner.space, &body, 0, u64::MAX).await, Ok(octets(n)));
}

fn place(engine: &RedbEngine, owner: &Owner, body: &Body) -> Place {
    let row = engine.shared.read(|rows| reads::body_row(rows, owner.space, &body.key()));
    row.unwrap().expect("it has a link").place
}

#[tokio::test]
async fn segments_of_which_little_is_left_are_rewritten_and_their_bodies_move() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    let mut bodies = Vec::new();
    for n in 0..BODIES {
        let body = engine.new_body(owner.space, octets(n)).await.unwrap();
        owner.write(&engine, vec![link(n, body.clone())]).await.unwrap();
        bodies.push((n, place(&engine, &owner, &body), body));
    }
    assert!(taken(&disk) > BODIES * LARGE as u64);
    let (kept, gone): (Vec<_>, Vec<_>) = bodies.into_iter().partition(|(n, ..)| n % EACH == 3);
    let unlink = |n: &u64| Write::UnlinkBody { name: format!("m{n}") };
    owner.write(&engine, gone.iter().map(|(n, ..)| unlink(n)).collect()).await.unwrap();
    shrinks_to(&disk, room_of(kept.len() as u64)).await;
    // All but the one in the segment that was appended to last.
    let moved = |(_, before, body): &&(u64, Place, Body)| place(&engine, &owner, body) != *before;
    until(|| kept.iter().filter(moved).count() >= kept.len() - 1).await;
    for (n, ..) in &kept {
        reads_back(&engine, &owner, *n).await;
    }
    drop(engine);
    let engine = small(&disk);
    for (n, ..) in &kept {
        reads_back(&engine, &owner, *n).await;
    }
}

#[tokio::test]
async fn a_segment_that_bodies_are_appended_to_is_not_filled_up_when_little_of_it_is_in_use() {
    let disk = ImageDisk::new();
    // One that would hold all of them, and more.
    let engine =
        RedbEngine::open_files(disk.files(), RedbOptions { segment_octets: 4_000_000, ..SMALL });
    let engine = engine.unwrap();
    let owner = Owner::new(&engine, 1).await;
    for n in 0..BODIES {
        let body = engine.new_body(owner.space, octets(n)).await.unwrap();
        owner.write(&engine, vec![link(n, body)]).await.unwrap();
    }
    let gone = (1..BODIES).map(|n| Write::UnlinkBody { name: format!("m{n}") }).collect();
    owner.write(&engine, gone).await.unwrap();
    shrinks_to(&disk, room_of(1)).await;
    reads_back(&engine, &owner, 0).await;
}

#[tokio::test]
async fn a_segment_in_which_nothing_was_ever_linked_goes_without_a_restart() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    for n in 0..BODIES {
        let body = engine.new_body(owner.space, octets(n)).await.unwrap();
        engine.give_up(owner.space, &[body]);
    }
    shrinks_to(&disk, room_of(0)).await;
}

#[tokio::test]
async fn a_segment_that_ends_with_what_nothing_has_linked_is_rewritten() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    // The first of each segment gets a link, those after it do not.
    for n in 0..BODIES {
        let body = engine.new_body(owner.space, octets(n)).await.unwrap();
        match n % EACH {
            0 => owner.write(&engine, vec![link(n, body)]).await.unwrap(),
            _ => engine.give_up(owner.space, &[body]),
        }
    }
    shrinks_to(&disk, room_of(BODIES / EACH)).await;
    for n in (0..BODIES).step_by(EACH as usize) {
        reads_back(&engine, &owner, n).await;
    }
}

#[tokio::test]
async fn a_body_that_waits_for_its_link_keeps_its_segment() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    let waiting = engine.new_body(owner.space, octets(1000)).await.unwrap();
    for n in 0..BODIES {
        let body = engine.new_body(owner.space, octets(n)).await.unwrap();
        engine.give_up(owner.space, &[body]);
    }
    shrinks_to(&disk, SEGMENT + LARGE as u64 + room_of(0)).await;
    owner.write(&engine, vec![link(1000, waiting)]).await.unwrap();
    reads_back(&engine, &owner, 1000).await;
}

#[tokio::test]
async fn a_body_whose_caller_has_gone_does_not_wait_for_a_link() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    disk.hold(Operation::Write, 0);
    for _ in 0..3 {
        let mut caller = Box::pin(engine.new_body(owner.space, octets(7)));
        assert!(futures::poll!(&mut caller).is_pending());
    }
    disk.release();
    // Answered after them: the writer has done with all.
    let last = engine.new_body(owner.space, octets(8)).await.unwrap();
    assert_eq!(engine.shared.unlinked.waiting(owner.space, &[last]).len(), 1);
    assert_eq!(engine.shared.unlinked.len(), 1);
}

#[tokio::test]
async fn a_segment_whose_row_is_lost_is_kept_for_the_bodies_in_it() {
    let disk = ImageDisk::new();
    let engine = small(&disk);
    let owner = Owner::new(&engine, 1).await;
    let body = engine.new_body(owner.space, octets(1)).await.unwrap();
    owner.write(&engine, vec![link(1, body.clone())]).await.unwrap();
    let Place::Segment(place) = place(&engine, &owner, &body) else { panic!("it is large") };
    drop(engine);
    let index =
        Index::open(&*disk.files(), (1 << 20, false), &Arc::new(Counters::new("redb"))).unwrap();
    index.forget_segments(&[place.segment]).unwrap();
    index.close();
    for _ in 0..2 {
        let engine = small(&disk);
        reads_back(&engine, &owner, 1).await;
        // New ones go elsewhere.
        let body = engine.new_body(owner.space, octets(2)).await.unwrap();
        engine.give_up(owner.space, &[body]);
    }
    let names = disk.files().names().unwrap();
    assert_eq!(names.iter().filter(|name| holds_bodies(&disk, name)).count(), 2);
}
