//! A store that writes in the schema that it is told, and rows that are brought to another one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use postroom_core::calls::Call;
use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, Slot, SystemFlag, UidSet};

use super::super::{Config, DirectoryKind, DirectoryMode, MessageStore, NewUser};
use super::{Client, all, secret, uid};
use crate::guest::tests::guest;
use crate::guest::{
    Grants, Host, HostConfig, Kind, Limits, Stores, SwappableStore, Told, round_key,
};
use crate::mailbox::{SweepStep, Swept, SweptKind};
use crate::storage::{Area, Commit, Engine, Fence, Key, MemoryEngine, ScanLimit, Space, Write};

struct Bench {
    engine: Arc<MemoryEngine>,
    swappable: Arc<SwappableStore>,
    store: MessageStore,
}

impl Bench {
    async fn new() -> Self {
        Self::over(Arc::new(MemoryEngine::new()), 1).await
    }

    async fn over(engine: Arc<MemoryEngine>, generation: u64) -> Self {
        let host = Host::new(HostConfig::default()).unwrap();
        let (grants, limits) = (Grants::default(), Limits::default());
        let component = host.load(guest("keyed2"), &grants, limits).await.unwrap();
        let swappable = SwappableStore::new("mail", component, Kind::ALL.to_vec(), false);
        let swappable = Arc::new(swappable);
        let stores = Stores {
            domains: swappable.clone(),
            users: swappable.clone(),
            mailboxes: swappable.clone(),
            messages: swappable.clone(),
        };
        let directory = DirectoryMode::Dev { password: secret("pw") };
        let config = Config { node: "test".into(), generation, directory };
        let store = MessageStore::new(config, stores, engine.clone());
        let bench = Self { engine, swappable, store };
        bench.tell(1, 0);
        bench
    }

    fn tell(&self, schema: u32, round: u64) {
        self.swappable.tell(Told { schema: Some(schema), round });
    }

    async fn alice(&self) -> (AccountId, Client<'_>) {
        let session = self.store.session_of("alice").await.unwrap();
        let account = self.store.principal("alice").await.unwrap().account;
        (account, Client { store: &self.store, session })
    }

    /// The schemas of all rows there.
    async fn schemas(&self, space: Space, area: Area) -> BTreeSet<u8> {
        let limit = ScanLimit { items: 1_000, octets: 1 << 20 };
        let page = self.engine.scan(space, area, Bytes::new(), Bytes::new(), limit).await;
        page.unwrap().items.iter().map(|(_, value)| value[0]).collect()
    }

    async fn sweep(&self, account: AccountId, of: SweptKind) -> Result<Swept, StoreError> {
        let step = SweepStep { of, after: None, round: 1 };
        self.store.sweep_account(account, step).await
    }

    /// Storage knows of a round.
    async fn round(&self, round: u64) {
        let commit = Commit {
            space: Space::Directory,
            fence: None,
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes: vec![Write::Put(round_key("mail"), round.to_be_bytes().to_vec().into())],
            now: 0,
        };
        self.engine.commit(commit).await.unwrap();
    }
}

