//! What a session is answered from an open mailbox: what has happened, and what it still sees.

use crate::calls::{Changes, FlagRow, Selected};
use crate::types::{Flags, ModSeq, Uid, UidSet};

use super::index::Facts;
use super::limits::MAX_CHANGED_ROWS;
use super::state::{Mailbox, Open};

/// A message as a session sees it.
#[derive(Clone, Debug, PartialEq)]
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
    /// What has happened after a mod-sequence: all of it, or as many whole commits as fit
    /// [`MAX_CHANGED_ROWS`]. A message that came and went in between is among the removed ones.
    /// Nothing is said of what is recent. Removals are known from the session's selection (and what
    /// it has released) on: nobody asks for earlier ones.
    pub fn changes(&self, since: ModSeq) -> Changes {
        let highest = self.counters.highest_modseq;
        let nothing = Changes { upto: since, ..Changes::default() };
        let Some(open) = self.open.as_ref().filter(|_| since < highest) else { return nothing };
        let mut changed: Vec<Facts> = open.index.since(since).collect();
        let upto = cut(&changed, highest);
        changed.retain(|facts| facts.modseq <= upto);
        let row = |facts: Facts| FlagRow {
            uid: facts.uid,
            flags: open.flags(&facts),
            modseq: facts.modseq,
        };
        let gone = open.ghosts.range((since.next(), Uid::MIN)..=(upto, Uid::MAX));
        Changes {
            upto,
            changed: changed.into_iter().map(row).collect(),
            expunged: gone.map(|((_, uid), _)| *uid).collect(),
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

/// The last mod-sequence up to which at most [`MAX_CHANGED_ROWS`] rows have changed, or the first
/// with any.
fn cut(changed: &[Facts], highest: ModSeq) -> ModSeq {
    if changed.len() <= MAX_CHANGED_ROWS {
        return highest;
    }
    let mut order: Vec<ModSeq> = changed.iter().map(|facts| facts.modseq).collect();
    order.sort_unstable();
    let beyond = order[MAX_CHANGED_ROWS];
    let whole = order.partition_point(|modseq| *modseq < beyond);
    order[whole.saturating_sub(1)]
}
