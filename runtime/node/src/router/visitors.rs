//! Sessions of other nodes that have mailboxes active here (E4, E5, E8). Each has a number of this node, under
//! which its account knows it. What changes in its mailbox is told to its node.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use postroom_core::cluster::NodeId;
use postroom_core::types::{AccountId, Epoch, MailboxId, SessionId, Slot, TransactionId};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::cluster::links::{EventSender, EventSource, event_queue};
use crate::mailbox::{Accounts, DELETED, News};

/// Numbers of other nodes' sessions start here: this node's own never come so far.
const FIRST_VISITOR: u64 = 1 << 63;
/// Most sessions of one node that have mailboxes active here: as many clients as a node lets in, and room.
pub const MAX_VISITORS_OF_A_NODE: usize = 100_000;
/// A session that its node has not named so often in a row is taken to have left.
const MISSED: u8 = 2;

/// A session of another node.
#[derive(Clone, Copy, Debug)]
struct Visitor {
    local: SessionId,
    account: AccountId,
    mailbox: MailboxId,
    /// The claim under which it is registered.
    epoch: Epoch,
    /// The call by which it was made active.
    under: TransactionId,
    /// How often in a row its node did not name it.
    missed: u8,
}

#[derive(Default)]
struct Peer {
    sessions: HashMap<SessionId, Visitor>,
    events: Option<Arc<EventSender>>,
    /// Mailboxes whose changes are told, with the claim under which they are open: for how many sessions,
    /// and by which task.
    told: HashMap<(MailboxId, Epoch), (usize, AbortHandle)>,
}

impl Peer {
    /// Takes a session out. Nobody is told of its mailbox any more when it was the last one there.
    fn remove(&mut self, session: SessionId) -> Option<Visitor> {
        let visitor = self.sessions.remove(&session)?;
        let told = (visitor.mailbox, visitor.epoch);
        if let Some((sessions, task)) = self.told.get_mut(&told) {
            *sessions -= 1;
            if *sessions == 0 {
                task.abort();
                self.told.remove(&told);
            }
        }
        Some(visitor)
    }
}

/// The sessions of all other nodes.
pub struct Visitors {
    accounts: Accounts,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<NodeId, Peer>,
    last: u64,
}

