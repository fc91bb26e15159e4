//! What a session is answered from an open mailbox: what has happened, and what it still sees.

use serde::{Deserialize, Serialize};

use crate::calls::{Changes, FlagRow, Selected};
use crate::types::{Flags, ModSeq, Uid, UidSet};

use super::index::Facts;
use super::limits::MAX_CHANGED_ROWS;
use super::state::{Mailbox, Open};

/// A message as a session sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// What the index knows (or knew).
    pub facts: Facts,
    /// Its flags.
    pub flags: Flags,
    /// The mod-sequence of its removal, of which this session has not told its client.
    pub removed: Option<ModSeq>,
}

impl Open {
    /// The messages of a set that a session sees, ascending, at most `limit`; and whether there are
    /// more. `released`: removals up to there have been told to its client.
    pub fn visible(&self, uids: &UidSet, released: ModSeq, limit: usize) -> (Vec<Seen>, bool) {
        let here = self.index.matching(uids).take(limit + 1).map(|facts| (facts, None));
        let mut seen: Vec<(Facts, Option<ModSeq>)> = here.collect();
        let unreleased = self.ghosts.range((released, Uid::MAX)..);
        let ghosts = unreleased.filter(|((at, uid), _)| *at > released && uids.contains(*uid));
        let before = seen.len();
        seen.extend(ghosts.map(|((modseq, _), facts)| (*facts, Some(*modseq))));
        if seen.len() > before {
            seen.sort_by_key(|(facts, _)| facts.uid);
        }
        let more = seen.len() > limit;
        seen.truncate(limit);
        let full = |(facts, removed)| Seen { facts, flags: self.flags(&facts), removed };
        (seen.into_iter().map(full).collect(), more)
    }
}

impl Mailbox {
    /// What has happened after a mod-sequence, in at most [`MAX_CHANGED_ROWS`] rows. A message that
    /// came and went in between is among the removed ones. Nothing is said of what is recent.
    /// Removals are known from the session's selection (and what it has released) on: nobody asks
    /// for earlier ones.
    ///
    /// Messages above `known` come first, in the order of their UIDs and whatever their
    /// mod-sequences: numbers go to messages in the order of UIDs, so one that was passed over could
    /// never be told. When they alone do not fit, nothing else is told and `upto` stays; otherwise
    /// changes of known messages follow, as many whole commits as fit.
    pub fn changes(&self, since: ModSeq, known: Option<Uid>) -> Changes {
        self.changes_within(since, known, MAX_CHANGED_ROWS)
    }

    /// [`Mailbox::changes`], in at most so many rows.
    pub(super) fn changes_within(
        &self,
        since: ModSeq,
        known: Option<Uid>,
        limit: usize,
    ) -> Changes {
        let highest = self.counters.highest_modseq;
        let nothing = Changes { upto: since, ..Changes::default() };
        let Some(open) = &self.open else { return nothing };
        let row = |facts: Facts| FlagRow {
            uid: facts.uid,
            flags: open.flags(&facts),
            modseq: facts.modseq,
        };
        let first_new = known.map_or(Some(Uid::MIN), Uid::next);
        let new = first_new.into_iter().flat_map(|first| open.index.range(first, Uid::MAX));
        let mut new: Vec<Facts> = new.take(limit + 1).collect();
        if new.len() > limit {
            new.truncate(limit);
            return Changes { changed: new.into_iter().map(row).collect(), ..nothing };
        }
        let told = |facts: &Facts| known.is_some_and(|known| facts.uid <= known);
        let mut changed: Vec<Facts> = open.index.since(since).filter(told).collect();
        let upto = cut(&changed, highest, limit - new.len()).max(since);
        changed.retain(|facts| facts.modseq <= upto);
        Changes {
            upto,
            changed: changed.into_iter().chain(new).map(row).collect(),
            expunged: open.removals(since, upto).map(|(_, uid)| uid).collect(),
            recent: UidSet::default(),
        }
    }

    /// The mailbox as a session is shown it that makes it active.
    pub fn selected(&self, recent: UidSet, read_write: bool) -> Selected {
        let open = self.open.clone().unwrap_or_default();
        let in_use = open.keywords_in_use();
        Selected {
            status: self.status(),
            uids: open.index.iter().map(|facts| facts.uid).collect(),
            recent,
            first_unseen: match self.counters.unseen {
                0 => None,
                _ => open.index.first_unseen(),
            },
            keywords: open.keywords.flags(0, in_use).keywords().to_vec(),
            read_write,
        }
    }
}

/// The last mod-sequence up to which at most so many rows have changed, or the first with any.
fn cut(changed: &[Facts], highest: ModSeq, most: usize) -> ModSeq {
    if changed.len() <= most {
        return highest;
    }
    let mut order: Vec<ModSeq> = changed.iter().map(|facts| facts.modseq).collect();
    order.sort_unstable();
    let beyond = order[most];
    let whole = order.partition_point(|modseq| *modseq < beyond);
    order[whole.saturating_sub(1)]
}
