//! A store's component is replaced while calls run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use postroom_core::deploy::evidence::{Took, VerbEvidence};

use super::gate::Gate;
use super::losses::PATIENCE;
use super::*;

/// Calls that run side by side.
const CALLERS: u128 = 20;
/// Switches in one test.
const SWITCHES: u32 = 50;

/// The same component with another digest: a custom section is added that means nothing.
pub(super) async fn tagged(host: &Host, source: ComponentSource, tag: u32) -> ComponentSource {
    let mut octets = host.read(&source).await.unwrap().to_vec();
    let name = b"version";
    let data = tag.to_le_bytes();
    octets.extend([0, (1 + name.len() + data.len()) as u8, name.len() as u8]);
    octets.extend(name);
    octets.extend(data);
    ComponentSource { from: ComponentFrom::Octets(octets.into()), ..source }
}

/// A host that finds compiled code again, so that a version is loaded in a moment.
pub(super) struct Versions {
    pub(super) host: Host,
    settings: BTreeMap<String, String>,
    _cache: tempfile::TempDir,
}

impl Versions {
    pub(super) fn new(settings: &[(&str, &str)]) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let config = HostConfig { cache: Some(cache.path().to_owned()), ..HostConfig::default() };
        let settings = settings.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Self { host: Host::new(config).unwrap(), settings: settings.collect(), _cache: cache }
    }

    pub(super) async fn load(
        &self,
        source: ComponentSource,
        limits: Limits,
    ) -> Arc<StoreComponent> {
        let grants = Grants { settings: self.settings.clone(), ..Grants::default() };
        // By the store's name, as all versions of a store are loaded.
        let source = ComponentSource { name: "mail".to_owned(), ..source };
        self.host.load(source, &grants, limits).await.unwrap()
    }

    pub(super) async fn store(&self, limits: Limits) -> SwappableStore {
        let first = self.load(guest("keyed"), limits).await;
        SwappableStore::new("mail", first, Kind::ALL.to_vec(), false)
    }
}

/// What the journal has of a store, with the generation that each is about.
fn events(store: &SwappableStore) -> Vec<(Option<u64>, String)> {
    let all = store.journal().after(0).entries.into_iter();
    let events = all.filter(|entry| entry.what == What::Event);
    events.map(|entry| (entry.generation, entry.text)).collect()
}

/// An account with one mailbox and one message of its own.
pub(super) struct Account {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) number: u128,
}

impl Account {
    pub(super) async fn new(
        engine: &Arc<dyn Engine>,
        store: &SwappableStore,
        number: u128,
    ) -> Self {
        let account = Self { engine: engine.clone(), number };
        let txn = account.txn();
        Records::insert(store, call(number), &txn, vec![account.mailbox()]).await.unwrap();
        account.insert(store, &txn).await.unwrap();
        let bench = Bench { engine: engine.clone(), component: store.serving() };
        bench.commit(number, &txn).await;
        account
    }

    fn mailbox(&self) -> MailboxRow {
        mailbox(self.number, "INBOX")
    }

    fn octets(&self) -> Bytes {
        format!("mail of {}", self.number).into()
    }

    pub(super) fn row(&self) -> MessageRow {
        message(self.number, 1, self.octets().len())
    }

    pub(super) fn txn(&self) -> Txn {
        Txn::new(self.engine.clone(), space(self.number))
    }

    pub(super) async fn insert(&self, store: &SwappableStore, txn: &Txn) -> Result<(), StoreError> {
        let body = txn.new_body(self.octets()).await.unwrap();
        Messages::insert(store, call(self.number), txn, vec![self.row()], vec![body]).await
    }

    /// Reads mailbox and message; whether both are right.
    pub(super) async fn reads(&self, store: &SwappableStore) -> Result<bool, StoreError> {
        let view = View::new(self.engine.clone(), space(self.number));
        let id = MailboxId::from_u128(self.number);
        let found = Records::select(store, call(self.number), &view, vec![id]).await?;
        let list = Messages::list(store, call(self.number), &view, id, None, 10).await?;
        Ok(found == [Some(self.mailbox())] && list.rows == [self.row()])
    }
}

