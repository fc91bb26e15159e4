//! What this node's sessions wait for, wherever their mailboxes are open. A session subscribes here once;
//! who feeds it, an account of this node or the event stream of another one, may change meanwhile. Only the
//! node that the mailbox was last found open at is believed: what any other one says of it wakes whoever
//! waits, who then asks the owner.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postroom_core::cluster::NodeId;
use postroom_core::types::{MailboxId, ModSeq};
use tokio::sync::watch;

use crate::mailbox::{DELETED, News};

/// How often subscriptions that nobody holds any more are looked for: once in so many new ones.
const SWEEP_AFTER: usize = 1024;

/// Subscriptions by mailbox. As many as sessions of this node have had mailboxes active at a time, and
/// [`SWEEP_AFTER`] more.
#[derive(Default)]
pub struct Hub {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mailboxes: HashMap<MailboxId, Subscription>,
    since_sweep: usize,
}

struct Subscription {
    sender: watch::Sender<News>,
    /// Where the mailbox was last found open.
    open_at: NodeId,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscription to a mailbox that is open at a node, whose last change is known to be at least this.
    pub fn subscribe(
        &self,
        mailbox: MailboxId,
        at: ModSeq,
        open_at: &NodeId,
    ) -> watch::Receiver<News> {
        let mut state = self.state();
        state.since_sweep += 1;
        if state.since_sweep > SWEEP_AFTER {
            state.mailboxes.retain(|_, it| !it.sender.is_closed());
            state.since_sweep = 0;
        }
        match state.mailboxes.entry(mailbox) {
            Entry::Occupied(mut there) => {
                there.get_mut().moved(open_at);
                raise(&there.get().sender, at);
                there.get().sender.subscribe()
            }
            Entry::Vacant(free) => {
                let (sender, news) = watch::channel(News::at(at));
                free.insert(Subscription { sender, open_at: open_at.clone() });
                news
            }
        }
    }

    /// A mailbox is open at this node, maybe another one than before: whoever waits is woken then, and asks it.
    pub fn moved(&self, mailbox: MailboxId, open_at: &NodeId) {
        if let Some(there) = self.state().mailboxes.get_mut(&mailbox) {
            there.moved(open_at);
        }
    }

    /// A mailbox has changed, as its owner says. False: nobody waits for it.
    pub fn changed(&self, mailbox: MailboxId, at: ModSeq) -> bool {
        self.state().changed(mailbox, at)
    }

    /// A node says that a mailbox has changed, which need not be open there.
    pub fn told(&self, by: &NodeId, mailbox: MailboxId, at: ModSeq) {
        let mut state = self.state();
        match state.mailboxes.get(&mailbox) {
            Some(there) if there.open_at == *by => drop(state.changed(mailbox, at)),
            Some(there) => there.wake(),
            None => {}
        }
    }

    /// Something may have happened in a mailbox of which nobody has told: whoever waits is woken, and asks.
    pub fn wake(&self, mailbox: MailboxId) {
        if let Some(there) = self.state().mailboxes.get(&mailbox) {
            there.wake();
        }
    }

    /// As [`wake`](Self::wake), of several.
    pub fn wake_all(&self, mailboxes: impl IntoIterator<Item = MailboxId>) {
        mailboxes.into_iter().for_each(|mailbox| self.wake(mailbox));
    }
}

impl State {
    fn changed(&mut self, mailbox: MailboxId, at: ModSeq) -> bool {
        let Some(there) = self.mailboxes.get(&mailbox).filter(|it| !it.sender.is_closed()) else {
            self.mailboxes.remove(&mailbox);
            return false;
        };
        raise(&there.sender, at);
        if at == DELETED {
            self.mailboxes.remove(&mailbox);
            return false;
        }
        true
    }
}

impl Subscription {
    fn moved(&mut self, open_at: &NodeId) {
        if self.open_at != *open_at {
            self.open_at.clone_from(open_at);
            self.wake();
        }
    }

    fn wake(&self) {
        self.sender.send_modify(|news| news.missed = news.missed.wrapping_add(1));
    }
}

/// What was told of a mailbox never goes back: events and answers may overtake each other.
fn raise(sender: &watch::Sender<News>, at: ModSeq) {
    sender.send_if_modified(|told| {
        let later = at > told.at;
        told.at = at.max(told.at);
        later
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const INBOX: MailboxId = MailboxId([1; 16]);

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn who_waits_hears_of_changes_whoever_tells_and_of_nothing_twice() {
        let hub = Hub::default();
        let mut watch = hub.subscribe(INBOX, ModSeq(5), &node("a"));
        let mut second = hub.subscribe(INBOX, ModSeq(3), &node("a"));
        assert_eq!(second.borrow_and_update().at, ModSeq(5));
        watch.mark_unchanged();
        assert!(hub.changed(INBOX, ModSeq(4)) && !watch.has_changed().unwrap());
        assert!(hub.changed(INBOX, ModSeq(6)) && watch.has_changed().unwrap());
        assert_eq!(*watch.borrow_and_update(), News::at(ModSeq(6)));
        hub.wake(INBOX);
        assert_eq!(*watch.borrow_and_update(), News { at: ModSeq(6), missed: 1 });
        assert!(!hub.changed(INBOX, DELETED));
        assert_eq!(watch.borrow_and_update().at, DELETED);
        assert_eq!(second.borrow_and_update().at, DELETED);
    }

    #[test]
    fn nothing_is_kept_for_mailboxes_that_nobody_waits_for() {
        let hub = Hub::default();
        for n in 0..10 * SWEEP_AFTER as u128 {
            drop(hub.subscribe(MailboxId::from_u128(n), ModSeq(1), &node("a")));
        }
        assert!(hub.state().mailboxes.len() <= SWEEP_AFTER + 1);
        drop(hub.subscribe(INBOX, ModSeq(1), &node("a")));
        assert!(!hub.changed(INBOX, ModSeq(2)));
    }

    #[test]
    fn only_the_node_that_has_a_mailbox_open_is_believed() {
        let hub = Hub::default();
        let mut watch = hub.subscribe(INBOX, ModSeq(5), &node("a"));
        for lie in [ModSeq(1 << 62), DELETED] {
            hub.told(&node("b"), INBOX, lie);
            assert_eq!(watch.borrow_and_update().at, ModSeq(5), "it is woken, and asks");
        }
        assert_eq!(watch.borrow().missed, 2);
        hub.told(&node("a"), INBOX, ModSeq(6));
        assert_eq!(*watch.borrow_and_update(), News { at: ModSeq(6), missed: 2 });
        // It goes to another node: from then on that one tells.
        hub.moved(INBOX, &node("b"));
        hub.told(&node("a"), INBOX, ModSeq(9));
        hub.told(&node("b"), INBOX, ModSeq(7));
        assert_eq!(*watch.borrow_and_update(), News { at: ModSeq(7), missed: 4 });
        hub.told(&node("b"), INBOX, DELETED);
        assert_eq!(watch.borrow_and_update().at, DELETED);
    }
}
