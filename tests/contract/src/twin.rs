//! The native twin of a component: the same store logic, linked into the process, over the node's
//! storage and behind the node's own traits. A benchmark holds a component against it, and it shows
//! that a store's logic needs no sandbox to be right.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, UserRow};
use postroom_core::types::{MailboxId, Uid};
use postroom_guest as guest;
use postroom_guest::{ScanPage, StorageError};
use postroom_node::conformance::convert::{self, Row, error, wit_id};
use postroom_node::guest::{
    CallInfo, CheckPage, MessagePlace, Messages, Page, Part, Records, Stores,
};
use postroom_node::storage as host;
use postroom_node::storage::{Area, Key, ScanLimit, Write};

/// A store of type `S`, natively.
#[derive(Clone, Copy, Debug, Default)]
pub struct Twin<S>(pub S);

impl<S> Twin<S>
where
    S: guest::Records<guest::Domain>
        + guest::Records<guest::User>
        + guest::Records<guest::Mailbox>
        + guest::Messages
        + 'static,
{
    /// A store for every kind of record, as a message store is made with.
    pub fn stores(store: S) -> Stores {
        let twin = Arc::new(Self(store));
        Stores {
            domains: twin.clone(),
            users: twin.clone(),
            mailboxes: twin.clone(),
            messages: twin,
        }
    }
}

/// A view of one kind's keys.
struct TwinView {
    view: host::View,
    area: Area,
}

/// A transaction on one kind's keys.
struct TwinTxn {
    txn: host::Txn,
    area: Area,
}

/// A body and where it is read.
struct TwinBody {
    view: host::View,
    body: host::Body,
}

fn storage_error(error: host::StorageError) -> StorageError {
    let text = error.to_string();
    match error {
        host::StorageError::Limit(_) => StorageError::Limit(text),
        host::StorageError::Unavailable(_) => StorageError::Unavailable(text),
        host::StorageError::Damaged(_) => StorageError::Damaged(text),
        host::StorageError::Fenced
        | host::StorageError::HeadMoved { .. }
        | host::StorageError::Conflict
        | host::StorageError::AlreadyDone(_)
        | host::StorageError::WentBack(_)
        | host::StorageError::UnknownOutcome(_) => StorageError::Other(text),
    }
}

impl guest::View for TwinView {
    type Body = TwinBody;

    async fn get_many(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let key = |octets: Vec<u8>| Key { area: self.area, octets: octets.into() };
        let values = self.view.get_many(keys.into_iter().map(key).collect()).await;
        let values = values.map_err(storage_error)?;
        Ok(values.into_iter().map(|value| value.map(Vec::from)).collect())
    }

    async fn scan(
        &self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        items: u32,
        octets: u32,
    ) -> Result<ScanPage, StorageError> {
        let limit = ScanLimit { items: items as usize, octets: octets as usize };
        let (start, end) = (Bytes::from(start), Bytes::from(end.unwrap_or_default()));
        let page = self.view.scan(self.area, start, end, limit).await.map_err(storage_error)?;
        let items = page.items.into_iter().map(|(key, value)| (key.into(), value.into()));
        Ok(ScanPage { items: items.collect(), more: page.more })
    }

    async fn get_body(&self, name: String) -> Result<Option<TwinBody>, StorageError> {
        let body = self.view.body(&name).await.map_err(storage_error)?;
        Ok(body.map(|body| TwinBody { view: self.view.clone(), body }))
    }
}

impl guest::Txn for TwinTxn {
    type Body = TwinBody;
    type View = TwinView;

    fn view(&self) -> TwinView {
        TwinView { view: self.txn.view(), area: self.area }
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StorageError> {
        let key = Key { area: self.area, octets: key.into() };
        self.txn.write(Write::Put(key, value.into())).map_err(storage_error)
    }

    fn delete(&self, key: Vec<u8>) -> Result<(), StorageError> {
        let key = Key { area: self.area, octets: key.into() };
        self.txn.write(Write::Delete(key)).map_err(storage_error)
    }

    fn delete_range(&self, start: Vec<u8>, end: Option<Vec<u8>>) -> Result<(), StorageError> {
        let (start, end) = (start.into(), end.unwrap_or_default().into());
        self.txn.write(Write::DeleteRange { area: self.area, start, end }).map_err(storage_error)
    }

    fn put_body(&self, name: String, body: TwinBody) -> Result<(), StorageError> {
        self.txn.write(Write::LinkBody { name, body: body.body }).map_err(storage_error)
    }
}

impl guest::Body for TwinBody {
    fn size(&self) -> u64 {
        self.body.size()
    }

