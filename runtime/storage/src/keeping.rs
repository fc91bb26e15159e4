//! What an operator can have of what an engine keeps: a copy of all of it, and whether it is still whole.

use bytes::Bytes;
use postroom_core::types::AccountId;
use tokio::sync::mpsc;

use super::StorageError;

/// Pieces that wait for whoever takes them.
pub const MAX_PIECES: usize = 8;

/// A piece of a backup: one file after the other, then that it is done. One that ends without was cut
/// off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPiece {
    /// A file of this name begins.
    File(String),
    /// Octets of it.
    Octets(Bytes),
    /// That was all.
    Done,
}

/// A backup on its way. Dropping it ends the backup.
pub type Backup = mpsc::Receiver<Result<BackupPiece, StorageError>>;

/// What a scrub says while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubEvent {
    /// So many octets were read since the last event.
    Progress(u64),
    /// Something is not as it was written.
    Damage(Damage),
    /// It cannot go on.
    Failed(StorageError),
}

/// What a scrub has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// `rows`, `snapshot`, `log`, `segment` or `body`.
    pub kind: &'static str,
    /// Whose; `None`: the engine's own, or the directory's.
    pub account: Option<AccountId>,
    /// Which.
    pub name: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it was made whole again.
    pub mended: bool,
}

/// A scrub on its way: it is done when it says nothing more. Dropping it ends it.
pub type Scrub = mpsc::Receiver<ScrubEvent>;
