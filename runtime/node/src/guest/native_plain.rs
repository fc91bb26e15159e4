//! The plainest store there can be, for tests of what lies above: a postcard row under each name, in
//! process, without a sandbox. It can be told to fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, UserRow};
use postroom_core::types::{MailboxId, Uid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CallInfo, CheckPage, MessagePlace, Messages, Page, Part, Records, Stores};
use crate::storage::{Area, Body, Key, ScanLimit, StorageError, Txn, View, Write};

/// The store.
#[derive(Default)]
pub struct Plain {
    /// Calls of `insert`, `update` and `delete` that fail from now on.
    pub failing_writes: AtomicUsize,
    /// Calls of `list` and `select` that were made: reads that an index answers make none.
    pub reads: AtomicUsize,
    /// Calls of `fetch` that were made.
    pub fetches: AtomicUsize,
    /// Messages of which it was told that they are settled.
    pub settled: AtomicUsize,
    /// Checks that write a row from now on, whether they may or not.
    pub writing_checks: AtomicUsize,
    /// Checks that then meet damage.
    pub damaged_checks: AtomicUsize,
    /// Messages whose octets are answered wrongly, or left out of lists, from now on.
    pub lies: AtomicUsize,
    /// What becomes of rows of messages that are inserted: as damage, or another version, has it.
    pub edit_inserted: Mutex<Option<fn(&mut MessageRow)>>,
}

impl Plain {
    /// One store for all kinds of record, and itself.
    pub fn stores() -> (Stores, Arc<Self>) {
        let plain = Arc::new(Self::default());
        let stores = Stores {
            domains: plain.clone(),
            users: plain.clone(),
            mailboxes: plain.clone(),
            messages: plain.clone(),
        };
        (stores, plain)
    }

    fn fail(&self) -> Result<(), StoreError> {
        match count_down(&self.failing_writes) {
            true => Err(StoreError::Unavailable("the test wants it so".into())),
            false => Ok(()),
        }
    }

    fn lie(&self) -> bool {
        count_down(&self.lies)
    }

    fn look(&self, txn: &Txn, area: Area) -> Result<CheckPage, StoreError> {
        if count_down(&self.writing_checks) {
            let row = Write::Put(at(area, "unasked".into()), "row".into());
            txn.write(row).map_err(storage)?;
        }
        match count_down(&self.damaged_checks) {
            true => Err(StoreError::Damaged("the test wants it so".into())),
            false => Ok(CheckPage::default()),
        }
    }
}

/// Whether one was left.
fn count_down(counter: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}

/// A record under a key.
pub trait Row: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where it is kept.
    const AREA: Area;
    /// What it is found by.
    type Name: Send + Sync + 'static;
    /// The key of a name.
    fn key(name: &Self::Name) -> Bytes;
    /// What this one is found by.
    fn name(&self) -> Self::Name;
}

macro_rules! row {
    ($row:ty, $area:expr, $name:ty, $field:ident, $key:expr) => {
        impl Row for $row {
            const AREA: Area = $area;
            type Name = $name;
            fn key(name: &Self::Name) -> Bytes {
                let key: fn(&$name) -> Vec<u8> = $key;
                key(name).into()
            }
            fn name(&self) -> Self::Name {
                self.$field.clone()
            }
        }
    };
}

row!(DomainRow, Area::Domain, String, name, |name| name.clone().into_bytes());
row!(UserRow, Area::User, String, name, |name| name.clone().into_bytes());
row!(MailboxRow, Area::Mailbox, MailboxId, id, |id| id.0.to_vec());

pub(super) fn place_key(place: &MessagePlace) -> Bytes {
    [&place.mailbox.0[..], &place.uid.get().to_be_bytes()].concat().into()
}

pub(super) fn at(area: Area, octets: Bytes) -> Key {
    Key { area, octets }
}

