//! Errors: the WIT's own, and how one becomes the other.

pub use postroom_kit::error::{Result, StoreError};

pub use crate::bindings::domains::postroom::host::storage::StorageError;

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
