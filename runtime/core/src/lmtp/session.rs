//! The state machine of one LMTP connection.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::command::{self, Command};
use super::data::{Received, Receiver};
use super::path::Address;
use super::reply::{self, Reply, Step};
use super::{
    COMMAND_MILLIS, DATA_IDLE_MILLIS, DATA_TOTAL_MILLIS, HANDSHAKE_MILLIS, MAX_ERRORS,
    MAX_LINE_OCTETS, MAX_RECIPIENTS, trace,
};
use crate::budget::{Budget, Reservation};
use crate::calls::{Call, Recipient, Reply as Answer};
use crate::error::StoreError;
use crate::session::{Action, Input, Millis, Session};
use crate::types::Timestamp;

/// Room that an empty input buffer may keep, in octets; more is given back.
const KEPT_OCTETS: usize = 256;

/// What all LMTP sessions of a node share.
#[derive(Debug)]
pub struct Config {
    /// This server's name, in greetings and trace fields.
    pub name: String,
    /// Largest message, in octets, as it is stored but without the fields that are added.
    pub max_message_octets: u64,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
    /// Memory for messages in arrival.
    pub budget: Arc<Budget>,
}

/// Who has connected, and when.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// From where.
    pub address: IpAddr,
    /// Whether the connection began with TLS.
    pub tls: bool,
    /// The time of day at [`Millis`] zero; the trace fields are dated by it.
    pub accepted: Timestamp,
}

/// A recipient whose RCPT succeeded: it gets a reply of its own.
#[derive(Debug)]
struct Accepted {
    address: Address,
    recipient: Recipient,
    /// An earlier recipient of the same transaction that is the same mailbox: one delivery, and
    /// the same reply for both.
    same_as: Option<usize>,
}

/// From MAIL on.
#[derive(Debug)]
struct Transaction {
    sender: Option<Address>,
    announced: u64,
    recipients: Vec<Accepted>,
}

/// A message on its way to its recipients, one after the other.
#[derive(Debug)]
struct Delivery {
    transaction: Transaction,
    octets: Bytes,
    /// Whether `octets` begin with the personal fields of the one recipient.
    complete: bool,
    /// Replies given so far, in the order of RCPT. The call outstanding is for the next one.
    replies: Vec<Reply>,
    held: Reservation,
}

/// What the session is doing.
#[derive(Debug)]
enum Phase {
    /// Reads command lines.
    Command,
    /// Passes over the rest of a line that is too long.
    LongLine,
    /// Passes over a chunk of BDAT.
    Chunk(u64),
    /// Waits for the answer to `ResolveRecipient`.
    Resolving(Address),
    /// Takes a message in.
    Data { receiver: Receiver, began: Millis },
    /// Waits for the answer to `Deliver`.
    Delivering(Box<Delivery>),
    /// Waits for the TLS handshake.
    Handshake,
    /// Nothing more happens.
    Closed,
}

/// An LMTP session.
#[derive(Debug)]
pub struct LmtpSession {
    config: Arc<Config>,
    peer: Peer,
    phase: Phase,
    /// The client's name, once it has said LHLO.
    client: Option<String>,
    tls: bool,
    transaction: Option<Transaction>,
    /// Octets that could not be handled yet: part of a line, or what came while a call was out.
    pub(super) pending: Vec<u8>,
    /// Replies not yet taken.
    out: Vec<u8>,
    actions: VecDeque<Action>,
    errors: u32,
    /// When the client last completed something: a command, a piece of data.
    since: Millis,
    ended: bool,
    stopping: bool,
}

impl LmtpSession {
    /// A session that begins with its greeting.
    pub fn new(config: Arc<Config>, peer: Peer) -> Self {
        // RFC 5321 §4.3.1; no enhanced status in a greeting (RFC 2034 §3).
        let out = format!("220 {} LMTP Postroom\r\n", config.name).into_bytes();
        Self {
            config,
            peer,
            phase: Phase::Command,
            client: None,
            tls: peer.tls,
            transaction: None,
            pending: Vec::new(),
            out,
            actions: VecDeque::new(),
            errors: 0,
            since: Millis(0),
            ended: false,
            stopping: false,
        }
    }

