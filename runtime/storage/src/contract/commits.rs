//! Checks of commits and claims.

use postroom_core::types::Epoch;

use super::*;
use crate::IDEMPOTENCY_SECONDS;

pub async fn a_commit_raises_the_head_of_its_space_only(engine: Arc<dyn Engine>) {
    let one = Subject::new(engine.clone()).await;
    let other = Subject::of_account(engine, AccountId([8; 16])).await;
    assert_eq!(one.engine.head(one.space()).await, Ok(0));
    assert_eq!(one.write(vec![]).await, Ok(Committed { head: 1 }));
    assert_eq!(one.write(vec![put(message("k"), "v")]).await, Ok(Committed { head: 2 }));
    assert_eq!(one.engine.head(one.space()).await, Ok(2));
    assert_eq!(one.engine.head(other.space()).await, Ok(0));
}

pub async fn a_commit_without_a_claim_is_fenced(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let unfenced = Commit { fence: None, ..subject.commit_of(vec![]) };
    assert_eq!(subject.engine.commit(unfenced).await, Err(StorageError::Fenced));
    let nobody = AccountId([9; 16]);
    let fence = Fence { slot: Slot::of(nobody), ..subject.fence };
    let unclaimed =
        Commit { space: Space::Account(nobody), fence: Some(fence), ..subject.commit_of(vec![]) };
    assert_eq!(subject.engine.commit(unclaimed).await, Err(StorageError::Fenced));
}

pub async fn a_commit_of_an_older_claim_is_fenced(engine: Arc<dyn Engine>) {
    let old = Subject::new(engine.clone()).await;
    let fence = engine.claim(old.fence.slot, claimant(2), Some(old.fence.epoch)).await.unwrap();
    assert_eq!(old.write(vec![]).await, Err(StorageError::Fenced));
    let new = Subject { fence, ..old };
    assert!(new.write(vec![]).await.is_ok());
}

pub async fn a_fence_is_compared_by_equality(engine: Arc<dyn Engine>) {
    let mut subject = Subject::new(engine).await;
    let right = subject.fence;
    for wrong in [
        Fence { epoch: Epoch(right.epoch.0 + 1), ..right },
        Fence { epoch: Epoch(0), ..right },
        Fence { nonce: [9; 16], ..right },
    ] {
        subject.fence = wrong;
        assert_eq!(subject.write(vec![]).await, Err(StorageError::Fenced), "{wrong:?}");
    }
}

pub async fn a_fence_of_another_slot_does_not_open_the_account(engine: Arc<dyn Engine>) {
    let one = Subject::new(engine.clone()).await;
    let other = Subject::of_account(engine, AccountId([8; 16])).await;
    assert_ne!(one.fence.slot, other.fence.slot);
    let wrong = Subject { fence: other.fence, ..one };
    assert_eq!(wrong.write(vec![]).await, Err(StorageError::Fenced));
}

pub async fn a_directory_commit_needs_no_fence(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let commit = Commit { space: Space::Directory, fence: None, ..subject.commit_of(vec![]) };
    assert_eq!(subject.engine.commit(commit).await, Ok(Committed { head: 1 }));
}

pub async fn a_claim_is_a_compare_and_set(engine: Arc<dyn Engine>) {
    let slot = Slot(4095);
    assert_eq!(engine.claimed(slot).await, Ok(None));
    let refused = engine.claim(slot, claimant(1), Some(Epoch(1))).await;
    assert_eq!(refused, Err(StorageError::Conflict));
    let first = engine.claim(slot, claimant(1), None).await.unwrap();
    assert_eq!(first, Fence { slot, epoch: Epoch(1), nonce: [1; 16] });
    assert_eq!(engine.claim(slot, claimant(2), None).await, Err(StorageError::Conflict));
    let second = engine.claim(slot, claimant(2), Some(first.epoch)).await.unwrap();
    assert_eq!(second, Fence { slot, epoch: Epoch(2), nonce: [2; 16] });
    let late = engine.claim(slot, claimant(3), Some(first.epoch)).await;
    assert_eq!(late, Err(StorageError::Conflict));
    assert_eq!(engine.claimed(slot).await, Ok(Some((Epoch(2), claimant(2)))));
}

pub async fn an_unexpected_head_refuses_with_the_one_found(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    for head in 0..3 {
        let commit = Commit { expected_head: Some(head), ..subject.commit_of(vec![]) };
        assert_eq!(subject.engine.commit(commit).await, Ok(Committed { head: head + 1 }));
    }
    for wrong in [0, 2, 4] {
        let commit = Commit { expected_head: Some(wrong), ..subject.commit_of(vec![]) };
        let refused = subject.engine.commit(commit).await;
        assert_eq!(refused, Err(StorageError::HeadMoved { found: 3 }));
    }
}