    fn digest(&self) -> Vec<u8> {
        self.body.digest().to_vec()
    }

    async fn read(&self, at: u64, max: u32) -> Result<Vec<u8>, StorageError> {
        let octets = self.view.read_body(&self.body, at, max.into()).await;
        octets.map(Vec::from).map_err(storage_error)
    }
}

fn call(info: CallInfo) -> guest::Call {
    guest::Call {
        account: wit_id(info.account.0),
        transaction: wit_id(info.transaction.0),
        extra: Vec::new(),
    }
}

macro_rules! records {
    ($row:ty, $core:ty, $name:ty, $area:expr) => {
        #[async_trait]
        impl<S: guest::Records<$row> + 'static> Records<$core, $name> for Twin<S> {
            async fn create(&self, info: CallInfo, txn: &host::Txn) -> Result<(), StoreError> {
                let txn = TwinTxn { txn: txn.clone(), area: $area };
                self.0.create(&call(info), &txn).await.map_err(error)
            }

            async fn drop_all(&self, info: CallInfo, txn: &host::Txn) -> Result<(), StoreError> {
                let txn = TwinTxn { txn: txn.clone(), area: $area };
                guest::Records::drop(&self.0, &call(info), &txn).await.map_err(error)
            }

            async fn insert(
                &self,
                info: CallInfo,
                txn: &host::Txn,
                rows: Vec<$core>,
            ) -> Result<(), StoreError> {
                let txn = TwinTxn { txn: txn.clone(), area: $area };
                let rows = rows.into_iter().map(<$row>::from_core).collect();
                self.0.insert(&call(info), &txn, rows).await.map_err(error)
            }

            async fn update(
                &self,
                info: CallInfo,
                txn: &host::Txn,
                rows: Vec<$core>,
            ) -> Result<(), StoreError> {
                let txn = TwinTxn { txn: txn.clone(), area: $area };
                let rows = rows.into_iter().map(<$row>::from_core).collect();
                self.0.update(&call(info), &txn, rows).await.map_err(error)
            }

            async fn delete(
                &self,
                info: CallInfo,
                txn: &host::Txn,
                names: Vec<$name>,
            ) -> Result<(), StoreError> {
                let txn = TwinTxn { txn: txn.clone(), area: $area };
                let names = names.into_iter().map(<$row>::name_from_core).collect();
                self.0.delete(&call(info), &txn, names).await.map_err(error)
            }

            async fn select(
                &self,
                info: CallInfo,
                view: &host::View,
                names: Vec<$name>,
            ) -> Result<Vec<Option<$core>>, StoreError> {
                let view = TwinView { view: view.clone(), area: $area };
                let names = names.into_iter().map(<$row>::name_from_core).collect();
                let rows = self.0.select(&call(info), &view, names).await.map_err(error)?;
                Ok(rows.into_iter().map(|row| row.map(<$row>::to_core)).collect())
            }

            async fn list(
                &self,
                info: CallInfo,
                view: &host::View,
                after: Option<$name>,
                limit: u32,
            ) -> Result<Page<$core>, StoreError> {
                let view = TwinView { view: view.clone(), area: $area };
                let after = after.map(<$row>::name_from_core);
                let page = self
                    .0
                    .list(&call(info), &view, guest::PageAsk { after, limit })
                    .await
                    .map_err(error)?;
                let rows = page.rows.into_iter().map(<$row>::to_core).collect();
                Ok(Page { rows, more: page.more })
            }

            async fn check(
                &self,
                info: CallInfo,
                txn: &host::Txn,
                after: Option<String>,
                repair: bool,
            ) -> Result<CheckPage, StoreError> {
                let txn = TwinTxn { txn: txn.clone(), area: $area };
                let page = self
                    .0
                    .check(&call(info), &txn, guest::CheckAsk { after, repair })
                    .await
                    .map_err(error)?;
                Ok(convert::check_page(page))
            }
        }
    };
}

records!(guest::Domain, DomainRow, String, Area::Domain);
records!(guest::User, UserRow, String, Area::User);
records!(guest::Mailbox, MailboxRow, MailboxId, Area::Mailbox);

const AREA: Area = Area::Message;

