//! What is found out about a group whose commit failed in the middle.

use postroom_core::types::AccountId;
use tokio::sync::oneshot;

use super::*;
use crate::commit::SegmentWork;
use crate::redb::group::{Done, Job, took_effect};

fn job(work: Work) -> Job {
    Job { work, octets: 0, reply: oneshot::channel().0 }
}

fn housekeeping() -> (Job, Result<Done, StorageError>) {
    (job(Work::Segments(SegmentWork::Forget(vec![7]))), Ok(Done::default()))
}

fn commit(space: Space, head: u64) -> (Job, Result<Done, StorageError>) {
    let commit = Commit {
        space,
        fence: None,
        expected_head: None,
        preconditions: Vec::new(),
        transactions: Vec::new(),
        writes: Vec::new(),
        now: 0,
    };
    let done = Done { committed: Some(Committed { head }), ..Done::default() };
    (job(Work::Commit(commit)), Ok(done))
}

fn claim(epoch: Option<Epoch>) -> (Job, Result<Done, StorageError>) {
    let slot = Slot::of(AccountId([1; 16]));
    let claimant = Claimant { node: "node".to_owned(), generation: 1, nonce: [3; 16] };
    let fence = epoch.map(|epoch| Fence { slot, epoch, nonce: [3; 16] });
    let member = fence.map(|fence| Done { fence: Some(fence), ..Done::default() });
    let work = Work::Claim { slot, claimant, previous: None };
    (job(work), member.ok_or(StorageError::Conflict))
}

/// An engine in which the directory's head is 1 and the slot of account 1 has epoch 1.
async fn check(group: Vec<(Job, Result<Done, StorageError>)>, expected: bool) {
    let temporary = TemporaryEngine::new();
    let engine = &temporary.engine;
    let (Job { work: Work::Commit(first), .. }, _) = commit(Space::Directory, 1) else {
        unreachable!("it makes a commit")
    };
    engine.commit(first).await.unwrap();
    let claimant = Claimant { node: "node".to_owned(), generation: 1, nonce: [3; 16] };
    engine.claim(Slot::of(AccountId([1; 16])), claimant, None).await.unwrap();
    let (jobs, members): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    let found = engine.shared.read(|rows| took_effect(rows, &jobs, &members));
    assert_eq!(found, Ok(expected));
}

#[tokio::test]
async fn a_commit_is_looked_for_wherever_it_stands_in_its_group() {
    check(vec![commit(Space::Directory, 1)], true).await;
    check(vec![commit(Space::Directory, 2)], false).await;
    check(vec![housekeeping(), commit(Space::Directory, 1)], true).await;
    check(vec![housekeeping(), commit(Space::Directory, 2)], false).await;
    check(vec![claim(None), housekeeping(), commit(Space::Directory, 1)], true).await;
}

#[tokio::test]
async fn a_claim_is_looked_for_wherever_it_stands_in_its_group() {
    check(vec![housekeeping(), claim(Some(Epoch(1)))], true).await;
    check(vec![housekeeping(), claim(Some(Epoch(2)))], false).await;
}

#[tokio::test]
async fn a_group_without_a_commit_that_would_have_succeeded_counts_as_not_there() {
    check(vec![housekeeping()], false).await;
    check(vec![claim(None)], false).await;
}
