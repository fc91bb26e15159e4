//! Calls: where each goes, and what is done when it comes back.

use crate::cluster::facts::NodeId;
use crate::cluster::pending::{Attempt, CallId, CallKind, NewCall, Origin, Refused, Whereabouts};
use crate::cluster::table::Holder;
use crate::types::Slot;

use super::place::{Doubt, Phase};
use super::{Action, Ownership, PeerAnswer, Ran, Turn, Why};

impl Ownership {
    pub(super) fn arrive(&mut self, turn: &mut Turn<'_>, id: CallId, call: NewCall) {
        match self.calls.take(id, call) {
            Err(Refused::Full) => return turn.out.push(Action::Fail(id, Why::Busy)),
            Err(Refused::Twice) => return,
            Ok(()) => {}
        }
        if self.superseded {
            return self.fail(turn, id, Why::Superseded);
        }
        if call.deadline <= turn.at.now {
            return self.fail(turn, id, Why::Late);
        }
        let (me, slot) = (self.me.clone(), call.slot);
        let is_local = call.origin == Origin::Local;
        match self.place(slot).phase.clone() {
            Phase::Held(_) => self.serve(turn, slot),
            Phase::Elsewhere(node, open) if is_local => self.send(turn, id, node, open),
            Phase::Unknown if is_local => match turn.near.holder(slot) {
                Holder::One(node) if node != me => self.send(turn, id, node, false),
                Holder::One(_) | Holder::Nobody | Holder::Several(_) => self.look(turn, slot),
            },
            // What a peer believes may be newer than what is known here.
            Phase::Unknown | Phase::Elsewhere(..) => self.look(turn, slot),
            Phase::Looking(_)
            | Phase::Doubting(..)
            | Phase::Claiming(..)
            | Phase::Resting(_)
            | Phase::Ending(..)
            | Phase::Closing(..)
            | Phase::Releasing(..)
            | Phase::ReleasePause(..) => {}
        }
    }

    /// Starts what waits for a slot that is held, as far as the claim is validated for it.
    pub(super) fn serve(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let Some(held) = self.places.get(&slot).and_then(|place| place.held()) else { return };
        let is_fresh = turn.at.now.saturating_sub(held.validated) <= self.timing.read_staleness;
        for id in self.calls.waiting(slot) {
            let Some(entry) = self.calls.get(id) else { continue };
            match entry.call.kind {
                CallKind::Write => self.run(turn, id, slot),
                CallKind::Read if is_fresh => self.run(turn, id, slot),
                CallKind::Read | CallKind::Validated => drop(self.unvalidated.insert(slot)),
            }
        }
    }

    pub(super) fn run(&mut self, turn: &mut Turn<'_>, id: CallId, slot: Slot) {
        let Some(fence) = self.fence(slot) else { return };
        match self.calls.start(id, Whereabouts::Running(fence)) {
            Some(attempt) => turn.out.push(Action::RunHere(id, attempt, fence)),
            None => self.fail(turn, id, Why::TooOften),
        }
    }

    pub(super) fn send(&mut self, turn: &mut Turn<'_>, call: CallId, node: NodeId, open: bool) {
        match self.calls.start(call, Whereabouts::Sent(node.clone())) {
            Some(attempt) => turn.out.push(Action::SendTo { call, attempt, node, open }),
            None => self.fail(turn, call, Why::TooOften),
        }
    }

    pub(super) fn fail(&mut self, turn: &mut Turn<'_>, id: CallId, why: Why) {
        if let Some(entry) = self.calls.finish(id) {
            turn.out.push(Action::Fail(id, why));
            self.one_has_ended(turn, entry.call.slot);
        }
    }

    /// Its caller waits no more.
    pub(super) fn gone(&mut self, turn: &mut Turn<'_>, id: CallId) {
        if let Some(entry) = self.calls.finish(id) {
            self.one_has_ended(turn, entry.call.slot);
        }
    }

