//! The ownership table (E7): what all nodes say of themselves, as one node hears it. It says where a
//! slot *seems* to be open. It lives in memory, is rebuilt by listening, and decides nothing: the claim
//! in storage does.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Slot;

use super::claim::Claimant;
use super::facts::{Facts, Generation, NodeId, NodeState};
use super::limits::MAX_NODES;
use super::slot_set::SlotSet;

/// Who seems to have a slot open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody that is heard.
    Nobody,
    /// One node.
    One(NodeId),
    /// Several say so: the claim in storage says which of them is right.
    Several(Vec<NodeId>),
}

/// What is heard of a claim's claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// This incarnation is heard.
    Live,
    /// This incarnation has ended: it has left, or a later one is known. For sure.
    Gone,
    /// Nothing is heard of it (any more): it may be dead, or gossip may be slow.
    Unsure,
}

/// What the ownership machine asks of the table. All of it may be wrong or late.
pub trait Neighbours {
    /// Who seems to have a slot open.
    fn holder(&self, slot: Slot) -> Holder;
    /// What is heard of a claimant.
    fn standing(&self, claimant: &Claimant) -> Standing;
    /// Whether a node is heard and takes part, so that a slot may be handed to it.
    fn takes_slots(&self, node: &NodeId) -> bool;
    /// A node that should open a slot which this one, because it drains, must not open.
    fn deputy(&self, slot: Slot) -> Option<NodeId>;
}

/// One incarnation of a node, as gossip has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What it says.
    pub facts: Facts,
    /// Whether gossip takes it to be alive.
    pub live: bool,
}

/// What a new hearing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Nodes that are heard for the first time, or again.
    pub came: Vec<NodeId>,
    /// Incarnations that have ended or are not heard any more. Their sessions are gone (E8).
    pub gone: Vec<(NodeId, Generation)>,
    /// Names for which there was no room: more than [`MAX_NODES`] are remembered already.
    pub no_room: Vec<NodeId>,
}

/// How the cluster is, for `cluster status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Nodes that are heard, by their state.
    pub states: BTreeMap<NodeState, usize>,
    /// Nodes that are known and not heard.
    pub silent: usize,
    /// Slots that one node at least has open.
    pub open: usize,
    /// Slots that several nodes say they have open.
    pub contested: SlotSet,
    /// Slots that each heard node has open.
    pub by_node: BTreeMap<NodeId, usize>,
}

/// What all nodes say, one incarnation a node.
#[derive(Clone, Debug)]
pub struct Table {
    me: NodeId,
    nodes: BTreeMap<NodeId, Sighting>,
    /// The highest incarnation ever heard of each node: one before it never comes back.
    latest: BTreeMap<NodeId, Generation>,
}

impl Table {
    /// The table of a node that has heard nobody yet.
    pub fn new(me: NodeId) -> Self {
        Self { me, nodes: BTreeMap::new(), latest: BTreeMap::new() }
    }

    /// Takes all that gossip has at the moment. Of several incarnations of a node the highest counts.
    /// Nodes that are not among them are forgotten (E8), but not which incarnation they had.
    pub fn hear(&mut self, sightings: impl IntoIterator<Item = Sighting>) -> Changed {
        let mut changed = Changed::default();
        let mut nodes = BTreeMap::<NodeId, Sighting>::new();
        let sightings: Vec<Sighting> = sightings.into_iter().collect();
        self.make_room(&sightings);
        for sighting in sightings {
            let (id, generation) = (sighting.facts.id.clone(), sighting.facts.generation);
            if !self.latest.contains_key(&id) && self.latest.len() >= MAX_NODES {
                if !changed.no_room.contains(&id) {
                    changed.no_room.push(id);
                }
                continue;
            }
            let latest = self.latest.entry(id.clone()).or_insert(generation);
            *latest = (*latest).max(generation);
            if generation == *latest {
                nodes.insert(id, sighting);
            }
        }
        // A lower incarnation may have stood before its successor.
        nodes.retain(|id, sighting| self.latest.get(id) == Some(&sighting.facts.generation));
        self.compare(&nodes, &mut changed);
        self.nodes = nodes;
        changed
    }

    /// Forgets names that gossip has forgotten, where there are more than can be known.
    fn make_room(&mut self, sightings: &[Sighting]) {
        let seen: BTreeSet<&NodeId> = sightings.iter().map(|it| &it.facts.id).collect();
        let new = seen.iter().filter(|id| !self.latest.contains_key(**id)).count();
        let excess = (self.latest.len() + new).saturating_sub(MAX_NODES);
        let gone = self.latest.keys().filter(|id| !seen.contains(id)).take(excess);
        let gone: Vec<NodeId> = gone.cloned().collect();
        self.latest.retain(|id, _| !gone.contains(id));
    }

