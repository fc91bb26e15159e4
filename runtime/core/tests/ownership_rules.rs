//! One machine alone, case by case: the rules of ownership as a driver meets them.

use std::collections::BTreeMap;
use std::time::Duration;

use postroom_core::cluster::limits::{MAX_CALLS_PER_SLOT, MAX_CLOSING};
use postroom_core::cluster::{
    Action, Ask, Attempt, Beat, CallId, CallKind, ClaimRecord, Claimant, Claimed, Fence,
    Generation, Holder, Input, Moment, Neighbours, NewCall, NoAnswer, NodeId, Origin, Ownership,
    PeerAnswer, Ran, Release, Released, Standing, Timing, Why,
};
use postroom_core::types::{Epoch, Slot, TransactionId};

const SLOT: Slot = Slot(5);
const LOCAL: Origin = Origin::Local;
const PEER: Origin = Origin::Peer { open: false };

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn fence(slot: Slot, epoch: u64) -> Fence {
    Fence { slot, epoch: Epoch(epoch), nonce: [epoch as u8; 16] }
}

fn record(name: &str, generation: u64, epoch: u64) -> ClaimRecord {
    let generation = Generation(generation);
    let claimant = Claimant { node: id(name), generation, nonce: [epoch as u8; 16] };
    ClaimRecord { epoch: Epoch(epoch), claimant, released: None }
}

fn released(name: &str, epoch: u64, to: Option<&str>) -> ClaimRecord {
    let released = Some(Release { to: to.map(id) });
    ClaimRecord { released, ..record(name, 1, epoch) }
}

/// What node `me` hears, as a test sets it.
struct Heard {
    holder: Holder,
    standing: Standing,
    takes: Vec<NodeId>,
}

impl Neighbours for Heard {
    fn holder(&self, _: Slot) -> Holder {
        self.holder.clone()
    }

    fn standing(&self, _: &Claimant) -> Standing {
        self.standing
    }

    fn takes_slots(&self, node: &NodeId) -> bool {
        self.takes.contains(node)
    }

    fn deputy(&self, _: Slot) -> Option<NodeId> {
        self.takes.first().cloned()
    }
}

/// A machine, what it hears, the time, and the number of the last call and of the last question.
struct Desk {
    machine: Ownership,
    heard: Heard,
    now: Duration,
    calls: u64,
    last_ask: Ask,
}

impl Desk {
    fn new() -> Self {
        Self {
            machine: Ownership::new(id("me"), Generation(3), Timing::default()),
            heard: Heard { holder: Holder::Nobody, standing: Standing::Live, takes: vec![] },
            now: Duration::from_secs(100),
            calls: 0,
            last_ask: Ask(0),
        }
    }

    /// What the machine does, without what it gossips.
    fn give(&mut self, input: Input) -> Vec<Action> {
        let moment = Moment { now: self.now, jitter: 0 };
        let mut actions = self.machine.handle(moment, &self.heard, input);
        actions.retain(|action| !matches!(action, Action::Publish(_)));
        for action in &actions {
            match action {
                Action::ReadRecord(ask, _)
                | Action::ReadBeat(ask, ..)
                | Action::Claim { ask, .. }
                | Action::Validate(ask, _)
                | Action::Release { ask, .. } => self.last_ask = *ask,
                _ => {}
            }
        }
        actions
    }

    fn wait(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.give(Input::Tick)
    }

    fn call_for(&mut self, slot: Slot, kind: CallKind, origin: Origin) -> Vec<Action> {
        self.calls += 1;
        let deadline = self.now + Duration::from_secs(30);
        let transaction = TransactionId([self.calls as u8; 16]);
        let call = NewCall { transaction, slot, kind, origin, deadline };
        self.give(Input::CallArrived(CallId(self.calls), call))
    }

    fn call(&mut self, kind: CallKind, origin: Origin) -> Vec<Action> {
        self.call_for(SLOT, kind, origin)
    }

