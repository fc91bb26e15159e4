//! Drives the ownership machine of `core::cluster`: performs what it says, and tells it what has become of
//! that. Everything that decides is in there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use postroom_core::cluster::table::Changed;
use postroom_core::cluster::{
    Action, Ask, Attempt, CallId, Claimed, Fence, Generation, Input, Moment, NewCall, NoAnswer,
    NodeId, Ownership, PeerAnswer, Ran, Released, Sighting, SlotSet, Table, Timing, Why,
};
use postroom_core::error::StoreError;
use postroom_core::types::{Epoch, Slot};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::looks::Looks;
use super::record;
use crate::mailbox::{Accounts, Claims, random};
use crate::storage::Engine;

/// How long storage has for one question about a claim. Less than a heartbeat is good for: whoever cannot
/// ask for longer may not be the owner any more.
const ASK_TIME: Duration = Duration::from_secs(3);
/// How long a call to another node has no answer before it is looked whether that node lives, and how often
/// after that.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How many slots may be told of as moved before whoever tells the peers has looked: a whole node's.
const MOVED_BACKLOG: usize = postroom_core::types::SLOTS as usize;

/// What a call is to do next.
#[derive(Clone, Debug)]
enum Step {
    /// Nothing.
    Wait,
    /// Run here.
    Here(Attempt, Fence),
    /// Go to another node.
    There { attempt: Attempt, node: NodeId, open: bool },
    /// Answer what the last attempt has brought.
    Answer,
    /// Say that the slot is not here.
    NotMine,
    /// Fail.
    Fail(Why),
}

/// A call that runs here.
pub type Here<'a, T> = BoxFuture<'a, Result<T, StoreError>>;
/// A call at another node; the inner result is what the call came to.
pub type There<'a, T> = BoxFuture<'a, Result<Result<T, StoreError>, NoReply>>;

/// A call that another node has not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoReply {
    /// What is known of that node.
    pub answer: PeerAnswer,
    /// Whether the call may have had an effect all the same.
    pub uncertain: bool,
}

impl NoReply {
    /// That node says that the call is not for it. Nothing was done.
    pub fn not_mine() -> Self {
        Self { answer: PeerAnswer::NotMine { hint: None }, uncertain: false }
    }

    /// There is an answer that cannot be read, or none: it may have been done.
    pub fn lost() -> Self {
        Self { answer: PeerAnswer::Unreachable, uncertain: true }
    }
}

/// How a call has ended.
#[derive(Clone, Debug)]
pub enum Ended<T> {
    /// With an answer; whether an attempt before may have had its effect all the same.
    Answered(Result<T, StoreError>, bool),
    /// The slot is not here; whether an attempt may have had its effect all the same.
    NotMine(bool),
    /// Without one; whether it was tried, so that it may have had an effect.
    Failed(Why, bool),
}

impl<T> Ended<T> {
    /// What the call comes to; none: the slot is not here, and nothing was done. Of a write that may have
    /// taken effect it is never said that it has not: whoever takes it for not done would do it twice.
    pub fn settled(self, writes: bool) -> Option<Result<T, StoreError>> {
        match self {
            Self::Answered(Err(StoreError::Busy(_) | StoreError::Unavailable(_)), true)
            | Self::NotMine(true)
            | Self::Failed(_, true)
                if writes =>
            {
                Some(Err(StoreError::UnknownOutcome))
            }
            Self::Answered(answer, _) => Some(answer),
            // A later start of this node has the slot, or somebody else.
            Self::NotMine(_) | Self::Failed(Why::Superseded, false) => None,
            Self::Failed(why, _) => Some(Err(why.into())),
        }
    }
}

/// One node's ownership of slots.
pub struct Owner {
    me: NodeId,
    generation: Generation,
    engine: Arc<dyn Engine>,
    accounts: Accounts,
    claims: Arc<Claims>,
    state: Mutex<State>,
    /// When the machine wants to be asked again may have changed.
    sooner: Notify,
    open: watch::Sender<SlotSet>,
    moved: broadcast::Sender<Slot>,
    superseded: CancellationToken,
    timing: Timing,
    looks: Looks,
    /// Calls are not carried any more.
    stopped: CancellationToken,
}

