//! Gossip within a process, for tests and simulation: facts spread when and as far as it is said.
//! There is no clock, no task and no chance in it, so the same steps have the same outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{FactError, Gossip, Member, Members, check_fact};
use crate::names::NodeId;

/// How facts spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spreading {
    /// Each change reaches at once whom it can reach.
    AtOnce,
    /// Only as [`Hub::exchange`] and [`Hub::spread`] say.
    Stepwise,
}

/// What connects nodes.
#[derive(Clone)]
pub struct Hub(Arc<Mutex<State>>);

struct State {
    spreading: Spreading,
    nodes: BTreeMap<NodeId, Node>,
    /// Pairs that do not hear each other, the smaller name first.
    cuts: BTreeSet<(NodeId, NodeId)>,
}

struct Node {
    generation: u64,
    /// What it knows: members, and how new its facts of each are.
    members: Members,
    versions: BTreeMap<NodeId, u64>,
    give: watch::Sender<Arc<Members>>,
}

/// One node's gossip.
pub struct MemoryGossip {
    hub: Hub,
    own: NodeId,
    generation: u64,
    members: watch::Receiver<Arc<Members>>,
}

impl Hub {
    /// Without nodes.
    pub fn new(spreading: Spreading) -> Self {
        let (nodes, cuts) = (BTreeMap::new(), BTreeSet::new());
        Self(Arc::new(Mutex::new(State { spreading, nodes, cuts })))
    }

    /// Starts a node. One with the same name and a lower generation is over: it hears nothing more.
    pub fn join(&self, own: NodeId, generation: u64) -> MemoryGossip {
        let member = Member { generation, live: true, facts: BTreeMap::new() };
        let members = Members { nodes: [(own.clone(), member)].into(), twin: None };
        let (give, receive) = watch::channel(Arc::new(members.clone()));
        let versions = [(own.clone(), 0)].into();
        let mut state = self.state();
        state.nodes.insert(own.clone(), Node { generation, members, versions, give });
        state.settle();
        drop(state);
        MemoryGossip { hub: self.clone(), own, generation, members: receive }
    }

    /// Two nodes hear each other no more.
    pub fn cut(&self, a: &NodeId, b: &NodeId) {
        self.state().cuts.insert(pair(a, b));
    }

    /// They hear each other again.
    pub fn heal(&self, a: &NodeId, b: &NodeId) {
        let mut state = self.state();
        state.cuts.remove(&pair(a, b));
        state.settle();
    }

    /// Ends a node without a word, and closes its watchers. Nobody notices before
    /// [`Hub::believe`].
    pub fn kill(&self, node: &NodeId) {
        self.state().nodes.remove(node);
    }

    /// Sets what `observer` believes of `node`, as a failure detector would.
    pub fn believe(&self, observer: &NodeId, node: &NodeId, live: bool) {
        let mut state = self.state();
        let Some(observer) = state.nodes.get_mut(observer) else { return };
        if let Some(member) = observer.members.nodes.get_mut(node) {
            member.live = live;
        }
        observer.tell();
    }

    /// Two nodes tell each other all that they know, if they can.
    pub fn exchange(&self, a: &NodeId, b: &NodeId) {
        self.state().exchange(a, b);
    }

    /// All tell all, until nothing new is heard.
    pub fn spread(&self) {
        self.state().spread();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(a: &NodeId, b: &NodeId) -> (NodeId, NodeId) {
    (a.min(b).clone(), a.max(b).clone())
}

impl State {
    fn settle(&mut self) {
        match self.spreading {
            Spreading::AtOnce => self.spread(),
            Spreading::Stepwise => {}
        }
    }

    fn spread(&mut self) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        let mut news = true;
        while news {
            news = false;
            for (at, a) in names.iter().enumerate() {
                for b in &names[at + 1..] {
                    news |= self.exchange(a, b);
                }
            }
        }
    }

    /// Whether anybody has heard anything new.
    fn exchange(&mut self, a: &NodeId, b: &NodeId) -> bool {
        if a == b || self.cuts.contains(&pair(a, b)) {
            return false;
        }
        let (Some(first), Some(second)) = (self.nodes.get(a), self.nodes.get(b)) else {
            return false;
        };
        let (from_a, from_b) = (first.news_for(second), second.news_for(first));
        let mut news = false;
        for (node, heard) in [(b, from_a), (a, from_b)] {
            if let Some(node_state) = self.nodes.get_mut(node) {
                news |= node_state.hear(node, heard);
            }
        }
        news
    }
}

type News = Vec<(NodeId, Member, u64)>;

impl Node {
    /// What `other` does not know yet.
    fn news_for(&self, other: &Node) -> News {
        let newness = |node: &Node, name: &NodeId| {
            let generation = node.members.nodes.get(name).map(|member| member.generation);
            (generation, node.versions.get(name).copied())
        };
        let known = self.members.nodes.iter();
        let newer = known.filter(|(name, _)| newness(self, name) > newness(other, name));
        newer.map(|(name, member)| (name.clone(), member.clone(), self.versions[name])).collect()
    }

