//! Errors of storage, and time that is up, in the words of calls.

use std::future::Future;

use postroom_core::error::StoreError;

use crate::storage::StorageError;

use super::limits::STEP_DEADLINE;

/// What a failure of storage means for a call.
pub fn storage_error(error: StorageError) -> StoreError {
    match error {
        StorageError::Fenced => StoreError::Fenced,
        StorageError::HeadMoved { .. } | StorageError::Conflict => {
            StoreError::Unavailable("the account changed meanwhile".into())
        }
        StorageError::AlreadyDone(_) => StoreError::UnknownOutcome,
        StorageError::Limit(what) => StoreError::Limit(what),
        StorageError::Unavailable(what) => StoreError::Unavailable(what),
        StorageError::UnknownOutcome(_) => StoreError::UnknownOutcome,
        StorageError::Damaged(what) => StoreError::Damaged(what),
    }
}

/// A call of a store component, with its deadline.
pub async fn guest<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(STEP_DEADLINE, call).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable("the store component took too long".into())),
    }
}

/// A read of storage, with its deadline.
pub async fn read<T>(call: impl Future<Output = Result<T, StorageError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(STEP_DEADLINE, call).await {
        Ok(result) => result.map_err(storage_error),
        Err(_) => Err(StoreError::Unavailable("storage took too long".into())),
    }
}
