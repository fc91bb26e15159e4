//! The whole: processes, storage, the network, clients, and the queue of what happens when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use postroom_core::cluster::{Attempt, CallId, Fence, Input, Timing};
use postroom_core::types::{AccountId, Slot, TransactionId};

use crate::Plant;
use crate::check::Checker;
use crate::client::{Client, ClientEvent};
use crate::dice::Dice;
use crate::engine::{ForStorage, FromStorage, Weather as StorageWeather};
use crate::faults::{Fault, Troubles};
use crate::gossip::Datagram;
use crate::links::{Frame, Tag, Weather};
use crate::log::Log;
use crate::office::OfficeEvent;
use crate::process::Process;
use crate::storage::Storage;

/// A process of a node, by its place in the list of all there ever were.
pub type Pid = usize;

/// What happens to a process; it waits while that is paused.
#[derive(Clone, Debug)]
pub enum ToProcess {
    Tick,
    Begin,
    Beat,
    GossipRound,
    NameSessions,
    Balance,
    Run(CallId, Attempt, Fence),
    Again(CallId),
    Storage(u64, FromStorage),
    /// Storage has had its time.
    TimeIsUp(u64),
    Frame(Frame),
    /// What became of a call to another node.
    LinkFailed(Tag, bool),
    Dialed(usize, u64),
    KeepAlive(usize, u64),
    LinkBroken(usize, u64),
    Datagram(Datagram),
    Office(usize, u64, OfficeEvent),
    WritesSettled(Fence),
    DrainTimeIsUp,
    Drain,
    Say,
    Input(Input),
}

#[derive(Clone, Debug)]
pub enum Event {
    To(Pid, ToProcess),
    /// A question arrives at storage.
    AtStorage(Pid, u64, ForStorage),
    FlushGroup,
    StorageUp,
    Client(usize, ClientEvent),
    Trouble,
    Fault(Fault),
    FaultEnds(Fault),
    TroubleIsOver,
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub nodes: usize,
    pub accounts: usize,
    pub clients: usize,
    pub troubles: Troubles,
    /// How long trouble comes.
    pub trouble_time: Duration,
    /// How long the run goes on after it.
    pub quiet_time: Duration,
    pub plant: Option<Plant>,
    pub told: bool,
}

/// What a run has counted.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub events: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub served: u64,
    pub refused: u64,
    pub claims: u64,
    pub commits: u64,
    pub late_refused: u64,
    pub taken_over: u64,
    pub released: u64,
    pub moved: u64,
    pub step_backs: u64,
    pub longest: Duration,
}

