//! Gossip without links: datagrams are handed from one to the other in the process, or made up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use super::envelope::{ENVELOPE_OCTETS, Sealer};
use super::scuttlebutt::Keeping;
use super::*;
use crate::names::ClusterId;
use crate::refusals::Reason;

/// Hands datagrams over.
#[derive(Default)]
struct Post {
    nodes: Mutex<HashMap<NodeId, Weak<Scuttlebutt>>>,
    /// The last datagram that anybody sent.
    last: Mutex<Bytes>,
    /// Who was forgotten.
    gone: watch::Sender<Vec<NodeId>>,
    /// The first datagrams that were sent, at most [`KEPT`], and by whom.
    kept: Mutex<Vec<(NodeId, Bytes)>>,
}

/// Datagrams that are kept: some rounds of two nodes.
const KEPT: usize = 40;

struct Sender {
    own: NodeId,
    post: Arc<Post>,
}

impl Carrier for Sender {
    fn carry(&self, to: &NodeId, datagram: Bytes) -> bool {
        *self.post.last.lock().unwrap_or_else(PoisonError::into_inner) = datagram.clone();
        let mut kept = self.post.kept.lock().unwrap();
        if kept.len() < KEPT {
            kept.push((self.own.clone(), datagram.clone()));
        }
        drop(kept);
        let node = self.post.nodes.lock().unwrap().get(to).and_then(Weak::upgrade);
        node.map(|node| node.receive(&self.own, datagram)).is_some()
    }

