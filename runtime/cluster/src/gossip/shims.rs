//! Between gossip's UDP socket and the links: one socket on loopback for each peer. What gossip
//! sends to a peer's socket goes over the link to that peer; what comes over a peer's link reaches
//! gossip from that peer's socket and from no other.
//!
//! Gossip knows peers by *names in the form of addresses* ([`address_of`]), which are the same on
//! all nodes and reach nowhere.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::envelope::{ENVELOPE_OCTETS, Opener, Sealer};
use super::{Carrier, MAX_NODES};
use crate::links::MAX_DATAGRAM_OCTETS;
use crate::names::NodeId;
use crate::refusals::{At, Reason, Refusals};

/// Most octets that gossip sends at once: what UDP carries.
const MAX_UDP_OCTETS: usize = 65_507;

/// How many sweeps of [`Shims::sweep`] a peer outlives that gossip does not know: what it has just said may
/// still be on its way to gossip.
const SWEEPS: u32 = 2;

const _: () = assert!(MAX_UDP_OCTETS + ENVELOPE_OCTETS <= MAX_DATAGRAM_OCTETS);

/// An address that stands for a node's name: local (RFC 4193), and the rest a digest of the name.
pub(super) fn address_of(node: &NodeId) -> SocketAddr {
    let mut octets = [0xfd; 16];
    octets[1..].copy_from_slice(&blake3::hash(node.as_str().as_bytes()).as_bytes()[..15]);
    SocketAddr::from((Ipv6Addr::from(octets), 1))
}

struct Shim {
    socket: Arc<UdpSocket>,
    /// Where gossip sees it.
    local: SocketAddr,
    /// Ends what carries its datagrams.
    stop: CancellationToken,
    /// How many sweeps there were since it was heard or known.
    unknown: u32,
}

/// All peers' sockets.
pub(super) struct Shims {
    own: NodeId,
    /// Gossip's socket.
    gossip: SocketAddr,
    carrier: Arc<dyn Carrier>,
    sealer: Arc<Sealer>,
    opener: Mutex<Opener>,
    refusals: Refusals,
    table: Mutex<Table>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Table {
    shims: HashMap<NodeId, Shim>,
    /// From either form of a peer's address to its socket.
    sockets: HashMap<SocketAddr, SocketAddr>,
}

impl Shims {
    pub(super) fn new(
        (own, generation): (NodeId, u64),
        gossip: SocketAddr,
        carrier: Arc<dyn Carrier>,
        stop: CancellationToken,
    ) -> Self {
        let sealer = Arc::new(Sealer::new(own.clone(), generation));
        let (opener, table, refusals) =
            (Mutex::default(), Mutex::default(), Refusals::new(At::Gossip));
        Self { own, gossip, carrier, sealer, opener, refusals, table, stop }
    }

