//! Whose fault is it: what a version on probation is held to account for, and what is left behind.

use futures::future::join_all;
use metrics_exporter_prometheus::PrometheusBuilder;
use postroom_core::deploy::evidence::VerbEvidence;
use postroom_core::deploy::fault;

use super::gate::Gate;
use super::losses::{PATIENCE, is_broken};
use super::swap::{Account, Versions, memory, switch, tagged};
use super::*;

/// Whose calls both versions fail at.
const BAD: u128 = 777;
/// Switches after which nothing may have gathered.
const MANY: u32 = 1_000;

/// Two versions of the store that sins, of which the second is on probation.
async fn both_sin(verb: &str) -> (Versions, SwappableStore) {
    let account = AccountId::from_u128(BAD).to_string();
    let versions = Versions::new(&[("sin", "trap"), ("verb", verb), ("account", &account)]);
    let first = versions.load(guest("faulty"), one_instance()).await;
    let store = SwappableStore::new("mail", first, Kind::ALL.to_vec(), false);
    (versions, store)
}

async fn on_probation(versions: &Versions, store: &SwappableStore) {
    let next = tagged(&versions.host, guest("faulty"), 1).await;
    store.switch(versions.load(next, one_instance()).await, true).unwrap();
}

#[tokio::test]
async fn a_read_that_both_versions_fail_at_is_no_reason_to_go_back() {
    let (versions, store) = both_sin("mailbox.select").await;
    let engine = memory();
    let (bad, good) =
        (Account::new(&engine, &store, BAD).await, Account::new(&engine, &store, 1).await);
    on_probation(&versions, &store).await;
    for _ in 0..4 {
        is_broken(&bad.reads(&store).await, "");
        assert_eq!(good.reads(&store).await, Ok(true));
    }
    assert!(store.is_tentative());
    assert_eq!(store.evidence().trip, None);
    store.close().await;
}

#[tokio::test]
async fn a_write_that_both_versions_fail_at_is_no_reason_to_go_back_and_leaves_nothing() {
    let (versions, store) = both_sin("message.insert").await;
    let engine = memory();
    let bad = Account { engine: engine.clone(), number: BAD };
    let good = Account::new(&engine, &store, 1).await;
    on_probation(&versions, &store).await;
    for _ in 0..4 {
        let txn = bad.txn();
        is_broken(&bad.insert(&store, &txn).await, "");
        assert!(txn.take().is_empty());
        assert_eq!(good.insert(&store, &good.txn()).await, Ok(()));
    }
    assert!(store.is_tentative());
    assert_eq!(store.evidence().trip, None);
    store.close().await;
}

#[tokio::test]
async fn storage_that_is_away_is_asked_for_once_by_each_version_and_held_against_none() {
    let versions = Versions::new(&[]);
    let limits = Limits { import_ms: 50, ..one_instance() };
    let store = versions.store(limits.clone()).await;
    let next = tagged(&versions.host, guest("keyed"), 1).await;
    store.switch(versions.load(next, limits).await, true).unwrap();
    let gate = Gate::closed();
    let account = Account { engine: gate.clone(), number: 1 };
    let away = account.reads(&store).await;
    let said = matches!(&away, Err(StoreError::Unavailable(why)) if why.contains("50 ms"));
    assert!(said, "{away:?}");
    assert_eq!(gate.count(), 2);
    assert!(store.is_tentative());
    store.close().await;
}

#[tokio::test]
async fn what_a_version_that_went_back_writes_late_is_there_once() {
    let versions = Versions::new(&[]);
    let limits = Limits { drain_ms: 50, ..one_instance() };
    let first = versions.load(guest("unruly"), limits.clone()).await;
    let store = SwappableStore::new("domains", first, vec![Kind::Domains], false);
    let next = tagged(&versions.host, guest("unruly"), 1).await;
    store.switch(versions.load(next, limits).await, true).unwrap();
    let gate = Gate::closed();
    let engine: Arc<dyn Engine> = gate.clone();
    let txn = Txn::new(engine, space(1));
    // It writes, waits, and would write again.
    let rows = ["early", "stubborn", "late"].map(domain).to_vec();
    let write = Records::<DomainRow, String>::insert(&store, call(1), &txn, rows);
    let back = async {
        gate.reached(1).await;
        store.roll_back("to see it".to_owned());
        // The one before comes to the gate after the other was fenced.
        gate.reached(2).await;
        gate.open();
    };
    let (written, ()) = tokio::join!(write, back);
    assert_eq!(written, Ok(()));
    store.close().await;
    assert_eq!(txn.take().len(), 2);
}

