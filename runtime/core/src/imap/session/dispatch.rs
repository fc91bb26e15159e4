//! From frames to commands: what is allowed in which state, and the commands that need no mailbox.

use crate::imap::command::{Command, CommandBody, Tag};
use crate::imap::parse::{self, Fault, ParseError};
use crate::imap::response::{self, Code, Status};

use super::append;
use super::flow::{Done, Flush};
use super::framing::{Frame, Refusal};
use super::mailboxes::ANYTHING;
use super::{ImapSession, MAX_BAD_COMMANDS, Phase, Reading};

/// In which state a command is allowed (RFC 9051 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Any.
    Nothing,
    /// Before login only.
    NoLogin,
    /// After login.
    Login,
    /// With an active mailbox.
    Mailbox,
}

impl Needs {
    fn of(body: &CommandBody) -> Self {
        match body {
            CommandBody::Capability
            | CommandBody::Noop
            | CommandBody::Logout
            | CommandBody::Id(_) => Self::Nothing,
            CommandBody::StartTls
            | CommandBody::Login { .. }
            | CommandBody::Authenticate { .. } => Self::NoLogin,
            CommandBody::Select { .. }
            | CommandBody::Examine { .. }
            | CommandBody::Create { .. }
            | CommandBody::Delete(_)
            | CommandBody::Rename { .. }
            | CommandBody::Subscribe(_)
            | CommandBody::Unsubscribe(_)
            | CommandBody::List(_)
            | CommandBody::Lsub { .. }
            | CommandBody::Namespace
            | CommandBody::Status { .. }
            | CommandBody::Idle
            | CommandBody::Enable(_) => Self::Login,
            CommandBody::Check
            | CommandBody::Close
            | CommandBody::Unselect
            | CommandBody::Expunge
            | CommandBody::UidExpunge(_)
            | CommandBody::Search(_)
            | CommandBody::Fetch(_)
            | CommandBody::Store(_)
            | CommandBody::Copy(_)
            | CommandBody::Move(_) => Self::Mailbox,
        }
    }
}

impl ImapSession {
    /// The client has sent something.
    pub(super) fn frame(&mut self, frame: Frame) {
        self.last_heard = self.now;
        match frame {
            Frame::Command(text) => match parse::command(&text) {
                Ok(Command { tag, body }) => {
                    self.bad_commands = 0;
                    self.command(tag, body);
                }
                Err(error) => self.not_understood(error),
            },
            Frame::Line(line) => self.line(&line),
            Frame::GoOn => response::continuation(self.output.text(), "go on"),
            Frame::Append(head) => self.append_head(head),
            Frame::Message(head, arrival) => self.append_message(head, arrival),
            Frame::Refused(refusal) => self.refused(refusal),
        }
    }

    fn command(&mut self, tag: Tag, body: CommandBody) {
        let text = match (Needs::of(&body), &self.phase) {
            (Needs::Nothing, _)
            | (Needs::NoLogin, Phase::NotAuthenticated)
            | (Needs::Login, Phase::Authenticated | Phase::Selected(_))
            | (Needs::Mailbox, Phase::Selected(_)) => return self.carry_out(tag, body),
            (_, Phase::Logout) => return,
            (Needs::NoLogin, _) => "already logged in",
            (Needs::Login | Needs::Mailbox, Phase::NotAuthenticated) => "log in first",
            (Needs::Mailbox, Phase::Authenticated) => "select a mailbox first",
        };
        self.say(Done::bad(tag, text));
    }

    fn carry_out(&mut self, tag: Tag, body: CommandBody) {
        match body {
            CommandBody::Capability => self.capability(tag),
            CommandBody::Noop => self.finish(Done::ok(tag, "NOOP completed"), Flush::Always),
            CommandBody::Check => self.finish(Done::ok(tag, "CHECK completed"), Flush::Always),
            CommandBody::Logout => self.logout(tag),
            CommandBody::Id(_) => self.id(tag),
            CommandBody::StartTls => self.start_tls(tag),
            CommandBody::Login { user, password } => self.login(tag, user, password),
            CommandBody::Authenticate { mechanism, initial } => {
                self.authenticate(tag, &mechanism, initial);
            }
            CommandBody::Select { mailbox, condstore } => {
                self.select(tag, mailbox, true, condstore);
            }
            CommandBody::Examine { mailbox, condstore } => {
                self.select(tag, mailbox, false, condstore);
            }
            CommandBody::Create { mailbox, special_use } => self.create(tag, mailbox, &special_use),
            CommandBody::Delete(name) => self.delete(tag, name),
            CommandBody::Rename { from, to } => self.rename(tag, from, to),
            CommandBody::Subscribe(name) => self.subscribe(tag, name, true),
            CommandBody::Unsubscribe(name) => self.subscribe(tag, name, false),
            CommandBody::List(list) => self.list(tag, list),
            CommandBody::Lsub { reference, pattern } => self.lsub(tag, &reference, &pattern),
            CommandBody::Namespace => self.namespace(tag),
            CommandBody::Status { mailbox, items } => self.status(tag, mailbox, items),
            CommandBody::Idle => self.idle(tag),
            CommandBody::Enable(words) => self.enable(tag, &words),
            CommandBody::Close => self.close_mailbox(tag),
            CommandBody::Unselect => self.leave(tag, "UNSELECT"),
            CommandBody::Expunge => self.expunge(tag, None),
            CommandBody::UidExpunge(set) => self.expunge(tag, Some(&set)),
            CommandBody::Search(search) => self.search(tag, search),
            CommandBody::Fetch(fetch) => self.fetch(tag, fetch),
            CommandBody::Store(store) => self.store(tag, store),
            CommandBody::Copy(transfer) => self.copy(tag, transfer),
            CommandBody::Move(transfer) => self.move_messages(tag, transfer),
        }
    }

    fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::TooLong(tag) => match std::mem::replace(&mut self.reading, Reading::Command) {
                Reading::Sasl(tag, _) | Reading::Idle(tag) => {
                    self.bad(Some(tag), "the line is too long");
                }
                Reading::Command | Reading::Tls => self.bad(tag, "the command is too long"),
            },
            Refusal::MessageTooLarge(tag) => {
                let max = self.config.max_message_octets;
                let text = format!("a message has at most {max} octets");
                self.say(Done::no(tag, text).with(Code::TooBig));
            }
            Refusal::Parse(error) => self.not_understood(error),
            Refusal::Append(done) => self.say(done),
            Refusal::Unwanted(tag, unwanted) => self.say(append::unwanted(tag, unwanted)),
            Refusal::Hopeless => self.farewell(None, "the command is too long"),
        }
    }

    fn not_understood(&mut self, error: ParseError) {
        let text = error.to_string();
        let code = match error.fault {
            Fault::Syntax => return self.bad(error.tag, &text),
            Fault::MailboxName => Code::Cannot,
            Fault::Limit => Code::Limit,
        };
        match error.tag {
            Some(tag) => self.say(Done::no(tag, text).with(code)),
            None => self.bad(None, &text),
        }
    }

    /// Answers what is no command. Too many in a row: this is no IMAP client.
    pub(super) fn bad(&mut self, tag: Option<Tag>, text: &str) {
        match tag {
            Some(tag) => self.say(Done::bad(tag, text.to_owned())),
            None => response::untagged(self.output.text(), Status::Bad, None, text),
        }
        self.bad_commands += 1;
        if self.bad_commands >= MAX_BAD_COMMANDS {
            self.farewell(None, "too many commands that are none");
        }
    }

    fn capability(&mut self, tag: Tag) {
        let words = self.capabilities();
        response::capability(self.output.text(), &words);
        self.say(Done::ok(tag, "CAPABILITY completed"));
    }

    fn logout(&mut self, tag: Tag) {
        response::bye(self.output.text(), None, "until next time");
        self.say(Done::ok(tag, "LOGOUT completed"));
        self.close();
    }

    fn id(&mut self, tag: Tag) {
        let pairs = [("name", "Postroom"), ("version", env!("CARGO_PKG_VERSION"))];
        response::id(self.output.text(), &pairs);
        self.say(Done::ok(tag, "ID completed"));
    }

    fn namespace(&mut self, tag: Tag) {
        response::namespace(self.output.text());
        self.finish(Done::ok(tag, "NAMESPACE completed"), ANYTHING);
    }

    /// RFC 5161: what is not known is passed over.
    fn enable(&mut self, tag: Tag, words: &[String]) {
        let condstore = words.iter().any(|word| word == "CONDSTORE");
        let enabled: &[&str] = if condstore { &["CONDSTORE"] } else { &[] };
        response::enabled(self.output.text(), enabled);
        if condstore {
            self.enable_condstore();
        }
        self.say(Done::ok(tag, "ENABLE completed"));
    }

    /// The client follows mod-sequences from now on. If a mailbox is active, it is told from where
    /// (RFC 7162 §3.1.2.1: HIGHESTMODSEQ with the first command that enables).
    pub(super) fn enable_condstore(&mut self) {
        if std::mem::replace(&mut self.condstore, true) {
            return;
        }
        if let Some(active) = self.active() {
            let code = Code::HighestModSeq(active.view.since().max(crate::types::ModSeq(1)));
            let text = "mod-sequences are told from here on";
            response::untagged(self.output.text(), Status::Ok, Some(&code), text);
        }
    }
}
