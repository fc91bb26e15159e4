//! Letting a slot go, and losing it. A slot that is let go is closed first: calls wait, those that run
//! end, unknown outcomes are resolved. Only then is the claim released.

use crate::cluster::claim::Fence;
use crate::cluster::facts::NodeId;
use crate::cluster::limits::MAX_CLOSING;
use crate::cluster::pending::{Ask, Whereabouts};
use crate::types::{Epoch, Slot};

use super::place::Phase;
use super::{Action, Ownership, Released, Turn};

impl Ownership {
    /// Nothing is open in the slot (E5). A slot with calls, or one that has just come, stays.
    pub(super) fn idle(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        if self.calls.of_slot(slot) == 0 && self.may_leave(turn, slot) {
            self.close(turn, slot, None);
        }
    }

    pub(super) fn hand_over(&mut self, turn: &mut Turn<'_>, slot: Slot, to: NodeId) {
        if to != self.me && turn.near.takes_slots(&to) && self.may_leave(turn, slot) {
            self.close(turn, slot, Some(to));
        }
    }

    fn may_leave(&self, turn: &Turn<'_>, slot: Slot) -> bool {
        let held = self.places.get(&slot).and_then(|place| place.held());
        held.is_some_and(|held| turn.at.now.saturating_sub(held.since) >= self.timing.min_tenure)
            && self.closing() < MAX_CLOSING
    }

    pub(super) fn drain(&mut self, turn: &mut Turn<'_>) {
        self.draining = true;
        self.close_some(turn);
    }

    /// Closes as many slots as may be closed at a time.
    pub(super) fn close_some(&mut self, turn: &mut Turn<'_>) {
        let room = MAX_CLOSING.saturating_sub(self.closing());
        let held = self.places.iter().filter(|(_, place)| place.held().is_some());
        for slot in held.map(|(slot, _)| *slot).take(room).collect::<Vec<_>>() {
            self.close(turn, slot, None);
        }
    }

    fn closing(&self) -> usize {
        let is_closing = |phase: &Phase| {
            matches!(phase, Phase::Closing(..) | Phase::Releasing(..) | Phase::ReleasePause(..))
        };
        self.places.values().filter(|place| is_closing(&place.phase)).count()
    }

    fn close(&mut self, turn: &mut Turn<'_>, slot: Slot, to: Option<NodeId>) {
        let Some(fence) = self.fence(slot) else { return };
        self.unvalidated.remove(&slot);
        for id in self.calls.which(slot, |e| matches!(e.at, Whereabouts::Validating(_))) {
            self.calls.park(id, Whereabouts::Waiting);
        }
        self.enter(slot, Phase::Closing(fence, to));
        turn.out.push(Action::CloseSlot(fence));
    }

    pub(super) fn settled(&mut self, turn: &mut Turn<'_>, slot: Slot, epoch: Epoch) {
        if let Phase::Closing(fence, to) = self.place(slot).phase.clone()
            && fence.epoch == epoch
        {
            self.release(turn, fence, to);
        }
    }

    pub(super) fn release(&mut self, turn: &mut Turn<'_>, fence: Fence, to: Option<NodeId>) {
        let ask = self.ask();
        self.enter(fence.slot, Phase::Releasing(ask, fence, to.clone()));
        turn.out.push(Action::Release { ask, fence, to });
    }

    pub(super) fn release_done(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        slot: Slot,
        done: Released,
    ) {
        let (fence, to) = match self.place(slot).phase.clone() {
            Phase::Releasing(asked, fence, to) if asked == ask => (fence, to),
            _ => {
                self.counts.0.moot += 1;
                return;
            }
        };
        match done {
            Released::Done => {
                self.counts.0.released += 1;
                self.place(slot).pauses = 0;
                turn.out.push(Action::TellMoved(slot));
                self.leave(turn, slot, to.as_ref());
            }
            Released::Conflict => self.lose(turn, slot),
            Released::NoAnswer => {
                let until = turn.at.now + self.pause(turn, slot);
                self.enter(slot, Phase::ReleasePause(until, fence, to));
            }
        }
        if self.draining {
            self.close_some(turn);
        }
    }

    /// A commit was refused under this epoch. Of an older claim than the present one it is no news.
    pub(super) fn fenced(&mut self, turn: &mut Turn<'_>, slot: Slot, epoch: Epoch) {
        let fence = self.places.get(&slot).and_then(|place| place.fence());
        if fence.is_some_and(|fence| fence.epoch == epoch) {
            self.lose(turn, slot);
        }
    }

    /// Another claim holds the slot: what is in memory is worth nothing.
    pub(super) fn lose(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let Some(fence) = self.places.get(&slot).and_then(|place| place.fence()) else { return };
        self.counts.0.lost += 1;
        turn.out.extend([Action::Lost(fence), Action::TellMoved(slot)]);
        // The other claim is younger than this moment may tell: its tenure counts from here.
        let noted = self.place(slot).note(Some(fence.epoch), turn.at.now);
        assert!(noted.is_ok(), "a claim of this node is below what it has seen: {fence:?}");
        self.leave(turn, slot, None);
    }

    /// The slot is here no more: its calls look for the new owner, those of peers at their nodes.
    fn leave(&mut self, turn: &mut Turn<'_>, slot: Slot, to: Option<&NodeId>) {
        self.unvalidated.remove(&slot);
        let here =
            |at: &Whereabouts| matches!(at, Whereabouts::Running(_) | Whereabouts::Validating(_));
        for id in self.calls.which(slot, |entry| here(&entry.at)) {
            self.calls.park(id, Whereabouts::Waiting);
        }
        self.pass_back_peers(turn, slot, to);
        match to {
            // It is to open the slot for the first call that comes, or this node would have it again.
            Some(to) => self.route(turn, slot, to.clone(), true),
            None => self.resume(turn, slot),
        }
    }
}
