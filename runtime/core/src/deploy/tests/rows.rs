//! The rules about schemas, one after the other.

use super::*;

/// A version that reads these, and writes these as it is told.
fn listens(number: u32, reads: (u32, u32), writes: (u32, u32)) -> Version {
    let schema = Schema { reads, writes: writes.1, writes_from: Some(writes.0) };
    Version { schema, ..version(number) }
}

fn one() -> Version {
    listens(1, (1, 1), (1, 1))
}

fn two() -> Version {
    listens(2, (1, 2), (1, 2))
}

fn permanent(version: Version, rows: Rows) -> StoreRecord {
    StoreRecord { permanent: Some(version), rows: Some(rows), ..StoreRecord::default() }
}

fn next(world: &World, record: &StoreRecord) -> Option<StoreRecord> {
    world.rows_seen(|seen| next_rows(record, &one(), seen))
}

fn sweeping(world: &World, record: &StoreRecord, node: &str) -> Option<u64> {
    world.rows_seen(|seen| sweeps(record, &one(), node, seen))
}

fn writes(world: &mut World, node: &str, version: &Version, round: u64) {
    world.writers.insert(node.to_owned(), Writer { schema: version.schema, round });
}

const OLD: Rows = Rows { first: 1, last: 1, writes: 1, round: 0 };
const MIXED: Rows = Rows { first: 1, last: 2, writes: 2, round: 1 };

#[test]
fn the_new_schema_is_written_when_all_live_nodes_read_it_and_swept_when_all_write_it() {
    let mut world = World::of(&["a", "b"]);
    let record = permanent(two(), OLD);
    assert!(record.asks_writers(&one()));
    writes(&mut world, "a", &two(), 0);
    assert_eq!(next(&world, &record), None, "b has said nothing");
    assert_eq!(world.rows_seen(|seen| waited_for(&record, &one(), seen).join(",")), "b");
    writes(&mut world, "b", &one(), 0);
    assert_eq!(next(&world, &record), None, "b does not read it");
    writes(&mut world, "b", &two(), 0);
    let record = next(&world, &record).unwrap();
    assert_eq!(record.rows, Some(MIXED));
    assert_eq!(sweeping(&world, &record, "a"), None, "they write as before");
    writes(&mut world, "a", &two(), 1);
    assert_eq!(sweeping(&world, &record, "a"), None);
    writes(&mut world, "b", &two(), 1);
    assert_eq!(sweeping(&world, &record, "a"), Some(1));
    assert_eq!(sweeping(&world, &record, "b"), None, "one does it");
    world.live.remove("a");
    assert_eq!(sweeping(&world, &record, "b"), Some(1), "and another when that one is gone");
    world.sweep = Some(Sweep { round: 0, done: true, ..Sweep::default() });
    assert_eq!(next(&world, &record), None, "that was another one");
    world.sweep = Some(Sweep { round: 1, done: true, ..Sweep::default() });
    let record = next(&world, &record).unwrap();
    assert_eq!(record.rows, Some(Rows { first: 2, ..MIXED }));
    assert!(!record.asks_writers(&one()));
    assert_eq!(next(&world, &record), None);
}

#[test]
fn nothing_moves_while_a_deployment_is_under_way() {
    let mut world = World::of(&["a"]);
    writes(&mut world, "a", &two(), 1);
    world.sweep = Some(Sweep { round: 1, done: true, ..Sweep::default() });
    let mut record = permanent(two(), MIXED);
    record.under_way = Some(deployment(3));
    assert_eq!(next(&world, &record), None);
    assert_eq!(sweeping(&world, &record, "a"), None);
}

#[test]
fn who_does_not_read_all_that_may_be_there_is_not_begun() {
    let world = World::of(&["a"]);
    let begins = |record: &StoreRecord, version: Version| {
        let asked = Deployment { version, ..deployment(9) };
        let serves = record.permanent.clone().unwrap();
        world.seen(|seen| begin(record, &serves, asked, seen))
    };
    let mixed = permanent(two(), MIXED);
    let refused = begins(&mixed, one()).unwrap_err().to_string();
    assert!(refused.ends_with("those that are kept have schemas 1 to 2"), "{refused}");
    let three = listens(3, (2, 3), (2, 3));
    assert!(begins(&mixed, three.clone()).is_err(), "the sweep has not ended");
    assert!(begins(&mixed, listens(3, (1, 3), (1, 3))).is_ok());
    let swept = permanent(two(), Rows { first: 2, ..MIXED });
    assert!(begins(&swept, three).is_ok());
    assert!(begins(&swept, one()).is_err());
}

