//! Gossip by chitchat (Scuttlebutt, and an accrual failure detector), the one file that names it.
//! What is to be known of version 0.13.0 stands at each place; another version is to be read first.
//!
//! chitchat speaks UDP and nothing else, since its messages can only be written by its own socket.
//! So it has a socket on loopback, and [`Shims`] carry its datagrams over the links.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport, UdpSocket};
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatEnvelope, ChitchatHandle, ChitchatId, FailureDetectorConfig,
    NodeState, ProtocolVersion, spawn_chitchat,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::shims::{Shims, address_of};
use super::{Carrier, FactError, Gossip, Member, Members, check_fact};
use crate::names::{ClusterId, NodeId};
use crate::refusals::Reason;

/// How often a node gossips with three others.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// From which degree of suspicion on a node is believed to be dead.
const PHI: f64 = 8.0;

/// How many intervals between heartbeats the failure detector remembers. It adds five of twice the
/// gossip interval, so that with few of them no burst of heartbeats can bring the time of silence
/// after which a node is believed dead below 8 × 5 × 2 / (16 + 5) = 3.8 gossip intervals. With
/// chitchat's own thousand it would fall to nothing after a busy time, and the detector would flap.
const DETECTOR_WINDOW: usize = 16;

/// How long facts of dead nodes are kept. After half of it they are spread no more.
const DEAD_KEPT: Duration = Duration::from_secs(3_600);

/// How often it is looked for nodes that are known no more. Nothing else tells of them where all is calm.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// To how many others a change is told at once, before the next round.
const PUSH_TO: usize = 16;

/// How many such tellings fit an interval.
const PUSHES: u32 = 5;

/// How long the end may take.
const END_TIME: Duration = Duration::from_secs(2);

/// What gossip needs to know.
#[derive(Clone, Debug)]
pub struct GossipOptions {
    /// Whose nodes are spoken with.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// How often it was started: higher than ever before, which its owner must keep on disk.
    pub generation: u64,
    /// Whom to speak with at first.
    pub seeds: Vec<NodeId>,
    /// How often to gossip: [`INTERVAL`].
    pub interval: Duration,
    /// This node's facts to begin with.
    pub facts: BTreeMap<String, Bytes>,
}

/// How long what is over is kept. Tests have less time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    /// Facts of dead nodes.
    pub(super) dead: Duration,
    /// Between looks for peers that nobody knows any more.
    pub(super) sweep: Duration,
}

/// Gossip over links.
pub struct Scuttlebutt {
    handle: Arc<ChitchatHandle>,
    shims: Arc<Shims>,
    facts: tokio::sync::Mutex<BTreeMap<String, Bytes>>,
    members: watch::Receiver<Arc<Members>>,
    changed: Arc<Notify>,
    stop: CancellationToken,
}

impl Scuttlebutt {
    /// Begins. Fails when a fact is out of bounds or no socket can be bound.
    pub async fn start(options: GossipOptions, carrier: Arc<dyn Carrier>) -> std::io::Result<Self> {
        Self::begin(options, carrier, Keeping { dead: DEAD_KEPT, sweep: SWEEP_EVERY }).await
    }

    pub(super) async fn begin(
        options: GossipOptions,
        carrier: Arc<dyn Carrier>,
        keeping: Keeping,
    ) -> std::io::Result<Self> {
        for (key, value) in &options.facts {
            check_fact(&options.facts, key, value).map_err(std::io::Error::other)?;
        }
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let socket = UdpSocket::open((Ipv4Addr::LOCALHOST, 0).into()).await;
        let socket = socket.map_err(std::io::Error::other)?;
        let local = socket.local_addr().map_err(std::io::Error::other)?;
        let own = (options.node.clone(), options.generation);
        let shims = Shims::new(own, local, carrier, stop.clone());
        let shims = Arc::new(shims);
        options.seeds.iter().try_for_each(|seed| shims.ensure(seed))?;

        let id =
            ChitchatId::new(options.node.as_str(), options.generation, address_of(&options.node));
        let facts = options.facts.iter().map(|(key, value)| (key.clone(), BASE64.encode(value)));
        let transport = Over(Mutex::new(Some(Carried { socket, shims: shims.clone() })));
        let config = config(&options, id, local, keeping.dead);
        let handle = spawn_chitchat(config, facts.collect(), &transport).await;
        let handle = Arc::new(handle.map_err(std::io::Error::other)?);

        let (chitchat, changed) = (handle.chitchat(), Arc::new(Notify::new()));
        let heard = Arc::new(Notify::new());
        let poke = heard.clone();
        // Tells of keys that are set, at once; not of nodes that come and go.
        let listener = chitchat.lock().await.subscribe_event("", move |_| poke.notify_one());
        listener.forever();
        let (give, members) = watch::channel(Arc::new(Members::default()));
        let observer = Observer {
            own: (options.node.clone(), options.generation),
            chitchat,
            shims: shims.clone(),
            seeds: options.seeds.iter().cloned().collect(),
            give,
            told_twin: OnceLock::new(),
        };
        observer.look().await;
        let ended = handle.termination_watcher();
        tokio::spawn(async move {
            tokio::select! {
                () = observer.run(heard, keeping.sweep) => {}
                ended = ended => if let Err(why) = ended {
                    error!(%why, "gossip has ended");
                }
            }
        });
        let push = push(handle.clone(), changed.clone(), options.interval / PUSHES);
        tokio::spawn(stop.clone().run_until_cancelled_owned(push));
        let facts = options.facts.into();
        guard.disarm();
        Ok(Self { handle, shims, facts, members, changed, stop })
    }

