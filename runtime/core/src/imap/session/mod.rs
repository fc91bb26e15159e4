//! The IMAP session as a pure state machine: octets, answers and time in; octets and calls out.
//!
//! IMAP4rev1 (RFC 3501, read in the light of RFC 9051 where that is clearer) with IDLE (RFC 2177),
//! NAMESPACE (2342), ID (2971), CHILDREN (3348), UNSELECT (3691), UIDPLUS (4315), ESEARCH (4731),
//! SASL-IR (4959), ENABLE (5161), LIST-EXTENDED (5258), LIST-STATUS (5819), SPECIAL-USE and
//! CREATE-SPECIAL-USE (6154), MOVE (6851), CONDSTORE (7162), LITERAL+ (7888), STATUS=SIZE (8438) and
//! OBJECTID (8474). Response codes are those of RFC 5530.
//!
//! How to read it: `framing` finds commands in the octets, `dispatch` checks whether a command is
//! allowed now, and a file for each family of commands says which calls it makes and what is
//! answered. `flow` is what they share: the one outstanding call ([`flow::Waiting`]) and the end of
//! a command, at which changes of the mailbox are told. What may be told, and when, is the business
//! of [`View`].
//!
//! Commands are carried out one after the other, whatever the client sends ahead (RFC 9051 §5.5):
//! the next one is looked at when the one before has been answered and the answer has been taken.

pub mod config;

mod arrival;

mod framing;

mod flow;

mod dispatch;

mod capability;

mod errors;

mod login;

mod select;

mod mailboxes;

mod list_plan;

mod list;

mod append;

mod fetch;

mod store;

mod transfer;

mod query;

mod search;

mod idle;

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::calls::Call;
use crate::imap::command::Tag;
use crate::imap::response::{self, Code, Output, Status};
use crate::mailbox::view::View;
use crate::session::{Action, Input, Millis, Session};
use crate::types::MailboxName;

pub use config::Config;
use flow::Waiting;
use framing::{Expect, Framer};
use login::Sasl;

/// Most commands in a row that are not in the language before the connection is closed: whoever
/// speaks no IMAP at all (HTTP, a scanner) is not answered for ever.
const MAX_BAD_COMMANDS: u32 = 20;

/// How far the connection has come (RFC 9051 §3).
enum Phase {
    /// Nobody has logged in.
    NotAuthenticated,
    /// Somebody has; no mailbox is active.
    Authenticated,
    /// A mailbox is active.
    Selected(Box<Active>),
    /// Farewell is said; nothing is read or written any more.
    Logout,
}

/// The active mailbox.
struct Active {
    /// The name under which it was selected, or has been renamed to by this session.
    name: MailboxName,
    /// Whether it may be changed.
    read_write: bool,
    /// What the client knows of it.
    view: View,
}

/// What the client's next octets are.
enum Reading {
    /// A command.
    Command,
    /// A SASL response.
    Sasl(Tag, Sasl),
    /// DONE, the end of this IDLE.
    Idle(Tag),
    /// None before the TLS handshake is done.
    Tls,
}

/// One client connection.
pub struct ImapSession {
    config: Config,
    now: Millis,
    phase: Phase,
    reading: Reading,
    framer: Framer,
    /// Octets that the client has sent ahead; at most what one input held.
    inbox: Bytes,
    /// What is to be sent, before `actions` can say so.
    output: Output,
    actions: VecDeque<Action>,
    /// What the outstanding call is for.
    waiting: Option<Waiting>,
    /// The client follows mod-sequences (RFC 7162 §3.1).
    condstore: bool,
    /// Something has happened in the active mailbox that was not asked for yet. Means nothing while
    /// none is active.
    changed: bool,
    /// Changes could not be asked for during IDLE: they are asked for at its end.
    retry_at_done: bool,
    /// The client sends no more.
    ended: bool,
    /// The node shuts down.
    shutting_down: bool,
    failed_logins: u32,
    bad_commands: u32,
    /// When the client last sent something, or was answered (before login: sent a whole command).
    last_heard: Millis,
}

impl ImapSession {
    /// A connection that was accepted just now. The greeting is the first action.
    pub fn new(config: Config) -> Self {
        let mut session = Self {
            config,
            now: Millis(0),
            phase: Phase::NotAuthenticated,
            reading: Reading::Command,
            framer: Framer::new(),
            inbox: Bytes::new(),
            output: Output::default(),
            actions: VecDeque::new(),
            waiting: None,
            condstore: false,
            changed: false,
            retry_at_done: false,
            ended: false,
            shutting_down: false,
            failed_logins: 0,
            bad_commands: 0,
            last_heard: Millis(0),
        };
        let code = session.capability_code();
        let text = format!("{} ready", session.config.name);
        response::untagged(session.output.text(), Status::Ok, Some(&code), &text);
        session
    }

