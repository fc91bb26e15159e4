//! Whether the claims of this node still stand: one query for all slots at a time. A call that must see
//! everything acknowledged before it waits for a query begun after it arrived; whoever arrives while
//! one is under way shares the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::claim::ClaimRecord;
use crate::cluster::pending::{Ask, CallKind, Whereabouts};
use crate::types::Slot;

use super::place::{Held, Phase};
use super::{Action, NoAnswer, Ownership, Turn};

impl Ownership {
    /// When the next regular validation is due.
    pub(super) fn next_validation(&self) -> Option<Duration> {
        let asked = (!self.unvalidated.is_empty()).then_some(Duration::ZERO);
        Some(self.regular.into_iter().chain(asked).min()?.max(self.validate_from))
    }

    /// Begins a validation when one is due or waited for, and none is under way.
    pub(super) fn start_validation(&mut self, turn: &mut Turn<'_>) {
        let now = turn.at.now;
        if self.validating.is_some() || self.next_validation().is_none_or(|due| due > now) {
            return;
        }
        let ask = self.ask();
        for slot in std::mem::take(&mut self.unvalidated) {
            for id in self.calls.waiting(slot) {
                self.calls.park(id, Whereabouts::Validating(ask));
            }
        }
        let mut all = Vec::new();
        for (slot, place) in &mut self.places {
            if let Phase::Held(held) = &mut place.phase {
                held.asked = Some(ask);
                all.push(*slot);
            }
        }
        if all.is_empty() {
            self.regular = None;
            return;
        }
        self.validating = Some((ask, now));
        turn.out.push(Action::Validate(ask, all));
    }

    pub(super) fn validated(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        records: Result<BTreeMap<Slot, Option<ClaimRecord>>, NoAnswer>,
    ) {
        let Some((_, begun)) = self.validating.filter(|(asked, _)| *asked == ask) else {
            self.counts.0.moot += 1;
            return;
        };
        self.validating = None;
        let records = records.unwrap_or_else(|NoAnswer| {
            self.validate_from = turn.at.now + self.timing.back_off_max;
            BTreeMap::new()
        });
        let held: Vec<(Slot, Held)> =
            self.places.iter().filter_map(|(slot, p)| Some((*slot, p.held()?))).collect();
        for (slot, held) in held {
            match records.get(&slot) {
                // Claimed since the question, which was about the claim before.
                _ if held.asked != Some(ask) => {}
                Some(Some(record)) if record.admits(&held.fence) => {
                    self.stands(turn, slot, held, ask, begun);
                }
                Some(_) => self.lose(turn, slot),
                None => {}
            }
        }
        self.enlist_again(ask);
        let due = |held: Held| held.validated + self.timing.validate_every;
        self.regular = self.places.values().filter_map(|place| place.held()).map(due).min();
    }

    /// The claim stood at some moment after the question was begun.
    fn stands(&mut self, turn: &mut Turn<'_>, slot: Slot, held: Held, ask: Ask, begun: Duration) {
        self.enter(slot, Phase::Held(Held { validated: begun, ..held }));
        for id in self.calls.which(slot, |entry| entry.at == Whereabouts::Validating(ask)) {
            self.run(turn, id, slot);
        }
        // Reads that waited for any validation need not wait for one of their own.
        for id in self.calls.waiting(slot) {
            if self.calls.get(id).is_some_and(|entry| entry.call.kind == CallKind::Read) {
                self.run(turn, id, slot);
            }
        }
        if self.calls.waiting(slot).is_empty() {
            self.unvalidated.remove(&slot);
        }
    }

    /// Calls whose answer was no help wait for the next one.
    fn enlist_again(&mut self, ask: Ask) {
        let mut slots = BTreeSet::new();
        for id in self.calls.ids() {
            let Some(entry) = self.calls.get(id) else { continue };
            if entry.at == Whereabouts::Validating(ask) {
                slots.insert(entry.call.slot);
                self.calls.park(id, Whereabouts::Waiting);
            }
        }
        let held = slots.into_iter().filter(|slot| self.fence(*slot).is_some());
        self.unvalidated = self.unvalidated.iter().copied().chain(held).collect();
    }
}
