//! Links between nodes: one each way for a pair, made when needed, over a network that delays, reorders,
//! doubles and cuts. A link is given up when nothing comes over it for as long as the node's keep-alive
//! says, or at once when the other process ends and its host says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postroom_core::cluster::{Attempt, CallId, Input, NewCall, Origin, PeerAnswer};
use postroom_core::types::{SessionId, Slot};

use crate::ask::{Ask, Request, Response};
use crate::process::{Carried, From, Stage, name_of};
use crate::world::{Pid, ToProcess, World};

/// `DIAL_TIME` of the node's links.
const DIAL_TIME: Duration = Duration::from_secs(3);
/// How often the other end is asked whether it is there.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);
/// After how long without a sign of it a link is given up: the node's keep-alive and its time.
const SILENCE: Duration = Duration::from_secs(4);
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// A frame that did not get through is sent again by TCP.
const SENT_AGAIN: (u64, u64) = (150, 400);

/// How the network is at the moment.
#[derive(Default)]
pub struct Weather {
    /// Microseconds that anything takes on its way.
    pub delay: (u64, u64),
    /// So many frames of a thousand arrive twice, or much later.
    pub doubles: usize,
    pub late: usize,
    /// So many datagrams of a thousand are lost.
    pub loses: usize,
    /// From whom to whom nothing gets through.
    pub links_cut: BTreeSet<(usize, usize)>,
    pub gossip_cut: BTreeSet<(usize, usize)>,
    /// Nodes whose hosts say nothing at all.
    pub lost_hosts: BTreeSet<usize>,
}

impl Weather {
    pub fn link_passes(&self, from: usize, to: usize) -> bool {
        !self.links_cut.contains(&(from, to))
            && !self.lost_hosts.contains(&from)
            && !self.lost_hosts.contains(&to)
    }
}

/// Which attempt of which call, and which of its questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub call: CallId,
    pub attempt: Attempt,
    pub stage: Stage,
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub from: Pid,
    /// The link that it goes over, and whose that is.
    pub link: (Pid, u64),
    /// It has arrived before.
    pub again: bool,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Question {
        tag: Tag,
        request: Box<Request>,
        open: bool,
        remaining: Duration,
    },
    Answer(Tag, Box<Response>),
    /// Sessions of that node have these active; the answer to nothing.
    Named(Vec<SessionId>),
    Moved(u16),
    Changed(usize),
}

/// A link of a process to a node.
#[derive(Clone, Debug)]
pub struct Link {
    pub number: u64,
    pub state: LinkState,
    failures: u32,
    waiting: Vec<What>,
    under_way: Vec<Tag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Dialing,
    Up {
        peer: Pid,
        heard: Duration,
    },
    /// Until when it is not tried again, and whether the host has refused.
    Down {
        until: Duration,
        refused: bool,
    },
}

impl World {
    /// The process that others reach under a node's name.
    pub fn reached(&self, name: usize) -> Option<Pid> {
        (0..self.processes.len()).rev().find(|pid| {
            let process = &self.processes[*pid];
            process.name == name && process.up && process.joined
        })
    }

    /// Sends something over the link to a node, which is made if need be.
    pub fn send(&mut self, pid: Pid, to: usize, what: What) {
        let now = self.now;
        let link = self.processes[pid].links.get_mut(&to);
        match link.map(|link| (link.state, link)) {
            Some((LinkState::Down { until, refused }, _)) if until > now => {
                self.not_sent(pid, &what, refused);
            }
            Some((LinkState::Dialing, link)) => link.waiting.push(what),
            Some((LinkState::Up { .. }, link)) => {
                let number = link.number;
                self.on_its_way(pid, to, number, what);
            }
            Some((LinkState::Down { .. }, _)) | None => self.dial(pid, to, what),
        }
    }

    fn not_sent(&mut self, pid: Pid, what: &What, refused: bool) {
        if let What::Question { tag, .. } = what {
            let tag = *tag;
            self.to(Duration::from_micros(20), pid, ToProcess::LinkFailed(tag, refused));
        }
    }

    fn dial(&mut self, pid: Pid, to: usize, what: What) {
        let process = &mut self.processes[pid];
        process.asked += 1;
        let (number, name) = (process.asked, process.name);
        let failures = process.links.get(&to).map_or(0, |link| link.failures);
        let (state, waiting) = (LinkState::Dialing, vec![what]);
        let link = Link { number, state, failures, waiting, under_way: Vec::new() };
        process.links.insert(to, link);
        let passes = self.weather.link_passes(name, to) && self.weather.link_passes(to, name);
        let (from, until) = self.weather.delay;
        let time = match passes {
            true => self.dice.micros(2 * from, 2 * until + 1_000),
            false => DIAL_TIME,
        };
        self.to(time, pid, ToProcess::Dialed(to, number));
    }

