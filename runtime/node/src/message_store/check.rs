//! Checks what is stored (E15).

use postroom_core::error::StoreError;

use super::MessageStore;

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CheckFinding {
    /// `domain`, `user`, `mailbox`, `message` or `ledger`.
    pub kind: String,
    /// The account; `None` for the directory.
    pub account: Option<String>,
    /// Which record.
    pub name: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// What a check says while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckEvent {
    /// So many records were looked at since the last event.
    Progress {
        /// Records.
        checked: u64,
    },
    /// Something is wrong.
    Finding(CheckFinding),
}

impl MessageStore {
    /// Checks everything that is stored (E15), calling `event` as it goes; with `repair`, mends what
    /// can be mended. Goes on after damage.
    ///
    /// # Errors
    /// When storage or a store component is away.
    pub async fn check(
        &self,
        repair: bool,
        event: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<(), StoreError> {
        let _ = (repair, event, &self.inner.engine, &self.inner.stores);
        Err(StoreError::Unsupported("check comes with a later commit".into()))
    }
}