#[tokio::test]
async fn rows_are_written_as_told_and_swept_under_a_session_that_sees_nothing_of_it() {
    let bench = Bench::new().await;
    let (account, alice) = bench.alice().await;
    let space = Space::Account(account);
    for number in 0..5 {
        alice.append("INBOX", &format!("mail {number}")).await;
    }
    let selected = alice.select("INBOX").await;
    assert_eq!(bench.schemas(space, Area::Message).await, BTreeSet::from([1]));
    let refused = bench.sweep(account, SweptKind::Messages).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");

    bench.tell(2, 1);
    alice.flag(&UidSet::range(uid(2), uid(3)), SystemFlag::Flagged).await;
    alice.append("INBOX", "mail 5").await;
    assert_eq!(bench.schemas(space, Area::Message).await, BTreeSet::from([1, 2]));
    let before = format!("{:?}", alice.fetch(all(), super::Want::default()).await);
    // Five rows that stay as they were and three of flags; the other two were written anew.
    let swept = bench.sweep(account, SweptKind::Messages).await.unwrap();
    assert_eq!((swept.records, swept.rewritten), (12, 8));
    assert_eq!((swept.problem, swept.next), (None, None));
    let swept = bench.sweep(account, SweptKind::Mailboxes).await.unwrap();
    assert!(swept.rewritten > 0, "{swept:?}");
    for area in [Area::Message, Area::Mailbox] {
        assert_eq!(bench.schemas(space, area).await, BTreeSet::from([2]), "{area:?}");
    }
    let again = bench.sweep(account, SweptKind::Messages).await.unwrap();
    assert_eq!(again.rewritten, 0);
    let after = format!("{:?}", alice.fetch(all(), super::Want::default()).await);
    assert_eq!(after, before);
    assert_eq!(alice.append("INBOX", "mail 6").await, uid(7));
    assert_eq!(alice.select("INBOX").await.status.uid_validity, selected.status.uid_validity);
    assert_eq!(alice.body(uid(1)).await.as_deref(), Some(&b"mail 0"[..]));

    assert!(bench.schemas(Space::Directory, Area::User).await.contains(&1));
    let swept = bench.store.sweep_directory(DirectoryKind::Users, None, 1).await.unwrap();
    assert!(swept.rewritten > 0);
    assert_eq!(bench.schemas(Space::Directory, Area::User).await, BTreeSet::from([2]));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_told_and_left() {
    let bench = Bench::new().await;
    let (account, alice) = bench.alice().await;
    let space = Space::Account(account);
    alice.append("INBOX", "mail").await;
    let limit = ScanLimit { items: 1, octets: 1 << 20 };
    let page = bench.engine.scan(space, Area::Message, Bytes::new(), Bytes::new(), limit).await;
    let key = page.unwrap().items.remove(0).0;
    let slot = Slot::of(account);
    let (epoch, claimant) = bench.engine.claimed(slot).await.unwrap().unwrap();
    let rubbish = Bytes::from_static(&[0xff; 9]);
    let commit = Commit {
        space,
        fence: Some(Fence { slot, epoch, nonce: claimant.nonce }),
        expected_head: None,
        preconditions: Vec::new(),
        transactions: Vec::new(),
        writes: vec![Write::Put(Key { area: Area::Message, octets: key }, rubbish)],
        now: 0,
    };
    bench.engine.commit(commit).await.unwrap();
    drop(alice);
    bench.store.close().await;
    let bench = Bench::over(bench.engine, 2).await;
    bench.tell(2, 1);
    let swept = bench.sweep(account, SweptKind::Messages).await.unwrap();
    assert!(swept.problem.as_ref().is_some_and(|why| why.contains("schema 255")), "{swept:?}");
    assert_eq!(bench.schemas(space, Area::Message).await, BTreeSet::from([2, 0xff]));
}

#[tokio::test]
async fn who_knows_of_an_earlier_round_opens_no_account_and_changes_no_directory() {
    let bench = Bench::new().await;
    let (_, alice) = bench.alice().await;
    bench.round(1).await;
    let outdated = bench.swappable.outdated();
    let select = Call::Select { name: super::mailbox("INBOX"), read_write: true };
    let (opened, ()) = tokio::join!(alice.call(select), outdated.notified());
    assert!(matches!(opened, Err(StoreError::Unavailable(_))), "{opened:?}");
    let bob = NewUser { name: "bob".into(), password: None, alias_of: None, quota_octets: None };
    let made = bench.store.create_user(bob.clone()).await;
    assert!(matches!(made, Err(StoreError::Unavailable(_))), "{made:?}");
    // As soon as it is told it goes on, also what waits.
    let tells = async {
        outdated.notified().await;
        bench.tell(2, 1);
    };
    let (opened, ()) = tokio::join!(alice.append_with("INBOX", "mail", Default::default()), tells);
    assert_eq!(opened, Ok(uid(1)));
    bench.store.create_user(bob).await.unwrap();
}