    pub fn dialed(&mut self, pid: Pid, to: usize, number: u64) {
        let (now, name) = (self.now, self.processes[pid].name);
        let passes = self.weather.link_passes(name, to) && self.weather.link_passes(to, name);
        let peer = self.reached(to);
        // A paused process completes no handshake.
        let sleeps = peer.is_some_and(|peer| self.processes[peer].paused.is_some());
        let Some(link) = self.processes[pid].links.get_mut(&to) else { return };
        if link.number != number || link.state != LinkState::Dialing {
            return;
        }
        let waiting = std::mem::take(&mut link.waiting);
        match peer.filter(|_| passes && !sleeps) {
            Some(peer) => {
                (link.state, link.failures) = (LinkState::Up { peer, heard: now }, 0);
                self.to(KEEP_ALIVE_EVERY, pid, ToProcess::KeepAlive(to, number));
                waiting.into_iter().for_each(|what| self.on_its_way(pid, to, number, what));
            }
            None => {
                let pause = BACK_OFF_FIRST.saturating_mul(1 << link.failures.min(8));
                link.failures += 1;
                let (until, refused) = (now + pause.min(BACK_OFF_MAX), passes && !sleeps);
                link.state = LinkState::Down { until, refused };
                waiting.iter().for_each(|what| self.not_sent(pid, what, refused));
            }
        }
    }

    fn on_its_way(&mut self, pid: Pid, to: usize, number: u64, what: What) {
        if let What::Question { tag, .. } = &what
            && let Some(link) = self.processes[pid].links.get_mut(&to)
        {
            link.under_way.push(*tag);
        }
        let Some(Link { state: LinkState::Up { peer, .. }, .. }) =
            self.processes[pid].links.get(&to)
        else {
            return;
        };
        let peer = *peer;
        let frame = Frame { from: pid, link: (pid, number), again: false, what };
        self.carry(peer, frame);
    }

    /// Brings a frame to a process after a while, perhaps twice.
    fn carry(&mut self, to: Pid, frame: Frame) {
        let (from, until) = self.weather.delay;
        let mut delay = self.dice.micros(from, until);
        if self.dice.permille(self.weather.late) {
            delay += self.dice.millis(10, 800);
        }
        if self.dice.permille(self.weather.doubles) {
            let again = delay + self.dice.millis(0, 1_500);
            self.to(again, to, ToProcess::Frame(Frame { again: true, ..frame.clone() }));
        }
        self.to(delay, to, ToProcess::Frame(frame));
    }

    pub fn frame(&mut self, pid: Pid, frame: Frame) {
        let (owner, number) = frame.link;
        let node = |pid: Pid| self.processes[pid].name;
        // Events have a stream of their own, which is made anew by whoever reads it.
        let stands = match frame.what {
            What::Moved(_) | What::Changed(_) => true,
            _ => {
                let name = if owner == pid { node(frame.from) } else { node(pid) };
                self.processes[owner].links.get(&name).is_some_and(|link| {
                    link.number == number && matches!(link.state, LinkState::Up { .. })
                })
            }
        };
        if !stands {
            return;
        }
        if !self.weather.link_passes(node(frame.from), node(pid)) {
            let (from, until) = SENT_AGAIN;
            let later = self.dice.millis(from, until);
            return self.to(later, pid, ToProcess::Frame(frame));
        }
        match frame.what {
            What::Question { tag, request, open, remaining } => {
                if frame.again && !self.may_come_again(frame.from, &tag, &request.ask) {
                    return;
                }
                if let Some(response) = self.lie(pid, &request) {
                    return self.reply(pid, frame.from, frame.link, tag, response);
                }
                let from = From::Peer { pid: frame.from, link: frame.link, tag };
                let deadline = self.clock(pid) + remaining;
                self.take_call(pid, from, *request, Origin::Peer { open }, deadline);
            }
            What::Answer(tag, response) => {
                let name = self.processes[frame.from].name;
                if let Some(link) = self.processes[pid].links.get_mut(&name) {
                    link.under_way.retain(|other| *other != tag);
                }
                self.peer_answered(pid, name, tag, *response);
            }
            What::Named(sessions) => {
                let name = self.processes[frame.from].name;
                self.named(pid, name, &sessions);
            }
            What::Moved(slot) => {
                let node = name_of(self.processes[frame.from].name);
                self.input(pid, Input::PeerMoved(Slot(slot), node));
                self.wake_slot(pid, slot);
            }
            What::Changed(account) => self.wake(pid, account),
        }
    }

