//! Raising what counts up after the database has gone back.

use postroom_core::mailbox::ledger::{self, AccountRow, CountersRow};
use postroom_core::types::{MailboxId, ModSeq, Uid};

use super::*;

/// What the host writes of an account that has one mailbox and so many messages.
pub fn ledger_of(messages: u32) -> Vec<Write> {
    let at = |octets| Key { area: Area::Ledger, octets };
    let modseq = ModSeq(u64::from(messages) + 1);
    let account = AccountRow { modseq, uid_validity: 77, used_octets: 0 };
    let counters = CountersRow {
        uid_next: Uid::new(messages + 1).unwrap(),
        highest_modseq: modseq,
        messages,
        ..CountersRow::new(ModSeq(1))
    };
    vec![
        Write::Put(at(ledger::account_key()), ledger::encode(&account)),
        Write::Put(at(ledger::counters_key(MailboxId([5; 16]))), ledger::encode(&counters)),
    ]
}

/// What the ledger of an account says.
pub async fn ledger_in(engine: &PostgresEngine, space: Space) -> (AccountRow, CountersRow) {
    let keys = [ledger::account_key(), ledger::counters_key(MailboxId([5; 16]))];
    let keys = keys.map(|octets| Key { area: Area::Ledger, octets });
    let rows = engine.get_many(space, keys.to_vec()).await.unwrap();
    let rows: Vec<Bytes> = rows.into_iter().flatten().collect();
    (ledger::decode(&rows[0]).unwrap(), ledger::decode(&rows[1]).unwrap())
}

