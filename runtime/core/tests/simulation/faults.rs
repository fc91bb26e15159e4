//! Trouble: what goes wrong, how often, for how long, and that all of it is over in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use postroom_core::cluster::{Input, NodeState};

use crate::process::{Pause, name_of};
use crate::world::{Event, Pid, ToProcess, World};

/// Most nodes of a run.
const MAX_NODES: usize = 7;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pause,
    PauseInCommit,
    Kill,
    HostLost,
    Drain,
    Join,
    CutLink,
    CutOneWay,
    PartLinks,
    PartGossip,
    BadNetwork,
    StorageRefuses,
    StorageHangs,
    AnswersLost,
    TornGroup,
    StorageKilled,
    ClockLeaps,
    WallSet,
    Twin,
    Liar,
    HandOver,
    Idle,
}

pub const ALL: [Kind; 22] = [
    Kind::Pause,
    Kind::PauseInCommit,
    Kind::Kill,
    Kind::HostLost,
    Kind::Drain,
    Kind::Join,
    Kind::CutLink,
    Kind::CutOneWay,
    Kind::PartLinks,
    Kind::PartGossip,
    Kind::BadNetwork,
    Kind::StorageRefuses,
    Kind::StorageHangs,
    Kind::AnswersLost,
    Kind::TornGroup,
    Kind::StorageKilled,
    Kind::ClockLeaps,
    Kind::WallSet,
    Kind::Twin,
    Kind::Liar,
    Kind::HandOver,
    Kind::Idle,
];

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::PauseInCommit => "pause in a commit",
            Self::Kill => "kill",
            Self::HostLost => "host lost",
            Self::Drain => "drain",
            Self::Join => "join",
            Self::CutLink => "link cut",
            Self::CutOneWay => "one-way cut",
            Self::PartLinks => "links parted",
            Self::PartGossip => "gossip parted",
            Self::BadNetwork => "bad network",
            Self::StorageRefuses => "storage refuses",
            Self::StorageHangs => "storage hangs",
            Self::AnswersLost => "answers lost",
            Self::TornGroup => "torn group",
            Self::StorageKilled => "storage killed",
            Self::ClockLeaps => "clock leaps",
            Self::WallSet => "wall clock set",
            Self::Twin => "two of one name",
            Self::Liar => "liar",
            Self::HandOver => "hand-over",
            Self::Idle => "slot idle",
        }
    }
}

/// Which trouble comes, and how often.
#[derive(Clone, Debug)]
pub struct Troubles {
    pub kinds: Vec<Kind>,
    pub calm_first: Duration,
    /// Pauses between, in milliseconds.
    pub between: (u64, u64),
    /// No more than so many.
    pub most: u64,
}

/// Something that happens or ends at a moment.
#[derive(Clone, Debug)]
pub enum Fault {
    Start(usize),
    HostBack(usize),
    Links(BTreeSet<(usize, usize)>),
    Gossip(BTreeSet<(usize, usize)>),
    Network,
    Storage,
    Truth(Pid),
}

impl World {
    fn count(&mut self, kind: Kind) {
        *self.totals.faults.entry(kind.word()).or_default() += 1;
    }

    pub fn living(&self) -> Vec<Pid> {
        let names = self.generations.keys();
        names.filter_map(|name| self.reached(*name)).collect()
    }

    /// Something goes wrong, and again after a while.
    pub fn trouble(&mut self) {
        if self.is_quiet {
            return;
        }
        let (from, until) = self.setup.troubles.between;
        let pause = self.dice.millis(from, until);
        let kind = self.dice.among(&self.setup.troubles.kinds.clone());
        if let Some(kind) = kind {
            self.happen(kind);
        }
        let so_far: u64 = self.totals.faults.values().sum();
        if so_far < self.setup.troubles.most {
            self.after(pause, Event::Trouble);
        }
    }

    /// A node, a little rather one that has something open.
    fn victim(&mut self) -> Option<Pid> {
        let living = self.living();
        let owners: Vec<Pid> = living
            .iter()
            .copied()
            .filter(|pid| !self.processes[*pid].machine.open_slots().is_empty())
            .collect();
        let owner = self.dice.permille(700);
        self.dice.among(if owner && !owners.is_empty() { &owners } else { &living })
    }