    /// Whether any of it was new.
    fn hear(&mut self, own: &NodeId, news: News) -> bool {
        let mut changed = false;
        for (name, heard, version) in news {
            if name == *own {
                // What others know of an older self, or of a twin, stays what they know.
                let twin = (heard.generation > self.generation).then_some(heard.generation);
                changed |= twin > self.members.twin;
                self.members.twin = self.members.twin.max(twin);
                continue;
            }
            let live = match self.members.nodes.get(&name) {
                Some(known) if known.generation == heard.generation => known.live,
                _ => true,
            };
            self.members.nodes.insert(name.clone(), Member { live, ..heard });
            self.versions.insert(name, version);
            changed = true;
        }
        self.tell();
        changed
    }

    fn tell(&self) {
        self.give.send_if_modified(|known| {
            let changed = **known != self.members;
            if changed {
                *known = Arc::new(self.members.clone());
            }
            changed
        });
    }
}

#[async_trait]
impl Gossip for MemoryGossip {
    async fn set(&self, key: &str, value: Bytes) -> Result<(), FactError> {
        let mut state = self.hub.state();
        let node = state.nodes.get_mut(&self.own).filter(|n| n.generation == self.generation);
        let node = node.ok_or(FactError::Ended)?;
        let own = node.members.nodes.get_mut(&self.own).ok_or(FactError::Ended)?;
        check_fact(&own.facts, key, &value)?;
        own.facts.insert(key.to_owned(), value);
        *node.versions.entry(self.own.clone()).or_default() += 1;
        node.tell();
        state.settle();
        Ok(())
    }

    fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    async fn shutdown(&self) {
        let mut state = self.hub.state();
        if state.nodes.get(&self.own).is_some_and(|node| node.generation == self.generation) {
            state.nodes.remove(&self.own);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn seen(by: &MemoryGossip, node: &str) -> Option<String> {
        let members = by.watch().borrow().clone();
        members.fact(&id(node), "state").map(|value| String::from_utf8_lossy(value).into())
    }

    fn set(node: &MemoryGossip, value: &'static str) {
        block_on(node.set("state", Bytes::from_static(value.as_bytes()))).unwrap();
    }

    #[test]
    fn facts_spread_at_once_but_not_across_a_cut() {
        let hub = Hub::new(Spreading::AtOnce);
        let [one, two] = ["one", "two"].map(|name| hub.join(id(name), 1));
        set(&one, "up");
        assert_eq!(seen(&two, "one").as_deref(), Some("up"));
        hub.cut(&id("two"), &id("one"));
        set(&one, "draining");
        assert_eq!(seen(&two, "one").as_deref(), Some("up"));
        let three = hub.join(id("three"), 1);
        assert_eq!(seen(&two, "one").as_deref(), Some("draining"), "by way of the third");
        assert_eq!(seen(&three, "one").as_deref(), Some("draining"));
        hub.heal(&id("one"), &id("two"));
        set(&two, "up");
        assert_eq!(seen(&one, "two").as_deref(), Some("up"));
    }

    #[test]
    fn stepwise_nothing_is_heard_before_an_exchange() {
        let hub = Hub::new(Spreading::Stepwise);
        let [one, two, three] = ["one", "two", "three"].map(|name| hub.join(id(name), 1));
        set(&one, "up");
        assert_eq!((seen(&two, "one"), seen(&three, "one")), (None, None));
        hub.exchange(&id("one"), &id("two"));
        assert_eq!(seen(&two, "one").as_deref(), Some("up"));
        assert_eq!(seen(&three, "one"), None);
        hub.spread();
        assert_eq!(seen(&three, "one").as_deref(), Some("up"));
    }

    #[test]
    fn a_node_that_starts_with_a_lower_generation_hears_of_its_twin() {
        let hub = Hub::new(Spreading::AtOnce);
        let (first, other) = (hub.join(id("one"), 5), hub.join(id("two"), 1));
        hub.kill(&id("one"));
        assert!(first.watch().has_changed().is_err());
        let copy = hub.join(id("one"), 4);
        assert_eq!(copy.watch().borrow().twin, Some(5));
        set(&copy, "mine");
        assert_eq!(seen(&other, "one"), None, "the higher generation counts");
    }

    #[test]
    fn a_restarted_node_replaces_itself_and_its_older_self_is_over() {
        let hub = Hub::new(Spreading::AtOnce);
        let [old, other] = ["one", "two"].map(|name| hub.join(id(name), 1));
        set(&old, "old");
        hub.believe(&id("two"), &id("one"), false);
        assert_eq!(other.watch().borrow().live().count(), 1);
        let new = hub.join(id("one"), 2);
        let members = other.watch().borrow().clone();
        assert_eq!((members.nodes[&id("one")].generation, members.live().count()), (2, 2));
        assert_eq!(seen(&other, "one"), None, "facts of the older self are gone");
        assert_eq!(block_on(old.set("state", Bytes::new())), Err(FactError::Ended));
        assert!(old.watch().has_changed().is_err(), "its watchers are closed");
        set(&new, "new");
        assert_eq!(seen(&other, "one").as_deref(), Some("new"));
        block_on(old.shutdown());
        set(&new, "still there");
    }
}