    fn read(&mut self, record: Option<ClaimRecord>) -> Vec<Action> {
        self.give(Input::RecordRead(self.last_ask, SLOT, Ok(record)))
    }

    fn beat(&mut self, generation: u64, age: u64) -> Vec<Action> {
        let beat = Beat { generation: Generation(generation), age: Duration::from_secs(age) };
        self.give(Input::BeatRead(self.last_ask, SLOT, Ok(Some(beat))))
    }

    fn claimed(&mut self, epoch: u64) -> Vec<Action> {
        self.give(Input::ClaimDone(self.last_ask, SLOT, Claimed::Held(fence(SLOT, epoch))))
    }

    fn validated(&mut self, record: ClaimRecord) -> Vec<Action> {
        let records = BTreeMap::from([(SLOT, Some(record))]);
        self.give(Input::Validated(self.last_ask, Ok(records)))
    }

    /// This node holds the slot at epoch 1, and has run a write.
    fn holding() -> Self {
        let mut desk = Self::new();
        desk.call(CallKind::Write, LOCAL);
        desk.read(None);
        desk.claimed(1);
        let done = desk.give(Input::RanHere(CallId(1), Attempt(1), Ran::Done));
        assert_eq!(done, [Action::Answer(CallId(1))]);
        desk
    }

    fn look(&self) -> Action {
        Action::ReadRecord(self.last_ask, SLOT)
    }

    fn claim(&self, previous: Option<u64>) -> Action {
        Action::Claim { ask: self.last_ask, slot: SLOT, previous: previous.map(Epoch) }
    }
}

fn send(call: u64, attempt: u32, to: &str, open: bool) -> Action {
    Action::SendTo { call: CallId(call), attempt: Attempt(attempt), node: id(to), open }
}

fn run(call: u64, attempt: u32, epoch: u64) -> Action {
    Action::RunHere(CallId(call), Attempt(attempt), fence(SLOT, epoch))
}

fn not_mine(hint: Option<&str>) -> PeerAnswer {
    PeerAnswer::NotMine { hint: hint.map(id) }
}

#[test]
fn e3_nobody_has_it_open_the_local_node_opens_it() {
    let mut desk = Desk::new();
    assert_eq!(desk.call(CallKind::Write, LOCAL), [desk.look()]);
    assert_eq!(desk.call(CallKind::Read, LOCAL), [], "it waits for the same look");
    assert_eq!(desk.read(None), [desk.claim(None)]);
    assert_eq!(desk.claimed(1), [run(1, 1, 1), run(2, 1, 1)]);
    assert_eq!(desk.machine.open_slots().iter().collect::<Vec<_>>(), [SLOT]);
}

#[test]
fn e3_a_peers_call_opens_nothing_unless_it_asks_for_that() {
    let mut desk = Desk::new();
    assert_eq!(desk.call(CallKind::Write, PEER), [desk.look()]);
    assert_eq!(desk.read(None), [Action::NotMine { call: CallId(1), hint: None }]);
    desk.call(CallKind::Write, Origin::Peer { open: true });
    assert_eq!(desk.read(None), [desk.claim(None)]);
}

#[test]
fn e2_a_call_goes_where_the_table_says_and_where_the_record_says() {
    let mut desk = Desk::new();
    desk.heard.holder = Holder::One(id("b"));
    assert_eq!(desk.call(CallKind::Write, LOCAL), [send(1, 1, "b", false)]);
    desk.heard.holder = Holder::Several(vec![id("b"), id("c")]);
    assert_eq!(desk.call(CallKind::Write, LOCAL), [desk.look()]);
    assert_eq!(desk.read(Some(record("c", 1, 4))), [send(2, 1, "c", false)]);
    assert_eq!(desk.call(CallKind::Write, LOCAL), [send(3, 1, "c", false)]);
    let done = desk.give(Input::PeerAnswered(CallId(3), Attempt(1), PeerAnswer::Done));
    assert_eq!(done, [Action::Answer(CallId(3))]);
    let twice = desk.give(Input::PeerAnswered(CallId(3), Attempt(1), PeerAnswer::Done));
    assert_eq!(twice, []);
}