    fn gone(&self, peer: &NodeId) {
        self.post.gone.send_modify(|gone| gone.push(peer.clone()));
    }
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

async fn start(
    post: &Arc<Post>,
    cluster: ClusterId,
    name: &str,
    generation: u64,
) -> Arc<Scuttlebutt> {
    let hour = Duration::from_secs(3_600);
    begin(post, cluster, name, generation, Keeping { dead: hour, sweep: hour }).await
}

async fn begin(
    post: &Arc<Post>,
    cluster: ClusterId,
    name: &str,
    generation: u64,
    keeping: Keeping,
) -> Arc<Scuttlebutt> {
    let options = GossipOptions {
        cluster,
        node: id(name),
        generation,
        seeds: vec![id("one"), id("two")],
        interval: Duration::from_millis(50),
        facts: [("name".to_owned(), Bytes::from(name.to_owned()))].into(),
    };
    let carrier = Arc::new(Sender { own: id(name), post: post.clone() });
    let node = Arc::new(Scuttlebutt::begin(options, carrier, keeping).await.unwrap());
    post.nodes.lock().unwrap().insert(id(name), Arc::downgrade(&node));
    node
}

async fn until(node: &Scuttlebutt, what: &str, look: impl Fn(&Members) -> bool) {
    let mut members = node.watch();
    let seen = members.wait_for(|members| look(members));
    let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
    assert!(seen.is_ok_and(|seen| seen.is_ok()), "waited for {what}");
}

fn knows(name: &'static str) -> impl Fn(&Members) -> bool {
    move |members| {
        members.nodes.get(&id(name)).is_some_and(|member| member.live)
            && members.fact(&id(name), "name").is_some_and(|value| value == name)
    }
}

/// Whether a node has told its other name.
fn after(name: &'static str) -> impl Fn(&Members) -> bool {
    move |members| members.fact(&id(name), "name").is_some_and(|value| value == "after")
}

/// Random numbers from a seed, which is printed, so that a failure can be had again.
fn random() -> impl FnMut() -> u64 {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    println!("seed {seed:#x}");
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

/// Gives `one` 2,000 datagrams that `make` makes of the last one that was sent: in a sound envelope of a
/// stranger's, so that they are looked into, and sometimes in none.
async fn feed(post: &Post, one: &Scuttlebutt, mut make: impl FnMut(&mut Vec<u8>, u64)) {
    let sealer = Sealer::new(id("stranger"), 1);
    for round in 0..2_000 {
        let mut octets = post.last.lock().unwrap()[ENVELOPE_OCTETS..].to_vec();
        make(&mut octets, round);
        match round % 10 {
            9 => one.receive(&id("stranger"), octets.into()),
            _ => one.receive(&id("stranger"), sealer.seal(&id("one"), &octets)),
        }
        tokio::task::yield_now().await;
    }
    let refused = one.refused().into_iter().find(|(why, _)| *why == Reason::MalformedGossip);
    assert!(refused.is_some_and(|(_, count)| count > 50), "{:?}", one.refused());
}

#[tokio::test]
async fn rubbish_changes_nothing_and_ends_nothing() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let one = start(&post, cluster, "one", 1).await;
    let two = start(&post, cluster, "two", 1).await;
    until(&one, "two", knows("two")).await;
    // Without who is alive, which a slow machine may doubt for a moment.
    let told = || {
        let members = one.watch().borrow().clone();
        let nodes = members.nodes.iter();
        nodes
            .map(|(id, member)| (id.clone(), member.generation, member.facts.clone()))
            .collect::<Vec<_>>()
    };
    let before = told();
    let mut random = random();
    feed(&post, &one, |octets, round| match round % 2 {
        0 => *octets = (0..random() % 2_000).map(|_| random() as u8).collect(),
        _ => octets.truncate(random() as usize % octets.len().max(1)),
    })
    .await;
    assert_eq!(told(), before);
    two.set("name", Bytes::from_static(b"after")).await.unwrap();
    until(&one, "the change", after("two")).await;
}

/// An octet that was altered between seal and envelope can be a lie about another node, which gossip
/// believes of whoever belongs to the cluster: what it says of `two` does not hold from then on.
#[tokio::test]
async fn lies_end_nothing_and_others_are_heard() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let one = start(&post, cluster, "one", 1).await;
    let two = start(&post, cluster, "two", 1).await;
    until(&one, "two", knows("two")).await;
    let mut random = random();
    feed(&post, &one, |octets, _| {
        // The header stays, so that the rest is looked into.
        let at = 4 + random() as usize % octets.len().saturating_sub(4).max(1);
        if let Some(octet) = octets.get_mut(at) {
            *octet ^= 0xff;
        }
    })
    .await;
    let known = one.watch().borrow().nodes.keys().cloned().collect::<Vec<_>>();
    println!("known {known:?}");
    assert!(known.len() <= MAX_NODES);
    // Whom nobody can have lied about is heard.
    let three = start(&post, cluster, "three", 1).await;
    until(&one, "three", knows("three")).await;
    three.set("name", Bytes::from_static(b"after")).await.unwrap();
    until(&one, "the change", after("three")).await;
    drop(two);
}

#[tokio::test]
async fn a_node_that_is_gone_for_good_is_forgotten_but_no_seed() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let soon = Keeping { dead: Duration::from_millis(500), sweep: Duration::from_millis(50) };
    let one = begin(&post, cluster, "one", 1, soon).await;
    let [two, three] = ["two", "three"].map(|name| begin(&post, cluster, name, 1, soon));
    let (two, three) = (two.await, three.await);
    until(&one, "two", knows("two")).await;
    until(&one, "three", knows("three")).await;
    for node in [two, three] {
        node.shutdown().await;
    }
    until(&one, "the end of both", |members| members.nodes.len() == 1).await;
    let mut gone = post.gone.subscribe();
    let seen = gone.wait_for(|gone| gone.contains(&id("three")));
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap().unwrap();
    // A seed that comes again is heard, and so is another one.
    let again = begin(&post, cluster, "two", 2, soon).await;
    let three = begin(&post, cluster, "three", 2, soon).await;
    until(&one, "two", knows("two")).await;
    until(&one, "three", knows("three")).await;
    assert!(!post.gone.borrow().contains(&id("two")), "a seed");
    drop((again, three));
}

