//! The tables of cases: written once, for the runner, for native tests and for `--explain`.

/// The cases of stores of domains, users and mailboxes. Gives them to a macro, after what it is given
/// in braces: `record_cases!([my_macro] { my words })`.
#[macro_export]
macro_rules! record_cases {
    ([$($then:tt)*] $with:tt) => { $($then)*! { $with
        Answers records: reads_answer_whatever_is_there
            ["store.rule.13", "page.1", "check.3"]
            "Before anything is written, asks for a name that is not there, lists all, and checks.";
        Answers records: a_new_space_holds_nothing
            ["list.3", "store.rule.13"]
            "Prepares an empty space; nothing is listed, and a name that is not there is `none`.";
        Answers records: empty_lists_change_nothing
            ["store.rule.8"]
            "Inserts, updates, deletes and selects nothing, over two rows.";
        Keeps records: create_keeps_what_is_there
            ["create.1"]
            "Inserts three rows and prepares the space once more; they are still there.";
        Keeps records: insert_keeps_every_field
            ["store.rule.7", "store.rule.11", "types.property.1"]
            "Inserts rows with every field set or not, with properties whose names the store does \
             not know; `list` and `select` answer them unchanged.";
        Keeps records: insert_of_an_existing_name_adds_nothing
            ["insert.1"]
            "Inserts three rows of which one is there already: `already-exists`, and the \
             transaction shows none of the others.";
        Keeps records: update_replaces_every_field
            ["update.1"]
            "Updates two of six rows in every field; the others stay.";
        Keeps records: update_of_a_missing_name_changes_nothing
            ["update.2"]
            "Updates two rows of which one is missing: `not-found`, and the other is unchanged.";
        Keeps records: delete_passes_over_what_is_not_there
            ["delete.1"]
            "Deletes two rows and a name that was never there, twice; inserts one of them again.";
        Keeps records: select_answers_in_the_order_asked
            ["select.1", "select.2"]
            "Selects names out of order, one of them twice and one that is missing.";
        Keeps records: list_pages_in_order_whatever_the_limits
            ["list.1", "list.3", "page.1"]
            "Lists 25 rows, inserted in disorder, page by page with many limits, from each row on, \
             while the host's own scans answer 1, 3 or all items.";
        Keeps records: list_goes_on_after_a_name_that_is_gone
            ["list.2"]
            "Lists after names between, before and behind the rows.";
        Keeps records: drop_removes_all_and_may_be_repeated
            ["drop.1", "drop.2", "drop.3"]
            "Drops twenty rows, drops again, inserts others without preparing the space again.";
        Keeps records: a_transaction_sees_its_own_writes
            ["storage.view.2", "storage.txn.4"]
            "Deletes, inserts and updates in one transaction, whose reads show all of it in order, \
             while other reads show none of it before the commit.";
        Keeps records: huge_rows_come_back_whole
            ["store.rule.12"]
            "Inserts a row with the longest name and 200 KiB of properties.";
        Keeps limits: names_of_every_form_are_told_apart
            ["store.rule.11", "store.rule.12", "list.1"]
            "Inserts, changes, deletes and lists rows of one letter, of odd ones, of such as are a \
             prefix or another way to write of one beside it: each is one of its own, in the order \
             of octets (of ids: of numbers).";
        Keeps limits: calls_of_4096_rows_are_carried_out
            ["store.rule.10"]
            "Inserts, updates, selects and deletes 4,096 rows in one call each.";
        Keeps limits: rows_that_are_large_together_come_back
            ["store.rule.7", "select.1", "list.3"]
            "Inserts rows of 200 KiB until they come to 17 MiB, or the store says `limit`; selects \
             all of them in one call and lists them: more than the host answers at once.";
        Keeps limits: a_row_that_is_too_large_is_refused_or_kept_whole
            ["store.rule.7"]
            "Inserts a row of 4 MiB: `limit`, and nothing is there of it, or it comes back whole.";
        Keeps records: check_of_a_sound_store_finds_nothing
            ["check.2", "check.3"]
            "Checks thirty sound rows with and without repair: it ends, finds nothing, changes \
             nothing.";
        Keeps schemas: rows_are_brought_to_another_schema
            ["store.rule.14", "store.rule.15", "types.call.3"]
            "Of a store that is told in which schema it writes: writes rows in each of them, reads \
             them while another one is said, brings them to each of the others, where they are as \
             if they had been written in it; a row of rubbish is found and left. Of any other \
             store: inserts rows and reads them.";
        Keeps records: random_operations_agree_with_the_model
            ["store.rule.7", "storage.txn.4", "storage.view.2"]
            "Runs random operations of one to three calls, some of them forgotten, and compares all \
             rows with a model after each.";
        Survives records_survive: a_forgotten_transaction_leaves_nothing
            ["store.rule.1", "store.rule.5", "storage.txn.2", "storage.txn.3"]
            "Writes with every function and forgets the transaction: everything is as before, and \
             the same may be done again.";
        Survives records_survive: a_failing_host_is_reported_and_leaves_nothing
            ["storage.storage-error.1", "storage.txn.2"]
            "Lets each capability call of an operation fail in turn, from the first to the last: the \
             operation answers `unavailable`, everything is as before, and without the failure it \
             succeeds.";
        Survives records_survive: an_operation_that_is_given_up_leaves_nothing
            ["store.rule.5", "store.rule.6"]
            "Gives an operation up at each of its capability calls in turn, as when its time is \
             over: everything is as before, and the same instance answers the next calls.";
        Survives records_survive: a_lost_instance_leaves_nothing
            ["store.rule.1", "storage.txn.3"]
            "Loses the instance at each capability call of an operation in turn: a fresh one finds \
             everything as before, and the operation, done again, succeeds.";
        Survives records_survive: a_restart_loses_nothing
            ["store.rule.1"]
            "Drops all instances in the middle of an operation and after each commit.";
        Survives records_survive: two_instances_see_each_others_writes
            ["store.rule.1", "store.rule.2"]
            "Writes by one instance and reads by another, in turn: neither may answer from memory \
             what the other has changed.";
        Survives records_survive: calls_run_beside_each_other
            ["store.rule.3", "store.rule.6"]
            "Lets a call wait at each of its capability calls in turn, and runs another one to its \
             end meanwhile, in the same instance (where that takes several calls) and in one beside \
             it: reads, and an operation that is not committed. Each shows the rows before it. At \
             last an operation and sixteen reads at once.";
        Survives records_survive: handles_are_let_go
            ["store.rule.4"]
            "Runs rounds of calls that succeed or are refused: no handles of the host pile up.";
        Survives damage: damaged_records_are_found_and_repaired
            ["check.1", "check.2", "check.4"]
            "Damages stored keys and values at random, behind the store's back: reads say `damaged` \
             at most, a check without repair changes nothing, after a repair nothing is found any \
             more, all can be read, and rows that were not damaged are as before.";
        Survives records_survive: random_operations_survive_a_failing_host
            ["storage.storage-error.1", "storage.txn.2"]
            "As the random run before, with capability calls that fail, operations that are given \
             up and instances that are lost.";
    } };
}