    fn happen(&mut self, kind: Kind) {
        let Some(pid) = self.victim() else { return };
        let name = self.processes[pid].name;
        let others: Vec<usize> =
            self.generations.keys().copied().filter(|other| *other != name).collect();
        let other = self.dice.among(&others).unwrap_or(name);
        self.note(format_args!("trouble: {} at {pid}", kind.word()));
        let long = self.dice.millis(200, 9_000);
        match kind {
            Kind::Pause | Kind::PauseInCommit => {
                if self.processes[pid].paused.is_some() {
                    return;
                }
                let stops_clock = self.dice.permille(300);
                let holds_requests = kind == Kind::PauseInCommit;
                let (since, until) = (self.now, self.now + long);
                let pause = Pause { since, until, holds_requests, stops_clock };
                self.processes[pid].paused = Some(pause);
            }
            Kind::Kill => {
                self.end_process(pid, "killed");
                self.after(long / 2, Event::Fault(Fault::Start(name)));
            }
            Kind::HostLost => {
                self.weather.lost_hosts.insert(name);
                self.end_process(pid, "its host is lost");
                let back = self.dice.millis(5_000, 15_000);
                self.after(back, Event::Fault(Fault::HostBack(name)));
            }
            Kind::Drain => {
                if self.processes[pid].state != NodeState::Up || self.living().len() < 2 {
                    return;
                }
                self.to(Duration::ZERO, pid, ToProcess::Drain);
                let back = self.dice.millis(3_000, 15_000);
                self.after(back, Event::Fault(Fault::Start(name)));
            }
            Kind::Join => {
                if self.generations.len() >= MAX_NODES {
                    return;
                }
                let name = self.generations.len();
                self.start(name);
            }
            Kind::CutLink | Kind::CutOneWay => {
                let mut cut = BTreeSet::from([(name, other)]);
                if kind == Kind::CutLink {
                    cut.insert((other, name));
                }
                self.weather.links_cut.extend(cut.iter().copied());
                self.after(long, Event::FaultEnds(Fault::Links(cut)));
            }
            Kind::PartLinks | Kind::PartGossip => {
                let cut = self.partition();
                let (set, fault) = match kind {
                    Kind::PartLinks => (&mut self.weather.links_cut, Fault::Links(cut.clone())),
                    _ => (&mut self.weather.gossip_cut, Fault::Gossip(cut.clone())),
                };
                set.extend(cut);
                self.after(long, Event::FaultEnds(fault));
            }
            Kind::BadNetwork => {
                self.weather.doubles = self.dice.below(200);
                self.weather.late = self.dice.below(300);
                self.weather.loses = self.dice.below(900);
                self.after(long, Event::FaultEnds(Fault::Network));
            }
            Kind::StorageRefuses => {
                self.storage_weather.refuses = 100 + self.dice.below(900);
                self.after(long / 3, Event::FaultEnds(Fault::Storage));
            }
            Kind::StorageHangs => {
                self.storage_weather.hangs = 20 + self.dice.below(300);
                self.after(long / 3, Event::FaultEnds(Fault::Storage));
            }
            Kind::AnswersLost => {
                self.storage_weather.loses = 20 + self.dice.below(400);
                self.after(long / 3, Event::FaultEnds(Fault::Storage));
            }
            Kind::TornGroup => self.storage_weather.tears += 1,
            Kind::StorageKilled => {
                self.storage_weather.down = true;
                self.after(long / 4, Event::StorageUp);
            }
            Kind::ClockLeaps => {
                let (now, leap) = (self.now, self.dice.millis(100, 30_000));
                self.processes[pid].clock.leap(now, leap);
                // Whoever sleeps until a moment wakes when it is past.
                self.processes[pid].tick_at = None;
                self.to(Duration::ZERO, pid, ToProcess::Input(Input::Tick));
            }
            Kind::WallSet => {
                let by = self.dice.below(200_000) as i64 - 100_000;
                self.processes[pid].clock.set_wall(by);
            }
            Kind::Twin => self.twin(pid, name),
            Kind::Liar => {
                self.processes[pid].lies = true;
                self.to(Duration::ZERO, pid, ToProcess::Say);
                self.after(long, Event::FaultEnds(Fault::Truth(pid)));
            }
            Kind::HandOver => {
                let slots: Vec<_> = self.processes[pid].machine.open_slots().iter().collect();
                let Some(slot) = self.dice.among(&slots) else { return };
                self.to(
                    Duration::ZERO,
                    pid,
                    ToProcess::Input(Input::HandOver(slot, name_of(other))),
                );
            }
            Kind::Idle => {
                let slots: Vec<_> = self.processes[pid].machine.open_slots().iter().collect();
                let Some(slot) = self.dice.among(&slots) else { return };
                self.to(Duration::ZERO, pid, ToProcess::Input(Input::SlotIdle(slot)));
            }
        }
        self.count(kind);
    }