#[tokio::test]
async fn another_cluster_is_not_listened_to() {
    let post = Arc::new(Post::default());
    let one = start(&post, ClusterId::random(), "one", 1).await;
    let other = start(&post, ClusterId::random(), "two", 1).await;
    let third = start(&post, ClusterId::random(), "three", 1).await;
    drop(third);
    let cluster = ClusterId::random();
    let (post, nodes) = (Arc::new(Post::default()), [("one", 1), ("two", 1)]);
    let one_again = start(&post, cluster, nodes[0].0, nodes[0].1).await;
    let two_again = start(&post, cluster, nodes[1].0, nodes[1].1).await;
    // By the time that these know each other the others have had as many rounds.
    until(&one_again, "two", knows("two")).await;
    until(&two_again, "one", knows("one")).await;
    assert_eq!(one.watch().borrow().nodes.len(), 1);
    assert_eq!(other.watch().borrow().nodes.len(), 1);
}

#[tokio::test]
async fn who_claims_to_be_a_node_is_heard_of_by_that_node() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let one = start(&post, cluster, "one", 7).await;
    let two = start(&post, cluster, "two", 1).await;
    until(&two, "one", knows("one")).await;
    // A copy of the first node's directory, started once more, at another place.
    let elsewhere = Arc::new(Post::default());
    let copy = start(&elsewhere, cluster, "one", 8).await;
    elsewhere.nodes.lock().unwrap().insert(id("two"), Arc::downgrade(&two));
    until(&one, "its twin", |members| members.twin == Some(8)).await;
    until(&two, "the copy", |members| members.nodes[&id("one")].generation == 8).await;
    assert_eq!(one.watch().borrow().nodes[&id("one")].generation, 7);
    drop(copy);
}

#[tokio::test]
async fn a_datagram_from_another_socket_of_this_machine_is_not_taken() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let one = start(&post, cluster, "one", 1).await;
    // A good datagram, of a node that has no way in.
    let lonely = start(&Arc::new(Post::default()), cluster, "three", 1).await;
    let aside = Arc::new(Post::default());
    let two = start(&aside, cluster, "two", 1).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let good = loop {
        let last = aside.last.lock().unwrap().clone();
        if !last.is_empty() {
            break last;
        }
        tokio::task::yield_now().await;
    };
    for _ in 0..50 {
        socket.send_to(&good[ENVELOPE_OCTETS..], one.local()).await.unwrap();
    }
    one.set("name", Bytes::from_static(b"after")).await.unwrap();
    until(&one, "itself", after("one")).await;
    // The same one by a link is taken, after all the others: they were not.
    assert_eq!(one.watch().borrow().nodes.len(), 1);
    one.receive(&id("two"), good);
    until(&one, "two", |members| members.nodes.contains_key(&id("two"))).await;
    assert!(matches!(one.refused()[..], [(Reason::Stranger, 1..=50)]), "{:?}", one.refused());
    drop((two, lonely));
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_and_the_end_is_told() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let one = start(&post, cluster, "one", 1).await;
    let large = Bytes::from(vec![0; MAX_FACT_OCTETS + 1]);
    assert_eq!(one.set("large", large).await, Err(FactError::TooLarge));
    let mut watch = one.watch();
    one.shutdown().await;
    assert_eq!(one.set("name", Bytes::new()).await, Err(FactError::Ended));
    let closed = async { while watch.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
}

/// A busy time makes heartbeats frequent; the detector must not take the calm after it for death.
#[tokio::test]
async fn many_changes_do_not_make_the_detector_flap() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let one = start(&post, cluster, "one", 1).await;
    let two = start(&post, cluster, "two", 1).await;
    until(&one, "two", knows("two")).await;
    until(&two, "one", knows("one")).await;
    let mut flaps = one.watch();
    for number in 0..2_000u32 {
        two.set("count", Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
        tokio::task::yield_now().await;
    }
    // Sixty rounds of calm.
    let calm = async {
        loop {
            let members = flaps.borrow_and_update().clone();
            assert!(members.nodes[&id("two")].live, "flapped");
            flaps.changed().await.unwrap();
        }
    };
    let calm = tokio::time::timeout(Duration::from_secs(3), calm).await;
    assert!(calm.is_err(), "only time ends the calm");
}