pub async fn preconditions_compare_values_and_absence(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    subject.write(vec![put(message("there"), "v"), put(message("empty"), "")]).await.unwrap();
    for (key, value, holds) in [
        ("there", Some("v"), true),
        ("there", Some("w"), false),
        ("there", None, false),
        ("empty", Some(""), true),
        ("empty", None, false),
        ("absent", None, true),
        ("absent", Some(""), false),
    ] {
        let preconditions = vec![(message(key), value.map(Bytes::from))];
        let commit = Commit { preconditions, ..subject.commit_of(vec![]) };
        assert_eq!(subject.engine.commit(commit).await.is_ok(), holds, "{key} {value:?}");
    }
}

pub async fn a_transaction_done_already_answers_its_result(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let space = subject.space();
    let transactions = vec![done(1, "one"), done(2, "two")];
    let commit = Commit { transactions, ..subject.commit_of(vec![put(message("k"), "first")]) };
    assert!(engine.commit(commit).await.is_ok());
    assert_eq!(engine.transaction(space, TransactionId([1; 16])).await, Ok(Some("one".into())));
    assert_eq!(engine.transaction(space, TransactionId([3; 16])).await, Ok(None));
    let transactions = vec![done(3, "three"), done(2, "another result")];
    let again = Commit { transactions, ..subject.commit_of(vec![put(message("k"), "again")]) };
    assert_eq!(engine.commit(again).await, Err(StorageError::AlreadyDone(done(2, "two"))));
    assert_eq!(engine.transaction(space, TransactionId([3; 16])).await, Ok(None));
    assert_eq!(subject.get(message("k")).await, Ok(Some("first".into())));
}

pub async fn a_transaction_twice_in_one_commit_is_refused(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let transactions = vec![done(1, "one"), done(1, "one")];
    let commit = Commit { transactions, ..subject.commit_of(vec![]) };
    assert!(matches!(subject.engine.commit(commit).await, Err(StorageError::Limit(_))));
}

pub async fn checks_go_transactions_then_fence_then_head_then_preconditions(
    engine: Arc<dyn Engine>,
) {
    let subject = Subject::new(engine.clone()).await;
    let transactions = vec![done(1, "one")];
    let first = Commit { transactions, ..subject.commit_of(vec![]) };
    assert!(engine.commit(first.clone()).await.is_ok());
    let mut bad = Commit {
        fence: None,
        expected_head: Some(77),
        preconditions: vec![(message("absent"), Some("v".into()))],
        ..first
    };
    let answer = engine.commit(bad.clone()).await;
    assert_eq!(answer, Err(StorageError::AlreadyDone(done(1, "one"))));
    bad.transactions.clear();
    assert_eq!(engine.commit(bad.clone()).await, Err(StorageError::Fenced));
    bad.fence = Some(subject.fence);
    assert_eq!(engine.commit(bad.clone()).await, Err(StorageError::HeadMoved { found: 1 }));
    bad.expected_head = Some(1);
    assert_eq!(engine.commit(bad.clone()).await, Err(StorageError::Conflict));
    bad.preconditions.clear();
    assert_eq!(engine.commit(bad).await, Ok(Committed { head: 2 }));
}

pub async fn a_refused_commit_changes_nothing(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    subject.write(vec![put(message("k"), "before")]).await.unwrap();
    let writes = vec![
        put(message("k"), "after"),
        put(message("new"), "after"),
        Write::UnlinkBody { name: "absent".to_owned() },
    ];
    let refused = Commit {
        expected_head: Some(0),
        transactions: vec![done(5, "five")],
        ..subject.commit_of(writes)
    };
    assert!(engine.commit(refused).await.is_err());
    assert_eq!(subject.all(Area::Message).await, [("k".into(), "before".into())]);
    let transaction = engine.transaction(subject.space(), TransactionId([5; 16])).await;
    assert_eq!(transaction, Ok(None));
    assert_eq!(engine.head(subject.space()).await, Ok(1));
}

/// How many of the transactions 0 to `count` are remembered.
async fn remembered(subject: &Subject, count: u8) -> usize {
    let mut found = 0;
    for id in 0..count {
        let id = TransactionId([id; 16]);
        let result = subject.engine.transaction(subject.space(), id).await.unwrap();
        found += usize::from(result.is_some());
    }
    found
}

async fn commit_at(subject: &Subject, id: u8, now: i64) {
    let transactions = vec![done(id, "result")];
    let commit = Commit { transactions, now, ..subject.commit_of(vec![]) };
    subject.engine.commit(commit).await.unwrap();
}

