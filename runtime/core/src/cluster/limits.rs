//! The named maxima and times of the ownership protocol, each with its unit and reason.

use std::time::Duration;

/// Most nodes that the table remembers: gossip was measured with 50; the rest is room for node names
/// that have been given up.
pub const MAX_NODES: usize = 256;
/// Most octets of a node's name: one label of a host name (RFC 1035 §2.3.4).
pub const MAX_NODE_ID_OCTETS: usize = 63;
/// Most addresses that a node says its links listen at.
pub const MAX_ADDRESSES: usize = 8;
/// Most octets of one address: a host name and a port.
pub const MAX_ADDRESS_OCTETS: usize = 261;
/// Most octets of a program version.
pub const MAX_VERSION_OCTETS: usize = 64;
/// Most entries of the small map beside a node's facts.
pub const MAX_NOTES: usize = 16;
/// Most octets of a name or of a value in that map: a digest in hexadecimal, with its kind.
pub const MAX_NOTE_OCTETS: usize = 128;
/// Most octets of one gossiped value: far below a datagram of 65,507, above which gossip silently stops
/// telling that value and every later one.
pub const MAX_VALUE_OCTETS: usize = 8 << 10;

/// Most calls that one node has on their way, waiting or running at a time: some 16 MiB of entries.
/// One more is refused as busy.
pub const MAX_CALLS: usize = 65_536;
/// Most of them for one slot, so that one slot that nobody can open does not take the room of all.
pub const MAX_CALLS_PER_SLOT: usize = 4_096;
/// Most times that one call is sent or started. With the back-off below a deadline is met first; this
/// ends what peers that answer at once could keep up.
pub const MAX_ATTEMPTS: u32 = 64;
/// Most slots that one node closes at a time while it drains: bounds the writes that are settled, and
/// the calls that wait for it, at once.
pub const MAX_CLOSING: usize = 64;

/// Most sessions of one node that have mailboxes active at another: as many clients as a node lets in, and
/// room. Below 300 octets each.
pub const MAX_VISITORS_OF_A_NODE: usize = 100_000;

/// Most slots that are on their way from one node to another because of balance, in a whole cluster.
pub const MAX_MOVES: usize = 4;
/// Slots by which the fullest node must be ahead of the emptiest before any is moved. More than
/// [`MAX_MOVES`] moved at the same time by two nodes that did not know of each other can make up for.
pub const MIN_IMBALANCE: usize = 4 * MAX_MOVES;

/// The times of the protocol. Their defaults are what nodes use; a cluster's nodes must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timing {
    /// How often an owner asks storage whether its claims still stand.
    pub validate_every: Duration,
    /// Reads are answered without asking as long as the last answer is to a question no older than
    /// this; an owner that cannot ask for longer stops answering reads.
    pub read_staleness: Duration,
    /// A node whose heartbeat row is older than this is taken to be dead. Rows are written each
    /// second; with this a lost host costs its clients less than six.
    pub beat_stale: Duration,
    /// A claim that was seen to be new is not taken from a node that may live before this is over, and
    /// its owner does not hand it over either: two nodes that suspect each other do not steal in turn.
    pub min_tenure: Duration,
    /// First pause before storage is asked again about a slot; doubles up to `back_off_max`, and each
    /// pause is shortened by up to a half by the driver's jitter.
    pub back_off_first: Duration,
    /// Longest such pause.
    pub back_off_max: Duration,
    /// How long calls that run in a slot which is let go may take to end before its accounts are closed
    /// all the same: one that has not ended by then has begun for certain. A drain costs clients two
    /// seconds at most.
    pub let_end: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            validate_every: Duration::from_secs(1),
            read_staleness: Duration::from_secs(5),
            beat_stale: Duration::from_secs(4),
            min_tenure: Duration::from_secs(2),
            back_off_first: Duration::from_millis(20),
            back_off_max: Duration::from_millis(500),
            let_end: Duration::from_secs(1),
        }
    }
}
