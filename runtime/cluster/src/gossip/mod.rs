//! The few facts that every node has about every other one: small values under a few keys, each
//! written by its own node, spread to all by gossip, with an opinion on who is alive.
//!
//! A fact is old news by the time it is read, and an opinion may be wrong: what must be right is
//! checked elsewhere (the claim in storage). Facts are overwritten, never removed: fresh nodes
//! would not get in any more (quickwit-oss/chitchat#127).
//!
//! Two implementations: [`Scuttlebutt`] carries datagrams over the authenticated links, [`memory`]
//! spreads facts within a process as a test or a simulation says.
//!
//! **What members can lie about.** Who carries a datagram is known from its certificate, but gossip
//! passes on what it has heard of others, so a member can forge facts, heartbeats and generations of
//! any other node; a datagram does not show it. Only members can (strangers have no link); a node
//! that somebody claims to be with a higher generation hears of it ([`Members::twin`]); and whoever
//! acts on a forged fact meets the certificate of the node that it calls and the fence in storage.
//! The lie costs time, never mail; revoking the liar's certificate ends it.
//!
//! **What was recorded** and is brought again is refused and counted (`envelope.rs`): by its maker's own link,
//! by another member's, to its addressee or to another one. What a node that was just started has not seen is
//! taken once, and says nothing new then: versions and heartbeats only rise.
//!
//! **What it costs**, all nodes and their links in one process on two busy cores, [`INTERVAL`], a bitmap and an
//! address for each node; octets are what a node sends, with nothing changing:
//!
//! | nodes | a change at all others, p50 / p99 | octets/s a node | CPU a node |
//! |---|---|---|---|
//! | 3 | 4.6 / 95 ms | 1,516 | 0.22 % |
//! | 10 | 1.9 / 82 ms | 4,152 | 0.30 % |
//! | 30 | 20 / 469 ms | 10,087 | 0.74 % |
//! | 50 | 76 / 485 ms | 15,189 | 0.89 % |
//!
//! `POSTROOM_GOSSIP_NODES=3,10,30,50 POSTROOM_GOSSIP_MS=500 cargo test -p postroom-cluster --test gossip
//! a_change_reaches_all -- --nocapture` prints it. Up to 17 nodes each hears of a change at once, beyond that some
//! do in the next round. Octets grow with the nodes, since each digest names them all.
//!
//! **A thousand nodes and 100 million accounts** were never run; this is what the code says of them.
//!
//! - *The named maxima come first*: [`MAX_NODES`] and [`MAX_PEERS`](crate::links::MAX_PEERS), 256. A node beyond
//!   is not heard of, and has no link.
//! - *Links.* Each node has one to each other one, so 999 out and as many in; each is asked each second whether it
//!   stands, and measured every 2 s: some 1,500 small messages a second each way before the first call. They would
//!   be made to nodes with sessions there only, and presence be asked of a few.
//! - *Digests.* Each round (500 ms) a node sends a SYN to 3 others, to a dead node or a seed now and then, and a
//!   SYN-ACK to as many. Both carry a digest with an entry for every node that is known, for half an hour dead
//!   ones too: 53 octets and the name, of which zstd leaves some 28 (tried on such entries with names of 9 octets, in
//!   blocks of 16 KiB as chitchat has them; 15 are of an address made of a digest, which do not compress). At 1,000 nodes that is 27.6 kB in each, 2 × 6 of them a second: 330 kB/s a node, before any
//!   change. [`Scuttlebutt`] tells a change at once to 16 nodes more: 440 kB for each of at most ten a second.
//! - *The cap* is a datagram, 65,507 octets. What a SYN-ACK's digest leaves of it is for news: at 1,000 nodes
//!   38 kB, some 60 bitmaps; at 2,000 10 kB, some 16. At about 2,370 the digest alone is larger: nothing is sent
//!   any more, and only the counter of datagrams shows it. When the whole cluster is restarted each
//!   node's dead self is in the digest for half an hour: then half as many.
//! - *Slots* are too coarse before that. 4,096 of them over 1,000 nodes are 4 each, 24,400 accounts a slot of
//!   100 million: one is moved or taken over as a whole, and a node has 4 or 5, a quarter more or less than another
//!   one. 65,536 slots (1,525 accounts each) are bitmaps of 8 KiB, beyond [`MAX_FACT_OCTETS`]: they would be gossiped
//!   as ranges, or not at all: the claims in storage are the truth, and a node can follow their changes there.
//! - *The database* is at its end before gossip is: all commits of a cluster go to one PostgreSQL (3,502 a second
//!   with 64 writers on two shared cores, ARCHITECTURE.md), and 100 million accounts with ten changes a day each
//!   make 11,600. A commit stays within one account, so slots would be divided among several databases, each with
//!   the claims of its own slots, as the fence is compared within the commit.
//! - *Heartbeats in storage* are 1,000 more of those a second, of one small table.
//! - *The owner's registry* of other nodes' sessions does not give way: 202 octets each when there are a million.
//!
//! So some 250 nodes are what this form is for. Beyond it nodes would be told in two levels: all of a group by
//! gossip, each other group by one or two of its nodes, with a digest of the group; who is where by the claims.

