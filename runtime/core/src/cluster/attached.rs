//! Below the slot: which session of which node has which mailbox active, as its owner knows it. A mailbox
//! stays open until the last of them has left (E5), whatever node it is on.
//!
//! It is soft state. A session's node asserts each of its sessions when it selects, and all of them again
//! in every lease; one that is not asserted in time is dropped, and so are all of a node that is gone or
//! was started again (E8). A new owner begins with nothing and hears of them within a lease, and sooner,
//! because the nodes are told that the slot has moved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::{MailboxId, SLOTS, SessionId, Slot};

use super::facts::{Generation, NodeId};
use super::limits::{MAX_ATTACHED, MAX_NODES};

/// A session and its mailbox, in 28 octets without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    slot: u16,
    mailbox: [u8; 16],
    node: u16,
    session: [u8; 8],
}

/// The whole seconds in which a session was last asserted.
type Asserted = u32;

#[derive(Clone, Debug)]
struct Node {
    id: NodeId,
    generation: Generation,
    sessions: usize,
}

/// Why an assertion is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAttached {
    /// The registry is full: the session's node answers SELECT as busy.
    #[error("{MAX_ATTACHED} sessions have mailboxes active")]
    Full,
    /// A later incarnation of that node is known: the frame is from before its restart. Drop it.
    #[error("the node has been started again since")]
    Outdated,
    /// Not one of the slots: the frame makes no sense.
    #[error("no such slot")]
    NoSlot,
}

/// The sessions of all nodes that have mailboxes of this owner active.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    sessions: BTreeMap<Key, Asserted>,
    /// Nodes by number; a number is used again when its node has no session left.
    nodes: BTreeMap<u16, Node>,
    by_id: BTreeMap<NodeId, u16>,
}

impl Attached {
    /// A session has a mailbox active, or still has. Whether this is news.
    ///
    /// # Errors
    /// [`NotAttached`]; nothing has changed then.
    pub fn attach(
        &mut self,
        slot: Slot,
        mailbox: MailboxId,
        from: (&NodeId, Generation),
        session: SessionId,
        now: Duration,
    ) -> Result<bool, NotAttached> {
        if slot.0 >= SLOTS {
            return Err(NotAttached::NoSlot);
        }
        self.generation_of(from)?;
        let node = match self.by_id.get(from.0) {
            Some(node) => *node,
            None => self.number(from)?,
        };
        let key = key(slot, mailbox, node, session);
        if let Some(asserted) = self.sessions.get_mut(&key) {
            *asserted = now.as_secs() as Asserted;
            return Ok(false);
        }
        if self.sessions.len() >= MAX_ATTACHED {
            self.let_go(node);
            return Err(NotAttached::Full);
        }
        self.sessions.insert(key, now.as_secs() as Asserted);
        self.nodes.entry(node).and_modify(|node| node.sessions += 1);
        Ok(true)
    }

    /// A session has left a mailbox. Whether it was the last one anywhere: the mailbox may be closed.
    pub fn detach(
        &mut self,
        slot: Slot,
        mailbox: MailboxId,
        from: (&NodeId, Generation),
        session: SessionId,
    ) -> bool {
        let number = self.by_id.get(from.0).copied();
        let is_its = |number: &u16| self.nodes[number].generation == from.1;
        let Some(node) = number.filter(is_its) else { return false };
        if self.sessions.remove(&key(slot, mailbox, node, session)).is_none() {
            return false;
        }
        self.nodes.entry(node).and_modify(|node| node.sessions -= 1);
        self.let_go(node);
        !self.is_active(slot, mailbox)
    }

