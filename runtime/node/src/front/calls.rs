//! What the driver needs of the message store: one object a session. A trait, so that the driver is
//! tested against a store that does whatever the test wants.

use std::sync::Arc;

use async_trait::async_trait;
use postroom_core::calls::{Call, Principal, Reply};
use postroom_core::error::StoreError;
use postroom_core::types::{SessionId, TransactionId};

use crate::message_store::{MessageStore, SessionHandle};

/// The message store as one session sees it. Dropping it leaves the active mailbox.
#[async_trait]
pub trait Calls: Send + Sync {
    /// The session's number, for logs.
    fn id(&self) -> SessionId;

    /// A fresh transaction id.
    fn transaction(&self) -> TransactionId;

    /// Carries out a call. The same write under the same id has its effect once; whether a write that
    /// is answered as `UnknownOutcome` was asked for again is decided below, not by who calls.
    async fn call(&self, transaction: TransactionId, call: Call) -> Result<Reply, StoreError>;

    /// From now on calls are made for this user.
    fn log_in(&self, principal: Principal);

    /// Resolves when the active mailbox has news; never while none is active. Cancel-safe.
    async fn changed(&self);
}

/// Registers sessions.
pub trait OpenSession: Send + Sync {
    /// A new session.
    fn open(&self) -> Arc<dyn Calls>;
}

struct StoreSession {
    store: MessageStore,
    handle: SessionHandle,
}

impl OpenSession for MessageStore {
    fn open(&self) -> Arc<dyn Calls> {
        Arc::new(StoreSession { store: self.clone(), handle: self.session() })
    }
}

#[async_trait]
impl Calls for StoreSession {
    fn id(&self) -> SessionId {
        self.handle.id()
    }

    fn transaction(&self) -> TransactionId {
        self.store.transaction()
    }

    async fn call(&self, transaction: TransactionId, call: Call) -> Result<Reply, StoreError> {
        self.store.call(&self.handle, transaction, call).await
    }

    fn log_in(&self, principal: Principal) {
        self.handle.log_in(principal);
    }

    async fn changed(&self) {
        self.handle.changed().await;
    }
}

/// A call's name in logs and metrics.
pub fn kind(call: &Call) -> &'static str {
    match call {
        Call::Login { .. } => "login",
        Call::Mailboxes => "mailboxes",
        Call::Create { .. } => "create",
        Call::Delete { .. } => "delete",
        Call::Rename { .. } => "rename",
        Call::Subscribe { .. } => "subscribe",
        Call::Status { .. } => "status",
        Call::Select { .. } => "select",
        Call::Deselect => "deselect",
        Call::Changes { .. } => "changes",
        Call::Fetch { .. } => "fetch",
        Call::Store { .. } => "store",
        Call::Expunge { .. } => "expunge",
        Call::Copy { .. } => "copy",
        Call::Move { .. } => "move",
        Call::Append { .. } => "append",
        Call::Search { .. } => "search",
        Call::ResolveRecipient { .. } => "resolve-recipient",
        Call::Deliver { .. } => "deliver",
    }
}

/// An error's name in logs, metrics and the admin API.
pub fn error_kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::NotFound(_) => "not-found",
        StoreError::AlreadyExists(_) => "already-exists",
        StoreError::AuthenticationFailed => "authentication-failed",
        StoreError::Denied(_) => "denied",
        StoreError::Refused(_) => "refused",
        StoreError::Invalid(_) => "invalid",
        StoreError::Limit(_) => "limit",
        StoreError::OverQuota => "over-quota",
        StoreError::Busy(_) => "busy",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Fenced => "fenced",
        StoreError::UnknownOutcome => "unknown-outcome",
        StoreError::Broken(_) => "broken",
        StoreError::Damaged(_) => "damaged",
        StoreError::Unsupported(_) => "unsupported",
    }
}

/// Whether somebody must look at it; the others are everyday answers to clients.
pub fn is_trouble(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(_)
        | StoreError::UnknownOutcome
        | StoreError::Broken(_)
        | StoreError::Damaged(_) => true,
        StoreError::NotFound(_)
        | StoreError::AlreadyExists(_)
        | StoreError::AuthenticationFailed
        | StoreError::Denied(_)
        | StoreError::Refused(_)
        | StoreError::Invalid(_)
        | StoreError::Limit(_)
        | StoreError::OverQuota
        | StoreError::Busy(_)
        | StoreError::Fenced
        | StoreError::Unsupported(_) => false,
    }
}
