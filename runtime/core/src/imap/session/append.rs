//! APPEND (RFC 9051 §6.3.12, UIDPLUS: RFC 4315).

use bytes::Bytes;

use crate::calls::{Call, NewMessage};
use crate::error::StoreError;
use crate::imap::command::{AppendHead, Tag};
use crate::imap::response::{self, Code};
use crate::types::{Uid, UidValidity};

use super::ImapSession;
use super::errors;
use super::flow::{Done, Flush, Waiting};
use super::framing::Refusal;
use super::mailboxes::ANYTHING;

/// An APPEND whose message is being added.
pub(super) struct AppendTask {
    pub(super) tag: Tag,
}

impl ImapSession {
    /// An APPEND has come up to its message: is it wanted?
    pub(super) fn append_head(&mut self, head: AppendHead) {
        if !self.is_authenticated() {
            let done = Done::bad(head.tag, "log in first");
            return self.framer.refuse(Refusal::Append(done));
        }
        self.bad_commands = 0;
        if head.literal.octets > self.config.max_message_octets {
            return self.framer.refuse(Refusal::MessageTooLarge(head.tag));
        }
        if head.literal.octets == 0 {
            let done = Done::no(head.tag, "there is no empty message").with(Code::Cannot);
            return self.framer.refuse(Refusal::Append(done));
        }
        if head.literal.non_sync {
            return self.accept_message();
        }
        // The client waits: it need not send its message to learn that the mailbox is not there.
        self.call(Call::Status { name: head.mailbox }, Waiting::AppendCheck(head.tag));
    }

    pub(super) fn accept_message(&mut self) {
        if self.framer.accept() {
            response::continuation(self.output.text(), "send the message");
        }
    }

    pub(super) fn append_refused(&mut self, tag: Tag, error: &StoreError) {
        self.framer.refuse(Refusal::Append(refusal(tag, error)));
    }

    pub(super) fn append_message(&mut self, head: AppendHead, body: Bytes) {
        let AppendHead { tag, mailbox, flags, internal_date, .. } = head;
        let messages = vec![NewMessage { flags, internal_date, body }];
        let waiting = Waiting::Append(AppendTask { tag });
        self.call(Call::Append { mailbox, messages }, waiting);
    }

    pub(super) fn appended(&mut self, task: AppendTask, uid_validity: UidValidity, uids: Vec<Uid>) {
        let done = Done::ok(task.tag, "APPEND completed");
        let done = match uids.is_empty() {
            true => done,
            false => done.with(Code::AppendUid { uid_validity, uids }),
        };
        // RFC 9051 §6.3.12: if the mailbox is selected, its EXISTS comes at once.
        self.finish(done, Flush::Always);
    }

    /// Ends APPEND, COPY or MOVE when the target could not take the messages.
    pub(super) fn fail_into(&mut self, tag: Tag, error: &StoreError) {
        self.finish(refusal(tag, error), ANYTHING);
    }
}

/// RFC 9051 §6.3.12, §6.4.7: TRYCREATE when the target is missing and can be made.
fn refusal(tag: Tag, error: &StoreError) -> Done {
    let done = errors::done(tag, error);
    match matches!(error, StoreError::NotFound(_)) {
        true => done.with(Code::TryCreate),
        false => done,
    }
}
