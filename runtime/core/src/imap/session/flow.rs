//! What all commands share: the outstanding call, the end of a command, what is told at it.

use std::borrow::Cow;

use crate::calls::{Call, Changes, Reply};
use crate::error::StoreError;
use crate::imap::command::{Numbering, StatusItem, Tag};
use crate::imap::response::{self, Code, FetchLine, Status};
use crate::mailbox::view::{Expunges, Notice};
use crate::types::MailboxName;

use super::append::AppendTask;
use super::errors;
use super::fetch::FetchTask;
use super::list::ListTask;
use super::mailboxes::Change;
use super::search::SearchTask;
use super::select::SelectTask;
use super::store::StoreTask;
use super::transfer::TransferKind;
use super::{ImapSession, Phase, Reading};

/// The answer that ends a command.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) tag: Tag,
    pub(super) status: Status,
    pub(super) code: Option<Code>,
    pub(super) text: Cow<'static, str>,
}

impl Done {
    pub(super) fn ok(tag: Tag, text: impl Into<Cow<'static, str>>) -> Self {
        Self { tag, status: Status::Ok, code: None, text: text.into() }
    }

    pub(super) fn no(tag: Tag, text: impl Into<Cow<'static, str>>) -> Self {
        Self { tag, status: Status::No, code: None, text: text.into() }
    }

    pub(super) fn bad(tag: Tag, text: impl Into<Cow<'static, str>>) -> Self {
        Self { tag, status: Status::Bad, code: None, text: text.into() }
    }

    pub(super) fn with(self, code: Code) -> Self {
        Self { code: Some(code), ..self }
    }
}

/// What the outstanding call is for.
pub(super) enum Waiting {
    /// A password is checked.
    Login(Tag),
    /// SELECT or EXAMINE.
    Select(SelectTask),
    /// This is said whatever the answer is (the active mailbox has been left).
    Say(Done),
    /// CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.
    Change(Tag, Change),
    /// STATUS of this mailbox.
    Status(Tag, MailboxName, Vec<StatusItem>),
    /// LIST or LSUB: the account's mailboxes.
    List(ListTask),
    /// LIST with STATUS: the counts of the mailbox that was listed last.
    ListStatus(ListTask),
    /// APPEND: whether the mailbox is there, before the message is asked for.
    AppendCheck(Tag),
    /// APPEND: the message is added.
    Append(AppendTask),
    /// FETCH: a page of messages is read.
    Fetch(Box<FetchTask>),
    /// FETCH: the messages of a page become `\Seen` before they are shown.
    Seen(Box<FetchTask>),
    /// STORE: what others have changed is told first.
    StoreAhead(StoreTask),
    /// STORE: flags are changed.
    Store(StoreTask),
    /// EXPUNGE, UID EXPUNGE.
    Expunge(Tag),
    /// CLOSE: messages are removed.
    Close(Tag),
    /// COPY, MOVE.
    Transfer(Tag, Numbering, TransferKind),
    /// SEARCH.
    Search(SearchTask),
    /// A command is over; what has happened in the mailbox is told before its answer.
    Flush(Done, Expunges),
    /// EXPUNGE or MOVE is over: as `Flush`, and the answer names the mod-sequence after it.
    FlushExpunged(Done),
    /// IDLE: something has happened in the mailbox.
    Idle,
}

/// Whether changes of the active mailbox are asked for at the end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// When there is something to tell.
    IfChanged(Expunges),
    /// In any case: the client has asked for it (NOOP), or its command has changed something.
    Always,
}

impl Flush {
    /// After a command that names messages by these numbers (RFC 9051 §7.5.1).
    pub(super) fn after(numbering: Numbering) -> Self {
        Self::IfChanged(expunges_after(numbering))
    }
}

/// Whether removals may be told at the end of FETCH, STORE or SEARCH.
pub(super) fn expunges_after(numbering: Numbering) -> Expunges {
    match numbering {
        Numbering::Uid => Expunges::Tell,
        Numbering::Sequence => Expunges::Hold,
    }
}

impl ImapSession {
    /// Answers a command without asking what has happened in the mailbox.
    pub(super) fn say(&mut self, done: Done) {
        if self.is_authenticated() {
            // Until now the client had to wait: that was not its silence.
            self.last_heard = self.now;
        }
        let Done { tag, status, code, text } = done;
        response::tagged(self.output.text(), &tag, status, code.as_ref(), &text);
    }

