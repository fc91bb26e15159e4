//! A process of a node: the shipped ownership machine and table, and the thinnest driver around them, which
//! does what the node's `router/owner.rs` does.

use std::collections::BTreeMap;
use std::time::Duration;

use postroom_core::cluster::{
    Action, Attempt, CallId, ClaimRecord, Claimant, Fence, Generation, Input, Moment, NodeId,
    NodeState, Ownership, Ran, SlotSet, Table, Visitors, Why,
};
use postroom_core::error::StoreError;
use postroom_core::mailbox::Account;
use postroom_core::types::{Epoch, SessionId, Slot};

use crate::Plant;
use crate::ask::{Answered, Request, Response};
use crate::attach::Attachment;
use crate::client::ClientEvent;
use crate::clock::Clock;
use crate::engine::{ForStorage, FromStorage, Waits};
use crate::gossip::Gossip;
use crate::links::{Links, Tag, What};
use crate::office::{Job, Office};
use crate::world::{Event, Pid, ToProcess, World};

/// The node's times.
pub const CALL_TIME: Duration = Duration::from_secs(60);
const BEAT_EVERY: Duration = Duration::from_secs(1);
const NAME_EVERY: Duration = Duration::from_secs(10);
const BALANCE_EVERY: Duration = Duration::from_secs(2);
const DRAIN_TIME: Duration = Duration::from_secs(20);
const LEAVE_TIME: Duration = Duration::from_millis(500);
/// How often a write is asked for again whose outcome is not known, and after which pause at first.
const MAX_REPEATS: usize = 4;
const FIRST_REPEAT: Duration = Duration::from_millis(20);

/// A pause of a whole process.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    pub since: Duration,
    pub until: Duration,
    /// What it has asked of storage and has not arrived leaves only when it goes on.
    pub holds_requests: bool,
    /// Its clock stands still too.
    pub stops_clock: bool,
}

pub struct Process {
    pub name: usize,
    pub generation: u64,
    pub nonce: [u8; 16],
    pub up: bool,
    /// Its first heartbeat is in storage: it takes part.
    pub joined: bool,
    pub state: NodeState,
    pub lies: bool,
    pub paused: Option<Pause>,
    pub woke: Duration,
    pub clock: Clock,
    pub machine: Ownership,
    pub table: Table,
    pub published: SlotSet,
    pub gossip: Gossip,
    pub links: Links,
    pub calls: BTreeMap<CallId, Carried>,
    pub last_call: u64,
    /// Questions to storage, links and claims are numbered by one counter.
    pub asked: u64,
    pub asks: BTreeMap<u64, Waits>,
    pub offices: BTreeMap<usize, Office>,
    /// What it had of accounts that it has let go or lost, and under which epoch: what a liar tells.
    pub bygone: BTreeMap<usize, (Epoch, Account)>,
    /// Fences of the claims that are given to accounts.
    pub held: BTreeMap<Slot, Fence>,
    /// Records of claims as they were made, for a planted bug.
    pub known: BTreeMap<Slot, ClaimRecord>,
    pub attachments: BTreeMap<SessionId, Attachment>,
    pub visitors: Visitors,
    /// The highest head of each account that this process was told of.
    pub heads: BTreeMap<usize, u64>,
    pub tick_at: Option<Duration>,
}

impl Process {
    pub fn resume(&mut self, now: Duration) {
        let Some(pause) = self.paused.take() else { return };
        self.woke = now;
        if pause.stops_clock {
            self.clock.stood_still(pause.since, now);
        }
    }
}

/// Who gets a call's answer.
#[derive(Clone, Copy, Debug)]
pub enum From {
    Client(usize, SessionId),
    Peer { pid: Pid, link: (Pid, u64), tag: Tag },
}

/// Which of its questions a call is at with another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    First,
    Attaching,
    Second,
}

/// What a call is doing.
#[derive(Clone, Debug)]
pub enum Step {
    Wait,
    Here(Attempt),
    There {
        attempt: Attempt,
        open: bool,
        stage: Stage,
    },
    /// Its outcome was not known: it pauses before it is asked for again.
    Pause,
}

