//! A store behind the node's traits, as the kit's cases want one.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::types::{AccountId, MailboxId, Slot, TransactionId, Uid};
use postroom_kit::records as wit;
use postroom_kit::{Host, Knobs, MessageSubject, Parts, RecordSubject, Result, Told};

use super::convert::{self, Row, wit_error};
use super::gate::Faults;
use crate::guest::{CallInfo, Kind, Messages, Part, Records, StoreComponent};
use crate::storage::{
    Area, Claimant, Commit, Engine, Fence, Key, ScanLimit, Space, StorageError, Txn, View, Write,
};

/// Instances of the store: the one that calls reach, and one beside it.
const INSTANCES: usize = 2;
/// Most keys of one look at what is stored.
const LOOK: ScanLimit = ScanLimit { items: 4096, octets: 4 << 20 };

/// Where instances of a store come from. None of them may know of another.
#[async_trait]
pub trait Instances<S>: Send + Sync {
    /// A fresh one; why there is none, in one line.
    async fn fresh(&self) -> std::result::Result<Arc<S>, String>;

    /// Whether such an instance takes one call at a time.
    fn one_call_at_a_time(&self, _: &S) -> bool {
        false
    }

    /// Handles of the host that such an instance holds.
    fn handles(&self, _: &S) -> usize {
        0
    }

    /// The schemas in which such an instance writes as it is told.
    fn schemas(&self, _: &S) -> Vec<u32> {
        Vec::new()
    }
}

/// A store (a component, or another thing behind the node's traits) over an engine of its own.
pub struct Subject<S = StoreComponent> {
    source: Box<dyn Instances<S>>,
    instances: Mutex<[Option<Arc<S>>; INSTANCES]>,
    /// Which of them calls reach.
    turn: AtomicUsize,
    engine: Arc<dyn Engine>,
    space: Space,
    area: Area,
    fence: Option<Fence>,
    faults: Arc<Faults>,
    told: Mutex<Told>,
    /// What has to live as long as it does: folders.
    _kept: Box<dyn Any + Send + Sync>,
}

fn failed(error: StorageError) -> wit::StoreError {
    let text = error.to_string();
    match error {
        StorageError::Unavailable(_) => wit::StoreError::Unavailable(text),
        StorageError::Damaged(_) => wit::StoreError::Damaged(text),
        StorageError::Limit(_) => wit::StoreError::Limit(text),
        StorageError::Fenced
        | StorageError::HeadMoved { .. }
        | StorageError::Conflict
        | StorageError::AlreadyDone(_)
        | StorageError::WentBack(_)
        | StorageError::UnknownOutcome(_) => wit::StoreError::Other(text),
    }
}

impl<S> Subject<S> {
    /// A store of this kind of record, over an engine in which nothing is yet.
    pub async fn new(
        source: impl Instances<S> + 'static,
        engine: Arc<dyn Engine>,
        kind: Kind,
    ) -> std::result::Result<Self, String> {
        let (space, area) = match kind {
            Kind::Domains => (Space::Directory, Area::Domain),
            Kind::Users => (Space::Directory, Area::User),
            Kind::Mailboxes => (Space::Account(AccountId::from_u128(1)), Area::Mailbox),
            Kind::Messages => (Space::Account(AccountId::from_u128(1)), Area::Message),
        };
        let fence = match space {
            Space::Directory => None,
            Space::Account(account) => {
                let claimant = Claimant { node: "kit".into(), generation: 1, nonce: [1; 16] };
                let claim = engine.claim(Slot::of(account), claimant, None).await;
                Some(claim.map_err(|error| error.to_string())?)
            }
        };
        let first = source.fresh().await?;
        Ok(Self {
            source: Box::new(source),
            instances: Mutex::new([Some(first), None]),
            turn: AtomicUsize::new(0),
            engine,
            space,
            area,
            fence,
            faults: Arc::new(Faults::none()),
            told: Mutex::default(),
            _kept: Box::new(()),
        })
    }

    /// Together with what has to live as long as it does.
    pub fn keeping(self, kept: impl Any + Send + Sync) -> Self {
        Self { _kept: Box::new(kept), ..self }
    }

    fn info(&self) -> CallInfo {
        let account = match self.space {
            Space::Directory => AccountId::from_u128(0),
            Space::Account(account) => account,
        };
        let Told { schema, migrate } = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        CallInfo { schema, migrate, ..CallInfo::new(account, TransactionId::from_u128(7)) }
    }

    /// The instance that calls reach.
    fn store(&self) -> Arc<S> {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let here = instances[self.turn.load(Ordering::Acquire)].clone();
        here.expect("an instance is put there before its turn comes")
    }

