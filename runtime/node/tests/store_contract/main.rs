//! One contract over all guest stores on all embedded engines: what `wit/store.wit` promises, asked
//! of real component instances. `suite!` makes each case a test of its own for each pair.

mod components;
mod fixture;
mod messages;
mod records;

use fixture::{Fixture, OnEngine, Store};

/// Each case for each store on each engine.
macro_rules! suite {
    ($($store:ident on $engine:ident as $name:ident;)*) => {$(
        mod $name {
            use super::*;

            suite!(@cases Store::$store, OnEngine::$engine, records:
                domains_are_found_again users_are_found_again mailboxes_are_found_again
                insert_of_an_existing_record_adds_none update_of_a_missing_record_changes_none
                delete_passes_over_what_is_missing select_keeps_order_and_repeats
                empty_lists_change_nothing list_pages_ascend_and_end
                list_goes_on_after_a_name_that_is_gone drop_leaves_the_space_as_after_create
                unknown_properties_come_back a_transaction_sees_its_own_writes
                a_forgotten_transaction_leaves_nothing random_records_match_a_map
                check_finds_nothing_in_sound_records);
            suite!(@cases Store::$store, OnEngine::$engine, messages:
                messages_are_found_again_with_every_field bodies_come_back_octet_by_octet
                a_range_of_a_body_is_that_range
                update_puts_the_state_after deleted_messages_stay_readable_until_settled
                list_stays_in_its_mailbox_and_ascends drop_removes_one_mailbox_only
                four_thousand_rows_in_one_call accounts_do_not_see_each_other
                random_messages_match_a_map check_looks_at_every_message);
        }
    )*};
    (@cases $store:expr, $engine:expr, $module:ident: $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $module::$case(&Fixture::new($store, $engine).await).await;
        }
    )*};
}

suite! {
    Keyed on Memory as keyed_on_memory;
    Keyed on Redb as keyed_on_redb;
    Memory on Memory as memory_on_memory;
    Memory on Redb as memory_on_redb;
}
