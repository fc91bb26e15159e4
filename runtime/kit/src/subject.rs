//! What a case sees of a store: the verbs of the WIT, and the host under them, which can be made
//! difficult.

use std::future::Future;

use crate::error::Result;
use crate::records::{CheckPage, Id, Message, MessageChange, MessagePlace, Page, Record};
use crate::rng::Rng;

/// Most octets of a message in a case, rounded up: a fetch that has more never ends.
pub const MAX_FETCH: u64 = 4 << 20;

/// The octets of a message as a store answers them, part after part.
#[derive(Clone, Debug)]
pub struct Parts {
    found: Vec<u8>,
    at: u64,
    max: u64,
}

impl Parts {
    /// Nothing yet of a range.
    pub fn new(at: u64, max: u64) -> Self {
        Self { found: Vec::new(), at, max }
    }

    /// Where the next part begins, and how many octets it has at most.
    pub fn next(&self) -> (u64, u64) {
        let found = self.found.len() as u64;
        (self.at.saturating_add(found), self.max.saturating_sub(found))
    }

    /// Adds a part. Whether it was the last: it is empty, the range is complete, or the store has
    /// answered more than any message has, as one does that ignores where a part begins.
    pub fn add(&mut self, part: &[u8]) -> bool {
        self.found.extend_from_slice(part);
        part.is_empty() || self.found.len() as u64 >= self.max.min(MAX_FETCH + 1)
    }

    /// All octets.
    pub fn found(self) -> Vec<u8> {
        self.found
    }
}

/// How the host makes life hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Scans answer at most this many items, whatever is asked for.
    pub scan_items: u32,
    /// What becomes of the capability call that comes after so many others.
    pub fault: Option<(u32, Fault)>,
}

/// What becomes of a capability call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with `unavailable`; those after it do not, so that nothing but the answer tells of it.
    Fail,
    /// It and those after it do not answer before the knobs are set again; one that cannot wait fails.
    Hold,
    /// It waits until the knobs are set again, then does what it is asked; those after it do not wait.
    /// Only calls that can wait are counted.
    Pause,
}

impl Fault {
    /// Whether the call waits that meets it.
    pub fn waits(self) -> bool {
        match self {
            Self::Fail => false,
            Self::Hold | Self::Pause => true,
        }
    }
}

impl Knobs {
    /// A host that does what it is asked.
    pub const EASY: Self = Self { scan_items: 4096, fault: None };

    /// A host whose scans are short.
    pub const fn short_scans(items: u32) -> Self {
        Self { scan_items: items, fault: None }
    }

    /// A host with a fault at the capability call that comes after so many others.
    pub const fn fault(calls: u32, fault: Fault) -> Self {
        Self { scan_items: 4096, fault: Some((calls, fault)) }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self::EASY
    }
}

/// What calls say about schemas, beside what they are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The schema in which rows are written; `None`: nothing is said of it.
    pub schema: Option<u32>,
    /// A check brings all rows to that one.
    pub migrate: bool,
}

/// The host of the store that is tested. Each subject begins with an empty space.
pub trait Host {
    /// A transaction; dropping it forgets it.
    type Txn;

    /// Begins an operation.
    fn begin(&self) -> Self::Txn;

    /// Commits an operation whose calls have all returned ok.
    fn commit(&self, txn: Self::Txn) -> impl Future<Output = Result<()>>;

    /// How the host behaves from now on. Lets go of what was held.
    fn set(&self, knobs: Knobs);

    /// Whether the fault that was set last has been met.
    fn met(&self) -> bool;

    /// Comes back once a capability call waits that is held or paused.
    fn held(&self) -> impl Future<Output = ()>;

    /// Whether an instance takes one call at a time: the store lifts its functions synchronously.
    fn one_call_at_a_time(&self) -> bool {
        false
    }

    /// Handles of the host that the store holds: none of them, where no call is running.
    fn handles(&self) -> usize;

    /// The schemas in which the store writes as it is told, as its manifest says; none: it is told
    /// nothing.
    fn schemas(&self) -> Vec<u32> {
        Vec::new()
    }

    /// What calls say of schemas from now on.
    fn tell(&self, told: Told) {
        let _ = told;
    }

    /// The names under which a transaction links bodies.
    fn linked(&self, txn: &Self::Txn) -> Vec<String>;

    /// Drops all instances of the store; the next call reaches a fresh one.
    fn restart(&self) -> impl Future<Output = Result<()>>;

    /// From now on calls reach another instance, beside the one that they reached before.
    fn other_instance(&self) -> impl Future<Output = Result<()>>;

    /// The keys and values that the store has in its space.
    fn stored(&self) -> impl Future<Output = Result<Vec<(Vec<u8>, Vec<u8>)>>>;

    /// Puts a value under a key of the space behind the store's back, or takes it away.
    fn tamper(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> impl Future<Output = Result<()>>;

    /// Takes away the link of a body behind the store's back.
    fn unlink(&self, name: &str) -> impl Future<Output = Result<()>>;

    /// The randomness of a case.
    fn rng(&self) -> Rng {
        Rng::from_env(1)
    }
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
    /// The WIT's `fetch`, with what a host makes of its answer: the range that was asked for, put
    /// together by [`Parts`].
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
