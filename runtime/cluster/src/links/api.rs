//! What callers and services see of links.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::events::EventSource;
use crate::names::NodeId;

/// Largest payload of a call or a reply, in octets: the largest mail that may be configured
/// (256 MiB) and what stands around it.
pub const MAX_PAYLOAD_OCTETS: usize = 320 << 20;

/// Longest time a call may have. Longer ones are cut to this: nobody waits that long.
pub const MAX_DEADLINE: Duration = Duration::from_secs(600);

/// Longest trace parent, in octets: W3C's has 55.
pub const MAX_TRACE_OCTETS: usize = 64;

/// Longest address of a node, `host:port`, in octets: a DNS name has at most 253.
pub const MAX_ADDRESS_OCTETS: usize = 260;

/// Largest datagram of gossip, in octets: what UDP carries, and what says who made it.
pub const MAX_DATAGRAM_OCTETS: usize = 65_507 + 64;

/// Under which a call has its effect at most once, however often it is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 16]);

impl TransactionId {
    /// A new one.
    ///
    /// # Panics
    /// When the system gives no random octets.
    pub fn random() -> Self {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).expect("the system gives random octets");
        Self(octets)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// In which version payloads are written. A node reads its own and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireVersion(pub u32);

impl WireVersion {
    /// Whether a node of this version reads payloads of `other`.
    pub fn reads(self, other: Self) -> bool {
        other == self || other.0.checked_add(1) == Some(self.0)
    }

    /// The version that two nodes speak with each other: the older one's; `None` when they are too
    /// far apart.
    pub fn common(self, other: Self) -> Option<Self> {
        let older = self.min(other);
        self.max(other).reads(older).then_some(older)
    }
}

/// A call to another node.
#[derive(Clone, Debug)]
pub struct Call {
    /// Under which it has its effect at most once.
    pub transaction: TransactionId,
    /// How long the caller waits, of all that it does: link, sending, answer.
    pub within: Duration,
    /// In which version the payload is written: see [`Links::version`](super::Links::version).
    pub version: WireVersion,
    /// W3C trace context of the caller, if it is traced.
    pub trace_parent: Option<String>,
    /// What is asked.
    pub payload: Bytes,
}

/// A call as it arrives. Dropped with its future when the caller goes away, its link breaks or its
/// time is over.
#[derive(Clone, Debug)]
pub struct IncomingCall {
    /// Under which it has its effect at most once.
    pub transaction: TransactionId,
    /// How long the caller still waits.
    pub remaining: Duration,
    /// In which version the payload is written, and the reply is to be.
    pub version: WireVersion,
    /// W3C trace context of the caller, if it is traced.
    pub trace_parent: Option<String>,
    /// What is asked.
    pub payload: Bytes,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What is answered, in the call's version.
    pub payload: Bytes,
}

/// Why a node does not take a call. Nothing was done, and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too much is in hand: come again later.
    #[error("busy")]
    Busy,
    /// The node is going away: find who has taken over.
    #[error("stopping")]
    Stopping,
    /// The call makes no sense to this node: do not repeat it.
    #[error("not understood: {0}")]
    Malformed(String),
}

/// Why a call has no reply, by what the caller must do. Only after [`LinkError::Unknown`] it may
/// have had an effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens at the peer's address: its process is not there. Nothing was sent.
    #[error("the process is not there: connection refused")]
    Refused,
    /// No link could be made. Says nothing about the process. Nothing was sent.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// Somebody else answers at the peer's address: another cluster's node, another node's name, a
    /// certificate that has expired or is revoked. Correct the address or the certificate. Nothing
    /// was sent.
    #[error("not the peer that was called: {0}")]
    WrongPeer(String),
    /// The peer does not take our certificate: renew it, or leave the cluster. Nothing was sent.
    #[error("the peer does not admit us: {0}")]
    NotAdmitted(String),
    /// The peer's version is too far from ours, or it does not read the call's: ask for the version
    /// again, or upgrade in smaller steps. Nothing was done.
    #[error("wire version {ours:?} and the peer's {theirs:?} do not go together")]
    Version {
        /// The call's, or this node's.
        ours: WireVersion,
        /// The peer's.
        theirs: WireVersion,
    },
    /// The call did not leave this node: ask again, or elsewhere.
    #[error("not sent: {0}")]
    NotSent(NotSent),
    /// The peer has read the call and does not take it. Nothing was done.
    #[error("declined: {0}")]
    Declined(Refusal),
    /// The call was sent and no reply has come: it may have had an effect. Ask again under the same
    /// transaction id.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

impl LinkError {
    /// Whether the call may have had an effect.
    pub fn may_have_had_effect(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Why a call did not leave this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Nobody has said where the peer is.
    #[error("no address is known for the peer")]
    NoAddress,
    /// Too many calls to this peer wait already.
    #[error("too many calls to the peer wait")]
    Busy,
    /// Its time was over while it waited for its turn.
    #[error("its time was over before it was its turn")]
    Late,
    /// Its payload is larger than [`MAX_PAYLOAD_OCTETS`].
    #[error("larger than {MAX_PAYLOAD_OCTETS} octets")]
    TooLarge,
    /// The link broke before the call was sent.
    #[error("the link broke before it was sent")]
    Broken,
    /// This node's links are shut down.
    #[error("this node's links are shut down")]
    Stopped,
}

/// What a node does with what arrives over links. `from` is who the caller's certificate says.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers a call. The future is dropped when nobody waits for the answer any more; what must
    /// not stop half-way belongs in a task of its own. A [`Refusal`] says that nothing was done.
    async fn call(&self, from: &NodeId, call: IncomingCall) -> Result<Reply, Refusal>;

    /// `from` wants this node's events: a new stream, which replaces an older one of the same peer.
    /// The sender learns of its end by [`EventSender::broken`](super::EventSender::broken).
    fn events(&self, from: &NodeId) -> Result<EventSource, Refusal>;

    /// `from` has made a link to this node, and says where its own server is (`host:port`), again every two
    /// seconds: a node that has just joined is known from nothing else, and gossip from before a restart
    /// may name another place. Its address is its own word; its name is not.
    fn met(&self, from: &NodeId, address: &str);

    /// A datagram of gossip has arrived. Must not wait: drop it when there is no room.
    fn gossip(&self, from: &NodeId, datagram: Bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_versions_work_together_and_others_do_not() {
        let common = |a, b| WireVersion(a).common(WireVersion(b)).map(|version| version.0);
        assert_eq!(common(3, 3), Some(3));
        assert_eq!((common(3, 4), common(4, 3)), (Some(3), Some(3)));
        assert_eq!((common(3, 5), common(5, 3)), (None, None));
        assert_eq!(common(0, u32::MAX), None);
        assert!(WireVersion(4).reads(WireVersion(3)) && !WireVersion(3).reads(WireVersion(4)));
    }
}