    /// The active mailbox, if there is one.
    fn active(&mut self) -> Option<&mut Active> {
        match &mut self.phase {
            Phase::Selected(active) => Some(active),
            Phase::NotAuthenticated | Phase::Authenticated | Phase::Logout => None,
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Logout)
    }

    fn is_authenticated(&self) -> bool {
        match self.phase {
            Phase::NotAuthenticated | Phase::Logout => false,
            Phase::Authenticated | Phase::Selected(_) => true,
        }
    }

    /// Makes a call after everything written so far has been sent.
    fn call(&mut self, call: Call, waiting: Waiting) {
        debug_assert!(self.waiting.is_none(), "one call at a time");
        self.flush_output();
        self.waiting = Some(waiting);
        self.actions.push_back(Action::Call(call));
    }

    fn flush_output(&mut self) {
        self.actions.extend(self.output.take().into_iter().map(Action::Send));
    }

    /// Says farewell and closes.
    fn farewell(&mut self, code: Option<Code>, text: &str) {
        response::bye(self.output.text(), code.as_ref(), text);
        self.close();
    }

    /// Closes; a call that is still outstanding is answered to nobody.
    fn close(&mut self) {
        self.flush_output();
        self.actions.push_back(Action::Close);
        self.phase = Phase::Logout;
        self.waiting = None;
        self.inbox = Bytes::new();
    }

    /// Does the next thing that needs no more input. `false`: there is nothing to do.
    fn step(&mut self) -> bool {
        if self.waiting.is_some() || self.is_closed() {
            return false;
        }
        if let (Reading::Tls, true) = (&self.reading, self.ended || self.shutting_down) {
            // In the middle of a handshake nothing can be said.
            self.close();
            return true;
        }
        if self.shutting_down {
            self.farewell(Some(Code::Unavailable), "the server shuts down");
            return true;
        }
        if self.tell_while_idle() {
            return true;
        }
        let expect = match self.reading {
            Reading::Command => Expect::Command(self.max_command()),
            Reading::Sasl(..) | Reading::Idle(_) => Expect::Line(config::MAX_LINE_BEFORE_LOGIN),
            Reading::Tls => return false,
        };
        match self.framer.next(&mut self.inbox, expect) {
            Some(frame) => self.frame(frame),
            None if self.ended => self.close(),
            None => return false,
        }
        true
    }

    fn max_command(&self) -> usize {
        match self.is_authenticated() {
            true => self.config.max_line,
            false => self.config.max_line.min(config::MAX_LINE_BEFORE_LOGIN),
        }
    }

    fn time(&mut self) {
        if self.deadline().is_none_or(|deadline| self.now < deadline) {
            return;
        }
        match self.reading {
            Reading::Tls => self.close(),
            Reading::Command | Reading::Sasl(..) | Reading::Idle(_) => {
                self.farewell(None, "Autologout: idle for too long");
            }
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        if matches!(self.reading, Reading::Tls) {
            // Sent in the clear, perhaps by somebody else than the client (RFC 9051 §11.4).
            return;
        }
        if self.is_authenticated() {
            self.last_heard = self.now;
        }
        self.inbox = match self.inbox.is_empty() {
            true => Bytes::copy_from_slice(octets),
            false => [&self.inbox, octets].concat().into(),
        };
    }
}

impl Session for ImapSession {
    fn input(&mut self, now: Millis, input: Input<'_>) {
        self.now = self.now.max(now);
        if self.is_closed() {
            return;
        }
        match input {
            Input::Octets(octets) => self.octets(octets),
            Input::EndOfInput => self.ended = true,
            Input::Answer(answer) => self.answer(answer),
            Input::Changed => self.changed = true,
            Input::TlsEstablished => self.tls_established(),
            Input::Time => self.time(),
            Input::ShuttingDown => self.shutting_down = true,
        }
    }

    fn action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            self.flush_output();
            if self.actions.is_empty() && !self.step() {
                return None;
            }
        }
    }

    fn wants_octets(&self) -> bool {
        let reads = !matches!(self.reading, Reading::Tls) && !self.is_closed() && !self.ended;
        reads && self.waiting.is_none() && self.inbox.is_empty()
    }

    fn deadline(&self) -> Option<Millis> {
        if self.is_closed() || self.waiting.is_some() {
            return None;
        }
        let after = |start: Millis, limit: Millis| Millis(start.0.saturating_add(limit.0));
        Some(match self.is_authenticated() {
            true => after(self.last_heard, self.config.idle_timeout),
            false => after(self.last_heard, self.config.login_timeout).min(config::LOGIN_TOTAL),
        })
    }
}

/// Nothing of what the client sent: that may be a password.
impl fmt::Debug for ImapSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::NotAuthenticated => "not authenticated",
            Phase::Authenticated => "authenticated",
            Phase::Selected(_) => "selected",
            Phase::Logout => "logout",
        };
        f.debug_struct("ImapSession").field("phase", &phase).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
