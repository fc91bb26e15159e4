//! IDLE (RFC 2177): what happens in the mailbox is told at once.

use crate::error::StoreError;
use crate::imap::command::Tag;
use crate::imap::response;
use crate::mailbox::view::Expunges;

use super::flow::{Done, Flush, Waiting};
use super::{ImapSession, Reading};

impl ImapSession {
    pub(super) fn idle(&mut self, tag: Tag) {
        response::continuation(self.output.text(), "idling");
        self.reading = Reading::Idle(tag);
        // Whatever happened before is told first; that also lets go of what was told.
        if self.active().is_some() {
            self.ask_for_changes(Waiting::Idle);
        }
    }

    /// Whether there was something to ask for.
    pub(super) fn tell_while_idle(&mut self) -> bool {
        let due = self.changed && self.idles() && self.active().is_some();
        if due {
            self.ask_for_changes(Waiting::Idle);
        }
        due
    }

    /// Changes could not be asked for. The mailbox may be away for a moment: the end of IDLE, or the
    /// next change, asks again.
    pub(super) fn idle_failed(&mut self, error: &StoreError) {
        self.mailbox_lost(error);
        self.retry_at_done = std::mem::replace(&mut self.changed, false);
    }

    pub(super) fn idle_line(&mut self, tag: Tag, line: &[u8]) {
        if !line.eq_ignore_ascii_case(b"DONE") {
            return self.bad(Some(tag), "IDLE ends with DONE");
        }
        self.changed |= std::mem::take(&mut self.retry_at_done);
        self.finish(Done::ok(tag, "IDLE completed"), Flush::IfChanged(Expunges::Tell));
    }
}