#[async_trait]
impl<S: guest::Messages + 'static> Messages for Twin<S> {
    async fn create(&self, info: CallInfo, txn: &host::Txn) -> Result<(), StoreError> {
        let txn = TwinTxn { txn: txn.clone(), area: AREA };
        self.0.create(&call(info), &txn).await.map_err(error)
    }

    async fn drop_mailbox(
        &self,
        info: CallInfo,
        txn: &host::Txn,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        let txn = TwinTxn { txn: txn.clone(), area: AREA };
        let mailbox = wit_id(mailbox.0);
        guest::Messages::drop(&self.0, &call(info), &txn, mailbox).await.map_err(error)
    }

    async fn insert(
        &self,
        info: CallInfo,
        txn: &host::Txn,
        rows: Vec<MessageRow>,
        bodies: Vec<host::Body>,
    ) -> Result<(), StoreError> {
        let view = txn.view();
        let txn = TwinTxn { txn: txn.clone(), area: AREA };
        let new = |(row, body)| guest::NewMessage {
            row: convert::wit_message(row),
            body: TwinBody { view: view.clone(), body },
        };
        let messages = rows.into_iter().zip(bodies).map(new).collect();
        self.0.insert(&call(info), &txn, messages).await.map_err(error)
    }

    async fn update(
        &self,
        info: CallInfo,
        txn: &host::Txn,
        changes: Vec<MessageChange>,
    ) -> Result<(), StoreError> {
        let txn = TwinTxn { txn: txn.clone(), area: AREA };
        let changes = changes.into_iter().map(convert::wit_change).collect();
        self.0.update(&call(info), &txn, changes).await.map_err(error)
    }

    async fn delete(
        &self,
        info: CallInfo,
        txn: &host::Txn,
        places: Vec<MessagePlace>,
    ) -> Result<(), StoreError> {
        let txn = TwinTxn { txn: txn.clone(), area: AREA };
        let places = places.into_iter().map(convert::wit_place).collect();
        self.0.delete(&call(info), &txn, places).await.map_err(error)
    }

    async fn select(
        &self,
        info: CallInfo,
        view: &host::View,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<MessageRow>>, StoreError> {
        let view = TwinView { view: view.clone(), area: AREA };
        let places = places.into_iter().map(convert::wit_place).collect();
        let rows = self.0.select(&call(info), &view, places).await.map_err(error)?;
        Ok(rows.into_iter().map(|row| row.map(convert::message)).collect())
    }

    async fn list(
        &self,
        info: CallInfo,
        view: &host::View,
        mailbox: MailboxId,
        after: Option<Uid>,
        limit: u32,
    ) -> Result<Page<MessageRow>, StoreError> {
        let view = TwinView { view: view.clone(), area: AREA };
        let (mailbox, after) = (wit_id(mailbox.0), after.map(Uid::get));
        let page = self
            .0
            .list(&call(info), &view, mailbox, guest::PageAsk { after, limit })
            .await
            .map_err(error)?;
        let rows = page.rows.into_iter().map(convert::message).collect();
        Ok(Page { rows, more: page.more })
    }

    async fn fetch(
        &self,
        info: CallInfo,
        view: &host::View,
        mailbox: MailboxId,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Part>, StoreError> {
        let view = TwinView { view: view.clone(), area: AREA };
        let mailbox = wit_id(mailbox.0);
        let part = self.0.fetch(&call(info), &view, mailbox, name, at, max).await.map_err(error)?;
        Ok(part.map(|part| match part {
            guest::Part::Octets(octets) => Part::Octets(octets.into()),
            guest::Part::Body(body) => Part::Body(body.body),
        }))
    }

    async fn settle(
        &self,
        info: CallInfo,
        view: &host::View,
        mailbox: MailboxId,
        names: Vec<String>,
    ) -> Result<(), StoreError> {
        let view = TwinView { view: view.clone(), area: AREA };
        let mailbox = wit_id(mailbox.0);
        self.0.settle(&call(info), &view, mailbox, names).await.map_err(error)
    }

    async fn check(
        &self,
        info: CallInfo,
        txn: &host::Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage, StoreError> {
        let txn = TwinTxn { txn: txn.clone(), area: AREA };
        let page = self
            .0
            .check(&call(info), &txn, guest::CheckAsk { after, repair })
            .await
            .map_err(error)?;
        Ok(convert::check_page(page))
    }
}
