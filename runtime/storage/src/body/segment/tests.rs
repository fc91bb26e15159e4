//! What is found of a group in whatever state its octets are.

use super::*;
use crate::files::image::ImageDisk;

const DIRECTORY: [u8; 16] = [7; 16];
const SPACE: Space = Space::Account(AccountId([1; 16]));
const NUMBER: u64 = 5;

fn bodies() -> Vec<(RecordHeader, Bytes)> {
    let sizes = [0, 3, 700, 20_000, 5_000];
    let body = |(n, size): (usize, &usize)| {
        // The last one is mostly zeroes, as a message may be that was appended as a binary one.
        let octet = |i| if n == 4 && i > 50 { 0 } else { (i * 7 + n) as u8 | 1 };
        let octets: Vec<u8> = (0..*size).map(octet).collect();
        let header = RecordHeader { space: SPACE, body: [n as u8; 16], size: *size as u64 };
        (header, octets.into())
    };
    sizes.iter().enumerate().map(body).collect()
}

fn changes() -> Vec<u8> {
    (0..18_000u32).map(|i| (i % 251) as u8 | 1).collect()
}

/// A disk with a segment of the log that holds one group, and where that ends.
fn one_group() -> (ImageDisk, u64) {
    let disk = ImageDisk::new();
    let file = disk.files().open("s").unwrap();
    let segment = Segment::create(file, DIRECTORY, 1, Kind::Log { before: NUMBER - 1 }).unwrap();
    let group = Group { number: NUMBER, bodies: &bodies(), changes: &changes() };
    segment.append_group(HEADER_OCTETS, &group).unwrap();
    (disk, HEADER_OCTETS + group.length())
}

fn open(disk: &ImageDisk) -> Segment {
    Segment::open(disk.files().open("s").unwrap(), DIRECTORY, 1).unwrap()
}

fn found(segment: &Segment) -> Option<FoundGroup> {
    segment.group_at(HEADER_OCTETS, NUMBER).unwrap()
}

/// How many bodies of a group can be read.
fn readable(segment: &Segment) -> usize {
    let mut offset = HEADER_OCTETS;
    let mut readable = 0;
    for (header, octets) in bodies() {
        let place = SegmentPlace { segment: 1, offset, length: record_length(header.size) };
        let read = segment.read(place, (&header.body, header.size), 0, u64::MAX);
        readable += usize::from(read == Ok(octets));
        offset += place.length;
    }
    readable
}

#[test]
fn a_group_is_found_as_it_was_written() {
    let (disk, end) = one_group();
    let segment = open(&disk);
    assert_eq!(segment.kind, Kind::Log { before: NUMBER - 1 });
    let group = found(&segment).unwrap();
    assert_eq!((group.end, &group.changes), (end, &changes()));
    assert!(segment.has_bodies(&group).unwrap());
    assert_eq!(readable(&segment), bodies().len());
    assert_eq!(segment.group_at(HEADER_OCTETS, NUMBER + 1), Ok(None));
    assert_eq!(segment.group_at(HEADER_OCTETS + SECTOR_OCTETS, NUMBER), Ok(None));
    segment.write_again(NUMBER, &group).unwrap();
    assert_eq!(found(&open(&disk)), Some(group));
}

#[test]
fn a_walk_from_record_to_record_meets_all_of_them() {
    let (disk, end) = one_group();
    let segment = open(&disk);
    let (mut at, mut seen) = (HEADER_OCTETS, Vec::new());
    while let Some(record) = segment.record_at(at).unwrap() {
        at = record.next(at);
        seen.push(record);
    }
    assert_eq!(at, sector_from(end));
    let is_body = |record: &&Record| matches!(record, Record::Body(_));
    assert_eq!(seen.iter().filter(is_body).count(), bodies().len());
    assert_eq!(seen.len(), bodies().len() + 2);
}

#[test]
fn one_flipped_octet_costs_one_body_at_most_and_never_the_group() {
    let (disk, end) = one_group();
    let bodies = HEADER_OCTETS..HEADER_OCTETS + 3000;
    for offset in
        (0..end).filter(|offset| offset % 17 == 0 || end - offset < 99 || bodies.contains(offset))
    {
        let disk = disk.copy();
        assert!(disk.flip("s", offset));
        let segment = open(&disk);
        let group = found(&segment).unwrap_or_else(|| panic!("no group with octet {offset}"));
        assert_eq!((group.end, &group.changes), (end, &changes()), "{offset}");
        assert!(segment.has_bodies(&group).unwrap(), "{offset}");
        assert!(readable(&segment) + 1 >= super::tests::bodies().len(), "{offset}");
    }
}

#[test]
fn a_group_of_which_a_sector_never_arrived_is_whole_or_not_there() {
    let (disk, end) = one_group();
    let (mut whole, mut torn) = (0, 0);
    for sector in (HEADER_OCTETS..end).step_by(SECTOR_OCTETS as usize) {
        for cut in [false, true] {
            let (whole_disk, disk) = (&disk, disk.copy());
            let file = disk.files().open("s").unwrap();
            match cut {
                true => file.set_len(sector).unwrap(),
                false => {
                    let length = SECTOR_OCTETS.min(end - sector);
                    file.write_at(sector, &vec![0; length as usize]).unwrap();
                }
            }
            let segment = open(&disk);
            match found(&segment).filter(|group| segment.has_bodies(group).unwrap()) {
                Some(group) => {
                    assert_eq!(segment.has_later(HEADER_OCTETS, NUMBER), Ok(false));
                    assert_eq!(segment.has_later(HEADER_OCTETS, NUMBER - 1), Ok(true));
                    assert_eq!(group.changes, changes());
                    assert_eq!(readable(&segment), bodies().len(), "{sector}");
                    segment.write_again(NUMBER, &group).unwrap();
                    assert_eq!(disk.octets("s"), whole_disk.octets("s"), "it is mended");
                    whole += 1;
                }
                None => torn += 1,
            }
        }
    }
    assert!(whole > 40 && torn > 40, "whole {whole}, torn {torn}");
}

#[test]
fn what_somebody_writes_into_a_body_is_no_group() {
    // A segment with another key, whose octets are all inside a body of this one.
    let (other, end) = one_group();
    let inside =
        Bytes::from(other.octets("s").unwrap()[HEADER_OCTETS as usize..end as usize].to_vec());
    let disk = ImageDisk::new();
    let file = disk.files().open("s").unwrap();
    let segment = Segment::create(file, DIRECTORY, 1, Kind::Log { before: NUMBER - 1 }).unwrap();
    let header = RecordHeader { space: SPACE, body: [9; 16], size: inside.len() as u64 };
    segment.append(HEADER_OCTETS, &header, &inside).unwrap();
    assert_eq!(found(&segment), None);
    assert!(disk.flip("s", HEADER_OCTETS));
    assert_eq!(found(&segment), None, "also when it is searched for");
}

#[test]
fn one_copy_of_the_header_is_enough() {
    let (disk, _) = one_group();
    let both = disk.copy();
    for offset in (0..HEADER_OCTETS).filter(|offset| offset % BLOCK_OF_MEDIUM as u64 <= 99) {
        let disk = disk.copy();
        assert!(disk.flip("s", offset));
        assert!(found(&open(&disk)).is_some(), "{offset}");
    }
    assert!(both.flip("s", 3) && both.flip("s", BLOCK_OF_MEDIUM as u64 + 3));
    let opened = Segment::open(both.files().open("s").unwrap(), DIRECTORY, 1);
    assert!(matches!(opened, Err(StorageError::Damaged(_))), "{opened:?}");
}
