//! Messages between nodes. Fields may be added: an older node passes over what it does not know.

use bytes::Bytes;
use tonic::codegen::http::uri::PathAndQuery;

use super::api::{MAX_DATAGRAM_OCTETS, MAX_TRACE_OCTETS};

/// The part of a payload that travels in one message, in octets. A larger one would delay what
/// shares the link with it; a smaller one costs more turns.
pub(super) const CHUNK_OCTETS: usize = 256 << 10;

/// Largest message, in octets: a chunk or a datagram, and what stands around it.
pub(super) const MAX_FRAME_OCTETS: usize = CHUNK_OCTETS + 4_096;

const _: () = assert!(MAX_FRAME_OCTETS > MAX_DATAGRAM_OCTETS + MAX_TRACE_OCTETS);

/// One call and its reply.
pub(super) const CALL: &str = "/postroom.cluster.Links/Call";
/// A peer's events, as long as it wants them.
pub(super) const EVENTS: &str = "/postroom.cluster.Links/Events";
/// Datagrams, as long as the link lasts.
pub(super) const GOSSIP: &str = "/postroom.cluster.Links/Gossip";
/// A question that is answered at once: versions, round trip.
pub(super) const HELLO: &str = "/postroom.cluster.Links/Hello";

/// What both ends know as revoked.
pub(super) const REVOKED: &str = "/postroom.cluster.Links/Revoked";

pub(super) fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

/// What every message is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Frame {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    /// The first message of a call.
    #[prost(message, tag = "1")]
    Call(CallHead),
    /// The first message of the answer.
    #[prost(message, tag = "2")]
    Answer(AnswerHead),
    /// More of the payload.
    #[prost(bytes = "bytes", tag = "3")]
    Chunk(Bytes),
    /// Who speaks.
    #[prost(message, tag = "4")]
    Hello(HelloFrame),
    /// An event.
    #[prost(message, tag = "5")]
    Event(EventFrame),
    /// How many more events may be sent.
    #[prost(uint32, tag = "6")]
    Credit(u32),
    /// A datagram of gossip.
    #[prost(bytes = "bytes", tag = "7")]
    Datagram(Bytes),
    /// What the sender knows as revoked, as text.
    #[prost(bytes = "bytes", tag = "8")]
    Revoked(Bytes),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CallHead {
    /// 16 octets.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) transaction: Bytes,
    /// Time that is left, in microseconds.
    #[prost(uint64, tag = "2")]
    pub(super) remaining_us: u64,
    #[prost(uint32, tag = "3")]
    pub(super) version: u32,
    /// Empty when there is none.
    #[prost(string, tag = "4")]
    pub(super) trace_parent: String,
    /// Octets of the whole payload.
    #[prost(uint64, tag = "5")]
    pub(super) total: u64,
    /// Its first part.
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) payload: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AnswerHead {
    #[prost(enumeration = "Outcome", tag = "1")]
    pub(super) outcome: i32,
    /// What is to be said about it.
    #[prost(string, tag = "2")]
    pub(super) detail: String,
    /// The answering node's wire version.
    #[prost(uint32, tag = "3")]
    pub(super) version: u32,
    /// Octets of the whole payload.
    #[prost(uint64, tag = "4")]
    pub(super) total: u64,
    /// Its first part.
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) payload: Bytes,
}

/// How a call ended. What a node does not know it takes for an outcome that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub(super) enum Outcome {
    /// Not understood by this node.
    None = 0,
    Replied = 1,
    Busy = 2,
    Stopping = 3,
    Malformed = 4,
    /// The call's version is not read here; nothing was done.
    Version = 5,
    /// Its time was over; it may have had an effect.
    Late = 6,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HelloFrame {
    /// The sender's wire version.
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    /// Where the sender's own server is; empty when it was said before.
    #[prost(string, tag = "2")]
    pub(super) address: String,
    /// A digest of what the sender knows as revoked. Empty when it is not said.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) revoked: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EventFrame {
    /// 16 octets.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

impl From<Kind> for Frame {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}