impl Visitors {
    /// None.
    pub fn new(accounts: Accounts) -> Arc<Self> {
        Arc::new(Self { accounts, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number under which a session that is about to make a mailbox active will be known. `None`: its
    /// node has too many.
    pub fn number(&self, node: &NodeId, session: SessionId) -> Option<SessionId> {
        let mut state = self.state();
        let State { peers, last } = &mut *state;
        let peer = peers.entry(node.clone()).or_default();
        if let Some(visitor) = peer.sessions.get(&session) {
            return Some(visitor.local);
        }
        if peer.sessions.len() >= MAX_VISITORS_OF_A_NODE {
            return None;
        }
        *last += 1;
        Some(SessionId(FIRST_VISITOR + *last))
    }

    /// The number of a session that has something active here under this claim.
    pub fn known(&self, node: &NodeId, session: SessionId, epoch: Epoch) -> Option<SessionId> {
        let state = self.state();
        let visitor = state.peers.get(node)?.sessions.get(&session)?;
        (visitor.epoch == epoch).then_some(visitor.local)
    }

    /// A session has a mailbox active, and its node is told of what `watch` sees.
    pub fn attached(
        self: &Arc<Self>,
        node: &NodeId,
        (session, local): (SessionId, SessionId),
        (account, mailbox, epoch): (AccountId, MailboxId, Epoch),
        under: TransactionId,
        watch: watch::Receiver<News>,
    ) {
        let visitor = Visitor { local, account, mailbox, epoch, under, missed: 0 };
        let mut state = self.state();
        let peer = state.peers.entry(node.clone()).or_default();
        let before = peer.remove(session);
        peer.sessions.insert(session, visitor);
        let tell = || {
            let tell = tell(self.clone(), node.clone(), mailbox, watch);
            tokio::spawn(tell).abort_handle()
        };
        match peer.told.entry((mailbox, epoch)) {
            Entry::Occupied(mut there) => {
                let (sessions, task) = there.get_mut();
                *sessions += 1;
                // The mailbox was closed and opened again.
                if task.is_finished() {
                    *task = tell();
                }
            }
            Entry::Vacant(free) => drop(free.insert((1, tell()))),
        }
        drop(state);
        // Two calls of one session under way: the account knows it by two numbers.
        if let Some(before) = before.filter(|it| (it.account, it.local) != (account, local)) {
            self.accounts.leave(before.account, before.local);
        }
    }

    fn push(&self, node: &NodeId, mailbox: MailboxId, value: Bytes) {
        let events = self.state().peers.get(node).and_then(|peer| peer.events.clone());
        if let Some(events) = events {
            // A broken stream is made again by its reader, who asks for everything then.
            let _ = events.push(mailbox.0, value);
        }
    }

    /// A node wants to hear.
    pub fn events(&self, node: &NodeId) -> EventSource {
        let (events, source) = event_queue();
        self.state().peers.entry(node.clone()).or_default().events = Some(Arc::new(events));
        source
    }

    /// Tells every node with sessions in a slot that it has moved.
    pub fn tell_moved(&self, slot: Slot) {
        let state = self.state();
        for peer in state.peers.values() {
            let has = peer.sessions.values().any(|visitor| Slot::of(visitor.account) == slot);
            if let (true, Some(events)) = (has, &peer.events) {
                let _ = events.push(moved_key(slot), Bytes::new());
            }
        }
    }

    /// A session leaves what it made active by this call.
    pub fn left(&self, node: &NodeId, session: SessionId, under: TransactionId) {
        let left = self.state().peers.get_mut(node).and_then(|peer| {
            let same = peer.sessions.get(&session).is_some_and(|visitor| visitor.under == under);
            if same { peer.remove(session) } else { None }
        });
        if let Some(visitor) = left {
            self.accounts.leave(visitor.account, visitor.local);
        }
    }

    /// A node says which of its sessions have something active here. One that was registered after it began
    /// to say so is in the next one. Returns those that have not.
    pub fn named(&self, node: &NodeId, sessions: &[SessionId]) -> Vec<SessionId> {
        let named: HashSet<SessionId> = sessions.iter().copied().collect();
        let mut gone = Vec::new();
        let mut unknown = sessions.to_vec();
        if let Some(peer) = self.state().peers.get_mut(node) {
            let mut unnamed = Vec::new();
            for (session, visitor) in &mut peer.sessions {
                visitor.missed = if named.contains(session) { 0 } else { visitor.missed + 1 };
                if visitor.missed >= MISSED {
                    unnamed.push(*session);
                }
            }
            gone.extend(unnamed.into_iter().filter_map(|session| peer.remove(session)));
            unknown.retain(|session| !peer.sessions.contains_key(session));
        }
        gone.iter().for_each(|visitor| self.accounts.leave(visitor.account, visitor.local));
        unknown
    }

    /// A node is gone, with all its sessions (E8).
    pub fn gone(&self, node: &NodeId) {
        let Some(peer) = self.state().peers.remove(node) else { return };
        peer.told.values().for_each(|(_, task)| task.abort());
        for visitor in peer.sessions.values() {
            self.accounts.leave(visitor.account, visitor.local);
        }
    }

    /// How many sessions of other nodes have something active here.
    pub fn len(&self) -> usize {
        self.state().peers.values().map(|peer| peer.sessions.len()).sum()
    }
}

/// Tells a node of a mailbox's changes until its account is closed.
async fn tell(
    visitors: Arc<Visitors>,
    node: NodeId,
    mailbox: MailboxId,
    mut watch: watch::Receiver<News>,
) {
    loop {
        let at = watch.borrow_and_update().at;
        visitors.push(&node, mailbox, change(at.0));
        if at == DELETED {
            return;
        }
        if watch.changed().await.is_err() {
            // The account is open here no more: whoever waits has to ask.
            return visitors.push(&node, mailbox, Bytes::new());
        }
    }
}

/// A change of a mailbox as an event.
fn change(modseq: u64) -> Bytes {
    Bytes::copy_from_slice(&modseq.to_be_bytes())
}

/// The key of the event that a slot has moved: no mailbox has such an id.
pub fn moved_key(slot: Slot) -> [u8; 16] {
    let mut key = [0xFF; 16];
    key[14..].copy_from_slice(&slot.0.to_be_bytes());
    key
}

/// The slot of such a key.
pub fn moved_slot(key: &[u8; 16]) -> Option<Slot> {
    let of_slot = key[..14].iter().all(|octet| *octet == 0xFF);
    of_slot.then(|| Slot(u16::from_be_bytes([key[14], key[15]])))
}