    /// Ends a command: tells what has happened in the mailbox, then answers.
    pub(super) fn finish(&mut self, done: Done, flush: Flush) {
        let changed = self.changed;
        let Some(active) = self.active() else { return self.say(done) };
        let expunges = match flush {
            Flush::Always => Expunges::Tell,
            Flush::IfChanged(expunges) => {
                let held = expunges == Expunges::Tell && active.view.holds_expunges();
                if !changed && !held {
                    return self.say(done);
                }
                expunges
            }
        };
        if self.shutting_down {
            // The client learns the rest where it connects next.
            return self.say(done);
        }
        self.ask_for_changes(Waiting::Flush(done, expunges));
    }

    /// Asks what has happened in the active mailbox; there must be one.
    pub(super) fn ask_for_changes(&mut self, waiting: Waiting) {
        self.changed = false;
        let Some(active) = self.active() else { return };
        let since = active.view.since();
        let known = active.view.known();
        let released = active.view.released();
        self.call(Call::Changes { since, known, released }, waiting);
    }

    /// Ends a command that could not be carried out.
    pub(super) fn fail(&mut self, tag: Tag, error: &StoreError, flush: Flush) {
        self.finish(errors::done(tag, error), flush);
    }

    /// Writes what the view wants to be told.
    pub(super) fn write_notices(&mut self, notices: Vec<Notice>, numbering: Numbering) {
        for notice in notices {
            self.write_notice(notice, numbering);
        }
    }

    fn write_notice(&mut self, notice: Notice, numbering: Numbering) {
        let out = &mut self.output;
        match notice {
            Notice::Keywords(keywords) => {
                response::flags(out.text(), &keywords);
                if self.active().is_some_and(|active| active.read_write) {
                    let code = Code::PermanentFlags(keywords);
                    let text = "New keywords";
                    response::untagged(self.output.text(), Status::Ok, Some(&code), text);
                }
            }
            Notice::Expunge(number) => response::expunge(out.text(), number),
            Notice::Exists(number) => response::exists(out.text(), number),
            Notice::Recent(number) => response::recent(out.text(), number),
            Notice::Flags { sequence, uid, flags, recent, modseq } => {
                let mut line = FetchLine::begin(out, sequence);
                if numbering == Numbering::Uid {
                    line.uid(uid);
                }
                line.flags(&flags, recent);
                if self.condstore {
                    line.modseq(modseq);
                }
                line.end();
            }
            Notice::Silent { sequence, uid, modseq } if self.condstore => {
                let mut line = FetchLine::begin(out, sequence);
                if numbering == Numbering::Uid {
                    line.uid(uid);
                }
                line.modseq(modseq);
                line.end();
            }
            Notice::Silent { .. } => {}
        }
    }

    /// The outstanding call is answered.
    pub(super) fn answer(&mut self, answer: Result<Reply, StoreError>) {
        let Some(waiting) = self.waiting.take() else {
            // Nothing is outstanding: an answer for somebody else is nobody's.
            return;
        };
        match answer {
            Ok(reply) => self.answered(waiting, reply),
            Err(error) => self.failed(waiting, error),
        }
    }

    fn answered(&mut self, waiting: Waiting, reply: Reply) {
        match (waiting, reply) {
            (Waiting::Login(tag), Reply::Principal(principal)) => self.logged_in(tag, principal),
            (Waiting::Select(task), Reply::Selected(selected)) => self.selected(task, *selected),
            (Waiting::Say(done), _) => self.say(done),
            (Waiting::Change(tag, change), reply) => self.mailbox_changed(tag, change, reply),
            (Waiting::Status(tag, name, items), Reply::Status(status)) => {
                self.status_answered(tag, &name, status, &items);
            }
            (Waiting::List(task), Reply::Mailboxes(list)) => self.list_planned(task, &list),
            (Waiting::ListStatus(task), Reply::Status(status)) => {
                self.list_status_answered(task, Some(status));
            }
            (Waiting::AppendCheck(_), Reply::Status(_)) => self.accept_message(),
            (Waiting::Append(task), Reply::Appended { uid_validity, uids, .. }) => {
                self.appended(task, uid_validity, uids);
            }
            (Waiting::Fetch(task), Reply::Messages { messages, more }) => {
                self.fetched(task, messages, more);
            }
            (Waiting::Seen(task), Reply::Stored { rows, .. }) => self.seen_stored(task, rows),
            (Waiting::StoreAhead(task), Reply::Changes(changes)) => self.store_ahead(task, changes),
            (Waiting::Store(task), Reply::Stored { rows, modified }) => {
                self.flags_stored(task, rows, modified);
            }
            (Waiting::Expunge(tag), Reply::Expunged { uids, .. }) => self.expunged(tag, &uids),
            (Waiting::Close(tag), Reply::Expunged { .. }) => self.leave(tag, "CLOSE"),
            (Waiting::Transfer(tag, numbering, kind), Reply::Copied(copied)) => {
                self.transferred(tag, numbering, kind, copied);
            }
            (Waiting::Search(task), Reply::Found(found)) => self.found(task, found),
            (Waiting::Flush(done, expunges), Reply::Changes(changes)) => {
                self.tell(changes, expunges, Numbering::Sequence);
                self.say(done);
            }
            (Waiting::FlushExpunged(done), Reply::Changes(changes)) => {
                self.tell(changes, Expunges::Tell, Numbering::Sequence);
                self.say_with_modseq(done);
            }
            (Waiting::Idle, Reply::Changes(changes)) => {
                self.tell(changes, Expunges::Tell, Numbering::Sequence);
            }
            (waiting, _) => {
                let error = StoreError::Broken("an answer to another question".to_owned());
                self.failed(waiting, error);
            }
        }
    }

