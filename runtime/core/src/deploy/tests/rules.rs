//! One rule after the other.

use super::*;

fn begun(world: &World, deployment: Deployment) -> StoreRecord {
    world.seen(|seen| begin(&StoreRecord::default(), &version(1), deployment, seen)).unwrap()
}

fn phase(record: &StoreRecord) -> Option<Phase> {
    record.under_way.as_ref().map(|under_way| under_way.phase)
}

fn outcome(record: &StoreRecord) -> &Outcome {
    &record.history.last().expect("it has ended").outcome
}

fn moved(world: &World, record: &StoreRecord) -> StoreRecord {
    world.seen(|seen| next(record, seen)).expect("it moves on")
}

/// A deployment that all nodes have staged, in the phase that follows.
fn staged(world: &mut World, deployment: Deployment) -> StoreRecord {
    let record = begun(world, deployment);
    for node in world.live.clone() {
        world.says(&node, Progress::Staged);
    }
    moved(world, &record)
}

fn stays(world: &World, record: &StoreRecord) {
    assert_eq!(world.seen(|seen| next(record, seen)), None);
}

#[test]
fn all_live_nodes_stage_then_all_serve_then_it_is_permanent() {
    let mut world = World::of(&["a", "b"]);
    let record = begun(&world, deployment(2));
    stays(&world, &record);
    world.says("a", Progress::Staged);
    stays(&world, &record);
    world.says("b", Progress::Staged);
    let record = moved(&world, &record);
    assert_eq!(phase(&record), Some(Phase::Probation));
    assert!(duty(&record, "a", false).serve.is_some());
    world.says("a", Progress::Serving);
    world.phase_for = Duration::from_secs(10);
    stays(&world, &record);
    world.says("b", Progress::Serving);
    let record = moved(&world, &record);
    assert_eq!(outcome(&record), &Outcome::Permanent);
    assert_eq!(record.permanent, Some(version(2)));
    let steps: Vec<_> = record.history[0].steps.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(steps, ["begun", "probation", "permanent"]);
}

#[test]
fn a_canary_serves_alone_first() {
    let mut world = World::of(&["a", "b"]);
    let record = staged(&mut world, Deployment { canary: Some("b".into()), ..deployment(2) });
    assert_eq!(phase(&record), Some(Phase::Canary));
    assert_eq!(duty(&record, "a", false).serve, None);
    assert!(duty(&record, "b", false).serve.is_some());
    assert_eq!(duty(&record, "b", true).serve, None, "a restart goes back");
    world.says("b", Progress::Serving);
    stays(&world, &record);
    world.phase_for = Duration::from_secs(10);
    assert_eq!(phase(&moved(&world, &record)), Some(Phase::Probation));
}

#[test]
fn a_canary_alone_in_its_cluster_is_everybody() {
    let mut world = World::of(&["a"]);
    let record = begun(&world, Deployment { canary: Some("a".into()), ..deployment(2) });
    world.says("a", Progress::Staged);
    assert_eq!(phase(&moved(&world, &record)), Some(Phase::Probation));
}

#[test]
fn who_cannot_stage_it_refuses_it_for_all() {
    let mut world = World::of(&["a", "b"]);
    let record = begun(&world, deployment(2));
    world.says("a", Progress::Staged);
    world.says("b", Progress::Refused("it traps".into()));
    let record = moved(&world, &record);
    assert_eq!(outcome(&record), &Outcome::Refused("b: it traps".into()));
    assert_eq!(record.permanent, None);
}

#[test]
fn who_says_nothing_is_waited_for_only_so_long() {
    let mut world = World::of(&["a", "b"]);
    let record = begun(&world, deployment(2));
    world.says("a", Progress::Staged);
    world.phase_for = STAGE_TIME;
    let refused = moved(&world, &record);
    assert_eq!(outcome(&refused).name(), "refused");
    assert!(outcome(&refused).why().unwrap().contains("b has not made it ready"));
    world.live.remove("b");
    assert_eq!(
        phase(&moved(&world, &record)),
        Some(Phase::Probation),
        "the dead are not waited for"
    );
}

