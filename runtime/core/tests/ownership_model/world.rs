//! The whole: nodes, storage, the network, clients, and everything that can happen next.

use std::collections::BTreeSet;
use std::time::Duration;

use postroom_core::cluster::{
    Attempt, CallId, CallKind, Claimant, Holder, Input, Neighbours, NewCall, NodeId, Origin, Seen,
    Standing,
};
use postroom_core::types::{Slot, TransactionId};

use crate::node::{Caller, Job, Node, Order, id, index};
use crate::storage::Storage;
use crate::{Bounds, Plant};

pub const SLOT: Slot = Slot(7);
/// How far the time goes at once: past every pause and the minimum tenure, short of the staleness of reads.
pub const STEP: Duration = Duration::from_secs(3);
const CALL_TIME: Duration = Duration::from_secs(200);

/// What a call's answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shown {
    pub epoch: u64,
    /// The UID of a message that was appended, or the mod-sequence that a read saw.
    pub value: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flight {
    Request {
        from: usize,
        generation: u64,
        to: usize,
        call: CallId,
        attempt: Attempt,
        order: (u8, CallKind),
        open: bool,
    },
    Reply {
        to: usize,
        generation: u64,
        call: CallId,
        attempt: Attempt,
        answer: Reply,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    Shown(Shown),
    NotMine(Option<usize>),
    Unreachable,
    Failed,
}

/// What a client wants, one after another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    pub node: usize,
    pub wants: &'static [CallKind],
    pub done: usize,
    pub waits: bool,
    pub gone: bool,
    /// The UID that it was told its message has.
    pub acknowledged: Option<u8>,
    pub seen: Seen,
    pub shown: u8,
    /// What had been acknowledged when its call was made.
    pub floor: u8,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    ShownBeforeCommit,
    ShownWentBack,
    StaleSelect,
    ReleasedBeforeLastCommit,
    StolenFromTheLiving,
    ObeyedAPeer,
    AnsweredTwice,
}

/// What must be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reached {
    TakenOver,
    Drained,
    HandedOver,
    LateCommitRefused,
    SentAgainHadOneEffect,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A client makes its next call; the table says that this node has the slot.
    Call(usize, Option<usize>),
    /// A job is done, the table says this of a claimant, and a heartbeat is this old.
    Do(usize, Job, Standing, bool),
    /// A job gets no answer, and is done later, or never.
    Late(usize, Job),
    Orphan(usize, u64, Job),
    Deliver(usize),
    /// Delivered, and once more later.
    Twice(usize),
    /// The link gives no answer; the frame may still arrive.
    Cut(usize),
    Crash(usize),
    Restart(usize),
    Drain(usize),
    HandOver(usize, usize),
    Idle(usize),
    Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: u32,
    pub storage: Storage,
    pub nodes: Vec<Node>,
    pub flights: BTreeSet<Flight>,
    pub orphans: BTreeSet<(usize, u64, Job)>,
    pub clients: Vec<Client>,
    pub left: Bounds,
    /// Nodes whose heartbeat was read as stale.
    pub stale: BTreeSet<usize>,
    pub broken: BTreeSet<Broken>,
    pub reached: BTreeSet<Reached>,
}

/// What one node hears, chosen by the event: true, late or false.
pub struct Hears<'a> {
    pub holder: Option<usize>,
    pub standing: Standing,
    pub world: &'a [bool],
    pub me: usize,
}

impl Neighbours for Hears<'_> {
    fn holder(&self, _: Slot) -> Holder {
        self.holder.map_or(Holder::Nobody, |at| Holder::One(id(at)))
    }

    fn standing(&self, _: &Claimant) -> Standing {
        self.standing
    }

    fn takes_slots(&self, node: &NodeId) -> bool {
        self.world[index(node)]
    }

    fn deputy(&self, _: Slot) -> Option<NodeId> {
        (0..self.world.len()).find(|at| *at != self.me && self.world[*at]).map(id)
    }
}