/// The cases of stores of messages; used as [`record_cases!`].
#[macro_export]
macro_rules! message_cases {
    ([$($then:tt)*] $with:tt) => { $($then)*! { $with
        Answers messages: reads_answer_whatever_is_there
            ["store.rule.13", "list.4", "page.1", "fetch.4", "check.3"]
            "Before anything is written, asks for a place, a name and a mailbox that are not there, \
             and checks.";
        Answers messages: a_new_account_holds_nothing
            ["list.4", "fetch.4", "store.rule.13"]
            "Prepares an empty account; nothing is listed, selected or fetched.";
        Answers messages: empty_lists_change_nothing
            ["store.rule.8"]
            "Inserts, updates, deletes and selects nothing, over one message.";
        Keeps messages: create_keeps_what_is_there
            ["create.1"]
            "Inserts a message and prepares the account once more.";
        Keeps messages: insert_keeps_every_field_and_octet
            ["insert.1", "insert.2", "insert.4", "fetch.5", "store.rule.7", "types.property.1"]
            "Inserts messages with flags, addresses, properties and the largest UIDs into a mailbox \
             that was not announced; the transaction and, after the commit, all reads show them.";
        Keeps messages: update_changes_flags_and_leaves_the_rest
            ["update.1", "update.2", "types.message.3"]
            "Changes flags, mod-sequence and properties of some messages, of one twice; everything \
             else of them, and all others, stay.";
        Keeps messages: delete_passes_over_what_is_not_there
            ["delete.1"]
            "Deletes two messages, a UID and a mailbox that are not there, twice.";
        Keeps messages: select_answers_in_the_order_asked
            ["select.1", "select.2"]
            "Selects places of two mailboxes out of order, one twice, one missing.";
        Keeps messages: list_pages_in_order_of_uid_whatever_the_limits
            ["list.1", "list.3", "page.1"]
            "Lists messages whose UIDs betray keys that are not ordered as numbers, with many \
             limits, from each message on, while the host's own scans answer 1, 3 or all items.";
        Keeps messages: list_goes_on_after_a_uid_that_is_gone
            ["list.2"]
            "Lists after UIDs between, before and behind the messages.";
        Keeps messages: mailboxes_are_apart
            ["list.1"]
            "Fills mailboxes whose ids are neighbours, first and last; each lists its own.";
        Keeps messages: drop_removes_one_mailbox_and_may_be_repeated
            ["drop.1", "drop.2", "drop.3"]
            "Drops one mailbox, the last one, one that never was; others and all octets stay.";
        Keeps messages: fetch_gives_the_range_asked_for
            ["fetch.1", "fetch.3", "part.1"]
            "Fetches ranges at, before and behind the ends of a message.";
        Keeps messages: a_deleted_message_is_readable_until_settled
            ["delete.2", "fetch.2", "outside.2", "settle.1"]
            "Deletes a message, fetches it still, settles, and finds it gone.";
        Keeps messages: settle_may_be_repeated_and_passes_over_unknown_names
            ["settle.1", "settle.2", "settle.3"]
            "Settles twice, late, with names that were never there and with none.";
        Keeps messages: a_body_may_be_inserted_twice
            ["insert.1"]
            "Inserts the octets of one message as another one's and removes the first.";
        Keeps messages: a_transaction_sees_its_own_writes
            ["insert.2", "storage.view.2"]
            "Inserts, updates and deletes in one transaction, whose reads show all of it.";
        Keeps messages: huge_messages_come_back_whole
            ["fetch.1", "fetch.5", "store.rule.7"]
            "Inserts a message of 3 MiB with 5,000 addresses.";
        Keeps limits: ten_thousand_flags_change_in_one_operation
            ["store.rule.10"]
            "Inserts 10,000 messages and flags them all, in calls of 4,096 under one transaction; \
             selects and deletes 4,096 in one call.";
        Keeps limits: messages_that_are_large_together_come_back
            ["store.rule.7", "select.1", "list.3"]
            "Inserts rows of 200 KiB until they come to 17 MiB, or the store says `limit`; selects \
             all of them in one call and lists them: more than the host answers at once.";
        Keeps limits: a_message_that_is_too_large_is_refused_or_kept_whole
            ["store.rule.7"]
            "Inserts a row of 4 MiB: `limit`, and nothing is there of it, or it comes back whole.";
        Keeps limits: names_of_every_form_have_their_own_octets
            ["store.rule.11", "fetch.4", "settle.1"]
            "Inserts messages whose names have one letter, odd ones, or differ in case only; each has \
             its own octets, also after one of them is settled.";
        Keeps messages: check_of_a_sound_store_finds_nothing
            ["check.2", "check.3"]
            "Checks sound messages with and without repair, one of them deleted and not settled.";
        Keeps schemas: messages_are_brought_to_another_schema
            ["store.rule.14", "store.rule.15", "types.call.3"]
            "As rows of the other kinds, with their bodies.";
        Keeps messages: random_operations_agree_with_the_model
            ["store.rule.7", "storage.txn.4", "storage.view.2"]
            "Runs random operations of one to three calls, some of them forgotten, and compares all \
             rows with a model after each.";
        Survives messages_survive: a_forgotten_transaction_leaves_nothing
            ["store.rule.1", "store.rule.5", "storage.txn.2", "outside.1", "outside.2"]
            "Writes with every function and forgets the transaction, twice, then commits the same; \
             octets of what was to be deleted or dropped stay.";
        Survives messages_survive: a_failing_host_is_reported_and_leaves_nothing
            ["storage.storage-error.1", "storage.txn.2"]
            "Lets each capability call of an operation fail in turn: the operation answers \
             `unavailable`, everything is as before, and without the failure it succeeds.";
        Survives messages_survive: an_operation_that_is_given_up_leaves_nothing
            ["store.rule.5", "store.rule.6", "outside.1"]
            "Gives an operation up at each of its capability calls in turn: everything is as \
             before, and the same instance answers the next calls.";
        Survives messages_survive: a_lost_instance_leaves_nothing
            ["store.rule.1", "storage.txn.3", "outside.1", "outside.4"]
            "Loses the instance at each capability call of an operation in turn: a fresh one finds \
             everything as before, and the operation, done again, succeeds.";
        Survives messages_survive: a_restart_loses_nothing
            ["store.rule.1"]
            "Drops all instances in the middle of an operation and after each commit.";
        Survives messages_survive: two_instances_see_each_others_writes
            ["store.rule.1", "store.rule.2"]
            "Writes by one instance and reads by another, in turn.";
        Survives messages_survive: calls_run_beside_each_other
            ["store.rule.3", "store.rule.6"]
            "Lets a call wait at each of its capability calls in turn, and runs another one to its \
             end meanwhile, in the same instance (where that takes several calls) and in one beside \
             it: reads, and an operation that is not committed. Each shows the messages before it. At \
             last an operation and sixteen reads at once.";
        Survives messages_survive: handles_are_let_go
            ["store.rule.4"]
            "Runs rounds of all calls: no handles of the host pile up.";
        Survives messages_survive: bodies_are_linked_under_the_names_of_their_rows
            ["storage.put-body.2"]
            "Inserts two messages and looks at the links of their transaction.";
        Survives messages_survive: an_attempt_that_came_to_nothing_is_shown_by_no_read
            ["outside.1", "outside.4", "settle.3"]
            "Inserts and forgets, twice; neither reads nor settling, nor a fresh instance bring \
             anything of it to light, and the same may be inserted again.";
        Survives messages_survive: a_settle_that_is_interrupted_may_be_repeated
            ["settle.2"]
            "Settles what was inserted, changed and deleted, loses the instance at each capability \
             call of that in turn, and settles again.";
        Survives damage: damaged_messages_are_found_and_repaired
            ["check.1", "check.2", "check.4"]
            "Damages stored keys and values at random, or takes a body away, which a check has to \
             find: reads say `damaged` at most, a check without repair changes nothing, after a \
             repair nothing is found any more, all can be read, and messages that were not damaged \
             are as before.";
        Survives messages_survive: random_operations_survive_a_failing_host
            ["storage.storage-error.1", "storage.txn.2"]
            "As the random run before, with capability calls that fail, operations that are given \
             up and instances that are lost.";
    } };
}

