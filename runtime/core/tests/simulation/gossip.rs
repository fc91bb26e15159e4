//! Gossip: each node tells some others, now and then and when something changes, what it knows of all.
//! Datagrams are lost, late, and may be cut apart from links. A node that lies says it has what it has not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postroom_core::cluster::{Facts, Generation, Input, Load, NodeState, Sighting, SlotSet};
use postroom_core::types::Slot;

use crate::process::{index_of, name_of};
use crate::world::{Pid, ToProcess, World};

/// The node's interval.
const INTERVAL: Duration = Duration::from_millis(500);
/// After how long without news a node is taken for dead: as measured with the node's detector.
const DETECTED: Duration = Duration::from_millis(4_500);
/// To how many a round, or a change, is told.
const TOLD: usize = 3;

pub type Values = Arc<[(&'static str, String); 4]>;

/// What is known of an incarnation.
#[derive(Clone, Debug)]
pub struct Heard {
    heartbeat: u64,
    values: Values,
    /// `None`: what it says makes no sense.
    facts: Option<Facts>,
    /// When its heartbeat rose last, on the hearer's clock.
    at: Duration,
    live: bool,
}

#[derive(Clone, Debug)]
pub struct Datagram {
    from: Pid,
    known: Vec<((usize, u64), u64, Values)>,
}

#[derive(Default)]
pub struct Gossip {
    heartbeat: u64,
    known: BTreeMap<(usize, u64), Heard>,
}

impl World {
    fn facts(&self, pid: Pid) -> Facts {
        let process = &self.processes[pid];
        let mut slots = process.published.clone();
        if process.lies {
            // What it does not have, and not what it has.
            slots = SlotSet::all().difference(&slots);
            slots.remove(Slot(0));
        }
        Facts {
            id: name_of(process.name),
            generation: Generation(process.generation),
            state: process.state,
            version: "0.1.0".into(),
            link_version: 1,
            addresses: vec![format!("n{}:4190", process.name)],
            slots,
            load: Load::default(),
            notes: BTreeMap::new(),
        }
    }

    /// A node says something else of itself than before.
    pub fn say(&mut self, pid: Pid) {
        if !self.processes[pid].joined {
            return;
        }
        let facts = self.facts(pid);
        let values = Arc::new(facts.to_values().expect("what a node says can be told"));
        let now = self.clock(pid);
        let process = &mut self.processes[pid];
        process.gossip.heartbeat += 1;
        let heartbeat = process.gossip.heartbeat;
        let me = (process.name, process.generation);
        let heard = Heard { heartbeat, values, facts: Some(facts), at: now, live: true };
        process.gossip.known.insert(me, heard);
        self.hear(pid);
        self.spread(pid);
    }

    pub fn gossip_round(&mut self, pid: Pid) {
        let now = self.clock(pid);
        let process = &mut self.processes[pid];
        let me = (process.name, process.generation);
        process.gossip.heartbeat += 1;
        let heartbeat = process.gossip.heartbeat;
        let mut changed = false;
        for (who, heard) in &mut process.gossip.known {
            if *who == me {
                (heard.heartbeat, heard.at) = (heartbeat, now);
            }
            let live = now.saturating_sub(heard.at) < DETECTED;
            changed |= live != heard.live;
            heard.live = live;
        }
        if changed {
            self.hear(pid);
        }
        self.spread(pid);
        self.to(INTERVAL, pid, ToProcess::GossipRound);
    }

    fn spread(&mut self, pid: Pid) {
        let process = &self.processes[pid];
        let known = process.gossip.known.iter();
        let known: Vec<_> =
            known.map(|(who, heard)| (*who, heard.heartbeat, heard.values.clone())).collect();
        let name = process.name;
        let mut others: Vec<usize> =
            self.generations.keys().copied().filter(|other| *other != name).collect();
        for _ in 0..TOLD.min(others.len()) {
            let other = others.swap_remove(self.dice.below(others.len()));
            let cut = self.weather.gossip_cut.contains(&(name, other))
                || self.weather.lost_hosts.contains(&other)
                || self.weather.lost_hosts.contains(&name);
            let lost = self.dice.permille(self.weather.loses);
            let Some(to) = self.reached(other).filter(|_| !cut && !lost) else { continue };
            let (from, until) = self.weather.delay;
            let delay = self.dice.micros(from, until + 5_000);
            let datagram = Datagram { from: pid, known: known.clone() };
            self.to(delay, to, ToProcess::Datagram(datagram));
        }
    }

    pub fn datagram(&mut self, pid: Pid, datagram: &Datagram) {
        let now = self.clock(pid);
        let process = &mut self.processes[pid];
        let me = (process.name, process.generation);
        let mut changed = false;
        for (who, heartbeat, values) in &datagram.known {
            let known = process.gossip.known.get_mut(who);
            if *who == me || known.as_ref().is_some_and(|known| known.heartbeat >= *heartbeat) {
                continue;
            }
            let (heartbeat, values) = (*heartbeat, values.clone());
            match known {
                Some(known) if Arc::ptr_eq(&known.values, &values) => {
                    changed |= !known.live;
                    (known.heartbeat, known.at, known.live) = (heartbeat, now, true);
                }
                _ => {
                    let value = |key: &str| {
                        values.iter().find(|(name, _)| *name == key).map(|(_, it)| it.as_str())
                    };
                    let facts = Facts::from_values(name_of(who.0), value).ok();
                    let heard = Heard { heartbeat, values, facts, at: now, live: true };
                    process.gossip.known.insert(*who, heard);
                    changed = true;
                }
            }
        }
        if changed {
            self.hear(pid);
        }
        let _ = datagram.from;
    }

    /// Takes up what gossip says, as the node does.
    fn hear(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        let sightings =
            process.gossip.known.values().filter_map(|heard| {
                Some(Sighting { facts: heard.facts.clone()?, live: heard.live })
            });
        let changed = process.table.hear(sightings.collect::<Vec<_>>());
        let gone: Vec<_> = changed.gone.iter().map(|(node, _)| index_of(node)).collect();
        self.input(pid, Input::TableChanged);
        for node in gone {
            self.node_gone(pid, node);
            self.wake_at(pid, node);
        }
    }

    pub fn set_state(&mut self, pid: Pid, state: NodeState) {
        self.processes[pid].state = state;
        self.say(pid);
    }
}