/// A call that a process carries to its end.
#[derive(Clone, Debug)]
pub struct Carried {
    pub from: From,
    pub request: Request,
    pub deadline: Duration,
    pub step: Step,
    pub answered: Option<Answered>,
    pub response: Option<Response>,
    tried: bool,
    repeats: usize,
}

impl Carried {
    pub fn new(from: From, request: Request, deadline: Duration) -> Self {
        Self {
            from,
            request,
            deadline,
            step: Step::Wait,
            answered: None,
            response: None,
            tried: false,
            repeats: 0,
        }
    }

    /// Whether it waits for the answer to this question.
    pub fn is_at(&self, tag: &Tag) -> bool {
        matches!(&self.step, Step::There { attempt, stage, .. }
            if *attempt == tag.attempt && *stage == tag.stage)
    }
}

pub fn name_of(node: usize) -> NodeId {
    format!("n{node}").parse().expect("a name")
}

pub fn index_of(node: &NodeId) -> usize {
    node.as_str()[1..].parse().expect("a name of a run")
}

impl World {
    /// Starts a process of a node under its next generation.
    pub fn start(&mut self, name: usize) -> Pid {
        let generation = self.generations.get(&name).map_or(1, |last| last + 1);
        self.generations.insert(name, generation);
        self.start_as(name, generation)
    }

    pub fn start_as(&mut self, name: usize, generation: u64) -> Pid {
        let pid = self.processes.len();
        let fast = self.dice.below(2_001) as i64 - 1_000;
        let shown = self.dice.millis(1_000, 1_000_000);
        let wall = self.dice.below(20) as i64 - 10;
        self.processes.push(Process {
            name,
            generation,
            nonce: self.dice.octets(),
            up: true,
            joined: false,
            state: NodeState::Joining,
            lies: false,
            paused: None,
            woke: Duration::ZERO,
            clock: Clock::new(self.now, shown, fast, wall),
            machine: Ownership::new(name_of(name), Generation(generation), self.timing),
            table: Table::new(name_of(name)),
            published: SlotSet::default(),
            gossip: Gossip::default(),
            links: Links::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            asked: 0,
            asks: BTreeMap::new(),
            offices: BTreeMap::new(),
            bygone: BTreeMap::new(),
            held: BTreeMap::new(),
            known: BTreeMap::new(),
            attachments: BTreeMap::new(),
            visitors: Visitors::default(),
            heads: BTreeMap::new(),
            tick_at: None,
        });
        self.note(format_args!("{pid} starts as n{name} in generation {generation}"));
        let pause = self.dice.millis(1, 50);
        self.to(pause, pid, ToProcess::Begin);
        pid
    }

    pub fn clock(&self, pid: Pid) -> Duration {
        self.processes[pid].clock.at(self.now)
    }

    fn claimant(&self, pid: Pid, nonce: [u8; 16]) -> Claimant {
        let Process { name, generation, .. } = &self.processes[pid];
        Claimant { node: name_of(*name), generation: Generation(*generation), nonce }
    }

    /// Alone with its name, before anything is claimed under it.
    pub fn begin(&mut self, pid: Pid) {
        self.beat(pid);
    }

    pub fn beat(&mut self, pid: Pid) {
        let claimant = self.claimant(pid, self.processes[pid].nonce);
        self.ask_storage(pid, Waits::OwnBeat, ForStorage::Beat(claimant));
        self.to(BEAT_EVERY, pid, ToProcess::Beat);
    }

    pub fn beaten(&mut self, pid: Pid, answer: Option<FromStorage>) {
        match answer {
            Some(FromStorage::Beat(true)) if !self.processes[pid].joined => self.join(pid),
            Some(FromStorage::Beat(false)) => self.end_process(pid, "has another's name"),
            _ => {}
        }
    }

    fn join(&mut self, pid: Pid) {
        self.processes[pid].joined = true;
        self.set_state(pid, NodeState::Up);
        self.note(format_args!("{pid} has joined"));
        let name_first = self.dice.millis(0, 10_000);
        let balance_first = self.dice.millis(0, 2_000);
        self.to(Duration::ZERO, pid, ToProcess::GossipRound);
        self.to(name_first, pid, ToProcess::NameSessions);
        self.to(balance_first, pid, ToProcess::Balance);
    }

