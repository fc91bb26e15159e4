//! The ownership protocol under a model checker: nodes that are the shipped machines of
//! `postroom_core::cluster`, around a model of storage, of a network that loses, delays, doubles and
//! reorders, and of clients. A table that lies, heartbeats taken for stale, crashes, restarts under a higher
//! generation, an owner that pauses (also with a commit on its way) and goes on: each is an event that
//! may come at any moment, a bounded number of times. One slot, one account, one log of commits.
//!
//! Every test checks all interleavings of one scenario and prints how many states that are. The bounds
//! are small enough for the test command. `POSTROOM_MODEL_DEPTH=1` (2, 3 …) raises each bound of each
//! scenario by so many, and looks depth first, which takes little memory.
//! `POSTROOM_MODEL_STATES` ends each check after so many ways to states (default: 2,000,000 without a depth,
//! 20,000,000 with one); a check that is ended says so, and only what must never happen is wanted of it.
//!
//! With `POSTROOM_MODEL_DEPTH=1 POSTROOM_MODEL_STATES=2000000 cargo test -p postroom-core --test
//! ownership_model -- --nocapture --test-threads=1 --skip planted --skip random --skip a_run` no property failed
//! in 4,482,284 states (12,018,898 ways to them) of the six scenarios, each ended before all, up to 44 events
//! deep, in 35 s on one shared core, within 6 GiB. Without a depth all 337,859 states are looked at in 7 s.
//!
//! `planted_bugs_are_caught` puts a bug into storage or the driver, one at a time, and wants a
//! counterexample: the properties can fail.

#![expect(clippy::disallowed_types, reason = "a check says how long it took")]

mod driver;
mod network;
mod node;
mod random;
mod storage;

mod world;

use std::collections::BTreeSet;
use std::time::Instant;

use postroom_core::cluster::CallKind::{self, Read, Validated, Write};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use world::{Broken, Event, Reached, World};

/// How often each kind of trouble may still come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Restarts after crashes; crashes while any is left.
    pub crashes: u8,
    /// Answers that do not come, requests that come late or twice.
    pub faults: u8,
    /// Untrue tables and suspicions.
    pub lies: u8,
    /// Drains, hand-overs, slots that nobody needs any more.
    pub moves: u8,
    /// Steps of time.
    pub steps: u8,
}

/// A bug in what surrounds the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plant {
    /// Storage does not compare the fence.
    NoFence,
    /// It compares the fence in one step and writes in another.
    CheckThenWrite,
    /// It does not remember transaction ids.
    NoIdempotencyKey,
    /// A call is sent again under another id.
    NewIdWhenSentAgain,
    /// The caller is told before the commit is durable.
    AnswerBeforeCommit,
    /// A slot is released while a commit is on its way.
    ReleaseBeforeSettled,
    /// The claim is believed to stand, without a question to storage.
    NoValidation,
    /// A session shows whatever it is answered.
    NoWatermark,
    /// A peer's hint is followed.
    ObeyPeers,
    /// A node that does not answer is taken for dead, whatever its heartbeat says.
    HeartbeatNotRead,
}

/// The clients of each scenario: at which node, and what each wants.
type Clients = &'static [(usize, &'static [CallKind])];

/// One scenario.
#[derive(Clone, Debug)]
struct Scenario {
    nodes: usize,
    clients: &'static [(usize, &'static [CallKind])],
    bounds: Bounds,
    plant: Option<Plant>,
    must_reach: &'static [Reached],
    /// It begins when the first client has been served, and its node is the owner.
    opened: bool,
}