/// Switches as soon as the last generation has gone.
pub(super) async fn switch(store: &SwappableStore, next: &Arc<StoreComponent>, tentative: bool) {
    let until_settled = async {
        while let Err(error) = store.switch(next.clone(), tentative) {
            assert_eq!(error, SwitchError::Unsettled);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, until_settled).await.expect("the last switch settles");
}

pub(super) fn memory() -> Arc<dyn Engine> {
    Arc::new(MemoryEngine::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_and_no_instance_left_while_versions_follow_each_other() {
    let versions = Versions::new(&[]);
    let (engine, store) = (memory(), Arc::new(versions.store(one_instance()).await));
    let (calls, end) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let mut callers = Vec::new();
    for number in 1..=CALLERS {
        let account = Account::new(&engine, &store, number).await;
        let (store, calls, end) = (store.clone(), calls.clone(), end.clone());
        callers.push(tokio::spawn(async move {
            while !end.load(Ordering::Relaxed) {
                assert_eq!(account.reads(&store).await, Ok(true));
                // At the first attempt: nothing is fenced, as no call takes so long.
                assert_eq!(account.insert(&store, &account.txn()).await, Ok(()));
                calls.fetch_add(3, Ordering::Relaxed);
            }
        }));
    }
    for number in 1..=SWITCHES {
        let next = tagged(&versions.host, guest("keyed"), number).await;
        let next = versions.load(next, one_instance()).await;
        let (before, digest) = (store.serving(), next.inspection().digest.clone());
        switch(&store, &next, true).await;
        assert_eq!(store.serving().inspection().digest, digest);
        let at = calls.load(Ordering::Relaxed);
        // Some calls on the new one, then on.
        while calls.load(Ordering::Relaxed) < at + 60 && !callers.iter().any(|c| c.is_finished()) {
            tokio::task::yield_now().await;
        }
        match number % 3 {
            0 => {
                store.roll_back("to see it".to_owned());
                assert!(Arc::ptr_eq(&store.serving(), &before));
            }
            _ => store.make_permanent(),
        }
        assert!(!store.is_tentative());
        assert_eq!(store.evidence().trip, None);
    }
    end.store(true, Ordering::Relaxed);
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
    println!("{} calls, {SWITCHES} switches", calls.load(Ordering::Relaxed));
    assert_eq!(store.generations().len(), 1);
    // All room of the node is free again, but for the instance that serves.
    let all = HostConfig::default().max_instances - 1;
    let room = tokio::time::timeout(PATIENCE, versions.host.take_room(all)).await;
    drop(room.expect("the instances of old generations have gone"));
    store.close().await;
}

#[tokio::test]
async fn the_first_fault_of_a_tentative_version_brings_the_one_before_back_unseen() {
    for (sin, verb, part) in [
        ("trap", "mailbox.select", "mailboxes select: "),
        ("nonsense", "message.list", "messages list: "),
        ("trap", "message.insert", "messages insert: "),
        ("spin", "message.insert", "CPU time"),
        ("sleep", "mailbox.select", "no answer within"),
        ("devour", "message.insert", "messages insert: "),
        ("recurse", "mailbox.select", "call stack"),
    ] {
        let versions = Versions::new(&[("sin", sin), ("verb", verb)]);
        let limits = Limits {
            call_ms: if sin == "sleep" { 1_000 } else { 15_000 },
            cpu_ms: if sin == "spin" { 200 } else { 5_000 },
            import_ms: 900,
            memory_mib: 64,
            ..one_instance()
        };
        let (engine, store) = (memory(), versions.store(limits.clone()).await);
        let first = store.serving().inspection().digest.clone();
        let txn = Account { engine: engine.clone(), number: 1 }.txn();
        Account { engine: engine.clone(), number: 1 }.insert(&store, &txn).await.unwrap();
        let writes = txn.take().len();
        let mut accounts = Vec::new();
        for number in 1..=CALLERS {
            accounts.push(Account::new(&engine, &store, number).await);
        }
        let mut tripped = store.tripped();
        let broken = versions.load(guest("faulty"), limits).await;
        store.switch(broken, true).unwrap();
        tripped.mark_unchanged();
        let all = accounts.iter().map(async |account| {
            let (read, txn) = (account.reads(&store).await, account.txn());
            let written = account.insert(&store, &txn).await;
            // Once, though some were made twice.
            (read, written, txn.take().len())
        });
        for answers in join_all(all).await {
            assert_eq!(answers, (Ok(true), Ok(()), writes), "{sin} {verb}");
        }
        assert_eq!(store.serving().inspection().digest, first, "{sin} {verb}");
        tripped.changed().await.unwrap();
        let why = store.evidence().trip.expect("the reason is on record");
        assert!(why.contains(part), "{sin} {verb}: {why}");
        assert_eq!(*tripped.borrow(), Some(why.clone()));
        let failed = (Some(2), format!("failed on probation: {why}"));
        let told = events(&store);
        let at = told.iter().position(|event| *event == failed).expect("the journal has it");
        assert_eq!(told[at + 1], (Some(1), "serves again".to_owned()));
        store.close().await;
    }
}

#[tokio::test]
async fn what_an_old_generation_does_not_finish_is_fenced_and_read_again() {
    let versions = Versions::new(&[]);
    let gate = Gate::closed();
    let engine: Arc<dyn Engine> = gate.clone();
    let limits = Limits { drain_ms: 50, ..one_instance() };
    let store = versions.store(limits.clone()).await;
    let next = tagged(&versions.host, guest("keyed"), 1).await;
    let next = versions.load(next, limits).await;
    let account = Account { engine, number: 1 };
    // One that writes, and reads first: a mailbox's name must be free.
    let (txn, row) = (account.txn(), account.mailbox());
    let writes = async {
        let rows = vec![row.clone()];
        let written = Records::insert(&store, call(1), &txn, rows).await;
        (written, txn.take())
    };
    let view = View::new(account.engine.clone(), space(1));
    let reads = Records::<MailboxRow, MailboxId>::select(
        &store,
        call(1),
        &view,
        vec![MailboxId::from_u128(1)],
    );
    let switch = async {
        gate.reached(1).await;
        store.switch(next.clone(), false).unwrap();
        // The read comes to the gate again, from the other generation.
        gate.reached(2).await;
        gate.open();
    };
    let (read, ()) = tokio::join!(reads, switch);
    assert_eq!(read, Ok(vec![None]));
    let (written, rows) = writes.await;
    assert_eq!(written, Ok(()));
    assert!(!rows.is_empty());
    let told = events(&store);
    let has = |generation, text: &str| {
        told.iter().any(|(of, told)| *of == Some(generation) && told.starts_with(text))
    };
    assert!(has(1, "serves") && has(2, "serves") && has(1, "1 calls are fenced"), "{told:?}");
    store.close().await;
}

#[tokio::test]
async fn a_write_of_a_fenced_generation_reaches_nothing() {
    let settings = [("sin", "sleep"), ("verb", "message.insert")];
    let versions = Versions::new(&settings);
    let limits = Limits { drain_ms: 100, ..one_instance() };
    let first = versions.load(guest("faulty"), limits.clone()).await;
    let store = SwappableStore::new("mail", first, Kind::ALL.to_vec(), false);
    let next = versions.load(guest("keyed"), limits).await;
    let account = Account { engine: memory(), number: 1 };
    let txn = account.txn();
    let write = account.insert(&store, &txn);
    tokio::pin!(write);
    // It is in the instance, which never answers.
    let entered = async {
        while store.generations()[0].component.load().calls == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = &mut write => panic!("{answer:?}"),
        () = entered => {}
    }
    store.switch(next, false).unwrap();
    let fenced = tokio::time::timeout(PATIENCE, write).await.expect("it is fenced");
    assert!(matches!(fenced, Err(StoreError::Unavailable(_))), "{fenced:?}");
    assert!(txn.take().is_empty(), "nothing of it is there");
    assert_eq!(account.insert(&store, &account.txn()).await, Ok(()), "the new one serves");
    store.close().await;
}

#[tokio::test]
async fn a_third_generation_and_what_does_not_fit_are_refused() {
    let versions = Versions::new(&[]);
    let store = versions.store(one_instance()).await;
    let mut next = Vec::new();
    for tag in 1..=2 {
        let source = tagged(&versions.host, guest("keyed"), tag).await;
        next.push(versions.load(source, one_instance()).await);
    }
    let unfit = versions.load(guest("unruly"), one_instance()).await;
    let refused = store.switch(unfit.clone(), true).unwrap_err();
    assert!(refused.to_string().contains("keeps no"), "{refused}");
    store.switch(next[0].clone(), true).unwrap();
    assert_eq!(store.switch(next[1].clone(), true), Err(SwitchError::Unsettled));
    assert_eq!(store.generations().len(), 2);
    store.make_permanent();
    switch(&store, &next[1], true).await;
    assert!(Arc::ptr_eq(&store.generations()[1].component, &next[0]));
    store.close().await;
    unfit.close().await;
}

#[tokio::test]
async fn evidence_counts_both_sides_by_function() {
    let versions = Versions::new(&[]);
    let (engine, store) = (memory(), versions.store(one_instance()).await);
    let account = Account::new(&engine, &store, 1).await;
    assert_eq!(store.evidence(), postroom_core::deploy::evidence::Evidence::default());
    account.reads(&store).await.unwrap();
    let source = tagged(&versions.host, guest("keyed"), 1).await;
    store.switch(versions.load(source, one_instance()).await, true).unwrap();
    for _ in 0..3 {
        account.reads(&store).await.unwrap();
    }
    let evidence = store.evidence();
    let calls = |side: &[VerbEvidence], verb: &str| {
        side.iter().find(|count| count.verb == verb).map(|count| (count.calls, count.failures))
    };
    assert_eq!(calls(&evidence.baseline, "mailboxes select"), Some((1, 0)));
    assert_eq!(calls(&evidence.baseline, "messages insert"), Some((1, 0)));
    assert_eq!(calls(&evidence.tentative, "mailboxes select"), Some((3, 0)));
    assert_eq!(calls(&evidence.tentative, "messages insert"), None);
    let timed = |count: &VerbEvidence| {
        let Took { half, three_quarters, nine_tenths } = count.took;
        0 < half && half <= three_quarters && three_quarters <= nine_tenths
    };
    assert!(evidence.tentative.iter().all(timed), "{evidence:?}");
    tokio::time::timeout(Duration::from_secs(20), store.close()).await.expect("it closes");
}
