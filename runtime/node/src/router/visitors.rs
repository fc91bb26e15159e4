//! Sessions of other nodes that have mailboxes active here (E4, E5, E8), as `core` keeps them. Each has a
//! number of this node, under which its account knows it. What changes in its mailbox is told to its node.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use postroom_core::cluster::{self, Left, NodeId, Told, Visitor};
use postroom_core::types::{Epoch, MailboxId, SessionId, Slot, TransactionId};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::cluster::links::{EventSender, EventSource, event_queue};
use crate::mailbox::{Accounts, DELETED, News};

/// The sessions of all other nodes.
pub struct Visitors {
    accounts: Accounts,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    visitors: cluster::Visitors,
    /// Nodes that hear.
    events: BTreeMap<NodeId, Arc<EventSender>>,
    /// Who tells a node of a mailbox's changes.
    telling: HashMap<(NodeId, Told), AbortHandle>,
}

impl State {
    /// A node is not told of these any more.
    fn untell(&mut self, node: &NodeId, untold: &[Told]) {
        for told in untold {
            if let Some(task) = self.telling.remove(&(node.clone(), *told)) {
                task.abort();
            }
        }
    }
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
        self.state().visitors.number(node, session)
    }

    /// The number of a session that has something active here under this claim.
    pub fn known(&self, node: &NodeId, session: SessionId, epoch: Epoch) -> Option<SessionId> {
        self.state().visitors.known(node, session, epoch)
    }

    /// A session has a mailbox active, and its node is told of what `watch` sees.
    pub fn attached(
        self: &Arc<Self>,
        node: &NodeId,
        session: SessionId,
        visitor: Visitor,
        watch: watch::Receiver<News>,
    ) {
        let mut state = self.state();
        let before = state.visitors.attached(node, session, visitor);
        state.untell(node, &before.untold);
        let told = (node.clone(), (visitor.mailbox, visitor.epoch));
        // It ends when the mailbox is closed, which may be open again.
        if state.telling.get(&told).is_none_or(AbortHandle::is_finished) {
            let tell = tell(self.clone(), node.clone(), visitor.mailbox, watch);
            state.telling.insert(told, tokio::spawn(tell).abort_handle());
        }
        drop(state);
        // Two calls of one session under way: the account knows it by two numbers.
        let other = |it: &Visitor| (it.account, it.local) != (visitor.account, visitor.local);
        before.visitors.iter().filter(|(_, it)| other(it)).for_each(|(_, it)| self.leave(it));
    }

    fn leave(&self, visitor: &Visitor) {
        self.accounts.leave(visitor.account, visitor.local);
    }

    /// Ends what those had who have left.
    fn end(&self, node: &NodeId, left: impl FnOnce(&mut State) -> Left) {
        let left = {
            let mut state = self.state();
            let left = left(&mut state);
            state.untell(node, &left.untold);
            left
        };
        left.visitors.iter().for_each(|(_, visitor)| self.leave(visitor));
    }

    fn push(&self, node: &NodeId, mailbox: MailboxId, value: Bytes) {
        let events = self.state().events.get(node).cloned();
        if let Some(events) = events {
            // A broken stream is made again by its reader, who asks for everything then.
            let _ = events.push(mailbox.0, value);
        }
    }

    /// A node wants to hear.
    pub fn events(&self, node: &NodeId) -> EventSource {
        let (events, source) = event_queue();
        self.state().events.insert(node.clone(), Arc::new(events));
        source
    }

    /// Tells every node with sessions in a slot that it has moved.
    pub fn tell_moved(&self, slot: Slot) {
        let state = self.state();
        for node in state.visitors.nodes_with(|account| Slot::of(account) == slot) {
            if let Some(events) = state.events.get(node) {
                let _ = events.push(moved_key(slot), Bytes::new());
            }
        }
    }

    /// A session leaves what it made active by this call.
    pub fn left(&self, node: &NodeId, session: SessionId, under: TransactionId) {
        self.end(node, |state| state.visitors.left(node, session, under));
    }

    /// A node says which of its sessions have something active here. Returns those that have not.
    pub fn named(&self, node: &NodeId, sessions: &[SessionId]) -> Vec<SessionId> {
        let mut unknown = Vec::new();
        self.end(node, |state| {
            let (left, not_known) = state.visitors.named(node, sessions);
            unknown = not_known;
            left
        });
        unknown
    }

    /// A node is gone, with all its sessions (E8).
    pub fn gone(&self, node: &NodeId) {
        self.end(node, |state| {
            state.events.remove(node);
            state.visitors.gone(node)
        });
    }

    /// How many sessions of other nodes have something active here.
    pub fn len(&self) -> usize {
        self.state().visitors.len()
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
