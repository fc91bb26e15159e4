//! One node's ownership of slots: where each call goes, when a slot is claimed, let go or lost.
//!
//! [`Ownership::handle`] takes what has happened and says what is to be done. The driver performs each
//! [`Action`] and owes it an answer: every [`Ask`] is answered exactly once, every call started or sent
//! is reported for its [`Attempt`], and [`Input::Tick`] comes at [`Ownership::next_wake`]. Answers
//! to what was asked before something else made it moot are dropped and counted.

mod calls;
mod lookup;
mod place;
mod release;
mod validation;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::StoreError;
use crate::types::{Epoch, Slot};

use super::claim::{Beat, ClaimRecord, Fence};
use super::facts::{Generation, NodeId};
use super::limits::Timing;
use super::pending::{Aside, Ask, Attempt, CallId, NewCall, Pending, PendingCounts};
use super::slot_set::SlotSet;
use super::table::Neighbours;

use place::{Phase, Place};

/// When something happens, and a random number for the length of pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since some start, on a clock that never goes back and runs through suspend.
    pub now: Duration,
    /// Random. 0 makes a pause full, `u16::MAX` halves it.
    pub jitter: u16,
}

/// Storage did not answer in time, or with an error. What was asked may still take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoAnswer;

/// How a call that ran here has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ran {
    /// There is an answer: a result, or an error that the caller shall see.
    Done,
    /// Storage refused its commit: another claim holds the slot.
    Fenced,
}

/// What became of a call that was sent to another node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerAnswer {
    /// There is an answer.
    Done,
    /// That node does not have the slot. Its hint is for logs: it is never obeyed.
    NotMine {
        /// Who it believes has it.
        hint: Option<NodeId>,
    },
    /// The link is broken, or gave no answer in time. The call may have run.
    Unreachable,
    /// The node's host refuses the connection: its process does not listen.
    Refused,
}

/// How a claim has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claimed {
    /// The slot is ours under this fence.
    Held(Fence),
    /// The record is another than the one that was seen.
    Conflict,
    /// It may still take effect.
    NoAnswer,
}

/// How a release has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Released {
    /// The mark stands in the record.
    Done,
    /// The record is another: the slot was lost before.
    Conflict,
    /// It may still take effect.
    NoAnswer,
}

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A call arrives, from this node's sessions or from a peer.
    CallArrived(CallId, NewCall),
    /// Its caller has gone: nobody waits for the answer.
    CallGone(CallId),
    /// A call has ended that was started by [`Action::RunHere`].
    RanHere(CallId, Attempt, Ran),
    /// What became of a call sent by [`Action::SendTo`].
    PeerAnswered(CallId, Attempt, PeerAnswer),
    /// The answer to [`Action::ReadRecord`].
    RecordRead(Ask, Slot, Result<Option<ClaimRecord>, NoAnswer>),
    /// The answer to [`Action::ReadBeat`]. `None`: that node has no heartbeat row.
    BeatRead(Ask, Slot, Result<Option<Beat>, NoAnswer>),
    /// The answer to [`Action::Claim`].
    ClaimDone(Ask, Slot, Claimed),
    /// The answer to [`Action::Validate`]: the records as they were after it was asked.
    Validated(Ask, Result<BTreeMap<Slot, Option<ClaimRecord>>, NoAnswer>),
    /// Storage refused a commit under this epoch, outside of any call.
    Fenced(Slot, Epoch),
    /// Nothing in the slot is open any more (E5): it may be let go.
    SlotIdle(Slot),
    /// Balance: let this slot go, for that node.
    HandOver(Slot, NodeId),
    /// The node is to end: let everything go, open nothing.
    Drain,
    /// After [`Action::CloseSlot`]: no call runs, every unknown outcome is resolved, memory is dropped.
    WritesSettled(Slot, Epoch),
    /// The answer to [`Action::Release`].
    ReleaseDone(Ask, Slot, Released),
    /// A peer says that it has let the slot go, or lost it. Only makes this node look again.
    PeerMoved(Slot, NodeId),
    /// The table says something else than before.
    TableChanged,
    /// An operator has raised what a restored backup put back (`cluster restored`): epochs seen before
    /// count no more.
    Restored,
    /// Nothing but time has passed.
    Tick,
}

/// Why a call fails. It had no effect that is known; a write may have one all the same, under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// No room for one more call: try again in a moment.
    Busy,
    /// Its deadline came before an owner was found that answered.
    Late,
    /// It was sent or started too often.
    TooOften,
    /// A later incarnation of this node runs: this process must end.
    Superseded,
}

