//! What stands before each datagram of gossip: who made it, for whom, and as the how-many-eth. So one that
//! was recorded and is brought again, by whomever, is known for what it is.
//!
//! Nothing of it is secret or signed: it arrives over a link whose other end is known from its certificate,
//! and what it says is held against that. It says nothing about what a member makes up by itself (see
//! [`super`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

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
    sent: AtomicU64,
}

impl Sealer {
    /// Of a node in its so-many-eth life: with a higher one than ever before, as numbers begin anew.
    pub(super) fn new(own: NodeId, generation: u64) -> Self {
        Self { own, generation, sent: AtomicU64::new(0) }
    }

    pub(super) fn seal(&self, to: &NodeId, datagram: &[u8]) -> Bytes {
        let mut sealed = BytesMut::with_capacity(ENVELOPE_OCTETS + datagram.len());
        sealed.put_u8(FORM);
        sealed.put_u64(tag(&self.own));
        sealed.put_u64(tag(to));
        sealed.put_u64(self.generation);
        sealed.put_u64(1 + self.sent.fetch_add(1, Ordering::Relaxed));
        sealed.put_slice(datagram);
        sealed.freeze()
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
