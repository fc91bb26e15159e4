//! What can go wrong with a call, named by what the caller must do.

use serde::{Deserialize, Serialize};

/// Outcome of a call that did not do what it was asked. One table turns these into IMAP response
/// codes (`imap`), one into LMTP replies (`lmtp`), one into the WIT's `store-error` (node's guest).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreError {
    /// The thing named is not there: create it or name another.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The thing to be made is there already: use it or name another.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// User or password is wrong: ask for others. Never says which.
    #[error("user or password is wrong")]
    AuthenticationFailed,
    /// The caller may not do this: do not repeat it.
    #[error("not permitted: {0}")]
    Denied(String),
    /// A hook refuses the mail: do not repeat it. The text is for its sender.
    #[error("refused: {0}")]
    Refused(String),
    /// Makes no sense as asked: correct it.
    #[error("{0}")]
    Invalid(String),
    /// A named limit would be passed: ask for less.
    #[error("limit reached: {0}")]
    Limit(String),
    /// The account is full: remove something first.
    #[error("the account is over its quota")]
    OverQuota,
    /// Too much at once: the same call may be repeated in a moment.
    #[error("busy: {0}")]
    Busy(String),
    /// Something that the call needs is away (storage, guest): the same call may be repeated later.
    #[error("not available at the moment: {0}")]
    Unavailable(String),
    /// This node has lost the slot: find the owner again and repeat there.
    #[error("the mailbox has moved to another node")]
    Fenced,
    /// It is not known whether the write happened: repeat it under the same transaction id.
    #[error("the outcome is not known yet")]
    UnknownOutcome,
    /// The store component broke its contract: never repeat on the same instance.
    #[error("the store component failed: {0}")]
    Broken(String),
    /// Stored data is damaged: an operator must look at it (`postroom check`).
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// The store component or this server does not do this at all.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl StoreError {
    /// Whether the same call can succeed later without anybody changing it (LMTP 4xx).
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy(_)
            | Self::Unavailable(_)
            | Self::Fenced
            | Self::UnknownOutcome
            | Self::Broken(_)
            | Self::Damaged(_)
            | Self::OverQuota => true,
            Self::NotFound(_)
            | Self::AlreadyExists(_)
            | Self::AuthenticationFailed
            | Self::Denied(_)
            | Self::Refused(_)
            | Self::Invalid(_)
            | Self::Limit(_)
            | Self::Unsupported(_) => false,
        }
    }
}