pub async fn old_transactions_are_forgotten_in_small_steps(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    for id in 0..100 {
        commit_at(&subject, id, 0).await;
    }
    commit_at(&subject, 100, IDEMPOTENCY_SECONDS + 1).await;
    let left = remembered(&subject, 100).await;
    assert!((90..100).contains(&left), "one commit forgets a few: {left} left");
    for id in 101..160 {
        commit_at(&subject, id, IDEMPOTENCY_SECONDS + 1).await;
    }
    assert_eq!(remembered(&subject, 100).await, 0);
    assert_eq!(remembered(&subject, 160).await, 60);
}

pub async fn young_transactions_are_kept(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    for id in 0..50 {
        commit_at(&subject, id, 0).await;
    }
    for id in 50..100 {
        commit_at(&subject, id, IDEMPOTENCY_SECONDS).await;
    }
    assert_eq!(remembered(&subject, 100).await, 100);
}

pub async fn concurrent_commits_fail_alone(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let commits = (0..40u64).map(|n| {
        let at = key(Area::Message, n.to_be_bytes().to_vec());
        let mut commit = subject.commit_of(vec![put(at, "v")]);
        if n % 4 == 0 {
            commit.preconditions = vec![(message("absent"), Some("v".into()))];
        }
        engine.commit(commit)
    });
    let outcomes = futures::future::join_all(commits).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match n % 4 {
            0 => assert_eq!(*outcome, Err(StorageError::Conflict)),
            _ => assert!(outcome.is_ok(), "{outcome:?}"),
        }
    }
    assert_eq!(subject.all(Area::Message).await.len(), 30);
    assert_eq!(engine.head(subject.space()).await, Ok(30));
}

pub async fn concurrent_commits_of_one_head_let_one_through(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let commits = (0..20)
        .map(|_| engine.commit(Commit { expected_head: Some(0), ..subject.commit_of(vec![]) }));
    let outcomes = futures::future::join_all(commits).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.iter().filter(|o| **o == Err(StorageError::HeadMoved { found: 1 }));
    assert_eq!(refused.count(), 19);
}

pub async fn the_same_transaction_sent_many_times_at_once_takes_effect_once(
    engine: Arc<dyn Engine>,
) {
    let subject = Subject::new(engine.clone()).await;
    let commits = (0..20).map(|_| {
        engine.commit(Commit { transactions: vec![done(1, "one")], ..subject.commit_of(vec![]) })
    });
    let outcomes = futures::future::join_all(commits).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let again = Err(StorageError::AlreadyDone(done(1, "one")));
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == again).count(), 19);
    assert_eq!(engine.head(subject.space()).await, Ok(1));
}

pub async fn a_dropped_commit_is_whole_or_not_there(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    for n in 0..50u64 {
        let at = |of| key(of, n.to_be_bytes().to_vec());
        let commit = subject.commit_of(vec![put(at(Area::Message), "v"), put(at(Area::User), "v")]);
        let mut future = engine.commit(commit);
        // Polled once: handed over or not, then given up.
        let _ = futures::poll!(&mut future);
        drop(future);
    }
    // Whoever does not wait for an outcome does not know it: the head says that nothing is under way.
    engine.head(subject.space()).await.unwrap();
    let last = subject.write(vec![]).await.unwrap();
    let (messages, users) = (subject.all(Area::Message).await, subject.all(Area::User).await);
    assert_eq!(messages, users);
    // To find that out may have cost a commit of nothing.
    assert!(last.head > messages.len() as u64);
}

pub async fn nothing_is_accepted_after_close(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    assert_eq!(engine.close().await, Ok(()));
    assert!(matches!(subject.write(vec![]).await, Err(StorageError::Unavailable(_))));
    assert!(matches!(subject.get(message("k")).await, Err(StorageError::Unavailable(_))));
    let body = engine.new_body(subject.space(), octets(1, 100_000)).await;
    assert!(matches!(body, Err(StorageError::Unavailable(_))));
    assert!(matches!(engine.beat(claimant(1)).await, Err(StorageError::Unavailable(_))));
    assert!(matches!(engine.beats().await, Err(StorageError::Unavailable(_))));
    let released = engine.release(subject.fence).await;
    assert!(matches!(released, Err(StorageError::Unavailable(_))));
    assert_eq!(engine.close().await, Ok(()));
}

pub async fn stats_count_commits_and_refusals(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let before = engine.stats();
    subject.write(vec![put(message("k"), "v")]).await.unwrap();
    let refused = Commit { expected_head: Some(77), ..subject.commit_of(vec![]) };
    assert!(engine.commit(refused).await.is_err());
    let after = engine.stats();
    assert_eq!(after.commits - before.commits, 1);
    assert_eq!(after.groups - before.groups, 1);
    assert_eq!(after.refused - before.refused, 1);
    assert!(after.written_octets > before.written_octets);
}
