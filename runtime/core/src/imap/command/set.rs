//! Sequence sets.

use std::num::NonZeroU32;

use crate::types::{Uid, UidSet};

/// Most ranges in one sequence set: what a client can need when it lists single messages of a
/// large mailbox in one line; bounds what resolving costs.
pub const MAX_SET_RANGES: usize = 16_384;

/// A number in a sequence set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetNumber {
    /// A sequence number or a UID.
    Number(NonZeroU32),
    /// `*`: the largest one in use.
    Largest,
}

/// A range in a sequence set; the order of its ends means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetRange {
    /// One end.
    pub first: SetNumber,
    /// The other end, the same for a single number.
    pub last: SetNumber,
}

/// A sequence set: 1 to [`MAX_SET_RANGES`] ranges in the client's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSet(pub Vec<SetRange>);

impl SequenceSet {
    /// The numbers meant when `largest` is the largest one in use: ascending, disjoint,
    /// non-adjacent inclusive ranges. Numbers above `largest` stay in. With none in use (`None`),
    /// ranges with `*` mean nothing.
    pub fn resolve(&self, largest: Option<NonZeroU32>) -> Vec<(NonZeroU32, NonZeroU32)> {
        let number = |n| match n {
            SetNumber::Number(n) => Some(n),
            SetNumber::Largest => largest,
        };
        let ends = |r: &SetRange| Some((number(r.first)?, number(r.last)?));
        let mut ranges: Vec<_> =
            self.0.iter().filter_map(ends).map(|(a, b)| (a.min(b), a.max(b))).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(NonZeroU32, NonZeroU32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first.get() <= before.1.get().saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        merged
    }

    /// The same as a set of UIDs, when the set holds UIDs.
    pub fn to_uids(&self, largest: Option<Uid>) -> UidSet {
        let mut uids = UidSet::default();
        for (first, last) in self.resolve(largest.map(|uid| uid.0)) {
            uids.insert_range(Uid(first), Uid(last));
        }
        uids
    }
}