    fn failed(&mut self, waiting: Waiting, error: StoreError) {
        let anything = Flush::IfChanged(Expunges::Tell);
        match waiting {
            Waiting::Login(tag) => self.login_failed(tag, &error),
            Waiting::Select(task) => self.select_failed(task, &error),
            Waiting::Say(done) => self.say(done),
            Waiting::Change(tag, change) => self.mailbox_not_changed(tag, &change, &error),
            Waiting::Status(tag, ..) => self.fail(tag, &error, anything),
            Waiting::List(task) => self.fail(task.tag, &error, anything),
            // It was there when it was listed: somebody has removed it since.
            Waiting::ListStatus(task) if matches!(error, StoreError::NotFound(_)) => {
                self.list_status_answered(task, None);
            }
            Waiting::ListStatus(task) => self.fail(task.tag, &error, anything),
            Waiting::AppendCheck(tag) => self.append_refused(tag, &error),
            Waiting::Append(task) => self.fail_into(task.tag, &error),
            Waiting::Fetch(task) => {
                let flush = Flush::after(task.numbering);
                self.fail(task.tag, &error, flush);
            }
            // Mail is readable even when nothing can be written.
            Waiting::Seen(task) => self.seen_stored(task, Vec::new()),
            Waiting::StoreAhead(task) => {
                self.changes_failed(errors::done(task.tag, &error), &error);
            }
            Waiting::Store(task) => {
                let flush = Flush::after(task.numbering);
                self.fail(task.tag, &error, flush);
            }
            Waiting::Expunge(tag) => self.fail(tag, &error, anything),
            Waiting::Close(tag) => self.close_failed(tag, &error),
            Waiting::Transfer(tag, ..) => self.fail_into(tag, &error),
            Waiting::Search(task) => {
                let flush = Flush::after(task.numbering);
                self.fail(task.tag, &error, flush);
            }
            Waiting::Flush(done, _) | Waiting::FlushExpunged(done) => {
                self.changes_failed(done, &error);
            }
            Waiting::Idle => self.idle_failed(&error),
        }
    }

    /// Takes changes into the view and writes what it wants to be told.
    pub(super) fn tell(&mut self, changes: Changes, expunges: Expunges, numbering: Numbering) {
        let Some(active) = self.active() else { return };
        let notices = active.view.tell(changes, expunges);
        self.write_notices(notices, numbering);
    }

    /// What has happened could not be asked for at the end of a command. The command's own answer
    /// stands; the next command asks again.
    fn changes_failed(&mut self, done: Done, error: &StoreError) {
        self.say(done);
        self.mailbox_lost(error);
    }

    /// Changes of the active mailbox could not be asked for: it was deleted, or it is away.
    pub(super) fn mailbox_lost(&mut self, error: &StoreError) {
        self.changed = true;
        if matches!(error, StoreError::NotFound(_)) {
            // IMAP has no way to say that the selected mailbox is gone but to end the connection
            // (RFC 2180 §3.3); the client connects again and sees what is there.
            self.farewell(None, "the selected mailbox was deleted");
        }
    }

    /// Leaves the active mailbox; the session goes on without one.
    pub(super) fn deselect(&mut self, done: Done) {
        self.phase = Phase::Authenticated;
        self.changed = false;
        self.call(Call::Deselect, Waiting::Say(done));
    }

    /// Whether the client is between commands.
    pub(super) fn idles(&self) -> bool {
        matches!(self.reading, Reading::Idle(_))
    }
}