    /// The slot is known to be with `node`: this node's calls go there, peers hear of it.
    pub(super) fn route(&mut self, turn: &mut Turn<'_>, slot: Slot, node: NodeId, open: bool) {
        let place = self.place(slot);
        place.doubt = None;
        self.enter(slot, Phase::Elsewhere(node.clone(), open));
        for id in self.calls.waiting(slot) {
            match self.is_local(id) {
                true => self.send(turn, id, node.clone(), open),
                false => self.pass_back(turn, id, Some(node.clone())),
            }
        }
    }

    /// Calls of peers hear that the slot is not here.
    pub(super) fn pass_back_peers(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Slot,
        hint: Option<&NodeId>,
    ) {
        for id in self.calls.waiting(slot) {
            if !self.is_local(id) {
                self.pass_back(turn, id, hint.cloned());
            }
        }
    }

    fn pass_back(&mut self, turn: &mut Turn<'_>, call: CallId, hint: Option<NodeId>) {
        if self.calls.finish(call).is_some() {
            turn.out.push(Action::NotMine { call, hint });
        }
    }

    fn is_local(&self, id: CallId) -> bool {
        self.calls.get(id).is_some_and(|entry| entry.call.origin == Origin::Local)
    }

    /// Whether a call waits because of which this node may open the slot (E3).
    pub(super) fn wants_open(&self, slot: Slot) -> bool {
        let opens = |origin| matches!(origin, Origin::Local | Origin::Peer { open: true });
        !self.draining
            && self
                .calls
                .waiting(slot)
                .into_iter()
                .any(|id| self.calls.get(id).is_some_and(|entry| opens(entry.call.origin)))
    }

    pub(super) fn ran(&mut self, turn: &mut Turn<'_>, id: CallId, attempt: Attempt, ran: Ran) {
        let Some(entry) = self.calls.current(id, attempt) else { return };
        let Whereabouts::Running(fence) = entry.at else { return };
        match ran {
            Ran::Done => {
                self.calls.finish(id);
                turn.out.push(Action::Answer(id));
            }
            Ran::Fenced => {
                self.calls.park(id, Whereabouts::Waiting);
                self.fenced(turn, fence.slot, fence.epoch);
            }
        }
        self.one_has_ended(turn, fence.slot);
    }

    pub(super) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        id: CallId,
        attempt: Attempt,
        answer: PeerAnswer,
    ) {
        let Some(entry) = self.calls.current(id, attempt) else { return };
        let (slot, Whereabouts::Sent(node)) = (entry.call.slot, entry.at.clone()) else { return };
        let doubt = match answer {
            PeerAnswer::Done => {
                self.calls.finish(id);
                self.place(slot).pauses = 0;
                return turn.out.push(Action::Answer(id));
            }
            PeerAnswer::NotMine { hint: _ } => Doubt::Declined,
            PeerAnswer::Unreachable => Doubt::Unreachable,
            PeerAnswer::Refused => Doubt::Refused,
        };
        self.calls.park(id, Whereabouts::Waiting);
        let now = turn.at.now;
        let place = self.place(slot);
        match place.phase.clone() {
            // Its old place is not asked about again: the slot has been found elsewhere since.
            Phase::Elsewhere(other, open) if other != node => self.send(turn, id, other, open),
            Phase::Unknown | Phase::Elsewhere(..) => {
                place.doubt = Some((node, doubt, now));
                self.look(turn, slot);
            }
            Phase::Held(_) => self.serve(turn, slot),
            Phase::Looking(_) => drop(place.doubt.get_or_insert((node, doubt, now))),
            Phase::Doubting(..)
            | Phase::Claiming(..)
            | Phase::Resting(_)
            | Phase::Ending(..)
            | Phase::Closing(..)
            | Phase::Releasing(..)
            | Phase::ReleasePause(..) => {}
        }
    }

    pub(super) fn peer_moved(&mut self, slot: Slot, node: &NodeId) {
        let Some(place) = self.places.get_mut(&slot) else { return };
        if matches!(&place.phase, Phase::Elsewhere(at, _) if at == node) {
            place.phase = Phase::Unknown;
        }
    }
}
