//! Gossip over links in one process: changes reach all, deaths are noticed, a node replaces itself.
//!
//! `POSTROOM_GOSSIP_NODES=3,10,30,50` sets for which numbers of nodes the table is printed,
//! `POSTROOM_GOSSIP_MS` the interval of gossip.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use common::*;
use postroom_cluster::gossip::{Carrier, Gossip, GossipOptions, Member, Members, Scuttlebutt};
use postroom_cluster::links::{
    EventSource, IncomingCall, LinkServer, Links, LinksOptions, Refusal, Reply, ServerOptions,
    Service,
};
use postroom_cluster::names::NodeId;
use postroom_cluster::refusals::Reason;
use tokio::net::TcpListener;

/// Faster than in earnest, so that tests end soon.
const FAST: Duration = Duration::from_millis(100);

/// Octets of a bitmap of 4,096 slots.
const BITMAP: usize = 512;

/// A node that does nothing but gossip.
struct Gossiper {
    name: NodeId,
    gossip: Arc<Scuttlebutt>,
    links: Links,
    server: LinkServer,
    octets: Arc<AtomicU64>,
    recorded: Recorded,
}

#[derive(Default)]
struct Receiver(OnceLock<(Arc<Scuttlebutt>, Links)>);

#[async_trait]
impl Service for Receiver {
    async fn call(&self, _: &NodeId, _: IncomingCall) -> Result<Reply, Refusal> {
        Err(Refusal::Busy)
    }

    fn events(&self, _: &NodeId) -> Result<EventSource, Refusal> {
        Err(Refusal::Busy)
    }

    fn met(&self, from: &NodeId, address: &str) {
        if let Some((_, links)) = self.0.get() {
            let _ = links.set_address(from, address); // Else they are shut down.
        }
    }

    fn gossip(&self, from: &NodeId, datagram: Bytes) {
        if let Some((gossip, _)) = self.0.get() {
            gossip.receive(from, datagram);
        }
    }
}

/// What was sent to whom, as somebody who listens at its node records it.
type Recorded = Arc<std::sync::Mutex<Vec<(NodeId, Bytes)>>>;

/// How many datagrams of a node are recorded at most: from its first on.
const RECORDED: usize = 64;

/// Counts what is carried.
struct Counting(Links, Arc<AtomicU64>, Recorded);

impl Carrier for Counting {
    fn carry(&self, to: &NodeId, datagram: Bytes) -> bool {
        let octets = datagram.len() as u64;
        let mut recorded = self.2.lock().unwrap();
        if recorded.len() < RECORDED {
            recorded.push((to.clone(), datagram.clone()));
        }
        drop(recorded);
        let carried = self.0.carry(to, datagram);
        self.1.fetch_add(if carried { octets } else { 0 }, Ordering::Relaxed);
        carried
    }

    fn gone(&self, peer: &NodeId) {
        self.0.gone(peer);
    }
}

