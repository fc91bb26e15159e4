//! Between nodes and storage: when a question arrives, what storage does with it, when the answer
//! arrives, and everything that can go wrong on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_core::cluster::{
    Ask, Beat, ClaimRecord, Claimant, Claimed, Fence, Input, NoAnswer, NodeId, Released,
};
use postroom_core::types::{Epoch, Slot, TransactionId};

use crate::Plant;
use crate::disk::Disk;
use crate::office::OfficeEvent;
use crate::storage::{Commit, Refusal};
use crate::world::{Event, Pid, ToProcess, World};

/// How long the node's driver gives storage for a question about a claim.
const ASK_TIME: Duration = Duration::from_secs(3);
/// How long it gives a commit and a read of an account. The node gives ten times as much; with less more
/// commits come late.
const STEP_TIME: Duration = Duration::from_secs(3);
/// How long commits wait for others to share a group.
const GROUP_TIME: Duration = Duration::from_micros(300);

/// A question to storage.
#[derive(Clone, Debug)]
pub enum ForStorage {
    Record(Slot),
    Records(Vec<Slot>),
    BeatOf(NodeId),
    Claim(Slot, Claimant, Option<Epoch>),
    Release(Fence, Option<NodeId>),
    Beat(Claimant),
    Load(usize),
    /// The head, and what these transactions came to.
    Find(usize, Vec<TransactionId>),
    Commit(Box<Commit>),
}

#[derive(Clone)]
pub enum FromStorage {
    Record(Option<ClaimRecord>),
    Records(BTreeMap<Slot, Option<ClaimRecord>>),
    BeatOf(Option<Beat>),
    Claimed(Option<Fence>),
    Released(bool),
    Beat(bool),
    Loaded(Arc<Disk>),
    Found(u64, Vec<Option<Bytes>>),
    Committed(Result<u64, Refusal>),
    /// Certainly nothing was done.
    Unavailable,
    /// Something may have been done.
    Unknown,
}

impl std::fmt::Debug for FromStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Record(_) => "record",
            Self::Records(_) => "records",
            Self::BeatOf(_) => "beat of",
            Self::Claimed(Some(_)) => "claimed",
            Self::Claimed(None) => "conflict",
            Self::Released(_) => "released",
            Self::Beat(_) => "beat",
            Self::Loaded(_) => "loaded",
            Self::Found(..) => "found",
            Self::Committed(Ok(_)) => "committed",
            Self::Committed(Err(_)) => "not committed",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
        })
    }
}

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub enum Waits {
    Record(Ask, Slot),
    Beat(Ask, Slot),
    Claim(Ask, Slot),
    Validate(Ask),
    Release(Ask, Fence),
    OwnBeat,
    Office(usize, u64),
}

/// What is wrong with storage at the moment.
#[derive(Default)]
pub struct Weather {
    pub down: bool,
    /// So many questions of a thousand are refused, hang, or are not answered after the effect.
    pub refuses: usize,
    pub hangs: usize,
    pub loses: usize,
    /// The next groups are torn.
    pub tears: usize,
    group: Vec<(Pid, u64, Box<Commit>)>,
}

impl World {
    /// Asks storage.
    pub fn ask_storage(&mut self, pid: Pid, waits: Waits, question: ForStorage) -> u64 {
        let process = &mut self.processes[pid];
        process.asked += 1;
        let ask = process.asked;
        let time = match &waits {
            Waits::Office(..) => STEP_TIME,
            _ => ASK_TIME,
        };
        process.asks.insert(ask, waits);
        let delay = self.dice.micros(100, 1_200);
        self.after(delay, Event::AtStorage(pid, ask, question));
        self.to(time, pid, ToProcess::TimeIsUp(ask));
        ask
    }