    /// Whether a question that arrives twice has an effect. The stream of one that is answered is closed;
    /// a write has its effect once, and is let through to prove it.
    fn may_come_again(&self, asker: Pid, tag: &Tag, ask: &Ask) -> bool {
        let waits = self.processes[asker].calls.get(&tag.call).is_some_and(|it| it.is_at(tag));
        waits || matches!(ask, Ask::Write(_))
    }

    /// Answers a call of another node over the link that it came by.
    pub fn reply(&mut self, pid: Pid, to: Pid, link: (Pid, u64), tag: Tag, response: Response) {
        let what = What::Answer(tag, Box::new(response));
        self.carry(to, Frame { from: pid, link, again: false, what });
    }

    /// Tells a node something that it need not answer.
    pub fn push(&mut self, pid: Pid, node: usize, what: What) {
        if let Some(to) = self.reached(node) {
            self.carry(to, Frame { from: pid, link: (pid, 0), again: false, what });
        }
    }

    pub fn keep_alive(&mut self, pid: Pid, to: usize, number: u64) {
        let (now, name) = (self.now, self.processes[pid].name);
        let passes = self.weather.link_passes(name, to) && self.weather.link_passes(to, name);
        let Some(link) = self.processes[pid].links.get(&to) else { return };
        let LinkState::Up { peer, heard } = link.state else { return };
        if link.number != number {
            return;
        }
        let other = &self.processes[peer];
        let answers = passes && other.up && other.paused.is_none();
        let heard = if answers { now } else { heard };
        // A process that goes on after a pause first reads what has arrived.
        let silence = now.saturating_sub(heard.max(self.processes[pid].woke));
        if silence >= SILENCE {
            return self.link_broken(pid, to, number);
        }
        if let Some(link) = self.processes[pid].links.get_mut(&to) {
            link.state = LinkState::Up { peer, heard };
        }
        let next = KEEP_ALIVE_EVERY.min(SILENCE - silence);
        self.to(next, pid, ToProcess::KeepAlive(to, number));
    }

    /// All that was under way over a link has no answer.
    pub fn link_broken(&mut self, pid: Pid, to: usize, number: u64) {
        let now = self.now;
        let Some(link) = self.processes[pid].links.get_mut(&to) else { return };
        if link.number != number || !matches!(link.state, LinkState::Up { .. }) {
            return;
        }
        link.state = LinkState::Down { until: now, refused: false };
        let lost = std::mem::take(&mut link.under_way);
        self.note(format_args!("{pid}: the link to n{to} is broken, {} calls", lost.len()));
        lost.into_iter().for_each(|tag| self.link_failed(pid, &tag, false));
        self.wake_at(pid, to);
    }

    /// The host of a process that has ended tells whoever has a link to it.
    pub fn links_end(&mut self, gone: Pid) {
        let name = self.processes[gone].name;
        for pid in 0..self.processes.len() {
            let other = self.processes[pid].name;
            if !self.weather.link_passes(name, other) {
                continue;
            }
            if let Some(link) = self.processes[pid].links.get(&name)
                && matches!(link.state, LinkState::Up { peer, .. } if peer == gone)
            {
                let number = link.number;
                let delay = self.dice.micros(50, 1_000);
                self.to(delay, pid, ToProcess::LinkBroken(name, number));
            }
        }
    }

    pub fn link_failed(&mut self, pid: Pid, tag: &Tag, refused: bool) {
        let answer = if refused { PeerAnswer::Refused } else { PeerAnswer::Unreachable };
        if self.processes[pid].calls.get(&tag.call).is_some_and(|call| call.is_at(tag)) {
            self.input(pid, Input::PeerAnswered(tag.call, tag.attempt, answer));
        }
    }

    /// A call arrives at a process, from one of its sessions or from another node.
    pub fn take_call(
        &mut self,
        pid: Pid,
        from: From,
        request: Request,
        origin: Origin,
        deadline: Duration,
    ) {
        let slot = self.slot(request.account);
        let process = &mut self.processes[pid];
        process.last_call += 1;
        let call = CallId(process.last_call);
        let new = NewCall {
            transaction: request.transaction,
            slot,
            kind: request.ask.kind(),
            origin,
            deadline,
        };
        process.calls.insert(call, Carried::new(from, request, deadline));
        self.input(pid, Input::CallArrived(call, new));
    }
}

/// Links by node.
pub type Links = BTreeMap<usize, Link>;
