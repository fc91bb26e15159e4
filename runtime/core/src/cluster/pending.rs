//! Calls on their way (E9): the node where a call was made remembers its transaction id and who waits,
//! sends it to the owner and goes on. After a change of owner it is sent again under the same id. The
//! caller is answered once; answers that come late or twice are dropped and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::{Slot, TransactionId};

use super::claim::Fence;
use super::facts::NodeId;
use super::limits::{MAX_ATTEMPTS, MAX_CALLS, MAX_CALLS_PER_SLOT};

/// One call on this node, as the driver numbers them: ascending, never reused in one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A question to storage, as the machine numbers them. Its answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask(pub u64);

/// How often a call has been sent or started. An answer carries the number of the attempt that it
/// belongs to; only the latest one's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

/// What a call needs of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// It writes: its commit carries the fence, which is check enough.
    Write,
    /// It reads, and may be behind by the stated time.
    Read,
    /// SELECT, NOOP: it sees everything that was acknowledged anywhere before it was made, so the
    /// claim is validated by a question begun after it arrived.
    Validated,
}

/// Where a call came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A session, an MTA or a command of this node: the call is sent on when another node has the slot.
    Local,
    /// Another node. It is never sent on; the other node hears that the slot is not here.
    Peer {
        /// Whether this node should open the slot when nobody has it: the other one drains.
        open: bool,
    },
}

/// A call that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewCall {
    /// Under which a write has its effect at most once. The same whenever it is sent again.
    pub transaction: TransactionId,
    /// What it is about.
    pub slot: Slot,
    /// What it needs.
    pub kind: CallKind,
    /// Where it came from.
    pub origin: Origin,
    /// When its caller gives up, on this node's clock.
    pub deadline: Duration,
}

/// Where a call is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whereabouts {
    /// It waits for the slot.
    Waiting,
    /// It waits for this answer about the claim.
    Validating(Ask),
    /// It runs here, under this fence.
    Running(Fence),
    /// It was sent to this node.
    Sent(NodeId),
}

/// A call and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// What it is.
    pub call: NewCall,
    /// Where it is.
    pub at: Whereabouts,
    /// How often it was sent or started.
    pub attempts: Attempt,
}

/// Why a call is not taken: answer it as busy, or as too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// There are [`MAX_CALLS`], or [`MAX_CALLS_PER_SLOT`] for its slot.
    Full,
    /// Its number is taken: the driver is at fault, and the first call goes on.
    Twice,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingCounts {
    /// Calls taken.
    pub taken: u64,
    /// Calls answered, failed or passed back: each once.
    pub finished: u64,
    /// Times that a call was sent or started after the first.
    pub again: u64,
    /// Answers dropped because their call was finished, or had been sent again since.
    pub late: u64,
    /// Calls refused for want of room.
    pub refused: u64,
}

/// Something that decides nothing: values that differ only in it are equal. A model checker would
/// otherwise take each way to a state for a state of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aside<T>(pub T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Aside<T> {}

impl<T> std::hash::Hash for Aside<T> {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// The calls of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pending {
    calls: BTreeMap<CallId, Entry>,
    deadlines: BTreeSet<(Duration, CallId)>,
    by_slot: BTreeMap<Slot, BTreeSet<CallId>>,
    counts: Aside<PendingCounts>,
}

