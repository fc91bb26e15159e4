//! A set of slots: one bit each, 512 octets.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use crate::types::{SLOTS, Slot};

/// Octets of the bitmap.
pub const BITMAP_OCTETS: usize = SLOTS as usize / 8;
const WORDS: usize = SLOTS as usize / 64;
/// First octet of an encoding: the whole bitmap follows.
const AS_BITMAP: u8 = 0;
/// First octet of an encoding: pairs of variable-length numbers follow, how many slots are passed over
/// and how many after those are in the set, less one. Pairs that follow the first pass over one
/// slot less than there is between two runs: runs never touch.
const AS_RUNS: u8 = 1;

/// A set of slots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotSet([u64; WORDS]);

/// The text is no set of slots: ignore what its sender says it has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a set of slots")]
pub struct NotSlots;

impl Default for SlotSet {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl SlotSet {
    /// All slots.
    pub fn all() -> Self {
        Self([u64::MAX; WORDS])
    }

    /// Whether a slot is in the set. A number that is no slot never is.
    pub fn contains(&self, slot: Slot) -> bool {
        slot.0 < SLOTS && self.0[usize::from(slot.0 / 64)] & (1 << (slot.0 % 64)) != 0
    }

    /// Adds a slot; whether it was not there. A number that is no slot is not added.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let new = slot.0 < SLOTS && !self.contains(slot);
        if new {
            self.0[usize::from(slot.0 / 64)] |= 1 << (slot.0 % 64);
        }
        new
    }

    /// Takes a slot out; whether it was there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let there = self.contains(slot);
        if there {
            self.0[usize::from(slot.0 / 64)] &= !(1 << (slot.0 % 64));
        }
        there
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(Slot(at as u16 * 64 + bit as u16))
            })
        })
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    /// What is in this one only.
    pub fn difference(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !other.0[at]))
    }

    /// The shorter of two forms, as text of at most 684 octets.
    pub fn to_text(&self) -> String {
        let runs = self.runs();
        let octets = match runs.len() <= BITMAP_OCTETS {
            true => runs,
            false => {
                let words = self.0.iter().flat_map(|word| word.to_le_bytes());
                std::iter::once(AS_BITMAP).chain(words).collect()
            }
        };
        BASE64.encode(octets)
    }

    fn runs(&self) -> Vec<u8> {
        let mut octets = vec![AS_RUNS];
        let (mut at, mut first) = (0, true);
        while let Some(start) = (at..SLOTS).find(|slot| self.contains(Slot(*slot))) {
            let end = (start..SLOTS).find(|slot| !self.contains(Slot(*slot))).unwrap_or(SLOTS);
            put(&mut octets, start - at - u16::from(!first));
            put(&mut octets, end - start - 1);
            (at, first) = (end, false);
        }
        octets
    }

    /// Reads either form.
    ///
    /// # Errors
    /// [`NotSlots`] for anything that [`to_text`](Self::to_text) does not write in one of them.
    pub fn from_text(text: &str) -> Result<Self, NotSlots> {
        if text.len() > BITMAP_OCTETS * 2 {
            return Err(NotSlots);
        }
        let octets = BASE64.decode(text).map_err(|_| NotSlots)?;
        match octets.split_first() {
            Some((&AS_BITMAP, bits)) if bits.len() == BITMAP_OCTETS => {
                let word = |at: usize| std::array::from_fn(|octet| bits[at * 8 + octet]);
                Ok(Self(std::array::from_fn(|at| u64::from_le_bytes(word(at)))))
            }
            Some((&AS_RUNS, runs)) => Self::from_runs(runs),
            Some(_) | None => Err(NotSlots),
        }
    }

    fn from_runs(mut octets: &[u8]) -> Result<Self, NotSlots> {
        let mut set = Self::default();
        let (mut at, mut first) = (0_u32, true);
        while !octets.is_empty() {
            let start = at + u32::from(take(&mut octets)?) + u32::from(!first);
            let end = start + u32::from(take(&mut octets)?) + 1;
            if end > u32::from(SLOTS) {
                return Err(NotSlots);
            }
            (start..end).for_each(|slot| {
                set.insert(Slot(slot as u16));
            });
            (at, first) = (end, false);
        }
        Ok(set)
    }
}

