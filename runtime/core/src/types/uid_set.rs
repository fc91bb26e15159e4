//! A set of UIDs as ascending, disjoint, non-adjacent ranges: `1:1000000` costs one entry.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Uid;

/// A set of UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UidSet {
    /// Inclusive, ascending, with gaps between them.
    ranges: Vec<(Uid, Uid)>,
}

impl UidSet {
    /// The set of all UIDs from `first` to `last`, both included, in whichever order they are given.
    pub fn range(first: Uid, last: Uid) -> Self {
        Self { ranges: vec![(first.min(last), first.max(last))] }
    }

    /// Adds all UIDs from `first` to `last`, both included.
    pub fn insert_range(&mut self, first: Uid, last: Uid) {
        let (mut first, mut last) = (first.min(last), first.max(last));
        // Every range that overlaps or touches the new one melts into it.
        let start = self.ranges.partition_point(|r| r.1.get().saturating_add(1) < first.get());
        let end = self.ranges.partition_point(|r| r.0.get() <= last.get().saturating_add(1));
        if start < end {
            first = first.min(self.ranges[start].0);
            last = last.max(self.ranges[end - 1].1);
        }
        self.ranges.splice(start..end.max(start), [(first, last)]);
    }

    /// Adds one UID.
    pub fn insert(&mut self, uid: Uid) {
        self.insert_range(uid, uid);
    }

    /// Whether the UID is in the set.
    pub fn contains(&self, uid: Uid) -> bool {
        let at = self.ranges.partition_point(|r| r.1 < uid);
        self.ranges.get(at).is_some_and(|r| r.0 <= uid)
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many UIDs are in the set.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|r| u64::from(r.1.get() - r.0.get()) + 1).sum()
    }

    /// The inclusive ranges, ascending.
    pub fn ranges(&self) -> &[(Uid, Uid)] {
        &self.ranges
    }

    /// Each UID, ascending. Never call it on a set that came from a client unclipped: `1:*` has
    /// four thousand million members.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.ranges.iter().flat_map(|r| (r.0.get()..=r.1.get()).filter_map(Uid::new))
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<T: IntoIterator<Item = Uid>>(uids: T) -> Self {
        let mut set = Self::default();
        uids.into_iter().for_each(|uid| set.insert(uid));
        set
    }
}

/// IMAP's form: `1:3,7`. An empty set prints as nothing.
impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}:{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    fn uid(n: u32) -> Uid {
        Uid::new(n).unwrap()
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(ranges in prop::collection::vec((1u32..60, 0u32..8), 0..20)) {
            let (mut set, mut model) = (UidSet::default(), BTreeSet::new());
            for (first, more) in ranges {
                set.insert_range(uid(first), uid(first + more));
                model.extend(first..=first + more);
            }
            prop_assert_eq!(set.iter().map(Uid::get).collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len(), model.len() as u64);
            for n in 1..70 {
                prop_assert_eq!(set.contains(uid(n)), model.contains(&n));
            }
            for pair in set.ranges().windows(2) {
                prop_assert!(pair[0].1.get() + 1 < pair[1].0.get());
            }
        }
    }

    #[test]
    fn the_largest_uid_is_a_member_like_any_other() {
        let mut set = UidSet::range(Uid::MIN, Uid::MAX);
        set.insert(Uid::MAX);
        assert_eq!(set.to_string(), "1:4294967295");
        assert_eq!(set.len(), u64::from(u32::MAX));
    }
}