    /// Handles octets as far as can be; how many.
    fn advance(&mut self, now: Millis, octets: &[u8]) -> usize {
        let mut at = 0;
        while at < octets.len() {
            let rest = &octets[at..];
            let used = match &mut self.phase {
                Phase::Command => self.take_line(now, rest),
                Phase::LongLine => self.pass_line(now, rest),
                Phase::Chunk(left) => {
                    // The smaller one is at most the length of a slice.
                    let used = (*left).min(rest.len() as u64);
                    *left -= used;
                    if *left == 0 {
                        self.become_ready(now);
                        self.say(&reply::NOT_OFFERED);
                    }
                    used as usize
                }
                Phase::Data { receiver, .. } => {
                    self.since = now;
                    match receiver.push(rest) {
                        Some(used) => {
                            self.data_ended(now);
                            used
                        }
                        None => rest.len(),
                    }
                }
                Phase::Resolving(_) | Phase::Delivering(_) => 0,
                // What came before the handshake or after the end is nobody's.
                Phase::Handshake | Phase::Closed => rest.len(),
            };
            if used == 0 {
                break;
            }
            at += used;
        }
        at
    }

    fn advance_pending(&mut self, now: Millis) {
        let mut pending = std::mem::take(&mut self.pending);
        let used = self.advance(now, &pending);
        pending.drain(..used);
        if !pending.is_empty() || pending.capacity() <= KEPT_OCTETS {
            self.pending = pending;
        }
    }