    /// The process ends, however that comes about; its host lives.
    pub fn end_process(&mut self, pid: Pid, why: &str) {
        if !self.processes[pid].up {
            return;
        }
        self.note(format_args!("{pid} ends: {why}"));
        let process = &mut self.processes[pid];
        process.up = false;
        process.calls.clear();
        process.asks.clear();
        process.offices.clear();
        self.links_end(pid);
        for client in 0..self.clients.len() {
            if self.clients[client].at == Some(pid) {
                let delay = self.dice.micros(50, 2_000);
                let session = self.clients[client].session;
                self.after(delay, Event::Client(client, ClientEvent::Disconnected(session)));
            }
        }
    }

    pub fn drain(&mut self, pid: Pid) {
        self.set_state(pid, NodeState::Draining);
        self.input(pid, Input::Drain);
        self.to(DRAIN_TIME, pid, ToProcess::DrainTimeIsUp);
    }

    pub fn balance(&mut self, pid: Pid) {
        self.to(BALANCE_EVERY, pid, ToProcess::Balance);
        let process = &self.processes[pid];
        let busy: SlotSet = process.offices.keys().map(|account| self.slot(*account)).collect();
        let moves = postroom_core::cluster::plan(&process.table, &busy);
        let me = name_of(process.name);
        for step in moves.into_iter().filter(|step| step.from == me) {
            self.totals.moved += 1;
            self.note(format_args!("{pid} hands {} over to {}", step.slot.0, step.to));
            self.input(pid, Input::HandOver(step.slot, step.to));
        }
    }

    pub fn name_sessions(&mut self, pid: Pid) {
        self.to(NAME_EVERY, pid, ToProcess::NameSessions);
        let me = self.processes[pid].name;
        let others: Vec<usize> =
            self.processes[pid].table.heard().map(|facts| index_of(&facts.id)).collect();
        for node in others.into_iter().filter(|node| *node != me) {
            let there = self.processes[pid].attachments.iter();
            let there = there.filter(|(_, it)| it.at.0 == node).map(|(session, _)| *session);
            let sessions = there.collect();
            self.push(pid, node, What::Named(sessions));
        }
    }

    pub fn tick(&mut self, pid: Pid) {
        let now = self.clock(pid);
        self.processes[pid].tick_at = None;
        let due = self.processes[pid].machine.next_wake().is_some_and(|wake| wake <= now);
        match due {
            true => self.input(pid, Input::Tick),
            false => self.schedule_tick(pid),
        }
    }

    fn schedule_tick(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        let Some(wake) = process.machine.next_wake() else { return };
        let when = process.clock.when(wake).max(self.now + Duration::from_micros(1));
        if process.tick_at.is_none_or(|at| when < at) {
            process.tick_at = Some(when);
            self.at(when, Event::To(pid, ToProcess::Tick));
        }
    }

    /// Tells the machine what has happened, and does what it says.
    pub fn input(&mut self, pid: Pid, input: Input) {
        let at = Moment { now: self.clock(pid), jitter: self.dice.number() as u16 };
        let process = &mut self.processes[pid];
        if !process.up {
            return;
        }
        let taken_over = process.machine.counts().0.taken_over;
        let actions = process.machine.handle(at, &process.table, input);
        self.totals.taken_over += process.machine.counts().0.taken_over - taken_over;
        for action in actions {
            self.perform(pid, action);
        }
        self.schedule_tick(pid);
        let process = &self.processes[pid];
        if process.up && process.state == NodeState::Draining && process.machine.is_drained() {
            self.note(format_args!("{pid} has drained"));
            self.set_state(pid, NodeState::Left);
            self.to(LEAVE_TIME, pid, ToProcess::DrainTimeIsUp);
        }
    }

