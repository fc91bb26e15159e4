//! A session's view of its mailbox: what the client has been told, and what it may be told now.
//!
//! A client numbers messages 1, 2, 3 … and moves the numbers down by each `EXPUNGE` that it is told
//! of, so what it may be told, and when, decides whether "5" means the same to both ends. That is
//! decided here and nowhere else (RFC 9051 §5.5, §7.5.1; RFC 2180): a message that another session
//! removed keeps its number until an `EXPUNGE` may be sent, while new messages and changed flags
//! can be told at any time.
//!
//! Beside the numbers the view knows up to which mod-sequence the client has been told everything,
//! so that nothing is told twice: not what a FETCH has just shown, and not what the session's own
//! STORE has changed.
//!
//! Four octets a message, and what lies between two flushes.

use std::collections::{BTreeMap, BTreeSet};

use crate::calls::{Changes, FlagRow, Selected};
use crate::types::{Flags, Keyword, ModSeq, Uid, UidSet};

/// Whether removals may be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expunges {
    /// They may.
    Tell,
    /// Not while FETCH, STORE or SEARCH with sequence numbers is answered (RFC 9051 §7.5.1): they
    /// are kept for later.
    Hold,
}

/// Something that the client is told without having asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The mailbox has new keywords; these are all.
    Keywords(Vec<Keyword>),
    /// The message of this number is gone, and higher numbers go down by one.
    Expunge(u32),
    /// So many messages are there now.
    Exists(u32),
    /// So many of them are recent.
    Recent(u32),
    /// Flags have changed.
    Flags {
        /// The message's number.
        sequence: u32,
        /// Its UID.
        uid: Uid,
        /// Its flags.
        flags: Flags,
        /// Whether it is recent.
        recent: bool,
        /// Of the change.
        modseq: ModSeq,
    },
    /// Flags have changed in a way that the client knows already (`.SILENT`): to be told only to one
    /// that follows mod-sequences (RFC 7162 §3.1.3).
    Silent {
        /// The message's number.
        sequence: u32,
        /// Its UID.
        uid: Uid,
        /// Of the change.
        modseq: ModSeq,
    },
}

/// What the client of a STORE wants to see of its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// The flags of every message.
    Show,
    /// Nothing (`.SILENT`): it knows what comes out, because the change does not depend on the old
    /// flags, or because the client knew those.
    Silent,
}

/// What the client of one session knows of its mailbox.
#[derive(Debug)]
pub struct View {
    /// Ascending; the message with sequence number n is at n - 1.
    uids: Vec<Uid>,
    /// Removed in the mailbox, but the client does not know yet. All of them are in `uids`.
    gone: UidSet,
    /// Recent for this session. All of them are in `uids`.
    recent: UidSet,
    /// What the client was last told of them.
    told_recent: u64,
    /// The largest UID that ever was in `uids`, or that was given out before: what is not above it
    /// is not new. Zero: none.
    highest_uid: u32,
    /// All changes up to here have been applied.
    since: ModSeq,
    /// All removals up to here have been told.
    released: ModSeq,
    /// What the client has learnt beyond `since`: the mod-sequence of the flags that it knows.
    learnt: BTreeMap<Uid, ModSeq>,
    /// All keywords that the client has been told of. As many as the mailbox's owner lets it have.
    keywords: BTreeSet<Keyword>,
}

impl View {
    /// The view of a mailbox at the moment of its selection.
    pub fn new(selected: &Selected) -> Self {
        let highest = selected.status.highest_modseq;
        let before_next = selected.status.uid_next.get() - 1;
        let mut view = Self {
            highest_uid: selected.uids.last().map_or(0, |uid| uid.get()).max(before_next),
            uids: selected.uids.clone(),
            gone: UidSet::default(),
            recent: UidSet::default(),
            told_recent: 0,
            since: highest,
            released: highest,
            learnt: BTreeMap::new(),
            keywords: selected.keywords.iter().cloned().collect(),
        };
        view.recent = view.members(&selected.recent).collect();
        view.told_recent = view.recent.len();
        view
    }

    /// How many messages the client believes there are.
    pub fn exists(&self) -> u32 {
        // UIDs are 32 bits and unique, so their number fits.
        u32::try_from(self.uids.len()).unwrap_or(u32::MAX)
    }

