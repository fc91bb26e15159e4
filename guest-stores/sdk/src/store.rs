//! What a store implements: the verbs of each kind of record. The promises are those of the WIT.

use std::future::Future;

use crate::check::CheckAsk;
use crate::error::Result;
use crate::host::{MaybeSend, MaybeSync, Txn, View};
use crate::records::{Call, CheckPage, Id, Message, MessageChange, MessagePlace, Page, Record};

/// What a list is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageAsk<N> {
    /// Rows after this one; `None`: from the first.
    pub after: Option<N>,
    /// At most so many.
    pub limit: u32,
}

/// What a select found, in the order asked.
pub type Found<R> = Vec<Option<R>>;

/// Messages to add in a transaction.
pub type New<T> = Vec<NewMessage<<T as Txn>::Body>>;

/// A message to add, with its octets.
#[derive(Clone, Debug)]
pub struct NewMessage<B> {
    /// Its row.
    pub row: Message,
    /// Its octets.
    pub body: B,
}

/// What a fetch found.
#[derive(Clone, Debug)]
pub enum Part<B> {
    /// Octets of the range, from its first on.
    Octets(Vec<u8>),
    /// The whole body, of which the host takes the range itself.
    Body(B),
}

/// Keeps the records of one kind: [`crate::Domain`], [`crate::User`] or [`crate::Mailbox`].
pub trait Records<R: Record>: MaybeSend + MaybeSync {
    /// Prepares the space. Repeatable. A store on host storage has nothing to prepare.
    fn create<T: Txn>(&self, call: &Call, txn: &T) -> impl Future<Output = Result<()>> + MaybeSend {
        let _ = (call, txn);
        async { Ok(()) }
    }

    /// Removes all. Repeatable.
    fn drop<T: Txn>(&self, call: &Call, txn: &T) -> impl Future<Output = Result<()>> + MaybeSend;

    /// Adds rows, all or (`already-exists`) none.
    fn insert<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        rows: Vec<R>,
    ) -> impl Future<Output = Result<()>> + MaybeSend;

    /// Replaces rows, all or (`not-found`) none.
    fn update<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        rows: Vec<R>,
    ) -> impl Future<Output = Result<()>> + MaybeSend;

    /// Removes those that are there.
    fn delete<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        names: Vec<R::Name>,
    ) -> impl Future<Output = Result<()>> + MaybeSend;

    /// The rows of these names, in their order.
    fn select<V: View>(
        &self,
        call: &Call,
        view: &V,
        names: Vec<R::Name>,
    ) -> impl Future<Output = Result<Found<R>>> + MaybeSend;

    /// Rows after a name, ascending.
    fn list<V: View>(
        &self,
        call: &Call,
        view: &V,
        ask: PageAsk<R::Name>,
    ) -> impl Future<Output = Result<Page<R>>> + MaybeSend;

    /// Looks at what is stored, and mends it where `repair` says so.
    fn check<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        ask: CheckAsk,
    ) -> impl Future<Output = Result<CheckPage>> + MaybeSend;
}

/// Keeps messages.
pub trait Messages: MaybeSend + MaybeSync {
    /// Prepares the account. Repeatable. A store on host storage has nothing to prepare.
    fn create<T: Txn>(&self, call: &Call, txn: &T) -> impl Future<Output = Result<()>> + MaybeSend {
        let _ = (call, txn);
        async { Ok(()) }
    }

    /// Removes the messages of a mailbox. Repeatable.
    fn drop<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        mailbox: Id,
    ) -> impl Future<Output = Result<()>> + MaybeSend;

    /// Adds messages: nothing is at their places, and their names were never used.
    fn insert<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        messages: New<T>,
    ) -> impl Future<Output = Result<()>> + MaybeSend;

    /// Puts `modseq`, `flags` and `extra` in the place of those of rows that are there; all else
    /// stays.
    fn update<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        changes: Vec<MessageChange>,
    ) -> impl Future<Output = Result<()>> + MaybeSend;

    /// Removes rows that are there; their octets stay readable.
    fn delete<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        places: Vec<MessagePlace>,
    ) -> impl Future<Output = Result<()>> + MaybeSend;

    /// The rows at these places, in their order.
    fn select<V: View>(
        &self,
        call: &Call,
        view: &V,
        places: Vec<MessagePlace>,
    ) -> impl Future<Output = Result<Found<Message>>> + MaybeSend;

    /// Rows of one mailbox after a UID, ascending.
    fn list<V: View>(
        &self,
        call: &Call,
        view: &V,
        mailbox: Id,
        ask: PageAsk<u32>,
    ) -> impl Future<Output = Result<Page<Message>>> + MaybeSend;

    /// Octets of a message, also of one deleted and not settled. As it stands it answers with the
    /// body that was linked under the message's name.
    fn fetch<V: View>(
        &self,
        call: &Call,
        view: &V,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> impl Future<Output = Result<Option<Part<V::Body>>>> + MaybeSend {
        let _ = (call, mailbox, at, max);
        async move { Ok(view.get_body(name).await?.map(Part::Body)) }
    }

    /// Operations on these messages have been committed. Only a store whose medium is outside has
    /// anything to do.
    fn settle<V: View>(
        &self,
        call: &Call,
        view: &V,
        mailbox: Id,
        names: Vec<String>,
    ) -> impl Future<Output = Result<()>> + MaybeSend {
        let _ = (call, view, mailbox, names);
        async { Ok(()) }
    }

    /// Looks at what is stored, and mends it where `repair` says so.
    fn check<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        ask: CheckAsk,
    ) -> impl Future<Output = Result<CheckPage>> + MaybeSend;
}