    fn perform(&mut self, pid: Pid, action: Action) {
        match action {
            Action::RunHere(call, attempt, fence) => {
                self.check_run_here(pid, &fence);
                self.processes[pid].held.insert(fence.slot, fence);
                if let Some(carried) = self.processes[pid].calls.get_mut(&call) {
                    (carried.step, carried.tried) = (Step::Here(attempt), true);
                    let delay = self.dice.micros(1, 60);
                    self.to(delay, pid, ToProcess::Run(call, attempt, fence));
                }
            }
            Action::SendTo { call, attempt, node, open } => {
                let node = index_of(&node);
                if let Some(carried) = self.processes[pid].calls.get_mut(&call) {
                    carried.step = Step::There { attempt, open, stage: Stage::First };
                    carried.tried = true;
                    let request = carried.request.clone();
                    self.question(pid, node, (call, attempt, Stage::First), request, open);
                }
            }
            Action::Answer(call) => self.end_call(pid, call, None, false),
            Action::NotMine { call, hint } => {
                let hint = hint.as_ref().map(index_of);
                let lie = self.processes[pid].lies.then(|| self.dice.below(8));
                if let Some(carried) = self.processes[pid].calls.get_mut(&call) {
                    carried.response = Some(Response::NotMine(lie.or(hint)));
                }
                let error = StoreError::Unavailable("on its way to another node".into());
                self.end_call(pid, call, Some(error), false);
            }
            Action::Fail(call, why) => self.fail_call(pid, call, why),
            Action::ReadRecord(ask, slot) => {
                self.ask_storage(pid, Waits::Record(ask, slot), ForStorage::Record(slot));
            }
            Action::ReadBeat(ask, slot, node) => {
                self.ask_storage(pid, Waits::Beat(ask, slot), ForStorage::BeatOf(node));
            }
            Action::Claim { ask, slot, previous } => {
                self.note(format_args!("{pid} wants {} after {previous:?}", slot.0));
                let claimant = self.claimant(pid, self.nonce());
                let epoch = Epoch(previous.map_or(0, |it| it.0) + 1);
                let record = ClaimRecord { epoch, claimant: claimant.clone(), released: None };
                self.processes[pid].known.insert(slot, record);
                let question = ForStorage::Claim(slot, claimant, previous);
                self.ask_storage(pid, Waits::Claim(ask, slot), question);
            }
            Action::Validate(ask, slots) => self.ask_to_validate(pid, ask, slots),
            Action::CloseSlot(fence) => self.close_slot(pid, fence),
            Action::Release { ask, fence, to } => {
                let question = ForStorage::Release(fence, to);
                self.ask_storage(pid, Waits::Release(ask, fence), question);
            }
            Action::Lost(fence) => {
                self.note(format_args!("{pid} has lost {} at {}", fence.slot.0, fence.epoch.0));
                self.let_fence_go(pid, &fence);
                self.drop_offices(pid, fence.slot);
            }
            Action::TellMoved(slot) => self.tell_moved(pid, slot),
            Action::Publish(slots) => {
                self.processes[pid].published = *slots;
                self.say(pid);
            }
            Action::StepBack { slot, seen, found } => {
                self.totals.step_backs += 1;
                self.note(format_args!("{pid}: {} went back: {seen:?}, {found:?}", slot.0));
            }
            Action::Superseded => self.end_process(pid, "is superseded"),
        }
    }