    /// A node is gone, or this incarnation of it. The mailboxes that nobody has active any more (E8).
    pub fn node_gone(&mut self, node: &NodeId, generation: Generation) -> Vec<(Slot, MailboxId)> {
        match self.by_id.get(node).copied() {
            Some(number) if self.nodes[&number].generation <= generation => {
                self.drop_where(|key, _| key.node == number)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Drops the sessions that were not asserted within the lease. The mailboxes that nobody has
    /// active any more.
    pub fn expire(&mut self, now: Duration, lease: Duration) -> Vec<(Slot, MailboxId)> {
        let oldest = now.saturating_sub(lease).as_secs() as Asserted;
        self.drop_where(|_, asserted| asserted < oldest)
    }

    /// The slot is let go or lost: its new owner will hear of its sessions.
    pub fn forget_slot(&mut self, slot: Slot) {
        self.drop_where(|key, _| key.slot == slot.0);
    }

    fn drop_where(&mut self, drops: impl Fn(&Key, Asserted) -> bool) -> Vec<(Slot, MailboxId)> {
        let mut left = BTreeSet::new();
        let nodes = &mut self.nodes;
        self.sessions.retain(|key, asserted| {
            let is_dropped = drops(key, *asserted);
            if is_dropped {
                left.insert((Slot(key.slot), MailboxId(key.mailbox)));
                nodes.entry(key.node).and_modify(|node| node.sessions -= 1);
            }
            !is_dropped
        });
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.let_go(node);
        }
        left.into_iter().filter(|(slot, mailbox)| !self.is_active(*slot, *mailbox)).collect()
    }

    /// Whether any session anywhere has the mailbox active.
    pub fn is_active(&self, slot: Slot, mailbox: MailboxId) -> bool {
        self.of_mailbox(slot, mailbox).next().is_some()
    }

    /// Whether no session has anything in the slot active: with nothing else open it may be let go.
    pub fn is_idle(&self, slot: Slot) -> bool {
        self.sessions.range(first(slot, [0; 16])..=last(slot, [0xff; 16])).next().is_none()
    }

    /// The sessions that have a mailbox active, for `mailbox where`.
    pub fn sessions(
        &self,
        slot: Slot,
        mailbox: MailboxId,
    ) -> impl Iterator<Item = (&NodeId, Generation, SessionId)> {
        self.of_mailbox(slot, mailbox).map(|key| {
            let node = &self.nodes[&key.node];
            (&node.id, node.generation, SessionId(u64::from_be_bytes(key.session)))
        })
    }

    /// The nodes that hear of changes in a mailbox.
    pub fn watchers(&self, slot: Slot, mailbox: MailboxId) -> BTreeSet<&NodeId> {
        self.of_mailbox(slot, mailbox).map(|key| &self.nodes[&key.node].id).collect()
    }

    /// The nodes that are told when a slot moves.
    pub fn nodes_of(&self, slot: Slot) -> BTreeSet<&NodeId> {
        let keys = self.sessions.range(first(slot, [0; 16])..=last(slot, [0xff; 16]));
        keys.map(|(key, _)| &self.nodes[&key.node].id).collect()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn of_mailbox(&self, slot: Slot, mailbox: MailboxId) -> impl Iterator<Item = &Key> {
        self.sessions.range(first(slot, mailbox.0)..=last(slot, mailbox.0)).map(|(key, _)| key)
    }

    /// A later incarnation takes the place of the one before, whose sessions ended with it.
    fn generation_of(
        &mut self,
        (id, generation): (&NodeId, Generation),
    ) -> Result<(), NotAttached> {
        match self.by_id.get(id).map(|number| self.nodes[number].generation) {
            Some(known) if known > generation => Err(NotAttached::Outdated),
            Some(known) if known < generation => {
                self.node_gone(id, known);
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn number(&mut self, (id, generation): (&NodeId, Generation)) -> Result<u16, NotAttached> {
        let free = (0..MAX_NODES as u16).find(|number| !self.nodes.contains_key(number));
        let number = free.ok_or(NotAttached::Full)?;
        self.nodes.insert(number, Node { id: id.clone(), generation, sessions: 0 });
        self.by_id.insert(id.clone(), number);
        Ok(number)
    }

    fn let_go(&mut self, number: u16) {
        if self.nodes.get(&number).is_some_and(|node| node.sessions == 0)
            && let Some(node) = self.nodes.remove(&number)
        {
            self.by_id.remove(&node.id);
        }
    }
}

fn key(slot: Slot, mailbox: MailboxId, node: u16, session: SessionId) -> Key {
    Key { slot: slot.0, mailbox: mailbox.0, node, session: session.0.to_be_bytes() }
}

fn first(slot: Slot, mailbox: [u8; 16]) -> Key {
    Key { slot: slot.0, mailbox, node: 0, session: [0; 8] }
}

fn last(slot: Slot, mailbox: [u8; 16]) -> Key {
    Key { slot: slot.0, mailbox, node: u16::MAX, session: [0xff; 8] }
}
