//! All links of this node to others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{Call, LinkError, MAX_DATAGRAM_OCTETS, MAX_DEADLINE, NotSent, Reply, WireVersion};
use super::events::EventStream;
use super::keeper::{Board, Presence};
use super::link::{Link, State};
use crate::certificates::Credentials;
use crate::names::NodeId;
use crate::refusals::{At, Reason, Refusals};

/// Most peers that have a link: more nodes than gossip was measured with.
pub const MAX_PEERS: usize = 256;

/// How often links are looked at for certificates that have expired.
pub(super) const REVIEW_EVERY: Duration = Duration::from_secs(5);

/// What links need to know.
#[derive(Clone)]
pub struct LinksOptions {
    /// Who we are, and whom we trust.
    pub credentials: Arc<Credentials>,
    /// What this node writes; it reads the version before it too.
    pub version: WireVersion,
    /// Where this node's own server is (`host:port`), which peers are told. Empty for a node that
    /// is not to be called.
    pub address: String,
}

/// This node's links to others. Cheap to clone. When [`Links::shutdown`] is called, or the last
/// clone is dropped, all links end.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    options: LinksOptions,
    links: Mutex<HashMap<NodeId, Arc<Link>>>,
    board: Board,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
}

/// How a link is, for operators.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// To whom.
    pub peer: NodeId,
    /// Where.
    pub address: String,
    /// How it is.
    pub state: LinkState,
    /// Calls under way.
    pub in_flight: usize,
}

/// Where a link is in its life.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkState {
    /// Not needed so far.
    Idle,
    /// Being made.
    Dialing,
    /// It stands.
    Up {
        /// For how long.
        since: Duration,
        /// Its smoothed round trip.
        round_trip: Duration,
        /// The peer's wire version.
        version: WireVersion,
    },
    /// It stood and has broken: it is about to be made again.
    Broken,
    /// It could not be made.
    Down(LinkError),
}

impl Links {
    /// No link is made before it is needed; from then on it is kept: made again when it breaks, with a
    /// back-off. Must be called within a tokio runtime.
    pub fn new(options: LinksOptions) -> Self {
        let stop = CancellationToken::new();
        let (links, board) = Default::default();
        let refusals = Arc::new(Refusals::new(At::Dial));
        let inner = Arc::new(Inner { options, links, board, refusals, stop: stop.clone() });
        tokio::spawn(review(Arc::downgrade(&inner), stop));
        Self(inner)
    }

    /// Says where a peer is (`host:port`). A link to another address is ended. [`NotSent::Busy`] when there are
    /// [`MAX_PEERS`] others: gossip says which of them are [`gone`](crate::gossip::Carrier::gone).
    pub fn set_address(&self, peer: &NodeId, address: &str) -> Result<(), LinkError> {
        if self.0.stop.is_cancelled() {
            return Err(LinkError::NotSent(NotSent::Stopped));
        }
        let mut links = self.0.links();
        match links.get(peer) {
            Some(link) if link.address == address => return Ok(()),
            Some(link) => link.stop(),
            None if links.len() >= MAX_PEERS => {
                let revoked = self.0.options.credentials.current().revoked.clone();
                // Nobody who is refused keeps others out.
                let out = links.extract_if(|peer, _| revoked.names(peer));
                out.for_each(|(_, link)| link.stop());
                if links.len() >= MAX_PEERS {
                    return Err(LinkError::NotSent(NotSent::Busy));
                }
            }
            None => {}
        }
        let (options, stop) = (self.0.options.clone(), self.0.stop.child_token());
        let tells = (self.0.board.clone(), self.0.refusals.clone());
        let link = Link::new(peer.clone(), address.to_owned(), options, stop, tells);
        links.insert(peer.clone(), Arc::new(link));
        Ok(())
    }

    /// Ends the link to a peer and forgets its address.
    pub fn forget(&self, peer: &NodeId) {
        if let Some(link) = self.0.links().remove(peer) {
            link.stop();
        }
    }

    /// Asks `peer`. Dropping the future cancels the call at the peer too. A call that may have had
    /// an effect ends in [`LinkError::Unknown`] and in nothing else. The future is to be polled
    /// until it ends: one that rests holds a part of the link's window.
    pub async fn call(&self, peer: &NodeId, call: Call) -> Result<Reply, LinkError> {
        let began = Instant::now();
        let result = match self.link(peer) {
            Ok(link) => link.call(call).await,
            Err(error) => Err(error),
        };
        let outcome = result.as_ref().map_or_else(label, |_| "replied");
        metrics::counter!("postroom_link_calls_total", "outcome" => outcome).increment(1);
        metrics::histogram!("postroom_link_call_seconds").record(began.elapsed());
        result
    }

