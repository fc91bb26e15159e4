//! Which session has which mailbox active. A mailbox stays open until the last one has left (E5),
//! and a removed message readable until the last one has been told.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{MailboxId, ModSeq, SessionId};

/// A session's active mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Which.
    pub mailbox: MailboxId,
    /// Whether the session may write.
    pub read_write: bool,
    /// Removals up to here have been told to its client.
    pub released: ModSeq,
}

/// The active sessions of one account.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    active: BTreeMap<SessionId, Active>,
    by_mailbox: BTreeMap<MailboxId, BTreeSet<SessionId>>,
}

impl Sessions {
    /// Makes a mailbox active for a session, after leaving the one that was. `at` is the
    /// mod-sequence of what it is shown.
    pub fn select(&mut self, session: SessionId, mailbox: MailboxId, read_write: bool, at: ModSeq) {
        self.deselect(session);
        self.active.insert(session, Active { mailbox, read_write, released: at });
        self.by_mailbox.entry(mailbox).or_default().insert(session);
    }

    /// Leaves the active mailbox; says which it was.
    pub fn deselect(&mut self, session: SessionId) -> Option<MailboxId> {
        let mailbox = self.active.remove(&session)?.mailbox;
        if let Some(sessions) = self.by_mailbox.get_mut(&mailbox) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.by_mailbox.remove(&mailbox);
            }
        }
        Some(mailbox)
    }

    /// A session's active mailbox.
    pub fn active(&self, session: SessionId) -> Option<Active> {
        self.active.get(&session).copied()
    }

    /// A session has told its client of removals up to here. Never goes back.
    pub fn release(&mut self, session: SessionId, upto: ModSeq) {
        if let Some(active) = self.active.get_mut(&session) {
            active.released = active.released.max(upto);
        }
    }

    /// How many sessions have a mailbox active.
    pub fn count(&self, mailbox: MailboxId) -> usize {
        self.by_mailbox.get(&mailbox).map_or(0, BTreeSet::len)
    }

    /// Mailboxes that are active for any session.
    pub fn mailboxes(&self) -> impl Iterator<Item = MailboxId> + '_ {
        self.by_mailbox.keys().copied()
    }

    /// Whether no session has any mailbox of the account active.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Messages of a mailbox removed up to here are seen by nobody any more; `None`: no session has
    /// it active, so none of them is.
    pub fn told(&self, mailbox: MailboxId) -> Option<ModSeq> {
        let sessions = self.by_mailbox.get(&mailbox)?;
        sessions.iter().filter_map(|session| self.active.get(session)).map(|a| a.released).min()
    }

    /// The session whose client has been told least of a mailbox's removals.
    pub fn slowest(&self, mailbox: MailboxId) -> Option<SessionId> {
        let sessions = self.by_mailbox.get(&mailbox)?.iter().copied();
        sessions.min_by_key(|session| self.active.get(session).map(|active| active.released))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_left_by_the_last_session_and_told_by_the_slowest() {
        let mut sessions = Sessions::default();
        let (a, b, mailbox) = (SessionId(1), SessionId(2), MailboxId([1; 16]));
        sessions.select(a, mailbox, true, ModSeq(5));
        sessions.select(b, mailbox, false, ModSeq(7));
        sessions.release(a, ModSeq(9));
        assert_eq!(sessions.told(mailbox), Some(ModSeq(7)));
        assert_eq!(sessions.slowest(mailbox), Some(b));
        sessions.release(b, ModSeq(3));
        assert_eq!(sessions.told(mailbox), Some(ModSeq(7)), "told cannot be untold");
        assert_eq!(sessions.deselect(b), Some(mailbox));
        assert_eq!(sessions.told(mailbox), Some(ModSeq(9)));
        assert_eq!(sessions.deselect(b), None);
        sessions.select(a, MailboxId([2; 16]), true, ModSeq(1));
        assert_eq!((sessions.count(mailbox), sessions.told(mailbox)), (0, None));
        assert_eq!(sessions.slowest(mailbox), None);
    }
}