/// Accounts with a ledger, each with a number of messages of its own.
async fn accounts(engine: &PostgresEngine, number: u8) -> Vec<Owner> {
    let mut owners = Vec::new();
    for account in 1..=number {
        let slot = Slot::of(AccountId([account; 16]));
        let held = owners.iter().find(|owner: &&Owner| owner.fence.slot == slot).map(|o| o.fence);
        let owner = match held {
            Some(fence) => Owner { space: Space::Account(AccountId([account; 16])), fence },
            None => Owner::new(engine, account, account).await,
        };
        owners.push(owner);
    }
    let written = owners
        .iter()
        .enumerate()
        .map(|(n, owner)| engine.commit(owner.commit(ledger_of(n as u32 + 10), vec![])));
    for outcome in futures::future::join_all(written).await {
        outcome.unwrap();
    }
    owners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_counts_up_is_raised_once_wherever_it_was_interrupted() {
    const ACCOUNTS: u8 = 200;
    let database = database().await;
    let options = PostgresOptions::new(&database);
    let engine = open(&database).await;
    let owners = accounts(&engine, ACCOUNTS).await;
    let directory =
        Commit { space: Space::Directory, fence: None, ..owners[0].commit(vec![], vec![]) };
    engine.commit(directory).await.unwrap();
    let mut random = Random::seeded();
    let mut interrupted = 0;
    let restored = loop {
        // It is dropped after some page, while the next one may be under way.
        let (told, mut pages) = tokio::sync::watch::channel(0u64);
        let enough = 1 + random.below(3);
        let progress = |_: RestoreProgress| told.send_modify(|pages| *pages += 1);
        let restoring = restore(&options, progress);
        tokio::pin!(restoring);
        tokio::select! {
            restored = &mut restoring => break restored.unwrap(),
            _ = pages.wait_for(|pages| *pages >= enough) => {}
        }
        interrupted += 1;
        assert!(interrupted < 1000, "it never comes to its end");
        if interrupted == 1 {
            let refused = PostgresEngine::open(options.clone()).await.err().unwrap();
            assert!(matches!(refused, OpenError::Restoring), "{refused}");
        }
    };
    println!("interrupted {interrupted} times");
    assert!(interrupted > 0 && restored.resumed && restored.times == 1, "{restored:?}");
    assert_eq!((restored.left, restored.named.len()), (0, 0));
    let engine = open(&database).await;
    assert_eq!(engine.restored(), 1);
    assert_eq!(engine.head(Space::Directory).await, Ok(1 + (1 << 32)));
    for (n, owner) in owners.iter().enumerate() {
        assert_eq!(engine.head(owner.space).await, Ok(1 + (1 << 32)));
        let (account, mailbox) = ledger_in(&engine, owner.space).await;
        let (uids, modseq) = (n as u32 + 10, ModSeq(n as u64 + 11 + (1 << 32)));
        assert_eq!(mailbox.uid_next.get(), uids + 1 + (1 << 20));
        assert_eq!((account.modseq, mailbox.highest_modseq), (modseq, modseq));
        assert_eq!((mailbox.low_water, mailbox.messages), (modseq, uids));
        assert!(account.uid_validity > 1_700_000_000 + (1 << 16));
        let guarded = Key { area: Area::Ledger, octets: ledger::restored_key() };
        let guarded = engine.get_many(owner.space, vec![guarded]).await.unwrap().remove(0).unwrap();
        assert_eq!(ledger::decode::<ledger::RestoredRow>(&guarded).unwrap().times, 1);
        let (epoch, _) = engine.claimed(owner.fence.slot).await.unwrap().unwrap();
        assert_eq!(epoch, Epoch(owner.fence.epoch.0 + (1 << 32)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_from_before_a_restore_neither_commits_nor_claims_nor_connects() {
    let database = database().await;
    let old = open(&database).await;
    let owner = Owner::new(&old, 1, 1).await;
    old.commit(owner.commit(vec![put("k", "v")], vec![])).await.unwrap();
    restore(&PostgresOptions::new(&database), |_| {}).await.unwrap();
    let late = old.commit(owner.commit(vec![], vec![])).await;
    assert_eq!(late, Err(StorageError::Fenced));
    for slot in [owner.fence.slot, Slot(owner.fence.slot.0 ^ 1)] {
        let claimed = claim(&old, slot, 9).await;
        assert!(matches!(claimed, Err(StorageError::Unavailable(_))), "{claimed:?}");
    }
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    raw(&database).await.batch_execute(cut).await.unwrap();
    let read = old.head(owner.space).await;
    assert!(
        matches!(&read, Err(StorageError::Unavailable(why)) if why.contains("restored")),
        "{read:?}"
    );
    let new = open(&database).await;
    let owner = Owner::new(&new, 1, 2).await;
    assert_eq!(
        new.commit(owner.commit(vec![], vec![])).await,
        Ok(Committed { head: 2 + (1 << 32) })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_raised_while_a_node_is_alive() {
    let database = database().await;
    let options = PostgresOptions::new(&database);
    let engine = open(&database).await;
    let node = Claimant { node: "seven".to_owned(), generation: 1, nonce: [7; 16] };
    engine.beat(node).await.unwrap();
    let refused = restore(&options, |_| {}).await.unwrap_err();
    assert!(matches!(&refused, RestoreError::Alive { node, .. } if node == "seven"), "{refused}");
    assert_eq!(open(&database).await.restored(), 0);
    let past = "UPDATE beats SET at = at - interval '31 seconds'";
    raw(&database).await.batch_execute(past).await.unwrap();
    assert_eq!(restore(&options, |_| {}).await.unwrap().times, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_account_stays_closed_and_takes_no_other_along() {
    let database = database().await;
    let engine = open(&database).await;
    let owners = accounts(&engine, 5).await;
    let at = key::row(owners[2].space, &Key { area: Area::Ledger, octets: ledger::account_key() });
    let spoil = "UPDATE rows SET value = value || '\\x00' WHERE key = $1";
    assert_eq!(raw(&database).await.execute(spoil, &[&at]).await.unwrap(), 1);
    let restored = restore(&PostgresOptions::new(&database), |_| {}).await.unwrap();
    assert_eq!((restored.raised, restored.left, restored.named.len()), (4, 1, 1), "{restored:?}");
    let engine = open(&database).await;
    for (n, owner) in owners.iter().enumerate() {
        let head = engine.head(owner.space).await;
        match n {
            2 => assert!(matches!(head, Err(StorageError::WentBack(_))), "{head:?}"),
            _ => assert_eq!(head, Ok(1 + (1 << 32))),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_restore_at_once_nothing_is_raised_twice_in_one_incarnation() {
    let database = database().await;
    let options = PostgresOptions::new(&database);
    let engine = open(&database).await;
    let owners = accounts(&engine, 150).await;
    let (one, other) = tokio::join!(restore(&options, |_| {}), restore(&options, |_| {}));
    for outcome in [&one, &other] {
        if let Err(error) = outcome {
            assert!(matches!(error, RestoreError::InTheWay), "{error}");
        }
    }
    // Both were in each other's way: to do it again is right in any case.
    let again = PostgresEngine::open(options.clone()).await.is_err();
    if again {
        restore(&options, |_| {}).await.unwrap();
    }
    let engine = open(&database).await;
    for owner in owners {
        assert_eq!(engine.head(owner.space).await, Ok(1 + (engine.restored() << 32)));
    }
}
