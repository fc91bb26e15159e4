//! What every engine promises, once, run over each of them. A case is an async function over an
//! open, empty engine; [`Subject`] is the only place that knows how the interface is called.

mod bodies;
mod cluster;
mod commits;
mod model;
mod rows;
mod txn;

use std::sync::Arc;

use bytes::Bytes;
use postroom_core::types::{AccountId, Slot, TransactionId};

use super::postgres::tests::{empty_engine, engine_with_objects, engine_with_s3};
use super::redb::tests::TemporaryEngine;
use super::{
    Area, Body, Claimant, Commit, Committed, Engine, Fence, Idempotency, Key, MemoryEngine,
    ScanLimit, Space, StorageError, Txn, View, Write,
};

/// An engine, an account in it and the claim on the account's slot.
struct Subject {
    engine: Arc<dyn Engine>,
    account: AccountId,
    fence: Fence,
}

impl Subject {
    async fn new(engine: Arc<dyn Engine>) -> Self {
        Self::of_account(engine, AccountId([7; 16])).await
    }

    async fn of_account(engine: Arc<dyn Engine>, account: AccountId) -> Self {
        let slot = Slot::of(account);
        let fence = engine.claim(slot, claimant(1), None).await.expect("nobody has the slot yet");
        Self { engine, account, fence }
    }

    fn space(&self) -> Space {
        Space::Account(self.account)
    }

    /// A commit of these writes that nothing speaks against.
    fn commit_of(&self, writes: Vec<Write>) -> Commit {
        Commit {
            space: self.space(),
            fence: Some(self.fence),
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes,
            now: 1_000_000,
        }
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Committed, StorageError> {
        self.engine.commit(self.commit_of(writes)).await
    }

    async fn get(&self, at: Key) -> Result<Option<Bytes>, StorageError> {
        Ok(self.engine.get_many(self.space(), vec![at]).await?.remove(0))
    }

    async fn all(&self, area: Area) -> Vec<(Bytes, Bytes)> {
        let page = self.engine.scan(self.space(), area, Bytes::new(), Bytes::new(), LOTS).await;
        let page = page.expect("the engine works");
        assert!(!page.more);
        page.items
    }

    fn txn(&self) -> Txn {
        Txn::new(self.engine.clone(), self.space())
    }
}

/// A limit that the cases never reach.
const LOTS: ScanLimit = ScanLimit { items: 10_000, octets: 1 << 20 };

fn claimant(generation: u64) -> Claimant {
    Claimant { node: "node".to_owned(), generation, nonce: [generation as u8; 16] }
}

fn key(area: Area, octets: impl Into<Bytes>) -> Key {
    Key { area, octets: octets.into() }
}

fn message(octets: &'static str) -> Key {
    key(Area::Message, octets)
}

fn put(at: Key, value: impl Into<Bytes>) -> Write {
    Write::Put(at, value.into())
}

fn delete_range(start: &'static str, end: &'static str) -> Write {
    Write::DeleteRange { area: Area::Message, start: start.into(), end: end.into() }
}

fn done(id: u8, result: &'static str) -> Idempotency {
    Idempotency { transaction: TransactionId([id; 16]), result: result.into() }
}

/// Octets of a body: different for each seed.
fn octets(seed: u8, length: usize) -> Bytes {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<_>>().into()
}

/// Runs each case over each engine, with threads: what happens at the same time must be able to.
macro_rules! contract {
    ($($module:ident: $($case:ident),+ $(,)?;)+) => {
        mod memory_engine {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $module::$case(Arc::new(MemoryEngine::new())).await;
                }
            )+)+
        }

        mod redb_engine {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let engine = TemporaryEngine::new();
                    $module::$case(engine.engine.clone()).await;
                }
            )+)+
        }

        mod postgres_engine_with_objects {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (engine, _directory) = engine_with_objects().await;
                    $module::$case(engine).await;
                }
            )+)+
        }

        mod postgres_engine_with_s3 {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (engine, _server) = engine_with_s3().await;
                    $module::$case(engine).await;
                }
            )+)+
        }

        mod postgres_engine {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $module::$case(empty_engine().await).await;
                }
            )+)+
        }
    };
}