    /// How many of them are recent.
    pub fn recent(&self) -> u32 {
        u32::try_from(self.recent.len()).unwrap_or(u32::MAX)
    }

    /// The messages that are recent for this session.
    pub fn recent_uids(&self) -> &UidSet {
        &self.recent
    }

    /// Whether this message is recent.
    pub fn is_recent(&self, uid: Uid) -> bool {
        self.recent.contains(uid)
    }

    /// All keywords that the client knows of.
    pub fn keywords(&self) -> Vec<Keyword> {
        self.keywords.iter().cloned().collect()
    }

    /// The message with this sequence number.
    pub fn uid_at(&self, sequence: u32) -> Option<Uid> {
        let at = usize::try_from(sequence).ok()?.checked_sub(1)?;
        self.uids.get(at).copied()
    }

    /// The sequence number of a message.
    pub fn sequence_of(&self, uid: Uid) -> Option<u32> {
        let at = self.uids.binary_search(&uid).ok()?;
        u32::try_from(at + 1).ok()
    }

    /// The largest UID in the view: what `*` means in a set of UIDs.
    pub fn largest_uid(&self) -> Option<Uid> {
        self.uids.last().copied()
    }

    /// The part of a set that can mean messages of this view: at its ends are messages, but UIDs of
    /// no message may be in between. Never larger than what the client knows.
    pub fn clip(&self, uids: &UidSet) -> UidSet {
        let mut clipped = UidSet::default();
        for slice in self.slices(uids) {
            if let (Some(first), Some(last)) = (slice.first(), slice.last()) {
                clipped.insert_range(*first, *last);
            }
        }
        clipped
    }

    /// The messages of this view that are in the set, ascending.
    pub fn members<'a>(&'a self, uids: &'a UidSet) -> impl Iterator<Item = Uid> + 'a {
        self.slices(uids).flatten().copied()
    }

    /// How many messages of this view are in the set.
    pub fn count(&self, uids: &UidSet) -> u64 {
        self.slices(uids).map(|slice| slice.len() as u64).sum()
    }

    /// Everything up to here has been told, but for removals that are held back.
    pub fn since(&self) -> ModSeq {
        self.since
    }

    /// The largest UID that was ever in the view, or that was given out before the selection: only
    /// messages above it are new. `None`: none.
    pub fn known(&self) -> Option<Uid> {
        Uid::new(self.highest_uid)
    }

    /// All removals up to here have been told.
    pub fn released(&self) -> ModSeq {
        self.released
    }

