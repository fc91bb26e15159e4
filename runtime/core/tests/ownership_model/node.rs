//! One node: the shipped machine and the thinnest driver around it. What the driver asks of storage, and
//! what it runs, are *jobs*: each is done in one step, at any time, in any order.

use std::collections::{BTreeMap, BTreeSet};

use postroom_core::cluster::{
    Ask, Attempt, CallId, CallKind, Fence, Generation, NodeId, Ownership, Timing,
};
use postroom_core::types::Epoch;

/// Who gets a call's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    Client(usize),
    Peer { node: usize, generation: u64, call: CallId, attempt: Attempt },
}

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    pub caller: Caller,
    pub transaction: u8,
    pub kind: CallKind,
}

/// What is under way at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    ReadRecord(Ask),
    ReadBeat(Ask, usize),
    Claim(Ask, Option<Epoch>),
    Validate(Ask),
    Release(Ask, Fence, Option<usize>),
    /// Reads what an owner has in memory.
    Load(Fence),
    /// A read of what is in memory.
    Read(CallId, Attempt, Fence),
    /// `checked`: the fence was compared in a step before (a planted bug).
    Commit {
        call: CallId,
        attempt: Attempt,
        fence: Fence,
        transaction: u8,
        uid: u8,
        checked: bool,
    },
}

/// An open account: as of which claim, and the mod-sequence that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    pub fence: Fence,
    pub head: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub up: bool,
    pub generation: u64,
    pub draining: bool,
    pub machine: Ownership,
    pub orders: BTreeMap<CallId, Order>,
    pub next_call: u64,
    pub jobs: BTreeSet<Job>,
    pub memory: Option<Memory>,
    /// Calls that were started and whose job has not begun: the account loads, or writes.
    pub started: BTreeMap<CallId, (Attempt, Fence)>,
    pub closing: Option<Fence>,
    /// Calls that were sent, until the record is read: none is sent again before.
    pub must_look: BTreeSet<CallId>,
}

pub fn id(at: usize) -> NodeId {
    format!("n{at}").parse().unwrap()
}

pub fn index(id: &NodeId) -> usize {
    id.as_str()[1..].parse().unwrap()
}

impl Node {
    pub fn new(at: usize, generation: u64) -> Self {
        Self {
            up: true,
            generation,
            draining: false,
            machine: Ownership::new(id(at), Generation(generation), Timing::default()),
            orders: BTreeMap::new(),
            next_call: 0,
            jobs: BTreeSet::new(),
            memory: None,
            started: BTreeMap::new(),
            closing: None,
            must_look: BTreeSet::new(),
        }
    }

    pub fn commits(&self, fence: &Fence) -> bool {
        let of = |job: &Job| matches!(job, Job::Commit { fence: of, .. } if of == fence);
        self.jobs.iter().any(of)
    }

    /// Begins what can begin of what was started: reads at once, writes one at a time.
    pub fn begin(&mut self) {
        let started: Vec<_> = self.started.iter().map(|(call, it)| (*call, *it)).collect();
        for (call, (attempt, fence)) in started {
            let Some(memory) = self.memory.filter(|memory| memory.fence == fence) else {
                self.jobs.insert(Job::Load(fence));
                continue;
            };
            let Some(order) = self.orders.get(&call) else {
                self.started.remove(&call);
                continue;
            };
            if order.kind != CallKind::Write {
                self.jobs.insert(Job::Read(call, attempt, fence));
            } else if !self.commits(&fence) {
                let (transaction, uid) = (order.transaction, memory.head + 1);
                let checked = false;
                let job = Job::Commit { call, attempt, fence, transaction, uid, checked };
                self.jobs.insert(job);
            } else {
                continue;
            }
            self.started.remove(&call);
        }
    }

    /// Drops what is in memory and runs under a fence, as after a loss.
    pub fn drop_memory(&mut self, lost: &Fence) {
        self.memory = self.memory.filter(|memory| memory.fence != *lost);
        self.started.retain(|_, (_, fence)| fence != lost);
        self.closing = self.closing.filter(|fence| fence != lost);
        self.jobs.retain(|job| !matches!(job, Job::Load(f) | Job::Read(_, _, f) if f == lost));
    }
}
