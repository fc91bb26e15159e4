//! A node's life among others: it joins, says what it has open, hears of the others, beats, hands slots over,
//! and leaves.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use postroom_core::cluster::limits::MAX_CLOSING;
use postroom_core::cluster::{
    self, Facts, Generation, Holder, Input, Load, Neighbours, NodeId, NodeState, Sighting, SlotSet,
    Timing,
};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::meters;
use super::service::{Serving, node_id};
use super::{Cluster, ClusterConfig, NOTE_TIME, peer_id};
use crate::cluster::certificates::Credentials;
use crate::cluster::gossip::{Gossip, GossipOptions, INTERVAL, Members, Scuttlebutt};
use crate::cluster::links::{LinkServer, Links, LinksOptions, Notice, ServerOptions, WireVersion};
use crate::mailbox::Accounts;
use crate::router::attached::{Attachments, Place};
use crate::router::heartbeat::Heartbeat;
use crate::router::hub::Hub;
use crate::router::owner::Owner;
use crate::router::visitors::{Visitors, moved_slot};
use crate::router::wire::{self, Question, Response};
use crate::storage::Engine;
use postroom_core::types::{MailboxId, ModSeq};

/// How often owners are told which sessions have something active there.
const NAME_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether slots should move.
const BALANCE_EVERY: Duration = Duration::from_secs(2);
/// How long a node that leaves waits until all its slots are let go.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// How often it is looked whether they are.
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// How long calls of peers have to end when a node leaves.
const LEAVE_TIME: Duration = Duration::from_secs(2);

