//! What Postroom's nodes say to each other, and how they know whom they say it to.
//!
//! - [`certificates`]: the cluster's own authority; who may join, and under which name.
//! - [`links`]: calls, events and datagrams between nodes over mutual TLS.
//! - [`refusals`]: what a node has refused of others, and why.
//! - [`gossip`]: the few facts that every node has about every other one.
//!
//! Nothing here knows what a call means: payloads are octets. Who calls is known from the verified
//! certificate and never from a message.

pub mod names;

pub mod refusals;

pub mod certificates;

pub mod links;

pub mod gossip;

pub use names::{ClusterId, NameError, NodeId};
