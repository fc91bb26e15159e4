//! Who has a slot: the record decides; a node that does not answer is doubted, and its heartbeat
//! decides whether it is dead. Where the connection was refused, one from before that does not count. A broken link alone never takes a slot from anybody.

use std::time::Duration;

use crate::cluster::claim::{Beat, ClaimRecord, Fence};
use crate::cluster::facts::NodeId;
use crate::cluster::pending::Ask;
use crate::cluster::table::Standing;
use crate::types::{Epoch, Slot};

use super::place::{Doubt, Held, Phase};
use super::{Action, Claimed, NoAnswer, Ownership, Turn, Why};

/// Most doublings of a pause: by then it is longer than any maximum.
const MAX_DOUBLINGS: u32 = 16;

impl Ownership {
    /// Reads the record.
    pub(super) fn look(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let ask = self.ask();
        self.enter(slot, Phase::Looking(ask));
        turn.out.push(Action::ReadRecord(ask, slot));
    }

    /// Nothing is under way for the slot: reads the record if anybody waits for it.
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        match self.calls.waiting(slot).is_empty() {
            true => self.forget(slot),
            false => self.look(turn, slot),
        }
    }

    /// Nobody waits for the slot.
    fn forget(&mut self, slot: Slot) {
        self.place(slot).doubt = None;
        self.enter(slot, Phase::Unknown);
    }

    pub(super) fn rest(&mut self, turn: &Turn<'_>, slot: Slot) {
        let until = turn.at.now + self.pause(turn, slot);
        self.rest_until(slot, until);
    }

    /// Doubts do not outlive a pause: whoever was doubted is tried again.
    fn rest_until(&mut self, slot: Slot, until: Duration) {
        self.place(slot).doubt = None;
        self.enter(slot, Phase::Resting(until));
    }

    /// The next pause of a slot: each is twice the last, and shortened by chance by up to a half.
    pub(super) fn pause(&mut self, turn: &Turn<'_>, slot: Slot) -> Duration {
        let (first, most) = (self.timing.back_off_first, self.timing.back_off_max);
        let place = self.place(slot);
        let full = first.saturating_mul(1 << place.pauses.min(MAX_DOUBLINGS)).min(most);
        place.pauses = place.pauses.saturating_add(1);
        full - full / 2 * u32::from(turn.at.jitter) / u32::from(u16::MAX)
    }

    pub(super) fn wake(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        match self.place(slot).phase.clone() {
            Phase::Resting(_) => self.resume(turn, slot),
            Phase::Ending(_, fence, to) => self.close_accounts(turn, fence, to),
            Phase::ReleasePause(_, fence, to) => self.release(turn, fence, to),
            _ => {}
        }
    }

    pub(super) fn record_read(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        slot: Slot,
        record: Result<Option<ClaimRecord>, NoAnswer>,
    ) {
        if self.place(slot).phase != Phase::Looking(ask) {
            self.counts.0.moot += 1;
            return;
        }
        let Ok(record) = record else { return self.rest(turn, slot) };
        let epoch = record.as_ref().map(|record| record.epoch);
        if let Err(seen) = self.place(slot).note(epoch, turn.at.now) {
            turn.out.push(Action::StepBack { slot, seen, found: epoch });
            return self.rest(turn, slot);
        }
        if self.calls.waiting(slot).is_empty() {
            return self.forget(slot);
        }
        let Some(record) = record else { return self.open(turn, slot, None, false, None) };
        match &record.released {
            Some(release) => self.open_released(turn, slot, &record, release.to.clone()),
            None if record.claimant.node == self.me => self.mine(turn, slot, &record),
            None => self.theirs(turn, slot, record),
        }
    }

    /// The slot was let go, perhaps for a certain node.
    fn open_released(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Slot,
        record: &ClaimRecord,
        to: Option<NodeId>,
    ) {
        let previous = Some(record.epoch);
        match to {
            Some(to) if to == self.me && !self.draining => self.claim(turn, slot, previous, false),
            Some(to)
                if to != self.me
                    && turn.near.takes_slots(&to)
                    && self.place(slot).doubt_of(&to).is_none() =>
            {
                self.route(turn, slot, to, true);
            }
            Some(_) | None => self.open(turn, slot, previous, false, None),
        }
    }

    /// The record names this node, which does not hold the slot: a claim whose answer was lost, or
    /// one of an incarnation before this one. It is claimed anew, or let go by a node that drains.
    fn mine(&mut self, turn: &mut Turn<'_>, slot: Slot, record: &ClaimRecord) {
        if record.claimant.generation > self.generation {
            return self.supersede(turn);
        }
        match self.draining {
            false => self.claim(turn, slot, Some(record.epoch), false),
            // Nothing runs under it. Nobody else takes it from a node that lives, so it is let go.
            true => {
                let (epoch, nonce) = (record.epoch, record.claimant.nonce);
                self.release(turn, Fence { slot, epoch, nonce }, None);
            }
        }
    }

    /// The record names another node.
    fn theirs(&mut self, turn: &mut Turn<'_>, slot: Slot, record: ClaimRecord) {
        let node = record.claimant.node.clone();
        let doubt = self.place(slot).doubt_of(&node);
        match (turn.near.standing(&record.claimant), doubt) {
            (Standing::Gone, _) => self.open(turn, slot, Some(record.epoch), true, Some(&node)),
            (Standing::Live | Standing::Unsure, Some(Doubt::Unreachable | Doubt::Refused))
            | (Standing::Unsure, None) => {
                let ask = self.ask();
                turn.out.push(Action::ReadBeat(ask, slot, node));
                self.enter(slot, Phase::Doubting(ask, record));
            }
            // It will look at the record too, and open the slot again if it lives.
            (Standing::Live | Standing::Unsure, Some(Doubt::Declined)) => {
                self.pass_back_peers(turn, slot, Some(&node));
                self.rest(turn, slot);
            }
            (Standing::Live, None) => self.route(turn, slot, node, false),
        }
    }

    pub(super) fn beat_read(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        slot: Slot,
        beat: Result<Option<Beat>, NoAnswer>,
    ) {
        let record = match self.place(slot).phase.clone() {
            Phase::Doubting(asked, record) if asked == ask => record,
            _ => {
                self.counts.0.moot += 1;
                return;
            }
        };
        let Ok(beat) = beat else { return self.rest(turn, slot) };
        let claimant = &record.claimant;
        let node = claimant.node.clone();
        let (stale, now) = (self.timing.beat_stale, turn.at.now);
        let oldest = self.place(slot).oldest_beat(stale, now);
        match beat {
            Some(beat) if beat.generation > claimant.generation => {
                self.open(turn, slot, Some(record.epoch), true, Some(&node));
            }
            Some(beat) if beat.age <= oldest => {
                match self.place(slot).doubt_of(&node) {
                    None => self.route(turn, slot, node, false),
                    // Perhaps its host is lost, and a call that was sent again would be found to be so only
                    // after its heartbeat: that is read once more when it would be stale.
                    Some(_) if beat.age >= stale / 2 => {
                        self.pass_back_peers(turn, slot, Some(&node));
                        let until = now + (stale - beat.age) + self.timing.back_off_first;
                        self.enter(slot, Phase::Resting(until));
                    }
                    // It lives, only the link does not: wait, and send again.
                    Some(_) => {
                        self.pass_back_peers(turn, slot, Some(&node));
                        self.rest(turn, slot);
                    }
                }
            }
            Some(_) | None => self.take_over(turn, slot, &record),
        }
    }

    /// The claimant is taken to be dead. If it is not, it must at least have had the slot for a while.
    fn take_over(&mut self, turn: &mut Turn<'_>, slot: Slot, record: &ClaimRecord) {
        let min = self.timing.min_tenure;
        match self.place(slot).tenure_until(min, turn.at.now) {
            Some(until) => self.rest_until(slot, until),
            None => {
                let node = record.claimant.node.clone();
                self.open(turn, slot, Some(record.epoch), true, Some(&node));
            }
        }
    }

    /// Nobody has the slot: it is opened here if a call of this node waits for it (E3). A node that
    /// drains has another one open it.
    fn open(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Slot,
        previous: Option<Epoch>,
        taking_over: bool,
        hint: Option<&NodeId>,
    ) {
        if self.wants_open(slot) {
            return self.claim(turn, slot, previous, taking_over);
        }
        self.pass_back_peers(turn, slot, hint);
        if self.calls.waiting(slot).is_empty() {
            return self.forget(slot);
        }
        let deputy = turn.near.deputy(slot).filter(|node| *node != self.me);
        match deputy.filter(|node| self.place(slot).doubt_of(node).is_none()) {
            Some(node) => self.route(turn, slot, node, true),
            None => self.rest(turn, slot),
        }
    }

    fn claim(&mut self, turn: &mut Turn<'_>, slot: Slot, previous: Option<Epoch>, taking: bool) {
        let ask = self.ask();
        self.enter(slot, Phase::Claiming(ask, turn.at.now, taking));
        turn.out.push(Action::Claim { ask, slot, previous });
    }

    pub(super) fn claim_done(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        slot: Slot,
        claimed: Claimed,
    ) {
        let (begun, taking_over) = match self.place(slot).phase {
            Phase::Claiming(asked, begun, taking_over) if asked == ask => (begun, taking_over),
            _ => {
                self.counts.0.moot += 1;
                return;
            }
        };
        match claimed {
            Claimed::Held(fence) => {
                let now = turn.at.now;
                let place = self.place(slot);
                // A claim raises the epoch of its own slot: one that does not is of another storage.
                if fence.slot != slot || place.note(Some(fence.epoch), now).is_err() {
                    let (seen, found) = (place.highest().unwrap_or(fence.epoch), Some(fence.epoch));
                    turn.out.push(Action::StepBack { slot, seen, found });
                    return self.rest(turn, slot);
                }
                (place.doubt, place.pauses) = (None, 0);
                self.enter(
                    slot,
                    Phase::Held(Held { fence, since: now, validated: begun, asked: None }),
                );
                let due = begun + self.timing.validate_every;
                self.regular = Some(self.regular.map_or(due, |regular| regular.min(due)));
                let count = if taking_over {
                    &mut self.counts.0.taken_over
                } else {
                    &mut self.counts.0.opened
                };
                *count += 1;
                self.serve(turn, slot);
                if self.draining {
                    self.close_some(turn);
                }
            }
            // Somebody else was faster: see who.
            Claimed::Conflict => self.resume(turn, slot),
            Claimed::NoAnswer => self.rest(turn, slot),
        }
    }

    /// A later incarnation of this node runs: nothing that this one holds is its own any more.
    fn supersede(&mut self, turn: &mut Turn<'_>) {
        self.superseded = true;
        turn.out.push(Action::Superseded);
        for slot in self.places.keys().copied().collect::<Vec<_>>() {
            turn.out.extend(self.place(slot).fence().map(Action::Lost));
            self.enter(slot, Phase::Unknown);
        }
        for id in self.calls.ids() {
            self.fail(turn, id, Why::Superseded);
        }
    }

    /// Calls do not go by habit to a node that is not heard any more, or drains.
    pub(super) fn table_changed(&mut self, turn: &mut Turn<'_>) {
        for place in self.places.values_mut() {
            if matches!(&place.phase, Phase::Elsewhere(node, _) if !turn.near.takes_slots(node)) {
                place.phase = Phase::Unknown;
            }
        }
    }
}
