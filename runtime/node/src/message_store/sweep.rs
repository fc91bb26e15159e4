//! Brings rows to the schema that is written, step by step: the directory's here, an account's where
//! it is open.

use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, SessionId};

use crate::mailbox::{Answer, Ask, Request, SweepStep, Swept};

use super::MessageStore;
use super::calls::mixed_up;
use super::directory::Kind;

impl MessageStore {
    /// One step for an account, by the node that has it open.
    ///
    /// # Errors
    /// `Unavailable` when that node knows of another round; when it, storage or a store component is away.
    pub async fn sweep_account(
        &self,
        account: AccountId,
        step: SweepStep,
    ) -> Result<Swept, StoreError> {
        let request = Request {
            account,
            session: SessionId(0),
            transaction: self.transaction(),
            quota: None,
            ask: Ask::Sweep(step),
        };
        match self.inner.router.call(request).await? {
            Answer::Swept(swept) => Ok(swept),
            _ => Err(mixed_up()),
        }
    }

    /// One step for the directory, from a cursor of the store component on.
    ///
    /// # Errors
    /// As [`sweep_account`](Self::sweep_account), of this node.
    pub async fn sweep_directory(
        &self,
        of: Kind,
        after: Option<String>,
        round: u64,
    ) -> Result<Swept, StoreError> {
        self.inner.directory.sweep(of, after, round).await
    }
}