struct State {
    machine: Ownership,
    table: Table,
    calls: HashMap<CallId, watch::Sender<Step>>,
    /// Slots of which it was said that storage went back.
    stepped_back: SlotSet,
    last: u64,
}

impl Owner {
    /// A node that holds nothing. [`run`](Self::run) gives it time.
    pub fn new(
        (me, generation): (NodeId, Generation),
        engine: Arc<dyn Engine>,
        accounts: Accounts,
        timing: Timing,
    ) -> Arc<Self> {
        let state = State {
            machine: Ownership::new(me.clone(), generation, timing),
            table: Table::new(me.clone()),
            calls: HashMap::new(),
            stepped_back: SlotSet::default(),
            last: 0,
        };
        let owner = Arc::new(Self {
            me,
            generation,
            engine,
            claims: accounts.env().claims.clone(),
            accounts,
            state: Mutex::new(state),
            sooner: Notify::new(),
            open: watch::channel(SlotSet::default()).0,
            moved: broadcast::channel(MOVED_BACKLOG).0,
            superseded: CancellationToken::new(),
            timing,
            looks: Looks::default(),
            stopped: CancellationToken::new(),
        });
        let told = Arc::downgrade(&owner);
        owner.claims.tell(move |fence| {
            if let Some(owner) = told.upgrade() {
                owner.input(Input::Fenced(fence.slot, fence.epoch));
            }
        });
        owner
    }

    /// Ends all calls, and takes no more: nobody gives the machine time any more.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots that are open here, as they change.
    pub fn open(&self) -> watch::Receiver<SlotSet> {
        self.open.subscribe()
    }

    /// Slots that have left this node.
    pub fn moved(&self) -> broadcast::Receiver<Slot> {
        self.moved.subscribe()
    }

    /// Cancelled when a later start of this node has been seen: this process must end.
    pub fn superseded(&self) -> &CancellationToken {
        &self.superseded
    }

    /// Looks at the table and the machine.
    pub fn look<T>(&self, look: impl FnOnce(&Table, &Ownership) -> T) -> T {
        let state = self.state();
        look(&state.table, &state.machine)
    }

    /// Takes all that gossip has at the moment.
    pub fn hear(self: &Arc<Self>, sightings: Vec<Sighting>) -> Changed {
        let changed = self.state().table.hear(sightings);
        self.input(Input::TableChanged);
        changed
    }

    /// Tells the machine what has happened.
    pub fn input(self: &Arc<Self>, input: Input) {
        let mut jitter = [0; 2];
        // Without randomness pauses are full.
        let _ = getrandom::fill(&mut jitter);
        let at = Moment { now: record::now(), jitter: u16::from_be_bytes(jitter) };
        let mut state = self.state();
        let State { machine, table, calls, stepped_back, .. } = &mut *state;
        // Performed under the lock: what two inputs bring about keeps its order. Nothing here waits.
        for action in machine.handle(at, table, input) {
            self.perform((calls, stepped_back), action);
        }
        drop(state);
        self.sooner.notify_one();
    }

    fn perform(
        self: &Arc<Self>,
        (calls, stepped_back): (&HashMap<CallId, watch::Sender<Step>>, &mut SlotSet),
        action: Action,
    ) {
        let step = |call: CallId, step: Step| {
            if let Some(steps) = calls.get(&call) {
                steps.send_replace(step);
            }
        };
        match action {
            Action::RunHere(call, attempt, fence) => {
                if self.claims.hold(fence) {
                    // Whatever is still there is of a claim before this one.
                    self.accounts.abandon_slot(fence.slot);
                }
                step(call, Step::Here(attempt, fence));
            }
            Action::SendTo { call, attempt, node, open } => {
                step(call, Step::There { attempt, node, open });
            }
            Action::Answer(call) => step(call, Step::Answer),
            Action::NotMine { call, .. } => step(call, Step::NotMine),
            Action::Fail(call, why) => step(call, Step::Fail(why)),
            Action::Lost(fence) => {
                warn!(
                    slot = fence.slot.0,
                    epoch = fence.epoch.0,
                    "the slot is lost to another node"
                );
                self.claims.lost(fence);
                self.accounts.abandon_slot(fence.slot);
            }
            // Nobody listening is no harm: sessions ask.
            Action::TellMoved(slot) => drop(self.moved.send(slot)),
            Action::Publish(slots) => drop(self.open.send_replace(*slots)),
            Action::StepBack { slot, seen, found } if stepped_back.insert(slot) => {
                error!(
                    slot = slot.0,
                    seen = seen.0,
                    found = found.map(|epoch| epoch.0),
                    "storage is older than it was: the slot stays closed until `postroom cluster restored`"
                );
            }
            Action::StepBack { .. } => {}
            Action::Superseded => {
                error!("a later start of this node has claims: this process ends");
                self.superseded.cancel();
            }
            Action::ReadRecord(..)
            | Action::ReadBeat(..)
            | Action::Claim { .. }
            | Action::Validate(..)
            | Action::CloseSlot(_)
            | Action::Release { .. } => {
                let owner = self.clone();
                tokio::spawn(async move {
                    let answer = owner.ask(action).await;
                    owner.input(answer);
                });
            }
        }
    }

