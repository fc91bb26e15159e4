//! The engine trait and its words.

mod cluster;

use async_trait::async_trait;
use bytes::Bytes;
pub use postroom_core::cluster::Fence;
use postroom_core::types::{AccountId, Epoch, Slot, TransactionId};
use tokio::sync::mpsc;

pub use self::cluster::{Beat, Claim, MAX_CLAIMS, MAX_NODE_OCTETS, MAX_NODES};
use super::keeping::{Backup, Scrub};

/// Longest key in octets, area included: bounds what a guest makes an engine index.
pub const MAX_KEY_OCTETS: usize = 2048;
/// Longest value in octets: larger things are bodies.
pub const MAX_VALUE_OCTETS: usize = 4 << 20;
/// Most octets of keys, values and inline bodies in one commit, each write counted with
/// [`WRITE_OCTETS`] besides: bounds the memory of a transaction.
pub const MAX_COMMIT_OCTETS: usize = 64 << 20;
/// What a write costs on top of its key and value, in octets: bounds the number of small ones.
pub const WRITE_OCTETS: usize = 64;
/// Longest name of a body in octets: it is part of a key.
pub const MAX_BODY_NAME_OCTETS: usize = 1024;
/// Longest body in octets: more than any mail system accepts, less than would hurt in memory.
pub const MAX_BODY_OCTETS: usize = 256 << 20;
/// Most items that one scan returns, whatever its limit asks for.
pub const MAX_SCAN_ITEMS: usize = 65_536;
/// Most octets that one scan returns, whatever its limit asks for.
pub const MAX_SCAN_OCTETS: usize = 16 << 20;
/// Most octets of values that one look-up of many keys returns, whatever it asks for.
pub const MAX_GET_OCTETS: usize = 16 << 20;
/// How long the answer of a transaction is remembered at least, in seconds: longer than any client
/// or peer sends the same call again.
pub const IDEMPOTENCY_SECONDS: i64 = 24 * 60 * 60;

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
    /// Removes all keys from `start` (included) to `end` (excluded) of one area. Nothing happens
    /// when `start` is not before `end`.
    DeleteRange {
        /// Its area.
        area: Area,
        /// Included.
        start: Bytes,
        /// Excluded; empty: to the end of the area.
        end: Bytes,
    },
    /// Links a body under a name that is unique in the space: raises its reference count. Inline
    /// octets travel in this same commit. The commit fails with `Conflict` when the name is in use,
    /// or when the body is gone (its last link was taken away, or it was never linked for so long
    /// that it was given up).
    LinkBody {
        /// The name (a message name), 1 to [`MAX_BODY_NAME_OCTETS`] octets.
        name: String,
        /// The body.
        body: Body,
    },
    /// Takes a link away; the body goes when no link is left. Nothing happens when there is no such
    /// name.
    UnlinkBody {
        /// The name.
        name: String,
    },
}

impl Write {
    /// What this write counts against [`MAX_COMMIT_OCTETS`]. Fails with `Limit` when its key, its
    /// value or its name is too long.
    pub fn checked_octets(&self) -> Result<usize, StorageError> {
        let octets = match self {
            Self::Put(key, value) => {
                within("a value", value.len(), MAX_VALUE_OCTETS)?;
                key.checked_octets()? + value.len()
            }
            Self::Delete(key) => key.checked_octets()?,
            Self::DeleteRange { start, end, .. } => {
                within("a key", start.len(), MAX_KEY_OCTETS)?;
                within("a key", end.len(), MAX_KEY_OCTETS)?;
                start.len() + end.len()
            }
            Self::LinkBody { name, body } => {
                let inline = match body {
                    Body::Inline { octets, .. } => octets.len(),
                    Body::Stored(_) => 0,
                };
                body_name(name)? + inline
            }
            Self::UnlinkBody { name } => body_name(name)?,
        };
        Ok(octets + WRITE_OCTETS)
    }
}

impl Key {
    /// Its octets, area included. Fails with `Limit` when there are too many.
    pub fn checked_octets(&self) -> Result<usize, StorageError> {
        within("a key", self.octets.len() + 1, MAX_KEY_OCTETS)?;
        Ok(self.octets.len() + 1)
    }
}