    fn compare(&self, nodes: &BTreeMap<NodeId, Sighting>, changed: &mut Changed) {
        let heard = |nodes: &BTreeMap<NodeId, Sighting>, id: &NodeId| {
            nodes.get(id).filter(|s| is_heard(s)).map(|s| s.facts.generation)
        };
        for id in self.nodes.keys().chain(nodes.keys().filter(|id| !self.nodes.contains_key(id))) {
            let (before, now) = (heard(&self.nodes, id), heard(nodes, id));
            if before == now {
                continue;
            }
            if let Some(generation) = before {
                changed.gone.push((id.clone(), generation));
            }
            if now.is_some() {
                changed.came.push(id.clone());
            }
        }
    }

    /// Nodes that are heard, with what they say.
    pub fn heard(&self) -> impl Iterator<Item = &Facts> {
        self.nodes.values().filter(|sighting| is_heard(sighting)).map(|sighting| &sighting.facts)
    }

    /// What a node says, heard or not.
    pub fn facts(&self, node: &NodeId) -> Option<&Facts> {
        self.nodes.get(node).map(|sighting| &sighting.facts)
    }

    /// Counts over all nodes.
    pub fn status(&self) -> Status {
        let mut status = Status::default();
        let mut open = SlotSet::default();
        for facts in self.heard() {
            *status.states.entry(facts.state).or_default() += 1;
            status.by_node.insert(facts.id.clone(), facts.slots.len());
            status.contested = status.contested.union(&open.intersection(&facts.slots));
            open = open.union(&facts.slots);
        }
        status.silent = self.nodes.len() - self.heard().count();
        status.open = open.len();
        status
    }
}

/// Alive, and not at its end.
fn is_heard(sighting: &Sighting) -> bool {
    sighting.live && sighting.facts.state != NodeState::Left
}

impl Neighbours for Table {
    fn holder(&self, slot: Slot) -> Holder {
        let saying = self.heard().filter(|facts| facts.slots.contains(slot));
        let mut holders: Vec<NodeId> = saying.map(|facts| facts.id.clone()).collect();
        match holders.len() {
            0 => Holder::Nobody,
            1 => Holder::One(holders.remove(0)),
            _ => Holder::Several(holders),
        }
    }

    fn standing(&self, claimant: &Claimant) -> Standing {
        if self.latest.get(&claimant.node).is_some_and(|latest| *latest > claimant.generation) {
            return Standing::Gone;
        }
        match self.nodes.get(&claimant.node) {
            Some(it) if it.facts.generation != claimant.generation => Standing::Unsure,
            Some(it) if it.facts.state == NodeState::Left => Standing::Gone,
            Some(it) if it.live => Standing::Live,
            Some(_) | None => Standing::Unsure,
        }
    }

    fn takes_slots(&self, node: &NodeId) -> bool {
        let sighting = self.nodes.get(node).filter(|sighting| sighting.live);
        sighting.is_some_and(|it| matches!(it.facts.state, NodeState::Up | NodeState::Joining))
    }

