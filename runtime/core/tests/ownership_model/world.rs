//! The whole: nodes, storage, the network, clients, and everything that can happen next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postroom_core::cluster::{
    Action, Attempt, Beat, CallId, CallKind, Claimant, Fence, Generation, Holder, Input, Moment,
    Neighbours, NewCall, NodeId, Origin, PeerAnswer, Ran, Release, Seen, Standing,
};
use postroom_core::types::{Epoch, ModSeq, Slot, TransactionId};

use crate::node::{Caller, Job, Memory, Node, Order, id, index};
use crate::storage::{Committed, Entry, Storage};
use crate::{Bounds, Plant};

pub const SLOT: Slot = Slot(7);
/// How far the time goes at once: past every pause and the minimum tenure, short of the staleness of reads.
const STEP: Duration = Duration::from_secs(3);
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
    seen: Seen,
    shown: u8,
    /// What had been acknowledged when its call was made.
    floor: u8,
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
    stale: BTreeSet<usize>,
    pub broken: BTreeSet<Broken>,
    pub reached: BTreeSet<Reached>,
}

/// What one node hears, chosen by the event: true, late or false.
struct Hears<'a> {
    holder: Option<usize>,
    standing: Standing,
    world: &'a [bool],
    me: usize,
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
    fn ways(&self, at: usize, job: Job, events: &mut Vec<Event>) {
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

    fn owner_is_up(&self) -> bool {
        let owner = self.storage.record.as_ref().map(|record| &record.claimant);
        owner.is_some_and(|it| {
            let node = &self.nodes[index(&it.node)];
            node.up && node.generation == it.generation.0
        })
    }

    fn call(&mut self, client: usize, hint: Option<usize>, plant: Option<Plant>) {
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

    fn arrive(
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

    fn input(&mut self, at: usize, input: Input, plant: Option<Plant>) {
        self.input_with(at, input, None, Standing::Live, None, plant);
    }

    /// Gives the machine an input and performs its actions as far as nobody else is needed.
    fn input_with(
        &mut self,
        at: usize,
        input: Input,
        holder: Option<usize>,
        standing: Standing,
        shown: Option<Shown>,
        plant: Option<Plant>,
    ) {
        let takes: Vec<bool> = self.nodes.iter().map(|node| node.up && !node.draining).collect();
        let node = &mut self.nodes[at];
        if !node.up {
            return;
        }
        let near = Hears { holder, standing, world: &takes, me: at };
        let moment = Moment { now: STEP * self.now, jitter: 0 };
        for action in node.machine.handle(moment, &near, input) {
            self.act(at, action, shown, plant);
        }
        self.nodes[at].begin();
        self.settle(at, plant);
    }

    fn act(&mut self, at: usize, action: Action, shown: Option<Shown>, plant: Option<Plant>) {
        let node = &mut self.nodes[at];
        match action {
            Action::RunHere(call, attempt, fence) => {
                node.started.insert(call, (attempt, fence));
                if plant == Some(Plant::AnswerBeforeCommit) {
                    let head = node.memory.map_or(self.storage.head(), |memory| memory.head);
                    let order = node.orders.get(&call).copied();
                    if let Some(order) = order.filter(|order| order.kind == CallKind::Write) {
                        self.tell(
                            order.caller,
                            Reply::Shown(Shown { epoch: fence.epoch.0, value: head + 1 }),
                            plant,
                        );
                    }
                }
            }
            Action::SendTo { call, attempt, node: to, open } => {
                let order = node.orders[&call];
                if !node.must_look.insert(call) {
                    self.broken.insert(Broken::ObeyedAPeer);
                }
                let generation = node.generation;
                let order = match plant {
                    Some(Plant::NewIdWhenSentAgain) if attempt.0 > 1 => {
                        (order.transaction + 8, order.kind)
                    }
                    _ => (order.transaction, order.kind),
                };
                let to = index(&to);
                self.flights.insert(Flight::Request {
                    from: at,
                    generation,
                    to,
                    call,
                    attempt,
                    order,
                    open,
                });
            }
            Action::Answer(call) => {
                if let (Some(order), Some(shown)) = (node.orders.remove(&call), shown) {
                    self.tell(order.caller, Reply::Shown(shown), plant);
                }
            }
            Action::NotMine { call, hint } => {
                if let Some(order) = node.orders.remove(&call) {
                    self.tell(order.caller, Reply::NotMine(hint.as_ref().map(index)), plant);
                }
            }
            Action::Fail(call, _) => {
                if let Some(order) = node.orders.remove(&call) {
                    self.tell(order.caller, Reply::Failed, plant);
                }
            }
            Action::ReadRecord(ask, _) => {
                node.jobs.insert(Job::ReadRecord(ask));
            }
            Action::ReadBeat(ask, _, of) => {
                node.jobs.insert(Job::ReadBeat(ask, index(&of)));
            }
            Action::Claim { ask, previous, .. } => {
                node.jobs.insert(Job::Claim(ask, previous));
            }
            Action::Validate(ask, _) if plant == Some(Plant::NoValidation) => {
                let fence = node.machine.fence(SLOT);
                let record = self.storage.record.clone().zip(fence).map(|(record, fence)| {
                    let claimant = Claimant { nonce: fence.nonce, ..record.claimant };
                    postroom_core::cluster::ClaimRecord {
                        epoch: fence.epoch,
                        claimant,
                        released: None,
                    }
                });
                let believed = BTreeMap::from([(SLOT, record)]);
                self.input(at, Input::Validated(ask, Ok(believed)), plant);
            }
            Action::Validate(ask, _) => {
                node.jobs.insert(Job::Validate(ask));
            }
            Action::Release { ask, fence, to } => {
                node.jobs.insert(Job::Release(ask, fence, to.as_ref().map(index)));
            }
            Action::CloseSlot(fence) => node.closing = Some(fence),
            Action::Lost(fence) => node.drop_memory(&fence),
            Action::Publish(_) | Action::TellMoved(_) => {}
            Action::StepBack { .. } | Action::Superseded => {
                unreachable!("storage never goes back, and a node runs once: {action:?}")
            }
        }
    }

    /// Tells the machine when nothing runs any more in a slot that it closes.
    fn settle(&mut self, at: usize, plant: Option<Plant>) {
        let node = &mut self.nodes[at];
        let Some(fence) = node.closing else { return };
        let runs = |job: &Job| match job {
            Job::Load(of) | Job::Read(_, _, of) | Job::Commit { fence: of, .. } => *of == fence,
            _ => false,
        };
        let busy = node.jobs.iter().any(runs) || node.started.values().any(|(_, of)| *of == fence);
        if !busy || plant == Some(Plant::ReleaseBeforeSettled) {
            node.closing = None;
            node.memory = None;
            self.input(at, Input::WritesSettled(SLOT, fence.epoch), plant);
        }
    }

    fn perform(
        &mut self,
        at: usize,
        job: Job,
        standing: Standing,
        is_stale: bool,
        plant: Option<Plant>,
    ) {
        let generation = self.nodes[at].generation;
        match job {
            Job::ReadRecord(ask) => {
                self.nodes[at].must_look.clear();
                let input = Input::RecordRead(ask, SLOT, Ok(self.storage.record.clone()));
                self.input_with(at, input, None, standing, None, plant);
            }
            Job::ReadBeat(ask, of) => {
                if is_stale {
                    self.stale.insert(of);
                }
                let age = Duration::from_secs(if is_stale { 100 } else { 0 });
                let beat = Beat { generation: Generation(self.nodes[of].generation), age };
                self.input_with(
                    at,
                    Input::BeatRead(ask, SLOT, Ok(Some(beat))),
                    None,
                    standing,
                    None,
                    plant,
                );
            }
            Job::Claim(ask, previous) => {
                let claimed = self.claim(at, generation, ask.0, previous);
                self.input(at, Input::ClaimDone(ask, SLOT, claimed), plant);
            }
            Job::Validate(ask) => {
                let records = BTreeMap::from([(SLOT, self.storage.record.clone())]);
                self.input(at, Input::Validated(ask, Ok(records)), plant);
            }
            Job::Release(ask, fence, to) => {
                let done = self.release(at, fence, to);
                self.input(at, Input::ReleaseDone(ask, SLOT, done), plant);
            }
            Job::Load(fence) => {
                self.nodes[at].memory = Some(Memory { fence, head: self.storage.head() });
                self.nodes[at].begin();
                self.settle(at, plant);
            }
            Job::Read(call, attempt, fence) => {
                let Some(memory) = self.nodes[at].memory else { return };
                let shown = Shown { epoch: fence.epoch.0, value: memory.head };
                let input = Input::RanHere(call, attempt, Ran::Done);
                self.input_with(at, input, None, Standing::Live, Some(shown), plant);
            }
            Job::Commit { call, attempt, fence, transaction, uid, checked } => {
                if plant == Some(Plant::CheckThenWrite) && !checked && self.storage.admits(&fence) {
                    let checked = true;
                    let job = Job::Commit { call, attempt, fence, transaction, uid, checked };
                    self.nodes[at].jobs.insert(job);
                    return;
                }
                let committed = self.commit(Entry { fence, transaction, uid }, checked, plant);
                self.committed(at, call, attempt, fence, committed, plant);
            }
        }
    }

    fn committed(
        &mut self,
        at: usize,
        call: CallId,
        attempt: Attempt,
        fence: Fence,
        committed: Committed,
        plant: Option<Plant>,
    ) {
        let head = self.storage.head();
        match committed {
            Committed::Yes(uid) => {
                let node = &mut self.nodes[at];
                if let Some(memory) = node.memory.as_mut().filter(|memory| memory.fence == fence) {
                    memory.head =
                        if plant == Some(Plant::NoFence) { memory.head.max(uid) } else { head };
                }
                let shown = Shown { epoch: fence.epoch.0, value: uid };
                let input = Input::RanHere(call, attempt, Ran::Done);
                self.input_with(at, input, None, Standing::Live, Some(shown), plant);
            }
            Committed::Fenced => {
                self.reached.insert(Reached::LateCommitRefused);
                self.input(at, Input::RanHere(call, attempt, Ran::Fenced), plant);
                self.input(at, Input::Fenced(SLOT, fence.epoch), plant);
            }
        }
    }

    fn commit(&mut self, entry: Entry, checked: bool, plant: Option<Plant>) -> Committed {
        let before = self.storage.head();
        let committed = self.storage.commit(entry, checked, plant);
        if self.storage.head() == before && committed != Committed::Fenced {
            self.reached.insert(Reached::SentAgainHadOneEffect);
        }
        committed
    }

    fn claim(
        &mut self,
        at: usize,
        generation: u64,
        ask: u64,
        previous: Option<Epoch>,
    ) -> postroom_core::cluster::Claimed {
        let nonce = [at as u8 ^ (generation as u8) << 2 ^ (ask as u8) << 4; 16];
        let claimant = Claimant { node: id(at), generation: Generation(generation), nonce };
        let fence =
            Fence { slot: SLOT, epoch: Epoch(previous.map_or(0, |epoch| epoch.0) + 1), nonce };
        let before = self.storage.record.clone();
        let claimed = self.storage.claim(&claimant, fence, previous);
        if before == self.storage.record {
            return claimed;
        }
        match before {
            Some(record) if record.released.is_some() => {
                let to = record.released.and_then(|release| release.to);
                let mark = if to == Some(id(at)) { Reached::HandedOver } else { Reached::Drained };
                self.reached.insert(mark);
            }
            Some(record) if record.claimant.node != id(at) => {
                let from = index(&record.claimant.node);
                let node = &self.nodes[from];
                let lives = node.up && node.generation == record.claimant.generation.0;
                if lives && !self.stale.contains(&from) {
                    self.broken.insert(Broken::StolenFromTheLiving);
                }
                self.reached.insert(Reached::TakenOver);
            }
            Some(_) | None => {}
        }
        claimed
    }

    fn release(
        &mut self,
        at: usize,
        fence: Fence,
        to: Option<usize>,
    ) -> postroom_core::cluster::Released {
        let commits = self.nodes[at].up && self.nodes[at].commits(&fence);
        if commits && self.storage.admits(&fence) {
            self.broken.insert(Broken::ReleasedBeforeLastCommit);
        }
        self.storage.release(&fence, Some(Release { to: to.map(id) }))
    }

    /// What a job still does after its node has stopped waiting for it.
    fn at_storage(&mut self, at: usize, generation: u64, job: Job, plant: Option<Plant>) {
        match job {
            Job::Claim(ask, previous) => drop(self.claim(at, generation, ask.0, previous)),
            Job::Release(_, fence, to) => {
                self.storage.release(&fence, Some(Release { to: to.map(id) }));
            }
            Job::Commit { fence, transaction, uid, checked, .. } => {
                self.commit(Entry { fence, transaction, uid }, checked, plant);
            }
            _ => {}
        }
    }

    fn orphan(&mut self, at: usize, job: Job) {
        if matches!(job, Job::Claim(..) | Job::Release(..) | Job::Commit { .. }) {
            self.orphans.insert((at, self.nodes[at].generation, job));
        }
    }

    fn no_answer(&mut self, at: usize, job: Job, plant: Option<Plant>) {
        use postroom_core::cluster::{Claimed, NoAnswer, Released};
        let input = match job {
            Job::ReadRecord(ask) => Input::RecordRead(ask, SLOT, Err(NoAnswer)),
            Job::ReadBeat(ask, _) => Input::BeatRead(ask, SLOT, Err(NoAnswer)),
            Job::Claim(ask, _) => Input::ClaimDone(ask, SLOT, Claimed::NoAnswer),
            Job::Validate(ask) => Input::Validated(ask, Err(NoAnswer)),
            Job::Release(ask, ..) => Input::ReleaseDone(ask, SLOT, Released::NoAnswer),
            // The mailbox asks again until it knows: an unknown outcome is resolved before anything else.
            Job::Load(_) | Job::Read(..) | Job::Commit { .. } => {
                self.nodes[at].jobs.insert(job);
                return;
            }
        };
        self.input(at, input, plant);
    }

    fn deliver(&mut self, flight: usize, once: bool, plant: Option<Plant>) {
        let Some(flight) = self.flights.iter().nth(flight).cloned() else { return };
        if once {
            self.flights.remove(&flight);
        }
        match flight {
            Flight::Request {
                from,
                generation,
                to,
                call,
                attempt,
                order: (transaction, kind),
                open,
            } => {
                if !self.nodes[to].up {
                    self.flights.remove(&Flight::Request {
                        from,
                        generation,
                        to,
                        call,
                        attempt,
                        order: (transaction, kind),
                        open,
                    });
                    return self.peer_answer(
                        from,
                        generation,
                        call,
                        attempt,
                        PeerAnswer::Refused,
                        None,
                        plant,
                    );
                }
                let caller = Caller::Peer { node: from, generation, call, attempt };
                self.arrive(
                    to,
                    Order { caller, transaction, kind },
                    Origin::Peer { open },
                    None,
                    plant,
                );
            }
            Flight::Reply { to, generation, call, attempt, answer } => {
                let (answer, shown) = match answer {
                    Reply::Shown(shown) => (PeerAnswer::Done, Some(shown)),
                    Reply::NotMine(hint) => (PeerAnswer::NotMine { hint: hint.map(id) }, None),
                    Reply::Unreachable | Reply::Failed => (PeerAnswer::Unreachable, None),
                };
                self.peer_answer(to, generation, call, attempt, answer, shown, plant);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a frame")]
    fn peer_answer(
        &mut self,
        at: usize,
        generation: u64,
        call: CallId,
        attempt: Attempt,
        answer: PeerAnswer,
        shown: Option<Shown>,
        plant: Option<Plant>,
    ) {
        if self.nodes[at].generation != generation || !self.nodes[at].up {
            return;
        }
        if let (PeerAnswer::NotMine { hint: Some(hint) }, Some(Plant::ObeyPeers)) = (&answer, plant)
            && self.nodes[at].machine.calls().get(call).is_some_and(|it| it.attempts == attempt)
        {
            let action = Action::SendTo { call, attempt, node: hint.clone(), open: false };
            return self.act(at, action, None, plant);
        }
        self.input_with(
            at,
            Input::PeerAnswered(call, attempt, answer),
            None,
            Standing::Live,
            shown,
            plant,
        );
    }

    /// No answer comes over the link. A request may still arrive; a reply is lost.
    fn cut(&mut self, flight: usize, plant: Option<Plant>) {
        self.left.faults -= 1;
        let Some(flight) = self.flights.iter().nth(flight).cloned() else { return };
        let (at, generation, call, attempt) = match &flight {
            Flight::Request { from, generation, call, attempt, .. } => {
                (*from, *generation, *call, *attempt)
            }
            Flight::Reply { to, generation, call, attempt, .. } => {
                (*to, *generation, *call, *attempt)
            }
        };
        if matches!(flight, Flight::Reply { .. }) {
            self.flights.remove(&flight);
        }
        let answer = match plant {
            Some(Plant::BrokenLinkIsRefusal) => PeerAnswer::Refused,
            _ => PeerAnswer::Unreachable,
        };
        self.peer_answer(at, generation, call, attempt, answer, None, plant);
    }

    fn crash(&mut self, at: usize) {
        let jobs = std::mem::take(&mut self.nodes[at].jobs);
        jobs.into_iter().for_each(|job| self.orphan(at, job));
        let orders = std::mem::take(&mut self.nodes[at].orders);
        let node = &mut self.nodes[at];
        *node = Node { up: false, ..Node::new(at, node.generation) };
        for order in orders.into_values() {
            match order.caller {
                Caller::Client(client) => self.clients[client].gone = true,
                Caller::Peer { node: to, generation, call, attempt } => {
                    let answer = Reply::Unreachable;
                    self.flights.insert(Flight::Reply { to, generation, call, attempt, answer });
                }
            }
        }
        self.clients
            .iter_mut()
            .filter(|client| client.node == at)
            .for_each(|client| client.gone = true);
    }

    /// An answer goes to its caller.
    fn tell(&mut self, caller: Caller, reply: Reply, plant: Option<Plant>) {
        let client = match caller {
            Caller::Peer { node: to, generation, call, attempt } => {
                self.flights.insert(Flight::Reply { to, generation, call, attempt, answer: reply });
                return;
            }
            Caller::Client(client) => client,
        };
        let head = self.storage.head();
        let it = &mut self.clients[client];
        if !it.waits {
            if plant != Some(Plant::AnswerBeforeCommit) {
                self.broken.insert(Broken::AnsweredTwice);
            }
            return;
        }
        it.waits = false;
        let kind = it.wants[it.done];
        it.done += 1;
        let Reply::Shown(shown) = reply else { return };
        if shown.value > head {
            self.broken.insert(Broken::ShownBeforeCommit);
        }
        if kind == CallKind::Write {
            it.acknowledged = Some(shown.value);
            return;
        }
        let admitted = it.seen.admit(Epoch(shown.epoch), ModSeq(shown.value.into())).is_ok();
        if !admitted && plant != Some(Plant::NoWatermark) {
            return;
        }
        if shown.value < it.shown {
            self.broken.insert(Broken::ShownWentBack);
        }
        if kind == CallKind::Validated && shown.value < it.floor {
            self.broken.insert(Broken::StaleSelect);
        }
        it.shown = shown.value;
    }
}
