//! The words that every layer shares: ids, flags, times, names, sets of UIDs.

pub mod flags;
pub mod ids;
pub mod name;
pub mod time;
pub mod uid_set;

pub use flags::{Flag, FlagChange, FlagChangeKind, Flags, Keyword, SystemFlag};
pub use ids::{
    AccountId, Epoch, MailboxId, MessageId, ModSeq, SLOTS, SessionId, Slot, ThreadId,
    TransactionId, Uid, UidValidity,
};
pub use name::{MailboxName, MailboxNameError};
pub use time::Timestamp;
pub use uid_set::UidSet;
