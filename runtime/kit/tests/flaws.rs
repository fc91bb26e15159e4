//! The kit against stores with one flaw each: the case that is meant for it fails, and blames the
//! sentence that is broken. And against a right one, over which every case passes.

mod shelf;

use std::collections::BTreeSet;

use postroom_kit::cases::Level;
use postroom_kit::coverage::{INTERFACES, binding};
use postroom_kit::records::{Domain, Mailbox, Message, User};
use postroom_kit::run::{Outcome, Planned, Ran, Summary, plan};
use postroom_kit::verdict::whole_id;

use shelf::{Flaw, Shelf, block_on};

fn run(case: Planned, flaw: Flaw) -> Ran {
    match case.interface {
        "domains" => block_on(case.of_records::<Domain, _>(Shelf::<Domain>::new(flaw), 1)),
        "users" => block_on(case.of_records::<User, _>(Shelf::<User>::new(flaw), 1)),
        "mailboxes" => block_on(case.of_records::<Mailbox, _>(Shelf::<Mailbox>::new(flaw), 1)),
        "messages" => block_on(case.of_messages(Shelf::<Message>::new(flaw), 1)),
        other => panic!("there is no interface {other}"),
    }
}

fn all(interface: &str) -> Vec<Planned> {
    plan(Level::Survives).into_iter().filter(|case| case.interface == interface).collect()
}

/// A flaw, the case that is meant for it, and the promise that the case has to blame; of two words
/// where it is the interface's.
type Meant = (Flaw, &'static str, &'static str);

/// How it comes to something else.
fn wrong(interface: &str, (flaw, name, promise): Meant) -> Option<String> {
    let promise = whole_id(promise, interface);
    let found = all(interface).into_iter().find(|case| case.case.name == name);
    let case = found.unwrap_or_else(|| panic!("there is no case {interface}/{name}"));
    match run(case, Flaw::None).outcome {
        Outcome::Passed => {}
        other => return Some(format!("{name} without a flaw: {other:?}")),
    }
    match run(case, flaw).outcome {
        Outcome::Failed(failure) if failure.promise != promise => {
            Some(format!("{flaw:?}: {name} blames [{}]: {}", failure.promise, failure.what))
        }
        Outcome::Failed(failure) if failure.trace.is_empty() => {
            Some(format!("{flaw:?}: {name} says no call that led there"))
        }
        Outcome::Failed(failure) if !case.covers().contains(&failure.promise) => {
            Some(format!("{flaw:?}: {name} does not say that it covers [{promise}]"))
        }
        Outcome::Failed(_) => None,
        other => Some(format!("{flaw:?}: {name} comes to {other:?}")),
    }
}

#[test]
fn a_right_store_passes_every_case_and_holds_every_promise() {
    for interface in INTERFACES {
        let ran: Vec<_> = all(interface).into_iter().map(|case| run(case, Flaw::None)).collect();
        for ran in &ran {
            assert_eq!(ran.outcome, Outcome::Passed, "{}", ran.planned.name());
            assert!(ran.calls > 0, "{} asks nothing", ran.planned.name());
        }
        let summary = Summary::of(&ran, &[interface]);
        assert_eq!(summary.level, Some(Level::Survives));
        assert_eq!(summary.held, summary.promises, "{interface}");
        assert_eq!((summary.failed, summary.not_applicable), (0, 0));
    }
}