#[test]
fn facts_stay_within_their_bounds() {
    let mut facts = BTreeMap::new();
    let value = |size| Bytes::from(vec![0; size]);
    assert_eq!(check_fact(&facts, "slots", &value(MAX_FACT_OCTETS)), Ok(()));
    let large = check_fact(&facts, "slots", &value(MAX_FACT_OCTETS + 1));
    assert_eq!(large, Err(FactError::TooLarge));
    for bad in ["", "A", "a b", "a.b", &"x".repeat(MAX_KEY_OCTETS + 1)] {
        assert_eq!(check_fact(&facts, bad, &value(1)), Err(FactError::Key), "{bad}");
    }
    for key in 0..4 {
        facts.insert(format!("large{key}"), value(MAX_FACT_OCTETS));
    }
    assert_eq!(check_fact(&facts, "more", &value(1)), Err(FactError::TooLarge));
    assert_eq!(check_fact(&facts, "large0", &value(MAX_FACT_OCTETS)), Ok(()));
    facts.retain(|key, _| key == "large0");
    for key in 1..MAX_FACTS {
        facts.insert(format!("small{key}"), value(1));
    }
    assert_eq!(check_fact(&facts, "another", &value(1)), Err(FactError::TooMany));
    assert_eq!(check_fact(&facts, "small1", &value(2)), Ok(()));
}

#[test]
fn of_two_generations_the_higher_one_counts_in_any_order() {
    let member = |generation, live| Member { generation, live, facts: BTreeMap::new() };
    let node: NodeId = "one".parse().unwrap();
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let mut members = Members::default();
        for generation in order {
            members.hear(node.clone(), member(generation, generation != 3));
        }
        assert_eq!(members.nodes[&node], member(3, false));
    }
}

#[tokio::test]
async fn datagrams_of_the_past_change_nothing_when_they_come_again() {
    let (post, cluster) = (Arc::new(Post::default()), ClusterId::random());
    let one = start(&post, cluster, "one", 1).await;
    let two = start(&post, cluster, "two", 1).await;
    until(&one, "two", knows("two")).await;
    until(&two, "one", knows("one")).await;
    let recorded: Vec<_> = post.kept.lock().unwrap().clone();
    assert!(recorded.iter().any(|(from, _)| *from == id("two")), "{}", recorded.len());
    two.set("name", Bytes::from_static(b"after")).await.unwrap();
    let is_new = after("two");
    until(&one, "the change", &is_new).await;
    let mut seen = one.watch();
    for round in 0..50 {
        for (_, datagram) in &recorded {
            // From whom they were, as from another member: both have links.
            let from = if round % 2 == 0 { id("two") } else { id("three") };
            one.receive(&from, datagram.clone());
        }
        tokio::task::yield_now().await;
    }
    // What comes after them is taken up; so they have been looked at by then.
    two.set("later", Bytes::from_static(b"1")).await.unwrap();
    let later = |members: &Members| members.fact(&id("two"), "later").is_some();
    loop {
        let members = seen.borrow_and_update().clone();
        assert!(is_new(&members), "{members:?}");
        assert_eq!(members.twin, None);
        assert_eq!(members.nodes[&id("two")].generation, 1);
        assert!(!members.nodes.contains_key(&id("three")), "{members:?}");
        if later(&members) {
            break;
        }
        let changed = tokio::time::timeout(Duration::from_secs(30), seen.changed()).await;
        assert!(changed.is_ok_and(|changed| changed.is_ok()), "waited for the later fact");
    }
}