    /// Puts a fresh instance where calls will reach it, and drops what `keep` does not keep.
    async fn turn_to(&self, turn: usize, keep: bool) -> Result<()> {
        let there = |instances: &[Option<Arc<S>>; INSTANCES]| keep && instances[turn].is_some();
        if !there(&self.instances.lock().unwrap_or_else(PoisonError::into_inner)) {
            let fresh = self.source.fresh().await.map_err(wit::StoreError::Other)?;
            let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
            if !keep {
                *instances = [const { None }; INSTANCES];
            }
            instances[turn] = Some(fresh);
        }
        self.turn.store(turn, Ordering::Release);
        Ok(())
    }

    fn view(&self, txn: Option<&Txn>) -> View {
        let committed = || View::new(self.engine.clone(), self.space).gated(self.faults.clone());
        txn.map_or_else(committed, Txn::view)
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let commit = Commit {
            space: self.space,
            fence: self.fence,
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes,
            now: 0,
        };
        self.engine.commit(commit).await.map(|_| ()).map_err(failed)
    }
}

impl<S> Host for Subject<S> {
    type Txn = Txn;

    fn begin(&self) -> Txn {
        Txn::new(self.engine.clone(), self.space).gated(self.faults.clone())
    }

    async fn commit(&self, txn: Txn) -> Result<()> {
        self.write(txn.take()).await
    }

    fn set(&self, knobs: Knobs) {
        self.faults.set(knobs);
    }

    fn met(&self) -> bool {
        self.faults.met()
    }

    async fn held(&self) {
        self.faults.held().await;
    }

    fn one_call_at_a_time(&self) -> bool {
        self.source.one_call_at_a_time(&self.store())
    }

    fn handles(&self) -> usize {
        self.source.handles(&self.store())
    }

    fn schemas(&self) -> Vec<u32> {
        self.source.schemas(&self.store())
    }