/// The flaws of a store of records, for each of the three kinds.
const OF_RECORDS: &[Meant] = {
    use Flaw::*;
    &[
        (CreateClears, "create_keeps_what_is_there", "create.1"),
        (EmptyInsertFails, "empty_lists_change_nothing", "store.rule.8"),
        (InsertLosesTheLastRow, "insert_keeps_every_field", "store.rule.7"),
        (InsertDropsProperties, "insert_keeps_every_field", "store.rule.7"),
        (InsertOverwrites, "insert_of_an_existing_name_adds_nothing", "insert.1"),
        (InsertAddsSomeBeforeItRefuses, "insert_of_an_existing_name_adds_nothing", "insert.1"),
        (UpdateInserts, "update_of_a_missing_name_changes_nothing", "update.2"),
        (UpdateKeepsAnOldField, "update_replaces_every_field", "update.1"),
        (DeleteDeletesNothing, "delete_passes_over_what_is_not_there", "delete.1"),
        (DeleteOfMissingFails, "delete_passes_over_what_is_not_there", "delete.1"),
        (SelectSorts, "select_answers_in_the_order_asked", "select.1"),
        (SelectAnswersOnce, "select_answers_in_the_order_asked", "select.2"),
        (SelectOfMissingFails, "a_new_space_holds_nothing", "store.rule.13"),
        (ListIsInDisorder, "list_pages_in_order_whatever_the_limits", "list.1"),
        (ListRepeatsTheCursor, "list_pages_in_order_whatever_the_limits", "list.1"),
        (ListSkipsAfterTheCursor, "list_pages_in_order_whatever_the_limits", "list.1"),
        (ListIgnoresTheLimit, "list_pages_in_order_whatever_the_limits", "list.3"),
        (ListSaysMoreOfNothing, "reads_answer_whatever_is_there", "page.1"),
        (ListEndsAtAGoneName, "list_goes_on_after_a_name_that_is_gone", "list.2"),
        (ListNeverEnds, "list_pages_in_order_whatever_the_limits", "list.1"),
        (DropLeavesOne, "drop_removes_all_and_may_be_repeated", "drop.1"),
        (DropTwiceFails, "drop_removes_all_and_may_be_repeated", "drop.3"),
        (DropNeedsCreate, "drop_removes_all_and_may_be_repeated", "drop.2"),
        (UpdateIsUnsupported, "update_replaces_every_field", "update.1"),
        (ListIsUnsupported, "list_pages_in_order_whatever_the_limits", "list.1"),
        (AllWritesButDeleteAreUnsupported, "delete_passes_over_what_is_not_there", "delete.1"),
        (CutsLongNames, "huge_rows_come_back_whole", "store.rule.12"),
        (WritesAtOnce, "a_transaction_sees_its_own_writes", "storage.view.2"),
        (WritesAtOnce, "a_forgotten_transaction_leaves_nothing", "store.rule.5"),
        (HidesAFailure, "a_failing_host_is_reported_and_leaves_nothing", "storage.storage-error.1"),
        (HidesAFailure, "random_operations_survive_a_failing_host", "storage.storage-error.1"),
        (ForgetsWithItsInstance, "a_restart_loses_nothing", "store.rule.1"),
        (ForgetsWithItsInstance, "a_lost_instance_leaves_nothing", "store.rule.1"),
        (RemembersWhatItListed, "two_instances_see_each_others_writes", "store.rule.2"),
        (CheckFindsNothing, "damaged_records_are_found_and_repaired", "check.1"),
        (CheckRepairsUnasked, "damaged_records_are_found_and_repaired", "check.2"),
        (RepairLeavesRubbish, "damaged_records_are_found_and_repaired", "check.4"),
        (RepairWipes, "damaged_records_are_found_and_repaired", "check.2"),
        (CheckNeverEnds, "reads_answer_whatever_is_there", "check.3"),
        (CheckFindsWhatIsSound, "check_of_a_sound_store_finds_nothing", "check.2"),
        (CheckSkipsRows, "check_of_a_sound_store_finds_nothing", "check.3"),
        (LosesAChangeNowAndThen, "random_operations_agree_with_the_model", "store.rule.7"),
        (StaysLockedWhenGivenUp, "an_operation_that_is_given_up_leaves_nothing", "store.rule.5"),
        (CallsShareTheirArguments, "calls_run_beside_each_other", "store.rule.3"),
        (RefusesASecondCall, "calls_run_beside_each_other", "store.rule.3"),
        (KeepsHandles, "handles_are_let_go", "store.rule.4"),
        (CallsOfManyAreCut, "calls_of_4096_rows_are_carried_out", "store.rule.10"),
        (CutsLargeRows, "a_row_that_is_too_large_is_refused_or_kept_whole", "store.rule.7"),
        (LargeAnswersAreALimit, "rows_that_are_large_together_come_back", "select.1"),
        (ChangesLetters, "names_of_every_form_are_told_apart", "store.rule.11"),
        (OrdersAsTexts, "names_of_every_form_are_told_apart", "list.1"),
        (ReadsOnlyWhatIsSaid, "rows_are_brought_to_another_schema", "types.call.3"),
        (MigratesNothing, "rows_are_brought_to_another_schema", "store.rule.14"),
        (MigrationLosesRubbish, "rows_are_brought_to_another_schema", "store.rule.15"),
    ]
};

