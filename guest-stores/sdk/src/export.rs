//! The component's side of the WIT: generated handles implement the traits of [`crate::host`], and a
//! store type becomes the exports of the kinds that it keeps.
#![allow(missing_docs)]

use std::marker::PhantomData;

use crate::bindings::domains::postroom::host::storage;
use crate::bindings::{domains, hooks, mailboxes, messages, users};
use crate::check::CheckAsk;
use crate::error::{Result, StorageError};
use crate::hook::Hooks;
use crate::host::{Body, ScanPage, Txn, View};
use crate::records::{
    Call, CheckPage, Domain, Id, Mailbox, Message, MessageChange, MessagePlace, User,
};
use crate::store::{Messages, NewMessage, PageAsk, Part, Records};

impl View for storage::View {
    type Body = storage::Body;

    async fn get_many(
        &self,
        keys: Vec<Vec<u8>>,
    ) -> std::result::Result<Vec<Option<Vec<u8>>>, StorageError> {
        storage::View::get_many(self, keys).await
    }

    async fn scan(
        &self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        items: u32,
        octets: u32,
    ) -> std::result::Result<ScanPage, StorageError> {
        let page = storage::View::scan(self, start, end, items, octets).await?;
        Ok(ScanPage { items: page.items, more: page.more })
    }

    async fn get_body(
        &self,
        name: String,
    ) -> std::result::Result<Option<storage::Body>, StorageError> {
        storage::View::get_body(self, name).await
    }
}

impl Txn for storage::Txn {
    type Body = storage::Body;
    type View = storage::View;

    fn view(&self) -> storage::View {
        storage::Txn::view(self)
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> std::result::Result<(), StorageError> {
        storage::Txn::put(self, &key, &value)
    }

    fn delete(&self, key: Vec<u8>) -> std::result::Result<(), StorageError> {
        storage::Txn::delete(self, &key)
    }

    fn delete_range(
        &self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
    ) -> std::result::Result<(), StorageError> {
        storage::Txn::delete_range(self, &start, end.as_deref())
    }

    fn put_body(&self, name: String, body: storage::Body) -> std::result::Result<(), StorageError> {
        storage::Txn::put_body(self, &name, body)
    }
}

impl Body for storage::Body {
    fn size(&self) -> u64 {
        storage::Body::size(self)
    }

    fn digest(&self) -> Vec<u8> {
        storage::Body::digest(self)
    }

    async fn read(&self, at: u64, max: u32) -> std::result::Result<Vec<u8>, StorageError> {
        storage::Body::read(self, at, max).await
    }
}

macro_rules! records {
    ($glue:ident, $kind:ident, $row:ty, $name:ty, $page:ident) => {
        /// Exports one kind of record.
        pub struct $glue<S>(PhantomData<S>);

        impl<S: Records<$row> + Default + 'static> $kind::exports::postroom::store::$kind::Guest
            for $glue<S>
        {
            async fn create(c: Call, t: storage::Txn) -> Result<()> {
                S::default().create(&c, &t).await
            }

            async fn drop(c: Call, t: storage::Txn) -> Result<()> {
                Records::drop(&S::default(), &c, &t).await
            }

            async fn insert(c: Call, t: storage::Txn, rows: Vec<$row>) -> Result<()> {
                S::default().insert(&c, &t, rows).await
            }

            async fn update(c: Call, t: storage::Txn, rows: Vec<$row>) -> Result<()> {
                S::default().update(&c, &t, rows).await
            }

            async fn delete(c: Call, t: storage::Txn, names: Vec<$name>) -> Result<()> {
                S::default().delete(&c, &t, names).await
            }

            async fn select(
                c: Call,
                v: storage::View,
                names: Vec<$name>,
            ) -> Result<Vec<Option<$row>>> {
                S::default().select(&c, &v, names).await
            }

            async fn list(
                c: Call,
                v: storage::View,
                after: Option<$name>,
                limit: u32,
            ) -> Result<$kind::exports::postroom::store::$kind::$page> {
                let page = S::default().list(&c, &v, PageAsk { after, limit }).await?;
                Ok($kind::exports::postroom::store::$kind::$page {
                    rows: page.rows,
                    more: page.more,
                    extra: Vec::new(),
                })
            }

            async fn check(
                c: Call,
                t: storage::Txn,
                after: Option<String>,
                repair: bool,
            ) -> Result<CheckPage> {
                S::default().check(&c, &t, CheckAsk { after, repair }).await
            }
        }
    };
}

records!(DomainStore, domains, Domain, String, DomainPage);
records!(UserStore, users, User, String, UserPage);
records!(MailboxStore, mailboxes, Mailbox, Id, MailboxPage);

/// Exports messages.
pub struct MessageStore<S>(PhantomData<S>);

use messages::exports::postroom::store::messages as wit;

impl<S: Messages + Default + 'static> wit::Guest for MessageStore<S> {
    async fn create(c: Call, t: storage::Txn) -> Result<()> {
        S::default().create(&c, &t).await
    }

    async fn drop(c: Call, t: storage::Txn, mailbox: Id) -> Result<()> {
        Messages::drop(&S::default(), &c, &t, mailbox).await
    }

    async fn insert(c: Call, t: storage::Txn, messages: Vec<wit::NewMessage>) -> Result<()> {
        let messages =
            messages.into_iter().map(|new| NewMessage { row: new.row, body: new.body }).collect();
        S::default().insert(&c, &t, messages).await
    }

    async fn update(c: Call, t: storage::Txn, changes: Vec<MessageChange>) -> Result<()> {
        S::default().update(&c, &t, changes).await
    }

    async fn delete(c: Call, t: storage::Txn, places: Vec<MessagePlace>) -> Result<()> {
        S::default().delete(&c, &t, places).await
    }

    async fn select(
        c: Call,
        v: storage::View,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<Message>>> {
        S::default().select(&c, &v, places).await
    }

    async fn list(
        c: Call,
        v: storage::View,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<wit::MessagePage> {
        let page = S::default().list(&c, &v, mailbox, PageAsk { after, limit }).await?;
        Ok(wit::MessagePage { rows: page.rows, more: page.more, extra: Vec::new() })
    }

    async fn fetch(
        c: Call,
        v: storage::View,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<wit::Part>> {
        let part = S::default().fetch(&c, &v, mailbox, name, at, max).await?;
        Ok(part.map(|part| match part {
            Part::Octets(octets) => wit::Part::Octets(octets),
            Part::Body(body) => wit::Part::Body(body),
        }))
    }

    async fn settle(c: Call, v: storage::View, mailbox: Id, names: Vec<String>) -> Result<()> {
        S::default().settle(&c, &v, mailbox, names).await
    }

    async fn check(
        c: Call,
        t: storage::Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        S::default().check(&c, &t, CheckAsk { after, repair }).await
    }
}

/// Exports hooks.
pub struct DeliveryHooks<S>(PhantomData<S>);

use hooks::exports::postroom::store::hooks as hook;

impl<S: Hooks + Default + 'static> hook::Guest for DeliveryHooks<S> {
    async fn before_delivery(
        c: Call,
        d: hook::Delivery,
        message: storage::Body,
    ) -> Result<hook::Verdict> {
        S::default().before_delivery(&c, &d, &message).await
    }

    async fn after_delivery(c: Call, d: hook::Delivered) -> Result<()> {
        S::default().after_delivery(&c, &d).await
    }
}