contract! {
    commits:
        a_commit_raises_the_head_of_its_space_only,
        a_commit_without_a_claim_is_fenced,
        a_commit_of_an_older_claim_is_fenced,
        a_fence_is_compared_by_equality,
        a_fence_of_another_slot_does_not_open_the_account,
        a_directory_commit_needs_no_fence,
        a_claim_is_a_compare_and_set,
        an_unexpected_head_refuses_with_the_one_found,
        preconditions_compare_values_and_absence,
        a_transaction_done_already_answers_its_result,
        a_transaction_twice_in_one_commit_is_refused,
        checks_go_transactions_then_fence_then_head_then_preconditions,
        a_refused_commit_changes_nothing,
        old_transactions_are_forgotten_in_small_steps,
        young_transactions_are_kept,
        concurrent_commits_fail_alone,
        concurrent_commits_of_one_head_let_one_through,
        the_same_transaction_sent_many_times_at_once_takes_effect_once,
        a_dropped_commit_is_whole_or_not_there,
        nothing_is_accepted_after_close,
        stats_count_commits_and_refusals;
    rows:
        values_come_back_under_their_keys,
        later_writes_to_a_key_win,
        a_range_delete_stops_at_its_bounds,
        an_empty_end_is_the_end_of_the_area,
        areas_and_spaces_do_not_see_each_other,
        a_scan_pages_by_items_and_octets,
        a_scan_of_an_inverted_range_is_empty,
        the_longest_key_and_an_empty_value_are_data,
        keys_and_values_over_the_limit_are_refused,
        a_commit_over_the_limit_is_refused,
        one_look_up_returns_no_more_than_its_limit,
        spaces_are_listed_in_order_and_in_pages,
        a_read_never_sees_half_a_commit;
    bodies:
        a_body_is_read_back_whole_and_in_ranges,
        an_empty_body_is_a_body,
        a_body_lives_until_its_last_link_goes,
        a_body_whose_last_link_went_is_not_linked_again,
        a_name_in_use_is_refused,
        a_name_is_free_again_within_the_commit_that_unlinks_it,
        unlinking_what_is_not_there_changes_nothing,
        a_body_linked_twice_in_one_commit_has_two_links,
        a_body_of_another_space_is_not_there,
        a_body_that_was_never_stored_is_refused,
        a_new_body_is_readable_before_it_is_linked,
        a_refused_commit_leaves_its_new_body_linkable,
        a_body_that_was_given_up_is_not_linked_any_more,
        giving_up_a_body_with_a_link_changes_nothing,
        a_commit_handed_over_before_its_body_is_given_up_links_it,
        names_over_the_limit_are_refused,
        a_body_over_the_limit_is_refused;
    cluster:
        a_released_claim_admits_no_commit,
        a_release_is_repeatable_and_compares_the_whole_fence,
        a_released_slot_is_claimed_like_any_other,
        claims_come_in_the_order_of_the_slots_asked_for,
        a_node_with_an_older_generation_is_refused,
        two_nodes_of_one_name_are_told_apart,
        beats_say_how_long_ago_they_were,
        an_overlong_name_of_a_node_is_refused,
        the_cluster_has_one_id;
    txn:
        a_view_of_a_transaction_shows_its_own_writes,
        a_view_without_a_transaction_shows_committed_state_only,
        a_transaction_takes_its_writes_in_order_and_is_empty_afterwards,
        a_transaction_over_its_limit_refuses_and_keeps_what_it_has,
        a_scan_over_a_deleted_range_goes_on_behind_it,
        a_scan_says_exactly_whether_more_follows,
        a_body_made_for_a_transaction_goes_with_it,
        pending_values_count_in_what_one_look_up_returns,
        a_pending_body_is_seen_by_its_name;
    model:
        random_commits_leave_what_a_plain_map_has,
        random_transactions_show_what_they_would_commit;
}
