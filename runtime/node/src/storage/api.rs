//! The engine trait and its words.

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::types::{AccountId, Epoch, Slot, TransactionId};

/// Longest key in octets, area included: bounds what a guest makes an engine index.
pub const MAX_KEY_OCTETS: usize = 2048;
/// Longest value in octets: larger things are bodies.
pub const MAX_VALUE_OCTETS: usize = 4 << 20;
/// Most octets of keys and values in one commit: bounds the memory of a transaction.
pub const MAX_COMMIT_OCTETS: usize = 64 << 20;

/// Whose keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// The directory of domains and users.
    Directory,
    /// One account.
    Account(AccountId),
}

/// The first octet of each key in a space: who may see it. A store component sees only the area of
/// the kind of record that it keeps, and not this octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Area {
    /// The host's own rows.
    Ledger = 0,
    /// Rows of the domain store.
    Domain = 1,
    /// Rows of the user store.
    User = 2,
    /// Rows of the mailbox store.
    Mailbox = 3,
    /// Rows of the message store.
    Message = 4,
}

/// A key within a space and an area.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its area.
    pub area: Area,
    /// The rest of it; keys are ordered octet by octet.
    pub octets: Bytes,
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a value.
    Put(Key, Bytes),
    /// Removes a value; nothing happens when there is none.
    Delete(Key),
    /// Removes all keys from `start` (included) to `end` (excluded) of one area.
    DeleteRange {
        /// Its area.
        area: Area,
        /// Included.
        start: Bytes,
        /// Excluded.
        end: Bytes,
    },
    /// Links a body under a name that is unique in the space: raises its reference count. Inline
    /// octets travel in this same commit.
    LinkBody {
        /// The name (a message name).
        name: String,
        /// The body.
        body: Body,
    },
    /// Takes a link away; the body goes when no link is left.
    UnlinkBody {
        /// The name.
        name: String,
    },
}

/// Where a body's octets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// New and small: in memory until the commit that links it.
    Inline {
        /// Random, never reused.
        key: [u8; 16],
        /// The octets.
        octets: Bytes,
        /// BLAKE3 of them.
        digest: [u8; 32],
    },
    /// Stored already (durable before any commit that links it).
    Stored(BodyRef),
}

/// A stored body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyRef {
    /// Random, never reused, within one space.
    pub key: [u8; 16],
    /// Octets.
    pub size: u64,
    /// BLAKE3 of the octets.
    pub digest: [u8; 32],
}

impl Body {
    /// Octets.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline { octets, .. } => octets.len() as u64,
            Self::Stored(stored) => stored.size,
        }
    }

    /// BLAKE3 of the octets.
    pub fn digest(&self) -> [u8; 32] {
        match self {
            Self::Inline { digest, .. } => *digest,
            Self::Stored(stored) => stored.digest,
        }
    }
}

/// Who claims a slot: which incarnation of which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The node's id.
    pub node: String,
    /// Strictly rising with each start of that node.
    pub generation: u64,
    /// Random, of this claim.
    pub nonce: [u8; 16],
}

/// What every commit to an account carries; compared by equality with the slot's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The slot.
    pub slot: Slot,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The nonce of the claim.
    pub nonce: [u8; 16],
}

/// A write's transaction id and its answer, remembered in the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The id.
    pub transaction: TransactionId,
    /// The answer, given again to whom asks again.
    pub result: Bytes,
}

/// One atomic step on one space.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which space.
    pub space: Space,
    /// Required for accounts; `None` only for the directory, which has no owner.
    pub fence: Option<Fence>,
    /// The number of commits in this space so far must be this (`None`: whatever it is). Raised by
    /// one by each commit.
    pub expected_head: Option<u64>,
    /// Values that keys must still have (`None`: must be absent); for the directory.
    pub preconditions: Vec<(Key, Option<Bytes>)>,
    /// Transactions that this commit carries.
    pub transactions: Vec<Idempotency>,
    /// In order; a later write to the same key wins.
    pub writes: Vec<Write>,
    /// Host time in seconds since the Unix epoch: the age of the idempotency rows.
    pub now: i64,
}