pub mod memory;

mod envelope;
mod scuttlebutt;
mod shims;

pub use self::scuttlebutt::{GossipOptions, INTERVAL, Scuttlebutt};

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::links::Links;
use crate::names::NodeId;

/// Most keys that a node has. Each is looked at in every round of gossip.
pub const MAX_FACTS: usize = 16;

/// Longest key, in octets.
pub const MAX_KEY_OCTETS: usize = 32;

/// Largest value, in octets: four bitmaps of 4,096 slots. A value near a datagram's size
/// (65,507 octets) would silently end the spreading of its key and all later ones.
pub const MAX_FACT_OCTETS: usize = 2_048;

/// Largest sum of a node's values, in octets: several nodes' go into one datagram.
pub const MAX_FACTS_OCTETS: usize = 8_192;

/// Most nodes that are heard of: gossip was measured with 50. Those that have died count for the hour that they
/// are kept; where there is no room for all, the living come first.
pub const MAX_NODES: usize = 256;

/// Why a fact is not taken: correct it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// The key is empty, too long, or has other octets than a-z, 0-9, '-' and '_'.
    #[error("a key has 1 to {MAX_KEY_OCTETS} of a-z, 0-9, '-' and '_'")]
    Key,
    /// There would be too many keys.
    #[error("a node has at most {MAX_FACTS} facts")]
    TooMany,
    /// The value is too large.
    #[error("a fact has at most {MAX_FACT_OCTETS} octets, all together {MAX_FACTS_OCTETS}")]
    TooLarge,
    /// Gossip has ended.
    #[error("gossip has ended")]
    Ended,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// How often it was started: the highest one that was heard of.
    pub generation: u64,
    /// Whether it is believed to be alive.
    pub live: bool,
    /// What it says of itself.
    pub facts: BTreeMap<String, Bytes>,
}

/// All nodes that are known, this one included. Those that have died stay for an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// By name.
    pub nodes: BTreeMap<NodeId, Member>,
    /// Somebody else claims to be this node, with this higher generation: its directory was
    /// copied, or a member lies.
    pub twin: Option<u64>,
}

impl Members {
    /// A fact of a node.
    pub fn fact(&self, node: &NodeId, key: &str) -> Option<&Bytes> {
        self.nodes.get(node)?.facts.get(key)
    }

    /// Those who are believed to be alive.
    pub fn live(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.nodes.iter().filter(|(_, member)| member.live)
    }

    /// Takes up what was heard. Of two generations of a node the higher one counts; of the same one
    /// what is in hand stays.
    fn hear(&mut self, node: NodeId, heard: Member) {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&node) {
            return;
        }
        match self.nodes.get(&node) {
            Some(known) if known.generation >= heard.generation => {}
            _ => drop(self.nodes.insert(node, heard)),
        }
    }
}

/// Sets this node's facts, and watches all.
#[async_trait]
pub trait Gossip: Send + Sync {
    /// Sets a fact of this node, over an older one.
    async fn set(&self, key: &str, value: Bytes) -> Result<(), FactError>;

    /// What is known now, and its changes; closed when gossip has ended.
    fn watch(&self) -> watch::Receiver<Arc<Members>>;

    /// Ends it. Others hear nothing more and soon believe that this node has died: a node that
    /// leaves on purpose says so in a fact before.
    async fn shutdown(&self);
}

/// Carries datagrams to peers.
pub trait Carrier: Send + Sync + 'static {
    /// Sends if there is room, else drops (`false`). Never waits.
    fn carry(&self, to: &NodeId, datagram: Bytes) -> bool;

    /// Gossip has forgotten a peer: it was dead for an hour, or has never made itself known. Never a seed.
    fn gone(&self, peer: &NodeId);
}

impl Carrier for Links {
    fn carry(&self, to: &NodeId, datagram: Bytes) -> bool {
        self.gossip(to, datagram)
    }

    fn gone(&self, peer: &NodeId) {
        self.forget(peer);
    }
}

/// Whether a node may have this fact beside those that it has.
fn check_fact(facts: &BTreeMap<String, Bytes>, key: &str, value: &Bytes) -> Result<(), FactError> {
    let known = |octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if !(1..=MAX_KEY_OCTETS).contains(&key.len()) || !key.bytes().all(known) {
        return Err(FactError::Key);
    }
    let others = facts.iter().filter(|(other, _)| *other != key);
    let (count, octets) =
        others.fold((1, value.len()), |(n, sum), (_, value)| (n + 1, sum + value.len()));
    if count > MAX_FACTS {
        return Err(FactError::TooMany);
    }
    if value.len() > MAX_FACT_OCTETS || octets > MAX_FACTS_OCTETS {
        return Err(FactError::TooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