/// The flaws of a store of messages.
const OF_MESSAGES: &[Meant] = {
    use Flaw::*;
    &[
        (ReadsOnlyWhatIsSaid, "messages_are_brought_to_another_schema", "types.call.3"),
        (MigratesNothing, "messages_are_brought_to_another_schema", "store.rule.14"),
        (MigrationLosesRubbish, "messages_are_brought_to_another_schema", "store.rule.15"),
        (CreateClears, "create_keeps_what_is_there", "create.1"),
        (InsertLosesTheLastRow, "insert_keeps_every_field_and_octet", "insert.2"),
        (InsertDropsProperties, "insert_keeps_every_field_and_octet", "insert.2"),
        (UpdateLosesAFlag, "update_changes_flags_and_leaves_the_rest", "update.1"),
        (UpdateTouchesAnotherField, "update_changes_flags_and_leaves_the_rest", "update.1"),
        (DeleteDeletesNothing, "delete_passes_over_what_is_not_there", "delete.1"),
        (DeleteTakesTheBody, "a_deleted_message_is_readable_until_settled", "delete.2"),
        (SelectSorts, "select_answers_in_the_order_asked", "select.1"),
        (SelectAnswersOnce, "select_answers_in_the_order_asked", "select.2"),
        (ListIsInDisorder, "list_pages_in_order_of_uid_whatever_the_limits", "list.1"),
        (ListSkipsAfterTheCursor, "list_pages_in_order_of_uid_whatever_the_limits", "list.1"),
        (ListMixesMailboxes, "mailboxes_are_apart", "list.1"),
        (DropTakesTheNextMailbox, "drop_removes_one_mailbox_and_may_be_repeated", "drop.1"),
        (DropTakesBodies, "drop_removes_one_mailbox_and_may_be_repeated", "drop.3"),
        (FetchIgnoresTheBeginning, "fetch_gives_the_range_asked_for", "fetch.1"),
        (FetchIgnoresTheBeginning, "huge_messages_come_back_whole", "fetch.1"),
        (FetchBehindTheEndFails, "fetch_gives_the_range_asked_for", "fetch.3"),
        (FetchCutsTheEnd, "huge_messages_come_back_whole", "fetch.5"),
        (SettleOfUnknownFails, "settle_may_be_repeated_and_passes_over_unknown_names", "settle.3"),
        (HidesAFailure, "random_operations_survive_a_failing_host", "storage.storage-error.1"),
        (ForgetsWithItsInstance, "a_lost_instance_leaves_nothing", "store.rule.1"),
        (RemembersWhatItListed, "two_instances_see_each_others_writes", "store.rule.2"),
        (CheckFindsNothing, "damaged_messages_are_found_and_repaired", "check.1"),
        (CheckOverlooksBodies, "damaged_messages_are_found_and_repaired", "check.1"),
        (RepairLeavesRubbish, "damaged_messages_are_found_and_repaired", "check.4"),
        (RepairWipes, "damaged_messages_are_found_and_repaired", "check.2"),
        (ListIgnoresTheLimit, "list_pages_in_order_of_uid_whatever_the_limits", "list.3"),
        (ListSaysMoreOfNothing, "reads_answer_whatever_is_there", "page.1"),
        (DropOfUnknownFails, "drop_removes_one_mailbox_and_may_be_repeated", "drop.2"),
        (InsertNeedsAMailbox, "insert_keeps_every_field_and_octet", "insert.4"),
        (InsertTwiceFails, "a_forgotten_transaction_leaves_nothing", "outside.1"),
        (DeleteReachesOutside, "a_forgotten_transaction_leaves_nothing", "outside.2"),
        (SettleIsUnsupported, "a_deleted_message_is_readable_until_settled", "settle.1"),
        (CheckNeverEnds, "reads_answer_whatever_is_there", "check.3"),
        (SelectOfMissingFails, "a_new_account_holds_nothing", "store.rule.13"),
        (FetchOfMissingFails, "a_new_account_holds_nothing", "fetch.4"),
        (EmptyInsertFails, "empty_lists_change_nothing", "store.rule.8"),
        (ListEndsAtAGoneName, "list_goes_on_after_a_uid_that_is_gone", "list.2"),
        (WritesAtOnce, "a_transaction_sees_its_own_writes", "storage.view.2"),
        (WritesAtOnce, "a_forgotten_transaction_leaves_nothing", "store.rule.5"),
        (BodiesAreOneByTheirOctets, "a_body_may_be_inserted_twice", "insert.1"),
        (CallsOfManyAreCut, "ten_thousand_flags_change_in_one_operation", "store.rule.10"),
        (CheckFindsWhatIsSound, "check_of_a_sound_store_finds_nothing", "check.2"),
        (CheckSkipsRows, "check_of_a_sound_store_finds_nothing", "check.3"),
        (LosesAChangeNowAndThen, "random_operations_agree_with_the_model", "store.rule.7"),
        (HidesAFailure, "a_failing_host_is_reported_and_leaves_nothing", "storage.storage-error.1"),
        (StaysLockedWhenGivenUp, "an_operation_that_is_given_up_leaves_nothing", "store.rule.5"),
        (ForgetsWithItsInstance, "a_restart_loses_nothing", "store.rule.1"),
        (CallsShareTheirArguments, "calls_run_beside_each_other", "store.rule.3"),
        (RefusesASecondCall, "calls_run_beside_each_other", "store.rule.3"),
        (KeepsHandles, "handles_are_let_go", "store.rule.4"),
        (CutsLargeRows, "a_message_that_is_too_large_is_refused_or_kept_whole", "store.rule.7"),
        (LargeAnswersAreALimit, "messages_that_are_large_together_come_back", "select.1"),
        (ChangesLetters, "names_of_every_form_have_their_own_octets", "store.rule.11"),
        (
            LinksUnderAnotherName,
            "bodies_are_linked_under_the_names_of_their_rows",
            "storage.put-body.2",
        ),
        (FetchShowsOrphans, "an_attempt_that_came_to_nothing_is_shown_by_no_read", "outside.4"),
        (SettleCannotBeResumed, "a_settle_that_is_interrupted_may_be_repeated", "settle.2"),
    ]
};