/// How a commit that took effect is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The head of the space after it.
    pub head: u64,
}

/// Why a read or a commit had no effect, by what the caller must do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The fence differs from the slot's claim: find the owner again.
    #[error("fenced: another claim holds the slot")]
    Fenced,
    /// The head is another than expected: drop what is in memory and read again.
    #[error("the account's head is {found}")]
    HeadMoved {
        /// What it is.
        found: u64,
    },
    /// A precondition does not hold: read again and decide anew.
    #[error("a precondition does not hold")]
    Conflict,
    /// This transaction id has had its effect before; here is its result. Nothing was done now.
    #[error("this transaction is done already")]
    AlreadyDone(Idempotency),
    /// A limit of this module would be passed.
    #[error("storage limit: {0}")]
    Limit(String),
    /// Certainly no effect; the same may succeed later (disk full, queue full, database away).
    #[error("storage is not available: {0}")]
    Unavailable(String),
    /// It is not known whether the commit took effect. Nothing further is accepted for the space
    /// until it is resolved by reading it again.
    #[error("the outcome of the commit is unknown: {0}")]
    UnknownOutcome(String),
    /// Stored octets do not have their checksum, or are no record.
    #[error("damaged: {0}")]
    Damaged(String),
}

/// How much a scan may return.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    /// Most items.
    pub items: usize,
    /// Most octets of keys and values; one item is returned even if larger.
    pub octets: usize,
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Ascending by key; keys without the area.
    pub items: Vec<(Bytes, Bytes)>,
    /// Whether more keys lie in the range: scan again from after the last one.
    pub more: bool,
}

/// A storage engine. One contract suite runs over all of them.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// A word for logs and metrics: `memory`, `redb`.
    fn name(&self) -> &'static str;

    /// The values of keys, in their order. Reads committed state only.
    async fn get_many(
        &self,
        space: Space,
        keys: Vec<Key>,
    ) -> Result<Vec<Option<Bytes>>, StorageError>;

    /// Keys from `start` (included) to `end` (excluded) with their values.
    async fn scan(
        &self,
        space: Space,
        area: Area,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> Result<ScanPage, StorageError>;

    /// Takes a slot: compare-and-set that raises its epoch. `previous` is the epoch of the claim
    /// that the caller has seen (`None`: no claim yet); fails with `Conflict` when it differs.
    async fn claim(
        &self,
        slot: Slot,
        claimant: Claimant,
        previous: Option<Epoch>,
    ) -> Result<Fence, StorageError>;

    /// The claim on a slot.
    async fn claimed(&self, slot: Slot) -> Result<Option<(Epoch, Claimant)>, StorageError>;

    /// Makes one atomic step durable. Returns only after it is. Checked in this order: transactions
    /// done already, fence, head, preconditions.
    async fn commit(&self, commit: Commit) -> Result<Committed, StorageError>;

    /// The number of commits in a space so far.
    async fn head(&self, space: Space) -> Result<u64, StorageError>;

    /// The remembered result of a transaction.
    async fn transaction(
        &self,
        space: Space,
        id: TransactionId,
    ) -> Result<Option<Bytes>, StorageError>;

    /// Turns octets into a body: small ones stay inline, large ones are durable when this returns.
    async fn new_body(&self, space: Space, octets: Bytes) -> Result<Body, StorageError>;

    /// The body linked under a name.
    async fn body(&self, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError>;

    /// Octets of a stored body from `at`, at most `max`. A read of the whole body verifies its
    /// digest, any read the checksums of what it touched.
    async fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError>;

    /// Spaces that hold anything, ascending, after `after`, at most `limit`: for check and export.
    async fn spaces(&self, after: Option<Space>, limit: usize) -> Result<Vec<Space>, StorageError>;

    /// Finishes what is under way, makes everything durable, accepts nothing more.
    async fn close(&self) -> Result<(), StorageError>;
}