#[test]
fn not_mine_means_look_at_the_record_whatever_the_hint() {
    let mut desk = Desk::new();
    desk.heard.holder = Holder::One(id("b"));
    desk.call(CallKind::Write, LOCAL);
    let answer = Input::PeerAnswered(CallId(1), Attempt(1), not_mine(Some("c")));
    assert_eq!(desk.give(answer), [desk.look()]);
    assert_eq!(desk.read(Some(record("d", 1, 4))), [send(1, 2, "d", false)]);
    let answer = Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Done);
    assert_eq!(desk.give(answer), [], "an answer of the attempt before counts no more");
}

#[test]
fn a_node_that_is_named_and_declines_is_asked_again_after_a_pause() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    desk.read(Some(record("b", 1, 4)));
    desk.give(Input::PeerAnswered(CallId(1), Attempt(1), not_mine(None)));
    assert_eq!(desk.read(Some(record("b", 1, 4))), []);
    assert_eq!(desk.wait(Duration::from_millis(19)), []);
    assert_eq!(desk.wait(Duration::from_millis(1)), [desk.look()]);
    assert_eq!(desk.read(Some(record("b", 1, 4))), [send(1, 2, "b", false)]);
}

#[test]
fn one_broken_link_moves_no_slot() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    desk.read(Some(record("b", 1, 4)));
    for attempt in 1..20 {
        desk.give(Input::PeerAnswered(CallId(1), Attempt(attempt), PeerAnswer::Unreachable));
        let doubted = desk.read(Some(record("b", 1, 4)));
        assert_eq!(doubted, [Action::ReadBeat(desk.last_ask, SLOT, id("b"))]);
        assert_eq!(desk.beat(1, 1), [], "it lives: wait");
        assert_eq!(desk.wait(Duration::from_millis(500)), [desk.look()]);
        assert_eq!(desk.read(Some(record("b", 1, 4))), [send(1, attempt + 1, "b", false)]);
    }
    desk.give(Input::PeerAnswered(CallId(1), Attempt(20), PeerAnswer::Unreachable));
    desk.now += Duration::from_secs(30);
    assert_eq!(desk.give(Input::Tick), [Action::Fail(CallId(1), Why::Late)]);
}

#[test]
fn e6_a_dead_owners_slot_is_taken_over() {
    type Death = fn(&mut Desk) -> Vec<Action>;
    let dead: [(&str, Death); 4] = [
        ("its heartbeat is stale", |desk| {
            desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Unreachable));
            desk.read(Some(record("b", 1, 4)));
            desk.beat(1, 5)
        }),
        ("it has been started again", |desk| {
            desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Unreachable));
            desk.read(Some(record("b", 1, 4)));
            desk.beat(2, 0)
        }),
        ("its process does not listen", |desk| {
            desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Refused));
            desk.read(Some(record("b", 1, 4)));
            desk.beat(1, 1)
        }),
        ("the table knows that it has ended", |desk| {
            desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Unreachable));
            desk.heard.standing = Standing::Gone;
            desk.read(Some(record("b", 1, 4)))
        }),
    ];
    for (why, die) in dead {
        let mut desk = Desk::new();
        desk.call(CallKind::Write, LOCAL);
        desk.read(Some(record("b", 1, 4)));
        assert_eq!(die(&mut desk), [desk.claim(Some(4))], "{why}");
        assert_eq!(desk.claimed(5), [run(1, 2, 5)], "{why}");
        assert_eq!(desk.machine.counts().0.taken_over, 1, "{why}");
    }
}

#[test]
fn a_refusal_from_before_a_node_was_started_again_takes_nothing_from_it() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    desk.read(Some(record("b", 1, 4)));
    desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Refused));
    desk.now += Duration::from_secs(2);
    desk.read(Some(record("b", 2, 5)));
    assert_eq!(desk.beat(2, 1), [], "it has beaten since");
    assert_eq!(desk.wait(Duration::from_millis(20)), [desk.look()]);
}