impl World {
    pub fn new(nodes: usize, clients: &[(usize, &'static [CallKind])], left: Bounds) -> Self {
        let client = |(node, wants): &(usize, &'static [CallKind])| Client {
            node: *node,
            wants,
            done: 0,
            waits: false,
            gone: false,
            acknowledged: None,
            seen: Seen::default(),
            shown: 0,
            floor: 0,
        };
        Self {
            now: 0,
            storage: Storage::default(),
            nodes: (0..nodes).map(|at| Node::new(at, 1)).collect(),
            flights: BTreeSet::new(),
            orphans: BTreeSet::new(),
            clients: clients.iter().map(client).collect(),
            left,
            stale: BTreeSet::new(),
            broken: BTreeSet::new(),
            reached: BTreeSet::new(),
        }
    }

    /// Nothing goes wrong until the first client is served.
    pub fn serve_the_first(&mut self) {
        self.apply(Event::Call(0, None), None);
        while self.clients[0].waits {
            let at = self.clients[0].node;
            let job = *self.nodes[at].jobs.first().expect("its node has something to do");
            self.apply(Event::Do(at, job, Standing::Live, false), None);
        }
    }

    /// Everything that can happen next.
    pub fn events(&self, events: &mut Vec<Event>) {
        let free = |left: u8| left > 0;
        for (at, client) in self.clients.iter().enumerate() {
            if !client.waits && !client.gone && client.done < client.wants.len() {
                events.push(Event::Call(at, None));
                let owner = self.storage.record.as_ref().map(|record| index(&record.claimant.node));
                for hint in (0..self.nodes.len()).filter(|hint| *hint != client.node) {
                    if owner == Some(hint) || free(self.left.lies) {
                        events.push(Event::Call(at, Some(hint)));
                    }
                }
            }
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.up {
                events.extend(free(self.left.crashes).then_some(Event::Restart(at)));
                continue;
            }
            for job in &node.jobs {
                self.ways(at, *job, events);
            }
            events.extend(free(self.left.crashes).then_some(Event::Crash(at)));
            if free(self.left.moves) && !node.draining {
                if node.machine.fence(SLOT).is_some() {
                    events.push(Event::HandOver(at, (at + 1) % self.nodes.len()));
                    events.push(Event::Idle(at));
                }
                events.push(Event::Drain(at));
            }
        }
        events.extend(
            self.orphans.iter().map(|(at, generation, job)| Event::Orphan(*at, *generation, *job)),
        );
        for (at, flight) in self.flights.iter().enumerate() {
            events.push(Event::Deliver(at));
            if free(self.left.faults) && matches!(flight, Flight::Request { .. }) {
                events.extend([Event::Twice(at), Event::Cut(at)]);
            } else if free(self.left.faults) {
                events.push(Event::Cut(at));
            }
        }
        let waiting = self.nodes.iter().any(|node| node.up && node.machine.next_wake().is_some());
        events.extend((free(self.left.steps) && waiting).then_some(Event::Time));
    }

    /// The ways in which a job can end.
    pub fn ways(&self, at: usize, job: Job, events: &mut Vec<Event>) {
        let lies = self.left.lies > 0;
        let claimant = self.storage.record.as_ref().map(|record| &record.claimant);
        match job {
            Job::ReadRecord(_) if claimant.is_some_and(|it| it.node != id(at)) => {
                let Some(it) = claimant else { return };
                let node = &self.nodes[index(&it.node)];
                let ended = node.generation > it.generation.0;
                let heard = if ended {
                    Standing::Gone
                } else if node.up {
                    Standing::Live
                } else {
                    Standing::Unsure
                };
                events.push(Event::Do(at, job, heard, false));
                if heard != Standing::Unsure && lies {
                    events.push(Event::Do(at, job, Standing::Unsure, false));
                }
            }
            Job::ReadBeat(_, of) => {
                let node = &self.nodes[of];
                events.push(Event::Do(at, job, Standing::Unsure, !node.up));
                if node.up && lies {
                    events.push(Event::Do(at, job, Standing::Unsure, true));
                }
            }
            _ => events.push(Event::Do(at, job, Standing::Live, false)),
        }
        let is_local = matches!(job, Job::Read(..));
        if self.left.faults > 0 && !is_local {
            events.push(Event::Late(at, job));
        }
    }

    pub fn apply(&mut self, event: Event, plant: Option<Plant>) {
        match event {
            Event::Call(client, hint) => {
                let owner = self.storage.record.as_ref().map(|record| index(&record.claimant.node));
                self.left.lies -= u8::from(hint.is_some() && hint != owner);
                self.call(client, hint, plant);
            }
            Event::Do(at, job, standing, is_stale) => {
                let liar = match job {
                    Job::ReadRecord(_) => standing == Standing::Unsure && self.owner_is_up(),
                    Job::ReadBeat(_, of) => is_stale && self.nodes[of].up,
                    _ => false,
                };
                self.left.lies -= u8::from(liar);
                self.nodes[at].jobs.remove(&job);
                self.perform(at, job, standing, is_stale, plant);
            }
            Event::Late(at, job) => {
                self.left.faults -= 1;
                self.nodes[at].jobs.remove(&job);
                self.orphan(at, job);
                self.no_answer(at, job, plant);
            }
            Event::Orphan(at, generation, job) => {
                self.orphans.remove(&(at, generation, job));
                self.at_storage(at, generation, job, plant);
            }
            Event::Deliver(flight) => self.deliver(flight, true, plant),
            Event::Twice(flight) => {
                self.left.faults -= 1;
                self.deliver(flight, false, plant);
            }
            Event::Cut(flight) => self.cut(flight, plant),
            Event::Crash(at) => self.crash(at),
            Event::Restart(at) => {
                self.left.crashes -= 1;
                self.nodes[at] = Node::new(at, self.nodes[at].generation + 1);
                self.stale.remove(&at);
            }
            Event::Drain(at) => {
                self.left.moves -= 1;
                self.nodes[at].draining = true;
                self.input(at, Input::Drain, plant);
            }
            Event::HandOver(at, to) => {
                self.left.moves -= 1;
                self.input(at, Input::HandOver(SLOT, id(to)), plant);
            }
            Event::Idle(at) => {
                self.left.moves -= 1;
                self.input(at, Input::SlotIdle(SLOT), plant);
            }
            Event::Time => {
                self.left.steps -= 1;
                self.now += 1;
                for at in 0..self.nodes.len() {
                    self.input(at, Input::Tick, plant);
                }
            }
        }
    }

    pub fn owner_is_up(&self) -> bool {
        let owner = self.storage.record.as_ref().map(|record| &record.claimant);
        owner.is_some_and(|it| {
            let node = &self.nodes[index(&it.node)];
            node.up && node.generation == it.generation.0
        })
    }

    pub fn call(&mut self, client: usize, hint: Option<usize>, plant: Option<Plant>) {
        let acknowledged = self.clients.iter().filter_map(|client| client.acknowledged).max();
        let it = &mut self.clients[client];
        (it.waits, it.floor) = (true, acknowledged.unwrap_or(0));
        let order = Order {
            caller: Caller::Client(client),
            transaction: client as u8 * 16 + it.done as u8,
            kind: it.wants[it.done],
        };
        let at = it.node;
        self.arrive(at, order, Origin::Local, hint, plant);
    }

    pub fn arrive(
        &mut self,
        at: usize,
        order: Order,
        origin: Origin,
        hint: Option<usize>,
        plant: Option<Plant>,
    ) {
        let node = &mut self.nodes[at];
        node.next_call += 1;
        let call = CallId(node.next_call);
        node.orders.insert(call, order);
        let new = NewCall {
            transaction: TransactionId([order.transaction; 16]),
            slot: SLOT,
            kind: order.kind,
            origin,
            deadline: STEP * self.now + CALL_TIME,
        };
        self.input_with(at, Input::CallArrived(call, new), hint, Standing::Live, None, plant);
    }

    pub fn input(&mut self, at: usize, input: Input, plant: Option<Plant>) {
        self.input_with(at, input, None, Standing::Live, None, plant);
    }
}