#[tokio::test]
async fn a_version_that_fails_now_and_then_is_not_seen_to_fail() {
    for sin in [["trap", "100"], ["leak", "1"], ["hold", "1"]] {
        let versions = Versions::new(&[("sin", sin[0]), ("every", sin[1])]);
        let limits = Limits { memory_mib: 64, handles: 4_096, ..one_instance() };
        let (engine, store) = (memory(), versions.store(limits.clone()).await);
        let mut accounts = Vec::new();
        for number in 1..=20 {
            accounts.push(Account::new(&engine, &store, number).await);
        }
        store.switch(versions.load(guest("faulty"), limits).await, true).unwrap();
        for _ in 0..10 {
            let all = accounts.iter().map(async |account| {
                let read = account.reads(&store).await;
                (read, account.insert(&store, &account.txn()).await)
            });
            for answers in join_all(all).await {
                assert_eq!(answers, (Ok(true), Ok(())), "{sin:?}");
            }
        }
        let evidence = store.evidence();
        assert_eq!(evidence.trip.is_some(), sin[0] == "trap", "{sin:?}");
        // What no call fails at is seen by what it costs.
        let fault = postroom_core::deploy::fault(&evidence);
        println!("{sin:?}: {fault:?}");
        assert!(fault.is_some(), "{evidence:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn what_a_version_on_probation_writes_wrongly_is_seen_before_anybody_commits_it() {
    let versions = Versions::new(&[("sin", "lost-flag"), ("verb", "message.update")]);
    let (engine, store) = (memory(), versions.store(one_instance()).await);
    let account = Account::new(&engine, &store, 1).await;
    store.switch(versions.load(guest("faulty"), one_instance()).await, true).unwrap();
    let row = account.row();
    let place = MessagePlace { mailbox: row.mailbox, uid: row.uid };
    let MessageRow { mailbox, uid, modseq, flags, extra, .. } = row;
    let change = MessageChange { mailbox, uid, modseq, flags: flags.clone(), extra };
    let txn = account.txn();
    Messages::update(&store, call(1), &txn, vec![change]).await.unwrap();
    let trip = store.evidence().trip.expect("it goes back");
    assert!(trip.contains("does not read what was to be written"), "{trip}");
    let found = Messages::select(&store, call(1), &txn.view(), vec![place]).await.unwrap();
    assert_eq!(found[0].as_ref().map(|row| &row.flags), Some(&flags));
    store.close().await;
}

#[tokio::test]
async fn a_version_that_spins_on_probation_does_not_have_all_the_time_of_others() {
    let versions = Versions::new(&[("sin", "spin"), ("verb", "message.insert")]);
    let (engine, store) = (memory(), versions.store(one_instance()).await);
    let account = Account::new(&engine, &store, 1).await;
    store.switch(versions.load(guest("faulty"), one_instance()).await, true).unwrap();
    assert_eq!(account.insert(&store, &account.txn()).await, Ok(()));
    let trip = store.evidence().trip.expect("it goes back");
    assert!(trip.contains("2000 ms of CPU time"), "{trip}");
    store.close().await;
}

#[tokio::test]
async fn a_thousand_switches_leave_no_instance_and_no_handle() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let instances = || {
        let text = metrics.render();
        let live = text.lines().filter(|line| line.starts_with("postroom_guest_instances{"));
        live.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    let versions = Versions::new(&[]);
    let (engine, store) = (memory(), versions.store(one_instance()).await);
    let account = Account::new(&engine, &store, 1).await;
    let sources = [guest("keyed"), tagged(&versions.host, guest("keyed"), 1).await];
    assert_eq!(instances(), 1.0);
    for number in 1..=MANY {
        let next = sources[number as usize % 2].clone();
        let next = versions.load(next, one_instance()).await;
        switch(&store, &next, true).await;
        assert_eq!(account.reads(&store).await, Ok(true));
        assert_eq!(account.insert(&store, &account.txn()).await, Ok(()));
        match number % 3 {
            0 => store.roll_back("to see it".to_owned()),
            _ => store.make_permanent(),
        }
    }
    let all = HostConfig::default().max_instances - 1;
    let room = tokio::time::timeout(PATIENCE, versions.host.take_room(all)).await;
    drop(room.expect("the instances of old generations have gone"));
    let serving = store.serving();
    assert_eq!((instances(), serving.handles()), (1.0, 0));
    assert_eq!(serving.load(), Load { instances: 1, calls: 0 });
    assert!(metrics.render().contains("postroom_store_generation{component=\"mail\"}"));
    store.close().await;
}

#[tokio::test]
async fn a_version_that_is_never_available_to_what_the_one_before_carries_out_is_held_to_account() {
    for verb in ["mailbox.select", "message.insert"] {
        let versions = Versions::new(&[("sin", "away"), ("verb", verb)]);
        let (engine, store) = (memory(), versions.store(one_instance()).await);
        let account = Account::new(&engine, &store, 1).await;
        store.switch(versions.load(guest("faulty"), one_instance()).await, true).unwrap();
        for _ in 0..4 {
            // Nobody notices.
            assert_eq!(account.reads(&store).await, Ok(true));
            assert_eq!(account.insert(&store, &account.txn()).await, Ok(()));
        }
        let held = fault(&store.evidence()).expect("something is held against it");
        assert!(held.contains("not available to 4 of 4 calls"), "{held}");
        store.close().await;
    }
}

#[tokio::test]
async fn what_both_versions_fail_at_is_no_part_of_the_evidence() {
    let (versions, store) = both_sin("mailbox.select").await;
    let engine = memory();
    let (bad, good) =
        (Account::new(&engine, &store, BAD).await, Account::new(&engine, &store, 1).await);
    for _ in 0..100 {
        assert_eq!(good.reads(&store).await, Ok(true));
    }
    let before = calls(&store.evidence().baseline);
    assert_eq!(before, 0, "nothing is on probation");
    on_probation(&versions, &store).await;
    let before = calls(&store.evidence().baseline);
    is_broken(&bad.reads(&store).await, "");
    for _ in 0..60 {
        assert_eq!(good.reads(&store).await, Ok(true));
    }
    let evidence = store.evidence();
    assert_eq!(fault(&evidence), None);
    assert_eq!(evidence.tentative.iter().map(|verb| verb.failures).sum::<u64>(), 0);
    assert_eq!(calls(&evidence.baseline), before, "what it is asked besides is none of its record");
    store.close().await;
}

fn calls(side: &[VerbEvidence]) -> u64 {
    side.iter().map(|verb| verb.calls).sum()
}

/// Each is bad alone; beside each other in the version before neither shows which one it was.
#[tokio::test]
async fn calls_that_both_versions_fail_at_together_are_no_reason_to_go_back() {
    let versions = Versions::new(&[("sin", "trap"), ("verb", "message.insert")]);
    let first = versions.load(guest("faulty"), one_instance()).await;
    let store = SwappableStore::new("mail", first, Kind::ALL.to_vec(), false);
    on_probation(&versions, &store).await;
    let engine = memory();
    let accounts = [1, 2, 3, 4].map(|number| Account { engine: engine.clone(), number });
    for _ in 0..3 {
        let all = accounts.iter().map(async |account| {
            let txn = account.txn();
            let written = account.insert(&store, &txn).await;
            assert!(txn.take().is_empty());
            written
        });
        for answer in join_all(all).await {
            let failed = matches!(
                &answer,
                Err(StoreError::Broken(_) | StoreError::Unavailable(_) | StoreError::Busy(_))
            );
            assert!(failed, "{answer:?}");
        }
    }
    assert!(store.is_tentative());
    assert_eq!(store.evidence().trip, None);
    store.close().await;
}
