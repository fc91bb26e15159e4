//! What stands before each datagram of gossip: who made it, for whom, and as the how-many-eth. So one that
//! was recorded and is brought again, by whomever, is known for what it is.
//!
//! Nothing of it is secret or signed: it arrives over a link whose other end is known from its certificate,
//! and what it says is held against that. It says nothing about what a member makes up by itself (see
//! [`super`]).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};

use super::MAX_NODES;
use crate::names::NodeId;
use crate::refusals::Reason;

/// How many octets stand before a datagram.
pub(super) const ENVELOPE_OCTETS: usize = 1 + 4 * 8;

/// How it is written.
const FORM: u8 = 1;

/// How far behind the newest a datagram may be: some overtake others when a link is made anew. What is
/// older counts as replayed; gossip says it again.
const WINDOW: u64 = 64;

/// Seals what this node sends.
pub(super) struct Sealer {
    own: NodeId,
    generation: u64,
    sent: Mutex<Sent>,
}

/// How many datagrams were sealed. Counted for each peer: to one that hears a few of many, those would seem to
/// have overtaken each other by far.
#[derive(Default)]
struct Sent {
    /// The last number of each peer that has a socket.
    to: HashMap<NodeId, u64>,
    /// What another peer's numbers come after: any that was used for one that is forgotten, since it may
    /// have been this one.
    after: u64,
}

impl Sealer {
    /// Of a node in its so-many-eth life: with a higher one than ever before, as numbers begin anew.
    pub(super) fn new(own: NodeId, generation: u64) -> Self {
        Self { own, generation, sent: Mutex::default() }
    }

    pub(super) fn seal(&self, to: &NodeId, datagram: &[u8]) -> Bytes {
        let mut sealed = BytesMut::with_capacity(ENVELOPE_OCTETS + datagram.len());
        sealed.put_u8(FORM);
        sealed.put_u64(tag(&self.own));
        sealed.put_u64(tag(to));
        sealed.put_u64(self.generation);
        sealed.put_u64(self.number(to));
        sealed.put_slice(datagram);
        sealed.freeze()
    }

    fn number(&self, to: &NodeId) -> u64 {
        let mut sent = self.sent();
        let after = sent.after;
        let last = sent.to.entry(to.clone()).or_insert(after);
        *last += 1;
        *last
    }

