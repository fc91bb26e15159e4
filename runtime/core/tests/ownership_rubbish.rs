//! One machine under rubbish: inputs of all kinds in any order, also such as no driver gives. Answers to
//! what was never asked, twice, to another question, of foreign epochs and slots, for calls that are gone.
//! It never panics, stays within its named limits, starts nothing under a claim that it does not hold, and
//! every call ends once.

#![expect(clippy::manual_is_multiple_of, reason = "remainders pick among several ways")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postroom_core::cluster::limits::{MAX_ATTEMPTS, MAX_CALLS, MAX_CALLS_PER_SLOT};
use postroom_core::cluster::{
    Action, Ask, Attempt, Beat, CallId, CallKind, ClaimRecord, Claimant, Claimed, Fence,
    Generation, Holder, Input, Moment, Neighbours, NewCall, NoAnswer, NodeId, Origin, Ownership,
    PeerAnswer, Ran, Release, Released, Standing, Timing,
};
use postroom_core::types::{Epoch, Slot, TransactionId};
use proptest::prelude::*;

/// Calls that arrive at once, now and then: a few times as many are more than one slot may have.
const BURST: u64 = 1_500;
/// After this no call's deadline is left.
const LONGEST: Duration = Duration::from_secs(100);

/// Some numbers, from which an input is made.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    kind: u8,
    a: u8,
    b: u8,
    c: u8,
    slot: u8,
    /// Milliseconds that pass before it.
    passes: u16,
    hears: u8,
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let small = (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>());
    (small, any::<u8>(), 0..3_000_u16).prop_map(|((kind, a, b, c, slot), hears, passes)| Numbers {
        kind,
        a,
        b,
        c,
        slot,
        // Mostly things happen fast.
        passes: if hears % 4 == 0 { passes } else { passes % 8 },
        hears,
    })
}

/// What the machine hears of others; any of it at any time.
struct Heard(u8);

impl Neighbours for Heard {
    fn holder(&self, _: Slot) -> Holder {
        match self.0 % 5 {
            0 | 1 => Holder::Nobody,
            2 => Holder::One(node(self.0)),
            3 => Holder::One(node(0)),
            _ => Holder::Several(vec![node(1), node(2)]),
        }
    }

    fn standing(&self, _: &Claimant) -> Standing {
        match self.0 / 5 % 3 {
            0 => Standing::Live,
            1 => Standing::Gone,
            _ => Standing::Unsure,
        }
    }

    fn takes_slots(&self, _: &NodeId) -> bool {
        self.0 % 2 == 0
    }

    fn deputy(&self, _: Slot) -> Option<NodeId> {
        (self.0 % 3 == 0).then(|| node(self.0))
    }
}

/// The first is the machine's own.
fn node(number: u8) -> NodeId {
    format!("n{}", number % 4).parse().unwrap()
}

fn slot(number: u8) -> Slot {
    // The last is none of the 4,096.
    [Slot(1), Slot(2), Slot(3), Slot(4_095), Slot(60_000)][usize::from(number % 5)]
}

fn fence(slot: Slot, epoch: u8, nonce: u8) -> Fence {
    Fence { slot, epoch: Epoch(u64::from(epoch % 16)), nonce: [nonce % 4; 16] }
}

/// The kinds of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Record,
    Beat,
    Claim(Option<Epoch>),
    Validate,
    Release,
}

/// A machine and what it owes.
struct Bench {
    machine: Ownership,
    now: Duration,
    calls: u64,
    open: BTreeSet<CallId>,
    attempts: BTreeMap<CallId, Attempt>,
    asks: Vec<(Ask, Slot, Kind)>,
    answered: BTreeSet<Ask>,
    /// Claims that storage has given for a question of the machine.
    given: BTreeSet<Fence>,
    /// Claims that have been lost or closed.
    over: BTreeSet<Fence>,
}

impl Bench {
    fn new() -> Self {
        Self {
            machine: Ownership::new(node(0), Generation(3), Timing::default()),
            now: Duration::from_secs(1),
            calls: 0,
            open: BTreeSet::new(),
            attempts: BTreeMap::new(),
            asks: Vec::new(),
            answered: BTreeSet::new(),
            given: BTreeSet::new(),
            over: BTreeSet::new(),
        }
    }

    fn arrive(&mut self, it: Numbers) -> Input {
        self.calls += 1;
        let id = CallId(self.calls);
        let kind = [CallKind::Write, CallKind::Read, CallKind::Validated][usize::from(it.a % 3)];
        let origins = [Origin::Local, Origin::Peer { open: false }, Origin::Peer { open: true }];
        let deadline = self.now + Duration::from_millis(u64::from(it.c) * 250);
        let transaction = TransactionId([it.c; 16]);
        let origin = origins[usize::from(it.b % 3)];
        self.open.insert(id);
        let call = NewCall { transaction, slot: slot(it.slot), kind, origin, deadline };
        Input::CallArrived(id, call)
    }

