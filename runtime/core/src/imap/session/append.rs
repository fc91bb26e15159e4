//! APPEND (RFC 9051 §6.3.12, UIDPLUS: RFC 4315).
//!
//! **A message is kept octet for octet**, also with line ends that are a bare LF, which RFC 3501
//! §6.3.11 only advises against. Other servers differ: Dovecot makes CRLF of them when the message
//! is read, Cyrus refuses the message. Refusing loses mail to a client that moves an old archive and
//! does not look at answers; rewriting changes what was signed, what a part with the encoding
//! `binary` holds, and the size that the client has announced. So what was acknowledged is what is
//! read back, and whatever reads messages here (`mime`, `search`, `archive`) takes LF for a line
//! end. It is otherwise with mail that comes by LMTP or out of an archive: there a bare LF is an
//! accident of the transport.
//!
//! NUL is refused: IMAP has no form in which it could be sent back (RFC 9051 §9, `CHAR8`), but for
//! the literal8 of BINARY, which is not offered and whose `~` is therefore no syntax here.

use crate::budget::Reservation;
use crate::calls::{Call, NewMessage};
use crate::error::StoreError;
use crate::imap::command::{AppendHead, Tag};
use crate::imap::response::{self, Code};
use crate::types::{Uid, UidValidity};

use super::ImapSession;
use super::arrival::{Arrival, Unwanted};
use super::errors;
use super::flow::{Done, Flush, Waiting};
use super::framing::Refusal;
use super::mailboxes::ANYTHING;

/// An APPEND whose message is being added.
pub(super) struct AppendTask {
    pub(super) tag: Tag,
    /// The memory of the message, given back when its fate is known.
    held: Reservation,
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
        if self.framer.accept(&self.config.budget) {
            response::continuation(self.output.text(), "send the message");
        }
    }

    pub(super) fn append_refused(&mut self, tag: Tag, error: &StoreError) {
        self.framer.refuse(Refusal::Append(refusal(tag, error)));
    }

    pub(super) fn append_message(&mut self, head: AppendHead, arrival: Arrival) {
        let AppendHead { tag, mailbox, flags, internal_date, .. } = head;
        let (body, held) = arrival.finish();
        let messages = vec![NewMessage { flags, internal_date, body }];
        let waiting = Waiting::Append(AppendTask { tag, held });
        self.call(Call::Append { mailbox, messages }, waiting);
    }

    pub(super) fn appended(&mut self, task: AppendTask, uid_validity: UidValidity, uids: Vec<Uid>) {
        let AppendTask { tag, held } = task;
        drop(held);
        let done = Done::ok(tag, "APPEND completed");
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

/// Why a message was not taken in: NO, because nothing is wrong with the command (RFC 3501 §6.3.11).
pub(super) fn unwanted(tag: Tag, unwanted: Unwanted) -> Done {
    match unwanted {
        Unwanted::NoRoom => {
            let text = "too many messages arrive at once, try again in a moment";
            Done::no(tag, text).with(Code::Unavailable)
        }
        Unwanted::Nul => Done::no(tag, "a message has no NUL octets").with(Code::Cannot),
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