fn body_name(name: &str) -> Result<usize, StorageError> {
    if name.is_empty() {
        return Err(StorageError::Limit("a body without a name".to_owned()));
    }
    within("a body's name", name.len(), MAX_BODY_NAME_OCTETS)?;
    Ok(name.len())
}

fn within(what: &str, octets: usize, most: usize) -> Result<(), StorageError> {
    match octets <= most {
        true => Ok(()),
        false => Err(StorageError::Limit(format!("{what} of {octets} octets, at most {most}"))),
    }
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
    /// Its key: random, never reused, within one space.
    pub fn key(&self) -> [u8; 16] {
        match self {
            Self::Inline { key, .. } => *key,
            Self::Stored(stored) => stored.key,
        }
    }

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

impl Commit {
    /// Checks it against the limits of this module: nothing that an engine could not hold reaches
    /// its queue. Returns the octets that it counts for.
    pub fn checked_octets(&self) -> Result<usize, StorageError> {
        let mut octets = 0;
        for write in &self.writes {
            octets += write.checked_octets()?;
        }
        for (key, value) in &self.preconditions {
            octets += key.checked_octets()? + value.as_ref().map_or(0, Bytes::len) + WRITE_OCTETS;
        }
        for transaction in &self.transactions {
            within("a transaction's answer", transaction.result.len(), MAX_VALUE_OCTETS)?;
            octets += transaction.result.len() + WRITE_OCTETS;
        }
        within("a commit", octets, MAX_COMMIT_OCTETS)?;
        Ok(octets)
    }
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
    /// It is not known whether the commit took effect. Further commits to the space get this answer
    /// too until somebody has read its [`head`](Engine::head) again; then
    /// [`transaction`](Engine::transaction) says whether it did.
    #[error("the outcome of the commit is unknown: {0}")]
    UnknownOutcome(String),
    /// Storage has gone back behind what was acknowledged (a restored backup, a fail-over that lost
    /// something): stop serving the space until an operator has said what is to become of it.
    #[error("storage has gone back: {0}; see `postroom cluster restored`")]
    WentBack(String),
    /// Stored octets do not have their checksum, or are no record.
    #[error("damaged: {0}")]
    Damaged(String),
}

/// How much a scan may return.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    /// Most items; 0 is taken as 1, and more than [`MAX_SCAN_ITEMS`] as that.
    pub items: usize,
    /// Most octets of keys and values, up to [`MAX_SCAN_OCTETS`]; one item is returned even if
    /// larger.
    pub octets: usize,
}

impl ScanLimit {
    /// The limit within the bounds of this module.
    pub fn clamped(self) -> Self {
        Self {
            items: self.items.clamp(1, MAX_SCAN_ITEMS),
            octets: self.octets.min(MAX_SCAN_OCTETS),
        }
    }
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Ascending by key; keys without the area.
    pub items: Vec<(Bytes, Bytes)>,
    /// Whether more keys lie in the range: scan again from after the last one.
    pub more: bool,
}

/// What an engine has done since it was opened. Counts only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Commits and claims that took effect.
    pub commits: u64,
    /// Commits and claims that were refused or failed.
    pub refused: u64,
    /// Atomic steps of the engine: each made one or more commits durable.
    pub groups: u64,
    /// Waits for the medium (`fdatasync`).
    pub syncs: u64,
    /// Octets written to the medium: rows, snapshots of them, segments.
    pub written_octets: u64,
    /// Octets of that in segments: bodies, and the commit log.
    pub segment_octets: u64,
    /// Bodies made by `new_body`.
    pub bodies: u64,
    /// Times that the engine was opened again after a failure of the medium.
    pub recoveries: u64,
    /// Times that damaged rows were made anew from what else there is of them.
    pub rebuilds: u64,
}