impl Cluster {
    /// Joins: from now on calls may come from other nodes and go to them.
    ///
    /// # Errors
    /// When the certificates cannot be read, the links' address cannot be bound, or storage is another
    /// cluster's.
    pub async fn join(
        config: ClusterConfig,
        engine: Arc<dyn Engine>,
        accounts: Accounts,
    ) -> Result<Arc<Self>> {
        let folder = &config.certificates;
        let credentials = Credentials::open(folder).with_context(|| {
            format!(
                "no certificates of a cluster in {}; `postroom cluster init` or `cluster join` makes them",
                folder.display()
            )
        })?;
        let credentials = Arc::new(credentials);
        let name = credentials.current().holder.node.clone();
        let me = node_id(&name).context("the certificate names no node")?;
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!("cannot listen for other nodes at {}; see cluster.listen", config.listen)
        })?;
        let advertise = match config.advertise.is_empty() {
            true => listener.local_addr()?.to_string(),
            false => config.advertise.clone(),
        };
        let version = WireVersion(wire::VERSION);
        let links = Links::new(LinksOptions {
            credentials: credentials.clone(),
            version,
            address: advertise.clone(),
        });
        let mut seeds = Vec::new();
        for (node, address) in &config.seeds {
            let seed: crate::cluster::NodeId = node.parse()?;
            if seed != name {
                links.set_address(&seed, address)?;
                seeds.push(seed);
            }
        }
        let generation = Generation(config.generation);
        let facts = Facts {
            id: me.clone(),
            generation,
            state: NodeState::Joining,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            link_version: wire::VERSION,
            addresses: vec![advertise],
            slots: SlotSet::default(),
            load: Load::default(),
            notes: BTreeMap::new(),
        };
        let owner = Owner::new(
            (me.clone(), generation),
            engine.clone(),
            accounts.clone(),
            Timing::default(),
        );
        let cluster = Arc::new(Self {
            me,
            owner,
            engine,
            attachments: Attachments::default(),
            visitors: Visitors::new(accounts.clone()),
            accounts,
            hub: Hub::default(),
            fed: Default::default(),
            links,
            server: Default::default(),
            gossip: Default::default(),
            facts: watch::channel(facts).0,
            heard: Default::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        // Alone with this name, before anything is claimed under it.
        let own = cluster.me.as_str().to_owned();
        let beat = Heartbeat::begin(cluster.engine.clone(), own, config.generation).await;
        let beat = beat.context("this node cannot join")?;
        let serving = Arc::new(Serving(cluster.clone()));
        let server = LinkServer::start(
            listener,
            serving,
            ServerOptions { credentials: credentials.clone(), version },
        )?;
        let _ = cluster.server.set(server);
        let options = GossipOptions {
            cluster: credentials.current().holder.cluster,
            node: name,
            generation: config.generation,
            seeds,
            interval: INTERVAL,
            facts: cluster.values()?.into_iter().collect(),
        };
        let gossip = Scuttlebutt::start(options, Arc::new(cluster.links.clone())).await?;
        let members = gossip.watch();
        let _ = cluster.gossip.set(gossip);
        let followed = credentials.follow(cluster.stop.clone());
        cluster.tasks.spawn(followed);
        cluster.spawn(|cluster| cluster.owner.clone().run());
        cluster.spawn(|cluster| cluster.hear(members));
        cluster.spawn(Self::say);
        cluster.spawn(Self::publish);
        let superseded = cluster.owner.superseded().clone();
        cluster.spawn(|_| beat.keep(superseded));
        cluster.spawn(Self::name_sessions);
        let moved = cluster.owner.moved();
        cluster.spawn(|cluster| cluster.tell_moved(moved));
        cluster.spawn(Self::balance);
        meters::describe();
        cluster.spawn(Self::measure);
        cluster.state(NodeState::Up);
        info!(node = %cluster.me, generation = config.generation, "joined");
        Ok(cluster)
    }

    /// Runs a task until the node has left.
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        task: impl FnOnce(Arc<Self>) -> F,
    ) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task(self.clone())));
    }

    /// What this node says of itself, for gossip.
    fn values(&self) -> Result<Vec<(String, Bytes)>> {
        let values = self.facts.borrow().to_values()?;
        Ok(values.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
    }

    /// Takes up which slots are open here.
    async fn publish(self: Arc<Self>) {
        let mut open = self.owner.open();
        loop {
            let slots = open.borrow_and_update().clone();
            self.facts.send_modify(|facts| facts.slots = slots);
            if open.changed().await.is_err() {
                return;
            }
        }
    }

    /// Gossips what this node says of itself, when it changes.
    async fn say(self: Arc<Self>) {
        let mut facts = self.facts.subscribe();
        let mut told = BTreeMap::new();
        loop {
            facts.mark_unchanged();
            match self.values() {
                Ok(values) => {
                    for (key, value) in values {
                        if told.get(&key) == Some(&value) {
                            continue;
                        }
                        let Some(gossip) = self.gossip.get() else { return };
                        match gossip.set(&key, value.clone()).await {
                            Ok(()) => drop(told.insert(key, value)),
                            Err(error) => warn!(%error, key, "cannot be gossiped"),
                        }
                    }
                }
                Err(error) => warn!(%error, "this node's facts cannot be gossiped"),
            }
            if facts.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes up what gossip says of the others.
    async fn hear(self: Arc<Self>, mut members: watch::Receiver<Arc<Members>>) {
        loop {
            let heard = members.borrow_and_update().clone();
            if heard.twin.is_some() {
                error!("another process says that it is this node: its data folder was copied");
            }
            let mut sightings = Vec::new();
            for (node, member) in &heard.nodes {
                let Some(id) = node_id(node) else { continue };
                let value = |key: &str| std::str::from_utf8(member.facts.get(key)?.as_ref()).ok();
                match Facts::from_values(id.clone(), value) {
                    Ok(facts) if facts.generation.0 == member.generation => {
                        if id != self.me {
                            self.meet(&facts);
                        }
                        sightings.push(Sighting { facts, live: member.live });
                    }
                    // Its facts come one by one.
                    Ok(_) | Err(cluster::FactsError::Missing(_)) => {}
                    Err(error) => warn!(%node, %error, "what this node says of itself is ignored"),
                }
            }
            let changed = self.owner.hear(sightings);
            for node in changed.no_room {
                error!(%node, "there are too many nodes for this one to be heard");
            }
            for (node, _) in changed.gone {
                info!(%node, "is gone");
                self.visitors.gone(&node);
                self.wake_at(&node);
            }
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    /// Notes where a node is, and reads its events from now on.
    fn meet(self: &Arc<Self>, facts: &Facts) {
        let (Some(peer), Some(address)) = (peer_id(&facts.id), facts.addresses.first()) else {
            return;
        };
        if let Err(error) = self.links.set_address(&peer, address) {
            return warn!(node = %peer, %error, "no link to this node");
        }
        // At another address it has another link, whose events nobody reads yet.
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.insert(facts.id.clone(), address.clone()).as_ref() != Some(address) {
            let (node, address) = (facts.id.clone(), address.clone());
            self.spawn(|cluster| async move {
                cluster.read_events(&node).await;
                let mut heard = cluster.heard.lock().unwrap_or_else(PoisonError::into_inner);
                if heard.get(&node) == Some(&address) {
                    heard.remove(&node);
                }
            });
        }
    }

    async fn read_events(self: &Arc<Self>, node: &NodeId) {
        let Some(peer) = peer_id(node) else { return };
        let Ok(mut events) = self.links.events(&peer) else { return };
        while let Some(notice) = events.next().await {
            match notice {
                Notice::Event(event) => {
                    match (moved_slot(&event.key), event.value[..].try_into()) {
                        (Some(slot), _) => {
                            self.owner.input(Input::PeerMoved(slot, node.clone()));
                            self.hub.wake_all(self.attachments.in_slot(slot));
                        }
                        (None, Ok(modseq)) => {
                            let at = ModSeq(u64::from_be_bytes(modseq));
                            self.hub.told(node, MailboxId(event.key), at);
                        }
                        (None, Err(_)) => self.hub.wake(MailboxId(event.key)),
                    }
                }
                // What was missed is to be asked for; and whoever waits must not wait for ever.
                Notice::Up => self.wake_at(node),
                Notice::Down(error) => {
                    info!(%node, %error, "its events are not heard");
                    self.wake_at(node);
                }
            }
        }
    }

    /// Wakes sessions that have something active at a node.
    fn wake_at(&self, node: &NodeId) {
        let there = self.attachments.at_node(node);
        self.hub.wake_all(there.into_iter().map(|(_, mailbox)| mailbox));
    }

    /// Tells every node which sessions have something active there (E8).
    async fn name_sessions(self: Arc<Self>) {
        let mut every = tokio::time::interval(NAME_EVERY);
        loop {
            every.tick().await;
            let nodes: Vec<NodeId> =
                self.look(|table, _| table.heard().map(|facts| facts.id.clone()).collect());
            // Whoever was woken before it was noted where it is, is woken again; and whoever is at a node from
            // which another has taken the slot, without its knowing: it was cut off from storage.
            let stands = |at: &Place, slot| match at.node == self.me {
                true => self.look(|_, machine| {
                    machine.fence(slot).is_some_and(|fence| fence.epoch == at.epoch)
                }),
                false => self.look(|table, _| table.holder(slot) == Holder::One(at.node.clone())),
            };
            self.hub.wake_all(self.attachments.astray(stands));
            let others = nodes.iter().filter(|node| **node != self.me);
            futures::future::join_all(others.map(|node| self.name_sessions_at(node))).await;
        }
    }

    async fn name_sessions_at(&self, node: &NodeId) {
        let there = self.attachments.at_node(node);
        let sessions = there.into_iter().map(|(session, _)| session).collect();
        // In vain is no harm: the next one comes soon.
        let said = self.ask(node, Question::Active(sessions), NOTE_TIME).await;
        if let Ok(Response::Unknown(sessions)) = said {
            let mailboxes = sessions.into_iter().filter_map(|id| self.attachments.mailbox(id));
            self.hub.wake_all(mailboxes);
        }
    }

    /// Tells the nodes with sessions in a slot, and this node's own, that it has moved.
    async fn tell_moved(
        self: Arc<Self>,
        mut moved: broadcast::Receiver<postroom_core::types::Slot>,
    ) {
        loop {
            match moved.recv().await {
                Ok(slot) => {
                    self.visitors.tell_moved(slot);
                    self.hub.wake_all(self.attachments.in_slot(slot));
                }
                // It is not known which.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.hub.wake_all(self.attachments.astray(|_, _| false));
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Hands slots over to nodes that have fewer, and lets those go in which nothing is open any more: the
    /// next client's own node opens them (E3, E5).
    async fn balance(self: Arc<Self>) {
        let mut every = tokio::time::interval(BALANCE_EVERY);
        loop {
            every.tick().await;
            let open = self.owner.open().borrow().clone();
            let busy: SlotSet = self.accounts.slots().into_keys().collect();
            for slot in open.difference(&busy).iter().take(MAX_CLOSING) {
                // Only if no call is on its way into it.
                self.owner.input(Input::SlotIdle(slot));
            }
            let moves = self.look(|table, _| cluster::plan(table, &busy));
            for step in moves.into_iter().filter(|step| step.from == self.me) {
                info!(slot = step.slot.0, to = %step.to, "is handed over");
                self.owner.input(Input::HandOver(step.slot, step.to));
            }
        }
    }

    /// Lets all slots go. Comes back when that is done; false: not in time.
    pub async fn drain(&self) -> bool {
        self.state(NodeState::Draining);
        self.owner.input(Input::Drain);
        let drained = async {
            while !self.look(|_, machine| machine.is_drained()) {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        tokio::time::timeout(DRAIN_TIME, drained).await.is_ok()
    }

    /// Leaves the cluster: after this no call goes to other nodes, and none comes.
    pub async fn leave_cluster(&self) {
        if !self.drain().await {
            warn!("not every slot could be let go: other nodes take them over");
        }
        self.state(NodeState::Left);
        if let Some(gossip) = self.gossip.get() {
            for (key, value) in self.values().unwrap_or_default() {
                // Whoever does not hear of it finds out.
                let _ = gossip.set(&key, value).await;
            }
            tokio::time::sleep(INTERVAL).await;
            gossip.shutdown().await;
        }
        if let Some(server) = self.server.get() {
            server.shutdown(LEAVE_TIME).await;
        }
        self.owner.stop();
        self.stop.cancel();
        self.links.shutdown();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