/// Seven bits an octet, the lowest first; the highest bit says that another octet follows.
fn put(octets: &mut Vec<u8>, number: u16) {
    if number >= 0x80 {
        octets.push(number as u8 | 0x80);
    }
    octets.push(if number >= 0x80 { (number >> 7) as u8 } else { number as u8 });
}

/// Takes a number of at most 14 bits: more than any slot.
fn take(octets: &mut &[u8]) -> Result<u16, NotSlots> {
    let (low, rest) = octets.split_first().ok_or(NotSlots)?;
    *octets = rest;
    if *low < 0x80 {
        return Ok(u16::from(*low));
    }
    let (high, rest) = octets.split_first().filter(|(high, _)| **high < 0x80).ok_or(NotSlots)?;
    *octets = rest;
    Ok(u16::from(*low & 0x7f) | u16::from(*high) << 7)
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| {
            set.insert(slot);
        });
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|slot| slot.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(slots: &BTreeSet<u16>) -> SlotSet {
        slots.iter().map(|slot| Slot(*slot)).collect()
    }

    #[test]
    fn the_text_is_short_for_few_slots_and_never_longer_than_the_bitmap() {
        assert_eq!(SlotSet::default().to_text().len(), 2);
        assert_eq!(SlotSet::all().to_text().len(), 6);
        let every_other: SlotSet = (0..SLOTS).step_by(2).map(Slot).collect();
        assert_eq!(every_other.to_text().len(), 684);
        for set in [SlotSet::default(), SlotSet::all(), every_other] {
            assert_eq!(SlotSet::from_text(&set.to_text()), Ok(set));
        }
    }

    #[test]
    fn a_number_that_is_no_slot_is_never_in_a_set() {
        let mut set = SlotSet::all();
        assert!(!set.insert(Slot(SLOTS)) && !set.contains(Slot(SLOTS)) && !set.remove(Slot(SLOTS)));
        assert_eq!(set.len(), usize::from(SLOTS));
    }

    #[test]
    fn runs_past_the_last_slot_are_refused() {
        for octets in [&[AS_RUNS, 0xff, 0x1f, 1][..], &[AS_RUNS, 5], &[2], &[], &[AS_BITMAP, 1]] {
            assert_eq!(SlotSet::from_text(&BASE64.encode(octets)), Err(NotSlots), "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(a: BTreeSet<u16>, b: BTreeSet<u16>) {
            let fold = |slots: BTreeSet<u16>| -> BTreeSet<u16> {
                slots.into_iter().map(|slot| slot % SLOTS).collect()
            };
            let (a, b) = (fold(a), fold(b));
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(x.union(&y), set(&(&a | &b)));
            prop_assert_eq!(x.intersection(&y), set(&(&a & &b)));
            prop_assert_eq!(x.difference(&y), set(&(&a - &b)));
            prop_assert_eq!(x.len(), a.len());
            prop_assert_eq!(x.iter().map(|slot| slot.0).collect::<Vec<_>>(), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(SlotSet::from_text(&x.to_text()), Ok(x));
        }

        #[test]
        fn dense_sets_come_back_from_their_text(words in prop::collection::vec(any::<u64>(), WORDS)) {
            let set = SlotSet(words.try_into().unwrap());
            prop_assert_eq!(SlotSet::from_text(&set.to_text()), Ok(set));
        }

        #[test]
        fn rubbish_is_refused_or_a_set(octets in prop::collection::vec(any::<u8>(), 0..600), first in 0..3_u8) {
            let octets = [&[first][..], &octets].concat();
            if let Ok(set) = SlotSet::from_text(&BASE64.encode(octets)) {
                prop_assert_eq!(SlotSet::from_text(&set.to_text()), Ok(set));
            }
        }
    }
}