#[test]
fn a_claim_seen_to_be_new_is_not_taken_before_its_tenure_is_over() {
    let mut desk = Desk::holding();
    desk.call(CallKind::Write, LOCAL);
    let lost = desk.give(Input::RanHere(CallId(2), Attempt(1), Ran::Fenced));
    let gone = [Action::Lost(fence(SLOT, 1)), Action::TellMoved(SLOT), desk.look()];
    assert_eq!(lost, gone);
    desk.heard.standing = Standing::Unsure;
    desk.read(Some(record("b", 1, 2)));
    assert_eq!(desk.beat(1, 9), [], "the other node has only just claimed");
    assert_eq!(desk.wait(Duration::from_millis(1999)), []);
    assert_eq!(desk.wait(Duration::from_millis(1)), [desk.look()]);
    desk.read(Some(record("b", 1, 2)));
    assert_eq!(desk.beat(1, 9), [desk.claim(Some(2))]);
}

#[test]
fn a_fenced_node_drops_its_memory_and_its_calls_go_to_the_new_owner_under_their_ids() {
    let mut desk = Desk::holding();
    desk.call(CallKind::Write, LOCAL);
    desk.call(CallKind::Write, PEER);
    let lost = desk.give(Input::Fenced(SLOT, Epoch(1)));
    let passed_back = Action::NotMine { call: CallId(3), hint: None };
    let (dropped, told) = (Action::Lost(fence(SLOT, 1)), Action::TellMoved(SLOT));
    assert_eq!(lost, [dropped, told, passed_back, desk.look()]);
    assert_eq!(desk.read(Some(record("b", 1, 2))), [send(2, 2, "b", false)]);
    assert_eq!(desk.give(Input::RanHere(CallId(2), Attempt(1), Ran::Done)), [], "too late");
    assert_eq!(desk.give(Input::Fenced(SLOT, Epoch(1))), [], "no news");
    assert!(desk.machine.open_slots().is_empty());
}

#[test]
fn e6_a_drain_settles_what_runs_then_releases_and_calls_that_waited_go_on() {
    let mut desk = Desk::holding();
    desk.heard.takes = vec![id("b")];
    desk.call(CallKind::Write, LOCAL);
    assert_eq!(desk.give(Input::Drain), [], "a call runs");
    assert_eq!(desk.call(CallKind::Write, LOCAL), [], "not started any more");
    assert_eq!(desk.call(CallKind::Write, PEER), []);
    let done = desk.give(Input::RanHere(CallId(2), Attempt(1), Ran::Done));
    assert_eq!(done, [Action::Answer(CallId(2)), Action::CloseSlot(fence(SLOT, 1))]);
    let settled = desk.give(Input::WritesSettled(SLOT, Epoch(1)));
    let release = Action::Release { ask: desk.last_ask, fence: fence(SLOT, 1), to: None };
    assert_eq!(settled, [release]);
    assert!(!desk.machine.is_drained());
    let gone = desk.give(Input::ReleaseDone(desk.last_ask, SLOT, Released::Done));
    let passed_back = Action::NotMine { call: CallId(4), hint: None };
    assert_eq!(gone, [Action::TellMoved(SLOT), passed_back, desk.look()]);
    assert!(desk.machine.is_drained());
    let sent = desk.read(Some(released("me", 1, None)));
    assert_eq!(sent, [send(3, 1, "b", true)], "another node is asked to open it");
}

#[test]
fn a_release_without_an_answer_is_asked_for_again() {
    let mut desk = Desk::holding();
    desk.give(Input::Drain);
    desk.give(Input::WritesSettled(SLOT, Epoch(1)));
    assert_eq!(desk.give(Input::ReleaseDone(desk.last_ask, SLOT, Released::NoAnswer)), []);
    let again = desk.wait(Duration::from_millis(20));
    assert_eq!(again, [Action::Release { ask: desk.last_ask, fence: fence(SLOT, 1), to: None }]);
    let lost = desk.give(Input::ReleaseDone(desk.last_ask, SLOT, Released::Conflict));
    assert_eq!(lost, [Action::Lost(fence(SLOT, 1)), Action::TellMoved(SLOT)]);
    assert!(desk.machine.is_drained());
}