    fn tell(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn linked(&self, txn: &Txn) -> Vec<String> {
        let mut names = Vec::new();
        for write in txn.take() {
            if let Write::LinkBody { name, .. } = &write {
                names.push(name.clone());
            }
            txn.write(write).expect("what was taken out fits in again");
        }
        names
    }

    async fn restart(&self) -> Result<()> {
        self.turn_to(0, false).await
    }

    async fn other_instance(&self) -> Result<()> {
        self.turn_to((self.turn.load(Ordering::Acquire) + 1) % INSTANCES, true).await
    }

    async fn stored(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut from = Bytes::new();
        loop {
            let scan = self.engine.scan(self.space, self.area, from, Bytes::new(), LOOK);
            let page = scan.await.map_err(failed)?;
            found.extend(page.items.into_iter().map(|(key, value)| (key.into(), value.into())));
            match found.last() {
                Some((key, _)) if page.more => from = [&key[..], &[0]].concat().into(),
                Some(_) | None => return Ok(found),
            }
        }
    }

    async fn tamper(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        let key = Key { area: self.area, octets: key.into() };
        self.write(vec![match value {
            Some(value) => Write::Put(key, value.into()),
            None => Write::Delete(key),
        }])
        .await
    }

    async fn unlink(&self, name: &str) -> Result<()> {
        self.write(vec![Write::UnlinkBody { name: name.to_owned() }]).await
    }
}

impl<R: Row, S> RecordSubject<R> for Subject<S>
where
    S: Records<R::Core, R::CoreName>,
{
    async fn create(&self, txn: &Txn) -> Result<()> {
        let store = self.store();
        store.create(self.info(), txn).await.map_err(wit_error)
    }

    async fn drop(&self, txn: &Txn) -> Result<()> {
        let store = self.store();
        store.drop_all(self.info(), txn).await.map_err(wit_error)
    }

    async fn insert(&self, txn: &Txn, rows: Vec<R>) -> Result<()> {
        let rows = rows.into_iter().map(R::to_core).collect();
        let store = self.store();
        store.insert(self.info(), txn, rows).await.map_err(wit_error)
    }

    async fn update(&self, txn: &Txn, rows: Vec<R>) -> Result<()> {
        let rows = rows.into_iter().map(R::to_core).collect();
        let store = self.store();
        store.update(self.info(), txn, rows).await.map_err(wit_error)
    }

    async fn delete(&self, txn: &Txn, names: Vec<R::Name>) -> Result<()> {
        let names = names.into_iter().map(R::name_to_core).collect();
        let store = self.store();
        store.delete(self.info(), txn, names).await.map_err(wit_error)
    }

    async fn select(&self, txn: Option<&Txn>, names: Vec<R::Name>) -> Result<Vec<Option<R>>> {
        let names = names.into_iter().map(R::name_to_core).collect();
        let store = self.store();
        let rows = store.select(self.info(), &self.view(txn), names).await.map_err(wit_error)?;
        Ok(rows.into_iter().map(|row| row.map(R::from_core)).collect())
    }

    async fn list(
        &self,
        txn: Option<&Txn>,
        after: Option<R::Name>,
        limit: u32,
    ) -> Result<wit::Page<R>> {
        let after = after.map(R::name_to_core);
        let store = self.store();
        let page = store.list(self.info(), &self.view(txn), after, limit).await;
        let page = page.map_err(wit_error)?;
        Ok(wit::Page { rows: page.rows.into_iter().map(R::from_core).collect(), more: page.more })
    }

    async fn check(
        &self,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<wit::CheckPage> {
        let store = self.store();
        let page = store.check(self.info(), txn, after, repair).await.map_err(wit_error)?;
        Ok(convert::wit_check_page(page))
    }
}

fn mailbox(id: wit::Id) -> MailboxId {
    MailboxId(convert::id(id))
}

impl<S: Messages> MessageSubject for Subject<S> {
    async fn create(&self, txn: &Txn) -> Result<()> {
        let store = self.store();
        store.create(self.info(), txn).await.map_err(wit_error)
    }

    async fn drop(&self, txn: &Txn, id: wit::Id) -> Result<()> {
        self.store().drop_mailbox(self.info(), txn, mailbox(id)).await.map_err(wit_error)
    }

    async fn insert(&self, txn: &Txn, messages: Vec<(wit::Message, Vec<u8>)>) -> Result<()> {
        let (mut rows, mut bodies) = (Vec::new(), Vec::new());
        for (row, octets) in messages {
            rows.push(convert::message(row));
            let body = self.engine.new_body(self.space, Bytes::from(octets)).await;
            bodies.push(body.map_err(failed)?);
        }
        let store = self.store();
        store.insert(self.info(), txn, rows, bodies).await.map_err(wit_error)
    }

    async fn update(&self, txn: &Txn, changes: Vec<wit::MessageChange>) -> Result<()> {
        let changes = changes.into_iter().map(convert::change).collect();
        let store = self.store();
        store.update(self.info(), txn, changes).await.map_err(wit_error)
    }

    async fn delete(&self, txn: &Txn, places: Vec<wit::MessagePlace>) -> Result<()> {
        let places = places.into_iter().map(convert::place).collect();
        let store = self.store();
        store.delete(self.info(), txn, places).await.map_err(wit_error)
    }

    async fn select(
        &self,
        txn: Option<&Txn>,
        places: Vec<wit::MessagePlace>,
    ) -> Result<Vec<Option<wit::Message>>> {
        let places = places.into_iter().map(convert::place).collect();
        let store = self.store();
        let rows = store.select(self.info(), &self.view(txn), places).await.map_err(wit_error)?;
        Ok(rows.into_iter().map(|row| row.map(convert::wit_message)).collect())
    }

    async fn list(
        &self,
        txn: Option<&Txn>,
        id: wit::Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<wit::Page<wit::Message>> {
        // The node has no UID zero; after none is the same.
        let after = after.and_then(Uid::new);
        let store = self.store();
        let page = store.list(self.info(), &self.view(txn), mailbox(id), after, limit).await;
        let page = page.map_err(wit_error)?;
        Ok(wit::Page {
            rows: page.rows.into_iter().map(convert::wit_message).collect(),
            more: page.more,
        })
    }

    async fn fetch(
        &self,
        txn: Option<&Txn>,
        id: wit::Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Vec<u8>>> {
        let (view, store) = (self.view(txn), self.store());
        let mut parts = Parts::new(at, max);
        loop {
            let (at, left) = parts.next();
            let part = store.fetch(self.info(), &view, mailbox(id), name.clone(), at, left);
            match part.await.map_err(wit_error)? {
                None => return Ok(None),
                Some(Part::Octets(octets)) => {
                    if parts.add(&octets) {
                        return Ok(Some(parts.found()));
                    }
                }
                Some(Part::Body(body)) => {
                    let octets = view.read_body(&body, at, left).await.map_err(failed)?;
                    parts.add(&octets);
                    return Ok(Some(parts.found()));
                }
            }
        }
    }

    async fn settle(&self, id: wit::Id, names: Vec<String>, deleted: bool) -> Result<()> {
        let (view, store) = (self.view(None), self.store());
        let settled = store.settle(self.info(), &view, mailbox(id), names.clone());
        settled.await.map_err(wit_error)?;
        if deleted {
            let unlink = |name| Write::UnlinkBody { name };
            self.write(names.into_iter().map(unlink).collect()).await?;
        }
        Ok(())
    }

    async fn check(
        &self,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<wit::CheckPage> {
        let store = self.store();
        let page = store.check(self.info(), txn, after, repair).await.map_err(wit_error)?;
        Ok(convert::wit_check_page(page))
    }
}