impl From<Why> for StoreError {
    fn from(why: Why) -> Self {
        match why {
            Why::Busy => Self::Busy("too many calls wait for their mailboxes".into()),
            Why::Late | Why::TooOften => {
                Self::Unavailable("the mailbox's node does not answer".into())
            }
            Why::Superseded => Self::Unavailable("this node has been started again".into()),
        }
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run a call in this node's mailboxes; commits carry the fence. → [`Input::RanHere`].
    RunHere(CallId, Attempt, Fence),
    /// Send a call over the link. → [`Input::PeerAnswered`].
    SendTo {
        /// Which.
        call: CallId,
        /// Which attempt.
        attempt: Attempt,
        /// Where to.
        node: NodeId,
        /// Whether that node should open the slot when nobody has it ([`Origin::Peer`](super::Origin)).
        open: bool,
    },
    /// Give the caller the answer that the call's last input brought.
    Answer(CallId),
    /// Tell the peer that sent the call: the slot is not here.
    NotMine {
        /// Which.
        call: CallId,
        /// Who seems to have it.
        hint: Option<NodeId>,
    },
    /// Tell the caller that the call fails.
    Fail(CallId, Why),
    /// Read a slot's claim. → [`Input::RecordRead`].
    ReadRecord(Ask, Slot),
    /// Read a node's heartbeat row, because of a slot. → [`Input::BeatRead`].
    ReadBeat(Ask, Slot, NodeId),
    /// Take a slot by compare-and-set on the epoch that was seen, under a fresh nonce. →
    /// [`Input::ClaimDone`].
    Claim {
        /// The question.
        ask: Ask,
        /// The slot.
        slot: Slot,
        /// The epoch that its record has; `None`: there is no record.
        previous: Option<Epoch>,
    },
    /// Read the claims of these slots, in one query begun now. → [`Input::Validated`].
    Validate(Ask, Vec<Slot>),
    /// Start nothing more in a slot, let what runs end, resolve unknown outcomes, drop the slot's
    /// memory. → [`Input::WritesSettled`].
    CloseSlot(Fence),
    /// Set the mark that the slot is let go, if the record still is this fence's. → [`Input::ReleaseDone`].
    Release {
        /// The question.
        ask: Ask,
        /// Of which claim.
        fence: Fence,
        /// For which node.
        to: Option<NodeId>,
    },
    /// The slot is lost: drop its memory and whatever runs in it, announce nothing more. Calls that ran
    /// are looked after by the machine.
    Lost(Fence),
    /// Tell the nodes that have sessions in the slot that it is here no more ([`Input::PeerMoved`]).
    TellMoved(Slot),
    /// Gossip these slots as open here.
    Publish(Box<SlotSet>),
    /// The claim's epoch is lower than one seen before: storage was put back. Tell the operator; the
    /// slot stays closed until [`Input::Restored`].
    StepBack {
        /// The slot.
        slot: Slot,
        /// The highest epoch seen.
        seen: Epoch,
        /// The one that storage has now; `None`: no record.
        found: Option<Epoch>,
    },
    /// A later incarnation of this node has claims: end this process.
    Superseded,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counts {
    /// Slots claimed that nobody had.
    pub opened: u64,
    /// Slots claimed from a node that was taken to be dead.
    pub taken_over: u64,
    /// Slots let go.
    pub released: u64,
    /// Slots lost to another node.
    pub lost: u64,
    /// Answers to questions that were moot by then.
    pub moot: u64,
}

/// One node's ownership of slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    me: NodeId,
    generation: Generation,
    timing: Timing,
    draining: bool,
    superseded: bool,
    places: BTreeMap<Slot, Place>,
    /// Slots whose place has a fence: what is gossiped.
    open: Aside<SlotSet>,
    /// When pauses end.
    wakes: Aside<BTreeSet<(Duration, Slot)>>,
    calls: Pending,
    asked: u64,
    /// The validation that is under way, and when it was begun.
    validating: Option<(Ask, Duration)>,
    /// When the next regular one is due; earlier than need be where a slot was lost since.
    regular: Option<Duration>,
    /// Storage did not answer the last one: none before this.
    validate_from: Duration,
    /// Slots with calls that wait for the next one.
    unvalidated: BTreeSet<Slot>,
    counts: Aside<Counts>,
}

/// One input's time, surroundings and actions.
struct Turn<'a> {
    at: Moment,
    near: &'a dyn Neighbours,
    out: Vec<Action>,
}

