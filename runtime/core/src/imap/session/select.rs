//! SELECT, EXAMINE, CLOSE, UNSELECT (RFC 9051 §6.3.2, §6.3.3, §6.4.1, §6.4.2).
//!
//! When SELECT or EXAMINE leaves a mailbox, CLOSED parts what is said of that one from what is said
//! of the next (RFC 7162 §3.2.11, RFC 9051 §7.1). It is said whether the client follows
//! mod-sequences or not, and whether the next mailbox can be selected or not: RFC 7162 asks it of
//! the server that has the extension, not of the session that uses it, the old mailbox is left in
//! any case, and a client that does not know the code passes it over (RFC 3501 §7.1). CLOSE and
//! UNSELECT say it with their own OK.

use crate::calls::{Call, Selected};
use crate::error::StoreError;
use crate::imap::command::Tag;
use crate::imap::response::{self, Code, Status};
use crate::mailbox::view::View;
use crate::types::{MailboxName, ModSeq};

use super::errors;
use super::flow::{Done, Flush, Waiting};
use super::{Active, ImapSession, Phase};

/// A SELECT or EXAMINE under way.
pub(super) struct SelectTask {
    tag: Tag,
    name: MailboxName,
    /// A mailbox was active before: it is left whether the new one can be selected or not.
    leaves: bool,
}

impl ImapSession {
    pub(super) fn select(
        &mut self,
        tag: Tag,
        name: MailboxName,
        read_write: bool,
        condstore: bool,
    ) {
        let leaves = self.active().is_some();
        if leaves {
            let text = "the mailbox selected before is left";
            response::untagged(self.output.text(), Status::Ok, Some(&Code::Closed), text);
        }
        self.phase = Phase::Authenticated;
        self.changed = false;
        if condstore {
            self.enable_condstore();
        }
        let call = Call::Select { name: name.clone(), read_write };
        self.call(call, Waiting::Select(SelectTask { tag, name, leaves }));
    }

    pub(super) fn selected(&mut self, task: SelectTask, selected: Selected) {
        let view = View::new(&selected);
        let out = self.output.text();
        let keywords = view.keywords();
        response::flags(out, &keywords);
        response::exists(out, view.exists());
        response::recent(out, view.recent());
        let unseen = selected.first_unseen.and_then(|uid| view.sequence_of(uid));
        let status = &selected.status;
        let permanent = match selected.read_write {
            true => Code::PermanentFlags(keywords),
            false => Code::NoPermanentFlags,
        };
        let modseq = status.highest_modseq.max(ModSeq(1));
        let facts = [
            (unseen.map(Code::Unseen), "first message not seen"),
            (Some(permanent), "flags that can be kept"),
            (Some(Code::UidValidity(status.uid_validity)), "UIDs are valid"),
            (Some(Code::UidNext(status.uid_next)), "next UID"),
            (Some(Code::HighestModSeq(modseq)), "last change"),
            (Some(Code::MailboxId(status.mailbox)), "lasting id"),
        ];
        for (code, text) in facts {
            if let Some(code) = code {
                response::untagged(out, Status::Ok, Some(&code), text);
            }
        }
        let (code, text) = match selected.read_write {
            true => (Code::ReadWrite, "selected"),
            false => (Code::ReadOnly, "selected, read-only"),
        };
        let read_write = selected.read_write;
        self.phase = Phase::Selected(Box::new(Active { name: task.name, read_write, view }));
        self.say(Done::ok(task.tag, text).with(code));
    }

    pub(super) fn select_failed(&mut self, task: SelectTask, error: &StoreError) {
        let done = errors::done(task.tag, error);
        match task.leaves {
            true => self.deselect(done),
            false => self.say(done),
        }
    }

    /// CLOSE: removes what is marked `\Deleted`, without telling, and leaves.
    pub(super) fn close_mailbox(&mut self, tag: Tag) {
        match self.active().is_some_and(|active| active.read_write) {
            true => self.call(Call::Expunge { uids: None }, Waiting::Close(tag)),
            false => self.leave(tag, "CLOSE"),
        }
    }

    /// The messages are still there, so the mailbox stays selected; but when it is itself gone,
    /// there is nothing to stay in.
    pub(super) fn close_failed(&mut self, tag: Tag, error: &StoreError) {
        match error {
            StoreError::NotFound(_) => self.leave(tag, "CLOSE"),
            error => {
                self.fail(tag, error, Flush::Always);
            }
        }
    }

    /// UNSELECT, and the end of CLOSE.
    pub(super) fn leave(&mut self, tag: Tag, command: &str) {
        self.deselect(Done::ok(tag, format!("{command} completed")));
    }
}
