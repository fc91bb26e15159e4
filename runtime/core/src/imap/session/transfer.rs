//! COPY, MOVE and EXPUNGE: messages go elsewhere (RFC 9051 §6.4.3, §6.4.7, §6.4.8, §6.4.9).

use crate::calls::{Call, Copied};
use crate::imap::command::{Numbering, SequenceSet, Tag, Transfer};
use crate::imap::response::{self, Code, Status};
use crate::mailbox::view::View;
use crate::types::{MailboxName, ModSeq, UidSet};

use super::ImapSession;
use super::flow::{Done, Flush, Waiting};
use super::query::{NO_SUCH_NUMBER, resolve};

/// What happens to the originals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransferKind {
    /// They stay.
    Copy,
    /// They go.
    Move,
}

impl TransferKind {
    fn name(self) -> &'static str {
        match self {
            Self::Copy => "COPY",
            Self::Move => "MOVE",
        }
    }
}

impl ImapSession {
    pub(super) fn copy(&mut self, tag: Tag, transfer: Transfer) {
        let Some((tag, uids, to)) = self.transferable(tag, &transfer, TransferKind::Copy) else {
            return;
        };
        let waiting = Waiting::Transfer(tag, transfer.numbering, TransferKind::Copy);
        self.call(Call::Copy { uids, to }, waiting);
    }

    pub(super) fn move_messages(&mut self, tag: Tag, transfer: Transfer) {
        if self.active().is_some_and(|active| !active.read_write) {
            return self.read_only(tag, transfer.numbering);
        }
        let Some((tag, uids, to)) = self.transferable(tag, &transfer, TransferKind::Move) else {
            return;
        };
        let waiting = Waiting::Transfer(tag, transfer.numbering, TransferKind::Move);
        self.call(Call::Move { uids, to }, waiting);
    }

    /// The messages that are meant; `None` when the command has been answered already.
    fn transferable(
        &mut self,
        tag: Tag,
        transfer: &Transfer,
        kind: TransferKind,
    ) -> Option<(Tag, UidSet, MailboxName)> {
        let view = &self.active()?.view;
        let Some(uids) = resolve(view, &transfer.set, transfer.numbering) else {
            self.bad(Some(tag), NO_SUCH_NUMBER);
            return None;
        };
        if uids.is_empty() {
            // RFC 9051 §6.4.9: a UID that does not exist is passed over.
            self.nothing_transferred(tag, transfer.numbering, kind);
            return None;
        }
        Some((tag, uids, transfer.to.clone()))
    }

    fn nothing_transferred(&mut self, tag: Tag, numbering: Numbering, kind: TransferKind) {
        let done = match numbering {
            Numbering::Uid => Done::ok(tag, format!("{} found no messages", kind.name())),
            // A number means a message, so it was expunged meanwhile (RFC 2180 §4.4).
            Numbering::Sequence => {
                Done::no(tag, "the messages were expunged meanwhile").with(Code::ExpungeIssued)
            }
        };
        self.finish(done, Flush::Always);
    }

    pub(super) fn transferred(
        &mut self,
        tag: Tag,
        numbering: Numbering,
        kind: TransferKind,
        copied: Option<Copied>,
    ) {
        let Some(Copied { uid_validity, from, to }) = copied else {
            return self.nothing_transferred(tag, numbering, kind);
        };
        let code = Code::CopyUid { uid_validity, from, to };
        match kind {
            TransferKind::Copy => {
                self.finish(Done::ok(tag, "COPY completed").with(code), Flush::Always);
            }
            TransferKind::Move => {
                // RFC 6851 §4.3: before the EXPUNGEs, so that the client can follow.
                response::untagged(self.output.text(), Status::Ok, Some(&code), "moved");
                self.finish_expunged(Done::ok(tag, "MOVE completed"));
            }
        }
    }

    pub(super) fn expunge(&mut self, tag: Tag, set: Option<&SequenceSet>) {
        let Some(active) = self.active() else { return };
        if !active.read_write {
            return self.read_only(tag, Numbering::Uid);
        }
        let uids = set.map(|set| resolve_uids(&active.view, set));
        if uids.as_ref().is_some_and(UidSet::is_empty) {
            return self.finish(Done::ok(tag, "EXPUNGE completed"), Flush::Always);
        }
        self.call(Call::Expunge { uids }, Waiting::Expunge(tag));
    }

    pub(super) fn expunged(&mut self, tag: Tag, uids: &UidSet) {
        let done = Done::ok(tag, "EXPUNGE completed");
        match uids.is_empty() {
            true => self.finish(done, Flush::Always),
            false => self.finish_expunged(done),
        }
    }

    /// Messages have been removed: the client is told which.
    fn finish_expunged(&mut self, done: Done) {
        match self.shutting_down || self.active().is_none() {
            true => self.say(done),
            false => self.ask_for_changes(Waiting::FlushExpunged(done)),
        }
    }

    /// A client that follows mod-sequences is told of the one after the removal (RFC 7162 §3.2.7,
    /// §3.2.8): it has been told everything up to there.
    pub(super) fn say_with_modseq(&mut self, done: Done) {
        let since = self.active().map(|active| active.view.since().max(ModSeq(1)));
        match since.filter(|_| self.condstore && done.code.is_none()) {
            Some(since) => self.say(done.with(Code::HighestModSeq(since))),
            None => self.say(done),
        }
    }
}

fn resolve_uids(view: &View, set: &SequenceSet) -> UidSet {
    view.clip(&set.to_uids(view.largest_uid()))
}