    /// A call that there is, or was, or never was; and an attempt of it, mostly the last one.
    fn some_call(&self, it: Numbers) -> (CallId, Attempt) {
        let id = match it.a % 4 {
            0 => CallId(u64::from(it.b)),
            _ => {
                let open: Vec<_> = self.attempts.keys().collect();
                let at = usize::from(it.b) % open.len().max(1);
                open.get(at).map_or(CallId(7), |id| **id)
            }
        };
        let last = self.attempts.get(&id).copied().unwrap_or(Attempt(1));
        (id, if it.c % 5 == 0 { Attempt(u32::from(it.c)) } else { last })
    }

    fn record(&self, it: Numbers) -> Option<ClaimRecord> {
        let released = match it.c % 6 {
            0 => Some(Release::default()),
            1 => Some(Release { to: Some(node(it.b)) }),
            _ => None,
        };
        let Fence { epoch, nonce, .. } = fence(slot(it.slot), it.b, it.c);
        let generation = Generation(u64::from(it.c % 5));
        let claimant = Claimant { node: node(it.a), generation, nonce };
        // One that the machine has made, now and then.
        let own = self.given.iter().rfind(|fence| fence.slot == slot(it.slot));
        match own {
            Some(own) if it.b % 3 == 0 => {
                let (node, generation) = (node(0), Generation(3));
                let claimant = Claimant { node, generation, nonce: own.nonce };
                Some(ClaimRecord { epoch: own.epoch, claimant, released })
            }
            _ if it.b % 7 == 0 => None,
            _ => Some(ClaimRecord { epoch, claimant, released }),
        }
    }

    /// An answer to something that was asked, or to anything.
    fn answer(&mut self, it: Numbers) -> Input {
        let asked = match it.a % 4 {
            0 => None,
            _ => {
                let at = usize::from(it.b) % self.asks.len().max(1);
                // Questions stay in the list now and then: they are answered twice.
                match it.c % 8 {
                    0 => self.asks.get(at).copied(),
                    _ => (at < self.asks.len()).then(|| self.asks.remove(at)),
                }
            }
        };
        let kinds = [Kind::Record, Kind::Beat, Kind::Claim(None), Kind::Validate, Kind::Release];
        let anything = (Ask(u64::from(it.b)), slot(it.slot), kinds[usize::from(it.c % 5)]);
        let (ask, of, kind) = asked.unwrap_or(anything);
        let fails = it.c % 9 == 0;
        match kind {
            Kind::Record if fails => Input::RecordRead(ask, of, Err(NoAnswer)),
            Kind::Record => Input::RecordRead(ask, of, Ok(self.record(it))),
            Kind::Beat if fails => Input::BeatRead(ask, of, Err(NoAnswer)),
            Kind::Beat => {
                let generation = Generation(u64::from(it.b % 5));
                let age = Duration::from_millis(u64::from(it.c) * 40);
                let beat = (it.a % 8 != 7).then_some(Beat { generation, age });
                Input::BeatRead(ask, of, Ok(beat))
            }
            Kind::Claim(_) if fails => Input::ClaimDone(ask, of, Claimed::NoAnswer),
            Kind::Claim(_) if it.c % 9 == 1 => Input::ClaimDone(ask, of, Claimed::Conflict),
            Kind::Claim(previous) => {
                let mut held = fence(of, it.b, it.c);
                if it.b % 4 != 0 {
                    held.epoch = Epoch(previous.map_or(0, |epoch| epoch.0) + 1);
                }
                // Of several answers to one question the first counts. A claim is new even if it looks as
                // one before: there are few nonces here.
                if asked.is_some() && self.answered.insert(ask) {
                    self.given.insert(held);
                    self.over.remove(&held);
                }
                Input::ClaimDone(ask, of, Claimed::Held(held))
            }
            Kind::Validate if fails => Input::Validated(ask, Err(NoAnswer)),
            Kind::Validate => {
                let slots = [it.slot, it.slot / 5, it.slot / 25];
                let records = slots.map(|number| {
                    let it = Numbers { slot: number, ..it };
                    (slot(number), self.record(it))
                });
                Input::Validated(ask, Ok(records.into_iter().collect()))
            }
            Kind::Release => {
                let all = [Released::Done, Released::Conflict, Released::NoAnswer];
                Input::ReleaseDone(ask, of, all[usize::from(it.b % 3)])
            }
        }
    }

