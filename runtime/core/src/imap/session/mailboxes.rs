//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS (RFC 9051 §6.3).

use crate::calls::{Call, MailboxStatus, Reply};
use crate::error::StoreError;
use crate::imap::command::{SpecialUse, StatusItem, Tag};
use crate::imap::response::{self, Code};
use crate::mailbox::view::Expunges;
use crate::types::{MailboxName, ModSeq};

use super::ImapSession;
use super::errors;
use super::flow::{Done, Flush, Waiting};

/// A change of the account's mailboxes.
pub(super) enum Change {
    /// With a special use, or without.
    Create {
        special_use: bool,
    },
    Delete(MailboxName),
    Rename {
        from: MailboxName,
        to: MailboxName,
    },
    Subscribe,
    Unsubscribe,
}

/// At the end of a command that has nothing to do with the active mailbox.
pub(super) const ANYTHING: Flush = Flush::IfChanged(Expunges::Tell);

impl ImapSession {
    pub(super) fn create(&mut self, tag: Tag, name: MailboxName, uses: &[SpecialUse]) {
        let special_use = match uses {
            [] => None,
            [one] if can_be_given(one) => Some(one.name().to_owned()),
            _ => {
                let text = "a mailbox has one special use at most, and of those that hold mail";
                return self.finish(Done::no(tag, text).with(Code::UseAttr), ANYTHING);
            }
        };
        let change = Change::Create { special_use: special_use.is_some() };
        self.call(Call::Create { name, special_use }, Waiting::Change(tag, change));
    }

    pub(super) fn delete(&mut self, tag: Tag, name: MailboxName) {
        let call = Call::Delete { name: name.clone() };
        self.call(call, Waiting::Change(tag, Change::Delete(name)));
    }

    pub(super) fn rename(&mut self, tag: Tag, from: MailboxName, to: MailboxName) {
        let call = Call::Rename { from: from.clone(), to: to.clone() };
        self.call(call, Waiting::Change(tag, Change::Rename { from, to }));
    }

    pub(super) fn subscribe(&mut self, tag: Tag, name: MailboxName, on: bool) {
        let change = if on { Change::Subscribe } else { Change::Unsubscribe };
        self.call(Call::Subscribe { name, on }, Waiting::Change(tag, change));
    }

    pub(super) fn mailbox_changed(&mut self, tag: Tag, change: Change, reply: Reply) {
        match (change, reply) {
            (Change::Create { .. }, Reply::Created(id)) => {
                let done = Done::ok(tag, "CREATE completed").with(Code::MailboxId(id));
                self.finish(done, ANYTHING);
            }
            (Change::Delete(name), Reply::Done) => {
                let done = Done::ok(tag, "DELETE completed");
                // The client has deleted what it had selected: nothing is left to be told of it.
                match self.active().is_some_and(|active| active.name == name) {
                    true => self.deselect(done),
                    false => self.finish(done, ANYTHING),
                }
            }
            (Change::Rename { from, to }, Reply::Done) => {
                self.follow_rename(&from, &to);
                self.finish(Done::ok(tag, "RENAME completed"), ANYTHING);
            }
            (Change::Subscribe, Reply::Done) => {
                self.finish(Done::ok(tag, "SUBSCRIBE completed"), ANYTHING);
            }
            (Change::Unsubscribe, Reply::Done) => {
                self.finish(Done::ok(tag, "UNSUBSCRIBE completed"), ANYTHING);
            }
            (
                Change::Create { .. }
                | Change::Delete(_)
                | Change::Rename { .. }
                | Change::Subscribe
                | Change::Unsubscribe,
                _,
            ) => self.fail(tag, &StoreError::Broken(String::new()), ANYTHING),
        }
    }

    pub(super) fn mailbox_not_changed(&mut self, tag: Tag, change: &Change, error: &StoreError) {
        let done = errors::done(tag, error);
        // RFC 6154 §3: what a special use cannot be given to has a code of its own.
        let of_use = matches!(change, Change::Create { special_use: true })
            && matches!(error, StoreError::Invalid(_));
        self.finish(if of_use { done.with(Code::UseAttr) } else { done }, ANYTHING);
    }

    /// The active mailbox has a new name, unless it is INBOX, which stays where it is.
    fn follow_rename(&mut self, from: &MailboxName, to: &MailboxName) {
        let Some(active) = self.active() else { return };
        if active.name.is_inbox() {
            return;
        }
        if let Some(Ok(name)) = active.name.moved(from, to) {
            active.name = name;
        }
    }

    pub(super) fn status(&mut self, tag: Tag, name: MailboxName, items: Vec<StatusItem>) {
        if items.contains(&StatusItem::HighestModSeq) {
            self.enable_condstore();
        }
        let call = Call::Status { name: name.clone() };
        self.call(call, Waiting::Status(tag, name, items));
    }

    pub(super) fn status_answered(
        &mut self,
        tag: Tag,
        name: &MailboxName,
        status: MailboxStatus,
        items: &[StatusItem],
    ) {
        self.write_status(name, status, items);
        self.finish(Done::ok(tag, "STATUS completed"), ANYTHING);
    }

    pub(super) fn write_status(
        &mut self,
        name: &MailboxName,
        mut status: MailboxStatus,
        items: &[StatusItem],
    ) {
        // Zero would say that the mailbox keeps no mod-sequences (RFC 7162 §3.1.7).
        status.highest_modseq = status.highest_modseq.max(ModSeq(1));
        response::mailbox_status(self.output.text(), name, &status, items);
    }
}

/// `\All` and `\Flagged` are views of other mailboxes, of which this server has none.
fn can_be_given(special_use: &SpecialUse) -> bool {
    match special_use {
        SpecialUse::Archive
        | SpecialUse::Drafts
        | SpecialUse::Junk
        | SpecialUse::Sent
        | SpecialUse::Trash => true,
        SpecialUse::All | SpecialUse::Flagged | SpecialUse::Other(_) => false,
    }
}
