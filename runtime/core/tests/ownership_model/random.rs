//! Long random orders of the same events with more nodes, clients and trouble than can be exhausted, then
//! quiet: everything that is on its way arrives and time goes on. Then nothing may be left waiting.
//! Each run prints its seed when it fails; `POSTROOM_SEED` runs that one and prints its
//! events, `POSTROOM_RUNS` so many.

use std::collections::BTreeSet;

use postroom_core::cluster::CallKind::{self, Read, Validated, Write};

use crate::node::Node;
use crate::world::{Event, Reached, World};
use crate::{Bounds, from_environment};

const CLIENTS: &[(usize, &[CallKind])] = &[
    (0, &[Write, Read]),
    (0, &[Validated, Write, Validated]),
    (1, &[Write, Validated]),
    (2, &[Read, Write, Read]),
    (3, &[Validated, Read, Write]),
];
/// Steps of time in the quiet after which everybody is served, if any node takes slots.
const QUIET: u8 = 12;
/// The same if none does: a call's deadline has come for certain, three times.
const LONG_QUIET: u8 = 250;
const RUNS: usize = 3_000;

/// A small generator of numbers (xorshift64*): the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}

fn check(world: &World, seed: u64) {
    let log = &world.storage.log;
    let epochs = log.windows(2).all(|pair| pair[0].fence.epoch <= pair[1].fence.epoch);
    let uids = log.windows(2).all(|pair| pair[0].uid < pair[1].uid);
    let ids: BTreeSet<u8> = log.iter().map(|entry| entry.transaction).collect();
    assert!(epochs && uids && ids.len() == log.len(), "seed {seed}: {log:?}");
    assert!(world.broken.is_empty(), "seed {seed}: {:?}", world.broken);
    for (at, client) in world.clients.iter().enumerate() {
        let Some(uid) = client.acknowledged else { continue };
        let mut here = log.iter().filter(|entry| usize::from(entry.transaction / 16) == at);
        assert!(here.any(|entry| entry.uid == uid), "seed {seed}: {uid} was acknowledged");
    }
}

fn is_trouble(event: &Event) -> bool {
    match event {
        Event::Call(..) | Event::Do(..) | Event::Orphan(..) | Event::Deliver(_) => false,
        Event::Late(..) | Event::Twice(_) | Event::Cut(_) | Event::Crash(_) | Event::Restart(_) => {
            true
        }
        Event::Drain(_) | Event::HandOver(..) | Event::Idle(_) | Event::Time => true,
    }
}

/// One run: trouble, then quiet.
fn run(seed: u64, is_told: bool) -> World {
    let mut dice = Dice(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1);
    let left = Bounds { crashes: 3, faults: 8, lies: 8, moves: 4, steps: 10 };
    let mut world = World::new(4, CLIENTS, left);
    let mut events = Vec::new();
    for _ in 0..400 {
        events.clear();
        world.events(&mut events);
        if events.is_empty() {
            break;
        }
        // Mostly things go on: trouble alone would leave nothing to go wrong.
        let plain: Vec<Event> = events.iter().copied().filter(|event| !is_trouble(event)).collect();
        let among = if plain.is_empty() || dice.below(8) == 0 { &events } else { &plain };
        let event = among[dice.below(among.len())];
        if is_told {
            eprintln!("{event:?}");
        }
        world.apply(event, None);
        check(&world, seed);
    }
    let is_taker = |node: &Node| node.up && !node.draining;
    let steps = if world.nodes.iter().any(is_taker) { QUIET } else { LONG_QUIET };
    world.left = Bounds { steps, ..Bounds::default() };
    loop {
        events.clear();
        world.events(&mut events);
        // Nothing takes so long that time goes on before it is done.
        let now = events.iter().position(|event| *event != Event::Time);
        let Some(event) = now.map(|at| events[at]).or(events.first().copied()) else { break };
        world.apply(event, None);
        check(&world, seed);
    }
    for (at, client) in world.clients.iter().enumerate() {
        let is_served = client.gone || (!client.waits && client.done == client.wants.len());
        assert!(
            is_served,
            "seed {seed}: client {at} is left waiting: {client:?}\n{:?}",
            world.nodes
        );
    }
    for node in world.nodes.iter().filter(|node| node.up) {
        assert!(node.machine.calls().is_empty(), "seed {seed}: {:?}", node.machine);
        assert!(!node.draining || node.machine.is_drained(), "seed {seed}: {:?}", node.machine);
    }
    world
}

#[test]
fn random_orders_leave_nobody_waiting_and_nothing_lost() {
    if let Some(seed) = from_environment("POSTROOM_SEED") {
        run(seed as u64, true);
        return;
    }
    let runs = from_environment("POSTROOM_RUNS").unwrap_or(RUNS);
    let mut reached = BTreeSet::new();
    let (mut commits, mut acknowledged) = (0, 0);
    for seed in 0..runs as u64 {
        let world = run(seed, false);
        commits += world.storage.log.len();
        acknowledged += world.clients.iter().filter(|it| it.acknowledged.is_some()).count();
        reached.extend(world.reached);
    }
    eprintln!("{runs} runs: {commits} commits, {acknowledged} acknowledged; reached {reached:?}");
    let all = [
        Reached::TakenOver,
        Reached::Drained,
        Reached::HandedOver,
        Reached::LateCommitRefused,
        Reached::SentAgainHadOneEffect,
    ];
    assert_eq!(reached, BTreeSet::from(all));
}

#[test]
fn a_run_is_the_same_for_the_same_seed() {
    assert_eq!(run(7, false), run(7, false));
}