    pub fn at_storage(&mut self, pid: Pid, ask: u64, question: ForStorage) {
        // A process that is paused may not have sent it yet: it is paused inside a commit.
        if let Some(pause) = self.processes[pid].paused
            && pause.holds_requests
            && self.now < pause.until
        {
            let delay = self.dice.micros(100, 1_200);
            return self.at(pause.until + delay, Event::AtStorage(pid, ask, question));
        }
        if self.storage_weather.down || self.dice.permille(self.storage_weather.refuses) {
            return self.answer(pid, ask, FromStorage::Unavailable);
        }
        if self.dice.permille(self.storage_weather.hangs) {
            let hangs = self.dice.millis(500, 9_000);
            self.note(format_args!("storage: a question of {pid} hangs"));
            return self.after(hangs, Event::AtStorage(pid, ask, question));
        }
        let answer = match question {
            ForStorage::Commit(commit) => {
                if self.storage_weather.group.is_empty() {
                    self.after(GROUP_TIME, Event::FlushGroup);
                }
                return self.storage_weather.group.push((pid, ask, commit));
            }
            question => self.effect(pid, question),
        };
        self.answer(pid, ask, answer);
    }

    fn answer(&mut self, pid: Pid, ask: u64, answer: FromStorage) {
        if self.dice.permille(self.storage_weather.loses) {
            return self.note(format_args!("storage: {pid} is not answered: {answer:?}"));
        }
        let delay = self.dice.micros(100, 1_200);
        self.to(delay, pid, ToProcess::Storage(ask, answer));
    }

    fn effect(&mut self, pid: Pid, question: ForStorage) -> FromStorage {
        let now = self.now;
        match question {
            ForStorage::Record(slot) => {
                FromStorage::Record(self.storage.claims.get(&slot).cloned())
            }
            ForStorage::Records(slots) => {
                let record = |slot: Slot| (slot, self.storage.claims.get(&slot).cloned());
                FromStorage::Records(slots.into_iter().map(record).collect())
            }
            ForStorage::BeatOf(node) => FromStorage::BeatOf(self.storage.beat_of(&node, now)),
            ForStorage::Claim(slot, claimant, previous) => {
                let fence = self.storage.claim(slot, &claimant, previous);
                if let Some(fence) = fence {
                    self.totals.claims += 1;
                    self.check.claimed(&fence, &claimant);
                    self.note(format_args!("{pid} claims {} at {}", slot.0, fence.epoch.0));
                }
                FromStorage::Claimed(fence)
            }
            ForStorage::Release(fence, to) => {
                let done = self.storage.release(&fence, to);
                if done {
                    self.totals.released += 1;
                    self.note(format_args!("{pid} releases {}", fence.slot.0));
                    if self.commits_under(pid, &fence) {
                        self.check.broken(format!("{fence:?} is released before its last commit"));
                    }
                }
                FromStorage::Released(done)
            }
            ForStorage::Beat(claimant) => FromStorage::Beat(self.storage.beat(&claimant, now)),
            ForStorage::Load(account) => {
                FromStorage::Loaded(self.storage.accounts.entry(account).or_default().clone())
            }
            ForStorage::Find(account, transactions) => {
                let disk = self.storage.accounts.entry(account).or_default();
                let found = transactions.iter().map(|id| disk.done.get(id).cloned()).collect();
                FromStorage::Found(disk.head, found)
            }
            ForStorage::Commit(_) => FromStorage::Unavailable,
        }
    }

    /// Carries out the commits that have come together: all of the group is durable, or nothing.
    pub fn flush_group(&mut self) {
        let group = std::mem::take(&mut self.storage_weather.group);
        if self.storage_weather.down {
            // They were under way when storage ended.
            return self.torn(group);
        }
        if self.storage_weather.tears > 0 && !group.is_empty() {
            self.storage_weather.tears -= 1;
            return self.torn(group);
        }
        for (pid, ask, commit) in group {
            let done = self.commit(pid, &commit);
            self.answer(pid, ask, FromStorage::Committed(done));
        }
    }