    /// Takes one command line; 0 when it is not whole yet.
    fn take_line(&mut self, now: Millis, octets: &[u8]) -> usize {
        let window = &octets[..octets.len().min(MAX_LINE_OCTETS)];
        let Some(end) = window.iter().position(|&octet| octet == b'\n') else {
            if octets.len() < MAX_LINE_OCTETS {
                return 0;
            }
            self.phase = Phase::LongLine;
            return octets.len().min(MAX_LINE_OCTETS);
        };
        let line = &window[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.since = now;
        match command::parse(line) {
            Ok(command) => self.perform(now, command),
            Err(refusal) => self.say(&refusal),
        }
        end + 1
    }

    fn pass_line(&mut self, now: Millis, octets: &[u8]) -> usize {
        let end = octets.iter().position(|&octet| octet == b'\n');
        if end.is_some() {
            self.become_ready(now);
            self.say(&reply::LONG_LINE);
        }
        end.map_or(octets.len(), |end| end + 1)
    }

    fn become_ready(&mut self, now: Millis) {
        self.phase = Phase::Command;
        self.since = now;
    }

    fn perform(&mut self, now: Millis, command: Command) {
        match command {
            Command::Lhlo(host) => self.hello(host),
            Command::Mail { from, size } => self.begin(from, size),
            Command::Rcpt(address) => self.add_recipient(address),
            Command::Data => self.begin_data(now),
            Command::Bdat(0) => self.say(&reply::NOT_OFFERED),
            Command::Bdat(octets) => self.phase = Phase::Chunk(octets),
            Command::StartTls if self.tls => self.say(&reply::TLS_ALREADY),
            Command::StartTls if !self.config.starttls => self.say(&reply::NOT_OFFERED),
            Command::StartTls => {
                self.say(&reply::START_TLS);
                self.act(Action::StartTls);
                self.phase = Phase::Handshake;
            }
            Command::Rset => {
                self.transaction = None;
                self.say(&reply::OK);
            }
            Command::Noop => self.say(&reply::OK),
            Command::Vrfy => self.say(&reply::CANNOT_VERIFY),
            Command::Help => self.say(&reply::HELP),
            Command::Quit => self.close(&reply::BYE),
            Command::Foreign => self.close(&reply::NOT_HTTP),
        }
    }

    /// LHLO also ends a transaction, as RSET does (RFC 5321 §4.1.4).
    fn hello(&mut self, host: String) {
        self.transaction = None;
        self.client = Some(host);
        let max = self.config.max_message_octets;
        let starttls = if self.config.starttls && !self.tls { "250-STARTTLS\r\n" } else { "" };
        let lines = format!(
            "250-{}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE {max}\r\n{starttls}250 ENHANCEDSTATUSCODES\r\n",
            self.config.name
        );
        self.out.extend_from_slice(lines.as_bytes());
    }

    fn begin(&mut self, sender: Option<Address>, announced: u64) {
        let refusal = if self.client.is_none() {
            reply::SAY_LHLO
        } else if self.transaction.is_some() {
            reply::NESTED
        } else if announced > self.config.max_message_octets {
            reply::TOO_LARGE
        } else {
            self.transaction = Some(Transaction { sender, announced, recipients: Vec::new() });
            self.errors = 0;
            reply::SENDER_OK
        };
        self.say(&refusal);
    }

    fn add_recipient(&mut self, address: Address) {
        let Some(transaction) = &self.transaction else { return self.say(&reply::NO_SENDER) };
        if transaction.recipients.len() >= MAX_RECIPIENTS {
            return self.say(&reply::TOO_MANY_RECIPIENTS);
        }
        match address.lookup() {
            Some(lookup) => {
                self.act(Action::Call(Call::ResolveRecipient { address: lookup }));
                self.phase = Phase::Resolving(address);
            }
            None => self.say(&reply::NO_SUCH_USER),
        }
    }

    fn resolved(&mut self, address: Address, answer: Result<Answer, StoreError>) {
        let text = address.to_string();
        let reply = match (answer, &mut self.transaction) {
            (Ok(Answer::Recipient(recipient)), Some(transaction)) => {
                let earlier = &transaction.recipients;
                let same_as = earlier.iter().position(|other| other.recipient == recipient);
                transaction.recipients.push(Accepted { address, recipient, same_as });
                Reply::about(250, "2.1.5", &text, "recipient OK")
            }
            (Err(error), _) => reply::of_error(&error, Step::Recipient),
            (Ok(_), _) => reply::FAILED,
        };
        self.say(&reply);
    }

    fn begin_data(&mut self, now: Millis) {
        let Some(transaction) = &self.transaction else { return self.say(&reply::NO_SENDER) };
        let Some(first) = transaction.recipients.first() else {
            return self.say(&reply::NO_RECIPIENTS);
        };
        let arrival = trace::Arrival {
            client: self.client.as_deref().unwrap_or_default(),
            address: self.peer.address,
            server: &self.config.name,
            tls: self.tls,
            at: later(self.peer.accepted, now),
        };
        // With one recipient the message is laid out as it will be stored and never copied.
        let only = transaction.has_one_place().then_some(&first.address);
        let personal = only.map(|only| trace::personal(transaction.sender.as_ref(), only));
        let prefix = personal.unwrap_or_default() + &trace::received(&arrival, only);
        let (max, budget) = (self.config.max_message_octets, self.config.budget.clone());
        let receiver = Receiver::new(prefix.into_bytes(), max, transaction.announced, budget);
        self.phase = Phase::Data { receiver, began: now };
        self.out.extend_from_slice(b"354 go ahead, end with a dot alone on a line\r\n");
    }

    /// The final dot has come: from here on each recipient has its own reply (RFC 2033 §4.2).
    fn data_ended(&mut self, now: Millis) {
        let phase = std::mem::replace(&mut self.phase, Phase::Command);
        let (Phase::Data { receiver, .. }, Some(transaction)) = (phase, self.transaction.take())
        else {
            unreachable!("data is taken within a transaction only")
        };
        match receiver.finish() {
            Ok(Received { octets, held }) => {
                let complete = transaction.has_one_place();
                let delivery =
                    Delivery { transaction, octets, complete, replies: Vec::new(), held };
                self.deliver_next(now, Box::new(delivery));
            }
            Err(refusal) => transaction.recipients.iter().for_each(|_| self.say(&refusal)),
        }
    }

    /// Goes on to the next recipient that needs a call, or ends the transaction.
    fn deliver_next(&mut self, now: Millis, mut delivery: Box<Delivery>) {
        while let Some(next) = delivery.transaction.recipients.get(delivery.replies.len()) {
            let same = next.same_as.and_then(|earlier| delivery.replies.get(earlier)).cloned();
            let recipient = next.recipient.clone();
            let reply = match same {
                Some(reply) => reply,
                None if self.stopping => reply::STOPPING,
                None => match delivery.body() {
                    Some(body) => {
                        let sender = delivery.transaction.sender.as_ref().map(Address::to_string);
                        self.act(Action::Call(Call::Deliver { recipient, sender, body }));
                        self.phase = Phase::Delivering(delivery);
                        return;
                    }
                    None => reply::NO_ROOM,
                },
            };
            self.say(&reply);
            delivery.replies.push(reply);
        }
        self.become_ready(now);
    }

    fn delivered(
        &mut self,
        now: Millis,
        mut delivery: Box<Delivery>,
        answer: Result<Answer, StoreError>,
    ) {
        let number = delivery.replies.len();
        let address = delivery.transaction.recipients[number].address.to_string();
        let reply = match answer {
            Ok(Answer::Appended { .. }) => Reply::about(250, "2.0.0", &address, "delivered"),
            // An answer of another kind proves nothing: the MTA keeps its copy.
            Ok(_) => reply::FAILED,
            Err(error) => reply::of_error(&error, Step::Delivery),
        };
        self.say(&reply);
        delivery.replies.push(reply);
        self.deliver_next(now, delivery);
    }

    fn answered(&mut self, now: Millis, answer: Result<Answer, StoreError>) {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Resolving(address) => {
                self.since = now;
                self.resolved(address, answer);
            }
            Phase::Delivering(delivery) => self.delivered(now, delivery, answer),
            phase => unreachable!("an answer without a call in {phase:?}"),
        }
    }

