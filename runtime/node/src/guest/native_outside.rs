//! The plainest store whose medium is outside, for tests of what lies above: rows as
//! [`Plain`] keeps them, octets in a map that outlives the store, as files would.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::records::{MessageChange, MessageRow};
use postroom_core::types::{Flags, MailboxId, Uid};

use super::native_plain::{Plain, at, encode, place_key, storage};
use super::{CallInfo, CheckPage, Medium, MessagePlace, Messages, Page, Part, Stores};
use crate::storage::{Area, Body, Txn, View, Write};

/// Most messages of a mailbox that it looks at when it is told of some.
const MAX_LOOKED_AT: u32 = 1_000;

/// A message's octets as others see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The octets.
    pub octets: Bytes,
    /// The flags in its name; `None`: it is not in place yet.
    pub flags: Option<Flags>,
}

/// What the medium holds, by message name.
pub type Files = Arc<Mutex<BTreeMap<String, File>>>;

/// The store.
pub struct Outside {
    plain: Arc<Plain>,
    /// The medium.
    pub files: Files,
    /// Calls of `settle` that fail from now on, because the medium is away.
    pub failing_settles: AtomicUsize,
    /// Most octets that one call of `fetch` answers; 0: all that it is asked for.
    pub part_octets: AtomicUsize,
}

impl Outside {
    /// A store for all kinds of record, the messages' octets in these files; and its two parts.
    pub fn stores(files: Files) -> (Stores, Arc<Plain>, Arc<Self>) {
        let (stores, plain) = Plain::stores();
        let outside = Arc::new(Self {
            plain: plain.clone(),
            files,
            failing_settles: AtomicUsize::new(0),
            part_octets: AtomicUsize::new(0),
        });
        (Stores { messages: outside.clone(), ..stores }, plain, outside)
    }

    /// What the medium holds, in the order of names, which ascend with time.
    pub fn holds(&self) -> Vec<(String, Option<Flags>)> {
        let text = |octets: &Bytes| String::from_utf8_lossy(octets).into_owned();
        let files = self.files.lock().unwrap();
        files.values().map(|file| (text(&file.octets), file.flags.clone())).collect()
    }

    async fn put_row(&self, txn: &Txn, row: &MessageRow) -> Result<(), StoreError> {
        let key = place_key(&MessagePlace { mailbox: row.mailbox, uid: row.uid });
        txn.write(Write::Put(at(Area::Message, key), encode(row))).map_err(storage)
    }
}

#[async_trait]
impl Messages for Outside {
    fn medium(&self) -> Medium {
        Medium::Outside
    }

    async fn create(&self, call: CallInfo, txn: &Txn) -> Result<(), StoreError> {
        Messages::create(&*self.plain, call, txn).await
    }

    async fn drop_mailbox(
        &self,
        call: CallInfo,
        txn: &Txn,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        self.plain.drop_mailbox(call, txn, mailbox).await
    }

    async fn insert(
        &self,
        _: CallInfo,
        txn: &Txn,
        rows: Vec<MessageRow>,
        bodies: Vec<Body>,
    ) -> Result<(), StoreError> {
        for (row, body) in rows.iter().zip(bodies) {
            let octets = txn.view().read_body(&body, 0, body.size()).await.map_err(storage)?;
            let file = File { octets, flags: None };
            self.files.lock().unwrap().insert(row.name.clone(), file);
            self.put_row(txn, row).await?;
        }
        Ok(())
    }

    async fn update(
        &self,
        call: CallInfo,
        txn: &Txn,
        changes: Vec<MessageChange>,
    ) -> Result<(), StoreError> {
        Messages::update(&*self.plain, call, txn, changes).await
    }

    async fn delete(
        &self,
        call: CallInfo,
        txn: &Txn,
        places: Vec<MessagePlace>,
    ) -> Result<(), StoreError> {
        Messages::delete(&*self.plain, call, txn, places).await
    }

    async fn select(
        &self,
        call: CallInfo,
        view: &View,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<MessageRow>>, StoreError> {
        Messages::select(&*self.plain, call, view, places).await
    }

    async fn list(
        &self,
        call: CallInfo,
        view: &View,
        mailbox: MailboxId,
        after: Option<Uid>,
        limit: u32,
    ) -> Result<Page<MessageRow>, StoreError> {
        Messages::list(&*self.plain, call, view, mailbox, after, limit).await
    }

    async fn fetch(
        &self,
        _: CallInfo,
        _: &View,
        _: MailboxId,
        name: String,
        start: u64,
        max: u64,
    ) -> Result<Option<Part>, StoreError> {
        let files = self.files.lock().unwrap();
        let Some(file) = files.get(&name) else { return Ok(None) };
        let max = match self.part_octets.load(Ordering::SeqCst) as u64 {
            0 => max,
            most => max.min(most),
        };
        let size = file.octets.len() as u64;
        let (start, end) = (start.min(size), start.saturating_add(max).min(size));
        Ok(Some(Part::Octets(file.octets.slice(start as usize..end as usize))))
    }

    async fn settle(
        &self,
        call: CallInfo,
        view: &View,
        mailbox: MailboxId,
        names: Vec<String>,
    ) -> Result<(), StoreError> {
        let less = |left: usize| left.checked_sub(1);
        if self.failing_settles.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(StoreError::Unavailable("the test wants it so".into()));
        }
        let page = self.list(call, view, mailbox, None, MAX_LOOKED_AT).await?;
        assert!(!page.more, "a small test");
        self.plain.settled.fetch_add(names.len(), Ordering::SeqCst);
        let mut files = self.files.lock().unwrap();
        for name in names {
            match (page.rows.iter().find(|row| row.name == name), files.get_mut(&name)) {
                (Some(row), Some(file)) => file.flags = Some(row.flags.clone()),
                (Some(_), None) => return Err(StoreError::Damaged(format!("{name} has no file"))),
                (None, _) => drop(files.remove(&name)),
            }
        }
        Ok(())
    }

    async fn check(
        &self,
        call: CallInfo,
        txn: &Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage, StoreError> {
        Messages::check(&*self.plain, call, txn, after, repair).await
    }
}