    /// What was not taken.
    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    #[cfg(test)]
    pub(super) fn gossip_socket(&self) -> SocketAddr {
        self.gossip
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where gossip's datagram for `to` goes; `None` for nobody that is known.
    pub(super) fn socket_for(&self, to: SocketAddr) -> Option<SocketAddr> {
        self.table().sockets.get(&to).copied()
    }

    /// Whether a datagram that has reached gossip came from one of us.
    pub(super) fn is_ours(&self, from: SocketAddr) -> bool {
        from.ip().is_loopback() && self.table().sockets.get(&from) == Some(&from)
    }

    /// Makes a peer's socket if there is none. Fails when the process has no more of them.
    pub(super) fn ensure(&self, peer: &NodeId) -> std::io::Result<()> {
        let mut table = self.table();
        if *peer == self.own || table.shims.contains_key(peer) {
            return Ok(());
        }
        if table.shims.len() >= MAX_NODES {
            return Err(std::io::Error::other(format!("more than {MAX_NODES} nodes")));
        }
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        // Nobody else's datagrams are taken.
        socket.connect(self.gossip)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let stop = self.stop.child_token();
        tokio::spawn(outgoing(
            peer.clone(),
            socket.clone(),
            (self.carrier.clone(), self.sealer.clone()),
            stop.clone(),
        ));
        table.sockets.insert(local, local);
        table.sockets.insert(address_of(peer), local);
        table.shims.insert(peer.clone(), Shim { socket, local, stop, unknown: 0 });
        Ok(())
    }

    /// Gives gossip a datagram that came over `from`'s link; drops it when there is no room, and when
    /// `from` has not made it just now and for this node.
    pub(super) fn incoming(&self, from: &NodeId, sealed: &Bytes) -> std::io::Result<()> {
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opener.open(&self.own, from, sealed);
        drop(opener);
        let datagram = match opened {
            Ok(datagram) if datagram.len() > MAX_UDP_OCTETS => Err(Reason::TooLarge),
            opened => opened,
        };
        let datagram = match datagram {
            Ok(datagram) => datagram,
            Err(reason) => {
                self.refusals.note(reason, from, &"a datagram of gossip");
                return Ok(());
            }
        };
        self.ensure(from)?;
        let mut table = self.table();
        let Some(shim) = table.shims.get_mut(from) else { return Ok(()) }; // From ourselves.
        shim.unknown = 0;
        shim.socket.try_send(&datagram).map(drop)
    }

    /// Forgets the peers that gossip does not know, or not any more, and that have not been heard for some
    /// sweeps, and tells the carrier. So names that come and go leave room for others.
    pub(super) fn sweep(&self, known: impl Fn(&NodeId) -> bool) {
        let mut table = self.table();
        let Table { shims, sockets } = &mut *table;
        let mut gone = Vec::new();
        shims.retain(|peer, shim| {
            shim.unknown = if known(peer) { 0 } else { shim.unknown + 1 };
            let kept = shim.unknown <= SWEEPS;
            if !kept {
                shim.stop.cancel();
                sockets.remove(&shim.local);
                sockets.remove(&address_of(peer));
                gone.push(peer.clone());
            }
            kept
        });
        drop(table);
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        opener.retain(|peer| self.table().shims.contains_key(peer));
        drop(opener);
        for peer in gone {
            tracing::debug!(%peer, "is not gossiped with any more");
            self.carrier.gone(&peer);
        }
    }
}

/// Carries what gossip sends to a peer.
async fn outgoing(
    peer: NodeId,
    socket: Arc<UdpSocket>,
    (carrier, sealer): (Arc<dyn Carrier>, Arc<Sealer>),
    stop: CancellationToken,
) {
    let mut buffer = vec![0; MAX_UDP_OCTETS];
    while let Some(received) = stop.run_until_cancelled(socket.recv(&mut buffer)).await {
        // An error is gossip's socket being away for a moment: nothing to carry.
        let Ok(octets) = received else {
            tokio::task::yield_now().await;
            continue;
        };
        let carried = carrier.carry(&peer, sealer.seal(&peer, &buffer[..octets]));
        let outcome = if carried { "carried" } else { "dropped" };
        metrics::counter!("postroom_gossip_datagrams_total", "outcome" => outcome).increment(1);
        metrics::counter!("postroom_gossip_octets_total").increment(octets as u64);
    }
    sealer.forget(&peer);
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    /// Remembers who is gone.
    struct Gone(watch::Sender<Vec<NodeId>>);

    impl Carrier for Gone {
        fn carry(&self, _: &NodeId, _: Bytes) -> bool {
            false
        }

        fn gone(&self, peer: &NodeId) {
            self.0.send_modify(|gone| gone.push(peer.clone()));
        }
    }

    /// More names than there is room for.
    const NAMES: usize = MAX_NODES + 44;

    #[tokio::test]
    async fn names_that_come_and_go_leave_room_for_others() {
        let gossip = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own: NodeId = "own".parse().unwrap();
        let carrier = Arc::new(Gone(watch::Sender::new(Vec::new())));
        let local = gossip.local_addr().unwrap();
        let shims = Shims::new((own.clone(), 1), local, carrier.clone(), CancellationToken::new());
        let seed: NodeId = "seed".parse().unwrap();
        shims.ensure(&seed).unwrap();
        for number in 0..NAMES {
            let name: NodeId = format!("n{number}").parse().unwrap();
            let sealer = Sealer::new(name.clone(), 1);
            let say = || shims.incoming(&name, &sealer.seal(&own, name.as_str().as_bytes()));
            // A socket that is new can be written to in a moment.
            while say().is_err() {
                tokio::task::yield_now().await;
            }
            let mut heard = [0; 16];
            let (octets, from) = gossip.recv_from(&mut heard).await.unwrap();
            assert_eq!(&heard[..octets], name.as_str().as_bytes(), "{:?}", shims.refusals.totals());
            assert!(shims.is_ours(from));
            for _ in 0..SWEEPS {
                shims.sweep(|peer| *peer == seed);
                assert!(shims.is_ours(from), "it may still be heard of");
            }
            shims.sweep(|peer| *peer == seed);
            assert!(!shims.is_ours(from));
            assert_eq!(carrier.0.borrow().last(), Some(&name));
        }
        assert_eq!(carrier.0.borrow().len(), NAMES);
        assert_eq!(shims.table().shims.len(), 1);
        assert_eq!(shims.table().sockets.len(), 2);
        assert!(shims.refusals.totals().is_empty(), "{:?}", shims.refusals.totals());
    }
}