pub(super) fn storage(error: StorageError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

pub(super) fn encode<T: Serialize>(row: &T) -> Bytes {
    postcard::to_allocvec(row).expect("rows can be serialised").into()
}

fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(row).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn after(key: Bytes) -> Bytes {
    [&key[..], &[0]].concat().into()
}

async fn scan<T: DeserializeOwned>(
    view: &View,
    area: Area,
    start: Bytes,
    end: Bytes,
    limit: u32,
) -> Result<Page<T>, StoreError> {
    let limit = ScanLimit { items: limit as usize, octets: 1 << 20 };
    let page = view.scan(area, start, end, limit).await.map_err(storage)?;
    let rows = page.items.iter().map(|(_, row)| decode(row)).collect::<Result<_, _>>()?;
    Ok(Page { rows, more: page.more })
}

#[async_trait]
impl<R: Row> Records<R, R::Name> for Plain {
    async fn create(&self, _: CallInfo, _: &Txn) -> Result<(), StoreError> {
        Ok(())
    }

    async fn drop_all(&self, _: CallInfo, txn: &Txn) -> Result<(), StoreError> {
        let (start, end) = (Bytes::new(), Bytes::new());
        txn.write(Write::DeleteRange { area: R::AREA, start, end }).map_err(storage)
    }

    async fn insert(&self, call: CallInfo, txn: &Txn, rows: Vec<R>) -> Result<(), StoreError> {
        let names = rows.iter().map(R::name).collect();
        let there = Records::<R, R::Name>::select(self, call, &txn.view(), names).await?;
        if there.iter().any(|row: &Option<R>| row.is_some()) {
            return Err(StoreError::AlreadyExists("a record".into()));
        }
        Records::<R, R::Name>::update(self, call, txn, rows).await
    }

    async fn update(&self, _: CallInfo, txn: &Txn, rows: Vec<R>) -> Result<(), StoreError> {
        self.fail()?;
        rows.iter().try_for_each(|row| {
            let key = at(R::AREA, R::key(&row.name()));
            txn.write(Write::Put(key, encode(row))).map_err(storage)
        })
    }

    async fn delete(&self, _: CallInfo, txn: &Txn, names: Vec<R::Name>) -> Result<(), StoreError> {
        self.fail()?;
        names.iter().try_for_each(|name| {
            txn.write(Write::Delete(at(R::AREA, R::key(name)))).map_err(storage)
        })
    }

    async fn select(
        &self,
        _: CallInfo,
        view: &View,
        names: Vec<R::Name>,
    ) -> Result<Vec<Option<R>>, StoreError> {
        let keys = names.iter().map(|name| at(R::AREA, R::key(name))).collect();
        let rows = view.get_many(keys).await.map_err(storage)?;
        rows.into_iter().map(|row| row.map(|row| decode(&row)).transpose()).collect()
    }

    async fn list(
        &self,
        _: CallInfo,
        view: &View,
        name: Option<R::Name>,
        limit: u32,
    ) -> Result<Page<R>, StoreError> {
        let start = name.map_or_else(Bytes::new, |name| after(R::key(&name)));
        scan(view, R::AREA, start, Bytes::new(), limit).await
    }

    async fn check(
        &self,
        _: CallInfo,
        txn: &Txn,
        _: Option<String>,
        _: bool,
    ) -> Result<CheckPage, StoreError> {
        self.look(txn, R::AREA)
    }
}

#[async_trait]
impl Messages for Plain {
    async fn create(&self, _: CallInfo, _: &Txn) -> Result<(), StoreError> {
        Ok(())
    }

    async fn drop_mailbox(
        &self,
        _: CallInfo,
        txn: &Txn,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        self.fail()?;
        let place = |uid| place_key(&MessagePlace { mailbox, uid });
        let (start, end) = (place(Uid::MIN), after(place(Uid::MAX)));
        txn.write(Write::DeleteRange { area: Area::Message, start, end }).map_err(storage)
    }

    async fn insert(
        &self,
        _: CallInfo,
        txn: &Txn,
        rows: Vec<MessageRow>,
        bodies: Vec<Body>,
    ) -> Result<(), StoreError> {
        self.fail()?;
        assert_eq!(rows.len(), bodies.len());
        let edit = *self.edit_inserted.lock().unwrap();
        for (mut row, body) in rows.into_iter().zip(bodies) {
            if let Some(edit) = edit {
                edit(&mut row);
            }
            let key = place_key(&MessagePlace { mailbox: row.mailbox, uid: row.uid });
            txn.write(Write::Put(at(Area::Message, key), encode(&row))).map_err(storage)?;
            txn.write(Write::LinkBody { name: row.name, body }).map_err(storage)?;
        }
        Ok(())
    }

    async fn update(
        &self,
        _: CallInfo,
        txn: &Txn,
        changes: Vec<MessageChange>,
    ) -> Result<(), StoreError> {
        self.fail()?;
        let place = |one: &MessageChange| MessagePlace { mailbox: one.mailbox, uid: one.uid };
        let keys = changes.iter().map(|one| at(Area::Message, place_key(&place(one))));
        let keys: Vec<Key> = keys.collect();
        let rows = txn.view().get_many(keys.clone()).await.map_err(storage)?;
        for ((key, row), change) in keys.into_iter().zip(rows).zip(changes) {
            let row = row.ok_or_else(|| StoreError::Broken("an update of nothing".into()))?;
            let MessageChange { mailbox: _, uid: _, modseq, flags, extra } = change;
            let row = MessageRow { modseq, flags, extra, ..decode(&row)? };
            txn.write(Write::Put(key, encode(&row))).map_err(storage)?;
        }
        Ok(())
    }

    async fn delete(
        &self,
        _: CallInfo,
        txn: &Txn,
        places: Vec<MessagePlace>,
    ) -> Result<(), StoreError> {
        self.fail()?;
        places.iter().try_for_each(|place| {
            txn.write(Write::Delete(at(Area::Message, place_key(place)))).map_err(storage)
        })
    }

    async fn select(
        &self,
        _: CallInfo,
        view: &View,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<MessageRow>>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let keys = places.iter().map(|place| at(Area::Message, place_key(place))).collect();
        let rows = view.get_many(keys).await.map_err(storage)?;
        rows.into_iter().map(|row| row.map(|row| decode(&row)).transpose()).collect()
    }

    async fn list(
        &self,
        _: CallInfo,
        view: &View,
        mailbox: MailboxId,
        uid: Option<Uid>,
        limit: u32,
    ) -> Result<Page<MessageRow>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let place = |uid| place_key(&MessagePlace { mailbox, uid });
        let start = uid.map_or_else(|| place(Uid::MIN), |uid| after(place(uid)));
        let mut page: Page<MessageRow> =
            scan(view, Area::Message, start, after(place(Uid::MAX)), limit).await?;
        if !page.rows.is_empty() && self.lie() {
            page.rows.remove(0);
        }
        Ok(page)
    }

    async fn fetch(
        &self,
        _: CallInfo,
        view: &View,
        _: MailboxId,
        name: String,
        _: u64,
        _: u64,
    ) -> Result<Option<Part>, StoreError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        if self.lie() {
            return Ok(Some(Part::Octets(Bytes::from_static(b"somebody else's mail"))));
        }
        Ok(view.body(&name).await.map_err(storage)?.map(Part::Body))
    }

    async fn settle(
        &self,
        _: CallInfo,
        _: &View,
        _: MailboxId,
        names: Vec<String>,
    ) -> Result<(), StoreError> {
        self.fail()?;
        self.settled.fetch_add(names.len(), Ordering::SeqCst);
        Ok(())
    }

    async fn check(
        &self,
        _: CallInfo,
        txn: &Txn,
        _: Option<String>,
        _: bool,
    ) -> Result<CheckPage, StoreError> {
        self.look(txn, Area::Message)
    }
}
