//! Rows that somebody else has locked: whoever is behind the lock waits, nobody else.

use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use tokio_postgres::config::Host;

use super::*;

/// More accounts than share a group by chance.
const ACCOUNTS: u8 = 24;

/// Takes a lock until the connection is told to let go.
async fn lock(database: &str, table: &str, at: &[u8]) -> tokio_postgres::Client {
    let holder = raw(database).await;
    holder.batch_execute("BEGIN").await.unwrap();
    let taking = format!("SELECT 1 FROM {table} WHERE key = $1 FOR UPDATE");
    assert_eq!(holder.query(&taking, &[&at]).await.unwrap().len(), 1);
    holder
}

async fn one_of_many_is_behind_a_lock(table: &str, at: impl Fn(&Owner) -> Vec<u8>) {
    let database = database().await;
    let engine = open(&database).await;
    let mut owners: Vec<Owner> = Vec::new();
    for account in 1..=ACCOUNTS {
        let slot = Slot::of(AccountId([account; 16]));
        if owners.iter().all(|owner| owner.fence.slot != slot) {
            owners.push(Owner::new(&engine, account, account).await);
        }
    }
    let write =
        async |owner: &Owner| engine.commit(owner.commit(vec![put("k", "v")], vec![])).await;
    for owner in &owners {
        write(owner).await.unwrap();
    }
    let holder = lock(&database, table, &at(&owners[3])).await;
    let outcomes = futures::future::join_all(owners.iter().map(write)).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(committed) => assert_eq!((*committed, n == 3), (Committed { head: 2 }, false)),
            Err(StorageError::Unavailable(why)) => {
                assert!(n == 3 && why.contains("lock"), "{n}: {why}")
            }
            Err(error) => panic!("{n}: {error}"),
        }
    }
    // Who comes again does not keep the others waiting again.
    let start = Instant::now();
    for round in 0..10 {
        let (behind, others) = owners.split_at(4);
        let (refused, done) =
            tokio::join!(write(&behind[3]), futures::future::join_all(others.iter().map(write)));
        assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{round}: {refused:?}");
        assert!(done.iter().all(Result::is_ok), "{round}: {done:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(write(&owners[3]).await, Ok(Committed { head: 2 }));
    assert_eq!(write(&owners[3]).await, Ok(Committed { head: 3 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_claim_keeps_only_its_own_slot_waiting() {
    one_of_many_is_behind_a_lock("claims", |owner| key::claim(owner.fence.slot)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_head_keeps_only_its_own_account_waiting() {
    one_of_many_is_behind_a_lock("heads", |owner| key::head(owner.space)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_on_another_row_keeps_only_whoever_writes_it_waiting() {
    let database = database().await;
    let engine = open(&database).await;
    let owner = Owner::new(&engine, 1, 1).await;
    let other = Owner::new(&engine, 2, 2).await;
    let write =
        async |owner: &Owner| engine.commit(owner.commit(vec![put("k", "v")], vec![])).await;
    write(&owner).await.unwrap();
    write(&other).await.unwrap();
    let at = key::row(owner.space, &Key { area: Area::Message, octets: "k".into() });
    let holder = lock(&database, "rows", &at).await;
    let (refused, done) = tokio::join!(write(&owner), write(&other));
    assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
    assert_eq!(done, Ok(Committed { head: 2 }));
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(write(&owner).await, Ok(Committed { head: 2 }));
}

/// A session that has executed a statement and never hears that this was all, as when the network dies between
/// two segments.
fn stalled(database: &str, statement: &str) -> UnixStream {
    let config: tokio_postgres::Config = database.parse().unwrap();
    let Host::Unix(folder) = &config.get_hosts()[0] else { panic!("{config:?}") };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let mut session = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).unwrap();
    session.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (user, name) = (config.get_user().unwrap(), config.get_dbname().unwrap());
    let text = format!("user\0{user}\0database\0{name}\0\0");
    let length = text.len() as u32 + 8;
    let startup = [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), text.as_bytes()].concat();
    session.write_all(&startup).unwrap();
    until(&mut session, b'Z');
    let message = |kind: u8, body: &[u8]| {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    };
    let parse = message(b'P', format!("\0{statement}\0\0\0").as_bytes());
    let (bind, execute) = (message(b'B', &[0; 8]), message(b'E', &[0; 5]));
    // Flush, and no Sync.
    session.write_all(&[parse, bind, execute, message(b'H', &[])].concat()).unwrap();
    until(&mut session, b'C');
    session
}

/// Reads messages until one of this kind.
fn until(session: &mut UnixStream, kind: u8) {
    let mut head = [0; 5];
    loop {
        session.read_exact(&mut head).unwrap();
        assert_ne!(head[0], b'E', "the server refuses it");
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        session.read_exact(&mut vec![0; length]).unwrap();
        if head[0] == kind {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_hears_nothing_in_the_middle_of_a_statement_keeps_no_lock() {
    let database = database().await;
    let engine = open(&database).await;
    let owner = Owner::new(&engine, 1, 1).await;
    let write = async |owner: &Owner| {
        super::eventually::eventually("it is written", async || {
            engine.commit(owner.commit(vec![put("k", "v")], vec![])).await.ok()
        })
        .await
    };
    write(&owner).await;
    let hex = |at: &[u8]| at.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let locking = |table: &str, at: &[u8], how: &str| {
        let at = hex(at);
        format!("SELECT 1 FROM {table} WHERE key = '\\x{at}' FOR {how}")
    };
    // Who commits.
    let head = locking("heads", &key::head(owner.space), "UPDATE");
    let holder = stalled(&database, &head);
    write(&owner).await;
    drop(holder);
    // Who takes over, as soon as the lock is waited for in vain.
    let claimed = locking("claims", &key::claim(owner.fence.slot), "SHARE");
    let holder = stalled(&database, &claimed);
    let other = Owner::new(&engine, 1, 2).await;
    assert_eq!(other.fence.epoch.0, owner.fence.epoch.0 + 1);
    drop(holder);
    // A transaction that is merely open is no such session.
    let open = lock(&database, "heads", &key::head(owner.space)).await;
    for _ in 0..3 {
        let refused = engine.commit(other.commit(vec![put("k", "v")], vec![])).await;
        assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
    }
    open.batch_execute("COMMIT").await.expect("it lives");
}