    /// Whether removals are held back.
    pub fn holds_expunges(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Whether the message has flags of this mod-sequence that the client does not know.
    pub fn is_news(&self, uid: Uid, modseq: ModSeq) -> bool {
        modseq > self.since && self.learnt.get(&uid).is_none_or(|known| *known < modseq)
    }

    /// Whether the client knows more of some messages than everything up to [`View::since`].
    pub fn is_ahead(&self) -> bool {
        !self.learnt.is_empty()
    }

    /// The client is shown the flags of a message as they are at this mod-sequence (the answer to
    /// FETCH or STORE), or knows them without being shown. Gives the notice that must come first
    /// when there are new keywords among them.
    pub fn learn(&mut self, uid: Uid, flags: &Flags, modseq: ModSeq) -> Option<Notice> {
        if self.is_news(uid, modseq) {
            self.learnt.insert(uid, modseq);
        }
        self.learn_keywords(std::iter::once(flags))
    }

    /// Takes in what has happened in the mailbox, and gives what the client is to be told of it, in
    /// this order. With [`Expunges::Tell`] that includes removals held back before.
    pub fn tell(&mut self, changes: Changes, expunges: Expunges) -> Vec<Notice> {
        let mut notices = Vec::new();
        let gone: Vec<Uid> = self.members(&changes.expunged).collect();
        gone.into_iter().for_each(|uid| self.gone.insert(uid));
        self.since = self.since.max(changes.upto);
        if expunges == Expunges::Tell {
            self.tell_expunges(&mut notices);
        }
        self.tell_arrivals(&changes, &mut notices);
        notices.extend(self.learn_keywords(changes.changed.iter().map(|row| &row.flags)));
        for row in changes.changed {
            let known = self.learnt.get(&row.uid).is_some_and(|known| *known >= row.modseq);
            let (Some(sequence), false) = (self.sequence_of(row.uid), known) else { continue };
            notices.push(Notice::Flags {
                sequence,
                uid: row.uid,
                flags: row.flags,
                recent: self.is_recent(row.uid),
                modseq: row.modseq,
            });
        }
        let since = self.since;
        self.learnt.retain(|_, modseq| *modseq > since);
        notices
    }

    /// Takes in the outcome of this session's STORE, and gives what the client is to be told of it.
    pub fn stored(&mut self, rows: Vec<FlagRow>, echo: Echo) -> Vec<Notice> {
        let mut notices = Vec::new();
        for FlagRow { uid, flags, modseq } in rows {
            let Some(sequence) = self.sequence_of(uid) else { continue };
            let news = self.is_news(uid, modseq);
            notices.extend(self.learn(uid, &flags, modseq));
            let recent = self.is_recent(uid);
            match echo {
                Echo::Show => {
                    notices.push(Notice::Flags { sequence, uid, flags, recent, modseq });
                }
                Echo::Silent if news => notices.push(Notice::Silent { sequence, uid, modseq }),
                Echo::Silent => {}
            }
        }
        notices
    }

    /// Highest number first, so that no notice moves the numbers of the next ones.
    fn tell_expunges(&mut self, notices: &mut Vec<Notice>) {
        self.released = self.since;
        let gone = std::mem::take(&mut self.gone);
        if gone.is_empty() {
            return;
        }
        let mut numbers: Vec<u32> = gone.iter().filter_map(|uid| self.sequence_of(uid)).collect();
        numbers.reverse();
        notices.extend(numbers.into_iter().map(Notice::Expunge));
        self.uids.retain(|uid| !gone.contains(*uid));
        let before = self.recent.len();
        self.recent = self.recent.iter().filter(|uid| !gone.contains(*uid)).collect();
        self.learnt.retain(|uid, _| !gone.contains(*uid));
        // The client takes a recent message that goes off its count by itself; if it does not know
        // which ones are recent, the next RECENT puts it right. It is sent with the next EXISTS.
        self.told_recent = self.told_recent.saturating_sub(before - self.recent.len());
    }

    /// New messages go behind all others. Those that were removed before they were told are never
    /// mentioned.
    fn tell_arrivals(&mut self, changes: &Changes, notices: &mut Vec<Notice>) {
        let before = self.uids.len();
        for row in &changes.changed {
            let is_new = row.uid.get() > self.highest_uid && !changes.expunged.contains(row.uid);
            if is_new {
                self.uids.push(row.uid);
                self.highest_uid = row.uid.get();
                // Its flags are asked for, not told.
                self.learnt.insert(row.uid, row.modseq);
            }
        }
        let recent: Vec<Uid> = self.members(&changes.recent).collect();
        recent.into_iter().for_each(|uid| self.recent.insert(uid));
        if self.uids.len() > before {
            notices.push(Notice::Exists(self.exists()));
        }
        if self.uids.len() > before || self.recent.len() != self.told_recent {
            self.told_recent = self.recent.len();
            notices.push(Notice::Recent(self.recent()));
        }
    }

    fn learn_keywords<'a>(&mut self, all: impl Iterator<Item = &'a Flags>) -> Option<Notice> {
        let mut news = false;
        for keyword in all.flat_map(|flags| flags.keywords()) {
            if !self.keywords.contains(keyword) {
                self.keywords.insert(keyword.clone());
                news = true;
            }
        }
        news.then(|| Notice::Keywords(self.keywords()))
    }

    /// The parts of `uids` that lie in the ranges of the set.
    fn slices<'a>(&'a self, set: &'a UidSet) -> impl Iterator<Item = &'a [Uid]> {
        set.ranges().iter().map(|(first, last)| {
            let start = self.uids.partition_point(|uid| uid < first);
            let end = self.uids.partition_point(|uid| uid <= last);
            &self.uids[start..end]
        })
    }
}

#[cfg(test)]
mod tests;
