//! Links between nodes: calls with their replies, events and gossip's datagrams, over mutual TLS.
//!
//! Each node has one [`LinkServer`], which gives what arrives to the node's [`Service`], and one
//! [`Links`], which holds a long-lived link to each node that was ever called. A link is made when
//! it is needed, and kept from then on: when it breaks it is made again, at once and then with a
//! back-off, and whoever asks meanwhile hears of the last failure at once. So each node knows of each
//! other one's process whether it is there ([`Presence`]) without asking. A peer that stops says so
//! (GOAWAY) and finishes what it has begun: calls that it does not take any more are
//! [`Declined`](LinkError::Declined), none is left unknown. HTTP/2 (tonic) carries streams, flow control and cancellation, so
//! each node of a pair dials the other one for its own calls: two connections for a pair.
//!
//! What an operator revokes at one node spreads over links to all.
//!
//! Who is refused, and why, is counted: see [`crate::refusals`].
//!
//! Whom one talks to is known from the verified certificate ([`crate::certificates`]) and never from
//! a message. Payloads are octets: what they mean is their owner's, who writes them in the wire
//! version that a call names.
//!
//! Small payloads travel as one message each way. Larger ones follow in chunks; how many do so at
//! once, and how many octets wait in memory, is bounded for each peer and each direction.

mod api;
mod events;

mod wire;

mod goaway;
mod io;
mod large;

mod client;
mod dial;
mod keeper;
mod link;
mod pump;
mod revoked;

mod server;
mod service;

pub use self::api::*;
pub use self::client::{LinkState, LinkStatus, Links, LinksOptions, MAX_PEERS};
pub use self::events::{
    Event, EventError, EventKey, EventSender, EventSource, EventStream, MAX_EVENT_KEYS,
    MAX_EVENT_OCTETS, Notice, event_queue,
};
pub use self::keeper::Presence;
pub use self::server::{LinkServer, ServerOptions};

#[cfg(test)]
mod tests;