#[test]
fn who_joins_on_probation_has_its_own_time_to_make_it_ready() {
    let mut world = World::of(&["a", "b"]);
    let record = staged(&mut world, Deployment { probation_s: 1_000, ..deployment(2) });
    world.says("a", Progress::Serving);
    world.says("b", Progress::Serving);
    world.phase_for = Duration::from_secs(600);
    world.live.insert("c".into());
    for (owing, progress) in [(STAGE_TIME, None), (SWITCH_TIME, Some(Progress::Staged))] {
        if let Some(progress) = progress {
            world.says("c", progress);
        }
        world.owing.insert("c".into(), owing - Duration::from_millis(1));
        stays(&world, &record);
        world.owing.insert("c".into(), owing);
        let late = moved(&world, &record);
        assert!(outcome(&late).why().unwrap().starts_with("c "), "{late:?}");
    }
    world.says("c", Progress::Serving);
    stays(&world, &record);
}

#[test]
fn what_serves_nowhere_because_all_were_started_anew_is_not_kept() {
    let mut world = World::of(&["a", "b"]);
    let record = staged(&mut world, deployment(2));
    world.says("a", Progress::Held);
    world.says("b", Progress::Serving);
    stays(&world, &record);
    // One that comes may serve it yet.
    world.reports.remove("b");
    stays(&world, &record);
    world.says("b", Progress::Held);
    let back = moved(&world, &record);
    assert!(outcome(&back).why().unwrap().contains("no node serves it any more"), "{back:?}");
    let meant = staged(&mut world, Deployment { no_rollback: true, ..deployment(2) });
    world.says("a", Progress::Held);
    world.says("b", Progress::Held);
    assert_eq!(outcome(&moved(&world, &meant)), &Outcome::Permanent);
}

#[test]
fn what_was_meant_is_found_again_whatever_became_of_it_and_nothing_else_is_taken_for_it() {
    let mut world = World::of(&["a"]);
    let meant = begun(&world, deployment(2));
    assert!(meant.has_become(&meant) && !StoreRecord::default().has_become(&meant));
    let serves = staged(&mut world, deployment(2));
    let ended = world.seen(|seen| commit(&serves, seen)).unwrap();
    assert!(serves.has_become(&meant) && ended.has_become(&meant) && ended.has_become(&ended));
    assert!(!serves.has_become(&ended));
    let other = begun(&world, deployment(3));
    assert!(!other.has_become(&meant) && !meant.has_become(&other));
    let back = world.seen(|seen| roll_back(&serves, "an operator", seen)).unwrap();
    assert!(!back.has_become(&ended) && !ended.has_become(&back));
}

#[test]
fn one_trip_anywhere_rolls_all_back() {
    let mut world = World::of(&["a", "b"]);
    let record = staged(&mut world, deployment(2));
    world.says("a", Progress::Serving);
    world.says("b", Progress::Tripped("messages insert: a trap".into()));
    let record = moved(&world, &record);
    assert_eq!(outcome(&record), &Outcome::RolledBack("b: messages insert: a trap".into()));
    assert_eq!(duty(&record, "a", false), Duty { stage: None, serve: None });
}

/// Whether what nodes say ends it, with a reason that has this part; or it goes on.
fn is_held(world: &World, record: &StoreRecord, expected: Option<&str>, case: &str) {
    match (world.seen(|seen| next(record, seen)), expected) {
        (None, None) => {}
        (Some(record), Some(part)) => {
            let why = outcome(&record).why().unwrap();
            assert!(why.contains(part), "{why}");
        }
        (got, expected) => panic!("{case}: {got:?}, expected {expected:?}"),
    }
}