#[test]
fn a_slot_that_was_let_go_for_a_node_goes_there_and_to_anybody_if_that_node_is_away() {
    for is_up in [true, false] {
        let mut desk = Desk::new();
        if is_up {
            desk.heard.takes = vec![id("c")];
        }
        desk.call(CallKind::Write, LOCAL);
        let actions = desk.read(Some(released("b", 4, Some("c"))));
        match is_up {
            true => {
                assert_eq!(actions, [send(1, 1, "c", true)]);
                desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Unreachable));
                let claimed = desk.read(Some(released("b", 4, Some("c"))));
                assert_eq!(claimed, [desk.claim(Some(4))]);
            }
            false => assert_eq!(actions, [desk.claim(Some(4))]),
        }
    }
}

#[test]
fn a_slot_is_handed_over_after_its_tenure_only_and_to_a_node_that_takes_it() {
    let mut desk = Desk::holding();
    desk.heard.takes = vec![id("b")];
    assert_eq!(desk.give(Input::HandOver(SLOT, id("b"))), [], "too young");
    desk.wait(Duration::from_secs(2));
    assert_eq!(desk.give(Input::HandOver(SLOT, id("c"))), [], "it takes none");
    assert_eq!(desk.give(Input::HandOver(SLOT, id("me"))), []);
    let closed = desk.give(Input::HandOver(SLOT, id("b")));
    assert_eq!(closed, [Action::CloseSlot(fence(SLOT, 1))]);
    // What waits here meanwhile goes there, and is not a reason to open the slot here again.
    desk.call(CallKind::Write, LOCAL);
    desk.give(Input::WritesSettled(SLOT, Epoch(1)));
    let gone = desk.give(Input::ReleaseDone(desk.last_ask, SLOT, Released::Done));
    assert_eq!(gone, [Action::TellMoved(SLOT), send(2, 1, "b", true)]);
}

#[test]
fn e5_a_slot_with_nothing_open_is_let_go_and_one_with_calls_is_not() {
    let mut desk = Desk::holding();
    desk.wait(Duration::from_secs(2));
    desk.call(CallKind::Write, LOCAL);
    assert_eq!(desk.give(Input::SlotIdle(SLOT)), []);
    desk.give(Input::RanHere(CallId(2), Attempt(1), Ran::Done));
    assert_eq!(desk.give(Input::SlotIdle(SLOT)), [Action::CloseSlot(fence(SLOT, 1))]);
}

#[test]
fn select_waits_for_a_validation_begun_after_it_and_shares_it() {
    let mut desk = Desk::holding();
    let first = desk.call(CallKind::Validated, LOCAL);
    assert_eq!(first, [Action::Validate(desk.last_ask, vec![SLOT])]);
    assert_eq!(desk.call(CallKind::Validated, LOCAL), [], "the next one is theirs");
    assert_eq!(desk.call(CallKind::Validated, PEER), []);
    assert_eq!(desk.call(CallKind::Read, LOCAL), [run(5, 1, 1)], "it may be a little behind");
    let next = desk.validated(record("me", 3, 1));
    assert_eq!(next, [run(2, 1, 1), Action::Validate(desk.last_ask, vec![SLOT])]);
    assert_eq!(desk.validated(record("me", 3, 1)), [run(3, 1, 1), run(4, 1, 1)]);
}