    /// Where its socket is.
    #[cfg(test)]
    pub(super) fn local(&self) -> SocketAddr {
        self.shims.gossip_socket()
    }

    /// How many datagrams were refused, by reason.
    pub fn refused(&self) -> Vec<(Reason, u64)> {
        self.shims.refusals().totals()
    }

    /// Takes a datagram that came over `from`'s link. Drops it when there is no room, and when it is no
    /// datagram that `from` has made just now for this node.
    pub fn receive(&self, from: &NodeId, datagram: Bytes) {
        if let Err(error) = self.shims.incoming(from, &datagram) {
            tracing::debug!(%from, %error, "a datagram of gossip is dropped");
        }
    }
}

#[async_trait]
impl Gossip for Scuttlebutt {
    async fn set(&self, key: &str, value: Bytes) -> Result<(), FactError> {
        if self.stop.is_cancelled() {
            return Err(FactError::Ended);
        }
        let mut facts = self.facts.lock().await;
        check_fact(&facts, key, &value)?;
        let text = BASE64.encode(&value);
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(key, &text)).await;
        facts.insert(key.to_owned(), value);
        self.changed.notify_one();
        Ok(())
    }

    fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        let ended = self.handle.termination_watcher();
        // An error means that it has ended already.
        if self.handle.initiate_shutdown().is_ok()
            && tokio::time::timeout(END_TIME, ended).await.is_err()
        {
            self.handle.abort();
        }
    }
}

impl Drop for Scuttlebutt {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.handle.initiate_shutdown(); // Else it has ended already.
    }
}

