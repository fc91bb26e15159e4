//! Claims that are given up, and heartbeats.

use std::time::Duration;

use postroom_core::types::Epoch;

use super::*;
use crate::{MAX_CLAIMS, MAX_NODE_OCTETS};

pub async fn a_released_claim_admits_no_commit(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    subject.write(vec![put(message("k"), "v")]).await.unwrap();
    engine.release(subject.fence).await.unwrap();
    assert_eq!(subject.write(vec![]).await, Err(StorageError::Fenced));
    assert_eq!(subject.get(message("k")).await, Ok(Some("v".into())));
}

pub async fn a_release_is_repeatable_and_compares_the_whole_fence(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let right = subject.fence;
    for wrong in [
        Fence { epoch: Epoch(right.epoch.0 + 1), ..right },
        Fence { nonce: [9; 16], ..right },
        Fence { slot: Slot(right.slot.0 ^ 1), ..right },
    ] {
        assert_eq!(engine.release(wrong).await, Err(StorageError::Fenced), "{wrong:?}");
    }
    assert!(subject.write(vec![]).await.is_ok());
    assert_eq!(engine.release(right).await, Ok(()));
    assert_eq!(engine.release(right).await, Ok(()));
    let claim = engine.claims(vec![right.slot]).await.unwrap().remove(0).unwrap();
    assert_eq!((claim.released, claim.epoch, claim.claimant), (true, right.epoch, claimant(1)));
}

pub async fn a_released_slot_is_claimed_like_any_other(engine: Arc<dyn Engine>) {
    let old = Subject::new(engine.clone()).await;
    engine.release(old.fence).await.unwrap();
    let slot = old.fence.slot;
    assert_eq!(engine.claim(slot, claimant(2), None).await, Err(StorageError::Conflict));
    let fence = engine.claim(slot, claimant(2), Some(old.fence.epoch)).await.unwrap();
    assert_eq!(fence.epoch, Epoch(old.fence.epoch.0 + 1));
    assert_eq!(engine.release(old.fence).await, Err(StorageError::Fenced));
    assert_eq!(old.write(vec![]).await, Err(StorageError::Fenced));
    let new = Subject { fence, ..old };
    assert!(new.write(vec![]).await.is_ok());
}

pub async fn claims_come_in_the_order_of_the_slots_asked_for(engine: Arc<dyn Engine>) {
    for (slot, generation) in [(7, 1), (9, 2)] {
        engine.claim(Slot(slot), claimant(generation), None).await.unwrap();
    }
    let slots = vec![Slot(9), Slot(8), Slot(7), Slot(9)];
    let claims = engine.claims(slots).await.unwrap();
    let generation = |claim: &Option<crate::Claim>| claim.as_ref().map(|c| c.claimant.generation);
    let found: Vec<_> = claims.iter().map(generation).collect();
    assert_eq!(found, [Some(2), None, Some(1), Some(2)]);
    assert!(claims.iter().flatten().all(|claim| !claim.released && claim.epoch == Epoch(1)));
    assert_eq!(engine.claims(vec![]).await, Ok(vec![]));
    let too_many = engine.claims(vec![Slot(1); MAX_CLAIMS + 1]).await;
    assert!(matches!(too_many, Err(StorageError::Limit(_))));
}

pub async fn a_node_with_an_older_generation_is_refused(engine: Arc<dyn Engine>) {
    for generation in [3, 3, 4, 9] {
        assert_eq!(engine.beat(claimant(generation)).await, Ok(()));
    }
    assert_eq!(engine.beat(claimant(8)).await, Err(StorageError::Conflict));
    assert_eq!(engine.beat(claimant(9)).await, Ok(()));
    let beats = engine.beats().await.unwrap();
    assert_eq!(beats.len(), 1);
    assert_eq!((&beats[0].node[..], beats[0].generation), ("node", 9));
}

pub async fn two_nodes_of_one_name_are_told_apart(engine: Arc<dyn Engine>) {
    let one = claimant(5);
    let other = Claimant { nonce: [77; 16], ..one.clone() };
    assert_eq!(engine.beat(one.clone()).await, Ok(()));
    assert_eq!(engine.beat(other.clone()).await, Err(StorageError::Conflict));
    assert_eq!(engine.beat(one).await, Ok(()));
    let elsewhere = Claimant { node: "another".to_owned(), ..other };
    assert_eq!(engine.beat(elsewhere).await, Ok(()));
    let beats = engine.beats().await.unwrap();
    assert_eq!(beats.iter().map(|beat| &beat.node[..]).collect::<Vec<_>>(), ["another", "node"]);
}

pub async fn beats_say_how_long_ago_they_were(engine: Arc<dyn Engine>) {
    assert_eq!(engine.beats().await, Ok(vec![]));
    engine.beat(claimant(1)).await.unwrap();
    let age = async || engine.beats().await.unwrap()[0].age;
    let first = age().await;
    assert!(first < Duration::from_secs(60), "{first:?}");
    // A clock that stands still would never get there.
    let mut last = first;
    for _ in 0..100_000 {
        last = age().await;
        if last > first {
            break;
        }
    }
    assert!(last > first, "{last:?}");
}

pub async fn an_overlong_name_of_a_node_is_refused(engine: Arc<dyn Engine>) {
    for node in [String::new(), "x".repeat(MAX_NODE_OCTETS + 1)] {
        let claimant = Claimant { node, ..claimant(1) };
        let beat = engine.beat(claimant.clone()).await;
        assert!(matches!(beat, Err(StorageError::Limit(_))), "{beat:?}");
        let claim = engine.claim(Slot(1), claimant, None).await;
        assert!(matches!(claim, Err(StorageError::Limit(_))), "{claim:?}");
    }
    let longest = Claimant { node: "x".repeat(MAX_NODE_OCTETS), ..claimant(1) };
    assert_eq!(engine.beat(longest.clone()).await, Ok(()));
    assert!(engine.claim(Slot(1), longest, None).await.is_ok());
}

pub async fn the_cluster_has_one_id(engine: Arc<dyn Engine>) {
    let id = engine.cluster_id();
    assert_ne!(id, [0; 16]);
    assert_eq!(engine.cluster_id(), id);
}