/// The cases as a constant and a function that starts one by its name.
macro_rules! table {
    ({ $cases:ident, $run:ident, [$($generic:tt)*], $subject:ty }
        $($level:ident $file:ident: $name:ident [$($id:literal),* $(,)?] $does:literal;)*) => {
        /// The cases, in the order in which they are run.
        pub const $cases: &[$crate::cases::Case] = &[$($crate::cases::Case {
            name: stringify!($name),
            level: $crate::cases::Level::$level,
            covers: &[$($id),*],
            does: $does,
        }),*];

        /// Starts the case of this name; `None` when there is none.
        pub fn $run<'a, $($generic)*>(
            name: &str,
            subject: &'a $subject,
        ) -> Option<$crate::cases::Running<'a>> {
            match name {
                $(stringify!($name) => Some(Box::pin($crate::cases::$file::$name(subject))),)*
                _ => None,
            }
        }
    };
}

/// Makes a test of each case: `record_contract!(users, User, block_on, subject())`, with a module's
/// name, the record, a function that runs a future to its end and what makes a new subject.
#[macro_export]
macro_rules! record_contract {
    ($module:ident, $row:ty, $run:path, $subject:expr) => {
        mod $module {
            use super::*;
            $crate::record_cases!([$crate::record_tests] { $row, $run, $subject });
        }
    };
}