#[test]
fn a_validation_that_finds_another_claim_loses_the_slot() {
    let mut desk = Desk::holding();
    desk.call(CallKind::Validated, LOCAL);
    let lost = desk.validated(record("b", 1, 2));
    let gone = [Action::Lost(fence(SLOT, 1)), Action::TellMoved(SLOT), desk.look()];
    assert_eq!(lost, gone);
    let mut desk = Desk::holding();
    desk.call(CallKind::Validated, LOCAL);
    let lost = desk.validated(released("me", 1, None));
    assert_eq!(lost[0], Action::Lost(fence(SLOT, 1)), "a released claim is no claim");
}

#[test]
fn an_owner_that_cannot_validate_stops_answering_reads_and_goes_on_when_it_can() {
    let mut desk = Desk::holding();
    for _ in 0..5 {
        let asked = desk.wait(Duration::from_secs(1));
        assert_eq!(asked, [Action::Validate(desk.last_ask, vec![SLOT])]);
        desk.give(Input::Validated(desk.last_ask, Err(NoAnswer)));
    }
    assert_eq!(desk.call(CallKind::Read, LOCAL), [run(2, 1, 1)], "five seconds are allowed");
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.call(CallKind::Read, LOCAL), []);
    assert_eq!(desk.call(CallKind::Write, LOCAL), [run(4, 1, 1)], "the fence looks after it");
    let answered = desk.validated(record("me", 3, 1));
    assert_eq!(answered, [run(3, 1, 1)]);
}

#[test]
fn storage_that_does_not_answer_is_asked_again_at_growing_intervals_until_the_deadline() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    let mut pauses = Vec::new();
    let failed = loop {
        desk.give(Input::RecordRead(desk.last_ask, SLOT, Err(NoAnswer)));
        let wake = desk.machine.next_wake().expect("there is a deadline");
        pauses.push((wake - desk.now).as_millis());
        desk.now = wake;
        let actions = desk.give(Input::Tick);
        if actions != [desk.look()] {
            break actions;
        }
    };
    assert_eq!(pauses[..7], [20, 40, 80, 160, 320, 500, 500]);
    assert_eq!(failed, [Action::Fail(CallId(1), Why::Late)]);
    let error = postroom_core::error::StoreError::from(Why::Late);
    assert!(error.is_temporary(), "an MTA comes again: {error}");
}

#[test]
fn chance_shortens_a_pause_by_up_to_a_half() {
    for (jitter, millis) in [(0, 20), (u16::MAX / 2, 15), (u16::MAX, 10)] {
        let mut desk = Desk::new();
        desk.call(CallKind::Write, LOCAL);
        let moment = Moment { now: desk.now, jitter };
        let input = Input::RecordRead(desk.last_ask, SLOT, Err(NoAnswer));
        desk.machine.handle(moment, &desk.heard, input);
        let pause = desk.machine.next_wake().expect("a pause") - desk.now;
        assert!(pause.abs_diff(Duration::from_millis(millis)) < Duration::from_micros(10));
    }
}

#[test]
fn a_claim_whose_answer_was_lost_is_made_anew_and_let_go_by_a_node_that_drains() {
    for drains in [false, true] {
        let mut desk = Desk::new();
        desk.call(CallKind::Write, LOCAL);
        desk.read(None);
        desk.give(Input::ClaimDone(desk.last_ask, SLOT, Claimed::NoAnswer));
        if drains {
            desk.give(Input::Drain);
        }
        assert_eq!(desk.wait(Duration::from_millis(20)), [desk.look()]);
        let actions = desk.read(Some(record("me", 3, 1)));
        let release = Action::Release { ask: desk.last_ask, fence: fence(SLOT, 1), to: None };
        assert_eq!(actions, [if drains { release } else { desk.claim(Some(1)) }]);
    }
}

#[test]
fn a_claim_of_a_generation_before_is_made_anew_and_one_of_a_later_ends_this_process() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    assert_eq!(desk.read(Some(record("me", 2, 7))), [desk.claim(Some(7))]);
    let mut desk = Desk::holding();
    desk.call_for(Slot(6), CallKind::Write, LOCAL);
    let later = Input::RecordRead(desk.last_ask, Slot(6), Ok(Some(record("me", 4, 8))));
    let failed = Action::Fail(CallId(2), Why::Superseded);
    assert_eq!(desk.give(later), [Action::Superseded, Action::Lost(fence(SLOT, 1)), failed]);
    let refused = desk.call(CallKind::Write, LOCAL);
    assert_eq!(refused, [Action::Fail(CallId(3), Why::Superseded)]);
}

