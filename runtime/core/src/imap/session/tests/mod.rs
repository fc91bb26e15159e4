//! Transcripts: what a client sends, and what it reads.
//!
//! A script has a line for each thing that happens:
//!
//! - `C: text` the client sends the text and a line end; `<CRLF>` and `<NUL>` stand for what they
//!   say. `C2:` is a second client, logged in to the same account.
//! - `S: text` the client reads this line; `...` stands for anything. Every line must be named, in
//!   order; `S: <closed>` is the end of the connection.
//! - `T: seconds` time passes. `E:` the client sends no more. `D:` the node shuts down.

mod fake;

mod access;

mod append;

mod capability;

mod fetch;

mod framing;

mod list;

mod mailboxes;

mod search;

mod select;

mod sessions;

mod store;

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Config, ImapSession};
use crate::calls::NewMessage;
use crate::session::{Action, Input, Millis, Session};
use crate::types::{Flags, MailboxName, Timestamp};
use fake::FakeStore;

/// A client with its connection.
struct Client {
    session: ImapSession,
    /// Lines that it has not read yet.
    unread: Vec<u8>,
}

/// A store, and the clients that are connected to it.
struct Server {
    store: FakeStore,
    clients: Vec<Client>,
    now: Millis,
    /// Sessions are told that something has happened in their mailbox.
    hints: bool,
}

/// Messages 1 to 3 of INBOX: `Subject: one` and so on.
fn letter(subject: &str) -> NewMessage {
    let body =
        format!("From: Bob <bob@example.org>\r\nSubject: {subject}\r\n\r\nHello {subject}\r\n");
    let internal_date = Some(Timestamp::utc(fake::NOW - 86_400));
    NewMessage { flags: Flags::default(), internal_date, body: Bytes::from(body) }
}

impl Server {
    /// One client that has just connected.
    fn greeting(config: Config) -> Self {
        let mut store = FakeStore::new();
        let letters = ["one", "two", "three"].map(letter).to_vec();
        store.append(&MailboxName::inbox(), letters).expect("INBOX is there");
        let mut server = Self { store, clients: Vec::new(), now: Millis(0), hints: true };
        server.connect(config);
        server
    }

    /// Two clients that have logged in.
    fn new() -> Self {
        let config = Config { plaintext_login: true, ..Config::default() };
        let mut server = Self::greeting(config.clone());
        server.connect(config);
        for client in 0..2 {
            server.send(client, b"login LOGIN alice secret\r\n");
            server.clients[client].unread.clear();
        }
        server.store.calls.clear();
        server
    }

    fn connect(&mut self, config: Config) {
        self.clients.push(Client { session: ImapSession::new(config), unread: Vec::new() });
        self.perform(self.clients.len() - 1);
    }

    /// As the driver does: octets go in as long as the session wants them.
    fn send(&mut self, client: usize, octets: &[u8]) {
        self.input(client, Input::Octets(octets));
    }

    fn input(&mut self, client: usize, input: Input<'_>) {
        self.clients[client].session.input(self.now, input);
        self.perform(client);
    }

    /// Performs what a session wants done, and then what others want done because of it.
    fn perform(&mut self, client: usize) {
        let mut due = VecDeque::from([client]);
        while let Some(client) = due.pop_front() {
            while let Some(action) = self.clients[client].session.action() {
                match action {
                    Action::Send(octets) => {
                        assert!(!octets.is_empty(), "nothing to send");
                        self.clients[client].unread.extend_from_slice(&octets);
                    }
                    Action::Call(call) => {
                        let writes = !matches!(call, crate::calls::Call::Changes { .. });
                        assert!(!self.clients[client].session.wants_octets());
                        assert_eq!(self.clients[client].session.deadline(), None);
                        let answer = self.store.call(client, call);
                        self.clients[client].session.input(self.now, Input::Answer(answer));
                        for other in self.store.watchers(client) {
                            if writes && self.hints {
                                self.clients[other].session.input(self.now, Input::Changed);
                                due.push_back(other);
                            }
                        }
                    }
                    Action::StartTls => {
                        assert!(!self.clients[client].session.wants_octets());
                        self.clients[client].session.input(self.now, Input::TlsEstablished);
                    }
                    Action::LoggedIn(principal) => assert_eq!(principal.user, "alice"),
                    Action::Close => {
                        self.clients[client].unread.extend_from_slice(b"<closed>\r\n");
                    }
                }
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now.0 += seconds * 1000;
        for client in 0..self.clients.len() {
            let due = self.clients[client].session.deadline().is_some_and(|at| at <= self.now);
            if due {
                self.input(client, Input::Time);
            }
        }
    }

    /// The next line that the client reads.
    fn read(&mut self, client: usize) -> Option<String> {
        let unread = &mut self.clients[client].unread;
        let end = unread.windows(2).position(|two| two == b"\r\n")?;
        let line: Vec<u8> = unread.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Plays a script.
    #[track_caller]
    fn script(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (who, text) = line.split_once(':').expect("a line begins with who does it");
            let (kind, number) = who.split_at(1);
            let client = number.parse::<usize>().map_or(0, |n| n - 1);
            let text = text.strip_prefix(' ').unwrap_or(text);
            if kind == "S" {
                let read = self.read(client);
                let read = read.unwrap_or_else(|| panic!("silence instead of {line:?}"));
                assert!(fits(&read, text), "read {read:?} instead of {line:?}");
                continue;
            }
            self.all_read(line);
            match kind {
                "C" => {
                    let text = text.replace("<CRLF>", "\r\n").replace("<NUL>", "\0") + "\r\n";
                    self.send(client, text.as_bytes());
                }
                "T" => self.pass(text.parse().expect("seconds")),
                "E" => self.input(client, Input::EndOfInput),
                "D" => self.input(client, Input::ShuttingDown),
                other => panic!("who is {other:?}?"),
            }
        }
        self.all_read("the end");
    }

    #[track_caller]
    fn all_read(&self, before: &str) {
        for client in &self.clients {
            let unread = String::from_utf8_lossy(&client.unread);
            assert!(unread.is_empty(), "unread before {before:?}: {unread:?}");
        }
    }
}

/// Whether the line fits the pattern, in which `...` stands for anything.
fn fits(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    last.map_or(rest.is_empty(), |last| last.is_empty() || line.ends_with(last))
}

/// Plays a script with two clients that have logged in; INBOX has three letters.
#[track_caller]
fn check(script: &str) {
    Server::new().script(script);
}

/// The same, and the first client has selected INBOX.
#[track_caller]
fn check_selected(script: &str) {
    selected(1).script(script);
}

/// A server with so many clients that have selected INBOX.
fn selected(clients: usize) -> Server {
    let mut server = Server::new();
    for client in 0..clients {
        server.send(client, b"select SELECT INBOX\r\n");
    }
    server.clients.iter_mut().for_each(|client| client.unread.clear());
    server.store.calls.clear();
    server
}