    /// Nobody hears what became of a group: all of it has happened, or nothing.
    fn torn(&mut self, group: Vec<(Pid, u64, Box<Commit>)>) {
        let happens = self.dice.permille(500);
        self.note(format_args!("storage: a group of {} is torn: {happens}", group.len()));
        for (pid, ask, commit) in group {
            if happens {
                let _ = self.commit(pid, &commit);
            }
            self.answer(pid, ask, FromStorage::Unknown);
        }
    }

    fn commit(&mut self, pid: Pid, commit: &Commit) -> Result<u64, Refusal> {
        let done = self.storage.commit(commit, self.setup.plant);
        match &done {
            Ok(head) => {
                self.totals.commits += 1;
                let Commit { account, fence, .. } = commit;
                self.note(format_args!("{pid} commits {account}:{head} at {}", fence.epoch.0));
                self.check.committed(commit, &self.storage);
            }
            Err(Refusal::Broken(why)) => self.check.broken(why.clone()),
            Err(Refusal::Fenced) => {
                self.totals.late_refused += 1;
                self.note(format_args!("{pid} is fenced at {}", commit.fence.epoch.0));
            }
            Err(_) => {}
        }
        done
    }

    /// An answer, or none in time, for whoever waits for it.
    pub fn storage_answers(&mut self, pid: Pid, ask: u64, answer: Option<FromStorage>) {
        // An answer to a question that was given up is nobody's.
        let Some(waits) = self.processes[pid].asks.remove(&ask) else { return };
        let input = match (waits, answer) {
            (Waits::Record(ask, slot), Some(FromStorage::Record(record))) => {
                Input::RecordRead(ask, slot, Ok(record))
            }
            (Waits::Record(ask, slot), _) => Input::RecordRead(ask, slot, Err(NoAnswer)),
            (Waits::Beat(ask, slot), Some(FromStorage::BeatOf(beat))) => {
                Input::BeatRead(ask, slot, Ok(beat))
            }
            (Waits::Beat(ask, slot), _) => Input::BeatRead(ask, slot, Err(NoAnswer)),
            (Waits::Claim(ask, slot), Some(FromStorage::Claimed(Some(fence)))) => {
                Input::ClaimDone(ask, slot, Claimed::Held(fence))
            }
            (Waits::Claim(ask, slot), Some(FromStorage::Claimed(None))) => {
                Input::ClaimDone(ask, slot, Claimed::Conflict)
            }
            (Waits::Claim(ask, slot), _) => Input::ClaimDone(ask, slot, Claimed::NoAnswer),
            (Waits::Validate(ask), Some(FromStorage::Records(records))) => {
                Input::Validated(ask, Ok(records))
            }
            (Waits::Validate(ask), _) => Input::Validated(ask, Err(NoAnswer)),
            (Waits::Release(ask, fence), Some(FromStorage::Released(done))) => {
                let done = if done { Released::Done } else { Released::Conflict };
                Input::ReleaseDone(ask, fence.slot, done)
            }
            (Waits::Release(ask, fence), _) => {
                Input::ReleaseDone(ask, fence.slot, Released::NoAnswer)
            }
            (Waits::OwnBeat, answer) => return self.beaten(pid, answer),
            (Waits::Office(account, office), answer) => {
                let event = OfficeEvent::Storage(answer);
                return self.office_event(pid, account, office, event);
            }
        };
        self.input(pid, input);
    }

    /// Validation as the node asks for it; a planted bug believes that all is as it was.
    pub fn ask_to_validate(&mut self, pid: Pid, ask: Ask, slots: Vec<Slot>) {
        if self.setup.plant == Some(Plant::NoValidation) {
            let held = &self.processes[pid].known;
            let records = slots.iter().map(|slot| (*slot, held.get(slot).cloned())).collect();
            let number = self.ask_storage(pid, Waits::Validate(ask), ForStorage::Records(vec![]));
            return self.to(
                Duration::from_micros(1),
                pid,
                ToProcess::Storage(number, FromStorage::Records(records)),
            );
        }
        self.ask_storage(pid, Waits::Validate(ask), ForStorage::Records(slots));
    }
}
