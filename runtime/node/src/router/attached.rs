//! What this node's sessions have active, wherever it is open, so that they can go on when it is opened
//! elsewhere (E6). One entry a session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postroom_core::calls::Selected;
use postroom_core::cluster::{Behind, NodeId, Seen};
use postroom_core::types::{
    AccountId, Epoch, MailboxId, ModSeq, SessionId, Slot, TransactionId, UidValidity,
};

use crate::mailbox::{Ask, Request};

/// Where a mailbox is open: at which node, under which claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// The claim's epoch.
    pub epoch: Epoch,
}

/// A session's active mailbox.
#[derive(Clone, Debug)]
struct Attached {
    account: AccountId,
    mailbox: MailboxId,
    uid_validity: UidValidity,
    read_write: bool,
    /// Removals up to here have been told to the client.
    released: ModSeq,
    /// How far the client has seen the account.
    seen: Seen,
    /// Where the session is registered.
    at: Place,
    /// The call by which it was registered there.
    under: TransactionId,
}

/// The sessions of this node that have a mailbox active. Their number is bounded by the doors' connections.
#[derive(Default)]
pub struct Attachments {
    sessions: Mutex<HashMap<SessionId, Attached>>,
}

impl Attachments {
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Attached>> {
        // Nothing that holds it leaves it half changed.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session has selected a mailbox.
    pub fn selected(&self, request: &Request, selected: &Selected, at: Place) {
        let status = &selected.status;
        let mut seen = Seen::default();
        // The first answer is never behind.
        let _ = seen.admit(at.epoch, status.highest_modseq);
        let attached = Attached {
            account: request.account,
            mailbox: status.mailbox,
            uid_validity: status.uid_validity,
            read_write: selected.read_write,
            released: status.highest_modseq,
            seen,
            at,
            under: request.transaction,
        };
        self.sessions().insert(request.session, attached);
    }

    /// A session is registered somewhere else than before.
    pub fn moved(&self, session: SessionId, at: Place, under: TransactionId) {
        if let Some(attached) = self.sessions().get_mut(&session) {
            (attached.at, attached.under) = (at, under);
        }
    }

    /// A session has left; says where it was, and by which call it was registered there.
    pub fn left(&self, session: SessionId) -> Option<(Place, TransactionId)> {
        self.sessions().remove(&session).map(|attached| (attached.at, attached.under))
    }

    /// The active mailbox of a session.
    pub fn mailbox(&self, session: SessionId) -> Option<MailboxId> {
        self.sessions().get(&session).map(|attached| attached.mailbox)
    }

    /// Mailboxes of sessions whose place is none any more.
    pub fn astray(&self, stands: impl Fn(&Place, Slot) -> bool) -> Vec<MailboxId> {
        let sessions = self.sessions();
        let astray = sessions.values().filter(|it| !stands(&it.at, Slot::of(it.account)));
        astray.map(|attached| attached.mailbox).collect()
    }

    /// The session says up to where its client has been told of removals.
    pub fn released(&self, session: SessionId, upto: ModSeq) {
        if let Some(attached) = self.sessions().get_mut(&session) {
            attached.released = attached.released.max(upto);
        }
    }

    /// Takes an answer's epoch and the mod-sequence that it shows.
    ///
    /// # Errors
    /// When the session has seen later ones: the answer is of an owner that is none any more.
    pub fn admit(
        &self,
        session: SessionId,
        epoch: Epoch,
        modseq: Option<ModSeq>,
    ) -> Result<(), Behind> {
        match self.sessions().get_mut(&session) {
            Some(attached) => {
                let modseq = modseq.unwrap_or(attached.seen.modseq());
                attached.seen.admit(epoch, modseq)
            }
            None => Ok(()),
        }
    }

    /// What makes a session's mailbox active at a place, when it is not registered there.
    pub fn to_attach(
        &self,
        session: SessionId,
        transaction: TransactionId,
        at: &Place,
    ) -> Option<Request> {
        let sessions = self.sessions();
        let attached = sessions.get(&session).filter(|attached| attached.at != *at)?;
        Some(attached.request(session, transaction))
    }

    /// What makes a session's mailbox active again where it is not known.
    pub fn again(&self, session: SessionId, transaction: TransactionId) -> Option<Request> {
        Some(self.sessions().get(&session)?.request(session, transaction))
    }

    /// Sessions that are registered at a node, and their mailboxes.
    pub fn at_node(&self, node: &NodeId) -> Vec<(SessionId, MailboxId)> {
        let sessions = self.sessions();
        let there = sessions.iter().filter(|(_, attached)| attached.at.node == *node);
        there.map(|(session, attached)| (*session, attached.mailbox)).collect()
    }

    /// Mailboxes of a slot that sessions have active.
    pub fn in_slot(&self, slot: Slot) -> Vec<MailboxId> {
        let sessions = self.sessions();
        let of = sessions.values().filter(|attached| Slot::of(attached.account) == slot);
        of.map(|attached| attached.mailbox).collect()
    }

    /// How many sessions have a mailbox active.
    pub fn len(&self) -> usize {
        self.sessions().len()
    }
}

impl Attached {
    fn request(&self, session: SessionId, transaction: TransactionId) -> Request {
        let ask = Ask::Attach {
            mailbox: self.mailbox,
            uid_validity: self.uid_validity,
            read_write: self.read_write,
            released: self.released,
        };
        Request { account: self.account, session, transaction, quota: None, ask }
    }
}
