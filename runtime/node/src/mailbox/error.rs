//! Errors of storage, and time that is up, in the words of calls.

use std::future::Future;

use postroom_core::error::StoreError;

use crate::storage::StorageError;

use super::limits::{GUEST_DEADLINE, STEP_DEADLINE};

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
        StorageError::WentBack(_) => StoreError::Unavailable(error.to_string()),
        StorageError::UnknownOutcome(_) => StoreError::UnknownOutcome,
        StorageError::Damaged(what) => StoreError::Damaged(what),
    }
}

/// A call of a store component, with its deadline.
pub async fn guest<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(GUEST_DEADLINE, call).await {
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

#[cfg(test)]
mod tests {
    use super::super::limits::CALL_DEADLINE;
    use super::*;
    use crate::guest::{Limits, MAX_ANSWER_TIME};

    #[test]
    fn a_component_ends_its_calls_itself_before_anybody_gives_them_up() {
        let deadlines =
            [Limits::default().answer_time(), MAX_ANSWER_TIME, GUEST_DEADLINE, CALL_DEADLINE];
        let rising = deadlines.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(rising, "{deadlines:?}");
    }
}
