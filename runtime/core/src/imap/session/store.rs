//! STORE (RFC 9051 §6.4.6, CONDSTORE: RFC 7162 §3.1.3).
//!
//! With `.SILENT`, the client computes the new flags from those that it knows. So that it is right,
//! `+FLAGS.SILENT` and `-FLAGS.SILENT` are carried out in two rounds: first for the messages that
//! nobody has changed since the client was told everything, in silence; then for the others, whose
//! flags are shown. Nothing that others change later is told before the answer. So both ends agree
//! afterwards, in whatever order others change flags meanwhile, and whether the client computes when
//! it sends its command or when it is answered.

use crate::calls::{Call, Changes, FlagRow};
use crate::imap::command::{Numbering, Store, Tag};
use crate::imap::response::Code;
use crate::mailbox::view::{Echo, Notice};
use crate::types::{FlagChange, FlagChangeKind, ModSeq, UidSet};

use super::ImapSession;
use super::flow::{Done, Flush, Waiting, expunges_after};
use super::query::{NO_SUCH_NUMBER, resolve};

/// A STORE under way.
pub(super) struct StoreTask {
    pub(super) tag: Tag,
    pub(super) numbering: Numbering,
    /// Messages that are still to be changed.
    uids: UidSet,
    change: FlagChange,
    /// UNCHANGEDSINCE as the client gave it.
    condition: Option<ModSeq>,
    /// What the round under way shows.
    echo: Echo,
    /// The round under way changes only what nobody has changed since the client was told
    /// everything; another one follows.
    guarded: bool,
    /// Messages whose flags the client was told during this command, as they were before it: a client
    /// that has computed already forgets its result, so it is shown the true one.
    told: UidSet,
    /// How many messages were to be changed.
    missing: u64,
}

impl ImapSession {
    pub(super) fn store(&mut self, tag: Tag, store: Store) {
        let Store { numbering, set, unchanged_since, change, silent } = store;
        if unchanged_since.is_some() {
            self.enable_condstore();
        }
        let changed = self.changed;
        let Some(active) = self.active() else { return };
        let Some(uids) = resolve(&active.view, &set, numbering) else {
            return self.bad(Some(tag), NO_SUCH_NUMBER);
        };
        if !active.read_write {
            return self.read_only(tag, numbering);
        }
        let missing = active.view.count(&uids);
        if missing == 0 {
            return self.finish(Done::ok(tag, "STORE completed"), Flush::after(numbering));
        }
        let stale = changed || active.view.is_ahead();
        let guarded = silent && change.kind != FlagChangeKind::Replace;
        let echo = if silent { Echo::Silent } else { Echo::Show };
        let condition = unchanged_since;
        let told = UidSet::default();
        let task =
            StoreTask { tag, numbering, uids, change, condition, echo, guarded, told, missing };
        match guarded && stale {
            // The more is told before, the more can be silent.
            true => self.ask_for_changes(Waiting::StoreAhead(task)),
            false => self.store_flags(task),
        }
    }

    /// What others have changed before is told.
    pub(super) fn store_ahead(&mut self, mut task: StoreTask, changes: Changes) {
        let Some(active) = self.active() else { return };
        let notices = active.view.tell(changes, expunges_after(task.numbering));
        for notice in &notices {
            if let Notice::Flags { uid, .. } = notice {
                task.told.insert(*uid);
            }
        }
        self.write_notices(notices, task.numbering);
        self.store_flags(task);
    }

    /// One round.
    pub(super) fn store_flags(&mut self, task: StoreTask) {
        let Some(active) = self.active() else { return };
        let since = active.view.since();
        let unchanged_since = match (task.guarded, task.condition) {
            (true, condition) => Some(condition.map_or(since, |condition| condition.min(since))),
            (false, condition) => condition,
        };
        let (uids, change) = (task.uids.clone(), task.change.clone());
        self.call(Call::Store { uids, change, unchanged_since }, Waiting::Store(task));
    }

    pub(super) fn flags_stored(&mut self, mut task: StoreTask, rows: Vec<FlagRow>, left: UidSet) {
        let Some(active) = self.active() else { return };
        // The round before has stored these; the view has told what is to be told of them.
        task.missing = task.missing.saturating_sub(rows.len() as u64);
        let since = active.view.since();
        let (told, silent) = rows.into_iter().partition(|row| task.told.contains(row.uid));
        let mut notices = active.view.stored(told, Echo::Show);
        notices.extend(active.view.stored(silent, task.echo));
        let more = task.guarded && task.condition.is_none_or(|condition| condition > since);
        self.write_notices(notices, task.numbering);
        if more && !left.is_empty() {
            task.uids = left;
            task.guarded = false;
            task.echo = Echo::Show;
            return self.store_flags(task);
        }
        self.stored(task, &left);
    }

    /// Ends STORE; `modified` was left alone because of UNCHANGEDSINCE.
    fn stored(&mut self, task: StoreTask, modified: &UidSet) {
        let Some(active) = self.active() else { return };
        let number = |uid: crate::types::Uid| match task.numbering {
            Numbering::Uid => Some(uid.get()),
            Numbering::Sequence => active.view.sequence_of(uid),
        };
        let modified: Vec<u32> = active.view.members(modified).filter_map(number).collect();
        let done = match (modified.is_empty(), task.missing) {
            (false, _) => Done::ok(task.tag, "conditional STORE failed for some")
                .with(Code::Modified(modified)),
            // RFC 2180 §4.2: the flags of what is there have been stored.
            (true, 1..) if task.numbering == Numbering::Sequence => {
                Done::ok(task.tag, "some messages were expunged meanwhile")
                    .with(Code::ExpungeIssued)
            }
            (true, _) => Done::ok(task.tag, "STORE completed"),
        };
        match task.echo {
            Echo::Show => self.finish(done, Flush::after(task.numbering)),
            Echo::Silent => self.say(done),
        }
    }

    /// The mailbox was selected by EXAMINE.
    pub(super) fn read_only(&mut self, tag: Tag, numbering: Numbering) {
        let done = Done::no(tag, "the mailbox is selected read-only").with(Code::ReadOnly);
        self.finish(done, Flush::after(numbering));
    }
}