/// Cases that no flaw fails, each with the reason why none can be planted.
const WITHOUT_FLAW: &[(&str, &str)] = &[];

fn meant(interface: &str) -> &'static [Meant] {
    match interface {
        "messages" => OF_MESSAGES,
        _ => OF_RECORDS,
    }
}

#[test]
fn each_flaw_fails_its_case_and_each_case_has_one() {
    let (mut wrong, mut caught) = (Vec::new(), 0);
    let (mut cases, mut flaws, mut blamed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for interface in INTERFACES {
        for meant in meant(interface) {
            match self::wrong(interface, *meant) {
                Some(why) => wrong.push(format!("{interface}: {why}")),
                None => {
                    caught += 1;
                    cases.insert(format!("{interface}/{}", meant.1));
                    blamed.insert(whole_id(meant.2, interface));
                }
            }
            flaws.insert(format!("{:?}", meant.0));
        }
    }
    let all: BTreeSet<_> = plan(Level::Survives).iter().map(Planned::name).collect();
    let planted: usize = INTERFACES.iter().map(|interface| meant(interface).len()).sum();
    println!(
        "{} cases, of which {} fail by a flaw; {} flaws, planted {planted} times, caught {caught} \
         times; {} of {} promises are blamed",
        all.len(),
        cases.len(),
        flaws.len(),
        blamed.len(),
        binding(&INTERFACES).len(),
    );
    assert_eq!(wrong, Vec::<String>::new());
    let excused = |case: &&String| WITHOUT_FLAW.iter().any(|(name, _)| case.ends_with(name));
    let without: Vec<_> = all.difference(&cases).filter(|case| !excused(case)).collect();
    assert_eq!(without, Vec::<&String>::new(), "no flaw fails them");
    let stale = WITHOUT_FLAW.iter().filter(|(name, _)| cases.iter().any(|c| c.ends_with(name)));
    assert_eq!(stale.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new(), "a flaw fails them");
}

#[test]
fn a_store_that_only_reads_stays_at_the_first_level() {
    let run = |case| run(case, Flaw::WritesAreUnsupported);
    let ran: Vec<_> = all("users").into_iter().map(run).collect();
    let summary = Summary::of(&ran, &["users"]);
    assert_eq!((summary.failed, summary.level), (0, Some(Level::Answers)), "{ran:?}");
    assert!(summary.held < summary.promises, "{summary:?}");
}

#[test]
fn a_kind_that_only_reads_holds_the_others_back() {
    let mut ran: Vec<_> =
        all("users").into_iter().map(|case| run(case, Flaw::WritesAreUnsupported)).collect();
    ran.extend(all("messages").into_iter().map(|case| run(case, Flaw::None)));
    assert_eq!(Summary::of(&ran, &["users", "messages"]).level, Some(Level::Answers));
}

#[test]
fn a_store_that_does_not_start_again_fails() {
    let case = all("users").remove(0).not_started("it traps".to_owned());
    let summary = Summary::of(std::slice::from_ref(&case), &["users"]);
    assert_eq!((summary.failed, summary.level), (1, None));
    let Outcome::Failed(failure) = case.outcome else { panic!("{case:?}") };
    assert_eq!(failure.promise, "store.rule.1");
}

#[test]
fn a_flaw_costs_the_level_of_its_case() {
    let level = |flaw| {
        let ran: Vec<_> = all("users").into_iter().map(|case| run(case, flaw)).collect();
        Summary::of(&ran, &["users"]).level
    };
    assert_eq!(level(Flaw::EmptyInsertFails), None);
    assert_eq!(level(Flaw::UpdateInserts), Some(Level::Answers));
    assert_eq!(level(Flaw::RemembersWhatItListed), Some(Level::Keeps));
    assert_eq!(level(Flaw::None), Some(Level::Survives));
}

#[test]
fn a_case_that_was_not_run_costs_its_level_and_holds_nothing() {
    let mut ran: Vec<_> = all("users").into_iter().map(|case| run(case, Flaw::None)).collect();
    let whole = Summary::of(&ran, &["users"]);
    let at = ran.iter().position(|ran| ran.planned.case.level == Level::Keeps);
    let at = at.expect("a case of the second level");
    ran[at] = ran[at].planned.not_run("it takes too long".to_owned());
    let summary = Summary::of(&ran, &["users"]);
    assert_eq!(summary.level, Some(Level::Answers));
    assert_eq!((summary.passed, summary.not_run), (whole.passed - 1, 1));
    assert!(summary.held < whole.held, "{summary:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let random = |case: &Planned| case.case.name == "random_operations_survive_a_failing_host";
    let case = all("users").into_iter().find(random).expect("a random case");
    let trace = |seed| {
        let shelf = Shelf::<User>::new(Flaw::HidesAFailure);
        match block_on(case.of_records::<User, _>(shelf, seed)).outcome {
            Outcome::Failed(failure) => failure.trace,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}