impl Model for Scenario {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self.nodes, self.clients, self.bounds);
        if self.opened {
            world.serve_the_first();
        }
        vec![world]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        world.events(events);
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        next.apply(event, self.plant);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(
                "one claimant an epoch, commits in epoch order",
                |_, world: &World| {
                    world.storage.log.windows(2).all(|pair| {
                        let (one, two) = (pair[0].fence, pair[1].fence);
                        one.epoch < two.epoch || one == two
                    })
                },
            ),
            Property::always("one message a UID, in order", |_, world: &World| {
                world.storage.log.windows(2).all(|pair| pair[0].uid < pair[1].uid)
            }),
            Property::always("acknowledged means present", |_, world: &World| {
                world.clients.iter().enumerate().all(|(at, client)| {
                    let here = |uid| {
                        let log = world.storage.log.iter();
                        log.filter(|e| usize::from(e.transaction / 16) == at).any(|e| e.uid == uid)
                    };
                    client.acknowledged.is_none_or(here)
                })
            }),
            Property::always("one transaction id, one effect", |_, world: &World| {
                let ids = world.storage.log.iter().map(|entry| entry.transaction & !8);
                ids.collect::<BTreeSet<_>>().len() == world.storage.log.len()
            }),
        ];
        macro_rules! never {
            ($($broken:ident: $name:literal),+ $(,)?) => {
                $(properties.push(Property::always($name, |_, world: &World| {
                    !world.broken.contains(&Broken::$broken)
                }));)+
            };
        }
        never! {
            ShownBeforeCommit: "nothing is announced that is not committed",
            ShownWentBack: "a session never sees the mod-sequence go back",
            StaleSelect: "SELECT and NOOP see what was acknowledged before them",
            ReleasedBeforeLastCommit: "a slot is released after its last commit",
            StolenFromTheLiving: "one broken link moves no slot",
            ObeyedAPeer: "not mine means look, never obey",
            AnsweredTwice: "a caller is answered once",
        }
        macro_rules! reach {
            ($($reached:ident: $name:literal),+ $(,)?) => {
                $(if self.must_reach.contains(&Reached::$reached) {
                    properties.push(Property::sometimes($name, |_, world: &World| {
                        world.reached.contains(&Reached::$reached)
                    }));
                })+
            };
        }
        reach! {
            TakenOver: "a slot is taken over",
            Drained: "a slot that was let go is opened",
            HandedOver: "a slot is handed to the node it is for",
            LateCommitRefused: "a late commit is refused",
            SentAgainHadOneEffect: "a write that is made again has one effect",
        }
        if self.plant.is_none() {
            properties.push(Property::sometimes("all clients are served", |_, world: &World| {
                world.clients.iter().all(|client| client.done == client.wants.len())
            }));
        }
        properties
    }
}

fn from_environment(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

impl Scenario {
    fn new(clients: &'static [(usize, &'static [CallKind])], bounds: Bounds) -> Self {
        let nodes = clients.iter().map(|(node, _)| node + 1).max().unwrap_or(1);
        Self { nodes, clients, bounds, plant: None, must_reach: &[], opened: false }
    }

    fn reaching(self, must_reach: &'static [Reached]) -> Self {
        Self { must_reach, ..self }
    }

    fn opened(self) -> Self {
        Self { opened: true, ..self }
    }

    /// Every interleaving: no property fails, and what must be reachable is reached.
    fn check(mut self, name: &str) {
        let depth = from_environment("POSTROOM_MODEL_DEPTH");
        let more = depth.unwrap_or(0) as u8;
        let Bounds { crashes, faults, lies, moves, steps } = &mut self.bounds;
        [crashes, faults, lies, moves, steps].into_iter().for_each(|bound| *bound += more);
        let most = depth.map_or(2_000_000, |_| 20_000_000);
        let most = from_environment("POSTROOM_MODEL_STATES").unwrap_or(most);
        let begun = Instant::now();
        let checker = self.checker().target_state_count(most);
        // Breadth first finds the shortest way, and keeps the whole frontier: some ten kilobytes a state.
        match depth {
            None => Self::held(&checker.spawn_bfs().join(), name, most, begun),
            Some(_) => Self::held(&checker.spawn_dfs().join(), name, most, begun),
        }
    }

    /// Says what was looked at, and that nothing of it breaks a promise. What must be possible is wanted only
    /// of a check that has seen everything.
    fn held(checker: &impl Checker<Self>, name: &str, most: usize, begun: Instant) {
        let is_whole = checker.state_count() < most;
        eprintln!(
            "{name}: {} states ({} ways to them), {}, depth {}, {:.1} s",
            checker.unique_state_count(),
            checker.state_count(),
            if is_whole { "all" } else { "ended before all" },
            checker.max_depth(),
            begun.elapsed().as_secs_f32()
        );
        if is_whole {
            return checker.assert_properties();
        }
        for property in checker.model().properties() {
            if property.expectation == Expectation::Always {
                checker.assert_no_discovery(property.name);
            }
        }
    }
}

