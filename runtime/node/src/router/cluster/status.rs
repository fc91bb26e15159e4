//! What an operator sees of the cluster from one node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cluster, peer_id};
use crate::cluster::links::LinkState;

/// A node, as this one sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// Its generation.
    pub generation: u64,
    /// `joining`, `up`, `draining` or `left`.
    pub state: String,
    /// Its program's version.
    pub version: String,
    /// Where its links listen.
    pub address: String,
    /// How many slots it has open.
    pub slots: usize,
    /// The link to it: `here`, `up`, `down` …
    pub link: String,
    /// The round trip of the link to it, in microseconds; `None`: there is none.
    pub round_trip_us: Option<u64>,
    /// Of this node only: accounts that are open.
    pub accounts: Option<usize>,
    /// Of this node only: its own sessions with an active mailbox.
    pub sessions: Option<usize>,
    /// Of this node only: sessions of other nodes that have a mailbox active here.
    pub visitors: Option<usize>,
}

/// Where an account's mailboxes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPlace {
    /// The account.
    pub account: String,
    /// Its slot.
    pub slot: u16,
    /// The node that has it open, if any.
    pub node: Option<String>,
    /// The epoch of that node's claim.
    pub epoch: Option<u64>,
}

impl Cluster {
    /// All nodes that are heard, by name.
    pub fn status(&self) -> Vec<NodeStatus> {
        let links: BTreeMap<_, _> =
            self.links.status().into_iter().map(|link| (link.peer, link.state)).collect();
        let nodes = self.look(|table, _| table.heard().cloned().collect::<Vec<_>>());
        let mut status: Vec<NodeStatus> = nodes
            .into_iter()
            .map(|facts| {
                let here = facts.id == self.me;
                let link = peer_id(&facts.id).and_then(|peer| links.get(&peer));
                let (word, round_trip) = match (here, link) {
                    (true, _) => ("here".to_owned(), None),
                    (false, Some(LinkState::Up { round_trip, .. })) => {
                        ("up".to_owned(), u64::try_from(round_trip.as_micros()).ok())
                    }
                    (false, Some(LinkState::Idle)) | (false, None) => ("idle".to_owned(), None),
                    (false, Some(LinkState::Dialing)) => ("dialing".to_owned(), None),
                    (false, Some(LinkState::Broken)) => ("broken".to_owned(), None),
                    (false, Some(LinkState::Down(error))) => (format!("down: {error}"), None),
                };
                NodeStatus {
                    node: facts.id.as_str().to_owned(),
                    generation: facts.generation.0,
                    state: facts.state.word().to_owned(),
                    version: facts.version,
                    address: facts.addresses.into_iter().next().unwrap_or_default(),
                    slots: facts.slots.len(),
                    link: word,
                    round_trip_us: round_trip,
                    accounts: here.then(|| self.accounts.len()),
                    sessions: here.then(|| self.attachments.len()),
                    visitors: here.then(|| self.visitors.len()),
                }
            })
            .collect();
        status.sort_by(|a, b| a.node.cmp(&b.node));
        status
    }
}