#[test]
fn numbers_that_are_worse_than_before_roll_back_and_a_few_calls_prove_nothing() {
    let mut world = World::of(&["a"]);
    let record = staged(&mut world, deployment(2));
    let table = [
        ((49, 49), (1000, 0), None),
        ((100, 1), (1000, 0), Some("1 of 100 calls failed")),
        ((1000, 5), (1000, 0), None),
        ((1000, 6), (1000, 0), Some("6 of 1000")),
        ((1000, 105), (1000, 100), None),
    ];
    for (new, old, expected) in table {
        let evidence = world.says("a", Progress::Serving);
        evidence.tentative = verb(new.0, new.1);
        evidence.baseline = verb(old.0, old.1);
        is_held(&world, &record, expected, &format!("{new:?} {old:?}"));
    }
}

#[test]
fn a_function_that_is_slower_rolls_back_and_a_stall_does_not() {
    let mut world = World::of(&["a"]);
    let record = staged(&mut world, deployment(2));
    let evenly = |micros| Took { half: micros, three_quarters: micros, nine_tenths: micros };
    // All but this many hundredths of the calls took half of a millisecond, and those a second.
    let stalled = |hundredths: u32| Took {
        half: if hundredths > 50 { 1_000_000 } else { 500 },
        three_quarters: if hundredths > 25 { 1_000_000 } else { 500 },
        nine_tenths: if hundredths > 10 { 1_000_000 } else { 500 },
    };
    let half = evenly(500);
    let table = [
        ((50, evenly(11_000)), (50, evenly(1_000)), None),
        (
            (50, evenly(11_001)),
            (50, evenly(1_000)),
            Some("three of four of its calls took up to 11001"),
        ),
        ((50, evenly(100_000)), (49, evenly(1)), None),
        ((49, evenly(100_000)), (50, evenly(1)), None),
        // Ten times as long, and still soon enough for anybody: it shows when there were many.
        ((499, evenly(5_000)), (1000, half), None),
        ((1000, evenly(5_000)), (499, half), None),
        ((500, evenly(4_000)), (500, half), None),
        (
            (500, evenly(4_001)),
            (500, half),
            Some("half of its calls took up to 4001 µs, 500 µs before"),
        ),
        ((500, evenly(1_000)), (500, evenly(0)), None),
        ((50, stalled(25)), (1000, half), None),
        ((50, stalled(26)), (1000, half), Some("three of four")),
        ((1000, stalled(10)), (1000, half), None),
        ((999, stalled(11)), (1000, half), None),
        ((1000, stalled(11)), (1000, half), Some("nine of ten of its calls")),
        // What an earlier version of a node says.
        ((1000, evenly(0)), (1000, evenly(0)), None),
    ];
    for (new, old, expected) in table {
        let side = |(calls, took): (u64, Took)| {
            let mut side = verb(calls, 0);
            side[0].took = took;
            side
        };
        let evidence = world.says("a", Progress::Serving);
        (evidence.tentative, evidence.baseline) = (side(new), side(old));
        is_held(&world, &record, expected, &format!("{new:?} {old:?}"));
    }
}

#[test]
fn a_version_that_is_not_available_to_what_the_one_before_carries_out_goes_back() {
    let mut world = World::of(&["a"]);
    let record = staged(&mut world, deployment(2));
    let table = [
        ((2, 2), None),
        ((3, 3), Some("3 of 3 calls")),
        ((6, 3), None),
        ((7, 4), Some("4 of 7")),
        ((49, 20), None),
        ((50, 5), None),
        ((50, 6), Some("6 of 50")),
        ((1000, 100), None),
    ];
    for ((calls, unavailable), expected) in table {
        let evidence = world.says("a", Progress::Serving);
        evidence.tentative = verb(calls, 0);
        evidence.tentative[0].unavailable = unavailable;
        // It was never asked this before.
        evidence.baseline = Vec::new();
        is_held(&world, &record, expected, &format!("{unavailable} of {calls}"));
    }
}

