//! Errors: the WIT's own, and how one becomes the other.

use std::fmt;

pub use crate::bindings::domains::postroom::host::storage::StorageError;
pub use crate::bindings::domains::postroom::store::types::StoreError;

/// What every function of a store answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A store that meets an error of its host stops and says so in the words of its own interface.
impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Invalid(text) => Self::Other(format!("asked the host wrongly: {text}")),
            StorageError::Limit(text) => Self::Limit(text),
            StorageError::Unavailable(text) => Self::Unavailable(text),
            StorageError::Damaged(text) => Self::Damaged(text),
            StorageError::Closed(text) => Self::Unavailable(text),
            StorageError::Other(text) => Self::Other(text),
        }
    }
}

impl StoreError {
    /// A stored record cannot be read.
    pub fn damaged(what: impl fmt::Display) -> Self {
        Self::Damaged(what.to_string())
    }

    /// What is said to the operator.
    pub fn text(&self) -> &str {
        match self {
            Self::NotFound(text)
            | Self::AlreadyExists(text)
            | Self::Invalid(text)
            | Self::Denied(text)
            | Self::Limit(text)
            | Self::Busy(text)
            | Self::Unavailable(text)
            | Self::Damaged(text)
            | Self::Unsupported(text)
            | Self::Other(text) => text,
        }
    }
}
