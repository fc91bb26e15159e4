//! The one door through which calls for an account pass: to this node's mailboxes, or to the node that has
//! the account's slot open. On a node of its own every slot is here.

mod attached;

mod visitors;

mod heartbeat;

mod hub;

mod looks;

mod owner;

mod record;

mod wire;

mod cluster;

use std::sync::Arc;

use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, SessionId};

use crate::mailbox::{Accounts, Answer, Request};

pub use cluster::{Cluster, ClusterConfig, NodeStatus, SlotPlace};
pub use heartbeat::Heartbeat;

/// Finds who has an account. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    local: Accounts,
    cluster: Option<Arc<Cluster>>,
}

impl Router {
    /// A router that has only this node.
    pub fn local(accounts: Accounts) -> Self {
        Self { local: accounts, cluster: None }
    }

    /// A router of one node among others.
    pub fn among(accounts: Accounts, cluster: Arc<Cluster>) -> Self {
        Self { local: accounts, cluster: Some(cluster) }
    }

    /// Carries a call out where the account is. Cancel-safe: a write that was taken up goes on.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call(&self, request: Request) -> Result<Answer, StoreError> {
        match &self.cluster {
            None => self.local.ask(request).await,
            Some(cluster) => cluster.call(request).await,
        }
    }

    /// Leaves a session's active mailbox, without waiting for it.
    pub fn leave(&self, account: AccountId, session: SessionId) {
        match &self.cluster {
            None => self.local.leave(account, session),
            Some(cluster) => cluster.leave(account, session),
        }
    }

    /// This node's accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.local
    }

    /// The cluster, if this node is in one.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }
}
