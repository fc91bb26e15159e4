//! Which node should hand which slot to whom: a pure question to the ownership table. Every node asks it
//! now and then, and does what concerns it. Nothing moves while nodes are about even, few slots move
//! at a time, and never so many that the fuller node becomes the emptier one.

use std::collections::BTreeMap;

use crate::types::Slot;

use super::facts::{NodeId, NodeState};
use super::limits::{MAX_MOVES, MIN_IMBALANCE};
use super::slot_set::SlotSet;
use super::table::Table;

/// A slot that should move.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Move {
    /// Which.
    pub slot: Slot,
    /// Who has it.
    pub from: NodeId,
    /// Who should.
    pub to: NodeId,
}

/// At most [`MAX_MOVES`] moves for the cluster as the table shows it. Only nodes that are up give or
/// get: one that joins waits until it says that it is. The fullest gives to the emptiest when it is ahead by
/// [`MIN_IMBALANCE`] and by an eighth of the mean. Of its slots those that are not `busy` go first.
pub fn plan(table: &Table, busy: &SlotSet) -> Vec<Move> {
    let contested = table.status().contested;
    let up = table.heard().filter(|facts| facts.state == NodeState::Up);
    let mut has: BTreeMap<NodeId, SlotSet> =
        up.map(|facts| (facts.id.clone(), facts.slots.difference(&contested))).collect();
    let total: usize = has.values().map(SlotSet::len).sum();
    let threshold = MIN_IMBALANCE.max(total / has.len().max(1) / 8);
    let mut moves = Vec::new();
    while moves.len() < MAX_MOVES {
        // Of equals the first by name is the emptiest and the last the fullest, on every node.
        let Some(from) = has.iter().max_by_key(|(_, slots)| slots.len()).map(|(id, _)| id.clone())
        else {
            break;
        };
        let Some(to) = has.iter().min_by_key(|(_, slots)| slots.len()).map(|(id, _)| id.clone())
        else {
            break;
        };
        if has[&from].len() < has[&to].len() + threshold {
            break;
        }
        let slots = &has[&from];
        let Some(slot) = slots.difference(busy).iter().next().or_else(|| slots.iter().next())
        else {
            break;
        };
        has.entry(from.clone()).or_default().remove(slot);
        has.entry(to.clone()).or_default().insert(slot);
        moves.push(Move { slot, from, to });
    }
    moves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::table::Sighting;
    use crate::cluster::table::tests::{id, sighting};
    use crate::types::SLOTS;

    /// Slots of each node, node by node.
    type Cluster = Vec<SlotSet>;

    fn name(at: usize) -> String {
        format!("n{at:02}")
    }

    fn hear(cluster: &Cluster, me: usize) -> Table {
        let mut table = Table::new(id(&name(me)));
        table.hear(cluster.iter().enumerate().map(|(at, slots)| {
            let mut it: Sighting = sighting(&name(at), 1, &[]);
            it.facts.slots = slots.clone();
            it
        }));
        table
    }

    fn spread(cluster: &Cluster) -> usize {
        let lens = || cluster.iter().map(SlotSet::len);
        lens().max().unwrap() - lens().min().unwrap()
    }

    fn threshold(cluster: &Cluster) -> usize {
        let total: usize = cluster.iter().map(SlotSet::len).sum();
        MIN_IMBALANCE.max(total / cluster.len() / 8)
    }

    #[test]
    fn a_node_that_joins_gets_its_share_a_few_slots_at_a_time_and_then_nothing_moves() {
        let mut cluster = vec![SlotSet::all(), SlotSet::default(), SlotSet::default()];
        let mut rounds = 0;
        loop {
            let moves = plan(&hear(&cluster, 0), &SlotSet::default());
            if moves.is_empty() {
                break;
            }
            assert!(moves.len() <= MAX_MOVES);
            for it in moves {
                let at = |id: &NodeId| id.as_str()[1..].parse::<usize>().unwrap();
                assert!(
                    cluster[at(&it.from)].remove(it.slot) && cluster[at(&it.to)].insert(it.slot)
                );
            }
            rounds += 1;
            assert!(rounds < usize::from(SLOTS), "it does not end");
        }
        assert!(spread(&cluster) <= threshold(&cluster), "{}", spread(&cluster));
    }

    #[test]
    fn nothing_is_moved_between_nodes_that_are_about_even_or_to_one_that_is_not_up() {
        let few = (0..MIN_IMBALANCE as u16 - 1).map(Slot).collect();
        assert_eq!(plan(&hear(&vec![few, SlotSet::default()], 0), &SlotSet::default()), []);
        let mut table = Table::new(id("a"));
        let all: Vec<u16> = (0..SLOTS).collect();
        let mut joining = sighting("b", 1, &[]);
        joining.facts.state = NodeState::Joining;
        table.hear([sighting("a", 1, &all), joining]);
        assert_eq!(plan(&table, &SlotSet::default()), []);
    }

    #[test]
    fn busy_slots_go_last_and_contested_ones_stay() {
        let mut table = Table::new(id("a"));
        let many: Vec<u16> = (0..100).collect();
        table.hear([sighting("a", 1, &many), sighting("b", 1, &[0])]);
        let busy = (1..98).map(Slot).collect();
        let slots: Vec<u16> = plan(&table, &busy).iter().map(|it| it.slot.0).collect();
        assert_eq!(slots, [98, 99, 1, 2]);
    }

    proptest! {
        /// Each node plans on a table that is up to three rounds old and makes its own moves: the
        /// cluster gets even, comes to rest, and no slot travels much.
        #[test]
        fn late_tables_do_not_make_slots_swing(
            sizes in prop::collection::vec(0..400_u16, 2..9),
            delays in prop::collection::vec(0..4_usize, 4096),
        ) {
            let mut next = 0;
            let mut cluster: Cluster = sizes.iter().map(|size| {
                next += size;
                (next - size..next).map(Slot).collect()
            }).collect();
            let mut travelled = BTreeMap::<Slot, usize>::new();
            let mut past = vec![cluster.clone()];
            let (mut quiet, mut round) = (0, 0);
            while quiet < 5 {
                let mut moved = 0;
                for me in 0..sizes.len() {
                    let delay = delays[(round * sizes.len() + me) % delays.len()];
                    let seen = &past[past.len().saturating_sub(1 + delay)];
                    for it in plan(&hear(seen, me), &SlotSet::default()) {
                        let to: usize = it.to.as_str()[1..].parse().unwrap();
                        if it.from == id(&name(me)) && cluster[me].remove(it.slot) {
                            cluster[to].insert(it.slot);
                            *travelled.entry(it.slot).or_default() += 1;
                            moved += 1;
                        }
                    }
                }
                past.push(cluster.clone());
                quiet = if moved == 0 { quiet + 1 } else { 0 };
                round += 1;
                prop_assert!(round < 2000, "it does not come to rest");
            }
            prop_assert!(spread(&cluster) <= threshold(&cluster));
            let most = travelled.values().max().copied().unwrap_or(0);
            prop_assert!(most <= sizes.len(), "a slot travelled {} times", most);
        }
    }
}