/// The tests of [`record_contract!`].
#[doc(hidden)]
#[macro_export]
macro_rules! record_tests {
    ({ $row:ty, $run:path, $subject:expr }
        $($level:ident $file:ident: $name:ident [$($id:literal),* $(,)?] $does:literal;)*) => {$(
        #[test]
        fn $name() {
            let verdict = $run($crate::cases::$file::$name::<$row, _>(&$subject));
            assert!(verdict.is_ok(), "{verdict:?}");
        }
    )*};
}

/// Makes a test of each case: `message_contract!(messages, block_on, subject())`, with a module's
/// name, a function that runs a future to its end and what makes a new subject.
#[macro_export]
macro_rules! message_contract {
    ($module:ident, $run:path, $subject:expr) => {
        mod $module {
            use super::*;
            $crate::message_cases!([$crate::message_tests] { $run, $subject });
        }
    };
}

/// The tests of [`message_contract!`].
#[doc(hidden)]
#[macro_export]
macro_rules! message_tests {
    ({ $run:path, $subject:expr }
        $($level:ident $file:ident: $name:ident [$($id:literal),* $(,)?] $does:literal;)*) => {$(
        #[test]
        fn $name() {
            let verdict = $run($crate::cases::$file::$name(&$subject));
            assert!(verdict.is_ok(), "{verdict:?}");
        }
    )*};
}