impl Gossiper {
    async fn start(
        cluster: &Cluster,
        name: &str,
        generation: u64,
        seeds: &[(NodeId, String)],
        interval: Duration,
    ) -> Self {
        let credentials = cluster.credentials(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Arc::new(Receiver::default());
        let own = credentials.clone();
        let options = ServerOptions { credentials, version: VERSION };
        let server = LinkServer::start(listener, service.clone(), options).unwrap();
        let address = server.address().to_string();
        let options = LinksOptions { credentials: own, version: VERSION, address: address.clone() };
        let links = Links::new(options);
        seeds.iter().for_each(|(seed, address)| links.set_address(seed, address).unwrap());
        let facts = [("address", address.into()), ("slots", bitmap(generation))];
        let octets = Arc::new(AtomicU64::new(0));
        let options = GossipOptions {
            cluster: cluster.authority.cluster(),
            node: id(name),
            generation,
            seeds: seeds.iter().map(|(seed, _)| seed.clone()).collect(),
            interval,
            facts: facts.map(|(key, value): (_, Bytes)| (key.to_owned(), value)).into(),
        };
        let recorded = Recorded::default();
        let carrier = Arc::new(Counting(links.clone(), octets.clone(), recorded.clone()));
        let gossip = Arc::new(Scuttlebutt::start(options, carrier).await.unwrap());
        service.0.set((gossip.clone(), links.clone())).ok().unwrap();
        tokio::spawn(follow(gossip.watch(), links.clone(), id(name)));
        Self { name: id(name), gossip, links, server, octets, recorded }
    }

    fn here(&self) -> (NodeId, String) {
        (self.name.clone(), self.server.address().to_string())
    }

    async fn until(&self, what: &str, look: impl Fn(&Members) -> bool) {
        let mut watch = self.gossip.watch();
        let seen = watch.wait_for(|members| look(members));
        soon(&format!("{}: {what}", self.name), seen).await.unwrap();
    }

    /// As `kill -9` does.
    fn kill(self) {
        self.links.shutdown();
    }
}

/// Addresses are known from gossip: what a node's composition root does.
async fn follow(mut watch: tokio::sync::watch::Receiver<Arc<Members>>, links: Links, own: NodeId) {
    loop {
        let members = watch.borrow_and_update().clone();
        for node in members.nodes.keys().filter(|node| **node != own) {
            if let Some(address) = members.fact(node, "address") {
                // A table that is full, or links that are shut down, end what a test waits for.
                let _ = links.set_address(node, std::str::from_utf8(address).unwrap());
            }
        }
        if watch.changed().await.is_err() {
            return;
        }
    }
}

/// A bitmap that does not compress.
fn bitmap(seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let octets = (0..BITMAP).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    octets.collect::<Vec<_>>().into()
}

async fn start_all(cluster: &Cluster, count: usize, interval: Duration) -> Vec<Gossiper> {
    let mut nodes = vec![Gossiper::start(cluster, "n0", 1, &[], interval).await];
    let seed = [nodes[0].here()];
    for number in 1..count {
        let name = format!("n{number}");
        nodes.push(Gossiper::start(cluster, &name, 1, &seed, interval).await);
    }
    nodes
}

async fn until_whole(nodes: &[Gossiper]) {
    for node in nodes {
        node.until("all others", |members| {
            members.live().filter(|(_, member)| member.facts.len() == 2).count() == nodes.len()
        })
        .await;
    }
}

/// How long one change takes to reach each other node.
async fn change(nodes: &[Gossiper], from: usize, seed: u64) -> Vec<Duration> {
    let (value, name) = (bitmap(seed), nodes[from].name.clone());
    let began = Instant::now();
    nodes[from].gossip.set("slots", value.clone()).await.unwrap();
    let others = nodes.iter().filter(|node| node.name != name);
    let waits = others.map(|node| {
        let (value, name) = (&value, &name);
        async move {
            node.until("the change", |members| members.fact(name, "slots") == Some(value)).await;
            began.elapsed()
        }
    });
    futures::future::join_all(waits).await
}

fn percentile(sorted: &[Duration], part: usize) -> Duration {
    sorted[(sorted.len() * part / 100).min(sorted.len() - 1)]
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_all_and_what_it_costs() {
    let counts = std::env::var("POSTROOM_GOSSIP_NODES").unwrap_or("3,10".to_owned());
    let interval = std::env::var("POSTROOM_GOSSIP_MS").ok().and_then(|text| text.parse().ok());
    let interval = interval.map_or(FAST, Duration::from_millis);
    println!("interval {interval:?}; a bitmap of {BITMAP} octets and an address for each node");
    println!("nodes  fresh cluster  change p50 / p99 / last  octets/s and CPU per node, idle");
    for count in counts.split(',').map(|text| text.parse::<usize>().unwrap()) {
        let cluster = Cluster::new();
        let began = Instant::now();
        let nodes = start_all(&cluster, count, interval).await;
        until_whole(&nodes).await;
        let fresh = began.elapsed();
        let mut waits = Vec::new();
        for round in 0..20 {
            waits.extend(change(&nodes, round * 7 % count, round as u64 + 1_000).await);
        }
        waits.sort();
        let sum = || nodes.iter().map(|node| node.octets.load(Ordering::Relaxed)).sum::<u64>();
        let (octets, used, began) = (sum(), cpu(), Instant::now());
        let mut ticks = tokio::time::interval(interval * 10);
        ticks.tick().await;
        ticks.tick().await;
        let (seconds, nodes_f) = (began.elapsed().as_secs_f64(), count as f64);
        println!(
            "{count:5}  {fresh:>13.1?}  {:.1?} / {:.1?} / {:.1?}  {:.0}  {:.2} %",
            percentile(&waits, 50),
            percentile(&waits, 99),
            waits[waits.len() - 1],
            (sum() - octets) as f64 / seconds / nodes_f,
            (cpu() - used).as_secs_f64() / seconds / nodes_f * 100.0,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_noticed_and_a_restarted_node_replaces_itself() {
    let cluster = Cluster::new();
    let mut nodes = start_all(&cluster, 4, FAST).await;
    until_whole(&nodes).await;
    let dead = nodes.pop().unwrap();
    let name = dead.name.clone();
    let began = Instant::now();
    dead.kill();
    for node in &nodes {
        node.until("the death", |members| !members.nodes[&name].live).await;
        // What it had is still known: its slots are to be taken over.
        let members = node.gossip.watch().borrow().clone();
        assert_eq!(members.fact(&name, "slots"), Some(&bitmap(1)));
    }
    println!("a death was noticed by all after {:?} ({FAST:?} interval)", began.elapsed());

    let began = Instant::now();
    let again = Gossiper::start(&cluster, name.as_str(), 2, &[nodes[1].here()], FAST).await;
    nodes.push(again);
    for node in &nodes {
        node.until("the new self", |members| {
            let member = &members.nodes[&name];
            member.generation == 2 && member.live && member.facts.get("slots") == Some(&bitmap(2))
        })
        .await;
    }
    println!("a restarted node was known by all after {:?}", began.elapsed());
    change(&nodes, 3, 99).await;
}

/// Restarted at once, before anybody has noticed that it was away: both selves look alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quick_restart_is_one_node_and_not_two() {
    let cluster = Cluster::new();
    let mut nodes = start_all(&cluster, 3, FAST).await;
    until_whole(&nodes).await;
    for generation in 2..6 {
        let old = nodes.pop().unwrap();
        let name = old.name.clone();
        old.kill();
        let seeds = [nodes[0].here()];
        nodes.push(Gossiper::start(&cluster, name.as_str(), generation, &seeds, FAST).await);
        for node in &nodes {
            node.until("one node, the new one", |members| {
                let member = members.nodes.get(&name);
                members.nodes.len() == 3
                    && member.is_some_and(|member| {
                        (member.generation, member.live) == (generation, true)
                            && member.facts.get("slots") == Some(&bitmap(generation))
                    })
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_stranger_cannot_gossip() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let nodes = start_all(&ours, 2, FAST).await;
    let stranger = Gossiper::start(&theirs, "n1", 9, &[nodes[0].here()], FAST).await;
    until_whole(&nodes).await;
    eventually("the stranger to have tried", || {
        nodes[0].server.refused().iter().any(|(_, count)| *count >= 2)
    })
    .await;
    let members = nodes[0].gossip.watch().borrow().clone();
    let generations: BTreeMap<_, _> =
        members.nodes.iter().map(|(node, member)| (node.as_str(), member.generation)).collect();
    assert_eq!(generations, [("n0", 1), ("n1", 1)].into());
    assert_eq!(stranger.gossip.watch().borrow().nodes.len(), 1);
}

fn refused(counts: Vec<(Reason, u64)>, reason: Reason) -> u64 {
    counts.into_iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| count)
}

/// Datagrams of before a change are brought again after it: by their maker's own link, by another member's,
/// and by somebody who has no certificate of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_that_was_recorded_is_without_effect_and_counted() {
    let cluster = Cluster::new();
    let nodes = start_all(&cluster, 3, FAST).await;
    until_whole(&nodes).await;
    let [zero, one, two] = &nodes[..] else { panic!("three nodes") };
    let made = || one.recorded.lock().unwrap().clone();
    eventually("enough on record", || made().len() == RECORDED).await;
    let recorded = made();
    change(&nodes, 1, 77).await;
    let before = zero.gossip.watch().borrow().clone();
    assert_eq!(before.fact(&one.name, "slots"), Some(&bitmap(77)));

    let count = || refused(zero.gossip.refused(), Reason::ReplayedGossip);
    assert_eq!(count(), 0, "{:?}", zero.gossip.refused());
    let ours: Vec<_> = recorded.iter().filter(|(to, _)| *to == zero.name).cloned().collect();
    assert!(ours.len() > 5);
    let mut sent = 0;
    for (_, datagram) in &ours {
        sent += u64::from(one.links.gossip(&zero.name, datagram.clone()));
        // The link's queue is short.
        eventually("it to be refused", || count() == sent).await;
    }
    // Another member, who has it from its own record or from a theft.
    for (_, datagram) in &recorded {
        sent += u64::from(two.links.gossip(&zero.name, datagram.clone()));
        eventually("it to be refused", || count() == sent).await;
    }
    assert!(sent > 50, "{sent}");
    // Nothing of it has reached a node's state. Who is alive is an opinion, and may waver.
    let after = zero.gossip.watch().borrow().clone();
    let known = |members: &Members| {
        let each = |(node, member): (&NodeId, &Member)| {
            (node.clone(), member.generation, member.facts.clone())
        };
        members.nodes.iter().map(each).collect::<Vec<_>>()
    };
    assert_eq!(known(&after), known(&before));
    assert_eq!(refused(zero.gossip.refused(), Reason::MalformedGossip), 0);
    two.links.gossip(&zero.name, Bytes::from_static(b"no datagram of ours"));
    eventually("it to be refused", || refused(zero.gossip.refused(), Reason::MalformedGossip) == 1)
        .await;

    // A stranger's certificate: the link is not made, so nothing of it arrives.
    let strangers = Cluster::new().links("one");
    strangers.set_address(&zero.name, &zero.server.address().to_string()).unwrap();
    strangers.gossip(&zero.name, ours[0].1.clone());
    eventually("it to be refused", || refused(zero.server.refused(), Reason::GaveUp) >= 1).await;
    eventually("it to be counted", || refused(strangers.refused(), Reason::Stranger) >= 1).await;
    assert_eq!(count(), sent);
    change(&nodes, 2, 78).await;
}
