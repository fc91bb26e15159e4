//! Below the slot: the sessions of other nodes that have mailboxes active here (E4), each of which keeps its
//! mailbox open until it leaves (E5), whatever happens to the node that it is on (E8).
//!
//! It is soft state. A session's node names all its sessions again and again; one that is not named twice in
//! a row is dropped, and so are all of a node that is gone. A new owner begins with nothing: a session that
//! it does not know is told to attach again.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{AccountId, Epoch, MailboxId, SessionId, TransactionId};

use super::facts::NodeId;
use super::limits::MAX_VISITORS_OF_A_NODE;

/// Numbers of other nodes' sessions start here: this node's own never come so far.
const FIRST_VISITOR: u64 = 1 << 63;
/// A session that its node has not named so often in a row is taken to have left.
const MISSED: u8 = 2;

/// What a session of another node has active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The number under which its account knows it here.
    pub local: SessionId,
    /// The account.
    pub account: AccountId,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The claim under which it is registered.
    pub epoch: Epoch,
    /// The call by which it was made active.
    pub under: TransactionId,
}

/// A mailbox whose changes a node is told of, and the claim under which it is open.
pub type Told = (MailboxId, Epoch);

/// Who has left, and what is to be done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Sessions by the numbers of their own node, with what they had.
    pub visitors: Vec<(SessionId, Visitor)>,
    /// Of these the node is not told any more.
    pub untold: Vec<Told>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    visitor: Visitor,
    /// How often in a row its node did not name it.
    missed: u8,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    sessions: BTreeMap<SessionId, Known>,
    /// For how many sessions.
    told: BTreeMap<Told, u32>,
}

impl Peer {
    fn remove(&mut self, session: SessionId, left: &mut Left) {
        let Some(Known { visitor, .. }) = self.sessions.remove(&session) else { return };
        let told = (visitor.mailbox, visitor.epoch);
        if let Some(sessions) = self.told.get_mut(&told) {
            *sessions -= 1;
            if *sessions == 0 {
                self.told.remove(&told);
                left.untold.push(told);
            }
        }
        left.visitors.push((session, visitor));
    }
}

/// The sessions of all other nodes.
#[derive(Clone, Debug, Default)]
pub struct Visitors {
    peers: BTreeMap<NodeId, Peer>,
    last: u64,
}

impl Visitors {
    /// The number under which a session that is about to make a mailbox active will be known. `None`: its
    /// node has too many.
    pub fn number(&mut self, node: &NodeId, session: SessionId) -> Option<SessionId> {
        let sessions = self.peers.get(node).map(|peer| &peer.sessions);
        if let Some(known) = sessions.and_then(|sessions| sessions.get(&session)) {
            return Some(known.visitor.local);
        }
        if sessions.is_some_and(|sessions| sessions.len() >= MAX_VISITORS_OF_A_NODE) {
            return None;
        }
        self.last += 1;
        Some(SessionId(FIRST_VISITOR + self.last))
    }

    /// The number of a session that has something active here under this claim.
    pub fn known(&self, node: &NodeId, session: SessionId, epoch: Epoch) -> Option<SessionId> {
        let visitor = self.peers.get(node)?.sessions.get(&session)?.visitor;
        (visitor.epoch == epoch).then_some(visitor.local)
    }

    /// A session has something active now, and its node is told of changes in it. What it had active before,
    /// in its place.
    pub fn attached(&mut self, node: &NodeId, session: SessionId, visitor: Visitor) -> Left {
        let peer = self.peers.entry(node.clone()).or_default();
        let told = (visitor.mailbox, visitor.epoch);
        // Counted first, so that it does not end in between.
        *peer.told.entry(told).or_default() += 1;
        let mut before = Left::default();
        peer.remove(session, &mut before);
        peer.sessions.insert(session, Known { visitor, missed: 0 });
        before
    }

    /// A session leaves what it made active by this call.
    pub fn left(&mut self, node: &NodeId, session: SessionId, under: TransactionId) -> Left {
        let mut left = Left::default();
        if let Some(peer) = self.peers.get_mut(node)
            && peer.sessions.get(&session).is_some_and(|known| known.visitor.under == under)
        {
            peer.remove(session, &mut left);
        }
        left
    }

    /// A node names its sessions that have something active here. Who has left by that, and which of the
    /// named ones are not known. One that was registered after it began to name them is in the next list.
    pub fn named(&mut self, node: &NodeId, sessions: &[SessionId]) -> (Left, Vec<SessionId>) {
        let mut left = Left::default();
        let Some(peer) = self.peers.get_mut(node) else { return (left, sessions.to_vec()) };
        let named: BTreeSet<SessionId> = sessions.iter().copied().collect();
        let mut unnamed = Vec::new();
        for (session, known) in &mut peer.sessions {
            known.missed = if named.contains(session) { 0 } else { known.missed + 1 };
            if known.missed >= MISSED {
                unnamed.push(*session);
            }
        }
        unnamed.into_iter().for_each(|session| peer.remove(session, &mut left));
        let unknown = sessions.iter().filter(|session| !peer.sessions.contains_key(session));
        let unknown = unknown.copied().collect();
        (left, unknown)
    }

    /// A node is gone, with all its sessions (E8).
    pub fn gone(&mut self, node: &NodeId) -> Left {
        let Some(peer) = self.peers.remove(node) else { return Left::default() };
        let visitors = peer.sessions.into_iter().map(|(session, known)| (session, known.visitor));
        Left { visitors: visitors.collect(), untold: peer.told.into_keys().collect() }
    }

    /// The nodes that are told of changes in a mailbox.
    pub fn watchers(&self, mailbox: MailboxId) -> impl Iterator<Item = &NodeId> {
        let all = (mailbox, Epoch(0))..=(mailbox, Epoch(u64::MAX));
        let peers = self.peers.iter();
        peers
            .filter(move |(_, peer)| peer.told.range(all.clone()).next().is_some())
            .map(|(id, _)| id)
    }

    /// The nodes with sessions in some of these accounts.
    pub fn nodes_with(&self, account: impl Fn(AccountId) -> bool) -> impl Iterator<Item = &NodeId> {
        let has =
            move |peer: &Peer| peer.sessions.values().any(|known| account(known.visitor.account));
        self.peers.iter().filter(move |(_, peer)| has(peer)).map(|(id, _)| id)
    }

    /// Whether any session of another node has the mailbox active.
    pub fn is_active(&self, mailbox: MailboxId) -> bool {
        self.watchers(mailbox).next().is_some()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.peers.values().map(|peer| peer.sessions.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.peers.values().all(|peer| peer.sessions.is_empty())
    }
}