    /// The version that this node and `peer` speak with each other; makes the link if need be. The
    /// peer may be replaced by another version between this and a call, which then ends in
    /// [`LinkError::Version`].
    pub async fn version(&self, peer: &NodeId, within: Duration) -> Result<WireVersion, LinkError> {
        let deadline = Instant::now() + within.min(MAX_DEADLINE);
        Ok(self.link(peer)?.ready(deadline).await?.common)
    }

    /// How all peers' processes are, and each change; only of those whose links were needed once. A link
    /// that breaks is made again at once, so a process that is killed is known to be
    /// [`Presence::Refusing`] within milliseconds, whether anybody calls it or not.
    pub fn presence(&self) -> watch::Receiver<Arc<BTreeMap<NodeId, Presence>>> {
        self.0.board.subscribe()
    }

    /// How `peer`'s process is; `None` when its link was never needed, or its address is new.
    pub fn presence_of(&self, peer: &NodeId) -> Option<Presence> {
        self.0.board.borrow().get(peer).copied()
    }

    /// How often this node has refused who answered at a peer's address, by reason.
    pub fn refused(&self) -> Vec<(Reason, u64)> {
        self.0.refusals.totals()
    }

    /// The events of `peer`. Nothing is asked before [`EventStream::next`] is.
    pub fn events(&self, peer: &NodeId) -> Result<EventStream, LinkError> {
        Ok(EventStream::new(self.link(peer)?))
    }

    /// Sends a datagram if there is room and a link can be had; `false` when it was dropped. Never waits.
    pub fn gossip(&self, peer: &NodeId, datagram: Bytes) -> bool {
        datagram.len() <= MAX_DATAGRAM_OCTETS
            && self.link(peer).is_ok_and(|link| link.datagram(datagram))
    }

    /// How all links are, by the peer's name.
    pub fn status(&self) -> Vec<LinkStatus> {
        let links: Vec<_> = self.0.links().values().cloned().collect();
        let mut status: Vec<_> = links.iter().map(|link| status_of(link)).collect();
        status.sort_by(|a, b| a.peer.cmp(&b.peer));
        status
    }

    /// Ends all links; calls under way end in [`LinkError::Unknown`].
    pub fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.links().drain().for_each(|(_, link)| link.stop());
    }

    fn link(&self, peer: &NodeId) -> Result<Arc<Link>, LinkError> {
        if self.0.stop.is_cancelled() {
            return Err(LinkError::NotSent(NotSent::Stopped));
        }
        self.0.links().get(peer).cloned().ok_or(LinkError::NotSent(NotSent::NoAddress))
    }
}

impl Inner {
    fn links(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn label(error: &LinkError) -> &'static str {
    match error {
        LinkError::Refused => "refused",
        LinkError::Unreachable(_) => "unreachable",
        LinkError::WrongPeer(_) => "wrong_peer",
        LinkError::NotAdmitted(_) => "not_admitted",
        LinkError::Version { .. } => "version",
        LinkError::NotSent(_) => "not_sent",
        LinkError::Declined(_) => "declined",
        LinkError::Unknown(_) => "unknown",
    }
}

fn status_of(link: &Link) -> LinkStatus {
    let state = match link.state() {
        State::Idle => LinkState::Idle,
        State::Dialing => LinkState::Dialing,
        State::Up(connection) if connection.is_gone() => LinkState::Broken,
        State::Up(connection) => LinkState::Up {
            since: connection.since.elapsed(),
            round_trip: connection.round_trip(),
            version: connection.theirs,
        },
        State::Down { why, .. } => LinkState::Down(why),
    };
    let (peer, address) = (link.peer.clone(), link.address.clone());
    LinkStatus { peer, address, state, in_flight: link.in_flight() }
}

/// Cuts links to peers whose certificates are no longer good.
async fn review(inner: std::sync::Weak<Inner>, stop: CancellationToken) {
    let Some(mut changes) = inner.upgrade().map(|inner| inner.options.credentials.watch()) else {
        return;
    };
    let mut serial = changes.borrow_and_update().holder.serial.clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(REVIEW_EVERY) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let material = changes.borrow_and_update().clone();
        let renewed = material.holder.serial != serial;
        serial.clone_from(&material.holder.serial);
        let links: Vec<_> = inner.links().values().cloned().collect();
        links.iter().for_each(|link| link.review(&material, renewed));
    }
}