    /// Spreads slots over the nodes that are up: the one whose hash with the slot is highest.
    fn deputy(&self, slot: Slot) -> Option<NodeId> {
        let rank = |id: &NodeId| {
            let text = format!("{} {}", slot.0, id);
            (*blake3::hash(text.as_bytes()).as_bytes(), id.clone())
        };
        let others = self.heard().filter(|it| it.id != self.me && self.takes_slots(&it.id));
        others.map(|facts| facts.id.clone()).max_by_key(rank)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::facts::Load;

    pub fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    pub fn sighting(name: &str, generation: u64, slots: &[u16]) -> Sighting {
        let facts = Facts {
            id: id(name),
            generation: Generation(generation),
            state: NodeState::Up,
            version: "1".into(),
            link_version: 1,
            addresses: vec!["h:1".into()],
            slots: slots.iter().map(|slot| Slot(*slot)).collect(),
            load: Load::default(),
            notes: BTreeMap::new(),
        };
        Sighting { facts, live: true }
    }

    fn claimant(name: &str, generation: u64) -> Claimant {
        Claimant { node: id(name), generation: Generation(generation), nonce: [0; 16] }
    }

    fn with(mut sighting: Sighting, state: NodeState, live: bool) -> Sighting {
        (sighting.facts.state, sighting.live) = (state, live);
        sighting
    }

    #[test]
    fn e7_the_table_says_who_has_a_slot_open_and_who_else_says_so() {
        let mut table = Table::new(id("a"));
        assert_eq!(table.holder(Slot(1)), Holder::Nobody);
        let changed = table.hear([sighting("a", 1, &[1, 2]), sighting("b", 1, &[2, 3])]);
        assert_eq!(changed.came, [id("a"), id("b")]);
        assert_eq!(table.holder(Slot(1)), Holder::One(id("a")));
        assert_eq!(table.holder(Slot(2)), Holder::Several(vec![id("a"), id("b")]));
        let status = table.status();
        assert_eq!((status.open, status.contested.iter().collect()), (3, vec![Slot(2)]));
        assert_eq!(status.by_node, [(id("a"), 2), (id("b"), 2)].into());
        assert_eq!(status.states, [(NodeState::Up, 2)].into());
    }

    #[test]
    fn e7_the_highest_generation_of_a_node_counts_in_whatever_order_they_are_heard() {
        for turned in [false, true] {
            let mut table = Table::new(id("b"));
            let mut both = [sighting("a", 1, &[1]), sighting("a", 2, &[2])];
            if turned {
                both.reverse();
            }
            table.hear(both);
            assert_eq!(table.holder(Slot(1)), Holder::Nobody);
            assert_eq!(table.holder(Slot(2)), Holder::One(id("a")));
            assert_eq!(table.standing(&claimant("a", 1)), Standing::Gone);
            assert_eq!(table.standing(&claimant("a", 2)), Standing::Live);
            assert_eq!(table.standing(&claimant("a", 3)), Standing::Unsure, "gossip is behind");
        }
    }

    #[test]
    fn e8_a_node_that_is_gone_has_nothing_open_and_its_old_generation_never_comes_back() {
        let mut table = Table::new(id("b"));
        table.hear([sighting("a", 2, &[1])]);
        let changed = table.hear([]);
        assert_eq!(changed.gone, [(id("a"), Generation(2))]);
        assert_eq!(table.holder(Slot(1)), Holder::Nobody);
        assert_eq!(table.standing(&claimant("a", 2)), Standing::Unsure);
        assert_eq!(table.hear([sighting("a", 1, &[1])]), Changed::default());
        assert_eq!(table.holder(Slot(1)), Holder::Nobody);
        let changed = table.hear([sighting("a", 3, &[1])]);
        assert_eq!((changed.came, changed.gone), (vec![id("a")], vec![]));
        let changed = table.hear([sighting("a", 4, &[])]);
        assert_eq!((changed.came, changed.gone), (vec![id("a")], vec![(id("a"), Generation(3))]));
    }

    #[test]
    fn a_silent_node_is_suspected_and_one_that_left_is_gone_for_sure() {
        let mut table = Table::new(id("b"));
        table.hear([with(sighting("a", 1, &[1]), NodeState::Up, false)]);
        assert_eq!(table.standing(&claimant("a", 1)), Standing::Unsure);
        assert_eq!(table.holder(Slot(1)), Holder::Nobody);
        assert_eq!(table.status().silent, 1);
        table.hear([with(sighting("a", 1, &[1]), NodeState::Left, true)]);
        assert_eq!(table.standing(&claimant("a", 1)), Standing::Gone);
    }

    #[test]
    fn a_deputy_is_another_node_that_takes_slots_and_slots_are_spread_over_them() {
        let mut table = Table::new(id("a"));
        let draining = with(sighting("d", 1, &[]), NodeState::Draining, true);
        table.hear([sighting("a", 1, &[]), draining.clone()]);
        assert_eq!(table.deputy(Slot(1)), None);
        table.hear([sighting("b", 1, &[]), sighting("c", 1, &[]), draining]);
        let to_b = (0..1000).filter(|s| table.deputy(Slot(*s)) == Some(id("b"))).count();
        assert!((400..600).contains(&to_b), "{to_b} of 1000");
        assert!((0..1000).all(|slot| table.deputy(Slot(slot)) != Some(id("d"))));
    }

    #[test]
    fn names_beyond_the_limit_are_told_and_left_out() {
        let mut table = Table::new(id("a"));
        let many = (0..MAX_NODES + 2).map(|n| sighting(&format!("n{n:04}"), 1, &[]));
        let changed = table.hear(many);
        assert_eq!((changed.came.len(), changed.no_room.len()), (MAX_NODES, 2));
        assert_eq!(table.heard().count(), MAX_NODES);
        // Those that have gone make room.
        let changed = table.hear([sighting("new", 1, &[]), sighting("n0000", 1, &[])]);
        assert_eq!((changed.came.len(), changed.no_room.len()), (1, 0));
        assert_eq!(table.heard().count(), 2);
    }
}