impl Ownership {
    /// A node that holds nothing yet. `generation` must be higher than that of any earlier start.
    pub fn new(me: NodeId, generation: Generation, timing: Timing) -> Self {
        Self {
            me,
            generation,
            timing,
            draining: false,
            superseded: false,
            places: BTreeMap::new(),
            open: Aside::default(),
            wakes: Aside::default(),
            calls: Pending::default(),
            asked: 0,
            validating: None,
            regular: None,
            validate_from: Duration::ZERO,
            unvalidated: BTreeSet::new(),
            counts: Aside::default(),
        }
    }

    /// Takes one input and says what is to be done. The time must never go back.
    pub fn handle(&mut self, at: Moment, near: &dyn Neighbours, input: Input) -> Vec<Action> {
        let mut turn = Turn { at, near, out: Vec::new() };
        let before = self.open.0.clone();
        self.dispatch(&mut turn, input);
        self.start_validation(&mut turn);
        if before != self.open.0 {
            turn.out.push(Action::Publish(Box::new(self.open.0.clone())));
        }
        turn.out
    }

    fn dispatch(&mut self, turn: &mut Turn<'_>, input: Input) {
        match input {
            Input::CallArrived(id, call) => self.arrive(turn, id, call),
            Input::CallGone(id) => drop(self.calls.finish(id)),
            Input::RanHere(id, attempt, ran) => self.ran(turn, id, attempt, ran),
            Input::PeerAnswered(id, attempt, answer) => self.answered(turn, id, attempt, answer),
            Input::RecordRead(ask, slot, record) => self.record_read(turn, ask, slot, record),
            Input::BeatRead(ask, slot, beat) => self.beat_read(turn, ask, slot, beat),
            Input::ClaimDone(ask, slot, claimed) => self.claim_done(turn, ask, slot, claimed),
            Input::Validated(ask, records) => self.validated(turn, ask, records),
            Input::Fenced(slot, epoch) => self.fenced(turn, slot, epoch),
            Input::SlotIdle(slot) => self.idle(turn, slot),
            Input::HandOver(slot, to) => self.hand_over(turn, slot, to),
            Input::Drain => self.drain(turn),
            Input::WritesSettled(slot, epoch) => self.settled(turn, slot, epoch),
            Input::ReleaseDone(ask, slot, done) => self.release_done(turn, ask, slot, done),
            Input::PeerMoved(slot, node) => self.peer_moved(slot, &node),
            Input::TableChanged => self.table_changed(turn),
            Input::Restored => self.places.values_mut().for_each(Place::forget_epochs),
            Input::Tick => self.tick(turn),
        }
    }

    /// Slots that this node has open: what it gossips. A slot that is being closed still counts, so
    /// that calls for it come here and wait.
    pub fn open_slots(&self) -> &SlotSet {
        &self.open.0
    }

    /// The fence of a slot, while calls may run in it.
    pub fn fence(&self, slot: Slot) -> Option<Fence> {
        self.places.get(&slot)?.serving()
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn next_wake(&self) -> Option<Duration> {
        let places = self.wakes.0.first().map(|(wake, _)| *wake);
        let held = self.validating.is_none().then(|| self.next_validation()).flatten();
        places.into_iter().chain(self.calls.next_deadline()).chain(held).min()
    }

    /// Whether a node that drains has let everything go, and no claim of it is under way.
    pub fn is_drained(&self) -> bool {
        let claiming = |place: &Place| matches!(place.phase, Phase::Claiming(..));
        self.draining && self.open_slots().is_empty() && !self.places.values().any(claiming)
    }

    /// The calls on their way.
    pub fn calls(&self) -> &Pending {
        &self.calls
    }

    /// What has been counted.
    pub fn counts(&self) -> (Counts, PendingCounts) {
        (self.counts.0, self.calls.counts())
    }

    fn ask(&mut self) -> Ask {
        self.asked += 1;
        Ask(self.asked)
    }

    /// The one way from a phase to the next.
    fn enter(&mut self, slot: Slot, phase: Phase) {
        let place = self.places.entry(slot).or_default();
        if let Some(wake) = place.wake() {
            self.wakes.0.remove(&(wake, slot));
        }
        place.phase = phase;
        if let Some(wake) = place.wake() {
            self.wakes.0.insert((wake, slot));
        }
        match place.fence() {
            Some(_) => self.open.0.insert(slot),
            None => self.open.0.remove(slot),
        };
    }

    fn place(&mut self, slot: Slot) -> &mut Place {
        self.places.entry(slot).or_default()
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.at.now;
        for id in self.calls.expired(now) {
            self.fail(turn, id, Why::Late);
        }
        let due = self.wakes.0.range(..=(now, Slot(u16::MAX)));
        for slot in due.map(|(_, slot)| *slot).collect::<Vec<_>>() {
            self.wake(turn, slot);
        }
        if self.draining {
            self.close_some(turn);
        }
    }
}