#[test]
fn an_epoch_that_steps_back_stops_the_slot_until_an_operator_has_seen_to_it() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    desk.read(Some(record("b", 1, 4)));
    desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Refused));
    for found in [Some(3), None] {
        let stopped = desk.read(found.map(|epoch| record("b", 1, epoch)));
        let found = found.map(Epoch);
        assert_eq!(stopped, [Action::StepBack { slot: SLOT, seen: Epoch(4), found }]);
        assert_eq!(desk.wait(Duration::from_millis(500)), [desk.look()]);
    }
    desk.give(Input::Restored);
    assert_eq!(desk.read(None), [desk.claim(None)]);
}

#[test]
fn more_calls_than_there_is_room_for_are_busy_and_answers_to_nothing_change_nothing() {
    let mut desk = Desk::new();
    for _ in 0..MAX_CALLS_PER_SLOT {
        desk.call(CallKind::Write, LOCAL);
    }
    let more = CallId(MAX_CALLS_PER_SLOT as u64 + 1);
    assert_eq!(desk.call(CallKind::Write, LOCAL), [Action::Fail(more, Why::Busy)]);
    let before = desk.machine.clone();
    let odd = Ask(999);
    for input in [
        Input::RecordRead(odd, SLOT, Ok(None)),
        Input::BeatRead(odd, SLOT, Ok(None)),
        Input::ClaimDone(odd, SLOT, Claimed::Conflict),
        Input::Validated(odd, Ok(BTreeMap::new())),
        Input::ReleaseDone(odd, SLOT, Released::Done),
        Input::RanHere(CallId(1), Attempt(1), Ran::Done),
        Input::PeerAnswered(CallId(1), Attempt(0), PeerAnswer::Done),
        Input::WritesSettled(SLOT, Epoch(1)),
        Input::Fenced(SLOT, Epoch(1)),
        Input::SlotIdle(SLOT),
    ] {
        assert_eq!(desk.give(input.clone()), [], "{input:?}");
    }
    assert!(desk.machine == before);
    assert_eq!(desk.machine.counts().0.moot, 5);
}

#[test]
fn a_drain_closes_a_bounded_number_of_slots_at_a_time() {
    let mut desk = Desk::new();
    let slots = MAX_CLOSING as u16 + 10;
    for number in 0..slots {
        let slot = Slot(number);
        desk.call_for(slot, CallKind::Write, LOCAL);
        desk.give(Input::RecordRead(desk.last_ask, slot, Ok(None)));
        desk.give(Input::ClaimDone(desk.last_ask, slot, Claimed::Held(fence(slot, 1))));
        desk.give(Input::RanHere(CallId(desk.calls), Attempt(1), Ran::Done));
    }
    assert_eq!(desk.give(Input::Drain).len(), MAX_CLOSING);
    for number in 0..slots {
        assert!(!desk.machine.is_drained());
        desk.give(Input::WritesSettled(Slot(number), Epoch(1)));
        desk.give(Input::ReleaseDone(desk.last_ask, Slot(number), Released::Done));
    }
    assert!(desk.machine.is_drained());
}

