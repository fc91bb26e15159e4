//! The contract of `wit/store.wit` as test cases, over any store: linked natively over a
//! [`Space`](super::Space), or a component run by a host. A case names the promises that it covers;
//! a test of this crate fails when a promise has neither a case nor a stated reason.
//!
//! [`record_contract!`](crate::record_contract) and
//! [`message_contract!`](crate::message_contract) make a test of each case.

pub mod messages;
mod native;
pub mod random;
pub mod records;

pub use native::Native;

use std::future::Future;

use super::Knobs;
use crate::error::Result;
use crate::records::{CheckPage, Id, Message, MessageChange, MessagePlace, Record};
use crate::store::Page;

/// The host of the store that is tested. Each subject begins with an empty space.
pub trait Host {
    /// A transaction; dropping it forgets it.
    type Txn;

    /// Begins an operation.
    fn begin(&self) -> Self::Txn;

    /// Commits an operation whose calls have all returned ok.
    fn commit(&self, txn: Self::Txn) -> impl Future<Output = ()>;

    /// Makes the host difficult, as far as it can be.
    fn set(&self, knobs: Knobs);
}

/// A store of domains, users or mailboxes under test. Reads see committed state, or what they are
/// given the transaction of.
pub trait RecordSubject<R: Record>: Host {
    /// The WIT's `create`.
    fn create(&self, txn: &Self::Txn) -> impl Future<Output = Result<()>>;
    /// The WIT's `drop`.
    fn drop(&self, txn: &Self::Txn) -> impl Future<Output = Result<()>>;
    /// The WIT's `insert`.
    fn insert(&self, txn: &Self::Txn, rows: Vec<R>) -> impl Future<Output = Result<()>>;
    /// The WIT's `update`.
    fn update(&self, txn: &Self::Txn, rows: Vec<R>) -> impl Future<Output = Result<()>>;
    /// The WIT's `delete`.
    fn delete(&self, txn: &Self::Txn, names: Vec<R::Name>) -> impl Future<Output = Result<()>>;
    /// The WIT's `select`.
    fn select(
        &self,
        txn: Option<&Self::Txn>,
        names: Vec<R::Name>,
    ) -> impl Future<Output = Result<Vec<Option<R>>>>;
    /// The WIT's `list`.
    fn list(
        &self,
        txn: Option<&Self::Txn>,
        after: Option<R::Name>,
        limit: u32,
    ) -> impl Future<Output = Result<Page<R>>>;
    /// The WIT's `check`.
    fn check(
        &self,
        txn: &Self::Txn,
        after: Option<String>,
        repair: bool,
    ) -> impl Future<Output = Result<CheckPage>>;
}

/// A store of messages under test.
pub trait MessageSubject: Host {
    /// The WIT's `create`.
    fn create(&self, txn: &Self::Txn) -> impl Future<Output = Result<()>>;
    /// The WIT's `drop`.
    fn drop(&self, txn: &Self::Txn, mailbox: Id) -> impl Future<Output = Result<()>>;
    /// The WIT's `insert`, of bodies with these octets.
    fn insert(
        &self,
        txn: &Self::Txn,
        messages: Vec<(Message, Vec<u8>)>,
    ) -> impl Future<Output = Result<()>>;
    /// The WIT's `update`.
    fn update(
        &self,
        txn: &Self::Txn,
        changes: Vec<MessageChange>,
    ) -> impl Future<Output = Result<()>>;
    /// The WIT's `delete`.
    fn delete(
        &self,
        txn: &Self::Txn,
        places: Vec<MessagePlace>,
    ) -> impl Future<Output = Result<()>>;
    /// The WIT's `select`.
    fn select(
        &self,
        txn: Option<&Self::Txn>,
        places: Vec<MessagePlace>,
    ) -> impl Future<Output = Result<Vec<Option<Message>>>>;
    /// The WIT's `list`.
    fn list(
        &self,
        txn: Option<&Self::Txn>,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> impl Future<Output = Result<Page<Message>>>;
    /// The WIT's `fetch`, with what a host makes of its answer: the range that was asked for.
    fn fetch(
        &self,
        txn: Option<&Self::Txn>,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>>>;
    /// The WIT's `settle`, after which the host takes away the bodies of those deleted.
    fn settle(
        &self,
        mailbox: Id,
        names: Vec<String>,
        deleted: bool,
    ) -> impl Future<Output = Result<()>>;
    /// The WIT's `check`.
    fn check(
        &self,
        txn: &Self::Txn,
        after: Option<String>,
        repair: bool,
    ) -> impl Future<Output = Result<CheckPage>>;
}

/// Most pages of a list or check in a case: more mean that it never ends.
const MAX_PAGES: usize = 100_000;

/// A host that fails at this call.
fn failing(calls: u32) -> Knobs {
    Knobs { fail_after: Some(calls), ..Knobs::default() }
}

/// A host whose scans are short.
fn short_scans(items: u32) -> Knobs {
    Knobs { scan_items: items, ..Knobs::default() }
}