#[test]
fn instances_that_go_before_their_time_roll_back_unless_both_versions_cost_them() {
    let mut world = World::of(&["a"]);
    let record = staged(&mut world, deployment(2));
    let wear = |lost, worn| Wear { lost, worn };
    let none = wear(0, 0);
    let table = [
        // Tentative, the one before meanwhile, and before the switch.
        (none, none, none, None),
        (wear(2, 0), none, wear(9, 0), None),
        (wear(3, 0), none, wear(9, 0), Some("3 of its instances were lost")),
        (wear(4, 0), wear(1, 0), none, None),
        (wear(5, 0), wear(1, 0), none, Some("5 of its instances were lost, 1 of")),
        (wear(0, 1), none, none, None),
        (wear(0, 2), none, none, Some("2 of its instances in 100 calls")),
        // One in 100 calls before, four in 100 now.
        (wear(0, 4), none, wear(0, 10), None),
        (wear(0, 5), none, wear(0, 10), Some("5 of its instances in 100 calls")),
    ];
    for (tentative, meanwhile, before, expected) in table {
        let evidence = world.says("a", Progress::Serving);
        evidence.tentative = verb(100, 0);
        evidence.baseline = verb(1000, 0);
        evidence.wear = Wears { tentative, meanwhile, before };
        is_held(&world, &record, expected, &format!("{tentative:?}"));
    }
}

#[test]
fn a_restart_on_probation_holds_the_node_and_not_the_deployment() {
    let mut world = World::of(&["a", "b"]);
    let record = staged(&mut world, deployment(2));
    world.says("a", Progress::Serving);
    world.says("b", Progress::Held);
    assert_eq!(duty(&record, "b", true).serve, None);
    stays(&world, &record);
    world.phase_for = Duration::from_secs(10);
    assert_eq!(outcome(&moved(&world, &record)), &Outcome::Permanent);
}

#[test]
fn a_canary_that_is_started_anew_or_gone_ends_it() {
    let mut world = World::of(&["a", "b"]);
    let record = staged(&mut world, Deployment { canary: Some("b".into()), ..deployment(2) });
    world.says("b", Progress::Held);
    assert_eq!(outcome(&moved(&world, &record)).name(), "rolled back");
    world.live.remove("b");
    assert_eq!(outcome(&moved(&world, &record)).why(), Some("the canary node has gone"));
}

#[test]
fn what_cannot_be_begun_says_what_to_do() {
    let world = World::of(&["a"]);
    let record = begun(&world, deployment(2));
    let check = |record: &StoreRecord, deployment: Deployment, part: &str| {
        let refused = world.seen(|seen| begin(record, &version(1), deployment, seen)).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    };
    check(&record, deployment(3), "commit");
    let fresh = StoreRecord::default();
    check(&fresh, deployment(1), "serves already");
    let schema = |first, last, writes| {
        let mut deployment = deployment(2);
        deployment.version.schema = Schema { reads: (first, last), writes, writes_from: None };
        deployment
    };
    check(
        &fresh,
        schema(2, 3, 2),
        "reads rows of schemas 2 to 3, and those that are kept have schema 1",
    );
    check(&fresh, schema(1, 1, 2), "which it does not read");
    check(&fresh, schema(1, 2, 2), "--no-rollback");
    check(&fresh, Deployment { canary: Some("z".into()), ..deployment(2) }, "no node z");
    let meant = Deployment { no_rollback: true, ..schema(1, 2, 2) };
    assert!(world.seen(|seen| begin(&fresh, &version(1), meant, seen)).is_ok());
}