/// Found by the simulation: a call that was started, and had not begun when the slot's accounts were closed,
/// opened its account again. That stayed in memory, and was read from when the slot came back.
#[test]
fn accounts_are_closed_when_no_call_is_left_that_could_open_one_again() {
    type End = (Input, Vec<Action>);
    let ends: [End; 3] = [
        (Input::RanHere(CallId(3), Attempt(1), Ran::Done), vec![Action::Answer(CallId(3))]),
        (Input::CallGone(CallId(3)), vec![]),
        (Input::Fenced(SLOT, Epoch(9)), vec![]),
    ];
    for (input, mut actions) in ends {
        let mut desk = Desk::holding();
        desk.now += Duration::from_secs(2);
        desk.heard.takes = vec![id("b")];
        desk.call(CallKind::Write, LOCAL);
        desk.call(CallKind::Write, PEER);
        assert_eq!(desk.give(Input::HandOver(SLOT, id("b"))), []);
        let first = desk.give(Input::RanHere(CallId(2), Attempt(1), Ran::Done));
        assert_eq!(first, [Action::Answer(CallId(2))], "another one runs");
        if matches!(input, Input::Fenced(..)) {
            assert_eq!(desk.give(input), [], "of another claim");
            assert_eq!(desk.wait(Duration::from_millis(999)), []);
            let closed = desk.wait(Duration::from_millis(1));
            assert_eq!(closed, [Action::CloseSlot(fence(SLOT, 1))], "it has begun by now");
        } else {
            actions.push(Action::CloseSlot(fence(SLOT, 1)));
            assert_eq!(desk.give(input), actions);
        }
    }
}

#[test]
fn a_refusal_because_the_slot_is_being_closed_is_no_loss() {
    let mut desk = Desk::holding();
    desk.call(CallKind::Write, LOCAL);
    desk.give(Input::Drain);
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.give(Input::RanHere(CallId(2), Attempt(1), Ran::Fenced)), []);
    let settled = desk.give(Input::WritesSettled(SLOT, Epoch(1)));
    let release = Action::Release { ask: desk.last_ask, fence: fence(SLOT, 1), to: None };
    assert_eq!(settled, [release], "it is let go, not left to be taken over");
    let conflict = desk.give(Input::ReleaseDone(desk.last_ask, SLOT, Released::Conflict));
    assert_eq!(conflict[0], Action::Lost(fence(SLOT, 1)), "the record says when it was lost");
}

#[test]
fn a_claim_that_does_not_raise_the_epoch_opens_nothing() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    desk.read(Some(released("b", 4, None)));
    let step_back = Action::StepBack { slot: SLOT, seen: Epoch(4), found: Some(Epoch(3)) };
    assert_eq!(desk.claimed(3), [step_back]);
    assert!(desk.machine.open_slots().is_empty());
    assert_eq!(desk.wait(Duration::from_millis(20)), [desk.look()]);
}

/// Found by the simulation: a host is lost, the link is given up while the last heartbeat is still good, and the
/// call that is sent again then finds out only after the seconds that making a link may take.
#[test]
fn a_node_whose_heartbeat_is_late_is_not_tried_again_before_it_is_read_once_more() {
    let mut desk = Desk::new();
    desk.call(CallKind::Write, LOCAL);
    desk.read(Some(record("b", 1, 4)));
    desk.give(Input::PeerAnswered(CallId(1), Attempt(1), PeerAnswer::Unreachable));
    desk.read(Some(record("b", 1, 4)));
    assert_eq!(desk.beat(1, 3), [], "it has missed two, and may have missed a third");
    assert_eq!(desk.wait(Duration::from_millis(1_019)), []);
    assert_eq!(desk.wait(Duration::from_millis(1)), [desk.look()]);
    let doubted = desk.read(Some(record("b", 1, 4)));
    assert_eq!(doubted, [Action::ReadBeat(desk.last_ask, SLOT, id("b"))], "not sent to it");
    let mut lives = Desk { machine: desk.machine.clone(), ..Desk::new() };
    (lives.now, lives.last_ask) = (desk.now, desk.last_ask);
    assert_eq!(desk.beat(1, 5), [desk.claim(Some(4))]);
    assert_eq!(lives.beat(1, 0), [], "it has beaten since");
    assert_eq!(lives.wait(Duration::from_millis(20)), [lives.look()]);
    assert_eq!(lives.read(Some(record("b", 1, 4))), [send(1, 2, "b", false)]);
}