/// A storage engine. One contract suite runs over all of them.
///
/// Reads see one committed state each: never part of a commit. Every method may be cancelled by
/// dropping its future: a commit (or claim) that was handed over may then still take effect, whole.
/// Reads do not leave the task that makes them except where they are long (large bodies).
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// A word for logs and metrics: `memory`, `redb`, `postgres`.
    fn name(&self) -> &'static str;

    /// Whether other processes may have it open at the same time.
    fn is_shared(&self) -> bool;

    /// What was minted when the storage was set up: nodes with another one are another cluster's.
    fn cluster_id(&self) -> [u8; 16];

    /// The values of keys, in their order. Reads committed state only. Fails with `Limit`, having
    /// read little more than that, when they come to more than [`MAX_GET_OCTETS`].
    async fn get_many(
        &self,
        space: Space,
        keys: Vec<Key>,
    ) -> Result<Vec<Option<Bytes>>, StorageError>;

    /// Keys from `start` (included) to `end` (excluded; empty: to the end of the area) with their
    /// values.
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

    /// The claims on slots, in their order, in one look-up. Fails with `Limit` above [`MAX_CLAIMS`].
    async fn claims(&self, slots: Vec<Slot>) -> Result<Vec<Option<Claim>>, StorageError>;

    /// Marks a claim as released: no commit is accepted under it any more, and whoever wants the slot
    /// need not wait. `Fenced` when the slot's claim is another; repeatable.
    async fn release(&self, fence: Fence) -> Result<(), StorageError>;

    /// Notes that a node is alive: one row for each. `Conflict` when that node has been heard of with a
    /// higher generation, or with the same one and another nonce: two nodes have one id.
    async fn beat(&self, node: Claimant) -> Result<(), StorageError>;

    /// The last heartbeats of all nodes, by their ids.
    async fn beats(&self) -> Result<Vec<Beat>, StorageError>;

    /// Makes one atomic step durable. Returns only after it is. Checked in this order: the limits of
    /// this module, transactions done already, fence (for an account: one of its own slot), head,
    /// preconditions, names of bodies.
    async fn commit(&self, commit: Commit) -> Result<Committed, StorageError>;

    /// The number of commits in a space so far. Resolves an unknown outcome: what was under way has had
    /// its effect by then, or never has it (an engine may commit nothing for that, and so raise the head
    /// by one), and later commits are accepted again.
    async fn head(&self, space: Space) -> Result<u64, StorageError>;

    /// The remembered result of a transaction; kept for [`IDEMPOTENCY_SECONDS`] at least.
    async fn transaction(
        &self,
        space: Space,
        id: TransactionId,
    ) -> Result<Option<Bytes>, StorageError>;

    /// Turns octets into a body: small ones stay inline, large ones are durable when this returns.
    /// A large one that nothing links for an hour may be given up. Fails with `Limit` above
    /// [`MAX_BODY_OCTETS`], with `Unavailable` when too many wait for their first link.
    async fn new_body(&self, space: Space, octets: Bytes) -> Result<Body, StorageError>;

    /// Says that no commit which has not been handed over yet will link these bodies for the first
    /// time: what they take is given back, sooner or later. Those with a link stay as they are.
    /// Engines that keep nothing of a body before its commit need not do anything.
    fn give_up(&self, _space: Space, _bodies: &[Body]) {}

    /// The body linked under a name.
    async fn body(&self, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError>;

    /// Octets of a stored body from `at`, at most `max`; fewer only at its end. A read of the whole
    /// body verifies its digest, any read the checksums of what it touched. `Conflict` when the
    /// body is gone.
    async fn read_body(
        &self,
        space: Space,
        body: &BodyRef,
        at: u64,
        max: u64,
    ) -> Result<Bytes, StorageError>;

    /// Spaces that hold anything, ascending, after `after`, at most `limit`: for check and export.
    async fn spaces(&self, after: Option<Space>, limit: usize) -> Result<Vec<Space>, StorageError>;

    /// Finishes what is under way, makes everything durable, accepts nothing more: later calls get
    /// `Unavailable`. Repeatable.
    async fn close(&self) -> Result<(), StorageError>;

    /// Begins a backup of everything as it is now; calls go on meanwhile. `Unavailable` where the engine
    /// keeps nothing on a medium.
    async fn backup(&self) -> Result<Backup, StorageError> {
        Err(StorageError::Unavailable("this engine keeps nothing".to_owned()))
    }

    /// Begins to read everything and to hold it against its checksums; calls go on meanwhile. What is there
    /// twice is made whole again.
    async fn scrub(&self) -> Result<Scrub, StorageError> {
        let (_, nothing) = mpsc::channel(1);
        Ok(nothing)
    }

    /// How many times what it keeps was restored from a backup that did not have all that was announced
    /// since.
    fn restored(&self) -> u64 {
        0
    }

    /// What it has done since it was opened.
    fn stats(&self) -> EngineStats {
        EngineStats::default()
    }
}
