//! The one door through which calls for an account pass: to this node's mailboxes, or to the node
//! that has the account's slot open. On a single node every slot is here.

use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, SessionId};

use crate::mailbox::{Accounts, Answer, Request};

/// Finds who has an account. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    local: Accounts,
}

impl Router {
    /// A router that has only this node.
    pub fn local(accounts: Accounts) -> Self {
        Self { local: accounts }
    }

    /// Carries a call out where the account is. Cancel-safe: a write that was taken up goes on.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call(&self, request: Request) -> Result<Answer, StoreError> {
        self.local.ask(request).await
    }

    /// Leaves a session's active mailbox, without waiting for it.
    pub fn leave(&self, account: AccountId, session: SessionId) {
        self.local.leave(account, session);
    }

    /// This node's accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.local
    }
}
