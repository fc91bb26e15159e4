//! A store that is linked natively, over maps.

use std::future::Future;

use postroom_kit::{Host, Knobs, MessageSubject, Parts, RecordSubject};

use crate::check::CheckAsk;
use crate::error::Result;
use crate::host::{Body, Txn};
use crate::records::{Call, CheckPage, Id, Message, MessageChange, MessagePlace, Page, Record};
use crate::store::{Messages, NewMessage, PageAsk, Part, Records};
use crate::testing::{Space, SpaceBody, SpaceTxn, SpaceView};

/// A store over a space of its own.
#[derive(Debug, Default)]
pub struct Native<S> {
    /// The store.
    pub store: S,
    /// Its space.
    pub space: Space,
}

fn call() -> Call {
    Call { account: Id::from_u128(1), transaction: Id::from_u128(2), extra: Vec::new() }
}

impl<S> Native<S> {
    fn view(&self, txn: Option<&SpaceTxn>) -> SpaceView {
        txn.map_or_else(|| self.space.view(), SpaceTxn::view)
    }
}

impl<S> Host for Native<S> {
    type Txn = SpaceTxn;

    fn begin(&self) -> SpaceTxn {
        self.space.begin()
    }

    async fn commit(&self, txn: SpaceTxn) -> Result<()> {
        self.space.commit(txn);
        Ok(())
    }

    fn set(&self, knobs: Knobs) {
        self.space.set(knobs);
    }

    fn met(&self) -> bool {
        self.space.met()
    }

    fn held(&self) -> impl Future<Output = ()> {
        self.space.held()
    }

    fn handles(&self) -> usize {
        self.space.views()
    }

    fn linked(&self, txn: &SpaceTxn) -> Vec<String> {
        txn.linked()
    }

    /// A store's logic has no state of its own: there is nothing to drop.
    async fn restart(&self) -> Result<()> {
        Ok(())
    }

    async fn other_instance(&self) -> Result<()> {
        Ok(())
    }

    async fn stored(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        self.space.edit(|rows| found.extend(rows.iter().map(|(k, v)| (k.clone(), v.clone()))));
        Ok(found)
    }

    async fn tamper(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        self.space.edit(|rows| match value {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        });
        Ok(())
    }

    async fn unlink(&self, name: &str) -> Result<()> {
        self.space.unlink(name);
        Ok(())
    }
}

impl<R: Record, S: Records<R>> RecordSubject<R> for Native<S> {
    async fn create(&self, txn: &SpaceTxn) -> Result<()> {
        self.store.create(&call(), txn).await
    }

    async fn drop(&self, txn: &SpaceTxn) -> Result<()> {
        Records::drop(&self.store, &call(), txn).await
    }

    async fn insert(&self, txn: &SpaceTxn, rows: Vec<R>) -> Result<()> {
        self.store.insert(&call(), txn, rows).await
    }

    async fn update(&self, txn: &SpaceTxn, rows: Vec<R>) -> Result<()> {
        self.store.update(&call(), txn, rows).await
    }

    async fn delete(&self, txn: &SpaceTxn, names: Vec<R::Name>) -> Result<()> {
        self.store.delete(&call(), txn, names).await
    }

    async fn select(&self, txn: Option<&SpaceTxn>, names: Vec<R::Name>) -> Result<Vec<Option<R>>> {
        self.store.select(&call(), &self.view(txn), names).await
    }

    async fn list(
        &self,
        txn: Option<&SpaceTxn>,
        after: Option<R::Name>,
        limit: u32,
    ) -> Result<Page<R>> {
        self.store.list(&call(), &self.view(txn), PageAsk { after, limit }).await
    }

    async fn check(
        &self,
        txn: &SpaceTxn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        self.store.check(&call(), txn, CheckAsk { after, repair }).await
    }
}

impl<S: Messages> MessageSubject for Native<S> {
    async fn create(&self, txn: &SpaceTxn) -> Result<()> {
        self.store.create(&call(), txn).await
    }

    async fn drop(&self, txn: &SpaceTxn, mailbox: Id) -> Result<()> {
        Messages::drop(&self.store, &call(), txn, mailbox).await
    }

    async fn insert(&self, txn: &SpaceTxn, messages: Vec<(Message, Vec<u8>)>) -> Result<()> {
        let new = |(row, octets): (_, Vec<u8>)| NewMessage { row, body: SpaceBody::new(&octets) };
        self.store.insert(&call(), txn, messages.into_iter().map(new).collect()).await
    }

    async fn update(&self, txn: &SpaceTxn, changes: Vec<MessageChange>) -> Result<()> {
        self.store.update(&call(), txn, changes).await
    }

    async fn delete(&self, txn: &SpaceTxn, places: Vec<MessagePlace>) -> Result<()> {
        self.store.delete(&call(), txn, places).await
    }

    async fn select(
        &self,
        txn: Option<&SpaceTxn>,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<Message>>> {
        self.store.select(&call(), &self.view(txn), places).await
    }

    async fn list(
        &self,
        txn: Option<&SpaceTxn>,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Page<Message>> {
        self.store.list(&call(), &self.view(txn), mailbox, PageAsk { after, limit }).await
    }

    async fn fetch(
        &self,
        txn: Option<&SpaceTxn>,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Vec<u8>>> {
        let view = self.view(txn);
        let mut parts = Parts::new(at, max);
        loop {
            let (at, left) = parts.next();
            let name = name.clone();
            match self.store.fetch(&call(), &view, mailbox, name, at, left).await? {
                None => return Ok(None),
                Some(Part::Octets(octets)) => {
                    if parts.add(&octets) {
                        return Ok(Some(parts.found()));
                    }
                }
                Some(Part::Body(body)) => {
                    let start = at.min(body.size()) as usize;
                    let end = at.saturating_add(left).min(body.size()) as usize;
                    parts.add(&body.octets()[start..end]);
                    return Ok(Some(parts.found()));
                }
            }
        }
    }

    async fn settle(&self, mailbox: Id, names: Vec<String>, deleted: bool) -> Result<()> {
        self.store.settle(&call(), &self.space.view(), mailbox, names.clone()).await?;
        if deleted {
            names.iter().for_each(|name| self.space.unlink(name));
        }
        Ok(())
    }

    async fn check(
        &self,
        txn: &SpaceTxn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        self.store.check(&call(), txn, CheckAsk { after, repair }).await
    }
}