    /// Forgets how many a peer was sent.
    pub(super) fn forget(&self, to: &NodeId) {
        let mut sent = self.sent();
        if let Some(last) = sent.to.remove(to) {
            sent.after = sent.after.max(last);
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node's name, short. Two names with one tag are no danger: the link says who it is.
fn tag(node: &NodeId) -> u64 {
    let digest = blake3::hash(node.as_str().as_bytes());
    u64::from_be_bytes(digest.as_bytes()[..8].try_into().expect("a digest has more"))
}

/// Opens what arrives; remembers of each peer what has been.
#[derive(Debug, Default)]
pub(super) struct Opener(HashMap<NodeId, Heard>);

/// What has come of a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    generation: u64,
    newest: u64,
    /// Which of the last [`WINDOW`] have come; the newest is the lowest bit.
    lately: u64,
}

impl Opener {
    /// The datagram within, or why it is not taken.
    pub(super) fn open(
        &mut self,
        own: &NodeId,
        from: &NodeId,
        sealed: &Bytes,
    ) -> Result<Bytes, Reason> {
        let Some((head, _)) = sealed.split_first_chunk::<ENVELOPE_OCTETS>() else {
            return Err(Reason::MalformedGossip);
        };
        let word = |at: usize| {
            let octets = &head[1 + 8 * at..][..8];
            u64::from_be_bytes(octets.try_into().expect("eight of them"))
        };
        if head[0] != FORM {
            return Err(Reason::MalformedGossip);
        }
        if word(0) != tag(from) || word(1) != tag(own) {
            return Err(Reason::ReplayedGossip);
        }
        if self.0.len() >= MAX_NODES && !self.0.contains_key(from) {
            return Err(Reason::TooMany);
        }
        let heard = self.0.entry(from.clone()).or_default();
        match heard.is_new(word(2), word(3)) {
            true => Ok(sealed.slice(ENVELOPE_OCTETS..)),
            false => Err(Reason::ReplayedGossip),
        }
    }

    /// Forgets the others. What was recorded of them would be taken once more: it can only come by their own
    /// links, and says nothing new.
    pub(super) fn retain(&mut self, keep: impl Fn(&NodeId) -> bool) {
        self.0.retain(|peer, _| keep(peer));
    }
}

impl Heard {
    /// Whether it has not come before; notes it.
    fn is_new(&mut self, generation: u64, number: u64) -> bool {
        if generation > self.generation {
            *self = Self { generation, newest: 0, lately: 0 };
        }
        if generation < self.generation || number == 0 {
            return false;
        }
        if number > self.newest {
            let by = number - self.newest;
            self.lately = if by < WINDOW { self.lately << by } else { 0 } | 1;
            self.newest = number;
            return true;
        }
        let behind = self.newest - number;
        let bit = if behind < WINDOW { 1 << behind } else { return false };
        let is_new = self.lately & bit == 0;
        self.lately |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn a_datagram_is_opened_once_and_only_by_whom_it_is_for() {
        let (one, two, three) = (id("one"), id("two"), id("three"));
        let sealer = Sealer::new(one.clone(), 3);
        let sealed = sealer.seal(&two, b"hello");
        let mut opener = Opener::default();
        assert_eq!(opener.open(&two, &one, &sealed), Ok(Bytes::from_static(b"hello")));
        assert_eq!(opener.open(&two, &one, &sealed), Err(Reason::ReplayedGossip), "again");
        assert_eq!(opener.open(&two, &three, &sealed), Err(Reason::ReplayedGossip), "by another");
        let mut others = Opener::default();
        assert_eq!(others.open(&three, &one, &sealed), Err(Reason::ReplayedGossip), "to another");
        let old = Sealer::new(one.clone(), 2).seal(&two, b"old");
        assert_eq!(opener.open(&two, &one, &old), Err(Reason::ReplayedGossip), "an older life");
        let new = Sealer::new(one.clone(), 4).seal(&two, b"new");
        assert_eq!(opener.open(&two, &one, &new), Ok(Bytes::from_static(b"new")));
        for cut in 0..ENVELOPE_OCTETS {
            let short = sealed.slice(..cut);
            assert_eq!(opener.open(&two, &one, &short), Err(Reason::MalformedGossip), "{cut}");
        }
    }

    #[test]
    fn datagrams_to_others_do_not_count_as_overtaking() {
        let (one, two) = (id("one"), id("two"));
        let sealer = Sealer::new(one.clone(), 1);
        let first = sealer.seal(&two, b"first");
        for number in 0..100 {
            sealer.seal(&id(&format!("n{number}")), b"others");
        }
        let second = sealer.seal(&two, b"second");
        let mut opener = Opener::default();
        assert_eq!(opener.open(&two, &one, &second), Ok(Bytes::from_static(b"second")));
        assert_eq!(opener.open(&two, &one, &first), Ok(Bytes::from_static(b"first")), "late");
    }

    #[test]
    fn a_peer_that_was_forgotten_meanwhile_takes_what_it_is_sent() {
        let (one, two, three) = (id("one"), id("two"), id("three"));
        let (sealer, mut opener) = (Sealer::new(one.clone(), 1), Opener::default());
        let sealed: Vec<_> = (0..100).map(|_| sealer.seal(&two, b"before")).collect();
        assert!(sealed.iter().all(|sealed| opener.open(&two, &one, sealed).is_ok()));
        sealer.seal(&three, b"other");
        sealer.forget(&two);
        sealer.forget(&three);
        // It has not forgotten us.
        assert!(opener.open(&two, &one, &sealer.seal(&two, b"after")).is_ok());
        opener.retain(|_| false);
        assert!(opener.open(&two, &one, &sealer.seal(&two, b"anew")).is_ok());
    }

    #[test]
    fn what_was_overtaken_is_taken_once_and_what_is_too_old_never() {
        let mut heard = Heard::default();
        assert!(heard.is_new(1, 1) && heard.is_new(1, 5) && heard.is_new(1, 3));
        assert!(!heard.is_new(1, 5) && !heard.is_new(1, 3) && !heard.is_new(1, 1));
        assert!(heard.is_new(1, 4 + WINDOW) && heard.is_new(1, 6) && !heard.is_new(1, 5));
        assert!(!heard.is_new(1, 4), "beyond the window, though it never came");
        assert!(heard.is_new(1, u64::MAX) && !heard.is_new(1, 4 + WINDOW));
        assert!(!heard.is_new(1, 0) && heard.is_new(2, 1));
    }
}
