//! What the driver does for the machines: actions performed, jobs done at storage.

use std::collections::BTreeMap;
use std::time::Duration;

use postroom_core::cluster::{
    Action, Attempt, Beat, CallId, CallKind, ClaimRecord, Claimant, Claimed, Fence, Generation,
    Input, Moment, NoAnswer, Ran, Release, Released, Standing,
};
use postroom_core::types::Epoch;

use crate::Plant;
use crate::node::{Job, Memory, id, index};
use crate::storage::{Committed, Entry};
use crate::world::{Broken, Flight, Hears, Reached, Reply, SLOT, STEP, Shown, World};

impl World {
    /// Gives the machine an input and performs its actions as far as nobody else is needed.
    pub fn input_with(
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

    pub fn act(&mut self, at: usize, action: Action, shown: Option<Shown>, plant: Option<Plant>) {
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
                    ClaimRecord { epoch: fence.epoch, claimant, released: None }
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
    pub fn settle(&mut self, at: usize, plant: Option<Plant>) {
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

    pub fn perform(
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
                let is_old = is_stale || plant == Some(Plant::HeartbeatNotRead);
                let age = Duration::from_secs(if is_old { 100 } else { 0 });
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

    pub fn committed(
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

    pub fn commit(&mut self, entry: Entry, checked: bool, plant: Option<Plant>) -> Committed {
        let before = self.storage.head();
        let committed = self.storage.commit(entry, checked, plant);
        if self.storage.head() == before && committed != Committed::Fenced {
            self.reached.insert(Reached::SentAgainHadOneEffect);
        }
        committed
    }

    pub fn claim(
        &mut self,
        at: usize,
        generation: u64,
        ask: u64,
        previous: Option<Epoch>,
    ) -> Claimed {
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

    pub fn release(&mut self, at: usize, fence: Fence, to: Option<usize>) -> Released {
        let commits = self.nodes[at].up && self.nodes[at].commits(&fence);
        if commits && self.storage.admits(&fence) {
            self.broken.insert(Broken::ReleasedBeforeLastCommit);
        }
        self.storage.release(&fence, Some(Release { to: to.map(id) }))
    }

    /// What a job still does after its node has stopped waiting for it.
    pub fn at_storage(&mut self, at: usize, generation: u64, job: Job, plant: Option<Plant>) {
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

    pub fn orphan(&mut self, at: usize, job: Job) {
        if matches!(job, Job::Claim(..) | Job::Release(..) | Job::Commit { .. }) {
            self.orphans.insert((at, self.nodes[at].generation, job));
        }
    }

    pub fn no_answer(&mut self, at: usize, job: Job, plant: Option<Plant>) {
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
}