    fn nonce(&self) -> [u8; 16] {
        // Claims are numbered: no two are alike.
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.log.lines.to_be_bytes());
        nonce
    }

    pub fn question(
        &mut self,
        pid: Pid,
        node: usize,
        (call, attempt, stage): (CallId, Attempt, Stage),
        request: Request,
        open: bool,
    ) {
        let tag = Tag { call, attempt, stage };
        let request = Box::new(request);
        self.send(pid, node, What::Question { tag, request, open, remaining: CALL_TIME });
    }

    pub fn let_fence_go(&mut self, pid: Pid, fence: &Fence) {
        let held = &mut self.processes[pid].held;
        if held.get(&fence.slot) == Some(fence) {
            held.remove(&fence.slot);
        }
    }

    /// A call runs in this node's accounts, under a fence.
    pub fn run_here(&mut self, pid: Pid, call: CallId, attempt: Attempt, fence: Fence) {
        let names: Vec<usize> = self.processes.iter().map(|process| process.name).collect();
        let process = &mut self.processes[pid];
        let Some(carried) = process.calls.get_mut(&call) else { return };
        if !matches!(carried.step, Step::Here(at) if at == attempt) {
            return;
        }
        let request = carried.request.clone();
        let attach = match carried.from {
            From::Client(..) if request.ask.needs_active() => {
                let here = (process.name, fence.epoch);
                process
                    .attachments
                    .get(&request.session)
                    .and_then(|it| it.to_attach(&request, here))
            }
            From::Peer { pid: peer, .. } if request.ask.needs_active() => {
                let (node, session) = (name_of(names[peer]), request.session);
                if process.visitors.known(&node, session, fence.epoch).is_none() {
                    carried.response = Some(Response::NotAttached);
                    return self.input(pid, Input::RanHere(call, attempt, Ran::Done));
                }
                None
            }
            From::Client(..) | From::Peer { .. } => None,
        };
        self.take_job(pid, Job { call, attempt, fence, request, attach });
    }

    fn fail_call(&mut self, pid: Pid, call: CallId, why: Why) {
        let Some(carried) = self.processes[pid].calls.get(&call) else { return };
        let is_write = matches!(carried.request.ask, crate::ask::Ask::Write(_));
        let unknown = is_write && carried.tried;
        let error = if unknown { StoreError::UnknownOutcome } else { why.into() };
        self.end_call(pid, call, Some(error), true);
    }

    /// A call has come to its end: whoever made it hears of it.
    fn end_call(&mut self, pid: Pid, call: CallId, error: Option<StoreError>, failed: bool) {
        let Some(mut carried) = self.processes[pid].calls.remove(&call) else { return };
        self.input(pid, Input::CallGone(call));
        match carried.from {
            From::Peer { pid: to, link, tag } => {
                let response = match (error, carried.response.take()) {
                    (Some(error), _) if failed => Response::Failed(error),
                    (_, Some(response)) => response,
                    (_, None) => Response::Failed(StoreError::UnknownOutcome),
                };
                self.reply(pid, to, link, tag, response);
            }
            From::Client(client, session) => {
                let answered = match (error, carried.answered.take()) {
                    (Some(error), _) => Err(error),
                    (None, Some(answered)) => answered,
                    (None, None) => Err(StoreError::UnknownOutcome),
                };
                let again = matches!(carried.request.ask, crate::ask::Ask::Write(_))
                    && matches!(answered, Err(StoreError::UnknownOutcome))
                    && carried.repeats < MAX_REPEATS;
                if again {
                    let pause = FIRST_REPEAT * 4_u32.pow(carried.repeats as u32);
                    carried.repeats += 1;
                    carried.step = Step::Pause;
                    self.processes[pid].calls.insert(call, carried);
                    return self.to(pause, pid, ToProcess::Again(call));
                }
                let event = ClientEvent::Answered(session, Box::new(answered));
                let delay = self.dice.micros(1, 40);
                self.after(delay, Event::Client(client, event));
            }
        }
    }

    /// A write is asked for again, under its id unless a bug is planted.
    pub fn call_again(&mut self, pid: Pid, call: CallId) {
        let Some(mut carried) = self.processes[pid].calls.remove(&call) else { return };
        if self.setup.plant == Some(Plant::NewIdWhenRepeated) {
            let transaction = self.transaction();
            self.check.same_attempt(carried.request.transaction, transaction);
            carried.request.transaction = transaction;
        }
        let (now, slot) = (self.clock(pid), self.slot(carried.request.account));
        let process = &mut self.processes[pid];
        process.last_call += 1;
        let call = CallId(process.last_call);
        carried.deadline = now + CALL_TIME;
        carried.step = Step::Wait;
        let new = postroom_core::cluster::NewCall {
            transaction: carried.request.transaction,
            slot,
            kind: carried.request.ask.kind(),
            origin: postroom_core::cluster::Origin::Local,
            deadline: carried.deadline,
        };
        process.calls.insert(call, carried);
        self.input(pid, Input::CallArrived(call, new));
    }
}