pub struct World {
    pub setup: Setup,
    pub now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    pub dice: Dice,
    pub log: Log,
    pub timing: Timing,
    pub storage: Storage,
    pub storage_weather: StorageWeather,
    pub processes: Vec<Process>,
    /// The last generation of each node's name.
    pub generations: BTreeMap<usize, u64>,
    pub weather: Weather,
    pub clients: Vec<Client>,
    pub sessions: u64,
    pub transactions: u128,
    pub check: Checker,
    pub totals: Totals,
    pub is_quiet: bool,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let mut dice = Dice::new(setup.seed);
        let log = Log::new(setup.told);
        let clients = (0..setup.clients)
            .map(|at| Client::new(at, at % setup.accounts.min(4), at % setup.nodes))
            .collect();
        let delay = (50, 50 + dice.micros(100, 1_500).as_micros() as u64);
        let weather = Weather { delay, ..Weather::default() };
        let mut world = Self {
            now: Duration::from_secs(1),
            queue: BTreeMap::new(),
            scheduled: 0,
            dice,
            log,
            timing: Timing::default(),
            storage: Storage::default(),
            storage_weather: StorageWeather::default(),
            processes: Vec::new(),
            generations: BTreeMap::new(),
            weather,
            clients,
            sessions: 0,
            transactions: 0,
            check: Checker::default(),
            totals: Totals::default(),
            is_quiet: false,
            setup,
        };
        for name in 0..world.setup.nodes {
            world.start(name);
        }
        for client in 0..world.setup.clients {
            let pause = world.dice.millis(50, 1_500);
            world.after(pause, Event::Client(client, ClientEvent::Think(0)));
        }
        world.after(world.setup.troubles.calm_first, Event::Trouble);
        let over = world.setup.troubles.calm_first + world.setup.trouble_time;
        world.after(over, Event::TroubleIsOver);
        world
    }

    pub fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    pub fn at(&mut self, when: Duration, event: Event) {
        self.scheduled += 1;
        self.queue.insert((when.max(self.now), self.scheduled), event);
    }

    pub fn to(&mut self, time: Duration, pid: Pid, what: ToProcess) {
        self.after(time, Event::To(pid, what));
    }

    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.log.line(self.now, what);
    }

    pub fn slot(&self, account: usize) -> Slot {
        slot_of(account)
    }

    pub fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        TransactionId(self.transactions.to_be_bytes())
    }

    /// Until when the run goes.
    pub fn end(&self) -> Duration {
        let Setup { troubles, trouble_time, quiet_time, .. } = &self.setup;
        Duration::from_secs(1) + troubles.calm_first + *trouble_time + *quiet_time
    }

    /// Does the next thing. False: the run is at its end, or a promise is broken.
    pub fn step(&mut self) -> bool {
        let Some(((when, _), event)) = self.queue.pop_first() else { return false };
        if when > self.end() {
            return false;
        }
        let stood = if when == self.now { self.check.same_moment + 1 } else { 0 };
        self.check.same_moment = stood;
        if stood > 20_000 {
            self.check.broken(format!("time does not go on: {event:?}"));
        }
        self.now = when;
        self.totals.events += 1;
        match event {
            Event::To(pid, what) => self.process(pid, what),
            Event::AtStorage(pid, ask, question) => self.at_storage(pid, ask, question),
            Event::FlushGroup => self.flush_group(),
            Event::StorageUp => self.storage_weather.down = false,
            Event::Client(client, what) => self.client(client, what),
            Event::Trouble => self.trouble(),
            Event::Fault(fault) => self.fault(fault),
            Event::FaultEnds(fault) => self.fault_ends(&fault),
            Event::TroubleIsOver => self.trouble_is_over(),
        }
        self.check.violations.is_empty()
    }

    fn process(&mut self, pid: Pid, what: ToProcess) {
        let process = &mut self.processes[pid];
        if !process.up {
            return;
        }
        if let Some(pause) = process.paused {
            // In the order in which it came.
            if self.now < pause.until {
                return self.at(pause.until, Event::To(pid, what));
            }
            process.resume(self.now);
            self.note(format_args!("{pid} goes on"));
        }
        match what {
            ToProcess::Tick => self.tick(pid),
            ToProcess::Begin => self.begin(pid),
            ToProcess::Beat => self.beat(pid),
            ToProcess::GossipRound => self.gossip_round(pid),
            ToProcess::NameSessions => self.name_sessions(pid),
            ToProcess::Balance => self.balance(pid),
            ToProcess::Run(call, attempt, fence) => self.run_here(pid, call, attempt, fence),
            ToProcess::Again(call) => self.call_again(pid, call),
            ToProcess::Storage(ask, answer) => self.storage_answers(pid, ask, Some(answer)),
            ToProcess::TimeIsUp(ask) => self.storage_answers(pid, ask, None),
            ToProcess::Frame(frame) => self.frame(pid, frame),
            ToProcess::LinkFailed(tag, refused) => self.link_failed(pid, &tag, refused),
            ToProcess::Dialed(name, number) => self.dialed(pid, name, number),
            ToProcess::KeepAlive(name, number) => self.keep_alive(pid, name, number),
            ToProcess::LinkBroken(name, number) => self.link_broken(pid, name, number),
            ToProcess::Datagram(datagram) => self.datagram(pid, &datagram),
            ToProcess::Office(account, office, event) => {
                self.office_event(pid, account, office, event);
            }
            ToProcess::WritesSettled(fence) => self.writes_settled(pid, fence),
            ToProcess::Drain if self.processes[pid].joined => self.drain(pid),
            ToProcess::Drain => {}
            ToProcess::Say => self.say(pid),
            ToProcess::Input(input) => self.input(pid, input),
            ToProcess::DrainTimeIsUp => self.end_process(pid, "left too late"),
        }
    }
}

/// Accounts of different slots.
pub fn account_id(account: usize) -> AccountId {
    AccountId::from_u128(0x1_0000 + account as u128)
}

pub fn slot_of(account: usize) -> Slot {
    Slot::of(account_id(account))
}