#[test]
fn an_operator_ends_it_either_way() {
    let mut world = World::of(&["a"]);
    let record = begun(&world, deployment(2));
    assert_eq!(world.seen(|seen| commit(&record, seen)), None, "nothing serves yet");
    let refused = world.seen(|seen| roll_back(&record, "not\ntoday", seen)).unwrap();
    assert_eq!(outcome(&refused), &Outcome::Refused("not today".into()));
    world.says("a", Progress::Staged);
    let record = moved(&world, &record);
    let committed = world.seen(|seen| commit(&record, seen)).unwrap();
    assert_eq!(committed.permanent, Some(version(2)));
    let back = world.seen(|seen| roll_back(&record, "on request", seen)).unwrap();
    assert_eq!(outcome(&back).name(), "rolled back");
    assert_eq!(world.seen(|seen| roll_back(&back, "again", seen)), None);
}

#[test]
fn history_is_bounded_and_numbers_only_rise() {
    let world = World::of(&["a"]);
    let mut record = StoreRecord::default();
    for number in 1..=MAX_HISTORY as u64 + 9 {
        record = world.seen(|seen| begin(&record, &version(1), deployment(2), seen)).unwrap();
        assert_eq!(record.under_way.as_ref().unwrap().number, number);
        record = world.seen(|seen| roll_back(&record, "no", seen)).unwrap();
    }
    assert_eq!(record.history.len(), MAX_HISTORY);
}

/// Version 2 is deployed, and the configuration names version 1.
fn deployed() -> StoreRecord {
    StoreRecord { permanent: Some(version(2)), ..Default::default() }
}

fn forgets(world: &World, record: &StoreRecord, to: u32) -> Result<StoreRecord, NotBegun> {
    let serves = record.permanent.clone().unwrap_or(version(1));
    let deployment = Deployment { configured: true, ..deployment(to) };
    world.seen(|seen| begin(record, &serves, deployment, seen))
}

#[test]
fn back_to_the_configuration_goes_the_way_of_any_deployment_and_leaves_none() {
    let mut world = World::of(&["a", "b"]);
    let mut record = forgets(&world, &deployed(), 1).unwrap();
    for node in ["a", "b"] {
        world.says(node, Progress::Staged);
    }
    record = moved(&world, &record);
    assert_eq!(phase(&record), Some(Phase::Probation));
    assert_eq!(record.permanent, Some(version(2)));
    world.says("a", Progress::Serving);
    world.says("b", Progress::Serving);
    stays(&world, &record);
    world.phase_for = Duration::from_secs(10);
    record = moved(&world, &record);
    assert_eq!((outcome(&record), &record.permanent), (&Outcome::Permanent, &None));
    let error = forgets(&world, &record, 1).unwrap_err().to_string();
    assert!(error.contains("no deployment stands over the configuration"), "{error}");
}

#[test]
fn what_was_deployed_stays_when_going_back_to_the_configuration_fails() {
    let mut world = World::of(&["a", "b"]);
    let record = forgets(&world, &deployed(), 1).unwrap();
    world.says("a", Progress::Staged);
    let under_way = record.under_way.as_ref().unwrap();
    assert_eq!(other_configuration(under_way, &version(1)), None);
    assert_eq!(other_configuration(&deployment(1), &version(3)), None);
    let why = other_configuration(under_way, &version(3)).unwrap();
    assert!(why.contains("names keyed 3") && why.contains("not keyed 1"), "{why}");
    world.says("b", Progress::Refused(why));
    let record = moved(&world, &record);
    assert!(matches!(outcome(&record), Outcome::Refused(_)));
    assert_eq!(record.permanent, Some(version(2)));
}

#[test]
fn where_the_configuration_names_what_serves_only_the_record_changes() {
    let mut world = World::of(&["a", "b"]);
    let record = forgets(&world, &deployed(), 2).unwrap();
    world.says("a", Progress::Staged);
    stays(&world, &record);
    world.says("b", Progress::Staged);
    let record = moved(&world, &record);
    assert_eq!((outcome(&record), &record.permanent), (&Outcome::Permanent, &None));
    assert_eq!(record.under_way, None);
}