fn config(
    options: &GossipOptions,
    id: ChitchatId,
    local: SocketAddr,
    dead_kept: Duration,
) -> ChitchatConfig {
    let failure_detector_config = FailureDetectorConfig {
        phi_threshold: PHI,
        sampling_window_size: DETECTOR_WINDOW,
        // The default of 5 s makes a young cluster slow to notice a death.
        initial_interval: options.interval * 2,
        dead_node_grace_period: dead_kept,
        ..FailureDetectorConfig::default()
    };
    ChitchatConfig {
        chitchat_id: id,
        cluster_id: options.cluster.to_string(),
        gossip_interval: options.interval,
        listen_addr: local,
        seed_nodes: options.seeds.iter().map(|seed| address_of(seed).to_string()).collect(),
        failure_detector_config,
        // No key is ever deleted, so that there is nothing to collect.
        marked_for_deletion_grace_period: DEAD_KEPT,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}

/// Tells some of the living of each change of ours, before the next round would.
async fn push(handle: Arc<ChitchatHandle>, changed: Arc<Notify>, pause: Duration) {
    let turn = AtomicUsize::new(0);
    loop {
        changed.notified().await;
        let turn = turn.fetch_add(PUSH_TO, Ordering::Relaxed);
        let others = handle
            .with_chitchat(|chitchat| {
                let own = chitchat.self_chitchat_id().clone();
                let live = chitchat.live_nodes().filter(|id| **id != own);
                live.map(|id| id.gossip_advertise_addr).collect::<Vec<_>>()
            })
            .await;
        // Others each time, where there are more than are told.
        for at in 0..others.len().min(PUSH_TO) {
            if handle.gossip(others[(turn + at) % others.len()]).is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Makes of chitchat's states what this node believes.
struct Observer {
    own: (NodeId, u64),
    chitchat: Arc<tokio::sync::Mutex<Chitchat>>,
    shims: Arc<Shims>,
    /// Never forgotten: a cluster that was in two parts finds itself again by them.
    seeds: HashSet<NodeId>,
    give: watch::Sender<Arc<Members>>,
    /// The twin's generation that was told in the log.
    told_twin: OnceLock<u64>,
}

impl Observer {
    async fn run(self, heard: Arc<Notify>, sweep_every: Duration) {
        let mut sweeps = tokio::time::interval(sweep_every);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Changes when a node comes, goes or has another fact, at the next round of gossip.
        let mut live = self.chitchat.lock().await.live_nodes_watcher();
        loop {
            tokio::select! {
                () = heard.notified() => {}
                changed = live.changed() => if changed.is_err() { return },
                _ = sweeps.tick() => self.sweep().await,
                () = self.give.closed() => return,
            }
            self.look().await;
        }
    }

    /// Forgets peers that chitchat has dropped, or never had.
    async fn sweep(&self) {
        let chitchat = self.chitchat.lock().await;
        let known: HashSet<_> = chitchat.node_states().keys().map(|id| &*id.node_id).collect();
        self.shims.sweep(|peer| self.seeds.contains(peer) || known.contains(peer.as_str()));
    }

    async fn look(&self) {
        let members = {
            let chitchat = self.chitchat.lock().await;
            self.members(&chitchat)
        };
        for node in members.nodes.keys() {
            if let Err(error) = self.shims.ensure(node) {
                warn!(%node, %error, "cannot gossip with a node");
            }
        }
        if let Some(generation) = members.twin
            && self.told_twin.set(generation).is_ok()
        {
            error!(generation, "another node claims to be this one, with a higher generation");
        }
        self.give.send_if_modified(|known| {
            let changed = **known != members;
            if changed {
                *known = Arc::new(members);
            }
            changed
        });
    }

    fn members(&self, chitchat: &Chitchat) -> Members {
        let living: HashSet<_> = chitchat.live_nodes().collect();
        let mut members = Members::default();
        let (own, generation) = &self.own;
        // First, so that a full table has room for this node.
        if let Some(state) = chitchat.node_state(chitchat.self_chitchat_id()) {
            let facts = facts_of(state);
            let member = Member { generation: *generation, live: true, facts };
            members.hear(own.clone(), member);
        }
        // Then the living.
        let states = |live| {
            let living = &living;
            chitchat.node_states().iter().filter(move |(id, _)| living.contains(id) == live)
        };
        for (id, state) in states(true).chain(states(false)) {
            let Some(node) = sound(id) else { continue };
            if node == *own {
                if id.generation_id > *generation {
                    members.twin = members.twin.max(Some(id.generation_id));
                }
                continue;
            }
            let (generation, live) = (id.generation_id, living.contains(id));
            members.hear(node, Member { generation, live, facts: facts_of(state) });
        }
        members
    }
}

/// The node that an id means; `None` for one that none of our nodes would have.
fn sound(id: &ChitchatId) -> Option<NodeId> {
    let node = id.node_id.parse().ok()?;
    (id.gossip_advertise_addr == address_of(&node)).then_some(node)
}

/// A node's facts, without those that none of our nodes would set.
fn facts_of(state: &NodeState) -> BTreeMap<String, Bytes> {
    let mut facts = BTreeMap::new();
    for (key, text) in state.key_values() {
        let Ok(value) = BASE64.decode(text).map(Bytes::from) else { continue };
        if check_fact(&facts, key, &value).is_ok() {
            facts.insert(key.to_owned(), value);
        }
    }
    facts
}

/// Gives chitchat its one socket.
struct Over(Mutex<Option<Carried>>);

#[async_trait]
impl Transport for Over {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.0.lock().ok().and_then(|mut socket| socket.take());
        Ok(Box::new(socket.ok_or_else(|| anyhow::anyhow!("the socket is in use"))?))
    }
}

/// chitchat's socket, which speaks with our shims only.
struct Carried {
    socket: UdpSocket,
    shims: Arc<Shims>,
}

#[async_trait]
impl Socket for Carried {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.socket.local_addr()
    }

    async fn send(
        &mut self,
        to: SocketAddr,
        envelope: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        match self.shims.socket_for(to) {
            // A full socket is a lost datagram, which is said again, and no end of gossip.
            Some(socket) => self.socket.send(socket, envelope).await.or(Ok(NOTHING_SENT)),
            None => Ok(NOTHING_SENT),
        }
    }

    /// May be dropped in the middle: the socket's own may.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            let received = self.socket.recv().await?;
            if self.shims.is_ours(received.from_addr) {
                return Ok(received);
            }
            let refusals = self.shims.refusals();
            refusals.note(Reason::Stranger, &received.from_addr, &"a datagram by no link");
        }
    }
}

const NOTHING_SENT: SendOutcome = SendOutcome { num_bytes_sent: 0 };