impl Pending {
    /// Takes a call; it waits.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn take(&mut self, id: CallId, call: NewCall) -> Result<(), Refused> {
        if self.calls.contains_key(&id) {
            return Err(Refused::Twice);
        }
        if self.calls.len() >= MAX_CALLS || self.of_slot(call.slot) >= MAX_CALLS_PER_SLOT {
            self.counts.0.refused += 1;
            return Err(Refused::Full);
        }
        self.deadlines.insert((call.deadline, id));
        self.by_slot.entry(call.slot).or_default().insert(id);
        self.calls.insert(id, Entry { call, at: Whereabouts::Waiting, attempts: Attempt(0) });
        self.counts.0.taken += 1;
        Ok(())
    }

    /// A call.
    pub fn get(&self, id: CallId) -> Option<&Entry> {
        self.calls.get(&id)
    }

    /// A call whose latest attempt this is. Otherwise `None`, and the answer counts as late.
    pub fn current(&mut self, id: CallId, attempt: Attempt) -> Option<&Entry> {
        let on_its_way = |entry: &&Entry| match entry.at {
            Whereabouts::Running(_) | Whereabouts::Sent(_) => entry.attempts == attempt,
            Whereabouts::Waiting | Whereabouts::Validating(_) => false,
        };
        let entry = self.calls.get(&id).filter(on_its_way);
        if entry.is_none() {
            self.counts.0.late += 1;
        }
        entry
    }

    /// Calls of a slot that wait, in the order of their numbers.
    pub fn waiting(&self, slot: Slot) -> Vec<CallId> {
        self.which(slot, |entry| entry.at == Whereabouts::Waiting)
    }

    /// Calls of a slot for which something holds, in the order of their numbers.
    pub fn which(&self, slot: Slot, holds: impl Fn(&Entry) -> bool) -> Vec<CallId> {
        let ids = self.by_slot.get(&slot).into_iter().flatten();
        ids.filter(|id| self.calls.get(id).is_some_and(&holds)).copied().collect()
    }

    /// How many calls there are for a slot.
    pub fn of_slot(&self, slot: Slot) -> usize {
        self.by_slot.get(&slot).map_or(0, BTreeSet::len)
    }

    /// A call is sent or started. `None`: there is no such call, or it was tried [`MAX_ATTEMPTS`] times.
    pub fn start(&mut self, id: CallId, at: Whereabouts) -> Option<Attempt> {
        let entry = self.calls.get_mut(&id).filter(|entry| entry.attempts.0 < MAX_ATTEMPTS)?;
        self.counts.0.again += u64::from(entry.attempts.0 > 0);
        entry.attempts.0 += 1;
        entry.at = at;
        Some(entry.attempts)
    }

    /// A call waits again, or for an answer about the claim.
    pub fn park(&mut self, id: CallId, at: Whereabouts) {
        if let Some(entry) = self.calls.get_mut(&id) {
            entry.at = at;
        }
    }

    /// A call is answered, once: the entry is gone with it.
    pub fn finish(&mut self, id: CallId) -> Option<Entry> {
        let entry = self.calls.remove(&id)?;
        self.deadlines.remove(&(entry.call.deadline, id));
        if let Some(ids) = self.by_slot.get_mut(&entry.call.slot) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_slot.remove(&entry.call.slot);
            }
        }
        self.counts.0.finished += 1;
        Some(entry)
    }

    /// Calls whose deadline has come.
    pub fn expired(&self, now: Duration) -> Vec<CallId> {
        self.deadlines.range(..=(now, CallId(u64::MAX))).map(|(_, id)| *id).collect()
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// All calls.
    pub fn ids(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// What has been counted.
    pub fn counts(&self) -> PendingCounts {
        self.counts.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(slot: u16, deadline: u64) -> NewCall {
        NewCall {
            transaction: TransactionId([1; 16]),
            slot: Slot(slot),
            kind: CallKind::Write,
            origin: Origin::Local,
            deadline: Duration::from_secs(deadline),
        }
    }

    fn sent(name: &str) -> Whereabouts {
        Whereabouts::Sent(name.parse().unwrap())
    }

    #[test]
    fn e9_a_call_sent_again_is_answered_by_its_latest_attempt_only_and_once() {
        let (mut pending, id) = (Pending::default(), CallId(1));
        pending.take(id, call(1, 9)).unwrap();
        let first = pending.start(id, sent("a")).unwrap();
        pending.park(id, Whereabouts::Waiting);
        assert_eq!(pending.current(id, first), None, "it waits for the slot again");
        let second = pending.start(id, sent("b")).unwrap();
        assert_eq!(pending.current(id, first), None);
        assert!(pending.current(id, second).is_some());
        assert!(pending.finish(id).is_some());
        assert_eq!(pending.current(id, second), None);
        assert_eq!(pending.finish(id), None);
        let counts = pending.counts();
        assert_eq!((counts.again, counts.late, counts.finished), (1, 3, 1));
    }

    #[test]
    fn one_slot_does_not_take_the_room_of_all_and_the_room_has_an_end() {
        let mut pending = Pending::default();
        for number in 0..MAX_CALLS as u64 {
            let slot = (number / MAX_CALLS_PER_SLOT as u64) as u16;
            assert_eq!(pending.take(CallId(number), call(slot, 1)), Ok(()));
        }
        let more = CallId(u64::MAX);
        assert_eq!(pending.take(more, call(4000, 1)), Err(Refused::Full));
        assert_eq!(pending.take(CallId(0), call(1, 1)), Err(Refused::Twice));
        pending.finish(CallId(MAX_CALLS as u64 - 1));
        assert_eq!(pending.take(more, call(0, 1)), Err(Refused::Full), "slot 0 has its share");
        assert_eq!(pending.take(more, call(4000, 1)), Ok(()));
        assert_eq!(pending.counts().refused, 2);
    }

    #[test]
    fn a_call_is_not_tried_for_ever() {
        let mut pending = Pending::default();
        pending.take(CallId(1), call(1, 9)).unwrap();
        for _ in 0..MAX_ATTEMPTS {
            assert!(pending.start(CallId(1), sent("a")).is_some());
        }
        assert_eq!(pending.start(CallId(1), sent("a")), None);
    }

    proptest! {
        /// Against a plain list of what is there.
        #[test]
        fn the_indexes_say_what_the_calls_say(steps in prop::collection::vec((0..4_u8, 0..12_u64, 0..3_u16, 0..5_u64), 1..200)) {
            let mut pending = Pending::default();
            let mut there = BTreeMap::<u64, NewCall>::new();
            for (step, id, slot, time) in steps {
                match step {
                    0 | 1 => {
                        let taken = pending.take(CallId(id), call(slot, time)).is_ok();
                        prop_assert_eq!(taken, !there.contains_key(&id));
                        there.entry(id).or_insert(call(slot, time));
                    }
                    2 => prop_assert_eq!(pending.finish(CallId(id)).is_some(), there.remove(&id).is_some()),
                    _ => {
                        let now = Duration::from_secs(time);
                        let late: Vec<_> = there.iter().filter(|(_, c)| c.deadline <= now).map(|(id, _)| CallId(*id)).collect();
                        let mut expired = pending.expired(now);
                        expired.sort();
                        prop_assert_eq!(expired, late);
                    }
                }
                let of_slot: Vec<_> = there.iter().filter(|(_, c)| c.slot.0 == slot).map(|(id, _)| CallId(*id)).collect();
                prop_assert_eq!(pending.waiting(Slot(slot)), of_slot);
                prop_assert_eq!(pending.next_deadline(), there.values().map(|c| c.deadline).min());
                prop_assert_eq!((pending.len(), pending.is_empty()), (there.len(), there.is_empty()));
            }
        }
    }
}