    /// A second process of a node is started while the first lives: from a copy of its folder, under
    /// the same generation or the next one.
    fn twin(&mut self, pid: Pid, name: usize) {
        let same = self.dice.permille(400);
        let generation = self.processes[pid].generation;
        match same {
            true => drop(self.start_as(name, generation)),
            false => drop(self.start(name)),
        }
    }

    /// Nodes in two halves; sometimes one hears the other.
    fn partition(&mut self) -> BTreeSet<(usize, usize)> {
        let names: Vec<usize> = self.generations.keys().copied().collect();
        let half: Vec<usize> = names.iter().copied().filter(|_| self.dice.permille(500)).collect();
        let one_way = self.dice.permille(250);
        let mut cut = BTreeSet::new();
        for one in &half {
            for other in names.iter().filter(|other| !half.contains(other)) {
                cut.insert((*one, *other));
                if !one_way {
                    cut.insert((*other, *one));
                }
            }
        }
        cut
    }

    pub fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Start(name) => self.start_again(name),
            Fault::HostBack(name) => {
                self.weather.lost_hosts.remove(&name);
                self.start_again(name);
            }
            fault => self.fault_ends(&fault),
        }
    }

    /// A node is started whose process has ended; one that takes its time to leave is waited for.
    fn start_again(&mut self, name: usize) {
        let lives = self.processes.iter().any(|it| it.name == name && it.up);
        match lives {
            true => self.after(Duration::from_secs(1), Event::Fault(Fault::Start(name))),
            false => drop(self.start(name)),
        }
    }

    pub fn fault_ends(&mut self, fault: &Fault) {
        match fault {
            Fault::Links(cut) => self.weather.links_cut.retain(|pair| !cut.contains(pair)),
            Fault::Gossip(cut) => self.weather.gossip_cut.retain(|pair| !cut.contains(pair)),
            Fault::Network => {
                (self.weather.doubles, self.weather.late, self.weather.loses) = (0, 0, 0);
            }
            Fault::Storage => {
                let weather = &mut self.storage_weather;
                (weather.refuses, weather.hangs, weather.loses) = (0, 0, 0);
            }
            Fault::Truth(pid) => {
                self.processes[*pid].lies = false;
                self.to(Duration::ZERO, *pid, ToProcess::Say);
            }
            Fault::Start(_) | Fault::HostBack(_) => {}
        }
    }

    /// From now on nothing goes wrong any more, and what has been broken is mended.
    pub fn trouble_is_over(&mut self) {
        self.note(format_args!("trouble is over"));
        self.is_quiet = true;
        self.fault_ends(&Fault::Network);
        self.fault_ends(&Fault::Storage);
        self.weather.links_cut.clear();
        self.weather.gossip_cut.clear();
        self.storage_weather.down = false;
        self.storage_weather.tears = 0;
        let now = self.now;
        for pid in 0..self.processes.len() {
            if let Some(pause) = &mut self.processes[pid].paused {
                // It goes on with whatever comes next.
                pause.until = now;
            }
            if self.processes[pid].lies {
                self.fault_ends(&Fault::Truth(pid));
            }
        }
        let names: Vec<usize> = self.generations.keys().copied().collect();
        for name in names {
            self.weather.lost_hosts.remove(&name);
            self.start_again(name);
        }
    }
}