    /// What follows from an input once everything that came before it is handled.
    fn settle(&mut self) {
        let waits = match self.phase {
            Phase::Resolving(_) | Phase::Delivering(_) | Phase::Closed => true,
            Phase::Command
            | Phase::LongLine
            | Phase::Chunk(_)
            | Phase::Data { .. }
            | Phase::Handshake => false,
        };
        if waits {
            return;
        }
        if self.stopping {
            self.close(&reply::GOODBYE);
        } else if self.ended {
            self.act(Action::Close);
            self.phase = Phase::Closed;
        }
    }

    fn say(&mut self, reply: &Reply) {
        reply.write(&mut self.out);
        if reply.is_protocol_error() {
            self.errors += 1;
            if self.errors > MAX_ERRORS {
                self.close(&reply::TOO_MANY_ERRORS);
            }
        }
    }

    fn close(&mut self, last_words: &Reply) {
        // During a handshake plain text would be read as TLS.
        if !matches!(self.phase, Phase::Handshake) {
            last_words.write(&mut self.out);
        }
        self.act(Action::Close);
        self.phase = Phase::Closed;
    }

    fn act(&mut self, action: Action) {
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            self.actions.push_back(Action::Send(out.into()));
        }
        self.actions.push_back(action);
    }
}

impl Session for LmtpSession {
    fn input(&mut self, now: Millis, input: Input<'_>) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        match input {
            Input::Octets(octets) if self.pending.is_empty() => {
                let used = self.advance(now, octets);
                self.pending.extend_from_slice(&octets[used..]);
            }
            Input::Octets(octets) => {
                self.pending.extend_from_slice(octets);
                self.advance_pending(now);
            }
            Input::EndOfInput => self.ended = true,
            Input::Answer(answer) => {
                self.answered(now, answer);
                self.advance_pending(now);
            }
            Input::TlsEstablished => {
                // RFC 3207 §4.2: everything learned before is forgotten.
                self.tls = true;
                self.client = None;
                self.transaction = None;
                self.pending = Vec::new();
                self.become_ready(now);
            }
            Input::Time => {
                if self.deadline().is_some_and(|deadline| deadline <= now) {
                    self.close(&reply::TIMED_OUT);
                }
            }
            Input::ShuttingDown => self.stopping = true,
            // LMTP has no active mailbox.
            Input::Changed => {}
        }
        self.settle();
    }

    fn action(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| {
            let out = std::mem::take(&mut self.out);
            (!out.is_empty()).then(|| Action::Send(out.into()))
        })
    }

    fn wants_octets(&self) -> bool {
        match self.phase {
            Phase::Command | Phase::LongLine | Phase::Chunk(_) | Phase::Data { .. } => !self.ended,
            Phase::Resolving(_) | Phase::Delivering(_) | Phase::Handshake | Phase::Closed => false,
        }
    }

    fn deadline(&self) -> Option<Millis> {
        let after = |start: Millis, millis: u64| Some(Millis(start.0.saturating_add(millis)));
        match self.phase {
            Phase::Command | Phase::LongLine | Phase::Chunk(_) => after(self.since, COMMAND_MILLIS),
            Phase::Data { began, .. } => {
                after(self.since, DATA_IDLE_MILLIS).min(after(began, DATA_TOTAL_MILLIS))
            }
            Phase::Handshake => after(self.since, HANDSHAKE_MILLIS),
            // Calls have their own deadline below.
            Phase::Resolving(_) | Phase::Delivering(_) | Phase::Closed => None,
        }
    }
}

impl Transaction {
    /// Whether all recipients are one mailbox.
    fn has_one_place(&self) -> bool {
        self.recipients.iter().skip(1).all(|recipient| recipient.same_as.is_some())
    }
}

impl Delivery {
    /// The message for the next recipient; `None` when there is no memory for its copy.
    fn body(&mut self) -> Option<Bytes> {
        if self.complete {
            return Some(self.octets.clone());
        }
        let next = &self.transaction.recipients[self.replies.len()];
        let personal = trace::personal(self.transaction.sender.as_ref(), &next.address);
        // The copy lives until its call is answered, and the next one is made after that.
        let whole = personal.len() + self.octets.len();
        if !self.held.hold((whole + self.octets.len()) as u64) {
            return None;
        }
        let mut body = Vec::with_capacity(whole);
        body.extend_from_slice(personal.as_bytes());
        body.extend_from_slice(&self.octets);
        Some(body.into())
    }
}

fn later(start: Timestamp, now: Millis) -> Timestamp {
    // Milliseconds since the connection began: never near the end of i64.
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or(0);
    Timestamp { seconds: start.seconds.saturating_add(seconds), ..start }
}