    /// Asks storage, or this node's accounts, and says what they answer.
    async fn ask(&self, action: Action) -> Input {
        match action {
            Action::ReadRecord(ask, slot) => {
                let read = in_time(record::claim(&*self.engine, slot)).await;
                Input::RecordRead(ask, slot, read)
            }
            Action::ReadBeat(ask, slot, node) => {
                Input::BeatRead(ask, slot, in_time(record::beat(&*self.engine, &node)).await)
            }
            Action::Claim { ask, slot, previous } => {
                Input::ClaimDone(ask, slot, self.claim(slot, previous).await)
            }
            Action::Validate(ask, slots) => self.validate(ask, slots).await,
            Action::CloseSlot(fence) => {
                self.accounts.close_slot(fence.slot).await;
                self.claims.lost(fence);
                Input::WritesSettled(fence.slot, fence.epoch)
            }
            Action::Release { ask, fence, .. } => {
                let released = in_time(record::release(&*self.engine, &fence)).await;
                let released = match released {
                    Ok(true) => {
                        info!(slot = fence.slot.0, epoch = fence.epoch.0, "the slot is let go");
                        Released::Done
                    }
                    Ok(false) => Released::Conflict,
                    Err(NoAnswer) => Released::NoAnswer,
                };
                Input::ReleaseDone(ask, fence.slot, released)
            }
            // What is performed at once asks nothing.
            _ => Input::Tick,
        }
    }

    async fn claim(&self, slot: Slot, previous: Option<Epoch>) -> Claimed {
        let claimant = (self.me.as_str(), self.generation.0, random());
        match in_time(record::take(&*self.engine, slot, claimant, previous)).await {
            Ok(Some(fence)) => {
                info!(slot = slot.0, epoch = fence.epoch.0, "the slot is open here");
                Claimed::Held(fence)
            }
            Ok(None) => Claimed::Conflict,
            Err(NoAnswer) => Claimed::NoAnswer,
        }
    }

    async fn validate(&self, ask: Ask, slots: Vec<Slot>) -> Input {
        Input::Validated(ask, in_time(record::claims(&*self.engine, slots)).await)
    }