#[test]
fn the_way_back_is_missing_only_where_the_new_one_cannot_write_what_is_written() {
    let mut world = World::of(&["a"]);
    let record = permanent(one(), OLD);
    let begins = |version: Version, no_rollback| {
        let asked = Deployment { version, no_rollback, ..deployment(9) };
        world.seen(|seen| begin(&record, &one(), asked, seen))
    };
    assert!(!begins(two(), false).unwrap().under_way.unwrap().one_way);
    let deaf = listens(2, (1, 2), (2, 2));
    let refused = begins(deaf.clone(), false).unwrap_err().to_string();
    assert!(refused.contains("cannot be told to write schema 1"), "{refused}");
    let begun = begins(deaf, true).unwrap();
    assert!(begun.under_way.as_ref().unwrap().one_way);
    world.says("a", Progress::Staged);
    let ended = world.seen(|seen| super::next(&begun, seen)).unwrap();
    assert_eq!(ended.history[0].outcome, Outcome::Permanent, "nothing could roll it back");
    assert_eq!(ended.rows, Some(Rows { first: 1, last: 2, writes: 1, round: 1 }));
}

#[test]
fn what_a_version_that_does_not_listen_has_written_stays_noted_when_it_is_rolled_back() {
    let mut world = World::of(&["a"]);
    let reads_both = listens(1, (1, 2), (1, 1));
    let record = permanent(reads_both.clone(), OLD);
    let deaf = Version { schema: Schema { reads: (1, 2), writes: 2, writes_from: None }, ..two() };
    let asked = Deployment { version: deaf, ..deployment(9) };
    let begun = world.seen(|seen| begin(&record, &reads_both, asked, seen)).unwrap();
    world.says("a", Progress::Staged);
    let tried = world.seen(|seen| super::next(&begun, seen)).unwrap();
    let back = world.seen(|seen| roll_back(&tried, "no", seen)).unwrap();
    assert_eq!(back.rows, Some(Rows { first: 1, last: 2, writes: 1, round: 1 }));
    writes(&mut world, "a", &reads_both, 1);
    assert_eq!(sweeping(&world, &back, "a"), Some(1), "they are brought back");
}

#[test]
fn a_record_of_before_takes_for_granted_only_what_its_version_reads() {
    let deaf = Schema { reads: (1, 2), writes: 2, writes_from: None };
    let version = Version { schema: deaf, ..version(2) };
    let record = StoreRecord { permanent: Some(version), ..StoreRecord::default() };
    let rows = Rows { first: 1, last: 2, writes: 2, round: 0 };
    assert_eq!(record.rows(&one()), rows);
    assert_eq!(StoreRecord::default().rows(&one()), OLD);
    let world = World::of(&["a"]);
    let noted = next(&world, &StoreRecord::default()).unwrap();
    assert_eq!(noted.rows, Some(OLD), "a later component of the configuration is held against it");
}

#[test]
fn a_sweep_that_met_failures_begins_again_and_names_only_so_many() {
    let mut sweep = Sweep { round: 3, rewritten: 7, of: 9, accounts: 9, ..Sweep::default() };
    for _ in 0..MAX_FAILED + 5 {
        sweep.fails(Some("x".to_owned()), "a\nb");
    }
    assert_eq!((sweep.failed.len(), sweep.failures), (MAX_FAILED, MAX_FAILED as u64 + 5));
    assert!(!sweep.passed());
    let again = sweep.again();
    assert_eq!((again.round, again.rewritten, again.failures, again.accounts), (3, 7, 0, 0));
    assert!(Sweep::default().passed());
    let mut sweep = Sweep::default();
    let both = [None, Some("x".to_owned())];
    both.iter().for_each(|account| sweep.fails(account.clone(), "damage"));
    sweep.tried_again(&both[0], None);
    sweep.tried_again(&both[1], Some("still".to_owned()));
    assert_eq!((sweep.failures, sweep.failed[0].why.as_str()), (1, "still"));
    sweep.tried_again(&both[1], None);
    assert!(sweep.passed());
}