    fn input(&mut self, it: Numbers) -> Input {
        let (id, attempt) = self.some_call(it);
        match it.kind % 32 {
            0..=6 => self.arrive(it),
            7 => {
                self.end(id, false);
                Input::CallGone(id)
            }
            8..=9 => Input::RanHere(id, attempt, Ran::Done),
            10 => Input::RanHere(id, attempt, Ran::Fenced),
            11..=13 => {
                let answer = match it.hears % 4 {
                    0 => PeerAnswer::Done,
                    1 => PeerAnswer::NotMine { hint: Some(node(it.c)) },
                    2 => PeerAnswer::Unreachable,
                    _ => PeerAnswer::Refused,
                };
                Input::PeerAnswered(id, attempt, answer)
            }
            14..=22 => self.answer(it),
            23 => Input::Fenced(slot(it.slot), Epoch(u64::from(it.b % 16))),
            24 => Input::SlotIdle(slot(it.slot)),
            25 => Input::HandOver(slot(it.slot), node(it.b)),
            26 if it.a % 16 == 0 => Input::Drain,
            26 | 27 => {
                let own = self.given.iter().rfind(|fence| fence.slot == slot(it.slot));
                let epoch = own.map_or(Epoch(u64::from(it.b)), |own| own.epoch);
                Input::WritesSettled(slot(it.slot), epoch)
            }
            28 => Input::PeerMoved(slot(it.slot), node(it.b)),
            29 => Input::TableChanged,
            30 if it.a % 8 == 0 => Input::Restored,
            _ => Input::Tick,
        }
    }

    /// A call has ended: whoever says so twice is wrong.
    fn end(&mut self, id: CallId, must: bool) {
        let was_open = self.open.remove(&id);
        self.attempts.remove(&id);
        assert!(was_open || !must, "{id:?} ends twice, or never was");
    }

    fn give(&mut self, input: Input, hears: u8) {
        let at = Moment { now: self.now, jitter: u16::from(hears) * 257 };
        let actions = self.machine.handle(at, &Heard(hears), input);
        for action in actions {
            self.see(action);
        }
        let calls = self.machine.calls();
        assert!(calls.len() <= MAX_CALLS && calls.len() == self.open.len());
        assert!(self.machine.open_slots().len() <= 4, "four of the five are slots");
    }

    fn see(&mut self, action: Action) {
        match action {
            Action::RunHere(id, attempt, fence) => {
                assert!(self.given.contains(&fence), "{fence:?} was never claimed");
                assert!(!self.over.contains(&fence), "{fence:?} is over");
                self.attempt(id, attempt);
            }
            Action::SendTo { call, attempt, node: to, .. } => {
                assert_ne!(to, node(0), "a call is sent to oneself");
                self.attempt(call, attempt);
            }
            Action::Answer(id) | Action::NotMine { call: id, .. } | Action::Fail(id, _) => {
                self.end(id, true);
            }
            Action::ReadRecord(ask, slot) => self.asks.push((ask, slot, Kind::Record)),
            Action::ReadBeat(ask, slot, _) => self.asks.push((ask, slot, Kind::Beat)),
            Action::Claim { ask, slot, previous } => {
                self.asks.push((ask, slot, Kind::Claim(previous)));
            }
            Action::Validate(ask, _) => self.asks.push((ask, Slot(0), Kind::Validate)),
            Action::Release { ask, fence, .. } => {
                self.asks.push((ask, fence.slot, Kind::Release));
            }
            Action::CloseSlot(fence) | Action::Lost(fence) => drop(self.over.insert(fence)),
            Action::TellMoved(_)
            | Action::Publish(_)
            | Action::StepBack { .. }
            | Action::Superseded => {}
        }
        if self.asks.len() > 500 {
            self.asks.drain(..250);
        }
    }

    fn attempt(&mut self, id: CallId, attempt: Attempt) {
        assert!(self.open.contains(&id), "{id:?} is started after its end");
        assert!(attempt.0 <= MAX_ATTEMPTS);
        let before = self.attempts.insert(id, attempt);
        assert!(before.is_none_or(|before| before < attempt));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn rubbish_of_all_kinds_breaks_nothing_and_every_call_ends(
        all in prop::collection::vec(numbers(), 1..400),
    ) {
        let mut bench = Bench::new();
        for it in all {
            bench.now += Duration::from_millis(u64::from(it.passes));
            let input = bench.input(it);
            bench.give(input, it.hears);
        }
        bench.now += LONGEST;
        bench.give(Input::Tick, 0);
        prop_assert!(bench.open.is_empty(), "{:?} never end", bench.open);
        prop_assert!(bench.machine.calls().is_empty());
    }
}

#[test]
fn a_flood_of_calls_for_one_slot_is_refused_beyond_its_share() {
    let mut bench = Bench::new();
    for number in 0..4 * BURST {
        let numbers = Numbers { kind: 0, a: 0, b: 0, c: 40, slot: 0, passes: 0, hears: 0 };
        let input = bench.arrive(numbers);
        bench.give(input, number as u8);
        assert!(bench.machine.calls().of_slot(slot(0)) <= MAX_CALLS_PER_SLOT);
    }
    assert_eq!(bench.machine.calls().len(), MAX_CALLS_PER_SLOT);
    bench.now += LONGEST;
    bench.give(Input::Tick, 0);
    assert!(bench.open.is_empty() && bench.machine.calls().is_empty());
}