    /// Gives the machine time, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let wake = self.state().machine.next_wake();
            let rest = wake.map(|wake| wake.saturating_sub(record::now()));
            // Cancel-safe both: a notice that is not taken stays.
            tokio::select! {
                () = self.sooner.notified() => {}
                () = sleep_for(rest) => self.input(Input::Tick),
            }
        }
    }

    /// Carries a call to its end: here under a fence, or by another node.
    pub async fn carry<'a, T>(
        self: &Arc<Self>,
        call: NewCall,
        here: impl Fn(Fence) -> Here<'a, T>,
        there: impl Fn(NodeId, bool) -> There<'a, T>,
    ) -> Ended<T> {
        let (id, mut steps) = self.register();
        let _registered = Registered { owner: self.clone(), id };
        self.input(Input::CallArrived(id, call));
        let (mut outcome, mut tried, mut uncertain) = (None, false, false);
        loop {
            let step = steps.borrow_and_update().clone();
            match step {
                Step::Wait => {}
                Step::Here(attempt, fence) => {
                    tried = true;
                    let done = tokio::select! {
                        // A write that was taken up goes on when this is dropped.
                        done = here(fence) => done,
                        _ = steps.changed() => {
                            uncertain = true;
                            continue;
                        }
                    };
                    let ran = match &done {
                        Err(StoreError::Fenced) => Ran::Fenced,
                        _ => Ran::Done,
                    };
                    outcome = Some(done);
                    self.input(Input::RanHere(id, attempt, ran));
                }
                Step::There { attempt, node, open } => {
                    tried = true;
                    let done = tokio::select! {
                        done = there(node.clone(), open) => done,
                        // It lost storage, or is halted: nothing comes over a link that still stands.
                        () = self.silent(&node) => Err(NoReply::lost()),
                        _ = steps.changed() => {
                            uncertain = true;
                            continue;
                        }
                    };
                    let answer = match done {
                        Ok(done) => {
                            outcome = Some(done);
                            PeerAnswer::Done
                        }
                        Err(lost) => {
                            uncertain |= lost.uncertain;
                            lost.answer
                        }
                    };
                    self.input(Input::PeerAnswered(id, attempt, answer));
                }
                Step::Answer => {
                    let lost = Err(StoreError::UnknownOutcome);
                    return Ended::Answered(outcome.unwrap_or(lost), uncertain);
                }
                Step::NotMine => {
                    // It may have ended well here just before the slot was lost.
                    return Ended::NotMine(uncertain || matches!(outcome, Some(Ok(_))));
                }
                Step::Fail(why) => return Ended::Failed(why, tried),
            }
            tokio::select! {
                // It fails only when the sender is gone, which `_registered` keeps.
                _ = steps.changed() => {}
                () = self.stopped.cancelled() => return Ended::Failed(Why::Late, tried),
            }
        }
    }

    /// Comes back when a node's heartbeat says that it is dead.
    async fn silent(&self, node: &NodeId) {
        loop {
            tokio::time::sleep(LOOK_AFTER).await;
            let look = || {
                let (engine, node) = (self.engine.clone(), node.clone());
                let stale = self.timing.beat_stale;
                let look = async move {
                    let beat = in_time(record::beat(&*engine, &node)).await;
                    // Storage that does not answer says nothing of the node.
                    beat.is_ok_and(|beat| beat.is_none_or(|beat| beat.age > stale))
                };
                look.boxed()
            };
            if self.looks.is_dead(node, Instant::now(), look).await {
                return;
            }
        }
    }

    fn register(&self) -> (CallId, watch::Receiver<Step>) {
        let mut state = self.state();
        state.last += 1;
        let id = CallId(state.last);
        let (give, steps) = watch::channel(Step::Wait);
        state.calls.insert(id, give);
        (id, steps)
    }
}

/// Takes a call out however it ends.
struct Registered {
    owner: Arc<Owner>,
    id: CallId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.owner.state().calls.remove(&self.id);
        self.owner.input(Input::CallGone(self.id));
    }
}

async fn in_time<T>(ask: impl Future<Output = Result<T, NoAnswer>>) -> Result<T, NoAnswer> {
    tokio::time::timeout(ASK_TIME, ask).await.unwrap_or(Err(NoAnswer))
}

async fn sleep_for(rest: Option<Duration>) {
    match rest {
        Some(rest) => tokio::time::sleep(rest).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_may_have_been_done_is_never_said_not_to_have_been() {
        let unknown = || Some(Err(StoreError::UnknownOutcome));
        let away = || StoreError::Unavailable("away".into());
        let late = || Some(Err(StoreError::from(Why::Late)));
        let table = [
            // What a call ended with, and what that is for a write, and for another call.
            (Ended::Answered(Ok(1), true), Some(Ok(1)), Some(Ok(1))),
            (Ended::Answered(Err(away()), false), Some(Err(away())), Some(Err(away()))),
            (Ended::Answered(Err(away()), true), unknown(), Some(Err(away()))),
            (Ended::NotMine(false), None, None),
            (Ended::NotMine(true), unknown(), None),
            (Ended::Failed(Why::Late, false), late(), late()),
            (Ended::Failed(Why::Late, true), unknown(), late()),
            (Ended::Failed(Why::Superseded, false), None, None),
        ];
        for (ended, of_write, of_other) in table {
            assert_eq!(ended.clone().settled(true), of_write, "{ended:?}");
            assert_eq!(ended.clone().settled(false), of_other, "{ended:?}");
        }
    }
}