const TWO_WRITERS: &[(usize, &[CallKind])] = &[(0, &[Write]), (1, &[Write])];
const WRITER_AND_READER: &[(usize, &[CallKind])] = &[(0, &[Write]), (1, &[Validated, Validated])];
/// The first makes its node the owner, the second writes at the next one, the third reads at a third.
const THREE_NODES: &[(usize, &[CallKind])] =
    &[(0, &[Read]), (1, &[Write]), (2, &[Validated, Read])];

#[test]
fn an_owner_that_is_suspected_and_goes_on() {
    Scenario::new(TWO_WRITERS, Bounds { lies: 3, faults: 1, ..Bounds::default() })
        .reaching(&[Reached::TakenOver, Reached::LateCommitRefused])
        .check("suspicion");
}

#[test]
fn crashes_and_restarts() {
    Scenario::new(TWO_WRITERS, Bounds { crashes: 2, lies: 1, steps: 1, ..Bounds::default() })
        .reaching(&[Reached::TakenOver])
        .check("crashes");
}

#[test]
fn drains_and_hand_overs() {
    Scenario::new(TWO_WRITERS, Bounds { moves: 2, steps: 1, ..Bounds::default() })
        .reaching(&[Reached::Drained, Reached::HandedOver])
        .check("moves");
}

#[test]
fn answers_that_do_not_come() {
    Scenario::new(TWO_WRITERS, Bounds { faults: 2, steps: 1, ..Bounds::default() })
        .reaching(&[Reached::SentAgainHadOneEffect])
        .check("faults");
}

#[test]
fn a_reader_beside_a_writer() {
    Scenario::new(WRITER_AND_READER, Bounds { lies: 2, steps: 1, ..Bounds::default() })
        .reaching(&[Reached::TakenOver])
        .check("reader");
}

#[test]
fn three_nodes_and_a_session_that_sees_two_owners() {
    Scenario::new(THREE_NODES, Bounds { lies: 3, ..Bounds::default() })
        .opened()
        .reaching(&[Reached::TakenOver])
        .check("three nodes");
}

#[test]
fn planted_bugs_are_caught() {
    let lying = Bounds { lies: 2, faults: 1, ..Bounds::default() };
    let moving = Bounds { moves: 1, steps: 1, ..Bounds::default() };
    let faulty = Bounds { faults: 2, steps: 1, ..Bounds::default() };
    let plants: [(Plant, Clients, Bounds); 10] = [
        (Plant::NoFence, TWO_WRITERS, lying),
        (Plant::CheckThenWrite, TWO_WRITERS, lying),
        (Plant::NoIdempotencyKey, TWO_WRITERS, faulty),
        (Plant::NewIdWhenSentAgain, TWO_WRITERS, faulty),
        (Plant::AnswerBeforeCommit, TWO_WRITERS, lying),
        (Plant::ReleaseBeforeSettled, TWO_WRITERS, moving),
        (Plant::NoValidation, WRITER_AND_READER, lying),
        (Plant::NoWatermark, THREE_NODES, Bounds { lies: 3, ..Bounds::default() }),
        (Plant::ObeyPeers, THREE_NODES, lying),
        (Plant::HeartbeatNotRead, TWO_WRITERS, faulty),
    ];
    for (plant, clients, bounds) in plants {
        let scenario = Scenario::new(clients, bounds);
        let opened = clients == THREE_NODES;
        let scenario = Scenario { plant: Some(plant), opened, ..scenario };
        let begun = Instant::now();
        let checker = scenario
            .checker()
            .target_state_count(2_000_000)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let found: Vec<_> = checker.discoveries().into_iter().collect();
        let time = begun.elapsed().as_secs_f32();
        for (property, path) in &found {
            let steps = path.clone().into_actions().len();
            eprintln!("{plant:?}: \"{property}\" in {steps} steps, {time:.1} s");
        }
        assert!(!found.is_empty(), "{plant:?} is not caught, {} states", checker.state_count());
    }
}
